"""What each stream of a catalog asks for, as tables of cases."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from destination_bulk_tables import config as configuration
from destination_bulk_tables.catalog import (
    StreamPlan,
    plan_streams,
    similar_names,
    unmatched_entries,
)
from destination_bulk_tables.config import Config
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.model import JsonObject, JsonValue, StreamKey
from destination_bulk_tables.providers import PROVIDERS

TruncateMode = Literal["sync_mode", "always", "never"]
SCHEMA: JsonObject = {
    "properties": {
        "id": {"type": "string"},
        "part": {"type": "integer"},
        "at": {"type": "string", "format": "date-time"},
    }
}


def config_of(**settings: JsonValue) -> Config:
    raw: JsonObject = {"provider": {"provider_type": "qobra", "api_key": "k"}, **settings}
    return configuration.parse(raw, PROVIDERS, is_cloud=False)


def configured(**members: JsonValue) -> JsonObject:
    """One configured stream; what describes the stream goes into its `stream`."""
    stream: JsonObject = {"name": "deals", "json_schema": SCHEMA}
    for member in ("name", "namespace", "json_schema", "source_defined_primary_key"):
        if member in members:
            stream[member] = members.pop(member)
    return {"stream": stream, "destination_sync_mode": "append", **members}


def plan(*streams: JsonValue, **settings: JsonValue) -> dict[StreamKey, StreamPlan]:
    return plan_streams({"streams": list(streams)}, config_of(**settings))


def plan_one(stream: JsonObject, **settings: JsonValue) -> StreamPlan:
    (only,) = plan(stream, **settings).values()
    return only


# --- modes

A, D = "append", "append_dedup"
W, WD = "overwrite", "overwrite_dedup"
ERROR = None
# sync mode; generation, minimum and sync id; then whether the table is replaced under the
# truncate modes sync_mode, always and never
MODES = [
    (A, (None, None, None), False, True, False),
    (A, (0, 0, 1), False, True, False),
    (A, (5, 0, 9), False, True, False),
    (A, (5, 5, 9), True, True, ERROR),
    (A, (1, 1, 2), True, True, ERROR),
    (A, (1, 1, None), True, True, ERROR),
    (A, (2, 2, 1), True, True, ERROR),
    (A, (1, 1, 1), False, True, False),
    (A, (5, 4, 9), ERROR, ERROR, ERROR),
    (A, (None, 4, 9), ERROR, ERROR, ERROR),
    (D, (None, None, None), False, True, False),
    (D, (5, 0, 9), False, True, False),
    (D, (5, 5, 9), True, True, ERROR),
    (D, (1, 1, 1), False, True, False),
    (D, (5, 4, 9), ERROR, ERROR, ERROR),
    (W, (None, None, None), True, True, ERROR),
    (W, (1, 1, 1), True, True, ERROR),
    (W, (5, 5, 9), True, True, ERROR),
    (W, (5, 0, 9), True, True, ERROR),
    (WD, (None, None, None), True, True, ERROR),
    (WD, (1, 1, 1), True, True, ERROR),
]
CASES = [
    pytest.param(mode, ids, truncate, expected, id=f"{mode} {ids} {truncate}")
    for mode, ids, *row in MODES
    for truncate, expected in zip(("sync_mode", "always", "never"), row, strict=True)
]


@pytest.mark.parametrize(("mode", "ids", "truncate", "replaces"), CASES)
def test_when_a_table_is_replaced(
    mode: str, ids: tuple[int | None, ...], truncate: TruncateMode, *, replaces: bool | None
) -> None:
    """By the sync mode, by a truncating refresh, by the setting; 1/1/1 appends; `never` locks."""
    generation, minimum, sync = ids
    stream = configured(
        destination_sync_mode=mode,
        primary_key=[["id"]],
        generation_id=generation,
        minimum_generation_id=minimum,
        sync_id=sync,
    )
    if replaces is None:
        with pytest.raises(ConfigError) as caught:
            plan_one(stream, truncate_mode=truncate)
        assert caught.value.stream == StreamKey(None, "deals")
        assert ("truncate_mode" in caught.value.message) is ("minimum" not in caught.value.message)
        return
    table = plan_one(stream, truncate_mode=truncate).table
    assert table.replace is replaces
    assert table.mode == ("dedup" if mode in {D, WD} else "append")


@pytest.mark.parametrize("mode", ["update", "soft_delete", None, "APPEND", ["append"]])
def test_an_unknown_sync_mode_is_a_config_error(mode: JsonValue) -> None:
    """The message names the stream and what may be chosen."""
    with pytest.raises(ConfigError, match=r"deals.*append, overwrite or append \+ deduped"):
        plan_one(configured(destination_sync_mode=mode))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ({}, False),
        ({"generation_id": None, "sync_id": None}, False),
        ({"generation_id": 0}, True),
        ({"sync_id": 1}, True),
    ],
)
def test_whether_a_status_will_come(ids: JsonObject, *, expected: bool) -> None:
    """A platform that sends ids says COMPLETE at the end; without ids none is waited for."""
    assert plan_one(configured(**ids)).expects_status is expected


# --- streams and tables


@pytest.mark.parametrize(
    "stream",
    [
        {"name": "\ud800"},
        {"name": "s", "namespace": "a\udfff"},
        {"name": "s", "json_schema": {"properties": {"f\ud800": {}}}},
    ],
)
def test_a_name_that_no_request_can_hold_is_a_config_error(stream: JsonObject) -> None:
    """Half of a surrogate pair; the message shows it in a form that can be printed."""
    catalog: JsonObject = {"streams": [{"stream": stream, "destination_sync_mode": "append"}]}
    with pytest.raises(ConfigError, match="surrogate") as caught:
        plan_streams(catalog, config_of())
    caught.value.message.encode()
    assert caught.value.stream is None


@pytest.mark.parametrize(
    ("catalog", "words"),
    [
        (None, "no streams"),
        ([], "no streams"),
        ({}, "no streams"),
        ({"streams": []}, "no streams"),
        ({"streams": ["x"]}, "without a name"),
        ({"streams": [{"name": "deals", "json_schema": SCHEMA}]}, "must be a configured catalog"),
        ({"streams": [{"stream": {}}]}, "without a name"),
        ({"streams": [{"stream": {"name": 5}}]}, "without a name"),
    ],
)
def test_a_catalog_without_streams_is_a_config_error(catalog: JsonValue, words: str) -> None:
    """An empty or unreadable catalog is said to be that."""
    with pytest.raises(ConfigError, match=words):
        plan_streams(catalog, config_of())


@pytest.mark.parametrize("second", [{}, {"namespace": None}, {"namespace": ""}])
@pytest.mark.parametrize("first", [{}, {"namespace": None}, {"namespace": ""}])
def test_a_stream_may_be_listed_once(first: JsonObject, second: JsonObject) -> None:
    """An absent, null and empty namespace are the same."""
    with pytest.raises(ConfigError, match="deals is in the catalog twice"):
        plan(configured(**first), configured(**second))


def test_two_streams_may_not_share_a_table() -> None:
    """By their names alone, or because `tables` sends both there."""
    streams = [configured(namespace="a"), configured(namespace="b")]
    with pytest.raises(ConfigError, match=r"a\.deals and b\.deals both go to table 'deals'"):
        plan(*streams)
    entry: JsonValue = [{"stream": "deals", "namespace": "b", "table": "other"}]
    plans = plan(*streams, tables=entry)
    assert [p.table.name for p in plans.values()] == ["deals", "other"]
    with pytest.raises(ConfigError, match="'tables'"):
        plan(configured(name="x"), configured(), tables=[{"stream": "x", "table": "deals"}])


def test_an_entry_of_no_stream_is_told_with_the_nearest_name() -> None:
    """Rows of `calls` would go to a table `calls`, and nothing would say why."""
    entries: JsonValue = [
        {"stream": "call", "table": "x"},
        {"stream": "calls", "namespace": "crm"},
        {"stream": "zzz"},
        {"stream": "calls"},
        {"stream": "deals", "namespace": "crm"},
    ]
    config = config_of(tables=entries)
    keys = {StreamKey(None, "calls"), StreamKey("crm", "deals")}
    assert unmatched_entries(config, keys) == [
        "tables_entry_of_no_stream stream='call' did_you_mean='calls'",
        "tables_entry_of_no_stream stream='calls' namespace='crm'",
        "tables_entry_of_no_stream stream='zzz'",
    ]


def test_names_that_a_vendor_may_take_for_one_are_told() -> None:
    """Whether it reads names in any case is seldom documented, and a replace empties the other."""
    plans = plan(*(configured(name=name) for name in ("deals", "calls", "Deals", "na\u00efve")))
    first, *others = (one.table for one in plans.values())
    tables = [replace(first, columns=("id", "nai\u0308ve", "ID", "na\u00efve")), *others]
    assert similar_names(tables) == [
        "tables_of_similar_names table='Deals' other='deals'",
        "columns_of_similar_names table='deals' column='ID' other='id'",
        "columns_of_similar_names table='deals' column='na\u00efve' other='nai\u0308ve'",
    ]


def test_the_specific_entry_wins() -> None:
    """An entry with the stream's namespace is taken before a general one, in either order."""
    general: JsonObject = {"stream": "deals", "table": "general"}
    specific: JsonObject = {"stream": "deals", "namespace": "crm", "table": "specific"}
    for tables in ([general, specific], [specific, general]):
        entries: list[JsonValue] = list(tables)
        plans = plan(configured(namespace="crm"), configured(namespace="x"), tables=entries)
        assert [p.table.name for p in plans.values()] == ["specific", "general"]


def test_columns_are_renamed_and_selected() -> None:
    """The table's columns, its key and its text columns have the vendor's names."""
    columns: JsonValue = [
        {"field": "id", "column": "Key"},
        {"field": "at", "column": "When"},
    ]
    stream = configured(
        destination_sync_mode=D, primary_key=[["id"]], cursor_field=["part"], sync_id=1
    )
    one = plan_one(stream, tables=[{"stream": "deals", "columns": columns}])
    assert one.table.columns == ("Key", "When")
    assert one.table.key_columns == ("Key",)
    assert one.table.text_columns == ("Key",)
    assert (one.key_fields, one.cursor_field) == (("id",), "part")


EMPTY: list[JsonObject] = [
    {},
    {"properties": {}},
    {"type": "object", "additionalProperties": True},
    {"$ref": "deals.json"},
    {"$ref": "#/definitions/gone"},
]


@pytest.mark.parametrize("mode", [A, D, W])
@pytest.mark.parametrize("schema", EMPTY)
def test_a_stream_without_columns_is_a_config_error(mode: str, schema: JsonObject) -> None:
    """Its rows would be sent empty; a list of columns is the way out."""
    stream = configured(destination_sync_mode=mode, json_schema=schema, primary_key=[["id"]])
    with pytest.raises(ConfigError, match=r"declares no columns.*tables\[\]\.columns") as caught:
        plan_one(stream)
    assert caught.value.stream == StreamKey(None, "deals")
    columns: JsonValue = [{"field": "id", "column": "id"}]
    one = plan_one(stream, tables=[{"stream": "deals", "columns": columns}])
    assert one.table.columns == ("id",)


FIELDS: JsonObject = {"properties": {"id": {"type": "string"}}}


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [FIELDS]},
        {"$ref": "#/definitions/deal", "definitions": {"deal": FIELDS}},
        {"allOf": [{"$ref": "#/$defs/a~1b"}], "$defs": {"a/b": {"allOf": [FIELDS]}}},
    ],
)
def test_columns_are_seen_behind_references(schema: JsonObject) -> None:
    """A schema may name its fields elsewhere in itself."""
    stream = configured(json_schema=schema, destination_sync_mode=D, primary_key=[["id"]])
    assert plan_one(stream).table.key_columns == ("id",)


# --- keys and cursors


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "needs a primary key"),
        ({"primary_key": []}, "needs a primary key"),
        ({"primary_key": "id"}, "needs a primary key"),
        ({"primary_key": [["id", "deep"]]}, "nested"),
        ({"primary_key": [[]]}, "nested"),
        ({"primary_key": [["gone"]]}, "primary key field 'gone' is not in the stream's schema"),
        ({"primary_key": [["id"]], "cursor_field": ["gone"]}, "cursor field 'gone' is not in"),
        ({"primary_key": [["id"]], "json_schema": {}}, "declares no columns"),
        ({"primary_key": [["part"]]}, "'part' is not sent"),
    ],
)
def test_keys_and_cursors_that_cannot_be(members: JsonObject, words: str) -> None:
    """Each message names the stream and the field."""
    columns: JsonValue = [{"field": "id", "column": "id"}]
    tables: JsonValue = [{"stream": "deals", "columns": columns}] if "part" in words else []
    with pytest.raises(ConfigError, match=words) as caught:
        plan_one(configured(destination_sync_mode=D, **members), tables=tables)
    assert caught.value.stream == StreamKey(None, "deals")
    assert "deals" in caught.value.message


@pytest.mark.parametrize(
    ("members", "keys"),
    [
        ({"primary_key": [["id"], ["part"]]}, ("id", "part")),
        ({"primary_key": ["id"]}, ("id",)),
        ({"primary_key": [["id"], ["id"]]}, ("id",)),
        ({"source_defined_primary_key": [["part"]]}, ("part",)),
        ({"primary_key": [], "source_defined_primary_key": [["part"]]}, ("part",)),
        ({"primary_key": [["id"]], "source_defined_primary_key": [["part"]]}, ("id",)),
    ],
)
def test_where_the_key_comes_from(members: JsonObject, keys: tuple[str, ...]) -> None:
    """The configured key first, else the one the source defines."""
    one = plan_one(configured(destination_sync_mode=D, **members))
    assert one.key_fields == one.table.key_columns == keys


@pytest.mark.parametrize("cursor", [None, [], "at"])
def test_without_a_cursor_arrival_decides(cursor: JsonValue) -> None:
    """A cursor that is absent is no error."""
    stream = configured(destination_sync_mode=D, primary_key=[["id"]], cursor_field=cursor)
    assert plan_one(stream).cursor_field is None


def test_a_nested_cursor_is_a_path() -> None:
    """Its first field must be there; what it holds is seen in the rows."""
    stream = configured(destination_sync_mode=D, primary_key=[["id"]], cursor_field=["at", "b"])
    one = plan_one(stream)
    assert (one.cursor_field, one.cursor_path) == ("at", ("b",))
    stream["cursor_field"] = ["gone", "b"]
    with pytest.raises(ConfigError, match="cursor field 'gone'"):
        plan_one(stream)


def test_an_appended_stream_has_no_key() -> None:
    """A key and a cursor that are configured mean nothing to append, also when they are wrong."""
    one = plan_one(configured(primary_key=[["gone"]], cursor_field=["gone"]))
    assert (one.key_fields, one.cursor_field, one.table.key_columns) == ((), None, ())
