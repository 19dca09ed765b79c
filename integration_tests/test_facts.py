"""What single servers do that nobody would guess, and that the presets have to be right about.

Each was seen before it was written down in docs/presets.md; here it is seen again.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

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
    BulkServer,
    ClickHouse,
    Column,
    Datasette,
    Eve,
    PocketBase,
    PouchDB,
    SupabaseOnPostgres,
)
from integration_tests.servers.base import TableRow
from integration_tests.servers.pool import Pool
from integration_tests.test_custom_http import TARGETS, Lab, names

pytestmark = pytest.mark.timeout(600)  # the first run installs
TYPES = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    dict: "object",
    list: "array",
}


def about(server: type[BulkServer]) -> pytest.MarkDecorator:
    """Keep a test with the others of its server."""
    return pytest.mark.xdist_group(server.name)


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
@about(ClickHouse)
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
@about(ClickHouse)
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
@about(ClickHouse)
def test_clickhouse_wraps_a_number_out_of_range(pool: Pool, connector: Connector) -> None:
    """It answers 200, so no client can tell; the preset's description does."""
    lab, table = clickhouse(pool, "id String, n UInt8")
    sync(connector, lab.config(table)["provider"], table, [{"id": "a", "n": 300}]).delivered()
    assert rows_of(lab, table, "n") == [[44]]


@pytest.mark.slow_servers
@about(ClickHouse)
def test_clickhouse_takes_no_time_with_a_zone_and_no_null_for_what_cannot_be_one(
    pool: Pool, connector: Connector
) -> None:
    """A DateTime column refuses `iso`; null becomes 0 with a 200."""
    lab, table = clickhouse(pool, "id String, at DateTime, n Int32")
    provider = lab.config(table)["provider"]
    skip = {"policy": "skip"}
    rows: list[TableRow] = [
        {"id": "a", "at": "2026-01-02T03:04:05Z", "n": 1},
        {"id": "b", "at": "2026-01-02 03:04:05", "n": 2},
        {"id": "c", "at": "2026-01-02 03:04:05", "n": None},
    ]
    sync(connector, provider, table, rows, rejected_records=skip).delivered()
    assert rows_of(lab, table, "id", "n") == [["b", 2], ["c", 0]]


@pytest.mark.slow_servers
@about(ClickHouse)
def test_clickhouse_refuses_a_column_that_it_lacks(pool: Pool, connector: Connector) -> None:
    """Also where its own default would drop it."""
    lab, table = clickhouse(pool, "id String")
    rows: list[TableRow] = [{"id": "a", "unknown": 1}]
    refused = sync(connector, lab.config(table)["provider"], table, rows)
    assert refused.error[0] == "config_error"
    assert lab.server.count(table) == 0


# --- Datasette


@about(Datasette)
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
    sync(connector, provider, "a~b", rows).delivered()  # so no stream may be called so
    assert lab.server.count("a%b") == 1


# --- PocketBase


@about(PocketBase)
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


@about(PocketBase)
def test_a_rate_limit_inside_a_batch_of_pocketbase_costs_no_row(
    pool: Pool, connector: Connector
) -> None:
    """A user's own token is limited: a 400 with a 429 in it is waited for, also under skip."""
    lab, table = lab_of(pool, PocketBase), next(names)
    server = lab.server
    server.create_table(table, (Column("id"), Column("name")), "id")
    assert isinstance(server, PocketBase)
    rules = dict.fromkeys(("createRule", "listRule"), '@request.auth.id != ""')
    server.must("PATCH", f"/api/collections/{table}", rules)
    user = {"email": f"{table}@example.com", "password": "12345678"}
    path = "/api/collections/users"
    server.must("POST", f"{path}/records", {**user, "passwordConfirm": user["password"]})
    login = {"identity": user["email"], "password": user["password"]}
    token = server.must("POST", f"{path}/auth-with-password", login).json()["token"]
    limit = {"label": f"{table}:create", "maxRequests": 20, "duration": 2, "audience": ""}
    server.must("PATCH", "/api/settings", {"rateLimits": {"enabled": True, "rules": [limit]}})
    provider = {**lab.config(table)["provider"], "max_rows_per_request": 8}
    provider["api_authentication"] = {**provider["api_authentication"], "secret": token}
    rows: list[TableRow] = [{"id": f"r{number}", "name": "n"} for number in range(40)]
    try:
        outcome = sync(
            connector, provider, table, rows, rejected_records={"policy": "skip"}
        ).delivered()
    finally:
        server.must("PATCH", "/api/settings", {"rateLimits": {"enabled": False}})
    assert "row_rejected" not in outcome.text
    assert not outcome.text.count("retries=0")
    assert rows_of(lab, table, "id") == sorted([row["id"]] for row in rows)


@about(PocketBase)
def test_pocketbase_stores_a_text_that_is_no_date_as_an_empty_one(
    pool: Pool, connector: Connector
) -> None:
    """It answers 200, so no client can tell; the docs do."""
    lab, table = lab_of(pool, PocketBase), next(names)
    server = lab.server
    server.create_table(table, (Column("id"),), "id")
    assert isinstance(server, PocketBase)
    fields = server.must("GET", f"/api/collections/{table}").json()["fields"]
    fields.append({"name": "at", "type": "date"})
    server.must("PATCH", f"/api/collections/{table}", {"fields": fields})
    rows: list[TableRow] = [
        {"id": "a", "at": "2026-01-02T03:04:05Z"},
        {"id": "b", "at": "02/01/2026"},
        {"id": "c", "at": "1767322800000"},
    ]
    sync(connector, lab.config(table)["provider"], table, rows).delivered()
    assert rows_of(lab, table, "id", "at") == [
        ["a", "2026-01-02 03:04:05.000Z"],
        ["b", ""],
        ["c", ""],
    ]


# --- PostgreSQL behind the API of Supabase


def preview_of(connector: Connector, provider: Any, rows: list[TableRow], nested: str) -> str:
    """The body that would be sent, as `preview` shows it."""
    kinds = {name: {"type": ["null", TYPES[type(rows[0][name])]]} for name in rows[0]}
    folder = connector.folder
    config = {"provider": provider, "nested_values": nested}
    (folder / "config.json").write_text(json.dumps(config))
    streams = catalog(configured("s", kinds, "append"))
    (folder / "catalog.json").write_text(json.dumps(streams))
    files = [f"--{name}={folder}/{name}.json" for name in ("config", "catalog")]
    done = subprocess.run(
        [COMMAND, "preview", *files, "--json", "--offline", "--whole"],
        input=b"\n".join(record("s", row) for row in rows) + b"\n",
        capture_output=True,
        check=False,
    )
    return str(json.loads(done.stdout)["streams"][0]["first_request"]["body"])


@pytest.mark.slow_servers
@about(SupabaseOnPostgres)
def test_postgresql_keeps_nested_values_as_json_where_that_is_set(
    pool: Pool, connector: Connector
) -> None:
    """In jsonb and arrays; as texts they are no objects to PostgREST, whose function is asked."""
    server = pool.get(SupabaseOnPostgres)
    assert isinstance(server, SupabaseOnPostgres)
    assert server.postgres is not None
    server.create(["docs"], "id text primary key, doc jsonb, tags text[]", "id")
    target = next(target for target in TARGETS if target.preset == "supabase")
    provider = Lab(target, server).config("docs")["provider"]
    rows: list[TableRow] = [
        {"id": "a", "doc": {"x": 1, "y": ["ü"]}, "tags": ["p", "q"]},
        {"id": "b", "doc": None, "tags": []},
    ]
    sync(connector, provider, "docs", rows, nested_values="json").delivered()
    assert server.rows("docs") == rows
    paths = "select id, jsonb_typeof(doc), doc->>'x' from {} order by id"
    assert server.postgres.ask(paths.format("docs")) == "a|object|1\nb||"
    # PostgREST makes rows of a body by this function
    as_rows = "json_populate_recordset(null::docs, $body${}$body$)"
    for nested, found in (("json", "a|object|1"), ("json_string", "a|string|")):
        body = preview_of(connector, provider, [{"id": "a", "doc": {"x": 1}}], nested)
        assert server.postgres.ask(paths.format(as_rows.format(body))) == found


# --- CouchDB, Eve


@pytest.mark.slow_servers
@about(PouchDB)
def test_couchdb_wants_keys_of_text(pool: Pool, connector: Connector) -> None:
    """A number as a key is refused, and nothing is stored under a key that was made up."""
    lab, table = lab_of(pool, PouchDB), next(names)
    lab.server.create_table(table, (), "_id")
    refused = sync(connector, lab.config(table)["provider"], table, [{"_id": 7, "name": "n"}])
    assert refused.error[0] == "config_error"
    assert lab.server.count(table) == 0
    sync(connector, lab.config(table)["provider"], table, [{"_id": "7", "name": "n"}]).delivered()


@pytest.mark.slow_servers
@about(PouchDB)
def test_couchdb_makes_up_a_key_where_there_is_none(pool: Pool, connector: Connector) -> None:
    """So its rows are doubled where they are sent again, and the docs say so."""
    lab, table = lab_of(pool, PouchDB), next(names)
    lab.server.create_table(table, (), "_id")
    provider = lab.config(table)["provider"]
    for _ in range(2):
        outcome = sync(connector, provider, table, [{"name": "n"}])
        outcome.delivered()
    assert lab.server.count(table) == 2


@pytest.mark.slow_servers
@about(Eve)
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
