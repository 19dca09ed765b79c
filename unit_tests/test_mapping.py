"""What entries of `tables` make of a stream's records, from the config to the encoded rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from random import Random
from typing import Any, Literal, cast

import msgspec
import pytest
from msgspec import Raw

from destination_bulk_tables import commands
from destination_bulk_tables.catalog import StreamPlan, plan_streams
from destination_bulk_tables.config import Config
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.mapping import Constant, TableEntry, table_name
from destination_bulk_tables.messages import Message, RecordRun, StateMessage
from destination_bulk_tables.model import JsonObject, JsonValue, RowBlock, StreamKey
from destination_bulk_tables.rows import RowCodec
from destination_bulk_tables.spool import DiskBudget
from destination_bulk_tables.sync import make_lane, require_possible
from unit_tests.fakes import cut_after
from unit_tests.syncs import DEALS, catalog_of, complete, records, state, sync
from unit_tests.vendors import KoreVendor

QOBRA: JsonObject = {"provider_type": "qobra", "api_key": "k"}
KORE: JsonObject = {
    "provider_type": "kore",
    "host": "https://kore.example.com",
    "authentication": {"auth_type": "jwt_app", "client_id": "c", "client_secret": "s" * 40},
}
CUSTOM: JsonObject = {
    "provider_type": "custom_http",
    "base_url": "https://api.example.com",
    "write_path": "/{table}",
    "authentication": {"auth_type": "none"},
    "body": {"body_type": "array"},
    "check_path": "/",
}
PROVIDERS = {"qobra": QOBRA, "kore": KORE, "custom_http": CUSTOM}
Name = Literal["qobra", "kore", "custom_http"]
SCHEMA: JsonObject = {
    "properties": {
        "id": {"type": "string"},
        "to": {"type": ["null", "string"]},
        "paid": {"type": ["null", "boolean"]},
        "amount": {"type": ["null", "number"]},
        "at": {"type": ["null", "string"], "format": "date-time"},
    }
}
SALT = "pepper-and-salt"


def stream(**members: Any) -> JsonObject:
    """One configured stream; `schema` and `namespace` describe it."""
    about: JsonObject = {"name": members.pop("name", "deals")}
    about["json_schema"] = members.pop("schema", SCHEMA)
    if "namespace" in members:
        about["namespace"] = members.pop("namespace")
    mode = members.pop("mode", "append")
    return {"stream": about, "destination_sync_mode": mode, **members}


def config_of(provider: Name = "qobra", **settings: JsonValue) -> Config:
    return commands.parse_config({"provider": PROVIDERS[provider], **settings})


def plans(
    *streams: JsonValue, provider: Name = "qobra", **settings: JsonValue
) -> dict[StreamKey, StreamPlan]:
    return plan_streams({"streams": list(streams)}, config_of(provider, **settings))


def plan(configured: JsonObject, provider: Name = "qobra", **settings: JsonValue) -> StreamPlan:
    (one,) = plans(configured, provider=provider, **settings).values()
    return one


def codec_of(
    entry: JsonObject, provider: Name = "qobra", configured: JsonObject | None = None, **more: Any
) -> RowCodec:
    config = config_of(provider, tables=[{"stream": "deals", **entry}], **more)
    streams: list[JsonValue] = [configured or stream()]
    (one,) = plan_streams({"streams": streams}, config).values()
    return make_lane(one, config, DiskBudget("/tmp", 10**6)).codec  # noqa: S108


def encoded(codec: RowCodec, records: Sequence[Any], times: Sequence[Any] = ()) -> RowBlock:
    """All rows, which must be good, and the same when the reader decodes them with their lines."""
    raws = [Raw(record if isinstance(record, bytes) else dumped(record)) for record in records]
    stamps = [Raw(json.dumps(time).encode()) for time in times]
    block, rejected = codec.encode(raws, stamps)
    assert rejected == []
    for row_type in codec.row_types:
        try:
            rows = [msgspec.json.decode(raw, type=row_type) for raw in raws]
        except msgspec.ValidationError:
            continue
        again, rejected = codec.encode_rows(rows, stamps)
        assert (again.rows(), again.keys, again.cursors) == (
            block.rows(),
            block.keys,
            block.cursors,
        )
    return block


def dumped(record: Any) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()


def rows_of(codec: RowCodec, records: Sequence[Any], times: Sequence[Any] = ()) -> list[Any]:
    return [json.loads(row) for row in encoded(codec, records, times).rows()]


RECORD: dict[str, Any] = {"id": "a", "to": "x", "paid": True, "amount": 1.5, "at": None}


# --- rename and exclude


def test_a_rename_leaves_all_other_columns() -> None:
    """One reserved word does not cost a list of all fields."""
    codec = codec_of({"rename": [{"field": "to", "column": "recipient"}], "exclude": ["at"]})
    assert rows_of(codec, [RECORD]) == [{"id": "a", "recipient": "x", "paid": True, "amount": 1.5}]


@pytest.mark.parametrize("exclude", ["at\n paid \n", ["at", "paid"]])
def test_excluded_fields_are_lines_or_a_list(exclude: Any) -> None:
    """The form has a box of lines, a config by hand a list."""
    one = plan(stream(), tables=[{"stream": "deals", "exclude": exclude}])
    assert one.table.columns == ("id", "to", "amount")


COLUMN: JsonObject = {"field": "id", "column": "id"}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"rename": [{"field": "nope", "column": "x"}]}, r"'nope'.*tables\[\]\.rename"),
        ({"exclude": ["nope"]}, r"'nope'.*tables\[\]\.exclude"),
        ({"exclude": ["to"], "rename": [{"field": "to", "column": "x"}]}, "'to' is in"),
        ({"rename": [{"field": "to", "column": "paid"}]}, "two fields go to the column 'paid'"),
        ({"rename": [COLUMN, COLUMN]}, "listed twice"),
        ({"columns": [COLUMN], "rename": [COLUMN]}, "lists all columns"),
        ({"columns": [COLUMN], "exclude": ["to"]}, "lists all columns"),
        ({"constants": [{"column": "to", "value": "x"}]}, "adds the column 'to'"),
        (
            {
                "constants": [{"column": "x", "value": "x"}],
                "message_columns": [{"column": "x", "holds": "stream"}],
            },
            "adds the column 'x'",
        ),
    ],
)
def test_an_entry_that_contradicts_itself_is_a_config_error(entry: Any, words: str) -> None:
    """A misspelt exclude would send what it should keep back."""
    with pytest.raises(ConfigError, match=words):
        plan(stream(), tables=[{"stream": "deals", **entry}])


# --- columns that no field feeds


@pytest.mark.parametrize("provider", ["qobra", "kore", "custom_http"])
@pytest.mark.parametrize("name", ["origin", 'with "quotes"'])
def test_constants_are_in_each_row(provider: Name, name: str) -> None:
    """Beside every field, also beside records that hold nothing, and whatever the column's name."""
    codec = codec_of({"constants": [{"column": name, "value": 'shop "1"'}]}, provider)
    rows = rows_of(codec, [RECORD, {"id": "b"}])
    assert [row[name] for row in rows] == ['shop "1"'] * 2
    assert [row["id"] for row in rows] == ["a", "b"]


MESSAGE: JsonValue = [
    {"column": "_at", "holds": "emitted_at"},
    {"column": "_stream", "holds": "stream"},
    {"column": "_namespace", "holds": "namespace"},
    {"column": "_generation", "holds": "generation_id"},
]


@pytest.mark.parametrize(
    ("provider", "first", "second"),
    [
        ("qobra", "2023-11-14", "2023-11-14"),
        ("kore", "2023-11-14T22:13:20.007Z", "2023-11-14T22:13:21.000Z"),
        ("custom_http", "2023-11-14T22:13:20.007Z", "2023-11-14T22:13:21.000Z"),
    ],
)
def test_the_message_says_more_than_its_data(provider: Name, first: str, second: str) -> None:
    """The time of emission differs from row to row, the rest is one for the stream."""
    configured = stream(namespace="crm", generation_id=7, minimum_generation_id=0)
    codec = codec_of({"message_columns": MESSAGE}, provider, configured)
    assert codec.wants_time
    rows = rows_of(codec, [RECORD, {"id": "b"}], [1_700_000_000_007, 1_700_000_001_000.5])
    added = [{name: row[name] for name in row if name[0] == "_"} for row in rows]
    rest = {"_stream": "deals", "_namespace": "crm", "_generation": 7}
    assert added == [{"_at": first, **rest}, {"_at": second, **rest}]


def test_what_a_message_lacks_is_null() -> None:
    """No namespace, no generation, a time that is none."""
    codec = codec_of({"message_columns": MESSAGE})
    [row] = rows_of(codec, [{"id": "b"}], [None])
    assert (row["_at"], row["_namespace"], row["_generation"]) == (None, None, None)
    codec = codec_of({"message_columns": MESSAGE}, "kore")
    assert rows_of(codec, [{"id": "b"}]) == [{"id": "b", "_stream": "deals"}]


# --- tables and ids


@pytest.mark.parametrize(
    ("pattern", "key", "name"),
    [
        (None, StreamKey("crm", "deals"), "deals"),
        ("{namespace}_{stream}", StreamKey("crm", "deals"), "crm_deals"),
        ("{namespace}_{stream}", StreamKey(None, "deals"), "deals"),
        ("raw_{namespace}__{stream}_v1", StreamKey(None, "deals"), "raw_deals_v1"),
        ("raw_{stream}", StreamKey("crm", "{namespace}"), "raw_{namespace}"),
    ],
)
def test_a_pattern_names_tables(pattern: str | None, key: StreamKey, name: str) -> None:
    """A stream without a namespace has no stray separator."""
    assert table_name(pattern, key) == name


def test_an_entry_wins_over_the_pattern() -> None:
    """A table that is named keeps its name; an entry about columns leaves the pattern."""
    found = plans(
        *(stream(name="deals"), stream(name="calls"), stream(name="notes")),
        table_name_pattern="crm_{stream}",
        tables=[{"stream": "deals", "table": "d"}, {"stream": "calls", "exclude": ["at"]}],
    )
    assert [one.table.name for one in found.values()] == ["d", "crm_calls", "crm_notes"]


@pytest.mark.parametrize("pattern", ["crm", "{namespace}", "{stream}_{x}", "{{stream}}"])
def test_a_pattern_that_cannot_tell_streams_apart_is_refused(pattern: str) -> None:
    """It would send all of them to one table, or braces to the vendor."""
    with pytest.raises(ConfigError, match="table_name_pattern"):
        config_of(table_name_pattern=pattern)


def test_each_table_may_have_its_own_id_column() -> None:
    """Keys differ from stream to stream; the setting of the provider is for the others."""
    schema: JsonObject = {"properties": {"key": {"type": "string"}, "n": {"type": "integer"}}}
    configured = stream(schema=schema, mode="append_dedup", primary_key=[["key"]])
    config = config_of(tables=[{"stream": "deals", "id_field": "key"}])
    (one,) = plan_streams({"streams": [configured]}, config).values()
    require_possible([one], config)
    codec = codec_of({"id_field": "key"}, configured=configured)
    block, rejected = codec.encode([Raw(b'{"key":"a","n":1}'), Raw(b'{"key":"","n":1}')])
    assert (block.keys, [row.code for row in rejected]) == (["a"], ["bad_key"])
    with pytest.raises(ConfigError, match="id_field"):
        plan(stream(), "kore", tables=[{"stream": "deals", "id_field": "key"}])


# --- masks


def sha(text: str) -> str:
    return hashlib.sha256(f"{SALT}{text}".encode()).hexdigest()


def masked(kind: str, *fields: str, **more: Any) -> JsonObject:
    return {"rename": [{"field": f, "column": f, "mask": kind, **more} for f in fields]}


@pytest.mark.parametrize("provider", ["qobra", "kore"])
def test_masks_hide_values_of_every_type(provider: Name) -> None:
    """Null stays null; equal numbers have one hash; the rest of the row is as it was."""
    fields = ("to", "paid", "amount", "at")
    records = [
        b'{"id":"a","to":"x","paid":true,"amount":1.50,"at":"2024-01-01T00:00:00Z"}',
        b'{"id":"b","to":{"y": 1},"paid":null,"amount":15e-1}',
    ]
    hashes = rows_of(codec_of(masked("hash", *fields), provider, mask_salt=SALT), records)
    assert hashes[0]["to"] == sha("x")
    assert hashes[0]["paid"] == sha("true")
    assert hashes[0]["amount"] == hashes[1]["amount"] == sha("1.5")
    assert hashes[1]["to"] == sha('{"y":1}')
    assert hashes[1].get("paid") is hashes[1].get("at") is None
    redacted = rows_of(codec_of(masked("redact", *fields), provider), records)
    assert redacted[0] == {"id": "a", **dict.fromkeys(fields, "***")}
    short = rows_of(codec_of(masked("truncate", *fields, mask_length=2), provider), records)
    assert short[0] == {"id": "a", "to": "x", "paid": "tr", "amount": "1.", "at": "20"}


def test_a_masked_key_is_the_hash() -> None:
    """Rows are found by what is sent."""
    configured = stream(mode="append_dedup", primary_key=[["id"]])
    codec = codec_of(masked("hash", "id"), configured=configured, mask_salt=SALT)
    assert encoded(codec, [RECORD]).keys == [sha("a")]


@pytest.mark.parametrize("kind", ["redact", "truncate"])
@pytest.mark.parametrize(("provider", "mode"), [("qobra", "append"), ("kore", "append_dedup")])
def test_a_key_is_hashed_or_left(kind: str, provider: Name, mode: str) -> None:
    """Any other mask would make many rows one."""
    entry = masked(kind, "id", mask_length=3)
    configured = stream(mode=mode, primary_key=[["id"]])
    with pytest.raises(ConfigError, match="'id' identifies rows"):
        plan(configured, provider, tables=[{"stream": "deals", **entry}])


@pytest.mark.parametrize(
    ("entry", "words"),
    [(masked("hash", "to"), "mask_salt"), (masked("truncate", "to"), "mask_length")],
)
def test_a_mask_says_what_it_lacks(entry: JsonObject, words: str) -> None:
    """A hash without a secret is undone by a list of likely values."""
    with pytest.raises(ConfigError, match=words):
        config_of(tables=[{"stream": "deals", **entry}])


# --- coercion


COERCED: list[tuple[str, str, Any]] = [
    ("to", "12", "12"),
    ("to", "1.50", "1.50"),
    ("to", "true", "true"),
    ("to", '"x"', "x"),
    ("to", "null", None),
    ("paid", "1", True),
    ("paid", "0.0", False),
    ("paid", '"true"', True),
    ("paid", '"Y"', "Y"),
    ("paid", "2", 2),
    ("amount", '"12.5"', 12.5),
    ("amount", '"1,5"', "1,5"),
    ("amount", '""', ""),
    ("amount", "true", 1),
    ("amount", "false", 0),
    ("amount", "3", 3),
]


@pytest.mark.parametrize(("field", "token", "value"), COERCED)
def test_scalars_become_what_their_column_declares(field: str, token: str, value: Any) -> None:
    """Where that is beyond doubt; anything else is left to the vendor, as without the setting."""
    record = f'{{"id":"a","{field}":{token}}}'.encode()
    [row] = rows_of(codec_of({}, coerce_scalars=True), [record])
    assert (row[field], type(row[field])) == (value, type(value))
    [plain] = rows_of(codec_of({}), [record])
    assert plain[field] == json.loads(token)


def test_coerced_booleans_reach_a_vendor_without_booleans_as_it_wants_them() -> None:
    """Kore.ai gets one spelling of a boolean, however the source spells it."""
    records = [{"id": str(i), "paid": value} for i, value in enumerate([1, True, "0", False])]
    rows = rows_of(codec_of({}, "kore", coerce_scalars=True), records)
    assert [row["paid"] for row in rows] == ["true", "true", "false", "false"]


# --- nulls


@pytest.mark.parametrize(
    ("provider", "settings", "row"),
    [
        ("qobra", {}, {"id": "a", "to": None, "paid": None, "amount": None, "at": None}),
        ("qobra", {"qobra_nulls": "omit"}, {"id": "a"}),
        ("kore", {}, {"id": "a"}),
        ("custom_http", {}, {"id": "a", "to": None, "paid": None, "amount": None, "at": None}),
        ("custom_http", {"nulls": "omit"}, {"id": "a"}),
    ],
)
@pytest.mark.parametrize("mode", ["append", "append_dedup", "overwrite"])
def test_an_absent_member_is_a_null(
    provider: Name, settings: JsonObject, row: JsonObject, mode: str
) -> None:
    """Newer sources leave each null out, so both must mean the same, in each mode."""
    upsert: JsonObject = {"upsert": {"upsert_type": "request", "path": "/u/{table}"}}
    section = {**PROVIDERS[provider], **settings, **(upsert if provider == "custom_http" else {})}
    config = commands.parse_config({"provider": section})
    configured = stream(mode=mode, primary_key=[["id"]])
    (one,) = plan_streams({"streams": [configured]}, config).values()
    codec = make_lane(one, config, DiskBudget("/tmp", 10**6)).codec  # noqa: S108
    for record in ({"id": "a"}, {"id": "a", "to": None, "amount": None}):
        assert rows_of(codec, [record]) == [row]


# --- nested values and cursors


def test_nested_values_stay_json_where_the_api_takes_it() -> None:
    """Only custom_http's servers may have such columns."""
    codec = codec_of({}, "custom_http", nested_values="json")
    assert rows_of(codec, [{"id": "a", "to": {"x": [1]}}])[0]["to"] == {"x": [1]}
    for provider in ("qobra", "kore"):
        with pytest.raises(ConfigError, match="nested_values"):
            config_of(provider, nested_values="json")


def test_a_nested_cursor_is_read_in_its_path() -> None:
    """Where the path does not lead, the row is the oldest."""
    schema: JsonObject = {"properties": {"id": {"type": "string"}, "meta": {"type": "object"}}}
    configured = stream(
        schema=schema, mode="append_dedup", primary_key=[["id"]], cursor_field=["meta", "a", "at"]
    )
    codec = codec_of({}, configured=configured)
    values = [{"a": {"at": "2024"}}, {"a": {}}, {"a": 5}, None, "text"]
    block = encoded(codec, [{"id": str(i), "meta": value} for i, value in enumerate(values)])
    assert block.cursors == [b'"2024"', b"null", b"null", b"null", b"null"]


# --- several streams, one table


def origins(*names: str) -> list[JsonValue]:
    """Entries that send streams to the table `deals`, each with its name in a column."""
    return [
        {"stream": n, "table": "deals", "constants": [{"column": "origin", "value": n}]}
        for n in names
    ]


def both(provider: Name, tables: JsonValue, **members: Any) -> dict[StreamKey, StreamPlan]:
    streams = (stream(name="deals", **members), stream(name="calls", **members))
    return plans(*streams, provider=provider, tables=tables)


def test_streams_share_a_table_where_a_column_tells_their_rows_apart() -> None:
    """The table has the columns of them all."""
    tables = origins("deals", "calls")
    more: JsonObject = {**cast("JsonObject", tables[1]), "exclude": ["paid"], "rename": [RENAMED]}
    found = both("kore", [tables[0], more])
    assert {one.table.name for one in found.values()} == {"deals"}
    assert {one.table.columns for one in found.values()} == {
        ("id", "to", "paid", "amount", "at", "origin", "sum")
    }
    holds: list[JsonValue] = [{"column": "origin", "holds": "stream"}]
    by_name: list[JsonValue] = [
        {"stream": name, "table": "deals", "message_columns": holds} for name in ("deals", "calls")
    ]
    assert len(both("custom_http", by_name)) == 2


RENAMED: JsonObject = {"field": "amount", "column": "sum"}
SAME: list[JsonValue] = [
    {"stream": n, "table": "deals", "constants": [{"column": "origin", "value": "x"}]}
    for n in ("deals", "calls")
]
TIMED: list[JsonValue] = [
    {"stream": n, "table": "deals", "message_columns": [{"column": "at_", "holds": "emitted_at"}]}
    for n in ("deals", "calls")
]


@pytest.mark.parametrize(
    ("provider", "tables", "members"),
    [
        ("kore", [{"stream": "calls", "table": "deals"}], {}),
        ("kore", SAME, {}),
        ("kore", TIMED, {}),
        ("kore", origins("deals", "calls"), {"mode": "overwrite"}),
        ("kore", origins("deals", "calls"), {"mode": "append_dedup", "primary_key": [["id"]]}),
        ("qobra", origins("deals", "calls"), {}),
    ],
)
def test_otherwise_each_stream_has_its_own_table(
    provider: Name, tables: JsonValue, members: Any
) -> None:
    """A replace, a key or an id column of one would take the other's rows."""
    with pytest.raises(ConfigError, match="both go to table 'deals'"):
        both(provider, tables, **members)


CALLS = StreamKey(None, "calls")


@pytest.mark.parametrize("seed", range(12))
def test_rows_and_states_of_a_shared_table(seed: int) -> None:
    """Each row once under lost answers and refusals, and each stream is told of its own."""
    rng = Random(seed)
    script: list[Message | float] = []
    for i in range(24):
        name, key = rng.choice([("d", DEALS), ("c", CALLS)])
        script += [records([{"id": f"{name}{i}", "name": "x", "version": i}], key)]
        script += [state(i, key)] * rng.choice([0, 1])
    script += [state(98), state(99, CALLS), complete(), complete(CALLS)]
    rows = [row for run in script if isinstance(run, RecordRun) for row in run.data]
    ids = [json.loads(bytes(row))["id"] for row in rows]
    bad = set(rng.sample(ids, 3))
    entries = [
        TableEntry(name, table="deals", constants=(Constant("origin", name),))
        for name in ("deals", "calls")
    ]
    vendor = KoreVendor(is_bad=lambda row: row["id"] in bad)
    done = sync(
        "kore",
        "append",
        script,
        catalog=catalog_of("append", "deals", "calls"),
        vendor=vendor,
        tables=tuple(entries),
        slots=rng.choice([1, 3]),
        seed=seed,
        faults={rng.randrange(3, 14): cut_after, rng.randrange(14, 30): cut_after},
    ).run()
    assert done.error is None
    assert sorted(row["id"] for row in vendor.rows()) == sorted(set(ids) - bad)
    assert all(row["origin"][0] == row["id"][0] for row in vendor.rows())
    assert {(r.stream, json.loads(r.row)["id"]) for r in done.rejects.rows} == {
        (DEALS if one[0] == "d" else CALLS, one) for one in bad
    }
    for key in (DEALS, CALLS):
        mine = [one for one in ids if one[0] == key.name[0]]
        counts = done.progress.counts[key]
        assert (counts.read, counts.rejected) == (len(mine), len(bad & set(mine)))
        assert counts.delivered == len(mine) - counts.rejected
        numbers = [
            message.state
            for message in script
            if isinstance(message, StateMessage) and message.scope == key
        ]
        told = [s for s in done.states if s["stream"]["stream_descriptor"]["name"] == key.name]
        assert [s["stream"] for s in told] == [json.loads(text)["stream"] for text in numbers]
        assert sum(s["destinationStats"]["recordCount"] for s in told) == counts.delivered
