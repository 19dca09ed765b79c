"""Python-Eve on mongomock: a bare array, 422 with one entry per row, Bearer token.

Measured on Eve 2.3.1 with mongomock 4.3.0. Rows live in memory only, so a killed server has lost
them. Nothing is unique: a repeated insert doubles. Tables are declared in code, which a route of
our own (`/_tables`) does here; every other answer is Eve's.
"""

import secrets
from collections.abc import Mapping, Sequence

import requests

from integration_tests.servers.base import (
    Answer,
    Call,
    Column,
    Facts,
    PipServer,
    TableRow,
)

TYPES = {"text": "string", "number": "number", "boolean": "boolean"}

FACTS = Facts(
    insert=Call("POST", "/{table}", "$rows"),
    empty=(Call("DELETE", "/{table}"),),
    check=Call("GET", "/"),
    count=Call("GET", "/{table}?max_results=1: _meta.total"),
    authentication="Authorization: Bearer <token>",
    answers={
        "good": Answer(201, '{"_status": "OK", "_items": [{'),
        "repeated_insert": Answer(201, '{"_status": "OK"'),
        "bad_row": Answer(422, '"_issues": {"amount": "must be of number type"}'),
        "wrong_credentials": Answer(401, "Please provide proper credentials"),
        "no_credentials": Answer(401, "Please provide proper credentials"),
        "unknown_table": Answer(404, "The requested URL was not found"),
    },
    bad_row={"amount": "not a number"},
    survives_kill=False,
    repeat_doubles=True,
    notes=(
        "a refused batch stores nothing: _items has _status OK or ERR and _issues for every row",
        "an array of one row is answered by its bare item, good or bad, without _items",
        "an unknown column and an absent required one are issues of their row",
        "an empty array is a 400",
    ),
)

APP = """
import sys

import eve.io.mongo.flask_pymongo as flask_pymongo
import mongomock

flask_pymongo.MongoClient = mongomock.MongoClient

from eve import Eve
from eve.auth import TokenAuth
from flask import request


class Auth(TokenAuth):
    def check_auth(self, token, allowed_roles, resource, method):
        return token == sys.argv[2]


app = Eve(auth=Auth, settings={
    "MONGO_DBNAME": "lab", "DOMAIN": {}, "HATEOAS": False, "BULK_ENABLED": True,
    "RESOURCE_METHODS": ["GET", "POST", "DELETE"], "ITEM_METHODS": ["GET"],
    "PAGINATION_LIMIT": 5000, "PAGINATION_DEFAULT": 5000,
})


@app.route("/_tables", methods=["POST"])
def create():
    app._got_first_request = False  # Flask allows new routes before the first request only
    app.register_resource(request.json["name"], {"schema": request.json["schema"]})
    return "", 201


app.run("127.0.0.1", int(sys.argv[1]), threaded=False)
"""


class Eve(PipServer):
    """An Eve application with one token."""

    name = "eve"
    facts = FACTS
    requirements = ("eve==2.3.1", "mongomock==4.3.0")

    def start(self) -> None:
        """Start on a free port without tables."""
        folder, port = self.place()
        token = secrets.token_hex(16)
        (folder / "app.py").write_text(APP)
        self.use_token(token)
        self.launch((str(self.bin / "python"), "app.py", str(port), token), folder, "/")

    def create_table(self, name: str, columns: Sequence[Column], key: str) -> None:
        """Declare a table; its key is required, not unique."""
        schema = {
            column.name: {
                "type": TYPES[column.kind],
                "required": column.required or column.name == key,
                "nullable": not (column.required or column.name == key),
            }
            for column in columns
        }
        self.must("POST", "/_tables", {"name": name, "schema": schema})

    def insert(
        self, table: str, rows: Sequence[TableRow], headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Send one bulk insert."""
        return self.call("POST", f"/{table}", list(rows), headers)

    def empty(self, table: str) -> None:
        """Delete the collection's rows."""
        self.must("DELETE", f"/{table}")

    def rows(self, table: str) -> list[TableRow]:
        """Read every row without Eve's own members, page by page."""
        found: list[TableRow] = []
        while True:
            number = len(found) // 5000 + 1
            page = self.must("GET", f"/{table}?max_results=5000&page={number}").json()["_items"]
            found += [{key: row[key] for key in row if not key.startswith("_")} for row in page]
            if len(page) < 5000:
                return found

    def count(self, table: str) -> int:
        """Read the collection's total."""
        return int(self.must("GET", f"/{table}?max_results=1").json()["_meta"]["total"])
