"""Supabase Lite (the PostgREST API): a bare array, `apikey` header, upsert by a Prefer header.

Measured on 0.10.0 (alpha) with its SQLite driver, which takes 100 values per request and answers a
broken constraint with 500, where PostgreSQL's driver would say 409 or 400. `SupabaseOnPostgres` has
its tables in a real PostgreSQL, with the types that SQLite lacks.
"""

import json
import secrets
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
    column_definitions,
    npm_install,
)
from integration_tests.servers.postgres import Postgres, programs

TYPES = {"text": "text", "number": "double precision", "boolean": "boolean"}
PREFER = {"Prefer": "resolution=merge-duplicates"}
SPARE = 12  # tables made at once, because each migration takes two starts of the program

FACTS = Facts(
    insert=Call("POST", "/rest/v1/{table}", "$rows"),
    upsert=Call(
        "POST", "/rest/v1/{table}?on_conflict={key}", "$rows", f"Prefer: {PREFER['Prefer']}"
    ),
    empty=(Call("DELETE", "/rest/v1/{table}?{key}=not.is.null"),),
    check=Call("GET", "/rest/v1/"),
    count=Call("HEAD", "/rest/v1/{table}?limit=0", headers="Prefer: count=exact; Content-Range"),
    authentication="apikey: sb_secret_...",
    answers={
        "good": Answer(201),
        "good_upsert": Answer(201),
        "upsert_without_new_rows": Answer(200),
        "repeated_insert": Answer(500, "UNIQUE constraint failed"),
        "bad_row": Answer(500, "NOT NULL constraint failed"),
        "wrong_credentials": Answer(401, "Invalid API key"),
        "no_credentials": Answer(401, "No API key found in request"),
        "over_rows": Answer(500, "exceeds max bound parameters (102 > 100)"),
        "unknown_table": Answer(404, "PGRST205"),
    },
    bad_row={"name": None},
    max_rows=33,
    notes=(
        "max_rows is for three columns: at most 100 values (rows x columns) per request",
        "success is an empty 201; a refused batch stores nothing",
        "an unknown column is a 400 PGRST204, rows with different keys a 400 PGRST102",
        "a text in a number column is stored (SQLite)",
    ),
)


class SupabaseLite(LocalServer):
    """A Supabase Lite project on SQLite, run by the Node it needs."""

    name = "supabase-lite"
    facts = FACTS

    def __init__(self) -> None:
        super().__init__()
        self.lite: tuple[str, ...] = ()
        self.keys: dict[str, str] = {}
        self.spare: dict[tuple[Column, ...], list[str]] = {}

    def fetch(self, home: Path) -> None:
        """Install with npm, Node 24 included."""
        modules = npm_install(home, "@supabase/lite@0.10.0", "node@24", "postgres@3.4.9")
        program = str(modules / "@supabase/lite/dist/cli/index.js")
        self.lite = (str(modules / "node/bin/node"), program, "--no-telemetry")

    def start(self) -> None:
        """Create a project and start it on a free port."""
        folder, port = self.place()
        subprocess.run((*self.lite, "init"), cwd=folder, capture_output=True, check=True)
        config = folder / "supabase/config.toml"
        text = self.configured(config.read_text()).replace("port = 54321", f"port = {port}")
        config.write_text(text.replace("dev-secret-change-me", secrets.token_hex(32)))
        lines = (line.partition("=") for line in (folder / ".env").read_text().splitlines())
        keys = {name: value.strip('"') for name, _, value in lines}
        self.use_token(keys["SUPABASE_SECRET_KEY"], "apikey", "")
        command = (*self.lite, "start", "--host", "127.0.0.1", "--no-admin")
        self.launch(command, folder, "/rest/v1/")

    def configured(self, text: str) -> str:
        """Choose where the tables are; SQLite is the default."""
        return text

    def create_table(self, name: str, columns: Sequence[Column], key: str) -> None:
        """Create a table that has its columns' usual types."""
        self.create([name], column_definitions(columns, key, TYPES), key)

    def new_table(self, columns: Sequence[Column], key: str) -> str:
        """Give a table that nobody had, of several alike that were created at once."""
        kind = (*columns, Column(key))
        if not self.spare.get(kind):
            names = [f"n{len(self.keys) + number}" for number in range(SPARE)]
            self.create(names, column_definitions(columns, key, TYPES), key)
            self.spare[kind] = names
        return self.spare[kind].pop()

    def create(self, names: Sequence[str], columns: str, key: str) -> None:
        """Create tables by a migration; the server learns its tables when it starts."""
        if self.daemon is None:
            raise RuntimeError("create() before start()")
        statements = [f"create table {name} ({columns});" for name in names]
        self.kill()
        migrations = self.daemon.folder / "supabase/migrations"
        migrations.mkdir(exist_ok=True)
        file = migrations / f"{20260101000000 + len(self.keys)}_{names[0]}.sql"
        file.write_text("\n".join(statements))
        up = (*self.lite, "migration", "up")
        subprocess.run(up, cwd=self.daemon.folder, capture_output=True, check=True)
        self.restart()
        self.keys |= dict.fromkeys(names, key)

    def insert(
        self, table: str, rows: Sequence[TableRow], headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Send one bulk insert."""
        return self.call("POST", f"/rest/v1/{table}", list(rows), headers)

    def upsert(self, table: str, rows: Sequence[TableRow]) -> requests.Response:
        """Send one bulk upsert."""
        path = f"/rest/v1/{table}?on_conflict={self.keys[table]}"
        return self.call("POST", path, list(rows), self.headers | PREFER)

    def empty(self, table: str) -> None:
        """Delete every row; the API wants a filter, so one that all rows pass."""
        self.must("DELETE", f"/rest/v1/{table}?{self.keys[table]}=not.is.null")

    def rows(self, table: str) -> list[TableRow]:
        """Read every row, page by page."""
        found: list[TableRow] = []
        while True:
            query = f"order={self.keys[table]}&limit=500&offset={len(found)}"
            page = json.loads(self.must("GET", f"/rest/v1/{table}?{query}").content)
            found += page
            if len(page) < 500:
                return found

    def count(self, table: str) -> int:
        """Read the exact count from the Content-Range header."""
        headers = self.headers | {"Prefer": "count=exact"}
        answer = self.call("HEAD", f"/rest/v1/{table}?limit=0", headers=headers)
        return int(answer.headers["Content-Range"].rpartition("/")[2])


class SupabaseOnPostgres(SupabaseLite):
    """A Supabase Lite project on a PostgreSQL of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.postgres: Postgres | None = None

    def fetch(self, home: Path) -> None:
        """Install PostgreSQL as well, with apt."""
        programs()
        super().fetch(home)

    def start(self) -> None:
        """Start the database before the server."""
        self.postgres = Postgres()
        self.postgres.start()
        super().start()

    def configured(self, text: str) -> str:
        """Name the database in place of the file."""
        assert self.postgres is not None
        text = text.replace('driver = "sqlite-postgres"', 'driver = "postgres"')
        return text.replace("file:./supabase/.temp/data.db", self.postgres.url)

    def stop(self) -> None:
        """End it and its database."""
        super().stop()
        if self.postgres is not None:
            self.postgres.stop()
