#!/usr/bin/env bash
# What a user meets: rows that the API has answered with 201 and a Location are not in the table.
# Version: @sap/cds 10.1.1 with @cap-js/sqlite 3.1.1 (an OData V4 server), JSON $batch, one atomicityGroup.
# Guess: where one of three inserts of a group fails, all three answer with an error.
# Seen: the group is rolled back, as it must be, but the other two keep "201 Created" and their Location.
# The one that failed (a known key) says 500, not 409.
set -euo pipefail
# shellcheck source=findings/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

install_node @sap/cds@10.1.1 @cap-js/sqlite@3.1.1 express@4.22.1 node@24.11.1
cat >package.json <<'JSON'
{"private": true, "cds": {"requires": {"db": {"kind": "sqlite", "credentials": {"url": ":memory:"}},
                                       "auth": {"kind": "dummy"}}}}
JSON
cat >service.cds <<'CDS'
entity Deals { key ID: String; }
service Sales @(path: '/sales') { entity Rows as projection on Deals; }
CDS
port=$(free_port)
start node_modules/node/bin/node node_modules/@sap/cds/bin/serve.js service.cds --in-memory --port "$port"
table=http://127.0.0.1:$port/sales
wait_for "$table"
post "$table/Rows" '{"ID": "known"}' >/dev/null

requests=$(
    for key in new known newer; do
        printf '{"id": "%s", "atomicityGroup": "all", "method": "POST", "url": "Rows",
                 "headers": {"Content-Type": "application/json"}, "body": {"ID": "%s"}},' "$key" "$key"
    done
)
answer=$(post "$table/\$batch" "{\"requests\": [${requests%,}]}")
expect "status of the batch" 200 "$(tail -1 <<<"$answer")"
expect "statuses in the batch" "new 201, known 500, newer 201" \
    "$(head -1 <<<"$answer" | jq -r '[.responses[] | "\(.id) \(.status)"] | join(", ")')"
expect "rows in the table" known "$(curl --silent "$table/Rows" | jq -r '.value[].ID' | xargs)"
echo "@sap/cds 10.1.1: a failed atomicityGroup answers 201 for rows that it has rolled back"
