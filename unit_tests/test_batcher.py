"""Batches against brute force: the input in order, within limits, the last version of a key."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from destination_bulk_tables.batcher import Batcher, is_older, last_versions
from destination_bulk_tables.lines import Lines
from destination_bulk_tables.model import (
    Batch,
    Epoch,
    Key,
    RejectedRow,
    RowBlock,
    StreamKey,
    Table,
    Tombstone,
)

STREAM = StreamKey(None, "deals")
TABLE = Table("deals", STREAM, "append")


class Member(NamedTuple):
    """A row (or a tombstone, where `row` is None) at a position of its block."""

    position: int
    row: bytes | None
    key: Key
    cursor: bytes | None
    epoch: Epoch | None


@dataclass(frozen=True)
class Shape:
    """One drawn member before it has a number: how long its row is, its key and cursor."""

    padding: int
    key: int
    cursor: int | None
    is_tombstone: bool
    skip: int  # positions before it that the codec rejected


def shapes(*, keyed: bool) -> st.SearchStrategy[Shape]:
    return st.builds(
        Shape,
        padding=st.integers(0, 60),
        key=st.integers(0, 4),
        cursor=st.none() | st.integers(-2, 3),
        is_tombstone=st.booleans() if keyed else st.just(value=False),
        skip=st.sampled_from([0, 0, 0, 1, 3]),
    )


def make_members(blocks: list[list[Shape]], changes: list[bool]) -> list[list[Member]]:
    """Number the rows, so that each can be told from every other, and give them epochs."""
    numbers = itertools.count()
    epoch: Epoch = Epoch()
    made = []
    for shape_list, is_new_epoch in zip(blocks, itertools.cycle([*changes, False]), strict=False):
        if is_new_epoch:
            epoch = Epoch()
        index = -1
        members = []
        for shape in shape_list:
            index += 1 + shape.skip
            row = b'{"n":%d,"p":"%b"}' % (next(numbers), b"," * shape.padding)
            cursor = b"null" if shape.cursor is None else b"%d" % shape.cursor
            members.append(
                Member(index, None if shape.is_tombstone else row, b"%d" % shape.key, cursor, epoch)
            )
        made.append(members)
    return made


def make_block(members: list[Member], *, keyed: bool, with_cursor: bool) -> RowBlock:
    rows = [member for member in members if member.row is not None]
    return RowBlock(
        pieces=[member.row or b"" for member in rows],
        count=len(rows),
        indexes=[member.position for member in rows],
        keys=[member.key for member in rows] if keyed else None,
        cursors=[member.cursor or b"" for member in rows] if keyed and with_cursor else None,
        tombstones=tuple(
            Tombstone(member.position, member.key, member.cursor if with_cursor else None)
            for member in members
            if member.row is None
        ),
    )


@dataclass
class Outcome:
    """What a batcher made of blocks: its batches, and (block, row) of what was too large."""

    batches: list[Batch]
    too_large: list[tuple[int, RejectedRow]]


def run(batcher: Batcher, blocks: list[list[Member]], *, keyed: bool, with_cursor: bool) -> Outcome:
    outcome = Outcome([], [])
    for number, members in enumerate(blocks):
        rejected: list[RejectedRow] = []
        block = make_block(members, keyed=keyed, with_cursor=with_cursor)
        epoch = members[0].epoch
        outcome.batches += batcher.extend(block, epoch, float(number), rejected)
        outcome.too_large += [(number, row) for row in rejected]
        assert (batcher.opened_at is None) == (batcher.n_bytes == 0)
        assert 0 < batcher.room <= batcher.max_rows
        body = b",".join([piece for block in batcher._blocks for piece in block.pieces])
        assert batcher.n_bytes in {0, batcher.overhead + len(body)}
    if batcher.opened_at is not None:
        outcome.batches.append(batcher.cut("end"))
    return outcome


def divide(
    blocks: list[list[Member]], outcome: Outcome, batcher: Batcher
) -> list[tuple[Batch, list[Member]]]:
    """Give each batch the members it must hold: consecutive ones, as many as its epochs count."""
    large = [
        (number, member)
        for number, members in enumerate(blocks)
        for member in members
        if member.row is not None and batcher.overhead + len(member.row) > batcher.max_bytes
    ]
    assert [(n, r.index, r.row) for n, r in outcome.too_large] == [
        (number, member.position, member.row) for number, member in large
    ]
    left = [
        member
        for number, members in enumerate(blocks)
        for member in members
        if (number, member) not in large
    ]
    divided = []
    for batch in outcome.batches:
        size = sum(count for _, count in batch.epochs)
        divided.append((batch, left[:size]))
        left = left[size:]
    assert not left
    return divided


def winners_of(members: list[Member], *, with_cursor: bool) -> list[int]:
    """Positions of the last version of each key, found by comparing every pair."""

    def beats(i: int, j: int) -> bool:
        mine, theirs = members[i].cursor, members[j].cursor
        if with_cursor and mine != theirs:
            if b"null" in {mine, theirs}:
                return theirs == b"null"
            return int(mine or b"") > int(theirs or b"")
        return i > j

    return [
        i
        for i, member in enumerate(members)
        if all(beats(i, j) for j, other in enumerate(members) if i != j and other.key == member.key)
    ]


block_lists = st.lists(st.lists(shapes(keyed=False), min_size=1, max_size=9), max_size=6)
keyed_lists = st.lists(st.lists(shapes(keyed=True), min_size=1, max_size=9), max_size=6)
epoch_changes = st.lists(st.booleans(), max_size=6)


@given(
    blocks=block_lists,
    changes=epoch_changes,
    max_rows=st.integers(1, 7),
    max_bytes=st.integers(30, 200),
    overhead=st.integers(2, 40),
)
def test_batches_together_are_the_input(
    blocks: list[list[Shape]], changes: list[bool], max_rows: int, max_bytes: int, overhead: int
) -> None:
    """Rows keep order and epoch; no limit is exceeded and no batch is cut before it must be."""
    members = make_members(blocks, changes)
    batcher = Batcher(TABLE, max_rows=max_rows, max_bytes=max_bytes, overhead=overhead)
    outcome = run(batcher, members, keyed=False, with_cursor=False)
    for batch, expected in divide(members, outcome, batcher):
        rows = batch.block.rows()
        assert rows == [member.row for member in expected]
        body = batch.block.enclosed(b"", b"")
        assert body == b",".join(rows)
        assert batch.block.enclosed(b"<", b">") == b"<%b>" % body
        assert batch.block.n_bytes == len(body)
        assert batch.block.count == len(rows) <= max_rows
        assert overhead + len(body) <= max_bytes
        assert list(batch.block.indexes) == list(range(len(rows)))
        assert [batch.epoch_of(i) for i in batch.block.indexes] == [m.epoch for m in expected]
        assert batch.epoch_of(len(rows)) is None
        epochs = [epoch for epoch, _ in batch.epochs]
        assert all(a is not b for a, b in itertools.pairwise(epochs))
        assert (batch.older, batch.keys, batch.table) == ({}, frozenset(), TABLE)
    for batch, following in itertools.pairwise(outcome.batches):
        grown = overhead + batch.block.n_bytes + 1 + len(following.block.rows()[0])
        assert batch.cut == ("rows" if batch.block.count == max_rows else "bytes")
        assert batch.cut == "rows" or grown > max_bytes
    ids = [batch.id for batch in outcome.batches]
    assert ids == sorted(set(ids))


@given(
    blocks=keyed_lists,
    changes=epoch_changes,
    with_cursor=st.booleans(),
    max_rows=st.integers(1, 9),
    max_bytes=st.integers(60, 300),
)
@example(
    blocks=[
        [
            Shape(0, 1, 0, is_tombstone=False, skip=0),
            Shape(0, 0, 0, is_tombstone=False, skip=0),
            Shape(0, 0, 0, is_tombstone=True, skip=0),
        ]
    ],
    changes=[],
    with_cursor=False,
    max_rows=1,
    max_bytes=300,
)
def test_a_keyed_batch_holds_the_last_version_of_each_key(
    blocks: list[list[Shape]],
    changes: list[bool],
    max_rows: int,
    max_bytes: int,
    *,
    with_cursor: bool,
) -> None:
    """Of consecutive rows and tombstones the winners are sent, the rest is superseded."""
    members = make_members(blocks, changes)
    batcher = Batcher(TABLE, max_rows=max_rows, max_bytes=max_bytes, overhead=10)
    outcome = run(batcher, members, keyed=True, with_cursor=with_cursor)
    for batch, expected in divide(members, outcome, batcher):
        winners = winners_of(expected, with_cursor=with_cursor)
        rows = [i for i in winners if expected[i].row is not None]
        stones = [i for i in winners if expected[i].row is None]
        block = batch.block
        assert block.rows() == [expected[i].row for i in rows]
        body = block.enclosed(b"", b"")
        assert body == b",".join(block.rows())
        assert list(block.indexes) == rows
        assert block.keys == [expected[i].key for i in rows]
        assert block.cursors == ([expected[i].cursor for i in rows] if with_cursor else None)
        assert [(t.index, t.key) for t in sorted(block.tombstones, key=lambda t: t.index)] == [
            (i, expected[i].key) for i in stones
        ]
        assert batch.older == {
            key: [m.epoch for i, m in enumerate(expected) if m.key == key and i not in winners]
            for key in batch.keys
            if sum(m.key == key for m in expected) > 1
        }
        assert batch.keys == {expected[i].key for i in winners}
        assert [batch.epoch_of(i) for i in winners] == [expected[i].epoch for i in winners]
        assert block.count <= max_rows
        assert 10 + len(body) <= max_bytes


def test_keys_that_were_only_deleted_fill_a_batch_too() -> None:
    """Tombstones have no bytes; their number alone must not grow without bound."""
    batcher = Batcher(TABLE, max_rows=3, max_bytes=100, overhead=10)
    batches: list[Batch] = []
    for i in range(7):
        block = RowBlock((), 0, [], [], None, (Tombstone(0, b"%d" % i),))
        batches += batcher.extend(block, None, 0.0, [])
    assert [len(batch.block.tombstones) for batch in batches] == [3, 3]
    assert [batch.cut for batch in batches] == ["rows", "rows"]
    assert len(batcher.cut("end").block.tombstones) == 1


def test_a_block_that_fits_is_not_taken_apart() -> None:
    """Only a limit costs an object per row: what fits is not even looked at."""
    batcher = Batcher(TABLE, max_rows=3, max_bytes=100, overhead=10)
    assert list(batcher.extend(RowBlock([b"no JSON"], 1, range(1)), None, 0.0, [])) == []
    assert batcher.cut("end").block.enclosed(b"", b"") == b"no JSON"


@pytest.mark.parametrize(("max_rows", "max_bytes"), [(2, 100), (9, 17)])
def test_a_block_that_fills_a_batch_is_not_taken_apart(max_rows: int, max_bytes: int) -> None:
    """By rows or by bytes: its text, which nothing could be found in, goes out as it is."""
    batcher = Batcher(TABLE, max_rows=max_rows, max_bytes=max_bytes, overhead=10)
    found = list(batcher.extend(RowBlock([b"no,JSON"], 2, range(2)), None, 0.0, []))
    found += [batcher.cut("end")] if not found else []
    assert [batch.block.enclosed(b"", b"") for batch in found] == [b"no,JSON"]


def test_what_brought_the_rows_counts_while_they_are_held() -> None:
    """Lines that are kept for a report take memory; a row that came without one has none."""
    batcher = Batcher(TABLE, max_rows=9, max_bytes=100, overhead=10)
    lines = Lines.of_list([b"a line", b"another"])
    assert lines.n_bytes > 0
    block = RowBlock([b"{}", b"{}"], 2, range(2), originals=lines)
    assert list(batcher.extend(block, None, 0.0, [])) == []
    assert list(batcher.extend(RowBlock([b"{}"], 1, range(1)), None, 0.0, [])) == []
    assert (batcher.n_bytes, batcher.held_bytes) == (18, 18 + lines.n_bytes)
    assert list(batcher.cut("end").block.originals or ()) == [b"a line", b"another", b""]
    assert batcher.held_bytes == 0


def test_a_batch_may_be_exactly_as_large_as_the_limit() -> None:
    """Not a byte is wasted: two rows and their comma fill what is left beside the overhead."""
    batcher = Batcher(TABLE, max_rows=9, max_bytes=15, overhead=10)
    for _ in range(2):
        assert list(batcher.extend(RowBlock([b"{}"], 1, range(1)), None, 0.0, [])) == []
    (batch,) = batcher.extend(RowBlock([b"{}"], 1, range(1)), None, 0.0, [])
    assert (batch.block.enclosed(b"", b""), batch.cut) == (b"{},{}", "bytes")


def test_the_age_counts_from_the_first_row() -> None:
    """A batch is as old as its oldest row, and a new one starts anew."""
    batcher = Batcher(TABLE, max_rows=3, max_bytes=100, overhead=10)
    assert batcher.n_bytes == 0
    assert list(batcher.extend(RowBlock([b"{}"], 1, range(1)), None, 5.0, [])) == []
    assert (batcher.opened_at, batcher.n_bytes) == (5.0, 12)
    assert list(batcher.extend(RowBlock([b"{}"], 1, range(1)), None, 6.0, [])) == []
    assert (batcher.opened_at, batcher.n_bytes, batcher.room) == (5.0, 15, 1)
    batch = batcher.cut("age")
    assert (batch.cut, batch.block.enclosed(b"", b""), batch.epochs) == ("age", b"{},{}", ())
    assert (batcher.opened_at, batcher.n_bytes) == (None, 0)
    list(batcher.extend(RowBlock([b"{}"], 1, range(1)), None, 9.0, []))
    assert batcher.opened_at == 9.0


def test_a_row_that_is_too_large_is_named_with_its_size() -> None:
    """The reason tells the row's bytes and the limit, and holds no part of the row."""
    batcher = Batcher(TABLE, max_rows=3, max_bytes=20, overhead=10)
    rejected: list[RejectedRow] = []
    block = RowBlock([b'{"a":"secret"}'], 1, [4])
    assert list(batcher.extend(block, Epoch(), 0.0, rejected)) == []
    assert batcher.opened_at is None
    assert rejected == [
        RejectedRow(
            STREAM,
            "shape",
            "too_large",
            "the row takes 14 bytes and batching.max_megabytes allows 20 in a request",
            b'{"a":"secret"}',
            4,
        )
    ]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (b"null", b"-1"),
        (b"null", b'""'),
        (None, b"0"),
        (b"9", b"10"),
        (b"-10", b"9.5"),
        (b"123456789012345678901234567890", b"123456789012345678901234567891"),
        (b"0.1000000000000000000001", b"0.1000000000000000000002"),
        (b'"2024-01-31"', b'"2024-02-01T00:00:00Z"'),
        (b'"2024-01-01T12:00:00+02:00"', b'"2024-01-01T11:00:00Z"'),
        (b'"2024-01-01T10:00:00.5Z"', b'"2024-01-01T10:00:00.51Z"'),
        (b'"2024-01-01T10:00:00.123456788Z"', b'"2024-01-01T10:00:00.123456789Z"'),
        (b'"2024-01-01T10:00:00.123456Z"', b'"2024-01-01T10:00:00.1234560001Z"'),
        (b'"2024-01-01T10:00:00.1234569Z"', b'"2024-01-01T10:00:00.123457Z"'),
        (b'"10"', b'"9"'),
        (b'"a"', b'"b"'),
        (b'"2024-01-01"', b'"tomorrow"'),
        (b'"15 May"', b'"2024-01-01"'),
        (b'"\\u0041"', b'"B"'),
        (b"false", b"true"),
        (b"1", b"1e99999999999999999999"),
    ],
)
def test_the_order_of_cursors(older: bytes | None, newer: bytes | None) -> None:
    """Null is oldest, numbers go by value, timestamps by moment, everything else as text."""
    assert is_older(older, newer)
    assert not is_older(newer, older)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"null", None),
        (b"1", b"1.0"),
        (b'"2024-01-01T00:00:00Z"', b'"2024-01-01T01:00:00+01:00"'),
        (b'"2024-01-01T00:00:00.1234567Z"', b'"2024-01-01T00:00:00.123456700Z"'),
        (b'"a"', b'"\\u0061"'),
    ],
)
def test_equal_cursors_are_not_older(one: bytes | None, other: bytes | None) -> None:
    """Of equal cursors in different spellings neither is older, so arrival decides."""
    assert not is_older(one, other)
    assert not is_older(other, one)
    versions = [(0, b"1", one), (1, b"1", other)]
    assert last_versions(versions) == {b"1": 1}
    assert last_versions([(0, b"1", other), (1, b"1", one)]) == {b"1": 1}


def test_the_same_key_in_another_order_of_columns_is_another_key() -> None:
    """Keys are compared part by part."""
    versions = [(0, b"1,2", None), (1, b"2,1", None)]
    assert last_versions(versions) == {b"1,2": 0, b"2,1": 1}


def test_each_batch_takes_all_that_fits() -> None:
    """To the byte, commas included, whatever blocks the rows come in and however they end."""
    random = Random(1)
    for _ in range(500):
        max_rows, max_bytes = random.randint(1, 6), random.randint(20, 60)
        batcher = Batcher(TABLE, max_rows=max_rows, max_bytes=max_bytes, overhead=10)
        blocks = [
            [b'"%b"' % (b"x" * random.randint(0, 8)) for _ in range(random.randint(1, 9))]
            for _ in range(random.randint(1, 5))
        ]
        batches = [
            batch.block.rows()
            for rows in blocks
            for batch in batcher.extend(RowBlock(rows, len(rows), range(len(rows))), None, 0.0, [])
        ]
        batches += [batcher.cut("end").block.rows()] if batcher.opened_at is not None else []
        expected: list[list[bytes]] = []
        for row in (row for rows in blocks for row in rows):
            grown = [*expected[-1], row] if expected else []
            if grown and len(grown) <= max_rows and 10 + len(b",".join(grown)) <= max_bytes:
                expected[-1] = grown
            else:
                expected.append([row])
        assert batches == expected


def test_deletions_beside_rows_that_are_all_too_large_go_out() -> None:
    """A block of which no row is left has them still."""
    batcher = Batcher(TABLE, max_rows=9, max_bytes=20, overhead=10)
    gone = Tombstone(1, b"2", None)
    rejected: list[RejectedRow] = []
    block = RowBlock([b"1" * 30], 1, [0], [b"1"], None, (gone,))
    assert list(batcher.extend(block, Epoch(read=2), 0.0, rejected)) == []
    assert [row.code for row in rejected] == ["too_large"]
    assert [found.key for found in batcher.cut("end").block.tombstones] == [b"2"]


def test_rows_of_streams_that_take_turns_are_counted_for_each() -> None:
    """Streams of one table come and go: rows are added to the epoch before only if it is theirs."""
    batcher = Batcher(TABLE, max_rows=9, max_bytes=99, overhead=10)
    one, other = Epoch(), Epoch()
    for epoch, rows in ((one, 1), (other, 2), (one, 3), (one, 1)):
        assert not list(batcher.extend(RowBlock([b"1"] * rows, rows, range(rows)), epoch, 0.0, []))
    found = batcher.cut("end").epochs
    assert [(epoch is one, rows) for epoch, rows in found] == [(True, 1), (False, 2), (True, 4)]
