#!/usr/bin/env bash
# What a user meets: a bulk insert fails with a server error; it is repeated, and most rows are there twice.
# Version: loopback 3.28.0, POST of an array to a model of its in-memory connector.
# Guess: one row without a required value: 422, and nothing is stored.
# Seen: 500, with the 422 of that row inside; the rows before and after it are stored. A second try stores
# them again under new ids.
set -euo pipefail
# shellcheck source=findings/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

install_node loopback@3.28.0
cat >server.js <<'JS'
const loopback = require('loopback');
const app = loopback();
app.dataSource('memory', {connector: 'memory'});
app.model(app.registry.createModel('deal', {name: {type: 'string', required: true}}), {dataSource: 'memory'});
app.use('/', loopback.rest());
app.listen(Number(process.argv[2]), '127.0.0.1');
JS
port=$(free_port)
start node server.js "$port"
table=http://127.0.0.1:$port/deals
wait_for "$table"

for _ in first second; do
    answer=$(post "$table" '[{"name": "a"}, {"note": "no name"}, {"name": "c"}]')
    expect "status" 500 "$(tail -1 <<<"$answer")"
    expect "statuses of the rows" "null 422" "$(head -1 <<<"$answer" | jq -r '.error.details[] | .statusCode' | xargs)"
done
expect "rows in the table" "1 a, 2 c, 3 a, 4 c" \
    "$(curl --silent "$table" | jq -r '[.[] | "\(.id) \(.name)"] | join(", ")')"
echo "loopback 3.28.0: a 500 has stored every good row of the array"
