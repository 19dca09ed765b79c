#!/usr/bin/env bash
# What a user meets: a column of the source is nowhere in the table, and every insert succeeded.
# Version: ClickHouse 26.9.2.1 (chdb 4.4.0), `insert ... format JSONEachRow` with its default settings.
# Guess: a member that is no column of the table is refused with Code 117, as ClickHouse 18.16 does.
# Seen: it is dropped without a word. input_format_skip_unknown_fields=0 brings the refusal back.
set -euo pipefail
# shellcheck source=findings/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

install_python chdb==4.4.0
cat >insert.py <<'PYTHON'
from chdb import session

base = session.Session("data")
base.query("create database lab")
base.query("create table lab.deals (id Int32, stage String) engine = MergeTree order by id")
row = '{"id": 1, "stage": "won", "amount": 13.5}'
base.query(f"insert into lab.deals format JSONEachRow {row}")
print(base.query("select * from lab.deals format JSONEachRow").bytes().decode().strip(), end="; ")
try:
    base.query(f"insert into lab.deals settings input_format_skip_unknown_fields=0 format JSONEachRow {row}")
except RuntimeError as error:
    print(str(error)[:9], end="; ")
print(base.query("select count() from lab.deals").bytes().decode().strip())
PYTHON

expect "what is stored" '{"id":1,"stage":"won"}; Code: 117; 1' "$(python insert.py)"
echo "ClickHouse 26.9: JSONEachRow drops a member that is no column, unless told to refuse it"
