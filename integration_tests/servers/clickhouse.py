"""ClickHouse: JSON lines in the body, the statement in the query, two credential headers.

Measured on Debian's 18.16.1. Data that can never be stored is answered with 500, like a server in
trouble; only the code in the text tells. MergeTree has no unique key: a repeated insert doubles.
"""

import json
import secrets
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
    apt_install,
    free_port,
)

TYPES = {"text": "String", "number": "Float64", "boolean": "UInt8"}

FACTS = Facts(
    insert=Call("POST", "/?query=insert into {table} format JSONEachRow", "one $row per line"),
    empty=(Call("POST", "/", "truncate table {table}"),),
    check=Call("GET", "/?query=select 1"),
    count=Call("GET", "/?query=select count() from {table}"),
    authentication="X-ClickHouse-User and X-ClickHouse-Key",
    answers={
        "good": Answer(200),
        "repeated_insert": Answer(200),
        "bad_row": Answer(500, "Code: 27, e.displayText() = DB::Exception: Cannot parse"),
        "wrong_credentials": Answer(401, "Code: 19"),
        "no_credentials": Answer(401, "Code: 192"),
        "unknown_table": Answer(404, "Code: 60"),
    },
    bad_row={"amount": "not a number"},
    repeat_doubles=True,
    notes=(
        "success is an empty 200: no count, no results",
        "500 for good: Code 27 a bad value, 117 an unknown column, 164 a read-only user",
        "400 Code 26: null in a column that is not Nullable",
        "the text names a row, counted from 1: (at row 2); nothing of the call is stored",
        "the text repeats the rest of the body: it holds row values",
        "an empty body is a 200",
    ),
)

CONFIG = """<yandex>
    <logger><level>warning</level><console>1</console></logger>
    <listen_host>127.0.0.1</listen_host>
    <http_port>{http_port}</http_port>
    <tcp_port>{tcp_port}</tcp_port>
    <interserver_http_port>{other_port}</interserver_http_port>
    <interserver_http_host>127.0.0.1</interserver_http_host>
    <path>{folder}/data/</path>
    <tmp_path>{folder}/tmp/</tmp_path>
    <mark_cache_size>67108864</mark_cache_size>
    <users_config>users.xml</users_config>
    <default_profile>default</default_profile>
    <default_database>default</default_database>
    <keep_alive_timeout>3</keep_alive_timeout>
</yandex>
"""
USERS = """<yandex>
    <profiles><default/></profiles>
    <quotas><default/></quotas>
    <users><loader>
        <password>{password}</password>
        <networks><ip>127.0.0.1</ip></networks>
        <profile>default</profile>
        <quota>default</quota>
    </loader></users>
</yandex>
"""


class ClickHouse(LocalServer):
    """A ClickHouse with one user."""

    name = "clickhouse"
    facts = FACTS

    def __init__(self) -> None:
        super().__init__()
        self.program = Path()

    def fetch(self, home: Path) -> None:
        """Install with apt, which knows one place only."""
        del home
        self.program = apt_install("clickhouse-server", "clickhouse-server")

    def start(self) -> None:
        """Start on free ports with an empty default database."""
        folder, port = self.place()
        password = secrets.token_hex(12)
        config = CONFIG.format(
            http_port=port, tcp_port=free_port(), other_port=free_port(), folder=folder
        )
        (folder / "config.xml").write_text(config)
        (folder / "users.xml").write_text(USERS.format(password=password))
        self.credentials = {"username": "loader", "password": password}
        self.headers = {"X-ClickHouse-User": "loader", "X-ClickHouse-Key": password}
        self.launch((str(self.program), "--config-file=config.xml"), folder, "/ping")

    def create_table(self, name: str, columns: Sequence[Column], key: str) -> None:
        """Create a table ordered by its key, which is not unique."""
        parts = [
            f"{column.name} {TYPES[column.kind]}"
            if column.required or column.name == key
            else f"{column.name} Nullable({TYPES[column.kind]})"
            for column in columns
        ]
        self.run(f"create table {name} ({', '.join(parts)}) engine = MergeTree order by {key}")

    def insert(
        self, table: str, rows: Sequence[TableRow], headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Send rows as JSON lines."""
        body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        path = f"/?query={quote(f'insert into {table} format JSONEachRow')}"
        return self.call("POST", path, body, headers)

    def empty(self, table: str) -> None:
        """Truncate the table."""
        self.run(f"truncate table {table}")

    def rows(self, table: str) -> list[TableRow]:
        """Read every row as JSON lines."""
        lines = self.run(f"select * from {table} format JSONEachRow").splitlines()  # noqa: S608
        return [json.loads(line) for line in lines]

    def count(self, table: str) -> int:
        """Count by SQL."""
        return int(self.run(f"select count() from {table}"))  # noqa: S608

    def run(self, statement: str) -> str:
        """Run one statement."""
        response = self.must("POST", "/", statement.encode())
        response.encoding = "utf-8"
        return response.text
