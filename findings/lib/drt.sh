# shellcheck shell=bash
# Sourced by the findings about drt-core: five rows in SQLite, a table behind an HTTP API, and a sync between them.
# shellcheck source=findings/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

export HOME="$here"

# make_project ON_ERROR: incremental by updated_at, two rows a batch
make_project() {
    python3 - <<'PYTHON'
import sqlite3

base = sqlite3.connect("deals.db")
base.execute("create table deals (id integer, updated_at text)")
base.executemany("insert into deals values (?, ?)", [(n, f"2024-01-0{n}") for n in range(1, 6)])
base.commit()
PYTHON
    mkdir -p .drt syncs
    printf 'name: findings\nversion: "0.1"\nprofile: default\n' >drt_project.yml
    printf 'default: {type: sqlite, database: "%s/deals.db"}\n' "$here" >.drt/profiles.yml
    cat >syncs/deals.yml <<YAML
name: deals
model: "select id, updated_at from deals where updated_at > '{{ cursor_value }}' order by id"
destination: {type: rest_api, url: "http://127.0.0.1:$port/"}
sync:
  mode: incremental
  cursor_field: updated_at
  on_error: $1
  batch_size: 2
  watermark: {storage: local, default_value: "2000-01-01"}
YAML
}

# serve REFUSED CUT: an API that prints each id it stores; it refuses one id with 503, and cuts the first answer to
# another after it has stored the row
serve() {
    cat >api.py <<'PYTHON'
import http.server
import json
import pathlib
import sys

port, refused, cut = map(int, sys.argv[1:])


class Table(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        row = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["id"]
        known = pathlib.Path("stored").read_text().split()
        if row != refused:
            with open("stored", "a") as stored:
                print(row, file=stored)
        if row == cut and str(row) not in known:
            self.close_connection = True
            return
        self.send_response(503 if row == refused else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


http.server.HTTPServer(("127.0.0.1", port), Table).serve_forever()
PYTHON
    : >stored
    port=$(free_port)
    start python3 api.py "$port" "$1" "$2"
    wait_for "http://127.0.0.1:$port/"
}

# the line in which drt says how a run ended, without its time
run_drt() {
    NO_COLOR=1 drt run 2>&1 | grep -E 'synced|no rows' | sed -E 's/ *\([0-9.]+s\)//; s/^ *//'
}
