"""custom_http against real servers: the real command over pipes, read back by the server's own API.

The configurations are the presets, so what the form offers is what runs. Datasette, PocketBase and
nginx are never skipped; the others carry the mark slow_servers. How many rows a
server gets depends on its speed and is printed.

Known traps of such servers and where they are met: 201 with failed rows, 200 with an error inside,
500 for bad data (one bad row of a thousand; ClickHouse is asked once), 201 or 400 for a missing
credential (no credential), 504 but stored (a proxy's fault), members that only some rows have, null
read back as "" or 0 (the checksum of PocketBase), small default limits (Datasette's defaults). An
array that becomes one row and a 201 of which nothing was stored need answers that these servers do
not give: unit_tests/test_custom_http.py has them. Not tested, because no answer shows it: columns
that a server drops with a 200 (the docs say so). A server that slows down as its table grows is
cured in its own schema.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from destination_bulk_tables.providers.presets import PRESETS
from integration_tests.conftest import FakerInput
from integration_tests.connector import (
    COMMAND,
    Connector,
    Outcome,
    catalog,
    complete,
    configured,
    record,
    state,
)
from integration_tests.servers import (
    ArcadeDB,
    BulkServer,
    ClickHouse,
    Column,
    Datasette,
    Eve,
    Groonga,
    Kinto,
    Nginx,
    ParseServer,
    PocketBase,
    PouchDB,
    PyGeoApi,
    Relay,
    Rqlite,
    SupabaseLite,
)
from integration_tests.servers.base import TableRow, cache_folder, free_port
from integration_tests.servers.nginx import Fault
from integration_tests.servers.pool import Pool, start
from integration_tests.servers.relay import Moment

pytestmark = pytest.mark.timeout(600)  # the first run installs

DOCS = Path(__file__).parents[1] / "docs/custom_http.md"
STREAM = "orders"
COLUMNS = (
    Column("id"),
    Column("name", required=True),
    Column("email"),
    Column("amount", "number"),
    Column("quantity", "number"),
    Column("is_paid", "boolean"),
    Column("ordered_at"),
    Column("note"),
)
# full requests side by side, and several pages to read back; benchmarks/RESULTS.md has a million
ENOUGH = 10_000
TYPES = {"text": "string", "number": "number", "boolean": "boolean"}
SCHEMA = {column.name: {"type": ["null", TYPES[column.kind]]} for column in COLUMNS}
names = (f"c{number}" for number in itertools.count())


def own(server: BulkServer) -> dict[str, Any]:
    """A server's credentials, which are called as the preset calls them."""
    return dict(server.credentials)


@dataclass(frozen=True)
class Target:
    """A server, its preset or form, and what the tests must know about the two."""

    kind: type[BulkServer]
    preset: str
    fields: Callable[[BulkServer], dict[str, Any]]  # of it, but for the address
    rows: int
    why_fewer: str = ""
    modes: tuple[str, ...] = ("append", "append_dedup", "overwrite")
    key: str = "id"  # what the vendor calls the key column
    nulls: bool = True  # null is kept
    digits: int = 17  # of a number that are kept
    more: Mapping[str, Any] = field(default_factory=dict)
    is_slow: bool = True
    tells_columns: bool = False

    def provider(self, server: BulkServer) -> dict[str, Any]:
        """Return `provider` of the config as the form makes it: the preset with its few fields."""
        fields = self.fields(server)
        if self.preset == "custom_http":
            return {"provider_type": "custom_http", "api_address": server.base_url, **fields}
        fields = {"address": server.base_url, **fields}
        return {"provider_type": self.preset, self.preset: fields}


def processes(_: BulkServer) -> dict[str, Any]:
    """The form for an OGC API whose process `load` takes rows in a job."""
    table_alone = '{"inputs": {"table": "{table}"}}'
    return {
        "api_authentication": {"auth_type": "none"},
        "extra_headers": "Prefer: respond-async\nAccept: application/json",
        "write_path": "/processes/load/execution",
        "body": {
            "body_type": "template",
            "body_template": '{"inputs": {"table": "{table}", "rows": "{rows}"}}',
        },
        "upsert": {"upsert_type": "insert"},
        "replace": {
            "replace_type": "empty_first",
            "requests": [
                {"method": "POST", "path": "/processes/empty/execution", "body": table_alone}
            ],
        },
        "job": {
            "job_type": "poll",
            "id": "header:Location",
            "path": "/jobs/{job}",
            "status": "status",
            "done": "successful",
            "failed": "failed,dismissed",
        },
        "check_path": "/processes/load",
        "refusals_store_nothing": True,
        "stop_texts": ["no such table"],
        "table_count_path": "/processes/count/execution",
        "table_count_method": "POST",
        "table_count_body": table_alone,
        "table_count_value": "n",
        "max_rows_per_request": 500,
        "booleans": "number",
    }


def commands(server: BulkServer) -> dict[str, Any]:
    """The form for an ArcadeDB, whose command has the rows as a parameter."""
    insert = {
        "language": "sql",
        "command": "insert into {table} content :rows",
        "params": {"rows": "{rows}"},
    }
    count = {"language": "sql", "command": "select count(*) as n from {table}"}
    empty = {"language": "sql", "command": "delete from {table}"}
    return {
        "api_authentication": {"auth_type": "basic", **server.credentials},
        "write_path": "/api/v1/command/lab",
        "body": {"body_type": "template", "body_template": json.dumps(insert)},
        "replace": {
            "replace_type": "empty_first",
            "requests": [
                {"method": "POST", "path": "/api/v1/command/lab", "body": json.dumps(empty)}
            ],
        },
        "check_path": "/api/v1/databases",
        "count_path": "returned",
        "refusals_store_nothing": True,
        "refused_texts": ["ValidationException"],
        "stop_texts": ["SchemaException"],
        "table_count_path": "/api/v1/query/lab",
        "table_count_method": "POST",
        "table_count_body": json.dumps(count),
        "table_count_value": "result.0.n",
        "table_count_is_exact": True,
        "max_rows_per_request": 1000,
    }


TARGETS = (
    Target(
        Datasette,
        "datasette",
        lambda server: {**server.credentials, "database": "lab", "max_rows": 1000},
        ENOUGH,
        more={"max_megabytes_per_request": 1},
        is_slow=False,
        tells_columns=True,
    ),
    Target(
        PocketBase,
        "pocketbase",
        lambda server: {"token": server.credentials["token"], "max_rows": 1000},
        ENOUGH,
        nulls=False,
        is_slow=False,
        tells_columns=True,
    ),
    Target(
        PouchDB,
        "couchdb",
        own,
        ENOUGH,
        modes=("append", "overwrite"),
        key="_id",
    ),
    Target(Rqlite, "rqlite", own, ENOUGH),
    Target(
        ClickHouse,
        "clickhouse",
        own,
        ENOUGH,
        modes=("append", "overwrite"),
        digits=15,  # it reads 1.64 as 1.6400000000000001, whoever sends it
        tells_columns=True,
    ),
    Target(
        Eve,
        "eve",
        own,
        3_000,
        "it stores about 600 rows a second",
        modes=("append", "overwrite"),
    ),
    Target(Groonga, "groonga", lambda _: {}, ENOUGH, key="_key", nulls=False),
    Target(
        Kinto,
        "kinto",
        lambda server: {**server.credentials, "bucket": "lab"},
        250,
        "it stores some hundred rows a second",
        more={"max_rows_per_request": 100},
    ),
    Target(
        ParseServer,
        "parse",
        lambda server: {"application_id": "lab", "master_key": server.credentials["token"]},
        3_000,
        "it stores some hundred rows a second",
        modes=("append", "overwrite"),
        key="key",
    ),
    Target(ArcadeDB, "custom_http", commands, 10_000, modes=("append", "overwrite")),
    Target(PyGeoApi, "custom_http", processes, 5_000, "each request is a job"),
    Target(
        SupabaseLite,
        "supabase",
        lambda server: {"secret_key": server.credentials["token"], "max_rows": 12},
        3_000,
        "its SQLite driver takes 12 rows of 8 columns in a request",
        more={"max_rows_per_request": 12},
    ),
)
ABOUT: dict[str, Callable[[Target], bool]] = {
    # Eve keeps its rows in memory: a killed one has lost them, whatever the connector does
    "test_a_server_killed_with_a_write_in_flight_loses_and_doubles_nothing": (
        lambda target: target.kind.facts.survives_kill
    ),
    "test_rows_sent_again_without_a_count_may_double_and_it_is_said": (
        lambda target: target.kind.facts.survives_kill and target.kind.facts.repeat_doubles
    ),
    "test_a_wrong_credential_is_a_config_error": lambda target: bool(
        target.kind.facts.authentication
    ),
    "test_no_credential_at_all_is_a_config_error": lambda target: bool(
        target.kind.facts.authentication
    ),
    "test_an_unknown_table_is_a_config_error": lambda target: (
        "unknown_table" in target.kind.facts.answers
    ),
    "test_more_rows_than_the_server_takes_are_split": lambda target: bool(
        target.kind.facts.max_rows
    ),
    "test_a_body_over_the_servers_limit_is_split": lambda target: bool(target.kind.facts.max_bytes),
    "test_a_column_that_the_table_lacks_is_named_before_the_first_row": lambda target: (
        target.tells_columns
    ),
    "test_a_stream_without_complete_leaves_the_table_as_it_was": lambda target: (
        "overwrite" in target.modes
    ),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with `lab` once for each server it is about."""
    if "lab" not in metafunc.fixturenames:
        return
    about = ABOUT.get(metafunc.function.__name__)
    chosen = [
        pytest.param(
            target, id=target.kind.name, marks=pytest.mark.slow_servers if target.is_slow else ()
        )
        for target in TARGETS
        if about is None or about(target)
    ]
    metafunc.parametrize("lab", chosen, indirect=True)


class Lab:
    """A running server with its configuration."""

    def __init__(self, target: Target, server: BulkServer) -> None:
        self.target = target
        self.server = server

    def table(self) -> str:
        """Create an empty table."""
        return self.server.new_table(COLUMNS, "id")

    def config(self, table: str, **more: Any) -> dict[str, Any]:
        """Return the preset's settings spelled out as custom_http has them, to change one."""
        provider = self.target.provider(self.server)
        for preset in PRESETS:
            if preset.name == self.target.preset:
                provider = {**preset.expanded(provider), **self.target.more}
        provider |= more.pop("provider", {})
        return self._around(provider, table, more)

    def filled_in(self, table: str, **more: Any) -> dict[str, Any]:
        """Return the config as the form makes it."""
        return self._around(self.target.provider(self.server), table, more)

    def _around(self, provider: dict[str, Any], table: str, more: dict[str, Any]) -> dict[str, Any]:
        entry: dict[str, Any] = {"stream": STREAM, "table": table}
        if self.target.key != "id":
            entry["columns"] = [
                {
                    "field": column.name,
                    "column": self.target.key if column.name == "id" else column.name,
                }
                for column in COLUMNS
            ]
        return {"provider": provider, "tables": [entry], **more}

    def holds(self, table: str, rows: Sequence[TableRow]) -> None:
        """Compare the table with rows by count and by a checksum over all values."""
        assert self.server.count(table) == len(rows)
        found = self.server.rows(table)
        assert len(found) == len(rows)
        assert self.checksum(found) == self.checksum(rows)

    def checksum(self, rows: Sequence[TableRow]) -> str:
        """Hash all values of rows in any order, with what this server makes of null and boolean."""
        texts = [json.dumps([self._same(row.get(c.name), c) for c in COLUMNS]) for row in rows]
        return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()

    def _same(self, value: Any, column: Column) -> Any:
        if value is None:
            return (
                None
                if self.target.nulls
                else {"text": "", "number": 0.0, "boolean": False}[column.kind]
            )
        if column.kind == "number":
            return float(f"{value:.{self.target.digits}g}")
        return bool(value) if column.kind == "boolean" else value


@pytest.fixture
def lab(pool: Pool, request: pytest.FixtureRequest) -> Lab:
    return Lab(request.param, pool.get(request.param.kind))


@pytest.fixture
def datasette(pool: Pool) -> Lab:
    return Lab(TARGETS[0], pool.get(Datasette))


def some_rows(number: int, start: int = 0, name: str = "Zoë \u2603") -> list[TableRow]:
    return [
        {
            "id": f"r{index:06}",
            "name": f"{name} {index * 7919 % 10_007}",
            "email": f"user{index}@example.com",
            "amount": index * 7919 % 1_000_003 / 100,
            "quantity": index % 97,
            "is_paid": index % 3 == 0,
            "ordered_at": f"2026-{index % 12 + 1:02}-{index % 28 + 1:02}T10:00:{index % 60:02}Z",
            "note": None if index % 5 == 0 else f'"{index}" \\ said\n{{table}}',
        }
        for index in range(start, start + number)
    ]


def messages(rows: Sequence[TableRow], cursor: object = "end", every: int = 10_000) -> list[bytes]:
    """Return records with a state after each `every` rows and at the end."""
    lines = []
    for number, row in enumerate(rows, 1):
        lines.append(record(STREAM, row))
        if number % every == 0 and number < len(rows):
            lines.append(state(STREAM, number))
    return [*lines, state(STREAM, cursor)]


def plan(mode: str) -> dict[str, Any]:
    return catalog(configured(STREAM, SCHEMA, mode, primary_key=[["id"]]))


def sync(connector: Connector, config: object, mode: str, rows: Sequence[TableRow]) -> Outcome:
    lines = [*messages(rows), complete(STREAM)]
    return connector.write(config, plan(mode), lines)


def requests_of(outcome: Outcome) -> int:
    (found,) = re.findall(r"sync_summary .*requests=(\d+)", outcome.text)
    return int(found)


def measure(
    lab: Lab, mode: str, connector: Connector, config: object, rows: Sequence[TableRow]
) -> Outcome:
    """Run a sync that must succeed, and print what it took."""
    began = time.monotonic()
    outcome = sync(connector, config, mode, rows).delivered()
    seconds = time.monotonic() - began
    assert outcome.states[-1]["stream"]["stream_state"] == {"cursor": "end"}
    print(
        f"\n{lab.server.name:14} {mode:13} rows={len(rows):6} seconds={seconds:6.1f} "
        f"requests={requests_of(outcome)}"
        + (f" ({lab.target.why_fewer})" if lab.target.why_fewer else "")
    )
    return outcome


def test_rows_arrive_in_every_mode(lab: Lab, connector: Connector) -> None:
    """Appended, upserted and replaced rows read back equal to the source's."""
    table = lab.table()
    config = lab.filled_in(table)
    assert connector.check(config).check == ("SUCCEEDED", "")
    rows = some_rows(lab.target.rows)
    measure(lab, "append", connector, config, rows)
    lab.holds(table, rows)
    if "append_dedup" in lab.target.modes:
        half = lab.target.rows // 2
        changed = some_rows(lab.target.rows, start=half, name="changed")
        measure(lab, "append_dedup", connector, config, changed)
        rows = rows[:half] + changed
        lab.holds(table, rows)
    else:
        refused = sync(connector, config, "append_dedup", rows[:1])
        assert refused.error[0] == "config_error"
        assert "Describe how in upsert (" in refused.error[1]
    fresh = some_rows(lab.target.rows // 2, start=7, name="fresh")
    measure(lab, "overwrite", connector, config, fresh)
    lab.holds(table, fresh)


def test_one_bad_row_of_a_thousand_is_reported(lab: Lab, connector: Connector) -> None:
    """Under skip all others are in and the bad one is in the report, with the server's reason."""
    table = lab.table()
    number = min(1000, lab.target.rows)
    rows, where = some_rows(number, start=1), number * 617 // 1000
    bad_row = dict(lab.server.facts.bad_row)
    if "id" in bad_row:
        bad_row["id"] = rows[0]["id"]  # the same key twice in one batch
    bad = {**rows[where], **bad_row}
    report = connector.folder / "report.jsonl"
    rejected = {"policy": "skip", "max_rejected": 1, "report_path": str(report)}
    config = lab.filled_in(table, rejected_records=rejected)
    sent = [*rows[:where], bad, *rows[where + 1 :]]
    outcome = sync(connector, config, "append", sent).delivered()
    (line,) = report.read_text().splitlines()
    record = json.loads(line)["record"]
    assert record["data"]["id"] == bad["id"]
    found = record["meta"]["rejection"]
    assert (found["stage"], found["reason"] != "") == ("vendor", True)
    stored = lab.server.facts.bad_row_stored
    kept = [] if stored is None else [{**bad, **stored}]
    lab.holds(table, [*rows[:where], *kept, *rows[where + 1 :]])
    assert str(bad["email"]) not in outcome.text
    print(f"\n{lab.server.name:14} bad row: requests={requests_of(outcome)} code={found['code']}")


def test_a_refused_batch_ends_the_sync_without_showing_rows(lab: Lab, connector: Connector) -> None:
    """Under fail a bad row is a config_error without its values, and no state is acknowledged."""
    table = lab.table()
    rows = some_rows(10, start=1)
    bad_row = dict(lab.server.facts.bad_row)
    if "id" in bad_row:
        bad_row["id"] = rows[0]["id"]
    sent = [*rows[:5], {**rows[5], **bad_row}, *rows[6:]]
    outcome = sync(connector, lab.filled_in(table), "append", sent)
    assert outcome.error[0] == "config_error"
    assert outcome.states == []
    for value in ("example.com", "not a number", "Zo"):
        assert value not in outcome.text


def test_a_wrong_credential_is_a_config_error(lab: Lab, connector: Connector) -> None:
    """A wrong secret fails the check and the sync, is not printed, and nothing is stored."""
    table = lab.table()
    config = lab.filled_in(table)
    is_form = lab.target.preset == "custom_http"
    fields = config["provider"]["api_authentication" if is_form else lab.target.preset]
    (secret,) = {"token", "secret_key", "master_key", "password"} & set(fields)
    fields[secret] = "wrong-Zz9zZz9z"
    named = "api_authentication" if is_form else f"{lab.target.preset}.{secret}"
    status, message = connector.check(config).check
    assert (status, named in message) == ("FAILED", True)
    outcome = sync(connector, config, "append", some_rows(2))
    assert outcome.error[0] == "config_error"
    assert named in outcome.error[1]
    assert "Zz9z" not in outcome.text
    assert outcome.states == []
    assert lab.server.count(table) == 0


def test_no_credential_at_all_is_a_config_error(lab: Lab, connector: Connector) -> None:
    """A server that answers 201 to a request without a credential does not pass for a success."""
    table = lab.table()
    config = lab.config(table, provider={"api_authentication": {"auth_type": "none"}})
    config["provider"].pop("extra_headers", None)
    status, _ = connector.check(config).check
    assert status == "FAILED"
    config["provider"].pop("table_count_path", None)  # so that the first request is the insert
    config["provider"].pop("table_count_value", None)
    outcome = sync(connector, config, "append", some_rows(2))
    assert outcome.error[0] == "config_error"
    assert outcome.states == []
    assert lab.server.count(table) == 0


def test_an_unknown_table_is_a_config_error(lab: Lab, connector: Connector) -> None:
    """A table that is not there ends the sync with its name, also under skip."""
    config = lab.filled_in("no_such_table", rejected_records={"policy": "skip"})
    outcome = sync(connector, config, "append", some_rows(2))
    assert outcome.error[0] == "config_error"
    assert "table" in outcome.error[1]
    assert outcome.states == []


def test_a_column_that_the_table_lacks_is_named_before_the_first_row(
    lab: Lab, connector: Connector
) -> None:
    """With the nearest that it has, in a sync and in check; under skip it is a warning."""
    table = lab.table()
    config = lab.filled_in(table)
    config["tables"][0]["rename"] = [{"field": "note", "column": "nota"}]
    told = f"Table {table} has no column 'nota' (but 'note')."
    assert connector.check(config).check[1].startswith(told)
    outcome = sync(connector, config, "append", some_rows(2))
    assert outcome.error[0] == "config_error"
    assert outcome.error[1].startswith(told)
    assert lab.server.count(table) == 0
    config["rejected_records"] = {"policy": "skip"}
    assert told in sync(connector, config, "append", some_rows(2)).text


def killed_under_way(
    lab: Lab, connector: Connector, moment: Moment, rows: Sequence[TableRow], config: Any
) -> Outcome:
    """Run a sync whose server dies with a write in flight, after a third of the rows."""
    third = len(rows) // 3
    with Relay(lab.server) as relay:
        config["provider"]["api_address"] = relay.base_url
        running = connector.writing(config, plan("append"))
        running.send(*messages(rows[:third], cursor="first"))
        running.wait_for_state()
        relay.kill_at(moment)
        # a connector that cannot send does not read either, so the feeding waits for the restart
        rest = (*messages(rows[third:]), complete(STREAM))
        feeding = threading.Thread(target=running.send, args=rest)
        feeding.start()
        try:
            running.wait_for(lambda line: b"attempt_failed" in line)
        finally:
            relay.restart()
        feeding.join(120)
        return running.finish(240).delivered()


@pytest.mark.parametrize("moment", ["asked", "stored"])
def test_a_server_killed_with_a_write_in_flight_loses_and_doubles_nothing(
    lab: Lab, connector: Connector, moment: Moment
) -> None:
    """Whether the write was stored is counted, or it is safe to repeat; the log says which."""
    table = lab.table()
    rows = some_rows(min(3_000, lab.target.rows))
    config = lab.config(table, batching={"max_wait_seconds": 1, "max_parallel_requests": 1})
    outcome = killed_under_way(lab, connector, moment, rows, config)
    lab.holds(table, rows)
    read_back = re.findall(r"rows_read_back .*sent=(\d+) stored=(\d+)", outcome.text)
    upsert = config["provider"].get("upsert", {}).get("upsert_type")
    if config["provider"].get("repeat_is_safe") or upsert == "insert":
        assert read_back == []
    else:
        ((sent, stored),) = read_back
        assert stored == (sent if moment == "stored" else "0")
    assert "duplicates=possible" not in outcome.text
    print(f"\n{lab.server.name:14} killed at {moment:6}: rows={len(rows)} read_back={read_back}")


def test_rows_sent_again_without_a_count_may_double_and_it_is_said(
    lab: Lab, connector: Connector
) -> None:
    """Where nothing tells and on_ambiguous_write is retry, one batch is in twice."""
    table = lab.table()
    rows = some_rows(900)
    config = lab.config(
        table,
        batching={"max_wait_seconds": 1, "max_parallel_requests": 1},
        provider={"after_lost_answer": "retry", "max_rows_per_request": 100},
    )
    del config["provider"]["table_count_path"], config["provider"]["table_count_value"]
    outcome = killed_under_way(lab, connector, "stored", rows, config)
    found = lab.server.rows(table)
    assert lab.checksum(list({str(row["id"]): row for row in found}.values())) == lab.checksum(rows)
    assert len(found) > len(rows)
    assert len(re.findall("ambiguous_write_repeated .*duplicates=possible", outcome.text)) == 1


def test_more_rows_than_the_server_takes_are_split(lab: Lab, connector: Connector) -> None:
    """A request with too many rows is refused by the server and goes out in parts."""
    table = lab.table()
    max_rows = 4 * (lab.server.facts.max_rows or 0)
    if lab.target.more.get("max_rows_per_request") == 12:
        max_rows = 48  # eight columns make 12 rows of its 100 values
    rows = some_rows(max_rows)
    config = lab.config(
        table, provider={"max_rows_per_request": max_rows, "max_megabytes_per_request": 10}
    )
    outcome = sync(connector, config, "append", rows).delivered()
    lab.holds(table, rows)
    assert requests_of(outcome) > 4


def test_a_body_over_the_servers_limit_is_split(lab: Lab, connector: Connector) -> None:
    """A body larger than the server takes is answered with 413 and goes out in parts."""
    table = lab.table()
    rows = [{**row, "note": "x" * 5000} for row in some_rows(400)]
    config = lab.config(table, provider={"max_megabytes_per_request": 10})
    outcome = sync(connector, config, "append", rows).delivered()
    lab.holds(table, rows)
    assert requests_of(outcome) > 2


def test_a_body_over_a_proxys_limit_is_split(lab: Lab, connector: Connector) -> None:
    """A 413 with an HTML page and a closed connection splits the batch before any server."""
    table = lab.table()
    rows = [{**row, "note": "x" * 4000} for row in some_rows(60)]
    nginx = Nginx(lab.server, max_bytes=16_384)
    start(nginx)
    try:
        config = lab.config(table, provider={"api_address": f"{nginx.base_url}/small"})
        outcome = sync(connector, config, "append", rows).delivered()
    finally:
        nginx.stop()
    lab.holds(table, rows)
    assert requests_of(outcome) > 20  # three rows fit
    assert "attempt_failed" not in outcome.text


def test_a_stream_without_complete_leaves_the_table_as_it_was(
    lab: Lab, connector: Connector
) -> None:
    """The requests that empty a table go out only after the source has completed the stream."""
    table = lab.table()
    old = some_rows(3)
    sync(connector, lab.config(table), "append", old).delivered()
    streams = plan("overwrite")
    streams["streams"][0] |= {"generation_id": 2, "minimum_generation_id": 2, "sync_id": 9}
    outcome = connector.write(lab.config(table), streams, messages(some_rows(5, start=10)))
    assert outcome.error[0] == "transient_error"
    assert outcome.states == []
    lab.holds(table, old)


# --- one server's own traps


def test_a_row_without_a_member_is_sent_with_null(datasette: Lab, connector: Connector) -> None:
    """Rows leave with the same members: Datasette would null what only some of them lack."""
    table = datasette.table()
    rows = some_rows(2, start=1)
    sync(connector, datasette.config(table), "append", rows).delivered()
    partial = [{**rows[0]}, {**rows[1]}]
    del partial[0]["note"], partial[1]["email"]
    sync(connector, datasette.config(table), "append_dedup", partial).delivered()
    datasette.holds(table, [{**rows[0], "note": None}, {**rows[1], "email": None}])


def test_all_rows_of_source_faker_arrive(
    datasette: Lab, connector: Connector, faker_input: FakerInput
) -> None:
    """100,000 records of a real source in three streams read back equal, value by value."""
    tables = {stream: next(names) for stream in faker_input.records}
    nested: set[str] = set()
    for configured_stream in faker_input.catalog["streams"]:
        stream = configured_stream["stream"]
        columns = []
        for name, about in stream["json_schema"]["properties"].items():
            kinds = set(about["type"]) if isinstance(about["type"], list) else {about["type"]}
            columns.append(Column(name, "number" if kinds & {"integer", "number"} else "text"))
            nested |= {name} if "object" in kinds else set()
        datasette.server.create_table(tables[stream["name"]], columns, "id")
    config = datasette.config("unused")
    config["tables"] = [{"stream": stream, "table": table} for stream, table in tables.items()]
    with faker_input.messages.open("rb") as lines:
        outcome = connector.writing(config, faker_input.catalog, stdin=lines).ended(120)
    outcome.delivered()
    for stream, records in faker_input.records.items():
        found = datasette.server.rows(tables[stream])
        for row in found:
            row.update({name: json.loads(str(row[name])) for name in nested & row.keys()})
        assert len(found) == len(records)
        by_id = {row["id"]: row for row in found}
        for sent in records:
            row = by_id[sent["id"]]
            assert {name: value for name, value in row.items() if value is not None} == sent


@pytest.mark.xdist_group(Datasette.name)
def test_the_docs_commands_lead_from_nothing_to_rows_on_a_page(pool: Pool, tmp_path: Path) -> None:
    """The shell block of the docs runs as it stands, but for its port and the installing."""
    server = pool.get(Datasette)
    assert isinstance(server, Datasette)
    block = DOCS.read_text().split("```sh\n")[1].split("```")[0]
    install, commands = block.split("\n", 1)
    (requirement,) = re.findall(r"pip install \. '(.*)' && cd", install)
    assert requirement in (cache_folder() / server.name / "installed").read_text()
    port = str(free_port())
    folders = (str(server.bin), str(Path(COMMAND).parent), os.environ["PATH"])
    with (tmp_path / "printed").open("w") as printed:
        shell = subprocess.Popen(
            ["bash", "-e", "-o", "pipefail", "-c", commands.replace("8201", port)],
            cwd=tmp_path,
            env={**os.environ, "PATH": os.pathsep.join(folders), "TMPDIR": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Datasette stays in its group when the shell has ended
        )
    try:
        assert shell.wait(300) == 0, (tmp_path / "printed").read_text()
        page = requests.get(f"http://localhost:{port}/lab/deals", timeout=60)
        rows = requests.get(f"http://localhost:{port}/lab/deals.json", timeout=60).json()["rows"]
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    assert "13.5" in page.text
    assert rows == [{"id": "a", "amount": 13.5}, {"id": "b", "amount": 20.0}]
    assert "SUCCEEDED" in (tmp_path / "printed").read_text()


@pytest.mark.xdist_group(Datasette.name)
def test_datasettes_default_limit_is_met_by_the_defaults(connector: Connector) -> None:
    """The docs' configuration as it stands fits a Datasette as it stands: no request is refused."""
    server = Datasette(max_rows=100, max_bytes=2 << 20)
    start(server)
    try:
        lab = Lab(TARGETS[0], server)
        table = lab.table()
        config = lab.config(table)
        del (
            config["provider"]["max_rows_per_request"],
            config["provider"]["max_megabytes_per_request"],
        )
        outcome = sync(connector, config, "append", some_rows(1000)).delivered()
        assert requests_of(outcome) == 11  # ten inserts and the count before the first
        lab.holds(table, some_rows(1000))
    finally:
        server.stop()


@pytest.mark.slow_servers
@pytest.mark.xdist_group(ClickHouse.name)
def test_data_clickhouse_can_never_store_is_not_retried(pool: Pool, connector: Connector) -> None:
    """Its 500 for a bad value is met once and not repeated."""
    lab = Lab(next(t for t in TARGETS if t.kind is ClickHouse), pool.get(ClickHouse))
    table = lab.table()
    bad = {**some_rows(1)[0], "amount": "not a number"}
    outcome = sync(connector, lab.config(table), "append", [bad])
    assert outcome.error[0] == "config_error"
    assert "attempt_failed" not in outcome.text


@pytest.mark.slow_servers
@pytest.mark.xdist_group(ParseServer.name)
def test_rows_go_through_a_background_job_of_parse(pool: Pool, connector: Connector) -> None:
    """Its cloud code saves them, and its own record of the job tells when it is over, and how."""
    lab = Lab(next(t for t in TARGETS if t.kind is ParseServer), pool.get(ParseServer))
    table = lab.table()
    job = {
        "job_type": "poll",
        "id": "header:X-Parse-Job-Status-Id",
        "path": "/parse/classes/_JobStatus/{job}",
        "status": "status",
        "done": "succeeded",
        "failed": "failed",
    }
    body = {"body_type": "template", "body_template": '{"table": "{table}", "rows": "{rows}"}'}
    config = lab.config(
        table, provider={"write_path": "/parse/jobs/load", "body": body, "job": job}
    )
    for setting in ("row_template", "results_path", "result_error_member", "error_message_member"):
        del config["provider"][setting]
    rows = some_rows(300)
    sync(connector, config, "append", rows).delivered()
    lab.holds(table, rows)
    bad = {**some_rows(1, start=300)[0], **lab.server.facts.bad_row}
    refused = sync(connector, config, "append", [bad])
    assert refused.error[0] == "config_error"
    assert "job_failed" in refused.error[1]
    assert "schema mismatch" in refused.error[1]
    assert refused.states == []
    lab.holds(table, rows)


# --- nginx in front of Datasette


@pytest.fixture(scope="module")
def nginx(pool: Pool) -> Iterator[Nginx]:
    nginx = Nginx(pool.get(Datasette))
    start(nginx)
    yield nginx
    nginx.stop()


@pytest.mark.parametrize("fault", ["down", "busy", "drop", "lost", "late"])
def test_a_proxys_fault_loses_and_doubles_nothing(
    datasette: Lab, nginx: Nginx, connector: Connector, fault: Fault
) -> None:
    """502, 429, no answer, stored without an answer, 504 but stored: each row is in once.

    Not at the first write: a count that never moved could not tell that nothing was stored.
    """
    table = datasette.table()
    rows = some_rows(3000)
    config = datasette.config(table, provider={"api_address": nginx.url(fault, times=2, after=1)})
    began = time.monotonic()
    outcome = sync(connector, config, "append", rows).delivered()
    seconds = time.monotonic() - began
    datasette.holds(table, rows)
    if fault == "busy":
        waits = re.findall(r"attempt_failed .*?cause='HTTP 429' .*?wait_s=([\d.]+)", outcome.text)
        assert len(waits) == 2
        assert min(map(float, waits)) >= 1  # Retry-After
    else:
        assert "rows_read_back" in outcome.text
    print(
        f"\nnginx {fault:5} rows={len(rows)} requests={requests_of(outcome)} seconds={seconds:.1f}"
    )


def test_an_upsert_through_a_proxys_fault_needs_no_count(
    datasette: Lab, nginx: Nginx, connector: Connector
) -> None:
    """An upsert that got a 504 although it was stored is simply sent again."""
    table = datasette.table()
    rows = some_rows(1000)
    config = datasette.config(table, provider={"api_address": nginx.url("late")})
    del config["provider"]["table_count_path"], config["provider"]["table_count_value"]
    sync(connector, config, "append_dedup", rows).delivered()
    datasette.holds(table, rows)


def test_an_insert_without_an_answer_ends_the_sync_where_nothing_can_tell(
    datasette: Lab, nginx: Nginx, connector: Connector
) -> None:
    """Without a count path and with on_ambiguous_write fail the rows are not sent twice."""
    table = datasette.table()
    config = datasette.config(table, provider={"api_address": nginx.url("lost")})
    del config["provider"]["table_count_path"], config["provider"]["table_count_value"]
    outcome = sync(connector, config, "append", some_rows(100))
    assert outcome.error[0] == "transient_error"
    assert "refusals_store_nothing" in outcome.error[1]
    assert outcome.states == []
    datasette.holds(table, some_rows(100))


@pytest.mark.parametrize(("fault", "is_stored"), [("drop", False), ("lost", True)])
def test_a_count_that_has_not_moved_yet_cannot_say_that_nothing_came(
    datasette: Lab,
    nginx: Nginx,
    connector: Connector,
    fault: Fault,
    is_stored: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    """What came is seen after a first write without an answer; what did not, is not."""
    table = datasette.table()
    settings = {"api_address": nginx.url(fault), "table_count_is_exact": False}
    config = datasette.config(table, provider=settings)
    outcome = sync(connector, config, "append", some_rows(100))
    if is_stored:
        outcome.delivered()
    else:
        assert outcome.error[0] == "transient_error"
        assert "could not tell" in outcome.error[1]
    datasette.holds(table, some_rows(100 if is_stored else 0))


def test_an_overwrite_through_faults_ends_complete(
    datasette: Lab, nginx: Nginx, connector: Connector
) -> None:
    """The emptying and the first insert meet a 504 although they were done; all rows are in."""
    table = datasette.table()
    sync(connector, datasette.config(table), "append", some_rows(10)).delivered()
    rows = some_rows(2500, start=100)
    config = datasette.config(table, provider={"api_address": nginx.url("late", times=2)})
    sync(connector, config, "overwrite", rows).delivered()
    datasette.holds(table, rows)


def test_nginxs_rate_limit_is_kept(datasette: Lab, nginx: Nginx, connector: Connector) -> None:
    """Answers of 429 with Retry-After slow the sync down and cost no row."""
    table = datasette.table()
    rows = some_rows(800)
    provider = {"api_address": f"{nginx.base_url}/rate", "max_rows_per_request": 100}
    outcome = sync(connector, datasette.config(table, provider=provider), "append", rows)
    outcome.delivered()
    datasette.holds(table, rows)
    assert "HTTP 429" in outcome.text
