"""The question which columns a table has: how it is asked, read, and done without."""

from __future__ import annotations

import json
from typing import Any

import pytest

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import HttpRequest, HttpResponse, Refused
from destination_bulk_tables.known_columns import ask_columns
from destination_bulk_tables.providers.custom_http.table_columns import kind_of
from unit_tests.custom_forms import Wire, answer, made, run
from unit_tests.fakes import scripted

PATH = {"table_columns_path": "/t/{table}/columns"}
NAMED = PATH | {"table_columns_name": "name", "table_columns_type": "is.type"}


def asked(response: HttpResponse, table: str = "deals", **form: Any) -> Any:
    provider = made(**form)
    return run(provider, provider.columns(table), response)


def asked_nothing() -> Any:
    provider = made()
    return run(provider, provider.columns("deals"))


@pytest.mark.parametrize(
    ("form", "body", "expected"),
    [
        (PATH, ["id", "n"], {"id": None, "n": None}),
        (PATH | {"table_columns_list": "0.c"}, [{"c": ["id"]}], {"id": None}),
        (
            NAMED,
            [{"name": "id", "is": {"type": "BIGINT"}}, {"name": "n"}],
            {"id": "number", "n": None},
        ),
        (
            {
                "table_columns_path": "/",
                "table_columns_list": "of.{table}.has",
                "table_columns_type": "format",
            },
            {"of": {"deals": {"has": {"id": {"format": "text"}}}, "calls": {"has": {"x": {}}}}},
            {"id": "text"},
        ),
    ],
)
def test_columns_are_read_where_the_form_says(
    form: dict[str, Any], body: Any, expected: dict[str, str]
) -> None:
    """A list of names, a list of objects, or an object with a member for each."""
    assert asked(answer(200, body), **form) == expected


def test_a_table_with_dots_is_one_member() -> None:
    """Its name is no path."""
    form = {"table_columns_path": "/", "table_columns_list": "of.{table}"}
    assert asked(answer(200, {"of": {"a.b": ["id"]}}), "a.b", **form) == {"id": None}


@pytest.mark.parametrize(
    "response",
    [
        answer(200, {"columns": {}}),
        answer(200, []),
        answer(200, [{"label": "id"}]),
        answer(200, [{"name": "id"}, {"title": "n"}]),
        answer(200, b"<html>"),
        answer(200, b""),
    ],
)
def test_what_cannot_be_read_is_unknown(response: HttpResponse) -> None:
    """Also where one column of several has no name: half a list would miss good columns."""
    assert asked(response, **NAMED) is None
    assert asked(answer(200, {"error": "none"}), **PATH) is None


@pytest.mark.parametrize("status", [301, 400, 403, 404, 405, 418, 501])
def test_a_question_that_is_refused_ends_nothing(status: int) -> None:
    """Whatever such a status means for a write."""
    provider = made(**PATH)
    wire = Wire(provider, scripted(answer(status, {"errors": ["no"]})))
    assert ask_columns("deals", provider, wire.sender.exchange) is None
    assert len(wire.transport.sent) == 1


def test_a_question_is_asked_again_where_the_api_is_busy() -> None:
    """A 429 and a 503 are no refusals."""
    provider = made(**PATH)
    wire = Wire(provider, scripted(answer(429), answer(503), answer(200, ["id"])))
    assert ask_columns("deals", provider, wire.sender.exchange) == {"id": None}


def test_a_token_that_has_ended_is_renewed_for_the_question() -> None:
    """And a 401 that stays is a refusal."""
    provider = made(**PATH)
    wire = Wire(provider, scripted(answer(401), answer(200, ["id"])))
    assert ask_columns("deals", provider, wire.sender.exchange) == {"id": None}
    wire = Wire(provider, scripted(answer(401)))
    with pytest.raises(Refused):
        wire.sender.exchange.run(None, provider.columns("deals"))
    assert len(wire.transport.sent) == 2


def test_a_name_that_does_not_fit_is_not_asked_for() -> None:
    """The sync may do without, so it is no error."""
    provider = made(table_columns_path="/?q=describe {table}")
    sent: list[HttpRequest] = []
    assert run(provider, provider.columns("a b"), sent=sent) is None
    assert sent == []


def test_without_the_setting_nothing_is_asked() -> None:
    """As before there was one."""
    assert asked_nothing() is None


def test_a_question_may_have_a_body() -> None:
    """With the table's name in it."""
    provider = made(
        table_columns_path="/query",
        table_columns_method="POST",
        table_columns_body='{"q": "describe {table}"}',
    )
    sent: list[HttpRequest] = []
    run(provider, provider.columns("deals"), answer(200, ["id"]), sent=sent)
    assert [(r.method, r.path, json.loads(r.body or b"")) for r in sent] == [
        ("POST", "/query", {"q": "describe deals"})
    ]


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"table_columns_list": "fields"}, "table_columns_path is missing"),
        ({"table_columns_path": "/columns"}, "table_columns_path lacks {table}"),
        (PATH | {"table_columns_list": "{tible}"}, "table_columns_list holds {tible}"),
        (PATH | {"table_columns_body": "{}"}, "table_columns_body needs POST"),
    ],
)
def test_settings_that_cannot_work_are_named(form: dict[str, Any], told: str) -> None:
    """When the config is read."""
    with pytest.raises(ConfigError) as caught:
        made(**form)
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ("int INTEGER bigint int4 UInt8 Int64 serial bigserial", "number"),
        ("float8 Float64 real numeric(10,2) Decimal(9,2) number money", "number"),
        ("Nullable(Float64) LowCardinality(Nullable(Int32))", "number"),
        ("text TEXT String FixedString(3) varchar(20) nvarchar citext uuid", "text"),
        ("date DateTime DateTime64(3) timestamptz timestamp autodate", "date"),
        ("bool boolean", "boolean"),
        ("json jsonb point interval int[] text[] Array(String) blob enum8('a') object", None),
    ],
)
def test_types_by_their_names(names: str, kind: str | None) -> None:
    """As PostgreSQL, SQLite, ClickHouse, MySQL and PocketBase call them; others are not judged."""
    assert {name: kind_of(name) for name in names.split()} == dict.fromkeys(names.split(), kind)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("double precision", "number"), ("character varying", "text"), (7, None), (None, None)],
)
def test_types_of_several_words_and_none(name: Any, kind: str | None) -> None:
    """A type that is no text says nothing."""
    assert kind_of(name) == kind
