# shellcheck shell=bash
# Sourced by the findings about target-duckdb: loads Singer messages, prints what is in the table.
# shellcheck source=findings/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# load COLUMN SCHEMA RECORD...: into a table of `id` and that column; each row as `id value`
load() {
    echo '{"filepath": "lake.duckdb", "default_target_schema": "main"}' >config.json
    {
        jq --null-input --compact-output --arg column "$1" --argjson schema "$2" \
            '{type: "SCHEMA", stream: "deals", key_properties: ["id"],
              schema: {properties: ({id: {type: "string"}} + {($column): $schema})}}'
        printf '{"type": "RECORD", "stream": "deals", "record": %s}\n' "${@:3}"
    } | target-duckdb --config config.json >target.log 2>&1
    python - "$1" <<'PYTHON'
import sys

import duckdb

rows = duckdb.connect("lake.duckdb").execute(f"select id, {sys.argv[1]} from main.deals order by id").fetchall()
print(", ".join(f"{key} {value}" for key, value in rows))
PYTHON
}
