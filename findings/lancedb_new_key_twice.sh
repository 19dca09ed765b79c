#!/usr/bin/env bash
# What a user meets: a table kept unique by its key holds a key twice, and each later upsert keeps both.
# Version: lancedb 0.40.0, merge_insert with when_matched_update_all and when_not_matched_insert_all.
# Guess: two versions of a key in one batch raise "ambiguous", as they do for a key that the table has.
# Seen: they do for a known key. For a new one both go in, reported as two inserts; the next upsert of that key
# updates both rows.
set -euo pipefail
# shellcheck source=findings/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

install_python lancedb==0.40.0 pyarrow==26.0.1
cat >merge.py <<'PYTHON'
import lancedb
import pyarrow

schema = pyarrow.schema([("id", pyarrow.int64()), ("stage", pyarrow.string())])
table = lancedb.connect("lake").create_table("deals", schema=schema)


def upsert(*rows):
    batch = pyarrow.Table.from_pylist([{"id": key, "stage": stage} for key, stage in rows], schema=schema)
    merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    try:
        merge.execute(batch)
    except ValueError as error:
        print("refused" if "mbiguous" in str(error) else error, end="; ")
    print(*sorted(f"{row['id']} {row['stage']}" for row in table.to_arrow().to_pylist()), sep=", ", end="; ")


upsert((1, "won"))
upsert((1, "lost"), (1, "open"))
upsert((2, "new"), (2, "open"))
upsert((2, "won"))
PYTHON

expect "the table" "1 won; refused; 1 won; 1 won, 2 new, 2 open; 1 won, 2 won, 2 won; " "$(python merge.py)"
echo "lancedb 0.40.0: a new key that stands twice in one upsert is stored twice"
