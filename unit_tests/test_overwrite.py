"""A staged load against brute force: the last version of each key, every row accounted for."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from destination_bulk_tables import spool
from destination_bulk_tables.batcher import Batcher
from destination_bulk_tables.lines import Lines
from destination_bulk_tables.model import (
    Batch,
    Epoch,
    RejectedRow,
    RowBlock,
    StreamKey,
    Table,
    Tombstone,
)
from destination_bulk_tables.outcomes import Load
from destination_bulk_tables.overwrite import StagedLoad
from destination_bulk_tables.spool import DiskBudget, KeyFilter

TABLE = Table("deals", StreamKey(None, "deals"), "dedup", replace=True)
OVERHEAD = 10


class SmallFilter(KeyFilter):
    """Few hashes, so that different keys collide."""

    _PARTS = 2

    def add(self, hashes: list[int]) -> None:
        super().add([value % 4 for value in hashes])

    def suspect(self, value: int) -> None:
        super().suspect(value % 4)


@dataclass(frozen=True)
class Version:
    """A row of a key, or the record of its deletion; `padding` makes rows differ in length."""

    key: tuple[int, str]
    cursor: int | None
    is_tombstone: bool
    padding: int
    skip: int

    def token(self) -> bytes:
        return b'%d,"%b"' % (self.key[0], self.key[1].encode())

    def cursor_token(self) -> bytes:
        return b"null" if self.cursor is None else b"%d" % self.cursor


versions = st.builds(
    Version,
    key=st.tuples(st.integers(0, 3), st.sampled_from(["a", "b,", "]"])),
    cursor=st.none() | st.integers(0, 3),
    is_tombstone=st.integers(0, 4).map(lambda n: n == 0),
    padding=st.integers(0, 40),
    skip=st.sampled_from([0, 0, 1]),
)
runs = st.lists(st.lists(versions, min_size=1, max_size=8), max_size=6)


def row_of(version: Version, number: int) -> bytes:
    row = {"n": number, "k1": version.key[0], "p": "x" * version.padding, "k2": version.key[1]}
    return json.dumps(row, separators=(",", ":")).encode()


def block_of(run: list[Version], first: int, *, with_cursor: bool) -> RowBlock:
    rows, indexes, keys, cursors, tombstones = [], [], [], [], []
    index = -1
    for number, version in enumerate(run, first):
        index += 1 + version.skip
        cursor = version.cursor_token() if with_cursor else None
        if version.is_tombstone:
            tombstones.append(Tombstone(index, version.token(), cursor))
        else:
            rows.append(row_of(version, number))
            indexes.append(index)
            keys.append(version.token())
            cursors.append(version.cursor_token())
    return RowBlock(
        rows,
        len(rows),
        indexes,
        keys,
        cursors if with_cursor else None,
        tuple(tombstones),
    )


def beats(mine: tuple[int, Version], other: tuple[int, Version], *, with_cursor: bool) -> bool:
    """Whether a version wins over another of its key: by cursor, null the oldest, then arrival."""
    a, b = mine[1].cursor, other[1].cursor
    if with_cursor and a != b:
        return b is None or (a is not None and a > b)
    return mine[0] > other[0]


def batcher_of(max_rows: int, max_bytes: int) -> Batcher:
    return Batcher(TABLE, max_rows=max_rows, max_bytes=max_bytes, overhead=OVERHEAD)


def replay(load: StagedLoad, max_rows: int, max_bytes: int) -> tuple[list[Batch], Load]:
    size = load.seal(max_rows, max_bytes - OVERHEAD)
    batcher = batcher_of(max_rows, max_bytes)
    batches = list(load.batches(batcher))
    assert batcher.opened_at is None
    load.close()
    return batches, size


@given(
    runs=runs,
    changes=st.lists(st.booleans(), max_size=6),
    with_cursor=st.booleans(),
    max_rows=st.integers(1, 6),
    max_bytes=st.integers(60, 400),
)
def test_a_keyed_load_sends_the_last_version_of_each_key(
    runs: list[list[Version]],
    changes: list[bool],
    max_rows: int,
    max_bytes: int,
    *,
    with_cursor: bool,
) -> None:
    """Whatever collides, each key is sent once or, when it was deleted, not at all."""
    load = StagedLoad(DiskBudget(tempfile.gettempdir(), 10**9), ("k1", "k2"))
    load._filter = SmallFilter()
    everything: list[tuple[int, Version]] = []
    epochs: list[Epoch] = []
    too_large: list[RejectedRow] = []
    arrived = 0
    for i, run in enumerate(runs):
        if not epochs or (i < len(changes) and changes[i]):
            epochs.append(Epoch())
        block = block_of(run, arrived, with_cursor=with_cursor)
        block = batcher_of(max_rows, max_bytes).fitting(block, too_large)
        epochs[-1].read += len(block)
        load.stage(block, epochs[-1])
        everything += enumerate(run, arrived)
        arrived += len(run)
    batches, size = replay(load, max_rows, max_bytes)

    def fits(number: int, version: Version) -> bool:
        return version.is_tombstone or OVERHEAD + len(row_of(version, number)) <= max_bytes

    assert [row.row for row in too_large] == [
        row_of(version, number) for number, version in everything if not fits(number, version)
    ]
    everything = [(number, version) for number, version in everything if fits(number, version)]

    winners = [
        mine
        for mine in everything
        if not mine[1].is_tombstone
        and all(
            mine == other or beats(mine, other, with_cursor=with_cursor)
            for other in everything
            if other[1].key == mine[1].key
        )
    ]
    rows = [row_of(version, number) for number, version in winners]
    sent = [row for batch in batches for row in batch.block.rows()]
    assert sent == rows
    assert load.superseded == len(everything) - len(rows)
    assert (size.rows, size.requests >= len(batches)) == (len(rows), True)
    assert size.n_bytes >= sum(map(len, sent))
    for batch in batches:
        assert batch.block.count <= max_rows
        assert OVERHEAD + len(batch.block.enclosed(b"", b"")) <= max_bytes
        for epoch, count in batch.epochs:
            epoch.delivered += count
    assert all(epoch.is_settled for epoch in epochs)


@pytest.mark.parametrize(
    ("deleted_at", "row_at", "is_sent"),
    [(3, 2, False), (2, 3, True), (None, 1, True), (1, None, False), (2, 2, True)],
)
def test_a_deletion_has_its_place_among_the_versions(
    tmp_path: Path, deleted_at: int | None, row_at: int | None, *, is_sent: bool
) -> None:
    """A row that arrives after the record of its deletion is sent if its cursor is not older."""
    load = StagedLoad(DiskBudget(str(tmp_path), 10**9), ("k1", "k2"))
    run = [
        Version((1, "a"), deleted_at, is_tombstone=True, padding=0, skip=0),
        Version((1, "a"), row_at, is_tombstone=False, padding=0, skip=0),
    ]
    load.stage(block_of(run, 0, with_cursor=True), Epoch(read=2))
    batches, _ = replay(load, 10, 1000)
    assert [batch.block.count for batch in batches] == ([1] if is_sent else [])


@given(
    sizes=st.lists(st.integers(1, 9), max_size=8),
    max_rows=st.integers(1, 6),
    max_bytes=st.integers(30, 200),
)
def test_a_load_without_keys_comes_back_as_it_was_staged(
    sizes: list[int], max_rows: int, max_bytes: int
) -> None:
    """All rows in order, each counted in the epoch it was read in."""
    load = StagedLoad(DiskBudget(tempfile.gettempdir(), 10**9), ())
    epochs = []
    rows: list[bytes] = []
    for count in sizes:
        new = [b'{"n":%d}' % (len(rows) + i) for i in range(count)]
        epochs.append(Epoch(read=count))
        load.stage(RowBlock(new, count, range(count)), epochs[-1])
        rows += new
    batches, size = replay(load, max_rows, max_bytes)
    assert [row for batch in batches for row in batch.block.rows()] == rows
    assert (size.rows, size.n_bytes, load.superseded) == (len(rows), sum(map(len, rows)), 0)
    assert size.requests >= len(batches)
    for batch in batches:
        for position, row in enumerate(batch.block.rows()):
            epoch = batch.epoch_of(position)
            assert epoch is epochs[_run_of(sizes, rows.index(row))]
        for epoch, count in batch.epochs:
            epoch.delivered += count
    assert all(epoch.is_settled for epoch in epochs)


@pytest.mark.parametrize("keys", [(), ("n",)])
def test_a_sample_is_of_the_whole_load_and_counts_equal_rows(keys: tuple[str, ...]) -> None:
    """The first row, later ones at even distances, and none that a later version supersedes."""
    load = StagedLoad(DiskBudget(tempfile.gettempdir(), 10**9), keys)
    rows = [b'{"n":%d}' % (i % 40) for i in range(100)]
    key_rows = [b"%d" % (i % 40) for i in range(100)]
    load.stage(RowBlock(rows, 100, range(100), key_rows if keys else None), Epoch(read=100))
    load.seal(10, 1000)
    sample = load.sample(10)
    if keys:  # the last forty rows are left
        assert sample == {b'{"n":%d}' % (i % 40): 1 for i in range(60, 100, 4)}
    else:
        assert sample == {b'{"n":%d}' % i: 3 if i < 20 else 2 for i in (0, 10, 20, 30)}
    load.close()


def test_a_sample_of_a_small_load_is_all_of_it(tmp_path: Path) -> None:
    """Fewer rows than are asked for are each looked for."""
    load = StagedLoad(DiskBudget(str(tmp_path), 10**9), ())
    load.stage(RowBlock([b"{}", b'{"n":1}'], 2, range(2)), Epoch(read=2))
    assert load.sample(10) == {b"{}": 1, b'{"n":1}': 1}
    load.close()


def _run_of(sizes: list[int], number: int) -> int:
    for run, size in enumerate(sizes):
        number -= size
        if number < 0:
            return run
    raise AssertionError(number)


@pytest.mark.parametrize(
    ("rows", "max_rows", "max_bytes", "requests"),
    [
        (0, 10, 1000, 0),
        (1, 10, 1000, 1),
        (10, 10, 1000, 1),
        (11, 10, 1000, 2),
        (10, 10, 80, 1),
        (10, 100, 79, 1),
        (10, 100, 78, 2),
        (10, 5, 79, 2),
        (10, 10, 79, 1),
        (10, 10, 14, 12),  # one row fits, a pair does not: ten requests
        (100, 10, 80, 10),  # ten rows and their commas are 79 bytes
        (100, 10, 75, 21),  # nine fit: twelve requests, of which only a bound is known
    ],
)
def test_a_load_that_fits_is_one_request(
    tmp_path: Path, rows: int, max_rows: int, max_bytes: int, requests: int
) -> None:
    """One request when rows and bytes fit, commas included; else a number never too low."""
    load = StagedLoad(DiskBudget(str(tmp_path), 10**9), ())
    if rows:
        load.stage(RowBlock([b'{"n":1}'] * rows, rows, range(rows)), Epoch())
    assert load.seal(max_rows, max_bytes) == Load(rows, 7 * rows, requests)
    load.close()


def test_one_long_row_does_not_multiply_the_requests_of_a_load(tmp_path: Path) -> None:
    """The debounce of a load grows with their number, which is a bound and near the truth."""
    load = StagedLoad(DiskBudget(str(tmp_path), 10**9), ())
    rows = [b'{"n":"%b"}' % (b"x" * 90)] * 500 + [b'{"n":"%b"}' % (b"x" * 992)]
    load.stage(RowBlock(rows, len(rows), range(len(rows))), Epoch())
    size = load.seal(1000, 1000)
    batches = list(load.batches(batcher_of(1000, 1000 + OVERHEAD)))
    assert len(batches) <= size.requests <= 2 * len(batches) + 2
    load.close()


def test_a_load_of_nothing_but_deleted_rows_is_one_emptying_request(tmp_path: Path) -> None:
    """However much was staged for it."""
    load = StagedLoad(DiskBudget(str(tmp_path), 10**9), ("k1", "k2"))
    run = [
        version
        for n in range(40)
        for version in (
            Version((n, "a"), 1, is_tombstone=False, padding=30, skip=0),
            Version((n, "a"), 2, is_tombstone=True, padding=0, skip=0),
        )
    ]
    load.stage(block_of(run, 0, with_cursor=True), Epoch())
    size = load.seal(5, 200)
    assert (size.rows, size.requests) == (0, 0)
    load.close()


def test_a_long_load_is_read_in_pieces(tmp_path: Path) -> None:
    """Dropped rows are found by their number across the pieces a spool is read in."""
    load = StagedLoad(DiskBudget(str(tmp_path), 10**9), ("id",))
    count = 50_000
    keys = [b"%d" % i for i in range(count - 1)] + [b"5"]
    rows = [b'{"n":%d,"id":%b}' % (i, key) for i, key in enumerate(keys)]
    epoch = Epoch(read=count)
    load.stage(RowBlock(rows, count, range(count), keys), epoch)
    assert sum(map(len, rows)) > spool._READ_BYTES
    batches, _ = replay(load, 1000, 10**6)
    assert [row for batch in batches for row in batch.block.rows()] == rows[:5] + rows[6:]
    assert epoch.delivered == 1


def test_lines_are_staged_beside_their_rows(tmp_path: Path) -> None:
    """Each row that is sent has its own line, in its batch and by its key; the others have none."""
    load = StagedLoad(DiskBudget(str(tmp_path), 10**9), ("id",), keeps_originals=True)
    rows, keys = [b'{"id":1}', b'{"id":2}', b'{"id":3}'], [b"1", b"2", b"3"]
    lines = Lines.of_list([b"one", b"two", b"three"])
    gone = (Tombstone(1, b"3", b"4"),)
    load.stage(RowBlock(rows, 3, [0, 2, 3], keys, [b"5"] * 3, gone, lines), Epoch(read=4))
    load.stage(RowBlock([b'{"id":4}'], 1, range(1), [b"4"], [b"5"]), Epoch(read=1))  # no line
    rows, keys = [b'{"id":2}', b'{"id":1}', b'{"id":5}'], [b"2", b"1", b"5"]
    lines = Lines.of_list([b"two, newer", b"one, older", b"five"])
    cursors = [b"6", b"4", b"5"]
    load.stage(RowBlock(rows, 3, range(3), keys, cursors, originals=lines), Epoch(read=3))
    load.seal(10, 1000)
    [batch] = load.batches(batcher_of(10, 1000))
    sent = dict(zip(batch.block.rows(), batch.block.originals or (), strict=True))
    assert sent == {
        b'{"id":1}': b"one",
        b'{"id":3}': b"three",
        b'{"id":4}': b"",
        b'{"id":2}': b"two, newer",
        b'{"id":5}': b"five",
    }
    assert load.originals_of({"1", "2", "6"}) == {"1": b"one", "2": b"two, newer"}
    load.close()


@pytest.mark.parametrize(("keys", "more"), [((), {"keeps_originals": True}), (("id",), {})])
def test_lines_that_are_not_staged_or_have_no_key_are_not_found(
    tmp_path: Path, keys: tuple[str, ...], more: dict[str, bool]
) -> None:
    """A report then has the row as it was sent."""
    load = StagedLoad(DiskBudget(str(tmp_path), 10**9), keys, **more)
    lines = Lines.of_list([b"one"])
    load.stage(
        RowBlock([b'{"id":1}'], 1, range(1), [b"1"] if keys else None, originals=lines),
        Epoch(read=1),
    )
    assert load.originals_of({"", "1"}) == {}
    load.close()


def test_a_closed_load_leaves_nothing_on_disk(tmp_path: Path) -> None:
    """Rows, cursors and lines are files that nothing else closes in time."""
    load = StagedLoad(DiskBudget(str(tmp_path), 10**9), ("id",), keeps_originals=True)
    lines = Lines.of_list([b"one"])
    load.stage(RowBlock([b'{"id":1}'], 1, range(1), [b"1"], [b"1"], originals=lines), Epoch())
    spools = [load._rows, load._cursors, load._originals]
    assert all(spool and spool._file for spool in spools)
    load.close()
    assert not any(spool and spool._file for spool in spools)
