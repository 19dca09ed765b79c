#!/usr/bin/env bash
# What a user meets: the first row of each batch of a table of text columns is missing; the state says that it is in.
# Version: target-duckdb 0.8.0 (a Singer target) with duckdb 2.0.1; 1.4.4 does the same.
# Guess: rows of two text columns arrive, whatever they hold.
# Seen: the batch goes through a CSV file without a header and is copied without saying so; DuckDB takes the first
# line for names. With an integer column that has a value in that line it does not.
set -euo pipefail
# shellcheck source=findings/lib/target_duckdb.sh
source "$(dirname "$0")/lib/target_duckdb.sh"

install_python target-duckdb==0.8.0 duckdb==2.0.1

expect "the rows" "b open, c lost" "$(load stage '{"type": "string"}' \
    '{"id": "a", "stage": "won"}' '{"id": "b", "stage": "open"}' '{"id": "c", "stage": "lost"}')"
echo "target-duckdb 0.8.0 with duckdb 2.0.1: the first row of a batch of text is taken for a header and lost"
