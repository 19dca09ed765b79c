"""The way of one table's batches: open, queued, flying, accepted, verified; which may leave next.

Invariant: two batches that share a key are never under way at the same time, counting imports that
are accepted and not verified yet; a batch in doubt is looked at alone. The lane decides, the engine
sends.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from destination_bulk_tables.provider import Context, Unverified

if TYPE_CHECKING:
    from destination_bulk_tables.batcher import Batcher
    from destination_bulk_tables.catalog import StreamPlan
    from destination_bulk_tables.model import Batch, Epoch, Key, Receipt, RowBlock, StreamKey
    from destination_bulk_tables.overwrite import StagedLoad
    from destination_bulk_tables.provider import ReplacePlan
    from destination_bulk_tables.rows import RowCodec

_FIRST_POLL_S = 0.2
_POLL_GROWTH = 1.6
_LAST_POLL_S = 15.0


@dataclass(slots=True)
class Tracked:
    """A batch and what is left to happen to it."""

    batch: Batch
    open_receipts: int = 0
    is_answered: bool = False
    rejected: dict[Epoch, int] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        """Whether each of its rows is delivered or rejected."""
        return self.is_answered and not self.open_receipts

    def count_rejected(self, epoch: Epoch | None) -> None:
        """One row of this epoch will not be delivered."""
        if epoch is not None:
            self.rejected[epoch] = self.rejected.get(epoch, 0) + 1

    def blame(self, count: int) -> int:
        """Count rejected rows of which only the batch is known; return how many did not fit."""
        for epoch, rows in self.batch.epochs:
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
    accepted_at: float = 0.0
    next_poll: float = 0.0
    interval: float = _FIRST_POLL_S
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
    # keys of batches that were sent and are not settled
    under_way: set[Key] = field(default_factory=set)
    in_flight: dict[int, Batch] = field(default_factory=dict)
    doubtful: deque[tuple[Batch, list[tuple[RowBlock, Exception]]]] = field(default_factory=deque)
    jobs: dict[str, Job] = field(default_factory=dict)
    is_exclusive: bool = False
    # a load is being sent; its background work is judged as a whole afterwards
    is_pushing: bool = False
    needs_count: bool = False
    stored: int | None = None
    replace: ReplacePlan | None = None
    started_at: float | None = None
    pushed_s: float = 0.0
    accepted: int = 0  # requests of which the vendor took something
    delivered: int = 0
    is_advised: bool = False

    def codec_of(self, stream: StreamKey) -> RowCodec:
        """How rows of a stream of this table are encoded."""
        return self.others.get(stream, self.codec)

    @property
    def is_sending(self) -> bool:
        """Whether anything is queued, under way or in doubt."""
        return bool(self.queue or self.in_flight or self.doubtful or self.is_exclusive)

    @property
    def is_busy(self) -> bool:
        """Whether anything is being sent, or accepted and not verified."""
        return self.is_sending or bool(self.jobs)

    @property
    def unverified_rows(self) -> int:
        """Rows accepted and not verified."""
        return sum(job.rows for job in self.jobs.values())

    def may_send(self) -> bool:
        """Whether the first queued batch may leave now."""
        if not self.queue or self.is_exclusive or self.doubtful or self.needs_count:
            return False
        if (
            self.replace is not None
            and self.replace.first_alone
            and self.in_flight
            and not self.accepted
        ):
            return False
        keys = self.queue[0].keys
        if not keys:
            return True
        return keys.isdisjoint(self.under_way)

    def context(self, *, alone: bool, others: int = 0) -> Context:
        """What the next write may rely on."""
        return Context(alone=alone, stored=self.stored, others=others, replace=self.replace)

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
