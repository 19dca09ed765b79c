"""Kore.ai: inserts, and the deletes before them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import Ambiguous, Refused
from destination_bulk_tables.messages import Message
from destination_bulk_tables.model import RowBlock, Table, Tombstone
from destination_bulk_tables.outcomes import Context
from unit_tests.fakes import garble, play, status
from unit_tests.kore_flows import APPEND, DEDUP, PAIR, block_of, some, total
from unit_tests.syncs import catalog_of, complete, kore, records, state, sync
from unit_tests.vendors import KoreVendor, Row, answer_of


def test_an_insert() -> None:
    """The name is encoded, rows are wrapped in data, and it must not be repeated blindly."""
    flow = kore().write(APPEND, block_of({"id": "a"}), Context())
    report, [request] = play(flow, answer_of(200, {"records": [{"id": "a"}]}))
    assert request.path == "/api/public/tables/my%20deals/bulk"
    assert request.body == b'{"data":[{"id": "a"}]}'
    assert request.repeat == "unsafe"
    assert report.delivered == 1


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"records":[]}', b'{"records":[1,2]}'])
@pytest.mark.parametrize(("table", "partial"), [(APPEND, True), (DEDUP, False)])
def test_an_answer_that_does_not_list_each_row(
    body: bytes,
    table: Table,
    partial: bool,  # noqa: FBT001
) -> None:
    """It proves nothing; where rows are kept by key, the write can be repeated."""
    block = block_of({"id": "a"}, keys=[b'"a"'])
    deleted = [answer_of(200, {"nDeleted": 0})] if table is DEDUP else []
    is_list = b"[" in body
    with pytest.raises(Refused if partial or is_list else Ambiguous) as caught:
        play(kore().write(table, block, Context()), *deleted, status(200, body))
    assert not isinstance(caught.value, Refused) or caught.value.partial is partial


def test_a_row_whose_answer_was_cut_off_is_not_rejected() -> None:
    """It is kept by key, so it goes in once more: nothing says that it is bad."""
    rows: list[Row] = [{"id": "a", "version": 1}]
    half = garble(lambda body: body[:9])
    done = sync("kore", "append_dedup", [records(rows), complete()], faults={2: half}).run()
    assert (done.error, done.counts) == (None, (1, 1, 0))
    assert [row["id"] for row in done.vendor.rows()] == ["a"]


def test_keyed_rows_are_deleted_first() -> None:
    """One column: one filter of a hundred keys joined by or, while the table is empty."""
    keys = [b'"k%d"' % i for i in range(150)]
    block = block_of(*[{"id": f"k{i}"} for i in range(150)], keys=keys)
    gone = answer_of(200, {"nDeleted": 0})
    answer = answer_of(200, {"records": [{}] * 150})
    _, requests = play(kore().write(DEDUP, block, Context()), total(0), gone, gone, answer)
    assert [r.method for r in requests] == ["POST", "DELETE", "DELETE", "POST"]
    queries = [json.loads(r.body or b"")["query"] for r in requests[1:3]]
    assert [len(query["expressions"]) for query in queries] == [100, 50]
    assert {query["operator"] for query in queries} == {"or"}
    assert queries[1]["expressions"][-1] == {"field": "id", "operand": "=", "value": "k149"}


def test_a_composite_key_takes_a_request_each() -> None:
    """A filter cannot nest, so each key is its columns joined by and."""
    block = block_of({"a": 1, "b": "x"}, keys=[b'1,"x,y"'], tombstones=(Tombstone(1, b'2,"z"'),))
    none, gone = total(0), answer_of(200, {"nDeleted": 0})
    answers = [none, none, gone, gone, answer_of(200, {"records": [{}]})]
    report, requests = play(kore().write(PAIR, block, Context()), *answers)
    queries = [json.loads(r.body or b"")["query"] for r in requests[2:4]]
    assert [query["operator"] for query in queries] == ["and", "and"]
    assert [[e["value"] for e in query["expressions"]] for query in queries] == [
        [1, "x,y"],
        [2, "z"],
    ]
    assert report.delivered == 2


def test_tombstones_alone_insert_nothing() -> None:
    """Only deletes leave."""
    block = RowBlock((), 0, [], keys=[], tombstones=(Tombstone(0, b'"a"'),))
    answers = [answer_of(200, {"nDeleted": n}) for n in (1, 0)]
    report, requests = play(kore().write(DEDUP, block, Context()), *answers)
    assert [r.method for r in requests] == ["DELETE", "DELETE"]
    assert report.delivered == 1


@pytest.mark.parametrize(
    ("table", "keys", "filters"),
    [
        (DEDUP, [b'"k%d"' % i for i in range(150)], [99, 51]),
        (PAIR, [b'1,"x"', b'2,"y"'], [1, 1]),
    ],
)
@pytest.mark.parametrize("total", [True, False])
def test_keys_written_in_doubt_are_counted(
    table: Table,
    keys: list[bytes],
    filters: list[int],
    total: bool,  # noqa: FBT001
) -> None:
    """Each filter asks for fewer keys than a page holds, so that a doubled row shows."""
    block = block_of(*[{}] * len(keys), keys=keys)
    found = [
        answer_of(200, {"queryResult": [{}] * count, **({"total": count} if total else {})})
        for count in filters
    ]
    doubled = answer_of(200, {"queryResult": [{}] * (filters[1] + 1)})
    written = [
        *([some(0)] if table is DEDUP else [some(0)] * 2),
        *[answer_of(200, {"nDeleted": 0})] * 2,
        answer_of(200, {"records": [{}] * len(keys)}),
    ]
    context = Context(repeated=True)
    report, requests = play(kore().write(table, block, context), *written, *found)
    assert report.delivered == len(keys)
    assert [r.path.partition("?")[0].endswith("/query") for r in requests[-2:]] == [True, True]
    with pytest.raises(Ambiguous, match="keys"):
        play(kore().write(table, block, context), *written, found[0], doubled)


COMPOSITE: Any = {"primary_key": [["id"], ["name"]]}


def test_a_composite_key_may_have_an_empty_part() -> None:
    """It is found by null; the rows keep one version each, and a key without any part is none."""
    vendor = KoreVendor()
    rows: list[Row] = [
        {"id": "a", "name": None},
        {"id": "a", "name": "x"},
        {"id": None, "name": "x"},
    ]
    for version in (1, 2):
        found = [{**row, "version": version} for row in [*rows, {"id": None, "name": None}]]
        script: list[Message | float] = [records(found), state(1), complete()]
        catalog = catalog_of("append_dedup", **COMPOSITE)
        done = sync("kore", "append_dedup", script, vendor=vendor, catalog=catalog).run()
        assert (done.error, done.acknowledged) == (None, [1])
        assert [row.code for row in done.rejects.rows] == ["bad_key"]
    kept = [{k: v for k, v in row.items() if v is not None} | {"version": 2} for row in rows]
    assert sorted(vendor.rows(), key=str) == sorted(kept, key=str)


@pytest.mark.parametrize("null", ["unfound", "refused"])
def test_a_filter_that_cannot_find_null_names_the_column(null: Any) -> None:
    """An older version of such a row would stay; no state leaves."""
    vendor = KoreVendor(null=null)
    script: list[Message | float] = [records([{"id": "a", "version": 1}]), state(1), complete()]
    catalog = catalog_of("append_dedup", **COMPOSITE)
    done = sync("kore", "append_dedup", script, vendor=vendor, catalog=catalog).run()
    assert isinstance(done.error, ConfigError)
    assert "no value in name, which is a part of its primary key" in done.error.message
    assert done.acknowledged == []
