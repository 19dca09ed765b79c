"""Kinto: a batch of sub-requests, 200 with a status per row, HTTP Basic.

Measured on Kinto 26.5.0 with its backends on PostgreSQL 15. Any name and password are a user; the
one who made the bucket may write to it.
"""

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
    TableRow,
    pip_install,
)
from integration_tests.servers.postgres import OnPostgres, Postgres, programs

RECORDS = "/v1/buckets/lab/collections/{table}/records"
TYPES = {"text": "string", "number": "number", "boolean": "boolean"}

OWN = ("last_modified", "schema")

FACTS = Facts(
    insert=Call("POST", "/v1/batch", '{"defaults": {"method": "POST"}, "requests": [...]}'),
    upsert=Call("POST", "/v1/batch", '{"defaults": {"method": "PUT"}, "requests": [...]}'),
    empty=(Call("DELETE", RECORDS),),
    check=Call("GET", "/v1/buckets/lab/collections"),
    count=Call("HEAD", RECORDS + ": Total-Objects"),
    authentication="Authorization: Basic <user:password>",
    answers={
        "good": Answer(200, '"status":201'),
        "good_upsert": Answer(200, '"status":20'),
        "repeated_insert": Answer(200, '"status":200'),
        "bad_row": Answer(200, '"status":400'),
        "over_rows": Answer(400, "Number of requests is limited"),
        "wrong_credentials": Answer(200, '"status":403'),
        "no_credentials": Answer(200, '"status":401'),
        "unknown_table": Answer(200, '"status":404'),
    },
    bad_row={"amount": "not a number"},
    stored_beside_bad_row=True,
    max_rows=100,
    notes=(
        "two batches at once into a collection: 409 for single rows, please retry",
        "an insert of a known id is answered 200 with the old record, 201 is a new one",
        "a row's schema is checked only with experimental_collection_schema_validation",
    ),
)

SETTINGS = """
[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = {port}

[app:main]
use = egg:kinto
kinto.userid_hmac_secret = {secret}
kinto.storage_backend = kinto.core.storage.postgresql
kinto.storage_url = {database}
kinto.permission_backend = kinto.core.permission.postgresql
kinto.permission_url = {database}
kinto.cache_backend = kinto.core.cache.memory
kinto.bucket_create_principals = system.Authenticated
kinto.batch_max_requests = 100
kinto.experimental_collection_schema_validation = true
multiauth.policies = basicauth
"""


class Kinto(OnPostgres):
    """A Kinto with one bucket, `lab`."""

    name = "kinto"
    facts = FACTS

    def __init__(self) -> None:
        super().__init__()
        self.program = Path()

    def fetch(self, home: Path) -> None:
        """Install with pip, PostgreSQL with apt."""
        programs()
        drivers = ("psycopg2-binary", "SQLAlchemy<3", "zope.sqlalchemy<4")
        self.program = pip_install(home, "kinto==26.5.0", "setuptools<81", *drivers) / "kinto"

    def start(self) -> None:
        """Start on a free port with an empty bucket."""
        folder, port = self.place()
        self.use_basic("loader")
        self.postgres = Postgres()
        self.postgres.start()
        settings = SETTINGS.format(
            port=port, secret=secrets.token_hex(16), database=self.postgres.url
        )
        (folder / "kinto.ini").write_text(settings)
        migrate = (str(self.program), "migrate", "--ini", "kinto.ini")
        subprocess.run(migrate, cwd=folder, capture_output=True, check=True)
        command = (str(self.program), "start", "--ini", "kinto.ini", "--port", str(port))
        self.launch(command, folder, "/v1/")
        self.must("PUT", "/v1/buckets/lab", {})

    def create_table(self, name: str, columns: Sequence[Column], key: str) -> None:
        """Create a collection whose records are checked."""
        schema = {
            "type": "object",
            "properties": {
                column.name: {"type": [TYPES[column.kind], "null"]} for column in columns
            },
            "required": [
                column.name for column in columns if column.required or column.name == key
            ],
        }
        self.must("PUT", f"/v1/buckets/lab/collections/{name}", {"data": {"schema": schema}})

    def _batch(
        self, method: str, path: str, parts: Sequence[object], headers: Mapping[str, str] | None
    ) -> requests.Response:
        body = {"defaults": {"method": method, "path": path}, "requests": parts}
        return self.call("POST", "/v1/batch", body, headers)

    def insert(
        self, table: str, rows: Sequence[TableRow], headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Send one batch of creations."""
        path = RECORDS.format(table=table)
        return self._batch("POST", path, [{"body": {"data": row}} for row in rows], headers)

    def upsert(self, table: str, rows: Sequence[TableRow]) -> requests.Response:
        """Send one batch of puts, each to its record's own path."""
        path = RECORDS.format(table=table)
        parts = [{"path": f"{path}/{row['id']}", "body": {"data": row}} for row in rows]
        return self._batch("PUT", path, parts, None)

    def empty(self, table: str) -> None:
        """Delete the collection's records."""
        self.must("DELETE", RECORDS.format(table=table))

    def rows(self, table: str) -> list[TableRow]:
        """Read every record without Kinto's own members, page by page."""
        found: list[TableRow] = []
        path = RECORDS.format(table=table)
        while path:
            page = self.must("GET", path)
            records = page.json()["data"]
            found += [{name: row[name] for name in row if name not in OWN} for row in records]
            path = page.headers.get("Next-Page", "").removeprefix(self.base_url)
        return found

    def count(self, table: str) -> int:
        """Read the total, which only the headers tell."""
        response = self.must("HEAD", RECORDS.format(table=table))
        return int(response.headers["Total-Objects"])
