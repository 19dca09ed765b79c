#!/usr/bin/env bash
# What a user meets: a load ended with an error, and a part of its rows is in the table.
# Version: sqlite-utils 4.2.1, one insert_all of 200 rows of which one has a known key.
# Guess: the call is one transaction, as it is for two rows: all or nothing.
# Seen: each 100 rows are one. With the known key in the first hundred nothing is stored, in the second the
# first hundred stay.
set -euo pipefail
# shellcheck source=findings/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

install_python sqlite-utils==4.2.1
cat >insert.py <<'PYTHON'
import sqlite3

import sqlite_utils

for known in (50, 150):
    table = sqlite_utils.Database(memory=True)["deals"]
    table.insert({"id": known}, pk="id")
    try:
        table.insert_all(({"id": n} for n in range(200)), pk="id")
    except sqlite3.IntegrityError:
        print("refused", table.count - 1, end="; ")
PYTHON

expect "rows stored" "refused 0; refused 100; " "$(python insert.py)"
echo "sqlite-utils 4.2.1: insert_all commits each 100 rows, an error later leaves them"
