"""pygeoapi: OGC API - Processes, where an insert is a job with an address that is asked until over.

Measured on 0.21.0. The processes are ours (rows in SQLite, kept by key); what requests, jobs and
their statuses look like is pygeoapi's. It has no credential. A job of a killed server stays as it
was, so it never ends.
"""

import json
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
    column_definitions,
)

TYPES = {
    "text": "text",
    "number": "real check (typeof({0}) in ('real', 'integer', 'null'))",
    "boolean": "integer check ({0} in (0, 1))",
}
RUN = "/processes/{}/execution"

FACTS = Facts(
    insert=Call("POST", RUN.format("load"), '{"inputs": {"table", "rows"}}', "Prefer"),
    check=Call("GET", "/processes/load"),
    count=Call("POST", RUN.format("count"), '{"inputs": {"table"}}'),
    answers={
        "good": Answer(201),
        "unknown_table": Answer(201),
    },
    bad_row={"amount": "not a number"},
    notes=(
        "the insert is answered 201 with null and the job's address in Location",
        "a job is accepted, running, successful or failed; why is in its message, no row is named",
        "its address is answered with HTML unless JSON is accepted",
    ),
)

APP = """
import sys

from pygeoapi.flask_app import APP

APP.run("127.0.0.1", int(sys.argv[1]), threaded=True)
"""
PROCESSES = """
import sqlite3

from pygeoapi.process.base import BaseProcessor, ProcessorExecuteError


class Lab(BaseProcessor):
    def __init__(self, definition):
        self.kind = definition["kind"]
        modes = ["async-execute"] if self.kind == "load" else ["sync-execute"]
        given = {"title": "given", "schema": {}, "minOccurs": 1, "maxOccurs": 1}
        super().__init__(definition, {
            "version": "1.0.0", "id": self.kind, "title": "lab", "description": "lab",
            "keywords": [], "links": [], "jobControlOptions": modes,
            "inputs": {"table": given}, "outputs": {},
        })

    def execute(self, data, outputs=None):
        with sqlite3.connect("lab.db", timeout=30) as base:
            base.row_factory = sqlite3.Row
            try:
                return "application/json", getattr(self, self.kind)(base, **data) or {}
            except sqlite3.Error as error:
                raise ProcessorExecuteError(str(error))

    def create(self, base, table, columns):
        base.execute(f"create table {table} ({columns})")

    def load(self, base, table, rows):
        names = list(rows[0])
        marks = ",".join(f":{name}" for name in names)
        base.executemany(f"replace into {table}({','.join(names)}) values({marks})", rows)

    def empty(self, base, table):
        base.execute(f"delete from {table}")

    def count(self, base, table):
        return {"n": base.execute(f"select count(*) from {table}").fetchone()[0]}

    def read(self, base, table):
        return {"rows": [dict(row) for row in base.execute(f"select * from {table}")]}
"""


def config(port: int) -> dict[str, Any]:
    """Return pygeoapi's settings; JSON is YAML."""
    names = "name position address city stateorprovince postalcode country phone fax email hours"
    url = f"http://127.0.0.1:{port}"
    texts = {"title": "lab", "description": "lab", "keywords": ["lab"], "keywords_type": "theme"}
    return {
        "server": {
            "bind": {"host": "127.0.0.1", "port": port},
            "url": url,
            "mimetype": "application/json; charset=UTF-8",
            "encoding": "utf-8",
            "languages": ["en-US"],
            "limits": {"default_items": 10, "max_items": 100},
            "map": {"url": url, "attribution": "lab"},
            "manager": {"name": "TinyDB", "connection": "jobs.json", "output_dir": "."},
        },
        "logging": {"level": "ERROR"},
        "metadata": {
            "identification": {**texts, "terms_of_service": "lab", "url": url},
            "license": {"name": "lab", "url": url},
            "provider": {"name": "lab", "url": url},
            "contact": {
                **dict.fromkeys([*names.split(), "instructions"], "lab"),
                "url": url,
                "role": "pointOfContact",
            },
        },
        "resources": {
            kind: {"type": "process", "processor": {"name": "processes.Lab", "kind": kind}}
            for kind in ("create", "load", "empty", "count", "read")
        },
    }


class PyGeoApi(PipServer):
    """A pygeoapi whose processes keep tables."""

    name = "pygeoapi"
    facts = FACTS
    requirements = ("pygeoapi==0.21.0",)

    def start(self) -> None:
        """Start on a free port with an empty database."""
        folder, port = self.place()
        (folder / "config.yml").write_text(json.dumps(config(port)))
        (folder / "openapi.yml").write_text('{"openapi": "3.0.2"}')
        (folder / "app.py").write_text(APP)
        (folder / "processes.py").write_text(PROCESSES)
        where = ("PYGEOAPI_CONFIG=config.yml", "PYGEOAPI_OPENAPI=openapi.yml", "PYTHONPATH=.")
        command = ("env", *where, str(self.bin / "python"), "app.py", str(port))
        self.launch(command, folder, "/processes/load")

    def create_table(self, name: str, columns: Sequence[Column], key: str) -> None:
        """Create a table whose columns refuse values of another type."""
        self._run("create", table=name, columns=column_definitions(columns, key, TYPES))

    def insert(
        self, table: str, rows: Sequence[TableRow], headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """Begin one job."""
        body = {"inputs": {"table": table, "rows": list(rows)}}
        return self.call("POST", RUN.format("load"), body, headers)

    def empty(self, table: str) -> None:
        """Delete every row."""
        self._run("empty", table=table)

    def rows(self, table: str) -> list[TableRow]:
        """Read every row."""
        found: list[TableRow] = self._run("read", table=table)["rows"]
        return found

    def count(self, table: str) -> int:
        """Count by SQL."""
        return int(self._run("count", table=table)["n"])

    def _run(self, process: str, **inputs: str) -> Any:
        return self.must("POST", RUN.format(process), {"inputs": inputs}).json()
