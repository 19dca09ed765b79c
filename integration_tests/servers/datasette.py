"""Datasette: rows under a key, bearer token, upsert on its own path, a batch stored whole or not.

Measured on 1.0a41. The settings max_insert_rows (default 100) and max_post_body_bytes (default
2 MiB) are arguments here, so that tests can meet them. Tables are created by SQL with checks:
without them SQLite stores a text in a number column.
"""

import secrets
import subprocess
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

TYPES = {
    "text": "text",
    "number": "real check (typeof({0}) in ('real', 'integer', 'null'))",
    "boolean": "integer check ({0} in (0, 1))",
}

FACTS = Facts(
    insert=Call("POST", "/lab/{table}/-/insert", '{"rows": $rows}'),
    upsert=Call("POST", "/lab/{table}/-/upsert", '{"rows": $rows}'),
    empty=(Call("POST", "/lab/-/execute-write", '{"sql": "delete from {table}"}'),),
    check=Call("GET", "/-/actor.json"),
    count=Call("GET", "/lab/-/query.json?sql=select count(*) n from {table}&_shape=array"),
    authentication="Authorization: Bearer dstok_...",
    answers={
        "good": Answer(201, '{"ok": true}'),
        "good_upsert": Answer(200, '{"ok": true}'),
        "repeated_insert": Answer(400, "UNIQUE constraint failed"),
        "bad_row": Answer(400, "constraint failed"),
        "wrong_credentials": Answer(401, "Invalid token signature"),
        "no_credentials": Answer(403, "Permission denied"),
        "over_rows": Answer(400, "Too many rows, maximum allowed is"),
        "over_bytes": Answer(413, "Request body exceeded maximum size of"),
        "unknown_table": Answer(404, "Table not found"),
    },
    bad_row={"amount": "not a number"},
    max_rows=1000,
    max_bytes=1 << 20,
    notes=(
        "every error is JSON: ok false, error, errors (list of texts), status",
        "a refused batch stores nothing, and a constraint's text names no row",
        "an unknown column refuses the batch and names its row: 'Row 1 has invalid columns: x'",
        "an upsert whose rows have different keys sets the absent ones to null",
        "?_extra=count stops at 10001 (count_truncated true); SQL counts exactly",
        "/-/actor.json answers 200 with actor null without a token: match its body, not its status",
    ),
)


class Datasette(PipServer):
    """A Datasette with one database, `lab`."""

    name = "datasette"
    facts = FACTS
    requirements = ("datasette==1.0a41",)

    def __init__(self, max_rows: int = 1000, max_bytes: int = 1 << 20) -> None:
        super().__init__()
        self.max_rows = max_rows
        self.max_bytes = max_bytes

    def start(self) -> None:
        """Start on a free port with an empty database and a token of its root user."""
        folder, port = self.place()
        secret = secrets.token_hex(16)
        program = str(self.bin / "datasette")
        token = subprocess.run(
            (program, "create-token", "root", "--secret", secret),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        self.use_token(token)
        limits = {"max_insert_rows": self.max_rows, "max_post_body_bytes": self.max_bytes}
        settings = [part for key, value in limits.items() for part in ("-s", key, str(value))]
        # fmt: off
        self.launch(
            (program, "lab.db", "--create", "--root", "--secret", secret, "-h", "127.0.0.1",
             "-p", str(port), *settings),
            folder,
            "/-/versions.json",
        )
        # fmt: on

    def create_table(self, name: str, columns: Sequence[Column], key: str) -> None:
        """Create a table whose columns refuse values of another type."""
        parts = [
            f'"{column.name}" {TYPES[column.kind].format(chr(34) + column.name + chr(34))}'
            + (" primary key" if column.name == key else "")
            + (" not null" if column.required or column.name == key else "")
            for column in columns
        ]
        self._write(f'create table "{name}" ({", ".join(parts)})')

    def insert(
        self, table: str, rows: Sequence[TableRow], headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Send one bulk insert."""
        return self.call("POST", f"/lab/{table}/-/insert", {"rows": rows}, headers)

    def upsert(self, table: str, rows: Sequence[TableRow]) -> requests.Response:
        """Send one bulk upsert."""
        return self.call("POST", f"/lab/{table}/-/upsert", {"rows": rows})

    def empty(self, table: str) -> None:
        """Delete every row."""
        self._write(f'delete from "{table}"')  # noqa: S608 - a table of the tests

    def rows(self, table: str) -> list[TableRow]:
        """Read every row, page by page."""
        found: list[TableRow] = []
        after: str | None = ""
        while after is not None:
            page = self.must("GET", f"/lab/{table}.json?_size=max&_next={after}").json()
            found += page["rows"]
            after = page["next"]
        return found

    def count(self, table: str) -> int:
        """Count by SQL: the table page stops counting at 10,001."""
        query = f"/lab/-/query.json?_shape=array&sql=select count(*) n from [{table}]"  # noqa: S608 - as above
        return int(self.must("GET", query).json()[0]["n"])

    def _write(self, sql: str) -> None:
        self.must("POST", "/lab/-/execute-write", {"sql": sql})
