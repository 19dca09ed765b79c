#!/usr/bin/env bash
# What a user meets: after a bulk load of groups and their users there is a second, empty group of each name.
# Version: scimmy 1.3.5 with scimmy-routers 1.3.2 (SCIM 2.0, POST /Bulk).
# Guess: a group that names a user further down by its bulkId is stored once, with the user's id filled in.
# Seen: the group is written without its members first, to have an id, and then once more as new with them: two groups
# for one operation, one 201. With the user before the group there is one.
set -euo pipefail
# shellcheck source=findings/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

install_node scimmy@1.3.5 scimmy-routers@1.3.2 express@4.22.1
cat >server.js <<'JS'
const express = require('express');
const SCIMMY = require('scimmy').default;
const Routers = require('scimmy-routers').default;
const groups = [];
let ids = 0;
// what the documentation asks of a store: without an id a resource is new
const store = list => (resource, instance) => {
    if (resource.id) return Object.assign(list.find(known => known.id === resource.id), instance);
    list.push({...JSON.parse(JSON.stringify(instance)), id: String(++ids)});
    return list.at(-1);
};
SCIMMY.Resources.declare(SCIMMY.Resources.User).ingress(store([])).egress(() => []).degress(() => {}); // codespell:ignore degress
SCIMMY.Resources.declare(SCIMMY.Resources.Group).ingress(store(groups)).egress(() => groups).degress(() => {}); // codespell:ignore degress
const app = express();
app.get('/groups', (_, answer) => answer.json(groups));
app.use('/scim', new Routers({type: 'bearer', handler: () => 'loader'}));
app.listen(Number(process.argv[2]), '127.0.0.1');
JS
port=$(free_port)
start node server.js "$port"
wait_for "http://127.0.0.1:$port"

user() { printf '{"method": "POST", "path": "/Users", "bulkId": "%s", "data": {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "%s"}}' "$1" "$1"; }
group() { printf '{"method": "POST", "path": "/Groups", "bulkId": "%s", "data": {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "%s", "members": [{"value": "bulkId:%s"}]}}' "$1" "$1" "$2"; }
bulk() { post "http://127.0.0.1:$port/scim/Bulk" "{\"schemas\": [\"urn:ietf:params:scim:api:messages:2.0:BulkRequest\"], \"Operations\": [$1, $2]}" --header 'Authorization: Bearer any' | head -1 | jq -r '[.Operations[].status] | join(" ")'; }

expect "user first" "201 201" "$(bulk "$(user u1)" "$(group backward u1)")"
expect "group first" "201 201" "$(bulk "$(group forward u2)" "$(user u2)")"
expect "groups and their members" "backward 1, forward 0, forward 1" \
    "$(curl --silent "http://127.0.0.1:$port/groups" | jq -r '[.[] | "\(.displayName) \(.members // [] | length)"] | sort | join(", ")')"
echo "scimmy 1.3.5: a group that refers to a later operation of the same bulk request is stored twice"
