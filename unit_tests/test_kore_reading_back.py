"""Kore.ai: which rows of a write without an answer are in the table."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from destination_bulk_tables.model import RowBlock, Table
from destination_bulk_tables.provider import (
    Context,
    Refused,
)
from unit_tests.kore_flows import APPEND, BEFORE, REPLACE, ROWS, STRANGER, block_of, total
from unit_tests.syncs import DEALS, kore, sync
from unit_tests.test_qobra import play
from unit_tests.vendors import KoreVendor, Row


def stored(block: RowBlock, *answers: Any, others: int = 0, before: int | None = 0) -> Any:
    """Read a block back with these answers."""
    context = Context(stored=before, others=others)
    return play(kore().stored_rows(APPEND, block, context), *answers)


THREE = [{"id": "a", "amount": 1}, {"id": "b", "amount": 2}, {"id": "c", "amount": 3}]
TWINS = [{"id": "a"}, {"id": "a"}]
PROBELESS: list[Row] = [{"flag": "x"}, {"flag": "y"}]


@pytest.mark.parametrize(
    ("rows", "others", "answer", "found"),
    [
        (THREE, 0, total(0), set()),
        (THREE, 0, total(3), {0, 1, 2}),
        (THREE, 2, total(5), {0, 1, 2}),
        (THREE, 0, total(-1), None),
        (THREE, 0, total(4), None),
        (THREE, 2, total(6), None),
        (THREE, 0, total(None), None),
        (THREE, 0, Refused("http_401", ""), None),
        (THREE, 0, Refused("http_403", ""), None),
        (TWINS, 0, total(1), None),
        (PROBELESS, 0, total(1), None),
    ],
)
def test_the_total_decides_where_it_can(
    rows: list[Row], others: int, answer: Any, found: set[int] | None
) -> None:
    """One question; doubt is None and not a guess."""
    assert stored(block_of(*rows), answer, others=others)[0] == found


def test_without_a_first_count_nothing_can_be_told() -> None:
    """The total alone says nothing."""
    assert stored(block_of(*THREE), total(3), before=None)[0] is None


def look(vendor: KoreVendor, rows: list[Row], others: int, before: int = 0) -> set[int] | None:
    """Read rows back from a vendor."""
    table = Table("deals", DEALS, "append", text_columns=("id",))
    flow = kore().stored_rows(table, block_of(*rows), Context(stored=before, others=others))
    try:
        request = next(flow)
        while True:
            request = flow.send(vendor.answer(request))
    except StopIteration as end:
        found: set[int] | None = end.value
        return found


@pytest.mark.parametrize(
    ("held", "others", "found"),
    [
        (THREE[:1], 0, {0}),
        (THREE[:2], 0, {0, 1}),
        (THREE[1:2], 0, {1}),
        (THREE[1:], 0, {1, 2}),
        ([STRANGER], 1, set()),
        ([STRANGER], 0, None),
        ([THREE[2], STRANGER], 1, {2}),
        ([THREE[2], STRANGER], 0, None),
        ([THREE[0], THREE[2]], 1, {0, 2}),
    ],
)
def test_single_rows_are_looked_for_where_some_are_in(
    held: list[Row], others: int, found: set[int] | None
) -> None:
    """A prefix, any subset, rows of other batches, and strangers that make it unknown."""
    vendor = KoreVendor()
    vendor.put(held)
    assert look(vendor, THREE, others) == found


@pytest.mark.parametrize("stored_rows", [1, 7, 100, 150, 249])
@pytest.mark.parametrize("is_prefix", [True, False])
def test_a_large_batch_is_read_back(stored_rows: int, is_prefix: bool) -> None:  # noqa: FBT001
    """More rows than a page: each one that is in is found, in any place."""
    rows = [{"id": f"r{i}", "amount": i} for i in range(250)]
    held = range(stored_rows) if is_prefix else sorted(Random(4).sample(range(250), stored_rows))
    vendor = KoreVendor()
    vendor.put([rows[i] for i in held])
    assert look(vendor, rows, 0) == set(held)


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
