"""Rows that repeat a key on its way: what waits, what replaces what, and when it counts."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from destination_bulk_tables import dispatch
from destination_bulk_tables.batcher import Batcher, is_older
from destination_bulk_tables.config import parse
from destination_bulk_tables.http import HttpRequest, HttpResponse
from destination_bulk_tables.keyed_rows import body_size_of, n_older, size_of
from destination_bulk_tables.lanes import Lane
from destination_bulk_tables.lines import Lines
from destination_bulk_tables.messages import Message
from destination_bulk_tables.model import Batch, Epoch, RowBlock, Table, Tombstone
from destination_bulk_tables.providers import PROVIDERS
from destination_bulk_tables.repeats import Repeats
from unit_tests.fakes import (
    FakeClock,
    Fault,
    answer_status,
    cut_after,
    cut_before,
    refuse,
    time_out_after,
)
from unit_tests.syncs import DEALS, Sync, SyncMode, catalog_of, complete, records, state, sync
from unit_tests.vendors import KoreVendor, QobraVendor, Row

FAULTS: list[Fault] = [
    refuse,
    cut_before,
    cut_after,
    time_out_after,
    answer_status(429),
    answer_status(503),
]


def rows_of(*keys: str) -> list[Row]:
    """Rows of these keys; `version` counts them."""
    return [{"id": key, "name": key, "amount": 0, "version": i} for i, key in enumerate(keys)]


def ids_of(done: Sync) -> list[list[str]]:
    """The ids of each write, in the order they left."""
    bodies = [json.loads(sent.request.body or b"") for sent in done.transport.writes]
    return [[row["id"] for row in body.get("items", body.get("data"))] for body in bodies]


# --- one lane


class Op:
    """A row that arrived."""

    def __init__(self, key: str, number: int, cursor: int | None, epoch: Epoch) -> None:
        self.key, self.number, self.epoch = key, number, epoch
        self.cursor = None if cursor is None else b"%d" % cursor

    def replaces(self, other: Op) -> bool:
        """Whether this version stays when both are there: `other` came before it."""
        return not is_older(self.cursor, other.cursor)


class Model:
    """A lane with a table behind it. What is checked after each step is in `check`."""

    def __init__(self, *, with_cursor: bool) -> None:
        self.lane: Lane = sync("qobra", "append", []).lanes[DEALS]
        table = Table("deals", DEALS, "dedup")
        self.lane.batcher = Batcher(table, max_rows=3, max_bytes=70, overhead=10)
        self.with_cursor = with_cursor
        self.ops: dict[int, Op] = {}
        self.sent: list[tuple[Batch, list[Op]]] = []
        self.table: dict[str, Op] = {}
        self.best: dict[str, Op] = {}  # the newest version that was ever there
        self.admitted = 0  # rows that are not in the open batch any more
        self.settled_at: dict[str, int] = {}
        self.stones: dict[tuple[Any, bytes | None], Op] = {}
        self.epochs = [Epoch()]

    def read(self, key: str, cursor: int, *, is_deletion: bool) -> None:
        number = len(self.ops)
        op = Op(key, number, cursor if self.with_cursor else None, self.epochs[-1])
        self.ops[number] = op
        op.epoch.read += 1
        row = json.dumps({"id": key, "n": number}).encode()
        cursors = [op.cursor] if op.cursor is not None else None
        if is_deletion:
            stone = Tombstone(number, key, op.cursor)
            block = RowBlock((), 0, [], [], [] if cursors else None, (stone,))
            self.stones[key, op.cursor] = op
        else:
            block = RowBlock([row], 1, [number], [key], cursors)
        for batch in self.lane.batcher.extend(block, op.epoch, 0.0, []):
            self.lane.enqueue(batch, 0.0)
            self.admitted = number + (batch.cut == "rows")

    def cut(self) -> None:
        if self.lane.batcher.opened_at is not None:
            self.lane.enqueue(self.lane.batcher.cut("end"), 0.0)
            self.admitted = len(self.ops)

    def send(self) -> None:
        while self.lane.repeats.n_free:
            self.lane.enqueue_free("end")
        if self.lane.queue:
            batch = self.lane.leave()
            block = batch.block
            assert len(block) == len(batch.keys) > 0
            assert block.count <= 3
            assert block.n_bytes <= 60
            ops = [self.ops[json.loads(row)["n"]] for row in block.rows()]
            ops += [self.stones[stone.key, stone.cursor] for stone in block.tombstones]
            assert {op.key for op in ops} == batch.keys
            under_way = Counter(op.key for _, others in self.sent for op in others)
            assert not under_way.keys() & batch.keys, "a key is under way twice"
            self.sent.append((batch, ops))

    def finish(self, index: int) -> None:
        if not self.sent:
            return
        batch, ops = self.sent.pop(index % len(self.sent))
        for op in ops:
            old = self.table.get(op.key)
            if old is not None and op.number < self.settled_at[op.key]:
                assert op.replaces(old), "an older version overtakes"
            self.table[op.key] = op
            if op.key not in self.best or op.replaces(self.best[op.key]):
                self.best[op.key] = op
            self.settled_at[op.key] = self.admitted
        del self.lane.tracked[batch.id]
        self.lane.repeats.settle(batch.keys)
        self.lane.repeats.n_older -= n_older(batch)
        for epoch, count in batch.counts().items():
            assert count >= 0
            epoch.delivered += count

    def check(self) -> None:
        repeats = self.lane.repeats
        live = [tracked.batch for tracked in self.lane.tracked.values()]
        waiting = sum(len(version.older) for version in repeats._waiting.values())
        assert repeats.n_older == sum(map(n_older, live)) + waiting
        sizes = {key: size_of(version) for key, version in repeats._waiting.items()}
        assert repeats.n_bytes == sum(sizes.values())
        free = [repeats._waiting[key] for key in repeats._free]
        assert repeats._free_bytes == sum(map(body_size_of, free))
        for epoch in self.epochs:
            covered = sum(
                1
                for op in self.ops.values()
                if op.epoch is epoch
                and (best := self.best.get(op.key)) is not None
                and (best is op or (best.replaces(op) and (op.cursor or best.number > op.number)))
            )
            assert epoch.delivered <= covered, "a row counts as delivered before its key is in"
        assert len(self.lane.tracked) == len(self.lane.queue) + len(self.sent)

    def end(self) -> None:
        self.cut()
        while self.lane.is_busy or self.sent:
            self.send()
            self.finish(0)
            self.check()
        assert all(epoch.is_settled for epoch in self.epochs)
        assert (self.lane.queued_bytes, self.lane.held_bytes, len(self.lane.repeats)) == (0, 0, 0)
        assert not self.lane.repeats._known


KEYS = st.sampled_from("abcdefg")
STEPS = st.one_of(
    st.tuples(st.just("read"), KEYS, st.integers(0, 5), st.booleans()),
    st.tuples(st.just("read"), KEYS, st.integers(0, 5), st.just(value=False)),
    st.tuples(st.sampled_from(["cut", "send", "state"])),
    st.tuples(st.just("finish"), st.integers(0, 3)),
)


def play(steps: list[Any], *, with_cursor: bool) -> None:
    """Check after each step, then to the end."""
    model = Model(with_cursor=with_cursor)
    for name, *values in steps:
        match name:
            case "read":
                model.read(values[0], values[1], is_deletion=values[2])
            case "state":
                model.epochs.append(Epoch())
            case "finish":
                model.finish(values[0])
            case _:
                getattr(model, name)()
        model.check()
    model.end()
    for key, op in model.table.items():
        versions = [other for other in model.ops.values() if other.key == key]
        assert with_cursor or op is versions[-1]


@given(steps=st.lists(STEPS, max_size=60), with_cursor=st.booleans())
def test_whatever_repeats_no_version_is_lost_and_none_counts_early(
    steps: list[Any], *, with_cursor: bool
) -> None:
    """One version of a key is under way, the newest stays, and each epoch adds up."""
    play(steps, with_cursor=with_cursor)


@pytest.mark.parametrize("with_cursor", [False, True])
def test_long_runs_of_few_keys(with_cursor: bool) -> None:  # noqa: FBT001
    """The same where most rows repeat a key that is queued, under way and waiting."""
    random = Random(5)
    for _ in range(150):
        steps: list[Any] = []
        for _ in range(150):
            read = ("read", random.choice("abcdef"), random.randint(0, 9), random.random() < 0.1)
            other = random.choice(
                [("cut",), ("send",), ("state",), ("finish", random.randint(0, 3))]
            )
            steps.append(read if random.random() < 0.6 else other)
        play(steps, with_cursor=with_cursor)


def arrival(key: str, row: bytes | None, cursor: bytes | None, line: bytes) -> Batch:
    """A batch of one version of a key; None: its deletion."""
    lines = Lines.of_list([line]) if line else None
    block = RowBlock([row or b""], 1, [0], [key], [cursor] if cursor else None, originals=lines)
    if row is None:
        block = RowBlock((), 0, [], [], tombstones=(Tombstone(0, key, cursor),))
    return Batch(
        id=int(key),
        table=Table("deals", DEALS, "dedup"),
        block=block,
        cut="rows",
        epochs=[(Epoch(read=1), 1)],
        keys=frozenset({key}),
    )


def freed(
    rows: list[bytes | None],
    line: bytes = b"",
    cursor: bytes | None = None,
    *,
    older: int = 0,
) -> Repeats:
    """Rows that waited for their keys, a second apart, and so many older ones ten before each."""
    repeats = Repeats()
    for number, row in enumerate(rows):
        key = str(number)
        first = arrival(key, b"{}", None, b"")
        repeats.admit(first, [], list, 0.0)
        repeats.leave(first)
        for i, version in enumerate([*[b"{}"] * older, row], 1):
            repeats.admit(arrival(key, version, cursor, line), [], list, 10.0 * i + number)
    for number in range(len(rows)):
        repeats.settle(frozenset({str(number)}))
    return repeats


def batcher_of(max_rows: int, max_bytes: int) -> Batcher:
    """A batcher whose bodies have 10 bytes beside their rows."""
    return Batcher(Table("deals", DEALS, "dedup"), max_rows, max_bytes, 10)


@pytest.mark.parametrize(
    ("n_rows", "size", "due_at"),
    [
        (1, 20, 40.0),
        (2, 20, 40.0),
        (3, 20, float("-inf")),  # as many as a request takes
        (2, 994, 40.0),
        (2, 995, float("-inf")),  # 1991 bytes with the comma
        (0, 0, float("inf")),
    ],
)
def test_freed_rows_are_due_when_they_are_enough_or_have_waited(
    n_rows: int, size: int, due_at: float
) -> None:
    """As long as the one that came first may wait."""
    for older in (0, 1):
        for line in (b"", b"the line that brought it " * 40):
            repeats = freed([b"1" * size] * n_rows, line, older=older)
            assert repeats.due_at(batcher_of(3, 2001), 30.0) == due_at


def test_freed_rows_leave_when_they_are_due_or_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the byte and the moment; at the end they wait for nothing."""
    done = sync("qobra", "append", [])
    lane, sending = done.lanes[DEALS], done.engine()._dispatch
    lane.repeats = freed([b"1" * 20])
    assert [sending._is_due(lane, now) for now in (39.9, 40.0)] == [False, True]
    found = []
    for more in (0, 1):
        monkeypatch.setattr(dispatch, "MAX_HELD_BYTES", lane.repeats.n_bytes + more)
        found.append(sending._is_due(lane, 0.0))
    assert found == [True, False]
    sending.is_flushing = True
    assert sending._is_due(lane, 0.0)


def test_freed_rows_leave_when_another_table_fills_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is read then, and whoever can give memory back does."""
    done = sync("qobra", "append", [], catalog=catalog_of("append", "deals", "leads"))
    mine, other = done.lanes.values()
    sending = done.engine()._dispatch
    mine.repeats = freed([b"1" * 20])
    held_bytes = mine.held_bytes + 1000
    monkeypatch.setattr(dispatch, "MAX_HELD_BYTES", held_bytes)
    assert not sending._is_due(mine, 0.0)
    other.queued_bytes = 1000
    assert not sending.has_room()
    assert sending._is_due(mine, 0.0)


@pytest.mark.parametrize(("size", "taken"), [(29, [2, 1]), (30, [1, 1, 1])])
def test_a_request_of_freed_rows_is_full_to_the_byte(size: int, taken: list[int]) -> None:
    """Commas included; what is left is due as before, and when nothing is left nothing is."""
    row = b'"%s"' % (b"x" * (size - 2))
    repeats, batcher = freed([b'"%s"' % (b"y" * 28), row, row]), batcher_of(9, 70)
    sent = []
    for left in range(len(taken) - 1, -1, -1):
        sent.append(repeats.cut(batcher, "end").block.count)
        assert repeats.due_at(batcher_of(9, 9000), 30.0) == (40.0 if left else float("inf"))
    assert (sent, repeats.held_bytes) == (taken, 0)


def test_a_request_of_freed_rows_takes_no_more_than_it_may() -> None:
    """What is beyond is the next request's."""
    repeats, batcher = freed([b"1"] * 5), batcher_of(2, 9000)
    assert [repeats.cut(batcher, "end").block.count for _ in range(3)] == [2, 2, 1]


def test_freed_rows_leave_with_what_came_with_them() -> None:
    """And with nothing else: cursors, lines and replaced rows only where there are any."""
    batcher = batcher_of(9, 9000)
    plain = freed([b"1", b"2"]).cut(batcher, "end")
    block = plain.block
    assert (block.pieces, block.count, block.indexes, block.keys) == (
        [b"1,2"],
        2,
        [0, 1],
        ["0", "1"],
    )
    assert (block.cursors, block.originals, block.tombstones) == (None, None, ())
    assert plain.keys == frozenset("01")
    assert plain.older == {}
    whole = freed([b"1", None], b"the line", b"5", older=1).cut(batcher, "end")
    block = whole.block
    assert (block.pieces, block.cursors, block.keys) == ([b"1"], [b"5"], ["0"])
    assert block.originals is not None
    assert list(block.originals) == [b"the line"]
    assert block.tombstones == (Tombstone(1, "1", b"5"),)
    assert whole.keys == frozenset("01")
    assert {key: len(epochs) for key, epochs in whole.older.items()} == {"0": 1, "1": 1}
    assert freed([None]).cut(batcher, "end").block.pieces == ()


def test_what_waits_counts_with_its_row_its_line_and_what_it_replaced() -> None:
    """So that a source is held back before any of them fills the memory."""
    least = freed([b"1"]).held_bytes
    assert least > 1
    assert freed([b"1" * 40]).held_bytes == least + 39
    longer = freed([b"1"], b"the line")
    assert longer.held_bytes == least + 8
    longer.n_older += 1
    assert longer.held_bytes > least + 8


# --- whole syncs


def test_only_the_rows_whose_key_is_under_way_wait() -> None:
    """A batch that holds one id of an import that still runs leaves without it."""
    clock = FakeClock()
    script: list[Message | float] = [
        records(rows_of("a", "b")),
        3.0,
        records(rows_of("a", "c")),
        3.0,
    ]
    done = sync(
        "qobra",
        "append",
        [*script, records(rows_of("d", "e")), state(1), complete()],
        clock=clock,
        vendor=QobraVendor(clock, delay_s=50.0),
        max_rows=2,
    ).run()
    assert done.error is None
    assert ids_of(done) == [["a", "b"], ["c"], ["d", "e"], ["a"]]
    times = [sent.at for sent in done.transport.writes]
    assert times[2] < 10
    assert times[3] > 50
    assert done.counts == (6, 6, 0)
    assert done.acknowledged == [1]


def test_a_waiting_row_is_replaced_by_a_newer_one() -> None:
    """While an import runs, ten versions of its key cost one more row, and all of them count."""
    clock = FakeClock()
    parts: list[Message | float] = []
    for version in range(10):
        row = {"id": "a", "name": "a", "amount": version, "version": version}
        parts += [records([row]), state(version), 3.0]
    done = sync(
        "qobra",
        "append",
        [*parts, complete()],
        clock=clock,
        vendor=QobraVendor(clock, delay_s=50.0),
        max_rows=1,
    )
    left: list[tuple[int, float]] = []
    done.on_state = lambda number, it: left.append((number, it.clock.elapsed))
    done.run()
    assert ids_of(done) == [["a"], ["a"]]
    assert [row["version"] for row in done.vendor.rows()] == [9]
    assert done.counts == (10, 10, 0)
    assert [number for number, _ in left] == list(range(10))
    assert left[0][1] < left[1][1]  # the others are delivered with the last


def test_rows_of_a_fast_input_are_gathered_before_they_are_imported() -> None:
    """What is read at once is sent at once, each key once, however often it is repeated."""
    clock = FakeClock()
    rows = rows_of(*(f"k{i % 7}" for i in range(40)))
    script = [part for i in range(0, 40, 4) for part in (records(rows[i : i + 4]), state(i))]
    done = sync(
        "qobra", "append", [*script, complete()], clock=clock, vendor=QobraVendor(clock), slots=2
    ).run()
    assert done.error is None
    assert sorted(key for ids in ids_of(done) for key in ids) == [f"k{i}" for i in range(7)]
    assert {row["id"]: row["version"] for row in done.vendor.rows()} == {
        f"k{i % 7}": i for i in range(40)
    }
    assert done.acknowledged == list(range(0, 40, 4))
    assert done.counts == (40, 40, 0)


@pytest.mark.parametrize("pause", [0.3, 20.0])
def test_a_row_is_not_held_past_a_pause(pause: float) -> None:
    """Nothing newer comes from a silent source, so a full batch leaves."""
    clock = FakeClock()
    done = sync(
        "qobra",
        "append",
        [records(rows_of("a", "b")), pause, records(rows_of("c")), complete()],
        clock=clock,
        vendor=QobraVendor(clock),
        max_rows=2,
    ).run()
    assert done.transport.writes[0].at == pytest.approx(dispatch.PAUSE_S, abs=0.01)


def test_a_steady_input_holds_no_row_longer_than_a_while() -> None:
    """Where rows trickle without a pause, a full batch leaves all the same."""
    clock = FakeClock()
    script: list[Message | float] = []
    for i in range(60):
        script += [records(rows_of(f"k{i}")), 0.1]
    done = sync(
        "qobra",
        "append",
        [*script, complete()],
        clock=clock,
        vendor=QobraVendor(clock),
        max_rows=10,
    ).run()
    assert done.transport.writes[0].at == pytest.approx(0.9 + dispatch.LONGEST_HOLD_S, abs=0.2)


@pytest.mark.parametrize(
    ("keys", "held_s"), [(("a", "c", "b"), 0.0), (("a", "a", "b"), dispatch.PAUSE_S)]
)
def test_few_rows_are_held_until_a_key_repeats(
    monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...], held_s: float
) -> None:
    """Without repeats nothing is won by holding more, and it costs memory and CPU."""
    monkeypatch.setattr(dispatch, "FEW_HELD_BYTES", 1)
    script: list[Message | float] = [*[records(rows_of(key)) for key in keys], 1.0, complete()]
    done = sync("qobra", "append", script, max_rows=1).run()
    assert done.error is None
    [left] = [sent.at for sent in done.transport.writes if b'"b"' in (sent.request.body or b"")]
    assert left == pytest.approx(held_s, abs=0.1)


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the waiting rows grow too many, the source waits for the imports."""
    monkeypatch.setattr(dispatch, "MAX_HELD_BYTES", 6_000)
    clock = FakeClock()
    vendor = QobraVendor(clock, delay_s=30.0)
    keys = [f"k{i}" for i in range(40)]
    script = [records(rows_of(*keys)[i : i + 4]) for i in range(0, 40, 4)]
    done = sync(
        "qobra",
        "append",
        [*script, 1.0, *script, complete()],
        clock=clock,
        vendor=vendor,
        slots=2,
    )
    held: list[int] = []
    done.on_read = lambda _: held.append(done.lanes[DEALS].held_bytes)
    done.run()
    assert done.error is None
    assert max(held) <= 6_000 + 4 * 600
    assert len(done.vendor.rows()) == 40


def test_a_stalled_vendor_stops_a_source_that_repeats_a_few_keys() -> None:
    """Rows that replace each other need no room, but what they prove waits, so they are bounded."""
    clock = FakeClock()
    rows = [records(rows_of(*"abcdefgh") * 500) for _ in range(40)]
    done = sync(
        "qobra",
        "append",
        [records(rows_of(*"abcdefgh")), 1.0, *rows, complete()],
        clock=clock,
        vendor=QobraVendor(clock, delay_s=600.0),
        max_rows=8,
    )
    read: list[int] = []
    done.on_read = lambda _: read.append(done.counts[0]) if clock.elapsed < 500 else None
    done.run()
    assert done.error is None
    assert max(read) <= 70_000 < done.counts[0] == done.counts[1]


class Case:
    """A random sync of few keys, and what must hold of it."""

    def __init__(self, seed: int, vendor: Literal["qobra", "kore"], mode: SyncMode) -> None:
        self.random = random = Random(seed)
        self.vendor, self.mode = vendor, mode
        self.rows: list[Row] = []
        self.held: dict[str, int] = {}
        self.ends: list[int] = []
        self.script: list[Message | float] = []
        for _ in range(random.randint(3, 12)):
            chunk = rows_of(*random.choices("abcdefghij", k=random.randint(1, 7)))
            for row in chunk:
                row["version"] = len(self.rows)
                self.rows.append(row)
            self.script.append(records(chunk))
            if random.random() < 0.6:
                self.script.append(state(len(self.ends)))
                self.ends.append(len(self.rows))
            if random.random() < 0.4:
                self.script.append(random.choice([0.1, 1.0, 7.0]))

    def run(self) -> Sync:
        random, clock = self.random, FakeClock()
        vendor = (
            QobraVendor(
                clock, delay_s=random.choice([0.5, 8.0]), jitter=Random(self.random.random())
            )
            if self.vendor == "qobra"
            else KoreVendor()
        )
        faults = {random.randint(1, 30): random.choice(FAULTS) for _ in range(random.randint(0, 3))}
        return sync(
            self.vendor,
            self.mode,
            [*self.script, complete()],
            clock=clock,
            vendor=vendor,
            faults=faults,
            slots=random.randint(0, 4),
            seed=random.choice([None, random.randint(0, 99)]),
            max_rows=random.randint(1, 5),
            on_state=self.check_state,
            on_request=self.look,
        ).run()

    def look(self, done: Sync) -> None:
        """A key is out of Kore.ai's table while a newer version of it replaces another."""
        for row in done.vendor.rows():
            self.held[row["id"]] = max(self.held.get(row["id"], -1), row["version"])

    def check_state(self, number: int, done: Sync) -> None:
        self.look(done)
        for row in self.rows[: self.ends[number]]:
            assert self.held.get(row["id"], -1) >= row["version"], "a state left too early"

    def check_end(self, done: Sync) -> None:
        assert done.error is None
        assert done.acknowledged == list(range(len(self.ends)))
        last = {row["id"]: row["version"] for row in self.rows}
        found = Counter(row["id"] for row in done.vendor.rows())
        assert {row["id"]: row["version"] for row in done.vendor.rows()} == last
        assert max(found.values()) == 1
        assert done.counts == (len(self.rows), len(self.rows), 0)
        lane = done.lanes[DEALS]
        lane.release_keys(float("inf"))  # those that linger after a lost answer
        assert (lane.held_bytes, lane.tracked, lane.repeats._known) == (0, {}, set())


@pytest.mark.parametrize("block", range(4))
@pytest.mark.parametrize(
    ("vendor", "mode"), [("qobra", "append"), ("qobra", "append_dedup"), ("kore", "append_dedup")]
)
def test_repeated_keys_under_faults(
    vendor: Literal["qobra", "kore"], mode: SyncMode, block: int
) -> None:
    """Random keys, slow imports, lost answers: the last version stays, no state leaves early."""
    for seed in range(60 * block, 60 * block + 60):
        case = Case(seed, vendor, mode)
        case.check_end(case.run())


class Upserts:
    """An API that upserts rows by id, in memory."""

    def __init__(self) -> None:
        self.table: dict[str, Row] = {}

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Store the rows."""
        rows = json.loads(request.body or b"")["rows"]
        self.table |= {row["id"]: row for row in rows}
        return HttpResponse(200, {}, b"{}")

    def rows(self) -> list[Row]:
        """What a reader of the table sees."""
        return list(self.table.values())


@pytest.mark.parametrize("seed", range(40))
def test_upserts_of_any_api_keep_the_order_of_a_key(seed: int) -> None:
    """custom_http, several requests at a time, each answered in any order."""
    form: Any = {
        "provider_type": "custom_http",
        "base_url": "http://127.0.0.1",
        "authentication": {"auth_type": "none"},
        "write_path": "/{table}/bulk",
        "body": {"body_type": "object", "rows_path": "rows"},
        "check_path": "/me",
        "upsert": {"upsert_type": "request", "method": "PUT"},
        "max_parallel_requests": 4,
    }
    provider = parse({"provider": form}, PROVIDERS, is_cloud=False).provider
    vendor: Any = Upserts()
    case = Case(seed, "kore", "append_dedup")
    done = Sync(
        provider,
        vendor,
        FakeClock(),
        catalog_of("append_dedup"),
        [*case.script, complete()],
        faults={case.random.randint(1, 20): case.random.choice(FAULTS)},
        slots=4,
        seed=seed,
        max_rows=case.random.randint(1, 5),
        on_state=case.check_state,
        on_request=case.look,
    ).run()
    case.check_end(done)
