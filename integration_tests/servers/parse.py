"""Parse Server on PostgreSQL: sub-requests in a batch, a result per row; and its background jobs.

Measured on 9.10.0 with PostgreSQL 15. Each row gets an objectId of Parse, so a repeated insert
doubles. A class that is not known is made. The cloud code has one job, `load`, which saves rows.
"""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import requests

from integration_tests.servers.base import (
    Answer,
    Call,
    Column,
    Facts,
    TableRow,
    npm_install,
    renamed,
)
from integration_tests.servers.postgres import OnPostgres, Postgres, programs

TYPES = {"text": "String", "number": "Number", "boolean": "Boolean"}
OWN = ("objectId", "createdAt", "updatedAt")
EXACT = 'where={"objectId":{"$exists":true}}'

FACTS = Facts(
    insert=Call("POST", "/parse/batch", '{"requests": [{"method", "path", "body": $row}, ...]}'),
    empty=(Call("DELETE", "/parse/purge/{table}"),),
    check=Call("GET", "/parse/schemas"),
    count=Call("GET", "/parse/classes/{table}?limit=0&count=1&" + EXACT + ": count"),
    authentication="X-Parse-Application-Id and X-Parse-Master-Key",
    answers={
        "good": Answer(200, '"success":{"objectId":'),
        "repeated_insert": Answer(200, '"success":{"objectId":'),
        "bad_row": Answer(200, "schema mismatch for"),
        "wrong_credentials": Answer(403, "unauthorized"),
        "no_credentials": Answer(403, "unauthorized"),
    },
    bad_row={"amount": "not a number"},
    stored_beside_bad_row=True,
    repeat_doubles=True,
    notes=(
        "on PostgreSQL a count without a filter is the planner's estimate",
        "the npm package router 2.3.0, which it picks, answers 500 to every batch; 2.2.0 does not",
        "POST /jobs/NAME is answered 200 with the job's id in the header X-Parse-Job-Status-Id",
        "a wrong key beside the right application is a 200: Permission denied in each result",
        "null is not kept: the member is absent",
        "no class has a column called id; the tests call it key",
    ),
)

APP = """
const express = require('express');
const { ParseServer } = require('parse-server');
const [port, databaseURI, masterKey] = process.argv.slice(2);
(async () => {
  const server = new ParseServer({
    databaseURI, masterKey, appId: 'lab', masterKeyIps: ['127.0.0.1'],
    serverURL: `http://127.0.0.1:${port}/parse`, cloud: `${__dirname}/cloud.js`, silent: true,
    directAccess: true,
  });
  await server.start();
  express().use('/parse', server.app).listen(Number(port), '127.0.0.1');
})();
"""
CLOUD = """
Parse.Cloud.job('load', async ({ params, message }) => {
  const rows = params.rows.map(row => new Parse.Object(params.table, row));
  await Parse.Object.saveAll(rows, { useMasterKey: true });
  message(`stored ${rows.length}`);
});
"""


class ParseServer(OnPostgres):
    """A Parse application with one master key."""

    name = "parse"
    facts = FACTS

    def __init__(self) -> None:
        super().__init__()
        self.modules = Path()
        self.keys: dict[str, str] = {}

    def fetch(self, home: Path) -> None:
        """Install with npm, PostgreSQL with apt."""
        programs()
        pins = {"router": "2.2.0"}
        self.modules = npm_install(home, "parse-server@9.10.0", "express@5.2.1", pins=pins)

    def start(self) -> None:
        """Start on a free port with an empty database."""
        folder, port = self.place()
        key = secrets.token_hex(16)
        self.credentials = {"token": key}
        self.headers = {"X-Parse-Application-Id": "lab", "X-Parse-Master-Key": key}
        (folder / "app.js").write_text(APP)
        (folder / "cloud.js").write_text(CLOUD)
        (folder / "node_modules").symlink_to(self.modules)
        self.postgres = Postgres()
        self.postgres.start()
        self.launch(("node", "app.js", str(port), self.postgres.url, key), folder, "/parse/health")

    def create_table(self, name: str, columns: Sequence[Column], key: str) -> None:
        """Create a class whose columns refuse values of another type, for the master key alone."""
        self.keys[name] = key
        fields = {
            "key" if column.name == key else column.name: {
                "type": TYPES[column.kind],
                "required": column.required,
            }
            for column in columns
        }
        # without permissions: by default anybody may write, also with a wrong key
        schema = {"className": name, "fields": fields, "classLevelPermissions": {}}
        self.must("POST", f"/parse/schemas/{name}", schema)

    def insert(
        self, table: str, rows: Sequence[TableRow], headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Send one batch."""
        path = f"/parse/classes/{table}"
        named = renamed(rows, self.keys.get(table, "id"), "key")
        parts = [{"method": "POST", "path": path, "body": row} for row in named]
        return self.call("POST", "/parse/batch", {"requests": parts}, headers)

    def empty(self, table: str) -> None:
        """Purge the class."""
        self.must("DELETE", f"/parse/purge/{table}")

    def rows(self, table: str) -> list[TableRow]:
        """Read every row without Parse's own members, page by page."""
        found: list[TableRow] = []
        while True:
            query = f"limit=1000&skip={len(found)}&order=objectId"
            page = self.must("GET", f"/parse/classes/{table}?{query}").json()["results"]
            found += [{name: row[name] for name in row if name not in OWN} for row in page]
            if len(page) < 1000:
                return renamed(found, "key", self.keys[table])

    def count(self, table: str) -> int:
        """Count exactly, which needs a filter."""
        path = f"/parse/classes/{table}?limit=0&count=1&{EXACT}"
        return int(self.must("GET", path).json()["count"])
