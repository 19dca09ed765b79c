#!/usr/bin/env bash
# What a user meets: times with an offset are in the table hours away from where they were.
# Version: target-duckdb 0.8.0 (a Singer target) with duckdb 2.0.1, a text column with the format date-time.
# Guess: the instant is kept: 10:00+02:00 is stored as 08:00 UTC.
# Seen: the offset is dropped. 10:00+02:00 and 10:00Z, two hours apart, are the same timestamp.
set -euo pipefail
# shellcheck source=findings/lib/target_duckdb.sh
source "$(dirname "$0")/lib/target_duckdb.sh"

install_python target-duckdb==0.8.0 duckdb==2.0.1

# a first row of text in each column would be lost, see target_duckdb_loses_first_row
expect "the times" "0 None, 1 2024-05-01 10:00:00, 2 2024-05-01 10:00:00" \
    "$(load closed '{"type": ["null", "string"], "format": "date-time"}' '{"id": "0", "closed": null}' \
        '{"id": "1", "closed": "2024-05-01T10:00:00+02:00"}' '{"id": "2", "closed": "2024-05-01T10:00:00Z"}')"
echo "target-duckdb 0.8.0: the offset of a date-time is dropped, not applied"
