"""The sync loop: the one thread that owns batches, lanes, epochs and checkpoints.

It reads messages while there is room, sends what may leave, settles what came back, asks for
background work, and prints each checkpoint as soon as the ledger lets it go. Not reading stdin is
the backpressure. Invariants: a state leaves only after its rows (`ledger`); memory is bounded by
open, queued and flying batches; tables to replace are touched only after the input ended and each
stream that will get a COMPLETE has one; every wait has a deadline or ends with the stop flag.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from destination_bulk_tables.errors import (
    BadInput,
    BadRows,
    DestinationError,
    InternalError,
    Stopped,
    TransientError,
    UnaccountedRows,
)
from destination_bulk_tables.lanes import Job, Lane, Tracked
from destination_bulk_tables.model import (
    BadRecord,
    Batch,
    RecordRun,
    RejectedRow,
    RowBlock,
    StateMessage,
    StatusMessage,
)
from destination_bulk_tables.sender import Delivery, Tally

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from destination_bulk_tables.clock import Clock
    from destination_bulk_tables.ledger import Ledger
    from destination_bulk_tables.model import BatchResult, Epoch, Message, StreamKey
    from destination_bulk_tables.progress import Progress
    from destination_bulk_tables.provider import Flow, Provider, Unverified, Verdict
    from destination_bulk_tables.rejects import Rejects
    from destination_bulk_tables.sender import Sender
    from destination_bulk_tables.workers import Workers

log = logging.getLogger(__name__)

MAX_OPEN_BYTES = 64_000_000
MAX_UNVERIFIED_ROWS = 500_000
MAX_UNVERIFIED_JOBS = 60
STOP_GRACE_S = 8.0
FAILURE_GRACE_S = 30.0
_LONGEST_WAIT_S = 1.0
_WINDOW_MARGIN = 0.2
_WINDOW_MARGIN_S = 30.0
_LOAD = "load"
_NO_ROWS = RowBlock((), 0, range(0))
T = TypeVar("T")


class Source(Protocol):
    """Where messages come from; `stdio.MessageReader` or a script."""

    ended: bool

    def read(self, timeout_s: float, *, wants_input: bool) -> Iterator[Message]:
        """Wait for input (where wanted), a finished job or the timeout; yield what came."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the engine works with."""

    provider: Provider
    sender: Sender
    workers: Workers
    ledger: Ledger
    rejects: Rejects
    progress: Progress
    clock: Clock
    emit: Callable[[Sequence[bytes]], None]
    stop: threading.Event
    halt: threading.Event


class Engine:
    """One sync. `slots`: requests at a time; `max_wait_s`: how long a batch stays open."""

    def __init__(
        self, lanes: Mapping[StreamKey, Lane], tools: Tools, *, slots: int, max_wait_s: float
    ) -> None:
        self._lanes = lanes
        self._all = list(lanes.values())
        self._tools = tools
        self._slots = slots
        self._max_wait_s = max_wait_s
        self._running = 0
        self._is_polling = False
        self._completed: set[StreamKey] = set()
        self._incomplete: set[StreamKey] = set()
        self._failure: DestinationError | None = None
        for key, lane in lanes.items():
            if lane.load is not None:
                tools.ledger.hold(key)

    def run(self, source: Source) -> None:
        """Sync until the input has ended and all is settled. Raises what ended it early."""
        self._source = source
        try:
            bad_input = self._read()
            self._flush()
            self._drain()
            if bad_input is not None:
                raise bad_input
            self._require_completion()
            for lane in self._all:
                if lane.load is not None:
                    self._replace(lane)
            self._turn()
            if self._tools.ledger.pending:
                message = "The sync ended with states that cannot be acknowledged."
                raise InternalError(message)
        except DestinationError:
            self._abandon()
            raise
        finally:
            for lane in self._all:
                if lane.load is not None:
                    lane.load.close()

    # --- reading

    def _read(self) -> DestinationError | None:
        """Read to the end. An error in the input is returned: what came before it is good."""
        while not self._source.ended:
            try:
                for message in self._source.read(self._patience(), wants_input=self._has_room()):
                    self._take(message)
            except BadInput as error:
                return error
            except _UndeliverableRow as error:
                return error.cause
            self._turn()
        return None

    def _take(self, message: Message) -> None:
        match message:
            case RecordRun():
                self._take_records(message)
            case StateMessage(state=state, scope=scope):
                self._tools.ledger.checkpoint(state, scope)
            case StatusMessage():
                self._take_status(message)
            case BadRecord(stream=stream, code=code, reason=reason, row=row):
                self._lane(stream)
                epoch = self._tools.ledger.accept(stream, 1)
                self._tools.progress.counts[stream].read += 1
                self._shape_rejects(epoch, [RejectedRow(stream, "shape", code, reason, row)])

    def _take_records(self, run: RecordRun) -> None:
        stream, data = run.stream, run.data
        lane = self._lane(stream)
        encode = lane.codec.encode_rows if run.is_decoded else lane.codec.encode
        epoch = self._tools.ledger.accept(stream, len(data))
        counts = self._tools.progress.counts[stream]
        counts.read += len(data)
        while data:
            # what is encoded at once fits into the open batch, so it need not be taken apart again
            room = len(data) if lane.load is not None else lane.batcher.room
            block, rejected = encode(data[:room])
            data = data[room:]
            self._advise(lane, counts.read, block)
            if len(block):
                self._place(lane, block, epoch, rejected)
            self._shape_rejects(epoch, rejected)

    def _place(
        self, lane: Lane, block: RowBlock, epoch: Epoch, rejected: list[RejectedRow]
    ) -> None:
        """Stage a block or batch it; rows too large for a request go to `rejected`."""
        if lane.load is not None:
            lane.load.stage(lane.batcher.fitting(block, rejected), epoch)
            return
        for batch in lane.batcher.extend(block, epoch, self._tools.clock.monotonic(), rejected):
            self._queue(lane, batch)
        if (
            lane.batcher.n_bytes > MAX_OPEN_BYTES / len(self._all)
            and sum(other.batcher.n_bytes for other in self._all) > MAX_OPEN_BYTES
        ):
            largest = max(self._all, key=lambda other: other.batcher.n_bytes)
            self._queue(largest, largest.batcher.cut("memory"))

    def _shape_rejects(self, epoch: Epoch, rejected: Sequence[RejectedRow]) -> None:
        if not rejected:
            return
        self._tools.progress.counts[rejected[0].stream].rejected += len(rejected)
        try:
            self._tools.rejects.add(rejected)
        except DestinationError as error:
            raise _UndeliverableRow(error) from error
        epoch.rejected += len(rejected)  # only now: a row that ends the sync settles no epoch

    def _advise(self, lane: Lane, rows: int, block: RowBlock) -> None:
        limits = self._tools.provider.limits
        if lane.is_advised or limits.advised_rows is None or limits.advised_row_bytes is None:
            return
        if rows > limits.advised_rows:
            lane.is_advised = True
            log.warning("many_rows table=%s advised=%d", lane.plan.table.name, limits.advised_rows)
        elif (
            block.n_bytes > limits.advised_row_bytes
            and max(map(len, block.rows())) > limits.advised_row_bytes
        ):
            lane.is_advised = True
            log.warning(
                "large_row table=%s advised_bytes=%d",
                lane.plan.table.name,
                limits.advised_row_bytes,
            )

    def _lane(self, stream: StreamKey) -> Lane:
        lane = self._lanes.get(stream)
        if lane is None:
            message = f"The input holds a record of stream {stream}, which is not in the catalog."
            raise BadInput(message)
        return lane

    def _take_status(self, message: StatusMessage) -> None:
        streams = [message.stream]
        if message.stream not in self._lanes and not message.is_qualified:
            # PyAirbyte leaves the namespace out
            streams = [key for key in self._lanes if key.name == message.stream.name]
        if message.status == "COMPLETE":
            self._completed.update(streams)
        elif message.status == "INCOMPLETE":
            self._incomplete.update(streams)

    def _require_completion(self) -> None:
        missing = [
            str(key)
            for key, lane in self._lanes.items()
            if key in self._incomplete or (lane.plan.expects_status and key not in self._completed)
        ]
        if missing:
            message = (
                "The input ended, but the source did not complete these streams: "
                f"{', '.join(sorted(missing)[:20])}. Rows that arrived are delivered where streams "
                "are appended to; no table was replaced. Look for the error in the source."
            )
            raise TransientError(message)

    # --- one turn of the loop

    def _turn(self) -> None:
        """Take what came back, and move everything on by one step without waiting."""
        tools = self._tools
        now = tools.clock.monotonic()
        tools.workers.deliver_results()
        for lane in self._all:
            opened = lane.batcher.opened_at
            if opened is not None and lane.load is None and now - opened >= self._max_wait_s:
                self._queue(lane, lane.batcher.cut("age"))
        self._acknowledge()
        if self._failure is not None:
            raise self._failure
        if tools.stop.is_set():
            message = "The sync was asked to stop before all rows were delivered."
            raise Stopped(message)
        self._dispatch(now)
        self._poll(now)
        if now >= tools.progress.due_at:
            tools.progress.report(now)

    def _wait(self) -> None:
        """Wait for something to happen without reading, and take a turn."""
        for _ in self._source.read(self._patience(), wants_input=False):
            pass
        self._turn()

    def _patience(self) -> float:
        """Seconds until something is due; a second at most, so that a stop is noticed."""
        now = self._tools.clock.monotonic()
        due = now + _LONGEST_WAIT_S
        for lane in self._all:
            if lane.batcher.opened_at is not None and lane.load is None:
                due = min(due, lane.batcher.opened_at + self._max_wait_s)
            for job in lane.jobs.values() if not lane.is_pushing and not self._is_polling else ():
                due = min(due, job.next_poll)
        return max(0.0, due - now)

    def _has_room(self) -> bool:
        """Whether more rows may be read: no batch waits for a slot, and the vendor keeps up."""
        return (
            sum(len(lane.queue) for lane in self._all) < self._slots
            and sum(lane.unverified_rows for lane in self._all) < MAX_UNVERIFIED_ROWS
            and sum(len(lane.jobs) for lane in self._all) < MAX_UNVERIFIED_JOBS
        )

    def _acknowledge(self) -> None:
        ready = list(self._tools.ledger.ready())
        if ready:
            self._tools.emit([checkpoint.acknowledge() for checkpoint in ready])
            self._tools.progress.acknowledged += len(ready)

    def _flush(self) -> None:
        for lane in self._all:
            if lane.batcher.opened_at is not None:
                self._queue(lane, lane.batcher.cut("end"))

    def _drain(self) -> None:
        while any(lane.is_busy for lane in self._all):
            self._wait()

    def _abandon(self) -> None:
        """End early: start nothing, let flying requests settle, acknowledge what they prove."""
        tools = self._tools
        tools.halt.set()
        deadline = tools.clock.monotonic() + (
            STOP_GRACE_S if tools.stop.is_set() else FAILURE_GRACE_S
        )
        while self._running and tools.clock.monotonic() < deadline:
            for _ in self._source.read(0.1, wants_input=False):
                pass
            tools.workers.deliver_results()
            if tools.stop.is_set():
                deadline = min(deadline, tools.clock.monotonic() + STOP_GRACE_S)
        with contextlib.suppress(DestinationError):
            self._acknowledge()

    # --- sending

    def _queue(self, lane: Lane, batch: Batch) -> None:
        lane.tracked[batch.id] = Tracked(batch)
        lane.queue.append(batch)
        self._dispatch(self._tools.clock.monotonic())

    def _dispatch(self, now: float) -> None:
        for lane in self._all:
            while self._running < self._slots and not lane.is_exclusive:
                if lane.doubtful and not lane.in_flight:
                    self._send_alone(lane)
                elif lane.needs_count and lane.queue:
                    self._count(lane)
                elif lane.may_send():
                    self._send(lane, now)
                else:
                    break

    def _send(self, lane: Lane, now: float) -> None:
        batch = lane.queue.popleft()
        if lane.started_at is None:
            lane.started_at = now
            if lane.replace is not None and lane.replace.window_s is not None:
                # counted from the first request, perhaps: the last must leave well before the end
                window = lane.replace.window_s
                lane.replace.not_after = (
                    now + window - min(_WINDOW_MARGIN_S, _WINDOW_MARGIN * window)
                )
        lane.under_way |= batch.keys
        self._deliver(lane, Delivery(batch, lane.context(alone=self._slots == 1)))

    def _send_alone(self, lane: Lane) -> None:
        batch, parts = lane.doubtful.popleft()
        others = sum(len(block) for _, rest in lane.doubtful for block, _ in rest)
        lane.is_exclusive = True
        self._deliver(lane, Delivery(batch, lane.context(alone=True, others=others), parts))

    def _deliver(self, lane: Lane, delivery: Delivery) -> None:
        lane.in_flight[delivery.batch.id] = delivery.batch
        self._running += 1
        sender = self._tools.sender
        self._tools.workers.submit(
            lambda: sender.deliver(delivery), lambda result: self._settle(lane, result)
        )

    def _count(self, lane: Lane) -> None:
        lane.needs_count = False
        lane.is_exclusive = True

        def counted(stored: int | None) -> None:
            lane.is_exclusive = False
            lane.stored = stored
            if stored is None:
                log.warning(
                    "table_not_counted table=%s effect=writes_cannot_be_read_back",
                    lane.plan.table.name,
                )

        self._submit(lane, lambda: self._tools.provider.prepare(lane.plan.table), counted)

    def _submit(self, lane: Lane, flow: Callable[[], Flow[T]], then: Callable[[T], None]) -> None:
        """Run a flow on a sender thread; its error fails the sync."""
        tally = Tally()

        def job() -> tuple[T | None, Exception | None]:
            try:
                return self._tools.sender.run(lane.plan.table, flow(), tally), None
            except Exception as error:  # noqa: BLE001 - the border of the sender thread
                return None, error

        def finished(outcome: tuple[T | None, Exception | None]) -> None:
            self._running -= 1
            self._count_requests(lane, tally.requests, tally.retries)
            value, error = outcome
            if error is not None:
                self._fail(error, lane)
            else:
                then(value)  # type: ignore[arg-type]  # T may itself be None

        self._running += 1
        self._tools.workers.submit(job, finished)

    def _call(self, lane: Lane, flow: Callable[[], Flow[T]]) -> T:
        """Run a flow on a sender thread and wait for it."""
        answers: list[T] = []
        self._submit(lane, flow, answers.append)
        while not answers:
            self._wait()
        return answers[0]

    # --- settling

    def _settle(self, lane: Lane, result: BatchResult) -> None:
        batch, now = result.batch, self._tools.clock.monotonic()
        tracked = lane.tracked[batch.id]
        del lane.in_flight[batch.id]
        lane.is_exclusive = False
        self._running -= 1
        self._count_requests(lane, result.requests, result.retries)
        for row in result.rejected:
            tracked.count_rejected(batch.epoch_of(row.index))
        is_allowed = self._count_rejected(lane, result.rejected)
        if lane.replace is not None:
            lane.replace.refused.update(row.code for row in result.rejected)
        if lane.stored is not None:
            lane.stored += result.delivered
        if lane.started_at is not None:
            lane.pushed_s = now - lane.started_at
        for receipt in result.receipts:
            key = _LOAD if lane.replace is not None else receipt.id
            lane.jobs.setdefault(key, Job()).add(receipt, tracked, now)
            tracked.open_receipts += 1
        if result.error is not None:
            self._fail(result.error, lane)
            return
        if not is_allowed:
            return
        log.debug(
            "batch_answered table=%s rows=%d cut=%s requests=%d elapsed_s=%.2f",
            batch.table.name,
            len(batch.block),
            batch.cut,
            result.requests,
            result.elapsed_s,
        )
        lane.accepted += bool(result.delivered or result.receipts)
        if result.doubt:
            lane.doubtful.append((batch, result.doubt))
            return
        tracked.is_answered = True
        batch.block = _NO_ROWS  # the rows are not needed any more, and imports may take long
        if tracked.is_settled:
            self._finish(lane, tracked)

    def _finish(self, lane: Lane, tracked: Tracked) -> None:
        """Each row of a batch is delivered or rejected."""
        del lane.tracked[tracked.batch.id]
        lane.under_way -= tracked.batch.keys
        for epoch, count in tracked.batch.epochs:
            rejected = tracked.rejected.get(epoch, 0)
            epoch.rejected += rejected
            epoch.delivered += count - rejected
            lane.delivered += count - rejected
            self._tools.progress.counts[lane.plan.key].delivered += count - rejected
        lane.delivered -= tracked.batch.superseded  # what the table holds of them

    def _count_requests(self, lane: Lane, requests: int, retries: int) -> None:
        counts = self._tools.progress.counts[lane.plan.key]
        counts.requests += requests
        counts.retries += retries

    def _count_rejected(self, lane: Lane, rejected: Sequence[RejectedRow]) -> bool:
        """Count and report; False when the sync may not go on with so many: settle nothing more."""
        self._tools.progress.counts[lane.plan.key].rejected += len(rejected)
        try:
            self._tools.rejects.add(rejected)
        except DestinationError as error:
            self._fail(error, lane)
            return False
        return True

    def _fail(self, error: Exception, lane: Lane) -> None:
        """Remember the first failure and have the sender threads stop retrying."""
        if self._failure is None:
            if not isinstance(error, DestinationError):
                log.error("unexpected_error", exc_info=error)
                message = (
                    f"An unexpected error ended the sync ({type(error).__name__}). Please report "
                    "it with the log."
                )
                error = InternalError(message, detail=repr(type(error)), stream=lane.plan.key)
            self._failure = error
        self._tools.halt.set()

    # --- background work

    def _poll(self, now: float) -> None:
        if self._is_polling:
            return
        due = [
            (lane, job, job.revision, lane.unverified(job, now))
            for lane in self._all
            if not lane.is_pushing
            for job in lane.jobs.values()
            if job.next_poll <= now
        ]
        if not due:
            return
        self._is_polling = True
        provider, sender = self._tools.provider, self._tools.sender

        def ask(lane: Lane, unverified: Unverified) -> Verdict | Exception | None:
            tally = Tally()
            try:
                return sender.run(lane.plan.table, provider.verify(unverified), tally)
            except Exception as error:  # noqa: BLE001 - the border of the sender thread
                return error

        def polled(answers: list[Verdict | Exception | None]) -> None:
            self._is_polling = False
            for (lane, job, revision, unverified), answer in zip(due, answers, strict=True):
                self._count_requests(lane, len(unverified.receipts), 0)
                self._judge(lane, job, unverified, answer, is_current=job.revision == revision)

        self._tools.workers.submit(
            lambda: [ask(lane, unverified) for lane, _, _, unverified in due], polled
        )

    def _judge(
        self,
        lane: Lane,
        job: Job,
        unverified: Unverified,
        answer: Verdict | Exception | None,
        *,
        is_current: bool,
    ) -> None:
        now = self._tools.clock.monotonic()
        may_change = lane.in_flight or not is_current
        if may_change and isinstance(answer, UnaccountedRows | BadRows):
            answer = None  # a request that is under way may have joined the same import
        if isinstance(answer, Exception):
            self._fail(answer, lane)
        elif answer is None or not is_current:
            if now - job.accepted_at > self._tools.provider.verify_timeout_s(unverified):
                message = (
                    f"{self._tools.provider.title} accepted rows for table {lane.plan.table.name} "
                    "and has not finished importing them in time. Look at its import page; if "
                    "imports are slow there, raise import_timeout_minutes."
                )
                self._fail(TransientError(message, stream=lane.plan.key), lane)
            job.postpone(now)
        else:
            self._verified(lane, job, answer)

    def _verified(self, lane: Lane, job: Job, verdict: Verdict) -> None:
        """The work is done: all is in but the rows it names; their epoch is not known."""
        stream = lane.plan.key
        left = len(verdict.faults)
        for tracked in job.batches:
            left = tracked.blame(left)
        if left:
            message = (
                f"An import into table {lane.plan.table.name} names more bad rows than it was "
                "given."
            )
            self._fail(UnaccountedRows(message, stream=stream), lane)
            return
        faults = [RejectedRow(stream, "vendor", f.code, f.reason, f.row) for f in verdict.faults]
        if not self._count_rejected(lane, faults):
            return
        lane.jobs = {key: other for key, other in lane.jobs.items() if other is not job}
        for tracked in job.batches:
            tracked.open_receipts -= 1
            if tracked.is_settled:
                self._finish(lane, tracked)

    # --- replacing

    def _replace(self, lane: Lane) -> None:
        """Replace a table's content with a staged load, and only then let its states go."""
        assert lane.load is not None
        provider, table, batcher = self._tools.provider, lane.plan.table, lane.batcher
        load = lane.load
        counts = self._tools.progress.counts[lane.plan.key]
        size = load.seal(batcher.max_rows, batcher.max_bytes - batcher.overhead)
        log.info("replace_started table=%s rows=%d", table.name, size.rows)
        lane.replace = self._call(lane, lambda: provider.replace_begin(table, size))
        lane.stored = lane.replace.stored
        lane.is_pushing = True
        for batch in load.batches(batcher):
            self._queue(lane, batch)
            while len(lane.queue) >= self._slots:
                self._wait()
        counts.delivered += load.superseded
        if not size.rows and lane.replace.single:
            self._queue(lane, Batch(0, table, _NO_ROWS, "end"))
        while lane.is_sending:
            self._wait()
        lane.is_pushing = False
        while lane.is_busy:
            self._wait()
        plan, delivered = lane.replace, lane.delivered
        self._call(lane, lambda: provider.replace_end(table, plan, delivered))
        log.info("replace_done table=%s rows=%d", table.name, delivered)
        self._tools.ledger.release(lane.plan.key)


class _UndeliverableRow(Exception):
    def __init__(self, cause: DestinationError) -> None:
        super().__init__()
        self.cause = cause
