"""ArcadeDB: a command in SQL whose parameter is the list of rows, below another member; Basic.

Measured on 26.10.2, from the package that brings its own Java. A command is a transaction, so a
refused one stores nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import requests

from integration_tests.servers.base import (
    Answer,
    Call,
    Column,
    Facts,
    PipServer,
    TableRow,
)

TYPES = {"text": "STRING", "number": "DOUBLE", "boolean": "BOOLEAN"}
COMMAND, QUERY = "/api/v1/command/lab", "/api/v1/query/lab"
INSERT = "insert into {table} content :rows"

FACTS = Facts(
    insert=Call("POST", COMMAND, '{"language": "sql", "command": ..., "params": {"rows": $rows}}'),
    empty=(Call("POST", COMMAND, "delete from {table}"),),
    check=Call("GET", "/api/v1/databases"),
    count=Call("POST", QUERY, "select count(*) as n from {table}: result.0.n"),
    authentication="Authorization: Basic <user:password>",
    answers={
        "good": Answer(200, '"returned":'),
        "repeated_insert": Answer(409, "DuplicatedKeyException"),
        "bad_row": Answer(400, "Cannot convert type"),
        "wrong_credentials": Answer(403, "User/Password not valid"),
        "no_credentials": Answer(401),
        "unknown_table": Answer(500, "Type with name 'no_such_table' was not found"),
    },
    bad_row={"amount": "not a number"},
    notes=(
        "returned is the number of rows of an insert",
        "a null where none may be is a 500 with ValidationException",
        "an answer shows 20,000 rows at most",
    ),
)

APP = """
import sys
import threading

import arcadedb_embedded

config = {"http_port": int(sys.argv[1]), "host": "127.0.0.1"}
server = arcadedb_embedded.create_server("data", root_password=sys.argv[2], config=config)
server.start()
threading.Event().wait()
"""


class ArcadeDB(PipServer):
    """An ArcadeDB with one database, `lab`."""

    name = "arcadedb"
    facts = FACTS
    requirements = ("arcadedb-embedded==26.10.2.post1",)  # Java included

    def start(self) -> None:
        """Start on a free port with an empty database."""
        folder, port = self.place()
        (folder / "app.py").write_text(APP)
        password = self.use_basic("root")
        command = (str(self.bin / "python"), "app.py", str(port), password)
        self.launch(command, folder, "/api/v1/ready")
        self.must("POST", "/api/v1/server", {"command": "create database lab"})

    def create_table(self, name: str, columns: Sequence[Column], key: str) -> None:
        """Create a type with typed properties and a unique key."""
        statements = [f"create document type {name}"]
        for column in columns:
            is_required = column.required or column.name == key
            rules = " (mandatory true, notnull true)" if is_required else ""
            kind = TYPES[column.kind]
            statements.append(f"create property {name}.{column.name} {kind}{rules}")
        statements.append(f"create index on {name} ({key}) unique")
        body = {"language": "sqlscript", "command": ";".join(statements)}
        self.must("POST", COMMAND, body)

    def insert(
        self, table: str, rows: Sequence[TableRow], headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Send one insert of all rows."""
        command = INSERT.format(table=table)
        body = {"language": "sql", "command": command, "params": {"rows": list(rows)}}
        return self.call("POST", COMMAND, body, headers)

    def empty(self, table: str) -> None:
        """Delete every row."""
        body = {"language": "sql", "command": f"delete from {table}"}  # noqa: S608 - a test's table
        self.must("POST", COMMAND, body)

    def rows(self, table: str) -> list[TableRow]:
        """Read every row without ArcadeDB's own members."""
        found = self._ask(f"select from {table}")
        return [{name: row[name] for name in row if name[0] != "@"} for row in found]

    def count(self, table: str) -> int:
        """Count by SQL."""
        return int(self._ask(f"select count(*) as n from {table}")[0]["n"])  # noqa: S608 - as above

    def _ask(self, query: str) -> Any:
        return self.must("POST", QUERY, {"language": "sql", "command": query}).json()["result"]
