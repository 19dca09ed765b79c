#!/usr/bin/env bash
# What a user meets: a code in the last rows of a CSV file is empty after the extract.
# Version: frictionless 5.21.0, `extract` of a CSV file without a schema.
# Guess: a value that breaks the type inferred from the first rows ends the extract with an error.
# Seen: the value is null, the row is there, exit code 0. Only `validate` says that the file does not fit.
set -euo pipefail
# shellcheck source=findings/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

install_python frictionless==5.21.0
{
    echo id,code
    seq 200 | sed 's/.*/&,&/'
    echo 201,A7
} >deals.csv

frictionless extract deals.csv --json >rows.json
expect "the last row" '{"id":201,"code":null}' "$(jq --compact-output '.deals[-1]' rows.json)"
expect "what validate says" 1 "$(frictionless validate deals.csv >report.txt && echo 0 || echo 1)"
echo "frictionless 5.21.0: extract blanks a value that does not fit the type of the first rows"
