#!/usr/bin/env bash
# What a user meets: an upsert of rows that each name some columns empties columns that it does not name.
# Version: sqlite-utils 4.2.1, upsert_all.
# Guess: a column that a row does not name keeps its value.
# Seen: so it is where the row goes alone; beside a row that names the column, its old value becomes null.
set -euo pipefail
# shellcheck source=findings/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

install_python sqlite-utils==4.2.1
cat >upsert.py <<'PYTHON'
import json

import sqlite_utils

for rows in ([{"id": 1, "stage": "won"}], [{"id": 1, "stage": "won"}, {"id": 2, "owner": "b"}]):
    table = sqlite_utils.Database(memory=True)["deals"]
    table.insert({"id": 1, "stage": "open", "owner": "a"}, pk="id")
    table.upsert_all(rows, pk="id")
    print(json.dumps(table.get(1)["owner"]), end=" ")
PYTHON

expect "the owner: sent alone, sent with another" '"a" null ' "$(python upsert.py)"
echo "sqlite-utils 4.2.1: upsert_all empties a column that only another row of the batch names"
