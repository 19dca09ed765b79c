"""Groonga: a bare array in a load command, rows kept by `_key`, a result per row where asked for.

Measured on Debian's 13.0.0. It has no credential. A load of a known key changes the columns it has.
A value that does not fit its column is answered 400, and its row is stored with 0 in its place.
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import requests

from integration_tests.servers.base import (
    Answer,
    Call,
    Column,
    Facts,
    LocalServer,
    TableRow,
    apt_install,
    renamed,
)

TYPES = {"text": "Text", "number": "Float", "boolean": "Bool"}
LOAD = "/d/load?table={table}&command_version=3&output_errors=yes"
SELECT = "/d/select?table={table}&command_version=3&cache=no"

FACTS = Facts(
    insert=Call("POST", LOAD, "$rows, the key as _key"),
    upsert=Call("POST", LOAD, "$rows, the key as _key"),
    empty=(Call("GET", "/d/truncate?target_name={table}"),),
    check=Call("GET", "/d/status"),
    count=Call("GET", SELECT + "&limit=0: body.n_hits"),
    answers={
        "good": Answer(200, '"return_code":0'),
        "good_upsert": Answer(200, '"return_code":0'),
        "repeated_insert": Answer(200, '"return_code":0'),
        "bad_row": Answer(400, "failed to cast to <Float>"),
        "unknown_table": Answer(400, "nonexistent table: <no_such_table>"),
    },
    bad_row={"amount": "not a number"},
    bad_row_stored={"amount": 0.0},
    stored_beside_bad_row=True,
    notes=(
        "one row with an error makes the answer a 400; body.errors has a message or null per row",
        "a value that does not fit is told in the header's error alone, which names no row",
        "an unknown column is an error of its row, which is stored without it",
        "a row without _key is not stored",
        "null is stored as an empty text, 0 or false",
        "the body of a POST to another command than load is read as commands",
    ),
)


class Groonga(LocalServer):
    """A Groonga with one database."""

    name = "groonga"
    facts = FACTS

    def __init__(self) -> None:
        super().__init__()
        self.program = Path()
        self.keys: dict[str, str] = {}

    def fetch(self, home: Path) -> None:
        """Install with apt, which knows one place only."""
        del home
        self.program = apt_install("groonga", "groonga-bin")

    def start(self) -> None:
        """Start on a free port with an empty database."""
        folder, port = self.place()
        make = (str(self.program), "-n", "db", "status")
        subprocess.run(make, cwd=folder, capture_output=True, check=True)
        where = ("--protocol", "http", "--bind-address", "127.0.0.1", "--port", str(port))
        self.launch((str(self.program), *where, "-s", "db"), folder, "/d/status")

    def create_table(self, name: str, columns: Sequence[Column], key: str) -> None:
        """Create a table of text keys."""
        self.keys[name] = key
        self.must("GET", f"/d/table_create?name={name}&flags=TABLE_HASH_KEY&key_type=ShortText")
        for column in columns:
            if column.name != key:
                made = f"table={name}&name={column.name}&flags=COLUMN_SCALAR"
                self.must("GET", f"/d/column_create?{made}&type={TYPES[column.kind]}")

    def insert(
        self, table: str, rows: Sequence[TableRow], headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Send one load."""
        named = renamed(rows, self.keys.get(table, "id"), "_key")
        return self.call("POST", LOAD.format(table=table), named, headers)

    def upsert(self, table: str, rows: Sequence[TableRow]) -> requests.Response:
        """Send one load, which changes rows of known keys."""
        return self.insert(table, rows)

    def empty(self, table: str) -> None:
        """Truncate the table."""
        self.must("GET", f"/d/truncate?target_name={table}")

    def rows(self, table: str) -> list[TableRow]:
        """Read every row in one select."""
        body = self.must("GET", SELECT.format(table=table) + "&limit=-1").json()["body"]
        names = [column["name"] for column in body["columns"]]
        found = [dict(zip(names, values, strict=True)) for values in body["records"]]
        for row in found:
            del row["_id"]
        return renamed(found, "_key", self.keys[table])

    def count(self, table: str) -> int:
        """Read the number of hits of a select of everything."""
        body = self.must("GET", SELECT.format(table=table) + "&limit=0").json()["body"]
        return int(body["n_hits"])
