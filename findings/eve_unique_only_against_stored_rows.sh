#!/usr/bin/env bash
# What a user meets: a field that is declared unique holds a value twice after a bulk insert.
# Version: Eve 2.3.1 on mongomock 4.3.0, a POST of an array to a resource with the rule `unique`.
# Guess: two rows of one value in one array are refused with 422, and nothing is stored.
# Seen: 201, both are stored: each row is checked against what is stored, not against its neighbours. Sent one after
# the other the second is refused.
set -euo pipefail
# shellcheck source=findings/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

install_python eve==2.3.1 mongomock==4.3.0
cat >insert.py <<'PYTHON'
import eve.io.mongo.flask_pymongo as store
import mongomock

store.MongoClient = mongomock.MongoClient  # the database in this process; the rule is Eve's own
from eve import Eve

schema = {"number": {"type": "string", "unique": True}}
api = Eve(settings={"MONGO_DBNAME": "lab", "DOMAIN": {"deals": {"schema": schema}}, "RESOURCE_METHODS": ["GET", "POST"]})
client = api.test_client()
for rows in ([{"number": "a"}, {"number": "a"}], [{"number": "b"}], [{"number": "b"}]):
    print(client.post("/deals", json=rows).status_code, end=" ")
print(*(row["number"] for row in client.get("/deals").get_json()["_items"]))
PYTHON

expect "statuses, and the numbers stored" "201 201 422 a a b" "$(python insert.py 2>eve.log)"
echo "Eve 2.3.1: \`unique\` is not checked between the rows of one request"
