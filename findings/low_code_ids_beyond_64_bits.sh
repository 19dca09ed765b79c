#!/usr/bin/env bash
# What a user meets: two records of an API are one row in the table, and its id is neither's.
# Version: airbyte-cdk 7.39.1, a low-code source (source-declarative-manifest) that reads JSON over HTTP.
# Guess: an integer of any size comes through digit by digit, as Python's own JSON reader does it.
# Seen: beyond 64 bits it becomes a float. 20000000000000000001 and 20000000000000000002 are both 2e+19, though the
# stream declares an integer; as a key they are one.
set -euo pipefail
# shellcheck source=findings/lib/low_code.sh
source "$(dirname "$0")/lib/low_code.sh"

install_python airbyte-cdk==7.39.1
echo '[{"id": 9223372036854775807}, {"id": 20000000000000000001}, {"id": 20000000000000000002}]' >rows.json
make_source None '{"id": {"type": "integer"}}'

expect "the records" '{"id":9223372036854775807} {"id":2e+19} {"id":2e+19}' "$(read_source | xargs -d '\n')"
echo "airbyte-cdk 7.39.1: integers beyond 64 bits arrive as floats, two ids become one"
