#!/usr/bin/env bash
# What a user meets: a code like 12_34 arrives as the number 1234, and another value arrives as null.
# Version: airbyte-cdk 7.39.1, a low-code source whose record selector says `schema_normalization: Default`.
# Guess: text that is no number in JSON stays text, and a warning says so.
# Seen: what Python's int() and float() take is taken: 12_34 is 1234, 1_000.5 is 1000.5. "1e400" and "NaN" become
# numbers that JSON has none for, and the record says null. No warning.
set -euo pipefail
# shellcheck source=findings/lib/low_code.sh
source "$(dirname "$0")/lib/low_code.sh"

install_python airbyte-cdk==7.39.1
echo '[{"id": "12_34", "price": "1_000.5"}, {"id": "7", "price": "1e400"}, {"id": "8", "price": "NaN"}]' >rows.json
make_source Default '{"id": {"type": "integer"}, "price": {"type": ["null", "number"]}}'

expect "the records" '{"id":1234,"price":1000.5} {"id":7,"price":null} {"id":8,"price":null}' \
    "$(read_source | xargs -d '\n')"
echo "airbyte-cdk 7.39.1: normalisation reads 12_34 as 1234 and turns text it takes for infinite or no number into null"
