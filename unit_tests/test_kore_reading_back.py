"""Kore.ai: which rows of a write without an answer are in the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count
from random import Random
from typing import Any

import pytest

from destination_bulk_tables.errors import TransientError
from destination_bulk_tables.http import HttpRequest, Refused
from destination_bulk_tables.messages import Message
from destination_bulk_tables.model import RowBlock, Table
from destination_bulk_tables.outcomes import Context, ReadBack
from destination_bulk_tables.transport import TransportError
from unit_tests.fakes import play
from unit_tests.kore_flows import APPEND, BEFORE, REPLACE, ROWS, STRANGER, block_of, total
from unit_tests.syncs import DEALS, Sync, complete, kore, records, state, sync
from unit_tests.vendors import KoreVendor, Row


def stored(block: RowBlock, *answers: Any, before: int | None = 0) -> Any:
    """Read a block back with these answers."""
    found, *sent = play(kore().stored_rows(APPEND, [block], Context(stored=before)), *answers)
    return found.stored, *sent


THREE = [{"id": "a", "amount": 1}, {"id": "b", "amount": 2}, {"id": "c", "amount": 3}]
PROBELESS: list[Row] = [{"flag": "x"}, {"flag": "y"}]


@pytest.mark.parametrize(
    ("rows", "answer"),
    [
        (THREE, total(-1)),
        (THREE, total(4)),
        (THREE, total(None)),
        (THREE, Refused("http_401", "")),
        (THREE, Refused("http_403", "")),
        (PROBELESS, total(0)),
        (PROBELESS, total(1)),
        (PROBELESS, total(2)),
    ],
)
def test_a_total_that_cannot_be_says_so(rows: list[Row], answer: Any) -> None:
    """One question; doubt is None and not a guess, also about rows nobody can look for."""
    assert stored(block_of(*rows), answer)[0] is None


def test_without_a_first_count_nothing_can_be_told() -> None:
    """The total alone says nothing."""
    assert stored(block_of(*THREE), total(3), before=None)[0] is None


def look(vendor: KoreVendor, *batches: list[Row], before: int = 0) -> set[int] | None:
    """Read the rows of batches back from a vendor."""
    table = Table("deals", DEALS, "append", text_columns=("id",))
    blocks = [block_of(*rows) for rows in batches]
    flow = kore().stored_rows(table, blocks, Context(stored=before))
    try:
        request = next(flow)
        while True:
            request = flow.send(vendor.answer(request))
    except StopIteration as end:
        found: ReadBack = end.value
        return found.stored


@pytest.mark.parametrize(
    ("held", "found"),
    [
        ([], set()),
        (THREE, {0, 1, 2}),
        ([STRANGER] * 3, None),
        (THREE[:1], {0}),
        (THREE[:2], {0, 1}),
        (THREE[1:2], {1}),
        (THREE[1:], {1, 2}),
        ([STRANGER], None),
        ([THREE[2], STRANGER], None),
        ([THREE[0], THREE[2]], {0, 2}),
    ],
)
def test_single_rows_are_looked_for_where_some_are_in(
    held: list[Row], found: set[int] | None
) -> None:
    """A prefix, any subset, and strangers that make it unknown; in one batch, or in several."""
    vendor = KoreVendor()
    vendor.put(held)
    assert look(vendor, THREE) == found
    assert look(vendor, THREE[:1], THREE[1:]) == found


A, B, C = THREE
LONG = [{**A, "note": "x" * 300}, {**A, "note": "y" * 300}]


@pytest.mark.parametrize(
    ("before", "batches", "held", "found"),
    [
        # copies of rows in doubt are told by their number, in whatever batch they are
        ([], [[A, A]], [], set()),
        ([], [[A, A]], [A], {0}),
        ([], [[A, A]], [A, A], {0, 1}),
        ([], [[A], [A, B]], [A, B], {0, 2}),
        ([], [[A, B], [B, C]], [A, B], {0, 1}),
        ([], [[A, B], [B, C]], [B, B, C], {1, 2, 3}),
        # a copy of an answered batch, or of an earlier sync, may stand for one that is missing
        ([A], [[A, B]], [B], None),
        ([A], [[A, B]], [A], {0}),
        ([A], [[A], [B]], [B], None),
        ([A], [[A, B], [B, C]], [B, C], None),
        ([A], [[A]], [], None),
        ([A], [[B], [C]], [C], {1}),
        # rows that differ only where no filter looks: all or none of them, or it cannot be told
        ([], [LONG, [B]], [LONG[1]], None),
        ([], [LONG, [B]], LONG, {0, 1}),
        ([], [LONG, [B]], [B], {2}),
    ],
)
def test_equal_rows_are_counted_over_all_that_is_in_doubt(
    before: list[Row], batches: list[list[Row]], held: list[Row], found: set[int] | None
) -> None:
    """No row counts as stored because a copy of it is: then the number of rows does not agree."""
    vendor = KoreVendor()
    vendor.put([*before, *held])
    assert look(vendor, *batches, before=len(before)) == found


def test_many_equal_rows_are_counted_beyond_a_page() -> None:
    """More copies than a query shows, of rows with few values to tell them by."""
    vendor = KoreVendor()
    rows = [{"id": "a" if i % 3 else "b", "amount": 1} for i in range(600)]
    vendor.put(rows[:450])
    assert look(vendor, rows[:400], rows[400:]) == set(range(450))
    vendor.put([rows[0]] * 10)
    assert look(vendor, rows, before=10) is None


@pytest.mark.parametrize("stored_rows", [1, 7, 100, 150, 249])
@pytest.mark.parametrize("is_prefix", [True, False])
def test_a_large_batch_is_read_back(stored_rows: int, is_prefix: bool) -> None:  # noqa: FBT001
    """More rows than a page: each one that is in is found, in any place."""
    rows = [{"id": f"r{i}", "amount": i} for i in range(250)]
    held = range(stored_rows) if is_prefix else sorted(Random(4).sample(range(250), stored_rows))
    vendor = KoreVendor()
    vendor.put([rows[i] for i in held])
    assert look(vendor, rows) == set(held)


@pytest.mark.parametrize("bulk", ["ordered_partial", "skip_bad"])
@pytest.mark.parametrize(
    ("old", "mode"), [(BEFORE, "append"), (BEFORE, "overwrite"), (ROWS, "overwrite")]
)
def test_rows_of_an_earlier_sync_are_not_taken_for_those_just_sent(
    bulk: Any, old: list[Row], mode: Any
) -> None:
    """They have the same ids, or even the same values where a table is replaced."""
    vendor = KoreVendor(bulk=bulk, is_bad=lambda row: row["id"] in {"d2", "d7"})
    vendor.put(old)
    done = sync("kore", mode, REPLACE, vendor=vendor).run()
    assert (done.error, done.acknowledged, done.rejected_ids) == (None, [1], ["d2", "d7"])
    rows = [row for row in vendor.rows() if mode == "overwrite" or row not in old]
    assert sorted(row["id"] for row in rows) == [f"d{i}" for i in range(10) if i not in {2, 7}]


Script = list[Message | float]


def batch(first: int, count: int = 4) -> list[Row]:
    """Rows with consecutive numbers."""
    return [{"id": str(i), "name": f"n{i}", "amount": i} for i in range(first, first + count)]


CUT = TransportError("maybe", "the connection broke", "broken")


def disturbed(
    vendor: KoreVendor,
    mode: Any,
    script: Script,
    writes: Mapping[int, Callable[[Callable[[HttpRequest], Any], HttpRequest], object]],
    **more: Any,
) -> Sync:
    """A sync of which some inserts end without an answer, after what `writes` does then."""
    done = sync("kore", mode, script, vendor=vendor, max_rows=4, **more)
    apply, inserts = done.transport.answer, count(1)

    def answer(request: HttpRequest) -> Any:
        if request.path.endswith("/bulk"):
            disturb = writes.get(next(inserts))
            if disturb is not None:
                disturb(apply, request)
                raise CUT
        return apply(request)

    done.transport.answer = answer
    return done.run()


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("number", [1, 2])
def test_a_foreign_row_does_not_hide_a_lost_batch(slots: int, number: int) -> None:
    """A bot writes as many rows as are lost: the rows are not there, whatever the total says."""
    vendor = KoreVendor()
    script: Script = [
        records(batch(1)),
        state(1),
        records(batch(5, number)),
        state(2),
        complete(),
    ]

    def bot(*_: Any) -> None:
        vendor.put([{"id": f"bot{i}"} for i in range(number)])

    done = disturbed(vendor, "append", script, {2: bot}, slots=slots)
    assert (done.error, done.acknowledged) == (None, [1, 2])
    ids = [row["id"] for row in vendor.rows() if not row["id"].startswith("bot")]
    assert sorted(ids) == [str(i) for i in range(1, 5 + number)]


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_disagreement_ends_the_sync_where_that_was_chosen(mode: Any) -> None:
    """`fail`: the total says all, the rows are not there; a replaced table keeps its old rows."""
    vendor = KoreVendor()
    vendor.put([{"id": "old"}])
    script: Script = [records([*batch(1), *batch(5, 2)]), state(1), complete()]

    def bot(*_: Any) -> None:
        vendor.put([{"id": "bot1"}, {"id": "bot2"}])

    settings = {"on_ambiguous_write": "fail"}
    done = disturbed(vendor, mode, script, {2: bot}, settings=settings)
    assert isinstance(done.error, TransientError)
    assert "on_ambiguous_write" in done.error.message
    assert (done.acknowledged, vendor.rows()[0]) == ([], {"id": "old"})


def test_foreign_rows_and_a_lost_batch_do_not_pass_for_a_replaced_table() -> None:
    """Both totals of the replace would be right; no old row is deleted."""
    vendor = KoreVendor()
    vendor.put([{"id": "old"}])
    script: Script = [records([*batch(1), *batch(5, 2)]), state(1), complete()]

    def bot(*_: Any) -> None:
        vendor.put([{"id": "bot1"}, {"id": "bot2"}])

    done = disturbed(vendor, "overwrite", script, {2: bot})
    assert isinstance(done.error, TransientError)
    assert (done.acknowledged, vendor.rows()[0]) == ([], {"id": "old"})


def test_an_insert_that_is_applied_late_does_not_hide_a_lost_batch() -> None:
    """It doubles its own rows, which nobody can help; the next batch of its size goes in."""
    vendor = KoreVendor()
    script: Script = [
        records(batch(1)),
        state(1),
        records(batch(5)),
        state(2),
        complete(),
    ]
    late: list[HttpRequest] = []

    def applied_late(apply: Callable[[HttpRequest], Any], _: HttpRequest) -> None:
        apply(late[0])

    done = disturbed(
        vendor, "append", script, {1: lambda _, request: late.append(request), 3: applied_late}
    )
    assert (done.error, done.acknowledged) == (None, [1, 2])
    ids = Counter(row["id"] for row in vendor.rows())
    assert ids == {**{str(i): 2 for i in range(1, 5)}, **{str(i): 1 for i in range(5, 9)}}


def test_foreign_deletes_do_not_pass_for_a_batch_that_is_not_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As many rows went as came: the rows are there. What cannot be told is never silent."""
    vendor = KoreVendor()
    script: Script = [
        records(batch(1)),
        state(1),
        records(batch(5)),
        state(2),
        complete(),
    ]

    def dialog(apply: Callable[[HttpRequest], Any], request: HttpRequest) -> None:
        apply(request)
        del vendor.tables["deals"][:4]

    done = disturbed(vendor, "append", script, {2: dialog})
    assert (done.error, "duplicates=possible" in caplog.text) == (None, True)
    vendor.tables["deals"].clear()
    settings = {"on_ambiguous_write": "fail"}
    done = disturbed(vendor, "append", script, {2: dialog}, settings=settings)
    assert isinstance(done.error, TransientError)
    assert [row["id"] for row in vendor.rows()] == ["5", "6", "7", "8"]
