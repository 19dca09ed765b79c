"""The way of one table's batches: open, queued, flying, accepted, verified; which may leave next.

Invariant: two batches that share a key are never under way at the same time, counting imports that
are accepted and not verified yet (`repeats`); batches in doubt are looked at alone. The lane
decides, the engine sends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from destination_bulk_tables.batcher import Batcher
from destination_bulk_tables.catalog import StreamPlan
from destination_bulk_tables.errors import DestinationError
from destination_bulk_tables.exchange import Tally
from destination_bulk_tables.model import (
    Batch,
    BatchResult,
    Cut,
    Doubtful,
    Epoch,
    Key,
    Receipt,
    StreamKey,
)
from destination_bulk_tables.outcomes import Context, ReplacePlan, Unverified
from destination_bulk_tables.overwrite import StagedLoad
from destination_bulk_tables.pace import Pace
from destination_bulk_tables.repeats import KEY_BYTES, Repeats
from destination_bulk_tables.rows import RowCodec

_LEAST_LINGER_S = 30.0
_LINGER = 2.0
_FIRST_POLL_S = 0.2
_POLL_GROWTH = 1.6
_LAST_POLL_S = 15.0
LOAD = "load"  # the one job of a load that is judged as a whole


@dataclass(slots=True)
class Tracked:
    """A batch and what is left to happen to it."""

    batch: Batch
    queued_at: float = 0.0
    weight: int = 0  # bytes that it holds until it is answered
    tally: Tally = field(default_factory=Tally)
    open_receipts: int = 0
    lost: int = 0  # jobs that did not tell what became of its rows
    mingled: int = 0  # how often its rows were in work that held more, and were sent again
    is_resent: bool = False  # an answer was lost, so an import may run that nobody follows
    sent_at: float = field(init=False)
    open_deliveries: int = 1  # that are to come or under way: a failed job asks for another
    rejected: dict[Epoch, int] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        """Whether each of its rows is delivered or rejected."""
        return not self.open_deliveries and not self.open_receipts

    def count_rejected(self, epoch: Epoch | None) -> None:
        """One row of this epoch will not be delivered."""
        if epoch is not None:
            self.rejected[epoch] = self.rejected.get(epoch, 0) + 1

    def blame(self, count: int) -> int:
        """Count rejected rows of which only the batch is known; return how many did not fit."""
        for epoch, rows in self.batch.counts().items():
            take = min(count, rows - self.rejected.get(epoch, 0))
            if take > 0:
                self.rejected[epoch] = self.rejected.get(epoch, 0) + take
                count -= take
        return count


@dataclass(eq=False, slots=True)
class Job:
    """Accepted background work that is not verified: one import, or all imports of a load."""

    receipts: dict[str, Receipt] = field(default_factory=dict)
    batches: list[Tracked] = field(default_factory=list)
    accepted_at: float = field(init=False)  # the last receipt
    next_poll: float = field(init=False)
    interval: float = field(init=False)
    revision: int = 0
    rows: int = 0

    def add(self, receipt: Receipt, tracked: Tracked, now: float) -> None:
        """Another request was accepted into this work."""
        old = self.receipts.get(receipt.id)
        if old is not None:
            receipt = type(receipt)(
                receipt.id, old.rows + receipt.rows, old.resent + receipt.resent
            )
        self.rows += receipt.rows - (old.rows if old else 0)
        self.receipts[receipt.id] = receipt
        self.batches.append(tracked)
        self.accepted_at = now
        self.next_poll = now + _FIRST_POLL_S
        self.interval = _FIRST_POLL_S
        self.revision += 1

    def postpone(self, now: float) -> None:
        """Ask again later, and later each time."""
        self.interval = min(_LAST_POLL_S, self.interval * _POLL_GROWTH)
        self.next_poll = now + self.interval


@dataclass(eq=False, slots=True)
class Lane:
    """One table. All fields belong to the engine thread.

    `plan` and `codec` are those of its stream, of the first where several share the table;
    `others`: the codecs of the rest.
    """

    plan: StreamPlan
    codec: RowCodec
    batcher: Batcher
    load: StagedLoad | None = None
    others: dict[StreamKey, RowCodec] = field(default_factory=dict)
    queue: deque[Batch] = field(default_factory=deque)
    tracked: dict[int, Tracked] = field(default_factory=dict)
    # its vendor imports in the background: queued rows are held a while, so that newer ones of
    # their key replace them instead of waiting for an import
    gathers: bool = False
    queued_bytes: int = 0
    repeats: Repeats = field(default_factory=Repeats)
    pace: Pace = field(default_factory=Pace)
    in_flight: dict[int, Batch] = field(default_factory=dict)
    doubtful: deque[tuple[Batch, list[Doubtful]]] = field(default_factory=deque)
    follows: bool = False  # each accepted request is a job of its own
    last_job: str = ""  # its id
    jobs: dict[str, Job] = field(default_factory=dict)
    is_exclusive: bool = False
    # a load is being sent; its background work is judged as a whole afterwards
    is_pushing: bool = False
    needs_count: bool = False
    stored: int | None = None
    replace: ReplacePlan | None = None
    mingled: DestinationError | None = None  # why the load has to be sent again
    started_at: float | None = None
    pushed_s: float = 0.0
    accepted: int = 0  # requests of which the vendor took something
    delivered: int = 0
    answer_s: float = 0.0  # that requests waited for answers
    limited_s: float = 0.0  # that requests waited for the rate limit
    failed_s: float = 0.0  # that attempts which failed took, with the waits after them
    questions: int = 0  # about the table or its load, under way beside its batches
    is_advised: bool = False
    # keys of which a newer version waits, as an import that nobody follows may still bring an older
    lingering: deque[tuple[float, frozenset[Key]]] = field(default_factory=deque)

    def codec_of(self, stream: StreamKey) -> RowCodec:
        """How rows of a stream of this table are encoded."""
        return self.others.get(stream, self.codec)

    @property
    def is_sending(self) -> bool:
        """Whether anything is queued, under way or in doubt."""
        return bool(self.queue or self.in_flight or self.doubtful or self.is_exclusive)

    @property
    def has_backlog(self) -> bool:
        """Whether enough is queued; a lane that gathers is bounded by bytes alone."""
        return not self.gathers and len(self.queue) >= self.pace.limit

    @property
    def held_bytes(self) -> int:
        """What waits to be sent, beside the open batch."""
        return self.queued_bytes + self.repeats.held_bytes

    @property
    def is_busy(self) -> bool:
        """Whether anything is being sent, waits for its key, or is accepted and not verified."""
        return self.is_sending or bool(self.jobs or self.repeats)

    @property
    def waits_for_jobs(self) -> bool:
        """Whether rows wait because the vendor works in the background."""
        return self.follows and bool(self.jobs) and not self.in_flight

    @property
    def followed_bytes(self) -> int:
        """What is kept of rows whose job is not over."""
        receipts = [receipt for job in self.jobs.values() for receipt in job.receipts.values()]
        return sum(receipt.block.held_bytes for receipt in receipts if receipt.block is not None)

    def asked_jobs(self) -> list[Job]:
        """The jobs that may be asked for; a load's, which is one, when all of it was sent."""
        return [job for key, job in self.jobs.items() if not (self.is_pushing and key == LOAD)]

    def may_send(self) -> bool:
        """Whether the first queued batch may leave now."""
        if not self.queue or self.is_exclusive or self.doubtful or self.needs_count:
            return False
        is_first = self.replace is not None and self.replace.first_alone and not self.accepted
        return not (is_first and self.in_flight)

    def enqueue(self, batch: Batch, now: float) -> None:
        """Queue what of a new batch need not wait for its key."""
        self.repeats.admit(batch, self.queue, self._sent, now)
        for other in [other for other in self.queue if self.repeats.is_spent(other)]:
            self.repeats.leave(other)
            self._unqueue(other)
            del self.tracked[other.id]
        if batch.keys or not batch.moved:
            self._track(batch, now)
            self.queue.append(batch)

    def _sent(self) -> Iterator[Batch]:
        queued = {batch.id for batch in self.queue}
        return (t.batch for t in self.tracked.values() if t.batch.id not in queued)

    def enqueue_free(self, reason: Cut) -> None:
        """Queue, before all others, rows that waited for their key and need not any more."""
        batch = self.repeats.cut(self.batcher, reason)
        self._track(batch, float("-inf"))
        self.queue.appendleft(batch)

    def _track(self, batch: Batch, now: float) -> None:
        weight = batch.block.held_bytes + KEY_BYTES * len(batch.keys)
        self.tracked[batch.id] = Tracked(batch, now, weight)
        self.queued_bytes += weight

    def leave(self) -> Batch:
        """Take the first queued batch to send it."""
        batch = self.queue[0]
        self._unqueue(batch)
        self.repeats.leave(batch)
        return batch

    def _unqueue(self, batch: Batch) -> None:
        self.queue.remove(batch)
        self.queued_bytes -= self.tracked[batch.id].weight

    def retire_keys(self, tracked: Tracked, now: float) -> None:
        """The rows of a batch are in: newer versions of their keys may leave, now or a bit later.

        After a lost answer the same rows are imported twice and only one import is followed; the
        other is given twice as long as that one took.
        """
        if tracked.is_resent:
            wait = max(_LEAST_LINGER_S, _LINGER * (now - tracked.sent_at))
            self.lingering.append((now + wait, tracked.batch.keys))
            self.repeats.linger(tracked.batch.keys)
        else:
            self.repeats.settle(tracked.batch.keys)

    def release_keys(self, now: float) -> None:
        """Let newer versions go of keys that have lingered long enough."""
        while self.lingering and self.lingering[0][0] <= now:
            self.repeats.settle(self.lingering.popleft()[1])

    def begin_load(self, plan: ReplacePlan) -> None:
        """Nothing of the load was sent, or it is sent again from its first row."""
        self.replace = plan
        self.stored = plan.stored
        self.mingled = None
        self.started_at, self.pushed_s = None, 0.0
        self.accepted = self.delivered = 0
        self.is_pushing = True

    def note_sent(self, result: BatchResult, now: float) -> None:
        """Keep what a delivery tells of the table and of the time that sending takes."""
        if result.is_recounted:
            self.stored = result.stored
        elif self.stored is not None:
            self.stored += result.delivered
        if self.started_at is not None:
            self.pushed_s = now - self.started_at

    def charge(self, tally: Tally) -> None:
        """Count what requests of this table have waited for."""
        self.answer_s += tally.answer_s
        self.limited_s += tally.limited_s
        self.failed_s += tally.failed_s

    def context(self, *, alone: bool) -> Context:
        """What the next write may rely on."""
        return Context(alone=alone, stored=self.stored, replace=self.replace)

    def unverified(self, job: Job, now: float) -> Unverified:
        """What the provider needs to judge a job."""
        return Unverified(
            table=self.plan.table,
            receipts=tuple(job.receipts.values()),
            rows=job.rows,
            age_s=now - job.accepted_at,
            pushed_s=self.pushed_s,
            replace=self.replace,
        )
