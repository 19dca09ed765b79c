"""pouchdb-server (the CouchDB API): one result per row in a 201, Basic authentication.

Measured on 4.2.0. The key column is CouchDB's `_id`; insert() and rows() rename it. A row that is
there already is refused in its own result, the others are stored; so a repeated insert is safe.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import requests

from integration_tests.servers.base import (
    Answer,
    Call,
    Column,
    Facts,
    LocalServer,
    TableRow,
    npm_install,
    renamed,
)

FACTS = Facts(
    insert=Call("POST", "/{table}/_bulk_docs", '{"docs": $rows}, the key as _id'),
    empty=(Call("DELETE", "/{table}"), Call("PUT", "/{table}")),
    check=Call("GET", "/_session"),
    count=Call("GET", "/{table}: doc_count"),
    authentication="Authorization: Basic <user:password>",
    answers={
        "good": Answer(201, '[{"ok":true,"id":"r'),
        "repeated_insert": Answer(201, "Document update conflict"),
        "bad_row": Answer(201, '"error":"conflict","reason":"Document update conflict"'),
        "wrong_credentials": Answer(401, "Name or password is incorrect."),
        "no_credentials": Answer(201, '"error":"unauthorized"'),
        "unknown_table": Answer(404, "no_db_file"),
    },
    bad_row={"id": "r000000"},
    stored_beside_bad_row=True,
    notes=(
        "results are in the order of the rows: ok true, or error and reason",
        "without credentials the status is 201 and every row is unauthorized, nothing is stored",
        "a member that starts with _ refuses all: 500 doc_validation; such an _id: 400",
        "a row without _id gets one; a second write of an _id needs its _rev",
        "/_session answers 200 with name null without credentials: match its body",
        "every answer is text/plain, JSON inside",
    ),
)


class PouchDB(LocalServer):
    """A pouchdb-server on LevelDB whose databases are an administrator's only."""

    name = "pouchdb"
    facts = FACTS

    def __init__(self) -> None:
        super().__init__()
        self.program = Path()
        self.keys: dict[str, str] = {}

    def fetch(self, home: Path) -> None:
        """Install with npm; LevelDB comes built, the SQLite that nobody asks for does not."""
        modules = npm_install(home, "pouchdb-server@4.2.0", runs_scripts=False)
        self.program = modules / ".bin/pouchdb-server"

    def start(self) -> None:
        """Start on a free port with one administrator."""
        folder, port = self.place()
        config = {
            "admins": {"admin": self.use_basic("admin")},
            "httpd": {"bind_address": "127.0.0.1", "port": port},
            "log": {"level": "none"},
        }
        (folder / "config.json").write_text(json.dumps(config))
        self.launch((str(self.program), "-c", "config.json", "-d", ".", "-n"), folder, "/")

    def create_table(self, name: str, columns: Sequence[Column], key: str) -> None:
        """Create a database; it has no columns."""
        del columns
        self.keys[name] = key
        self.must("PUT", f"/{name}")
        members = {"names": ["admin"], "roles": ["_admin"]}
        self.must("PUT", f"/{name}/_security", {"admins": members, "members": members})

    def insert(
        self, table: str, rows: Sequence[TableRow], headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Send one bulk insert."""
        documents = renamed(rows, self.keys.get(table, "id"), "_id")
        return self.call("POST", f"/{table}/_bulk_docs", {"docs": documents}, headers)

    def empty(self, table: str) -> None:
        """Drop the database and create it again."""
        self.must("DELETE", f"/{table}")
        self.create_table(table, (), self.keys[table])

    def rows(self, table: str) -> list[TableRow]:
        """Read every row, page by page, with the key's own name and without revisions."""
        found: list[TableRow] = []
        path, after = f"/{table}/_all_docs?include_docs=true&limit=5000", ""
        while True:
            page = self.must("GET", path + after).json()["rows"]
            for row in page:
                document = row["doc"]
                del document["_rev"]
                found.append({self.keys[table]: document.pop("_id"), **document})
            if len(page) < 5000:
                return found
            after = f"&skip=1&startkey={quote(json.dumps(page[-1]['id']))}"

    def count(self, table: str) -> int:
        """Read the document count of the database."""
        return int(self.must("GET", f"/{table}").json()["doc_count"])
