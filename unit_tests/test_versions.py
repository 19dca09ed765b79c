"""The newest version of a key wins, whatever requests its versions go out in."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from destination_bulk_tables.batcher import is_older
from destination_bulk_tables.model import Batch, RowBlock, Table, Tombstone
from destination_bulk_tables.versions import SentVersions
from unit_tests.fakes import cut_after
from unit_tests.syncs import DEALS, complete, records, state, sync
from unit_tests.vendors import Row


@pytest.mark.parametrize("vendor", ["kore", "qobra"])
@pytest.mark.parametrize("max_rows", [1, 2, 3, 100])
@pytest.mark.parametrize("slots", [1, 3])
def test_the_newest_version_wins_whatever_the_batch_borders(
    vendor: Any, max_rows: int, slots: int
) -> None:
    """Versions arrive in any order; each row read counts as delivered."""
    for seed in range(5):
        rows: list[Row] = [{"id": f"k{i % 3}", "version": i} for i in range(12)]
        Random(seed).shuffle(rows)
        done = sync(
            vendor,
            "append_dedup",
            [records(rows), state(1), complete()],
            max_rows=max_rows,
            slots=slots,
            seed=seed,
        ).run()
        assert done.error is None
        found = {row["id"]: row["version"] for row in done.vendor.rows()}
        assert found == {"k0": 9, "k1": 10, "k2": 11}
        assert done.counts == (12, 12, 0)
        assert done.states[0]["destinationStats"] == {"recordCount": 12}


def test_a_deletion_that_is_older_than_the_row_sent_deletes_nothing() -> None:
    """A later deletion does."""
    gone = {"_ab_cdc_deleted_at": "2026-01-01T00:00:00Z"}
    rows = [{"id": "a", "version": 5}, {"id": "a", "version": 3, **gone}]
    done = sync("kore", "append_dedup", [records(rows), complete()], max_rows=1).run()
    assert [row["id"] for row in done.vendor.rows()] == ["a"]
    rows[1]["version"] = 7
    done = sync("kore", "append_dedup", [records(rows), complete()], max_rows=1).run()
    assert done.vendor.rows() == []


@pytest.mark.parametrize("gone", [{}, {"_ab_cdc_deleted_at": "2026-01-01T00:00:00Z"}])
@pytest.mark.parametrize("silence", [0.0, 60.0])
def test_a_version_that_is_settled_is_not_replaced_by_an_older(gone: Row, silence: float) -> None:
    """However long after; one of equal age may, and a newer one does."""
    for version, held in ((4, 5), (5, 5 if not gone else None), (6, 6 if not gone else None)):
        later = {"id": "a", "version": version, **gone}
        script: list[Any] = [
            records([{"id": "a", "version": 5}]),
            silence,
            records([later]),
            complete(),
        ]
        done = sync("kore", "append_dedup", script, max_rows=1, max_wait_s=1.0).run()
        found = [row["version"] for row in done.vendor.rows()]
        assert (done.error, found) == (None, [] if held is None else [held])
        assert done.counts == (2, 2, 0)


@pytest.mark.parametrize("vendor", ["kore", "qobra"])
@pytest.mark.parametrize("under_way", ["b", "c"])
def test_a_late_version_counts_whatever_becomes_of_its_batch(vendor: Any, under_way: str) -> None:
    """All other rows of it wait for their key, or were replaced while it was queued."""
    script: list[Any] = [
        records([{"id": "a", "version": 9}]),
        60.0,
        records([{"id": under_way, "version": 1}, {"id": "d", "version": 1}]),
        records([{"id": "a", "version": 3}, {"id": "b", "version": 2}]),
        records([{"id": "b", "version": 3}, {"id": "e", "version": 1}]),
        state(1),
        complete(),
    ]
    done = sync(vendor, "append_dedup", script, max_rows=2).run()
    assert (done.error, done.acknowledged, done.counts) == (None, [1], (7, 7, 0))
    assert {row["id"]: row["version"] for row in done.vendor.rows()}["b"] == 3


def test_a_late_version_counts_while_its_key_lingers_after_a_lost_answer() -> None:
    """Its row is in the table, and an import that nobody follows may still run."""
    script: list[Any] = [
        records([{"id": "a", "version": 9}]),
        20.0,
        records([{"id": "a", "version": 3}]),
        state(1),
        records([{"id": "a", "version": 10}]),
        state(2),
        records([{"id": "a", "version": 8}]),
        state(3),
        complete(),
    ]
    done = sync("qobra", "append_dedup", script, max_rows=1, faults={1: cut_after}).run()
    assert (done.error, done.acknowledged, done.counts) == (None, [1, 2, 3], (4, 4, 0))
    assert [row["version"] for row in done.vendor.rows()] == [10]


@pytest.mark.parametrize("vendor", ["kore", "qobra"])
def test_late_versions_of_one_batch_take_no_memory(vendor: Any) -> None:
    """Nor less than none, which would make room for others: a sync ends with nothing held."""
    newest, *late = ([{"id": "a", "version": version}] for version in (9, 3, 2, 4))
    script: list[Any] = [records(newest), 60.0, *map(records, late), state(1), complete()]
    done = sync(vendor, "append_dedup", script, max_rows=3).run()
    assert (done.error, done.acknowledged, done.counts) == (None, [1], (4, 4, 0))


def batch_of(**cursors: bytes | None) -> Batch:
    """A batch of rows with these keys; those that begin with a `d` are deletions."""
    rows = {key: cursor or b"null" for key, cursor in cursors.items() if not key.startswith("d")}
    stones = tuple(
        Tombstone(i, key, cursor)
        for i, (key, cursor) in enumerate(cursors.items())
        if key.startswith("d")
    )
    block = RowBlock(
        [b"{}"] * len(rows), len(rows), range(len(rows)), list(rows), list(rows.values()), stones
    )
    return Batch(1, Table("deals", DEALS, "dedup"), block, "rows", keys=frozenset(cursors))


def test_what_is_late_is_told_by_the_version_settled_last() -> None:
    """In the younger generation before the older, which is forgotten when that is full again."""
    versions = SentVersions(most=2)
    batch = batch_of(a=b"3", b=b"3", d1=b"3", d2=None, c=b"3")
    assert versions.late(batch) == set()
    versions.remember([("a", b"5"), ("b", b"2"), ("d1", b"5"), ("d2", b"5")])
    assert versions.late(batch) == {"a", "d1"}
    batch.block.cursors = None
    assert versions.late(batch) == set()  # nothing to compare
    batch = batch_of(a=b"3", b=b"3", d1=b"3", d2=None, c=b"3")
    versions.remember([("a", b"1"), ("b", b"4")])
    assert versions.late(batch) == {"b", "d1"}
    versions.remember([("x", b"1")])
    assert versions.late(batch) == {"b"}
    versions.remember([("y", b"1"), ("z", b"1")])
    versions.remember([("v", b"1"), ("w", b"1"), ("u", b"1")])
    assert versions.late(batch) == set()


def test_what_is_remembered_is_bounded() -> None:
    """The keys sent last are known, in two generations."""
    rows: list[Row] = [{"id": f"k{i}", "version": i} for i in range(100)]
    done = sync("kore", "append_dedup", [records(rows), complete()], max_rows=5)
    versions = SentVersions(most=20)
    done.lanes[DEALS].repeats.settled = versions
    done.run()
    assert done.error is None
    assert 0 < len(versions._young) + len(versions._old) <= 20 + 5 + 25


@pytest.mark.parametrize(
    ("cursor", "than"),
    [
        (b'"2026-01-01T00:00:00.000000001Z"', b'"2026-01-01T00:00:00.000000002Z"'),
        (b'"2026-01-01T00:00:00.1234567Z"', b'"2026-01-01T02:00:00.12345671+02:00"'),
        (b'"2026-01-01T00:00:00Z"', b'"2026-01-01T00:00:00.000000001Z"'),
    ],
)
def test_cursors_are_compared_to_the_last_digit(cursor: bytes, than: bytes) -> None:
    """Sources send nanoseconds."""
    assert is_older(cursor, than)
    assert not is_older(than, cursor)
    assert not is_older(cursor, cursor)
