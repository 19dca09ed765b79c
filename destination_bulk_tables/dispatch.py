"""Sends what the lanes let go; what comes back is `settling`'s.

Invariant: no more than `slots` requests are under way.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from destination_bulk_tables.lanes import Lane, Tracked
from destination_bulk_tables.model import Batch, Doubtful
from destination_bulk_tables.outcomes import Context
from destination_bulk_tables.passage import Delivery
from destination_bulk_tables.settling import Settling
from destination_bulk_tables.tasks import Tasks, Tools

log = logging.getLogger(__name__)

MAX_UNVERIFIED_ROWS = 500_000
MAX_UNVERIFIED_JOBS = 60
MAX_HELD_BYTES = 32_000_000  # of queued and waiting rows; where keys repeat, this many gather
FEW_HELD_BYTES = 3_000_000  # where none has so far: what lies longer in memory costs more to read
# rows of requests under way, where their number is found: each is in memory as read, in a body, and
# where a vendor sends the rows back in an answer; eight full requests of a few columns fit
MAX_FLYING_BYTES = 15_000_000
MAX_QUEUED_BYTES = 12_000_000  # of those that wait for a slot
LONGEST_HOLD_S = 2.0
PAUSE_S = 0.25  # an input that is silent for so long brings no newer version soon
_WINDOW_MARGIN = 0.2
_WINDOW_MARGIN_S = 30.0


class Dispatch:
    """The batches of all lanes on their way.

    `slots`: requests at a time; `max_wait_s`: how long a row waits that may be sent. Set by the
    engine: `flowing_until`, when (monotonic) a silent input counts as paused; `is_flushing`, that
    nothing more will come.
    """

    def __init__(
        self, lanes: Sequence[Lane], tools: Tools, tasks: Tasks, slots: int, max_wait_s: float
    ) -> None:
        self._all = lanes
        self._tools = tools
        self._tasks = tasks
        self._slots = slots
        self._max_wait_s = max_wait_s
        self.flowing_until = float("-inf")
        self.is_flushing = False
        self.settling = Settling(tools, tasks)

    def queue(self, lane: Lane, batch: Batch) -> None:
        """Have a batch sent when its lane lets it go."""
        now = self._tools.clock.monotonic()
        late = lane.repeats.take_late(batch)
        if late is not None:
            tracked = lane.tracked[late.id] = Tracked(late, now)
            self.settling.finish(lane, tracked)
        lane.enqueue(batch, now)
        self.move(now)

    def move(self, now: float) -> None:
        """Send what may leave while a slot is free."""
        for lane in self._all:
            lane.release_keys(now)
            for batch_id in lane.in_flight:
                pushed_back_at = lane.tracked[batch_id].tally.pushed_back_at
                if pushed_back_at is not None:
                    lane.pace.push_back(pushed_back_at, now)
            while self._is_due(lane, now):
                lane.enqueue_free("end" if self.is_flushing else "age")
            while self._tasks.running < self._slots and not lane.is_exclusive:
                if lane.doubtful and not lane.in_flight:
                    if lane.waits_for_jobs:
                        break  # they change what would be looked at
                    self._send_alone(lane)
                elif lane.needs_count and lane.queue:
                    self._count(lane)
                elif self._may_send(lane) and self._held_until(lane) <= now:
                    self._send(lane, now)
                else:
                    break

    def due_at(self, lane: Lane) -> float:
        """When (monotonic) something of this lane may leave that may not now."""
        due = lane.repeats.due_at(lane.batcher, self._max_wait_s)
        # what waits for an answer leaves when that wakes us: to look sooner would burn a core
        has_slot = self._tasks.running < self._slots and not lane.is_exclusive
        if lane.gathers and has_slot and self._may_send(lane):
            return min(due, self._held_until(lane))
        return due

    def has_room(self) -> bool:
        """Whether more rows may be read: few batches wait for a slot, and the vendor keeps up."""
        held_bytes = n_queued = queued_bytes = followed_bytes = 0
        for lane in self._all:  # each turn asks, so it is one pass
            if lane.has_backlog:
                return False
            held_bytes += lane.held_bytes
            if not lane.gathers:
                n_queued += len(lane.queue)
                queued_bytes += lane.queued_bytes
            if lane.jobs:
                followed_bytes += lane.followed_bytes
        return (
            n_queued < self._slots
            and held_bytes < MAX_HELD_BYTES
            and queued_bytes < MAX_QUEUED_BYTES
            and followed_bytes < MAX_HELD_BYTES
            and not self._is_behind()
        )

    def _may_send(self, lane: Lane) -> bool:
        """Whether the next batch fits beside those under way, by number and by size."""
        under_way = len(lane.in_flight)
        if lane.follows:
            if len(lane.jobs) >= MAX_UNVERIFIED_JOBS or lane.followed_bytes >= MAX_HELD_BYTES:
                return False
            if lane.pace.is_fixed:
                under_way += len(lane.jobs)  # a request is over when its job is
        if not lane.may_send() or under_way >= lane.pace.limit:
            return False
        if lane.pace.is_fixed or not lane.in_flight:
            return True
        flying = sum(
            [batch.block.held_bytes for other in self._all for batch in other.in_flight.values()]
        )
        return flying + lane.queue[0].block.held_bytes <= MAX_FLYING_BYTES

    def _is_behind(self) -> bool:
        """Whether the vendor has not finished so much that it gets no more."""
        # each turn asks, several times
        rows = [job.rows for lane in self._all if lane.jobs for job in lane.jobs.values()]
        return len(rows) >= MAX_UNVERIFIED_JOBS or sum(rows) >= MAX_UNVERIFIED_ROWS

    def _held_until(self, lane: Lane) -> float:
        """When (monotonic) the first queued batch may leave; in the past: now."""
        if not lane.gathers:
            return float("-inf")
        if self._is_behind():
            return float("inf")
        gathered = MAX_HELD_BYTES if lane.repeats.are_seen else FEW_HELD_BYTES
        if self.is_flushing or sum(other.held_bytes for other in self._all) >= gathered:
            return float("-inf")
        return min(self.flowing_until, lane.tracked[lane.queue[0].id].queued_at + LONGEST_HOLD_S)

    def _is_due(self, lane: Lane, now: float) -> bool:
        """Whether rows that waited for their key are to be sent."""
        if not lane.repeats.n_free:
            return False
        # nothing is read any more then, whichever table it is that fills the memory
        is_full = sum([other.held_bytes for other in self._all]) >= MAX_HELD_BYTES
        due = lane.repeats.due_at(lane.batcher, self._max_wait_s)
        return self.is_flushing or is_full or due <= now

    def _send(self, lane: Lane, now: float) -> None:
        batch = lane.leave()
        lane.tracked[batch.id].sent_at = now
        if lane.started_at is None:
            lane.started_at = now
            if lane.replace is not None and lane.replace.window_s is not None:
                # counted from the first request, perhaps: the last must leave well before the end
                window = lane.replace.window_s
                lane.replace.not_after = (
                    now + window - min(_WINDOW_MARGIN_S, _WINDOW_MARGIN * window)
                )
        is_alone = self._slots == 1 and not (lane.follows and lane.jobs)
        self._deliver(lane, batch, lane.context(alone=is_alone))

    def _send_alone(self, lane: Lane) -> None:
        batch, doubt = lane.doubtful.popleft()
        beside = [rows for _, others in lane.doubtful for rows in others]
        lane.is_exclusive = True
        self._deliver(lane, batch, lane.context(alone=True), doubt, beside)

    def _deliver(
        self,
        lane: Lane,
        batch: Batch,
        context: Context,
        doubt: Sequence[Doubtful] = (),
        beside: Sequence[Doubtful] = (),
    ) -> None:
        allowance = self._tools.rejects.allowance
        delivery = Delivery(batch, context, doubt, beside, allowance)
        lane.in_flight[batch.id] = batch
        lane.tracked[batch.id].tally = delivery.tally
        self._tasks.running += 1
        sender = self._tools.sender
        self._tools.workers.submit(
            lambda: sender.deliver(delivery), lambda result: self.settling.settle(lane, result)
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

        self._tasks.submit(lane, lambda: self._tools.provider.prepare(lane.plan.table), counted)
