"""What single servers do that nobody would guess, and that the presets have to be right about.

Each was seen before it was written down in docs/presets.md; here it is seen again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from integration_tests.connector import (
    Connector,
    Outcome,
    catalog,
    complete,
    configured,
    record,
    state,
)
from integration_tests.servers import (
    ClickHouse,
    Column,
    Datasette,
    Eve,
    PocketBase,
    PouchDB,
)
from integration_tests.servers.base import TableRow
from integration_tests.test_custom_http import TARGETS, Lab, Pool, names

pytestmark = pytest.mark.timeout(600)  # the first run installs
TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    for server in pool.running.values():
        server.stop()


def lab_of(pool: Pool, kind: Any) -> Lab:
    return Lab(next(target for target in TARGETS if target.kind is kind), pool.get(kind))


def sync(
    connector: Connector,
    provider: Any,
    table: str,
    rows: list[dict[str, Any]],
    mode: str = "append",
    **settings: Any,
) -> Outcome:
    """Send rows of any columns, each typed by its first value that is not null."""
    kinds: dict[str, str] = {}
    for row in rows:
        kinds |= {name: TYPES[type(row[name])] for name in row if row[name] is not None}
    schema = {name: {"type": ["null", kind]} for name, kind in kinds.items()}
    streams = catalog(configured("s", schema, mode, primary_key=[[next(iter(rows[0]))]]))
    config = {"provider": provider, "tables": [{"stream": "s", "table": table}], **settings}
    lines = [*(record("s", row) for row in rows), state("s", "end"), complete("s")]
    return connector.write(config, streams, lines)


def rows_of(lab: Lab, table: str, *columns: str) -> list[list[Any]]:
    return sorted([row[name] for name in columns] for row in lab.server.rows(table))


# --- ClickHouse


def clickhouse(pool: Pool, columns: str) -> tuple[Lab, str]:
    """A table of these columns."""
    lab, table = lab_of(pool, ClickHouse), next(names)
    server = lab.server
    assert isinstance(server, ClickHouse)
    server.run(f"create table {table} ({columns}) engine = MergeTree order by id")
    return lab, table


@pytest.mark.slow_servers
def test_clickhouse_refuses_a_decimal_with_a_digit_too_many(
    pool: Pool, connector: Connector
) -> None:
    """With a 500 and Code 69, which is the row's fault and not met again and again."""
    lab, table = clickhouse(pool, "id String, d Decimal(18, 2)")
    skip = {"policy": "skip"}
    rows = [{"id": "a", "d": 1.99}, {"id": "b", "d": 1.999}, {"id": "c", "d": 3.25}]
    outcome = sync(connector, lab.config(table)["provider"], table, rows, rejected_records=skip)
    outcome.delivered()
    assert rows_of(lab, table, "id") == [["a"], ["c"]]
    assert "attempt_failed" not in outcome.text


@pytest.mark.slow_servers
def test_clickhouse_stores_rows_that_a_view_refuses(pool: Pool, connector: Connector) -> None:
    """A refused insert is in the table all the same, so each row is counted and is in once."""
    lab, table = clickhouse(pool, "id String, d String")
    server = lab.server
    assert isinstance(server, ClickHouse)
    view = f"create materialized view {table}_v engine = MergeTree order by d as select toDate(d) d"
    server.run(f"{view} from {table}")
    rows = [{"id": f"r{i}", "d": "2026-01-02" if i != 5 else "no date"} for i in range(8)]
    skip = {"policy": "skip"}
    sync(connector, lab.config(table)["provider"], table, rows, rejected_records=skip).delivered()
    assert rows_of(lab, table, "id") == [[f"r{i}"] for i in range(8)]


@pytest.mark.slow_servers
def test_clickhouse_wraps_a_number_out_of_range(pool: Pool, connector: Connector) -> None:
    """It answers 200, so no client can tell; the preset's description does."""
    lab, table = clickhouse(pool, "id String, n UInt8")
    sync(connector, lab.config(table)["provider"], table, [{"id": "a", "n": 300}]).delivered()
    assert rows_of(lab, table, "n") == [[44]]


@pytest.mark.slow_servers
def test_clickhouse_refuses_a_column_that_it_lacks(pool: Pool, connector: Connector) -> None:
    """Also where its own default would drop it."""
    lab, table = clickhouse(pool, "id String")
    rows: list[TableRow] = [{"id": "a", "unknown": 1}]
    refused = sync(connector, lab.config(table)["provider"], table, rows)
    assert refused.error[0] == "config_error"
    assert lab.server.count(table) == 0


# --- Datasette


def test_datasette_has_an_encoding_of_names_of_its_own(pool: Pool, connector: Connector) -> None:
    """A name with a dot is not found, one with a tilde is refused; encoded it is reached."""
    lab = lab_of(pool, Datasette)
    lab.server.create_table("deals.v2", (Column("id"), Column("name")), "id")
    lab.server.create_table("a%b", (Column("id"), Column("name")), "id")
    rows = [{"id": "a", "name": "n"}]
    provider = lab.config("deals.v2")["provider"]
    for name in ("deals.v2", "a~b"):
        assert sync(connector, provider, name, rows).error[0] == "config_error"
    for setting in ("replace", "table_count_path", "table_count_value", "table_count_is_exact"):
        provider.pop(setting, None)
    for setting in [name for name in provider if name.startswith("table_columns")]:
        del provider[setting]
    sync(connector, provider, "deals~2Ev2", rows).delivered()
    assert lab.server.count("deals.v2") == 1
    assert lab.server.count("a%b") == 0


# --- PocketBase


def test_pocketbase_keeps_keys_apart_that_are_one_as_doubles(
    pool: Pool, connector: Connector
) -> None:
    """Numbers are sent as texts, as it reads JSON numbers as doubles, also for a text."""
    lab, table = lab_of(pool, PocketBase), next(names)
    lab.server.create_table(table, (Column("id"), Column("amount", "number")), "id")
    ids = [9007199254740992, 9007199254740993, 1152921504606846976, 1152921504606846977]
    rows: list[TableRow] = [{"id": number, "amount": 12.5} for number in ids]
    sync(connector, lab.config(table)["provider"], table, rows, "append_dedup").delivered()
    assert rows_of(lab, table, "id", "amount") == sorted([str(number), 12.5] for number in ids)


# --- CouchDB, Eve


@pytest.mark.slow_servers
def test_couchdb_wants_keys_of_text(pool: Pool, connector: Connector) -> None:
    """A number as a key is refused, and nothing is stored under a key that was made up."""
    lab, table = lab_of(pool, PouchDB), next(names)
    lab.server.create_table(table, (), "_id")
    refused = sync(connector, lab.config(table)["provider"], table, [{"_id": 7, "name": "n"}])
    assert refused.error[0] == "config_error"
    assert lab.server.count(table) == 0
    sync(connector, lab.config(table)["provider"], table, [{"_id": "7", "name": "n"}]).delivered()


@pytest.mark.slow_servers
def test_eve_gets_no_null(pool: Pool, connector: Connector) -> None:
    """It refuses one in a field that is not nullable, so an absent value stays absent."""
    lab, table = lab_of(pool, Eve), next(names)
    server = lab.server
    assert isinstance(server, Eve)
    text = {"type": "string"}
    server.must("POST", "/_tables", {"name": table, "schema": {"id": text, "note": text}})
    assert server.insert(table, [{"id": "x", "note": None}]).status_code == 422
    rows: list[TableRow] = [{"id": "a", "note": "n"}, {"id": "b", "note": None}]
    sync(connector, lab.config(table)["provider"], table, rows).delivered()
    assert server.count(table) == 2
