"""What is sent when, beside what, and what is counted when answers come."""

from __future__ import annotations

import pytest

from destination_bulk_tables.errors import InternalError, TransientError, UnaccountedRows
from destination_bulk_tables.exchange import Tally
from destination_bulk_tables.lanes import Job, Lane, Tracked
from destination_bulk_tables.messages import Message
from destination_bulk_tables.model import (
    Batch,
    BatchResult,
    Doubtful,
    Epoch,
    Receipt,
    RejectedRow,
    RowBlock,
    StreamKey,
)
from destination_bulk_tables.outcomes import ReplacePlan
from destination_bulk_tables.passage import Delivery
from unit_tests.fakes import FakeClock, SilentWorkers, answer_status, cut_after
from unit_tests.syncs import DEALS, Sync, SyncMode, catalog_of, complete, records, state, sync
from unit_tests.vendors import KoreVendor, QobraVendor, Row

ROWS: list[Row] = [{"id": f"d{i}", "name": f"n{i}", "amount": i, "version": 1} for i in range(12)]


@pytest.mark.parametrize("seed", range(3))
def test_the_first_request_of_a_load_is_alone_and_no_other(seed: int) -> None:
    """It begins a window at the vendor; those that follow may overtake each other."""
    done = sync("qobra", "overwrite", [records(ROWS), complete()], slots=3, seed=seed, max_rows=1)
    lane = done.lanes[DEALS]
    beside: list[tuple[bool, int]] = []
    done.on_read = lambda _: beside.append((bool(lane.accepted), len(lane.in_flight)))
    done.run()
    assert (done.error, len(done.vendor.rows())) == (None, len(ROWS))
    assert max(n for is_begun, n in beside if not is_begun) == 1
    assert max(n for is_begun, n in beside if is_begun) == 3


@pytest.mark.parametrize("seed", range(3))
def test_a_table_is_counted_before_anything_is_sent(seed: int) -> None:
    """What is sent meanwhile might be in the count, and then be counted again."""
    script: list[Message | float] = [*(records([row]) for row in ROWS), complete()]
    done = sync("kore", "append", script, slots=3, seed=seed, max_rows=1)
    beside: list[int] = []
    lane = done.lanes[DEALS]
    done.on_read = lambda _: beside.append(len(lane.in_flight)) if lane.stored is None else None
    done.run()
    assert (done.error, lane.stored) == (None, len(ROWS))
    assert set(beside) == {0}


def test_a_key_waits_no_longer_for_an_import_that_nobody_follows_than_twice_its_own() -> None:
    """Its answer was lost; how long the sync has been running by then is no matter."""
    clock = FakeClock()
    clock.advance(5000.0)
    versions = [records([{"id": "a", "version": version}]) for version in (1, 2)]
    script: list[Message | float] = [versions[0], 1.0, versions[1], complete()]
    vendor = QobraVendor(clock, delay_s=20.0)
    done = sync(
        "qobra", "append", script, vendor=vendor, clock=clock, max_rows=1, faults={1: cut_after}
    ).run()
    first, repeated, newer = (sent.at for sent in done.transport.writes)
    assert done.error is None
    assert 60.0 <= newer - first < 75.0
    assert repeated - first < 5.0


def test_accepted_rows_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may have to be sent again while an import runs, and an import may take long."""
    clock = FakeClock()
    script: list[Message | float] = [records(ROWS), complete()]
    vendor = QobraVendor(clock, delay_s=20.0)
    done = sync("qobra", "append", script, vendor=vendor, clock=clock, slots=3)
    kept: list[list[int]] = []

    def look(_: int) -> None:
        lane = done.lanes[DEALS]
        accepted = [t for t in lane.tracked.values() if t.open_receipts and not t.open_deliveries]
        kept.append(sorted(tracked.batch.block.count for tracked in accepted))

    done.on_read = look
    monkeypatch.setattr("destination_bulk_tables.settling.MAX_KEPT_BYTES", 300)
    done.run()
    assert (done.error, len(done.vendor.rows())) == (None, len(ROWS))
    assert max(kept, key=lambda counts: (len(counts), sum(counts))) == [0, 0, 4]


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_rows_are_kept_only_where_they_may_be_sent_again(mode: SyncMode) -> None:
    """Those of a load are on disk."""
    clock = FakeClock()
    vendor = QobraVendor(clock, delay_s=20.0)
    script: list[Message | float] = [records(ROWS[:4]), complete()]
    done = sync("qobra", mode, script, vendor=vendor, clock=clock)
    kept: set[int] = set()
    lane = done.lanes[DEALS]
    done.on_read = lambda _: kept.update(
        tracked.batch.block.count for tracked in lane.tracked.values() if tracked.open_receipts
    )
    done.run()
    assert (done.error, kept) == (None, {4} if mode == "append" else {0})


def test_a_busy_vendor_gets_fewer_while_the_request_is_still_under_way() -> None:
    """An attempt that met it may be repeated for a minute."""
    done = sync("kore", "append", [], slots=0)
    lane, engine = done.lanes[DEALS], done.engine()
    lane.pace.limit = 8
    batch = Batch(1, lane.plan.table, RowBlock((), 0, []), "end")
    lane.in_flight[1], lane.tracked[1] = batch, Tracked(batch, tally=Tally(pushed_back_at=0.5))
    done.clock.advance(1.0)
    engine._turn()
    assert lane.pace.limit == 6


def test_a_request_that_met_a_busy_vendor_between_two_turns_counts_as_well() -> None:
    """It is answered before anyone looks at it."""
    script: list[Message | float] = [records(ROWS), complete()]
    done = sync("kore", "append", script, slots=0, faults={2: answer_status(429)})
    done.lanes[DEALS].pace.limit = 8
    limits: list[int] = []
    done.on_read = lambda _: limits.append(done.lanes[DEALS].pace.limit)
    done.run()
    assert (done.error, min(limits)) == (None, 6)


@pytest.mark.parametrize("reads", [True, False])
def test_a_table_that_cannot_be_counted_is_told(
    caplog: pytest.LogCaptureFixture,
    reads: bool,  # noqa: FBT001
) -> None:
    """A lost answer is a matter of the settings then."""
    vendor = KoreVendor(reads=reads)
    done = sync("kore", "append", [records(ROWS[:1]), complete()], vendor=vendor).run()
    assert done.error is None
    assert ("table_not_counted table=deals" in caplog.text) is not reads


class _Deliveries:
    """A sender that keeps what it is given and sends nothing."""

    def __init__(self) -> None:
        self.given: list[Delivery] = []

    def deliver(self, delivery: Delivery) -> BatchResult:
        self.given.append(delivery)
        return BatchResult(delivery.batch)


def batch_of(done: Sync, number: int) -> Batch:
    """A batch of one row."""
    table = done.lanes[DEALS].plan.table
    return Batch(number, table, RowBlock([b'{"id":"a"}'], 1, range(1)), "rows")


def job_of(lane: Lane, name: str, batch: Batch) -> Job:
    """Work that the vendor does in the background with the rows of a batch."""
    job = lane.jobs[name] = Job()
    job.add(Receipt(name, 1, block=batch.block), Tracked(batch), 0.0)
    return job


def test_a_batch_in_doubt_is_looked_at_with_nothing_beside_it() -> None:
    """Its rows would be counted with others; those in doubt as well are told of."""
    done = sync("kore", "append", [], slots=2)
    done.workers = SilentWorkers()
    engine, lane = done.engine(), done.lanes[DEALS]
    first, second = batch_of(done, 1), batch_of(done, 2)
    lane.needs_count = False
    lane.doubtful.append((first, [Doubtful(first.block)]))
    lane.tracked[1] = Tracked(first)
    lane.enqueue(second, 0.0)
    engine._turn()
    assert list(lane.in_flight) == [1]
    engine._turn()
    assert list(lane.in_flight) == [1]


def test_rows_in_doubt_are_looked_at_when_no_job_of_their_table_runs() -> None:
    """A job changes what would be found."""
    done = sync("kore", "append", [], slots=2)
    done.workers = SilentWorkers()
    engine, lane = done.engine(), done.lanes[DEALS]
    lane.needs_count, lane.follows = False, True
    batch = batch_of(done, 1)
    lane.doubtful.append((batch, [Doubtful(batch.block)]))
    lane.tracked[1] = Tracked(batch)
    job_of(lane, "j", batch_of(done, 2))
    engine._turn()
    assert not lane.in_flight
    lane.jobs.clear()
    engine._turn()
    assert list(lane.in_flight) == [1]


def test_what_is_known_of_a_write_goes_with_it() -> None:
    """A batch in doubt is alone whatever the slots; another is where there is one slot."""
    for slots, is_alone in ((1, True), (2, False)):
        done = sync("kore", "append", [], slots=slots)
        done.sender = sender = _Deliveries()  # type: ignore[assignment]  # all that is asked of it
        engine, lane = done.engine(), done.lanes[DEALS]
        lane.needs_count = False
        doubtful = [batch_of(done, number) for number in (1, 2)]
        for batch in doubtful:
            lane.doubtful.append((batch, [Doubtful(batch.block)]))
            lane.tracked[batch.id] = Tracked(batch)
        lane.enqueue(batch_of(done, 3), 0.0)
        for _ in range(3):
            engine._turn()
        assert [given.batch.id for given in sender.given] == [1, 2, 3]
        assert [given.context.alone for given in sender.given] == [True, True, is_alone]
        assert [len(given.beside) for given in sender.given] == [1, 0, 0]


def test_rows_that_are_to_be_sent_anyway_are_not_sent_twice() -> None:
    """An import that proved nothing may hold rows of a batch whose other part is under way."""
    done = sync("qobra", "append", [])
    engine, lane = done.engine(), done.lanes[DEALS]
    assert engine._dispatch.settling.send_again(lane, Tracked(batch_of(done, 1), open_deliveries=1))
    assert not lane.doubtful
    assert engine._dispatch.settling.send_again(lane, Tracked(batch_of(done, 1), open_deliveries=0))
    assert len(lane.doubtful) == 1


def test_a_table_that_waits_for_a_slot_does_not_wake_the_engine() -> None:
    """The answer that frees the slot does; until then to look again would burn a core."""
    calls = StreamKey(None, "calls")
    done = sync("qobra", "append", [], catalog=catalog_of("append", "deals", "calls"), slots=1)
    done.workers = SilentWorkers()
    engine = done.engine()
    for key in (DEALS, calls):
        engine._intake.take(records(ROWS[:1], key))
    engine._flush("end")
    engine._turn()
    assert [len(lane.in_flight) for lane in done.lanes.values()] == [1, 0]
    assert engine._patience() == 1.0
    done = sync("qobra", "append", [], slots=2)
    done.workers = SilentWorkers()
    engine, lane = done.engine(), done.lanes[DEALS]
    engine._intake.take(records(ROWS[:1]))
    lane.is_exclusive = True
    engine._flush("end")
    assert engine._patience() == 1.0


def test_what_a_table_waited_for_is_added_up() -> None:
    """Answers and the rate limit: each is what a sync may be bound by."""
    done = sync("kore", "append", [])
    engine, lane = done.engine(), done.lanes[DEALS]
    for number in (1, 2):
        result, tally = BatchResult(batch_of(done, number)), Tally(answer_s=1.0, limited_s=2.0)
        lane.in_flight[number] = result.batch
        lane.tracked[number] = Tracked(result.batch, tally=tally)
        engine._dispatch.settling.settle(lane, result)
    assert (lane.answer_s, lane.limited_s) == (2.0, 4.0)


def test_a_load_that_is_sent_again_begins_anew() -> None:
    """With the count that it is given, a window of its own, and a first request that is alone."""
    lane = sync("kore", "append", []).lanes[DEALS]
    lane.stored, lane.mingled = 1, TransientError("joined another")
    lane.started_at, lane.pushed_s = 5.0, 6.0
    lane.accepted, lane.delivered = 2, 3
    plan = ReplacePlan(stored=7)
    lane.begin_load(plan)
    found: list[object] = [lane.replace, lane.stored, lane.mingled, lane.is_pushing]
    assert found == [plan, 7, None, True]
    found = [lane.started_at, lane.pushed_s, lane.accepted, lane.delivered]
    assert found == [None, 0.0, 0, 0]


def test_a_delivery_tells_of_the_table_and_of_the_time_that_sending_takes() -> None:
    """A read-back counts anew, another adds what it delivered; the time is that of a load."""
    done = sync("kore", "append", [])
    lane, batch = done.lanes[DEALS], batch_of(done, 1)
    lane.note_sent(BatchResult(batch, delivered=2), 9.0)
    assert (lane.stored, lane.pushed_s) == (None, 0.0)
    lane.stored, lane.started_at = 5, 4.0
    lane.note_sent(BatchResult(batch, delivered=2), 9.0)
    assert (lane.stored, lane.pushed_s) == (7, 5.0)
    for stored in (3, None):
        lane.note_sent(BatchResult(batch, delivered=2, is_recounted=True, stored=stored), 9.0)
        assert lane.stored == stored


def test_an_error_that_nobody_expected_is_told_as_ours() -> None:
    """By its type alone: its text may hold a row."""
    done = sync("kore", "append", [])
    tasks = done.engine()._tasks
    tasks.fail(ValueError("a row"), done.lanes[DEALS])
    assert isinstance(tasks.failure, InternalError)
    assert "ValueError" in tasks.failure.message
    assert "a row" not in tasks.failure.message


def test_a_row_that_the_vendor_refuses_is_counted_once() -> None:
    """Among the rejected of its stream, and not among the delivered."""
    vendor = KoreVendor(is_bad=lambda row: row["id"] == "d1")
    done = sync("kore", "append", [records(ROWS[:4]), complete()], vendor=vendor).run()
    assert (done.error, done.counts) == (None, (4, 3, 1))


@pytest.mark.parametrize(
    ("follows", "has_job", "is_alone"),
    [(False, False, True), (True, False, True), (False, True, True), (True, True, False)],
)
def test_a_write_beside_a_job_of_its_table_is_not_alone(
    follows: bool,  # noqa: FBT001
    has_job: bool,  # noqa: FBT001
    is_alone: bool,  # noqa: FBT001
) -> None:
    """Where each request is a job of its own: what it stores shows in a count of the table."""
    done = sync("kore", "append", [], slots=1)
    done.sender = sender = _Deliveries()  # type: ignore[assignment]  # all that is asked of it
    engine, lane = done.engine(), done.lanes[DEALS]
    lane.needs_count, lane.follows = False, follows
    if has_job:
        job_of(lane, "j", batch_of(done, 1))
    lane.enqueue(batch_of(done, 2), 0.0)
    engine._dispatch._send(lane, 0.0)
    assert [given.context.alone for given in sender.given] == [is_alone]


@pytest.mark.parametrize(("name", "fails"), [("first", True), ("second", True), ("third", False)])
def test_a_job_that_was_named_before_is_noticed(name: str, fails: bool) -> None:  # noqa: FBT001
    """Whether it still runs or is over: it cannot be told when the new rows are in."""
    done = sync("kore", "append", [])
    engine, lane = done.engine(), done.lanes[DEALS]
    lane.follows = True
    settling = engine._dispatch.settling
    for number, job in enumerate(("first", "second", name), 1):
        if number == 3:
            assert engine._tasks.failure is None
            del lane.jobs["second"]
        batch = batch_of(done, number)
        lane.in_flight[number], lane.tracked[number] = batch, Tracked(batch)
        settling.settle(lane, BatchResult(batch, receipts=[Receipt(job, 1, block=batch.block)]))
    assert isinstance(engine._tasks.failure, UnaccountedRows) is fails


def test_a_batch_of_which_nothing_is_left_is_not_sent() -> None:
    """Its rows are older than what the table holds of their keys: they count as in it."""
    newer, older = ({"id": "a", "version": version} for version in (2, 1))
    script: list[Message | float] = [records([newer]), 60.0, records([older]), state(1), complete()]
    done = sync("qobra", "append_dedup", script, max_rows=1).run()
    assert (done.error, done.counts, done.acknowledged) == (None, (2, 2, 0), [1])
    assert len(done.transport.writes) == 1


def test_what_runs_at_a_vendor_is_bounded_by_jobs_and_by_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their rows are kept: either bound holds the next request of that table back."""
    done = sync("kore", "append", [], slots=0)
    engine, lane = done.engine(), done.lanes[DEALS]
    lane.needs_count, lane.follows = False, True
    lane.enqueue(batch_of(done, 1), 0.0)
    for number in (2, 3):
        job_of(lane, f"j{number}", batch_of(done, number))
    may_send = []
    for jobs, n_bytes in ((3, 21), (2, 21), (3, 20)):
        monkeypatch.setattr("destination_bulk_tables.dispatch.MAX_UNVERIFIED_JOBS", jobs)
        monkeypatch.setattr("destination_bulk_tables.dispatch.MAX_HELD_BYTES", n_bytes)
        may_send.append(engine._dispatch._may_send(lane))
    assert lane.followed_bytes == 20
    assert may_send == [True, False, False]


def test_eight_full_requests_of_a_few_columns_are_under_way() -> None:
    """The bound in bytes is for long rows; those of 360 bytes are held back by number alone."""
    done = sync("kore", "append", [], slots=0)
    done.workers = SilentWorkers()
    engine, lane = done.engine(), done.lanes[DEALS]
    lane.needs_count, lane.pace.limit = False, 8
    for number in range(1, 10):
        block = RowBlock([b"x" * 360 * 5000], 5000, range(5000))
        keys = frozenset(f"{number}-{i}" for i in range(5000))
        lane.enqueue(Batch(number, lane.plan.table, block, "rows", keys=keys), 0.0)
    engine._turn()
    assert list(lane.in_flight) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_table_with_a_backlog_stops_the_source() -> None:
    """As many as the vendor was found to take, though more slots are free."""
    done = sync("kore", "append", [], slots=0)
    engine, lane = done.engine(), done.lanes[DEALS]
    assert lane.pace.limit == 2
    rooms = []
    for number in (1, 2):
        lane.enqueue(batch_of(done, number), 0.0)
        rooms.append(engine._dispatch.has_room())
    assert rooms == [True, False]


def test_what_a_table_holds_is_what_is_queued_and_what_waits() -> None:
    """Memory is bounded by both."""
    lane = sync("kore", "append", []).lanes[DEALS]
    lane.queued_bytes, lane.repeats.n_bytes = 5, 3
    assert lane.held_bytes == 8


def test_a_job_is_as_old_as_its_last_request() -> None:
    """A vendor is given a while from then, whenever the sync began."""
    done = sync("kore", "append", [])
    lane = done.lanes[DEALS]
    job = job_of(lane, "j", batch_of(done, 1))
    job.accepted_at = 4.0
    assert lane.unverified(job, 9.0).age_s == 5.0


@pytest.mark.parametrize("resent", [0, 1])
def test_only_an_import_that_was_asked_for_twice_lingers(resent: int) -> None:
    """After a good answer nothing is left that could bring an older version."""
    done = sync("qobra", "append", [])
    engine, lane = done.engine(), done.lanes[DEALS]
    batch = batch_of(done, 1)
    tracked = lane.tracked[1] = Tracked(batch)
    lane.in_flight[1] = batch
    receipt = Receipt("i", 1, resent)
    engine._dispatch.settling.settle(lane, BatchResult(batch, receipts=[receipt]))
    assert tracked.is_resent is bool(resent)


def test_a_refusal_is_told_of_the_stream_that_brought_its_row() -> None:
    """Of several that share a table; it stays under that of the table where none is known."""
    calls = StreamKey(None, "calls")
    done = sync("kore", "append", [], catalog=catalog_of("append", "deals", "calls"))
    engine, lane = done.engine(), done.lanes[DEALS]
    epochs = [(Epoch(stream=calls), 1), (Epoch(), 1)]
    batch = Batch(1, lane.plan.table, RowBlock((), 0, []), "end", epochs=epochs)
    refused = [RejectedRow(DEALS, "vendor", "bad", "why", b"{}", index) for index in range(3)]
    assert engine._dispatch.settling.reject(lane, Tracked(batch), refused)
    assert [row.stream for row in done.rejects.rows] == [calls, DEALS, DEALS]
