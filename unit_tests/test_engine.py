"""The engine in whole syncs: when a state leaves, what waits for what, and how a sync ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest

from destination_bulk_tables.dispatch import MAX_FLYING_BYTES
from destination_bulk_tables.errors import (
    BadInput,
    BadRows,
    ConfigError,
    DestinationError,
    InternalError,
    Stopped,
    TransientError,
    UnaccountedRows,
)
from destination_bulk_tables.http import HttpRequest, HttpResponse
from destination_bulk_tables.lanes import Job, Lane, Tracked
from destination_bulk_tables.ledger import Ledger
from destination_bulk_tables.mapping import TableEntry
from destination_bulk_tables.messages import BadRecord, Message, StateMessage, StatusMessage
from destination_bulk_tables.model import Batch, Epoch, Receipt, RowBlock, StreamKey, Table
from destination_bulk_tables.outcomes import Mingled, ReplacePlan, Verdict
from destination_bulk_tables.spool import DiskBudget
from destination_bulk_tables.states import StateStore
from unit_tests.fakes import (
    FakeClock,
    InlineWorkers,
    ScriptedSource,
    SilentWorkers,
    T,
    answer_status,
    apply_then_status,
    cut_after,
    cut_before,
)
from unit_tests.syncs import DEALS, Sync, SyncMode, catalog_of, complete, records, state, sync
from unit_tests.vendors import KoreVendor, QobraVendor, Row

USERS = StreamKey(None, "users")
ROWS: list[Row] = [{"id": f"d{i}", "name": f"n{i}", "amount": i, "version": 1} for i in range(12)]


def test_a_row_waits_no_longer_than_configured() -> None:
    """A silent source still gets its rows sent and its state acknowledged."""
    done = sync("kore", "append", [records(ROWS[:2]), state(1), 60.0, complete()], max_rows=100)
    left: list[float] = []
    done.on_state = lambda _, it: left.append(it.clock.elapsed)
    done.run()
    assert done.acknowledged == [1]
    assert left[0] == pytest.approx(30.0, abs=1.1)


def test_a_state_does_not_cut_a_batch() -> None:
    """A source that sends a state every row still gets full batches."""
    script = [part for i in range(8) for part in (records(ROWS[i : i + 1]), state(i))]
    done = sync("kore", "append", [*script, complete()]).run()
    assert [len(sent.request.body or b"") > 150 for sent in done.transport.writes] == [True, True]
    assert done.acknowledged == list(range(8))


def test_memory_is_bounded_over_all_open_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """When all open batches together grow too large, the largest leaves."""
    monkeypatch.setattr("destination_bulk_tables.intake.MAX_OPEN_BYTES", 400)
    vendor = KoreVendor()
    vendor.tables["users"] = []
    done = sync(
        "kore",
        "append",
        [records(ROWS[:1], USERS), records(ROWS), state(1), complete(), complete(USERS)],
        catalog=catalog_of("append", "deals", "users"),
        vendor=vendor,
        max_rows=100,
    )
    written: list[str] = []
    done.on_request = lambda it: written.append(it.transport.sent[-1].request.path)
    done.run()
    inserts = [path for path in written if path.endswith("bulk")]
    assert done.error is None
    assert inserts[0] == "/api/public/tables/deals/bulk"


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_requests_under_way_are_bounded(slots: int) -> None:
    """No more than the configured number at a time, and reading stops while batches wait."""
    under_way: list[int] = []
    queued: list[int] = []
    script = [records([row]) for row in ROWS * 5]
    done = sync("kore", "append", [*script, complete()], slots=slots, seed=4, max_rows=1)

    def look(_: int) -> None:
        under_way.append(len(done.lanes[DEALS].in_flight))
        queued.append(len(done.lanes[DEALS].queue))

    done.on_read = look
    done.run()
    assert done.error is None
    assert max(under_way) <= slots
    assert max(queued) <= slots
    assert slots == 1 or max(under_way) > 1


def test_the_lines_of_rows_count_among_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report of rejected rows keeps the line of each, which may be far longer than its row."""
    monkeypatch.setattr("destination_bulk_tables.dispatch.MAX_FLYING_BYTES", 5000)
    under_way: list[int] = []
    script: list[Message | float] = [records(ROWS * 5, line=b"x" * 500), complete()]
    done = sync("kore", "append", script, slots=0, seed=1)
    done.on_request = lambda it: under_way.append(
        sum(batch.block.held_bytes for batch in it.lanes[DEALS].in_flight.values())
    )
    done.run()
    assert done.error is None
    assert 2000 < max(under_way) <= 5000


def test_the_number_of_requests_is_found_while_they_are_answered() -> None:
    """Quick answers bring more at a time, never more than eight; a busy vendor gets fewer."""
    script = [records([row]) for row in ROWS * 20]
    often = {i: answer_status(429) for i in range(6, 400, 3)}
    done = sync("kore", "append", [*script, complete()], slots=0, seed=3, max_rows=1)
    highest: list[int] = []
    done.on_read = lambda _: highest.append(len(done.lanes[DEALS].in_flight))
    done.run()
    assert (done.error, len(done.vendor.rows())) == (None, 240)
    assert 2 < max(highest) <= 8
    busy = sync("kore", "append", [*script, complete()], slots=0, seed=3, max_rows=1, faults=often)
    busy.run()
    assert (busy.error, len(busy.vendor.rows())) == (None, 240)
    assert busy.lanes[DEALS].pace.limit == 1


@pytest.mark.parametrize("slots", [0, 8])
def test_large_requests_are_few_at_a_time(slots: int) -> None:
    """What is under way is bounded in bytes, but for a number that was set."""
    rows = [{"id": str(i), "name": "x" * 2_500_000} for i in range(10)]
    done = sync("kore", "append", [records(rows), complete()], slots=slots, seed=3, max_rows=1)
    lane = done.lanes[DEALS]
    lane.pace.limit = 8
    flying: list[int] = []
    done.on_read = lambda _: flying.append(sum(b.block.n_bytes for b in lane.in_flight.values()))
    done.run()
    assert (done.error, len(done.vendor.rows())) == (None, 10)
    assert (max(flying) <= MAX_FLYING_BYTES) is (slots == 0)


def test_a_table_of_small_requests_does_not_wait_for_one_of_large() -> None:
    """Each has one request under way at least."""
    large = [{"id": str(i), "name": "x" * 3_999_000} for i in range(5)]
    small = [{**row, "name": "y" * 1000} for row in ROWS]
    calls = StreamKey(None, "calls")
    first, *more = [records(small[i : i + 4], calls) for i in range(0, 12, 4)]
    script: list[Message | float] = [first, 1.0, records(large), *more, complete(), complete(calls)]
    vendor = KoreVendor()
    vendor.tables["calls"] = []
    catalog = catalog_of("append", "deals", "calls")
    done = sync("kore", "append", script, catalog=catalog, vendor=vendor, slots=0, seed=1)
    done.lanes[DEALS].pace.limit = 8
    beside: list[bool] = []
    done.on_read = lambda _: beside.append(
        len(done.lanes[DEALS].in_flight) == 3 and bool(done.lanes[calls].in_flight)
    )
    done.run()
    assert (done.error, len(vendor.rows("calls")), any(beside)) == (None, len(ROWS), True)


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_question_that_is_refused_as_too_large_is_no_fault_of_ours(mode: Any) -> None:
    """A gateway answered a request of some bytes so; the next attempt may meet another one."""
    done = sync("kore", mode, [records(ROWS), state(1), complete()], faults={1: answer_status(413)})
    done.run()
    assert isinstance(done.error, TransientError)
    assert "a gateway or a proxy" in done.error.message
    assert (done.acknowledged, done.vendor.rows()) == ([], [])


@pytest.mark.parametrize("seed", range(4))
def test_questions_take_a_slot_and_count_as_requests(seed: int) -> None:
    """One at a time is one at a time, whatever is asked of whatever table."""
    names = ("deals", "calls", "notes")
    keys = [StreamKey(None, name) for name in names]
    vendor = KoreVendor()
    vendor.tables |= {name: [] for name in names}
    script: list[Message | float] = [records(ROWS[:4], key) for key in keys]
    script += [complete(key) for key in keys]
    more: Any = {"vendor": vendor, "seed": seed, "faults": {1: answer_status(429)}}
    done = sync("kore", "append", script, slots=1, catalog=catalog_of("append", *names), **more)
    running: list[int] = []
    done.on_request = lambda _: running.append(len(done.workers._running))  # type: ignore[union-attr]
    done.run()
    assert (done.error, max(running)) == (None, 1)
    counts = done.progress.counts.values()
    assert sum(count.requests for count in counts) == len(done.transport.sent) == 7
    assert sum(count.retries for count in counts) == 1


def test_the_first_failure_is_told_and_stops_what_is_under_way() -> None:
    """What fails after it may be because of it."""
    done = sync("kore", "append", [])
    tasks = done.engine()._tasks
    for text in ("first", "second"):
        tasks.fail(TransientError(text), done.lanes[DEALS])
    assert tasks.failure is not None
    assert (tasks.failure.message, done.halt.is_set()) == ("first", True)


def test_a_keyed_row_never_overtakes_its_key() -> None:
    """With many requests under way, versions of a key still arrive in order."""
    rows = [{"id": f"k{i % 3}", "version": i} for i in range(30)]
    for seed in range(6):
        done = sync(
            "kore", "append_dedup", [records(rows), complete()], slots=4, seed=seed, max_rows=2
        ).run()
        assert done.error is None
        assert {row["id"]: row["version"] for row in done.vendor.rows()} == {
            "k0": 27,
            "k1": 28,
            "k2": 29,
        }


@pytest.mark.parametrize("slots", [3, 0], ids=["three", "found"])
def test_several_batches_in_doubt_are_looked_at_one_by_one(slots: int) -> None:
    """All writes under way are cut; each is read back alone, counting the others."""
    for seed in range(8):
        done = sync(
            "kore",
            "append",
            [records(ROWS), state(1), complete()],
            slots=slots,
            seed=seed,
            faults={2: cut_after, 3: cut_before, 4: cut_after},
        ).run()
        assert done.error is None
        assert sorted(row["amount"] for row in done.vendor.rows()) == list(range(12))
        assert done.acknowledged == [1]


# --- the end


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_stream_without_complete_fails_the_sync(mode: Any) -> None:
    """Rows that are appended stay and are acknowledged; a table to replace is not touched."""
    vendor = KoreVendor()
    vendor.put([{"id": "old"}])
    done = sync("kore", mode, [records(ROWS), state(1)], vendor=vendor).run()
    assert isinstance(done.error, TransientError)
    assert "deals" in done.error.message
    if mode == "append":
        assert (done.acknowledged, len(vendor.rows())) == ([1], 13)
    else:
        assert (done.acknowledged, vendor.rows()) == ([], [{"id": "old"}])


def test_incomplete_wins_over_complete() -> None:
    """A source that says a stream is incomplete has not completed it."""
    broken = StatusMessage(DEALS, "INCOMPLETE", is_qualified=True)
    done = sync("kore", "overwrite", [records(ROWS), broken, complete()]).run()
    assert isinstance(done.error, TransientError)
    assert done.transport.sent == []


def test_a_status_without_a_namespace_counts_for_the_stream_of_that_name() -> None:
    """PyAirbyte leaves the namespace out."""
    loose = StatusMessage(StreamKey(None, "deals"), "COMPLETE", is_qualified=False)
    catalog: Any = catalog_of("append")
    catalog["streams"][0]["stream"]["namespace"] = "crm"
    key = StreamKey("crm", "deals")
    done = sync("kore", "append", [records(ROWS, key), loose], catalog=catalog).run()
    assert done.error is None
    strict = StatusMessage(StreamKey(None, "deals"), "COMPLETE", is_qualified=True)
    done = sync("kore", "append", [records(ROWS, key), strict], catalog=catalog).run()
    assert done.error is None


@pytest.mark.parametrize(
    ("given", "namespace", "is_taken"),
    [
        (["crm"], None, True),
        (["crm"], "renamed", True),
        ([None], "public", True),
        (["crm", "erp"], None, False),
        (["crm", "erp"], "renamed", False),
        (["crm", None], "renamed", False),
        (["crm", None], None, True),
    ],
)
def test_what_names_no_namespace_of_the_catalog_is_of_the_only_stream_of_that_name(
    given: list[str | None],
    namespace: str | None,
    is_taken: bool,  # noqa: FBT001
) -> None:
    """Records, states and statuses alike; what could be of two streams is an error that says so."""
    catalog: Any = catalog_of("append", *["deals"] * len(given))
    tables = tuple(TableEntry("deals", name, f"t{i}", None) for i, name in enumerate(given) if name)
    for stream, name in zip(catalog["streams"], given, strict=True):
        stream["stream"]["namespace"] = name
    vendor = KoreVendor()
    vendor.tables |= {"t0": [], "t1": []}
    key = StreamKey(namespace, "deals")
    script: list[Message | float] = [
        *(records(ROWS[:3], key), state(1, key), complete(key)),
        *(complete(StreamKey.of(name, "deals")) for name in given),
    ]
    done = sync("kore", "append", script, catalog=catalog, vendor=vendor, tables=tables).run()
    if is_taken:
        assert (done.error, done.acknowledged) == (None, [1])
        return
    assert isinstance(done.error, BadInput)
    assert "the catalog has" in done.error.message
    assert "crm.deals" in done.error.message


def test_a_state_of_an_unknown_stream_waits_for_all_rows_before_it() -> None:
    """Rows that are not delivered are not acknowledged by whatever name."""
    unknown = state(1, StreamKey("other", "gone"))
    script: list[Message | float] = [records(ROWS), unknown, complete()]
    done = sync("kore", "append", script, faults={2: answer_status(403)}).run()
    assert isinstance(done.error, ConfigError)
    assert done.acknowledged == []
    done = sync("kore", "append", script).run()
    assert (done.error, done.acknowledged) == (None, [1])


def test_large_states_do_not_wait_for_a_batch_to_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for rows is bounded in bytes: their batch leaves early."""
    monkeypatch.setattr("destination_bulk_tables.engine.MAX_STATE_BYTES", 1000)
    script = [part for i, row in enumerate(ROWS) for part in (records([row]), state(i))]
    done = sync("kore", "append", [*script, complete()], max_rows=100)
    written: list[int] = []
    done.on_state = lambda _, it: written.append(len(it.transport.writes))
    done.run()
    assert done.acknowledged == list(range(12))
    assert written[0] == 1
    assert len(done.transport.writes) > 1


def test_an_import_that_nobody_follows_overtakes_no_newer_version() -> None:
    """Its answer was lost; the newer version of its key waits a while longer."""
    clock = FakeClock()
    vendor = QobraVendor(clock, delay_s=5.0)
    versions: list[Row] = [{"id": "a", "version": 1}, {"id": "a", "version": 2}]
    done = sync(
        "qobra",
        "append",
        [*(records([row]) for row in versions), complete()],
        vendor=vendor,
        clock=clock,
        max_rows=1,
        faults={1: cut_after},
    )

    def slow(it: Sync) -> None:
        if len(it.transport.sent) == 1:
            vendor.runs[0].finish_at = clock.elapsed + 20  # the one whose answer is lost

    done.on_request = slow
    done.run()
    clock.advance(100.0)
    assert done.error is None
    assert [row["version"] for row in vendor.rows()] == [2]


def test_a_status_that_names_a_stream_counts_for_no_other() -> None:
    """Without a namespace it is the stream without one, where there is one."""
    catalog: Any = catalog_of("append", "deals", "deals")
    catalog["streams"][1]["stream"]["namespace"] = "crm"
    loose = StatusMessage(DEALS, "COMPLETE", is_qualified=False)
    elsewhere = TableEntry("deals", "crm", "users", None)
    done = sync("kore", "append", [loose], catalog=catalog, tables=(elsewhere,)).run()
    assert isinstance(done.error, TransientError)
    assert "streams: crm.deals." in done.error.message


def test_without_generation_ids_a_clean_end_counts_as_complete() -> None:
    """A platform that sends no ids sends no statuses either."""
    catalog: Any = catalog_of("overwrite")
    for name in ("generation_id", "minimum_generation_id", "sync_id"):
        del catalog["streams"][0][name]
    done = sync("kore", "overwrite", [records(ROWS), state(1)], catalog=catalog).run()
    assert (done.error, done.acknowledged) == (None, [1])


def test_an_unknown_stream_ends_the_input() -> None:
    """What came before it is still delivered and acknowledged."""
    done = sync(
        "kore",
        "append",
        [records(ROWS[:3]), state(1), records(ROWS, USERS), state(2), complete()],
    ).run()
    assert isinstance(done.error, BadInput)
    assert done.acknowledged == [1]
    assert len(done.vendor.rows()) == 3


def test_a_state_that_cannot_leave_is_an_error() -> None:
    """A clean end with a pending state is never silence."""
    done = sync("kore", "append", [records(ROWS), state(1), complete()])
    done.ledger.count_read(DEALS, 1)
    done.run()
    assert isinstance(done.error, InternalError)
    assert done.acknowledged == []


def test_a_stop_acknowledges_only_what_is_settled() -> None:
    """SIGTERM: no new request, the ones under way settle, no state beyond them."""
    errors = []
    for at in range(1, 40):
        done = sync(
            "kore", "append", [records(ROWS[:6]), state(1), records(ROWS[6:]), state(2), complete()]
        )

        def stop(number: int, done: Sync = done, at: int = at) -> None:
            if number == at:
                done.stop.set()

        done.on_read = stop
        done.run()
        errors.append(type(done.error))
        assert done.halt.is_set() is (done.error is not None)
        assert len(done.vendor.rows()) >= [0, 6, 12][len(done.acknowledged)]
    assert set(errors) == {Stopped, type(None)}


class _OneIsStuck(InlineWorkers):
    """The first write never comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = 0

    def submit(self, job: Callable[[], T], then: Callable[[T], None]) -> None:
        self.jobs += 1
        if self.jobs != 2:  # the first counts the table
            super().submit(job, then)


@pytest.mark.parametrize("cause", ["stop", "failure", "stop after a failure"])
def test_a_request_that_never_ends_does_not_hold_the_end(cause: str) -> None:
    """A stop waits 8 seconds for what is under way, a failure 30, a stop during that 8 more."""
    done = sync(
        "kore",
        "append",
        [records(ROWS[:4]), state(1), records(ROWS[4:8]), 600.0, complete()],
        vendor=KoreVendor(is_bad=lambda row: cause != "stop" and row["id"] == "d5"),
        policy="fail",
        slots=2,
    )
    done.workers = _OneIsStuck()
    asked: list[float] = []

    def look(number: int) -> None:
        if cause == "stop" and number == 6:
            done.stop.set()
            asked.append(done.clock.elapsed)
        if done.halt.is_set() and not asked:
            asked.append(done.clock.elapsed)
        if cause == "stop after a failure" and asked and done.clock.elapsed > asked[0] + 5:
            done.stop.set()

    done.on_read = look
    done.run()
    waited = done.clock.elapsed - asked[0]
    assert isinstance(done.error, Stopped if cause == "stop" else ConfigError)
    assert (done.error.stream is None) == (cause == "stop")
    assert done.acknowledged == []
    low, high = {"stop": (7.5, 10.0), "failure": (29.0, 31.0)}.get(cause, (12.0, 14.0))
    assert low < waited < high


class _WritesEndLast(InlineWorkers):
    """What was written comes back when the sync has failed."""

    def __init__(self, done: Sync) -> None:
        super().__init__()
        self._sync = done
        self._late: list[Callable[[], None]] = []

    def submit(self, task: Callable[[], T], then: Callable[[T], None]) -> None:
        n_writes = len(self._sync.transport.writes)
        result = task()
        is_first_write = n_writes == 0 < len(self._sync.transport.writes)
        (self._late if is_first_write else self._done).append(lambda: then(result))

    def deliver_results(self) -> None:
        super().deliver_results()
        if self._sync.halt.is_set():
            self._done.extend(self._late)
            self._late.clear()


@pytest.mark.parametrize("is_stopped", [False, True])
def test_what_is_under_way_when_a_sync_fails_is_settled(is_stopped: bool) -> None:  # noqa: FBT001
    """Its states leave, the end waits no longer than for its answer, and nothing more is read."""
    script: list[Message | float] = [
        records(ROWS[:4]),
        state(1),
        records(ROWS[4:8]),
        0.5,
        records(ROWS[8:]),
        state(2),
    ]
    done = sync("kore", "append", [], slots=2, faults={} if is_stopped else {3: answer_status(403)})
    done.workers = _WritesEndLast(done)
    source = ScriptedSource.of(script, done.clock, done.workers)
    if is_stopped:
        source.on_read = lambda number: done.stop.set() if number == 5 else None
    with pytest.raises(Stopped if is_stopped else ConfigError):
        done.engine().run(source)
    assert (done.acknowledged, len(source.script)) == ([1], 1 if is_stopped else 3)
    assert done.clock.elapsed < 1.0


def test_nothing_is_read_behind_bad_input() -> None:
    """What waits for an answer reads nothing, and what is not read is not lost in silence."""
    script: list[Message | float] = [records(ROWS[:3]), state(1), records(ROWS, USERS), state(2)]
    done = sync("kore", "append", [])
    source = ScriptedSource.of(script, done.clock, done.workers)
    with pytest.raises(BadInput):
        done.engine().run(source)
    assert (done.acknowledged, len(source.script)) == ([1], 1)


def test_a_sync_that_fails_frees_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of staged rows and of states that wait, whoever still holds the engine."""
    monkeypatch.setattr("destination_bulk_tables.states.MEMORY_BYTES", 0)
    store = StateStore(DiskBudget(str(tmp_path), 1000))
    done = sync("kore", "overwrite", [records(ROWS), state(1)])
    done.ledger = Ledger(store)
    load = done.lanes[DEALS].load
    assert load is not None
    files: list[Any] = []
    done.on_read = lambda _: files.extend([store._file, load._rows._file])
    done.run()
    assert isinstance(done.error, TransientError)
    states, rows = files[-2:]
    assert (states.closed, rows.closed) == (True, True)


def test_gathered_rows_leave_when_the_input_ends() -> None:
    """Nothing newer will come for which they could wait."""
    done = sync("qobra", "append", [records(ROWS[:1]), complete()]).run()
    assert (done.error, [sent.at for sent in done.transport.writes]) == (None, [0.0])


def test_an_open_batch_is_waited_for_no_longer_than_it_may_stay_open() -> None:
    """Not a moment past its time, and not at all when that is over."""
    done = sync("kore", "append", [], max_wait_s=0.75, max_rows=100)
    engine = done.engine()
    done.clock.advance(8.0)
    engine._intake.take(records(ROWS[:1]))
    assert engine._patience() == 0.75
    done.clock.advance(0.5)
    engine._turn()
    assert (engine._patience(), done.lanes[DEALS].batcher.opened_at) == (0.25, 8.0)
    done.clock.advance(0.25)
    engine._turn()
    assert done.lanes[DEALS].batcher.opened_at is None
    staged = sync("kore", "overwrite", [], max_wait_s=0.75)
    engine = staged.engine()
    engine._intake.take(records(ROWS[:1]))
    assert engine._patience() == 1.0  # it leaves at the end
    load = staged.lanes[DEALS].load
    assert load is not None
    load.close()


def test_the_first_failure_is_the_one_told() -> None:
    """Later failures of other threads follow from the stop."""
    done = sync(
        "kore",
        "append",
        [records(ROWS), state(1), complete()],
        vendor=KoreVendor(is_bad=lambda row: row["id"] in {"d1", "d9"}),
        policy="fail",
        slots=3,
        seed=1,
    ).run()
    assert isinstance(done.error, ConfigError)
    assert done.acknowledged == []


def test_a_failure_names_the_stream_it_is_about() -> None:
    """A provider's flow says what is wrong with a table; whose table that is the sync knows."""
    script: list[Message | float] = [records(ROWS), state(1), complete()]
    done = sync("kore", "overwrite", script, vendor=KoreVendor(reads=False)).run()
    assert isinstance(done.error, ConfigError)
    assert done.error.stream == DEALS


# --- rejected rows


def test_bad_records_are_rejected_and_counted() -> None:
    """A record that is not JSON is a rejected row of its epoch."""
    bad = BadRecord(DEALS, "not_json", "it holds NaN", b'{"id":"nan"}')
    done = sync("kore", "append", [records(ROWS[:3]), bad, state(1), complete()]).run()
    assert done.states[0]["destinationStats"] == {"recordCount": 3, "rejectedRecordCount": 1}
    assert done.counts == (4, 3, 1)


@pytest.mark.parametrize("kind", ["append", "overwrite"])
def test_too_many_rejected_rows_end_the_sync(kind: Any) -> None:
    """Over the limit nothing more is acknowledged."""
    vendor = KoreVendor(is_bad=lambda row: row["amount"] >= 6)
    done = sync(
        "kore",
        kind,
        [records(ROWS[:4]), state(1), records(ROWS[4:]), state(2), complete()],
        vendor=vendor,
        max_rejected=3,
    ).run()
    assert isinstance(done.error, ConfigError)
    assert done.acknowledged == ([1] if kind == "append" else [])


def test_rows_too_large_for_a_replace_are_rejected() -> None:
    """They are found before anything is staged, and counted in their epoch."""
    rows = [*ROWS[:3], {"id": "large", "name": "x" * 500, "amount": 1, "version": 1}]
    done = sync("kore", "overwrite", [records(rows), state(1), complete()], max_bytes=400).run()
    assert done.error is None
    assert done.rejected_ids == ["large"]
    assert done.states[0]["destinationStats"] == {"recordCount": 3, "rejectedRecordCount": 1}
    assert done.counts == (4, 3, 1)


@pytest.mark.parametrize("vendor", ["kore", "qobra"])
def test_a_row_too_large_for_a_replace_ends_it_before_it_begins(vendor: Any) -> None:
    """Under policy fail the table is not touched for a load that cannot be sent as a whole."""
    rows = [ROWS[0], {"id": "large", "name": "x" * 500, "amount": 1, "version": 1}, ROWS[1]]
    done = sync(
        vendor,
        "overwrite",
        [records(rows), state(1), complete()],
        max_bytes=400,
        max_rows=1,
        policy="fail",
    ).run()
    assert isinstance(done.error, ConfigError)
    assert (done.transport.sent, done.acknowledged) == ([], [])


# --- counting


def test_superseded_rows_count_as_delivered() -> None:
    """Earlier versions of a key are delivered with the last one, in either way of writing."""
    rows = [{"id": "a", "version": i} for i in range(5)]
    vendors: tuple[Literal["kore", "qobra"], ...] = ("kore", "qobra")
    modes: tuple[SyncMode, ...] = ("append_dedup", "overwrite")
    for vendor in vendors:
        for mode in modes:
            if (vendor, mode) == ("kore", "overwrite"):
                continue
            done = sync(vendor, mode, [records(rows), state(1), complete()], max_rows=10).run()
            assert done.error is None
            assert done.counts == (5, 5, 0)
            assert done.vendor.rows() == [{**rows[-1], "name": None, "amount": None}] or (
                vendor == "kore" and done.vendor.rows() == [rows[-1]]
            )


@pytest.mark.parametrize(("bound", "most"), [("ROWS", 8), ("JOBS", 2)])
def test_background_work_bounds_what_is_read(
    monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    """A vendor that imports slowly holds the source back."""
    monkeypatch.setattr(f"destination_bulk_tables.dispatch.MAX_UNVERIFIED_{bound}", most)
    clock = FakeClock()
    vendor = QobraVendor(clock, delay_s=50.0)
    done = sync(
        "qobra",
        "append",
        [*[records(ROWS[i : i + 4]) for i in (0, 4, 8)], complete()],
        clock=clock,
        vendor=vendor,
    ).run()
    assert done.error is None
    times = [sent.at for sent in done.transport.writes]
    assert [late - early > 40 for early, late in pairwise(times)] == [False, True]


def test_polls_grow_apart() -> None:
    """A long import is not asked for all the time."""
    job = Job()
    job.add(Receipt("i", 1), Tracked(batch_of_keys()), 0.0)
    job.postpone(0.0)
    first = job.next_poll
    for _ in range(20):
        job.postpone(0.0)
    assert first < 1.0
    assert job.next_poll == 15.0


def test_an_acceptance_begins_the_wait_for_its_job_anew() -> None:
    """Polls grow apart up to a bound, and what joins a job later has as long as the first."""
    job, tracked = Job(), Tracked(batch_of_keys())
    job.add(Receipt("i", 2, resent=1), tracked, 5.0)
    assert (job.accepted_at, job.next_poll, job.rows, job.revision) == (5.0, 5.2, 2, 1)
    for _ in range(20):
        job.postpone(10.0)
    assert job.next_poll == 25.0
    job.add(Receipt("i", 3, resent=2), tracked, 50.0)
    assert (job.accepted_at, job.next_poll, job.rows, job.revision) == (50.0, 50.2, 5, 2)
    assert job.receipts == {"i": Receipt("i", 5, resent=3)}
    job.postpone(60.0)
    assert job.next_poll == pytest.approx(60.32)


def test_one_import_of_several_requests_is_one_job() -> None:
    """Receipts of one id add up, and each new one has it asked for soon again."""
    job = Job()
    batch = Tracked(Batch(1, Table("t", DEALS, "append"), RowBlock((), 0, []), "end"))
    job.add(Receipt("i", 2, 1), batch, 0.0)
    for _ in range(9):
        job.postpone(0.0)
    job.add(Receipt("i", 3, 3), batch, 5.0)
    job.add(Receipt("j", 1), batch, 5.0)
    assert job.receipts == {"i": Receipt("i", 5, 4), "j": Receipt("j", 1, 0)}
    assert job.rows == 6
    assert job.next_poll < 6.0
    assert job.revision == 3


def test_blame_fills_epochs_in_order() -> None:
    """Rows of which only the batch is known count against its epochs, and never twice."""
    one, two = Epoch(), Epoch()
    batch = Batch(
        1, Table("t", DEALS, "append"), RowBlock((), 0, []), "end", epochs=((one, 2), (two, 2))
    )
    tracked = Tracked(batch)
    tracked.count_rejected(one)
    tracked.count_rejected(None)
    assert tracked.blame(2) == 0
    assert tracked.rejected == {one: 2, two: 1}
    assert tracked.blame(3) == 2


def lane_of_one() -> Lane:
    """A lane with one queued batch that may leave."""
    lane = sync("kore", "overwrite", []).lanes[DEALS]
    lane.queue.append(batch_of_keys())
    assert lane.may_send()
    return lane


def batch_of_keys(*keys: bytes) -> Batch:
    """A batch that holds these keys."""
    block = RowBlock((), 0, [])
    return Batch(9, Table("t", DEALS, "dedup"), block, "end", keys=frozenset(keys))


@pytest.mark.parametrize(
    "hold",
    [
        lambda lane: lane.queue.clear(),
        lambda lane: setattr(lane, "is_exclusive", True),
        lambda lane: lane.doubtful.append((batch_of_keys(), [])),
        lambda lane: setattr(lane, "needs_count", True),
        lambda lane: lane.__setattr__("replace", ReplacePlan(first_alone=True)),
    ],
)
def test_what_holds_a_batch_back(hold: Any) -> None:
    """Nothing queued, the table taken for one, a batch in doubt, no count yet, the first alone."""
    lane = lane_of_one()
    lane.in_flight[8] = batch_of_keys()
    hold(lane)
    assert not lane.may_send()


def test_a_load_whose_first_request_was_refused_begins_with_the_next() -> None:
    """A first request of which the vendor took nothing is not the first of the load."""
    lane = lane_of_one()
    lane.replace = ReplacePlan(first_alone=True)
    assert lane.may_send()  # the refused one is not under way any more
    lane.in_flight[8] = batch_of_keys()
    assert not lane.may_send()


def test_what_does_not_hold_a_batch_back() -> None:
    """The first of a load was accepted, or need not be alone; keys under way are others."""
    lane = lane_of_one()
    lane.in_flight[8] = batch_of_keys()
    lane.replace = ReplacePlan(first_alone=False)
    assert lane.may_send()
    lane.replace, lane.accepted = ReplacePlan(first_alone=True), 1
    assert lane.may_send()


@pytest.mark.parametrize(
    "busy",
    [
        lambda lane: lane.queue.append(batch_of_keys()),
        lambda lane: lane.in_flight.update({1: batch_of_keys()}),
        lambda lane: lane.doubtful.append((batch_of_keys(), [])),
        lambda lane: setattr(lane, "is_exclusive", True),
    ],
)
def test_what_keeps_a_lane_sending(busy: Any) -> None:
    """The end waits for each of these."""
    lane = lane_of_one()
    lane.queue.clear()
    assert not lane.is_sending
    assert not lane.is_busy
    busy(lane)
    assert lane.is_sending
    assert lane.is_busy
    lane = lane_of_one()
    lane.queue.clear()
    lane.jobs["i"] = Job()
    assert lane.is_busy
    assert not lane.is_sending


@pytest.mark.parametrize(
    ("in_flight", "is_current", "fails"),
    [(False, True, True), (True, True, False), (False, False, False), (True, False, False)],
)
@pytest.mark.parametrize("kind", [UnaccountedRows, BadRows])
def test_a_count_is_judged_when_nothing_can_have_joined(
    in_flight: bool,  # noqa: FBT001
    is_current: bool,  # noqa: FBT001
    fails: bool,  # noqa: FBT001
    kind: type[DestinationError],
) -> None:
    """A request under way, or one accepted since the question, may be in the same import."""
    made = sync("qobra", "append", [])
    lane, engine, job = made.lanes[DEALS], made.engine(), Job()
    lane.jobs["i"] = job
    job.add(Receipt("i", 1), Tracked(batch_of_keys()), 0.0)
    if in_flight:
        lane.in_flight[1] = batch_of_keys()
    found = kind("another count")
    engine._verification._judge(lane, job, lane.unverified(job, 0.0), found, is_current=is_current)
    assert (engine._tasks.failure is found) is fails
    assert job.next_poll > 0.2 or fails
    mingled = Mingled(found)
    engine._verification._judge(
        lane, job, lane.unverified(job, 0.0), mingled, is_current=is_current
    )
    assert (not lane.jobs) is fails


def test_what_no_request_can_mend_is_told_at_once() -> None:
    """A refused credential is not about what may have joined."""
    made = sync("qobra", "append", [])
    lane, engine, job = made.lanes[DEALS], made.engine(), Job()
    job.add(Receipt("i", 1), Tracked(batch_of_keys()), 0.0)
    lane.in_flight[1] = batch_of_keys()
    found = ConfigError("the key")
    engine._verification._judge(lane, job, lane.unverified(job, 0.0), found, is_current=False)
    assert engine._tasks.failure is found


def test_imports_are_asked_for_while_a_write_takes_the_only_slot() -> None:
    """A slow write holds no state back whose rows are in."""
    made = sync("qobra", "append", [])
    engine, lane = made.engine(), made.lanes[DEALS]
    job = lane.jobs["i"] = Job()
    job.add(Receipt("i", 1), Tracked(batch_of_keys()), -1.0)  # due since the beginning
    engine._tasks.running = made.slots
    assert engine._patience() == 0.0
    engine._verification.poll(0.0)
    assert engine._verification._is_polling
    assert engine._patience() == 1.0


@pytest.mark.parametrize("is_current", [True, False])
def test_an_answer_settles_only_what_was_asked_about(is_current: bool) -> None:  # noqa: FBT001
    """A request accepted since the question is not proven by its answer."""
    made = sync("qobra", "append", [])
    lane, engine, job = made.lanes[DEALS], made.engine(), Job()
    lane.jobs["i"] = job
    job.add(Receipt("i", 1), Tracked(batch_of_keys(), open_receipts=1), 0.0)
    engine._verification._judge(
        lane, job, lane.unverified(job, 0.0), Verdict(), is_current=is_current
    )
    assert (job not in lane.jobs.values()) is is_current


def test_advice_is_given_once(caplog: pytest.LogCaptureFixture) -> None:
    """More or larger rows than the vendor recommends are a warning, and nothing else."""
    for advice, words in [
        ({"advised_rows": 3}, "many_rows"),
        ({"advised_row_bytes": 40}, "large_row"),
        ({"advised_rows": 6}, ""),
    ]:
        caplog.clear()
        done = sync("kore", "append", [records(ROWS[i : i + 2]) for i in (0, 2, 4)] + [complete()])
        done.provider.limits = replace(done.provider.limits, **advice)  # type: ignore[arg-type]  # by name
        done.vendor.put([])
        done.run()
        assert done.error is None
        found = [r.getMessage() for r in caplog.records if "advised" in r.getMessage()]
        assert [words in line for line in found] == ([True] if words else [])


def test_progress_is_reported_while_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """A line per stream every half minute."""
    caplog.set_level("INFO")
    script = [part for i in range(4) for part in (records(ROWS[i : i + 1]), 31.0)]
    sync("kore", "append", [*script, complete()]).run()
    lines = [r.getMessage() for r in caplog.records if "sync_progress" in r.getMessage()]
    assert 3 <= len(lines) <= 5


def test_a_batch_without_an_answer_is_not_settled() -> None:
    """Also when the import of a part of it is verified."""
    tracked = Tracked(Batch(1, Table("t", DEALS, "append"), RowBlock((), 0, []), "end"))
    assert not tracked.is_settled
    tracked.open_deliveries = 0
    assert tracked.is_settled
    tracked.open_receipts = 1
    assert not tracked.is_settled


def test_an_import_that_names_more_rows_than_it_got_is_not_believed() -> None:
    """More bad rows than were sent: nothing is settled."""
    clock = FakeClock()
    vendor = QobraVendor(clock)
    done = sync(
        "qobra",
        "append",
        [records(ROWS[:1]), state(1), complete()],
        clock=clock,
        vendor=vendor,
        on_request=lambda _: _lie(vendor),
    ).run()
    assert isinstance(done.error, TransientError)
    assert done.acknowledged == []


def test_bad_rows_beyond_those_that_were_sent_are_not_counted() -> None:
    """Where an answer was lost the count fits all the same: nothing is settled or rejected."""
    clock = FakeClock()
    vendor = QobraVendor(clock, stack_s=300.0, is_bad=lambda _: True)
    script: list[Message | float] = [records(ROWS[:1]), state(1), complete()]
    lost = {1: apply_then_status(502)}
    done = sync("qobra", "append", script, clock=clock, vendor=vendor, faults=lost)

    def answer(request: HttpRequest) -> HttpResponse:
        vendor.work()
        _lie(vendor)
        return vendor.answer(request)

    done.transport.answer = answer
    done.run()
    assert isinstance(done.error, UnaccountedRows)
    assert (done.rejects.rows, done.acknowledged) == ([], [])


def _lie(vendor: QobraVendor) -> None:
    """Make each import name two bad rows and store none."""
    for run in vendor.runs:
        run.error = {
            "title": "ParsingError",
            "parsing_error_details": [{"row": {"id": name}, "details": "x"} for name in ("a", "b")],
        }
        run.stored = 0


def test_global_states_wait_for_all_streams() -> None:
    """A global state leaves when the rows of every stream before it are in."""
    vendor = KoreVendor()
    vendor.tables["users"] = []
    everything = StateMessage(
        b'{"type":"GLOBAL","global":{"stream_states":[]},"stream":{"stream_state":{"number":1}}}',
        None,
    )
    done = sync(
        "kore",
        "append",
        [records(ROWS[:2]), records(ROWS[:3], USERS), everything, complete(), complete(USERS)],
        catalog=catalog_of("append", "deals", "users"),
        vendor=vendor,
        max_rows=100,
    )
    at_ack: list[int] = []
    done.on_state = lambda *_: at_ack.append(len(vendor.rows("deals")) + len(vendor.rows("users")))
    done.run()
    assert at_ack == [5]
    assert done.states[0]["destinationStats"] == {"recordCount": 5}


@pytest.mark.parametrize("slots", [1, 2])
def test_an_engine_that_waits_for_answers_sleeps(slots: int) -> None:
    """Queued batches that fit nowhere are no reason to look again before an answer wakes it."""
    done = sync("qobra", "append", [], slots=slots)
    done.workers = SilentWorkers()
    engine = done.engine()
    for number in range(20):
        engine._intake.take(records([{"id": f"d{number}", "amount": 1}]))
    engine._flush("end")
    engine._turn()
    (lane,) = done.lanes.values()
    assert (len(lane.in_flight), len(lane.queue)) == (slots, 5 - slots)
    assert engine._patience() == 1.0
