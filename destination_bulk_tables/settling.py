"""Settles what comes back: rows delivered and rejected, jobs begun, rows to look at again.

Invariant: an epoch is told of a row only when it is delivered or in the reject report.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from destination_bulk_tables.errors import UnaccountedRows
from destination_bulk_tables.exchange import Tally
from destination_bulk_tables.keyed_rows import n_older
from destination_bulk_tables.lanes import LOAD, Job, Lane, Tracked
from destination_bulk_tables.model import (
    Batch,
    BatchResult,
    Doubtful,
    Receipt,
    RejectedRow,
    RowBlock,
)
from destination_bulk_tables.tasks import Tasks, Tools

log = logging.getLogger(__name__)

NO_ROWS = RowBlock((), 0, range(0))
MAX_KEPT_BYTES = 8_000_000  # of accepted rows that are not verified
MAX_MINGLED = 2


class Settling:
    """Used by the engine thread only."""

    def __init__(self, tools: Tools, tasks: Tasks) -> None:
        self._tools = tools
        self._tasks = tasks
        self._kept_bytes = 0

    def settle(self, lane: Lane, result: BatchResult) -> None:
        """A batch was answered, or failed."""
        batch, now = result.batch, self._tools.clock.monotonic()
        tracked = lane.tracked[batch.id]
        self._learn(lane, result, tracked.tally, now)
        del lane.in_flight[batch.id]
        lane.is_exclusive = False
        self._tasks.running -= 1
        self._tasks.count_requests(lane, result.requests, result.retries)
        is_allowed = self.reject(lane, tracked, result.rejected)
        lane.note_sent(result, now)
        for receipt in result.receipts:
            self._begin_job(lane, tracked, receipt, now)
        if result.error is not None:
            self._tasks.fail(result.error, lane)
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
        tracked.open_deliveries -= 1
        self._keep(lane, tracked)
        if tracked.is_settled:
            self.finish(lane, tracked)

    def reject(self, lane: Lane, tracked: Tracked, rejected: Sequence[RejectedRow]) -> bool:
        """Count rows of a batch that the vendor refused; False when the sync may not go on."""
        batch = tracked.batch
        for row in rejected:
            tracked.count_rejected(batch.epoch_of(row.index))
        if lane.replace is not None:
            lane.replace.refused.update(row.code for row in rejected)
        return self._tasks.count_rejected(lane, _by_stream(batch, rejected))

    def _begin_job(self, lane: Lane, tracked: Tracked, receipt: Receipt, now: float) -> None:
        tracked.open_receipts += 1
        tracked.is_resent = tracked.is_resent or receipt.resent > 0
        if lane.follows and (receipt.id == lane.last_job or receipt.id in lane.jobs):
            message = (
                f"{self._tools.provider.title} named the same job for two requests of table "
                f"{lane.plan.table.name}, so it cannot be told when each is done. "
                f"{self._tools.provider.traits.slow_hint}"
            ).rstrip()
            self._tasks.fail(UnaccountedRows(message, stream=lane.plan.key), lane)
            return
        lane.last_job = receipt.id
        is_whole = lane.replace is not None and not lane.follows
        lane.jobs.setdefault(LOAD if is_whole else receipt.id, Job()).add(receipt, tracked, now)

    def _keep(self, lane: Lane, tracked: Tracked) -> None:
        """Have few accepted rows at hand, as they may have to be sent again; free all others.

        Imports may take long. The rows of a load are on disk.
        """
        n_bytes = tracked.batch.block.held_bytes
        is_plain = not lane.follows and lane.replace is None
        is_whole = tracked.open_receipts and not tracked.rejected
        if is_plain and is_whole and self._kept_bytes + n_bytes <= MAX_KEPT_BYTES:
            self._kept_bytes += n_bytes
        else:
            tracked.batch.block = NO_ROWS

    def send_again(self, lane: Lane, tracked: Tracked) -> bool:
        """Send accepted rows once more, alone; False where they are not at hand or it was tried."""
        if tracked.open_deliveries:
            return True  # that is to come
        block = tracked.batch.block
        if not block.count or tracked.rejected or tracked.mingled >= MAX_MINGLED:
            return False
        self._kept_bytes -= block.held_bytes
        tracked.mingled += 1
        self.doubt_again(lane, tracked, [Doubtful(block)])
        return True

    def doubt_again(self, lane: Lane, tracked: Tracked, parts: list[Doubtful]) -> None:
        """A job is over and rows of it may not be in: look at them, or send them again."""
        tracked.open_deliveries += 1
        lane.doubtful.append((tracked.batch, parts))

    def _learn(self, lane: Lane, result: BatchResult, tally: Tally, now: float) -> None:
        """Have the table's pace judge how quickly a full batch was answered."""
        lane.charge(tally)
        lane.pace.push_back(tally.pushed_back_at, now)
        if result.requests and not result.retries and result.batch.cut in {"rows", "bytes"}:
            # where the rate limit holds requests back, more at a time bring nothing
            # and one that waits to be tried again is no load
            active = [i for i in lane.in_flight if not lane.tracked[i].tally.retries]
            is_used = len(active) >= lane.pace.limit and not tally.limited_s
            answer_s = tally.answer_s / result.requests
            n_bytes = result.batch.block.n_bytes
            lane.pace.learn(answer_s, result.started_at, now, is_used=is_used, n_bytes=n_bytes)

    def finish(self, lane: Lane, tracked: Tracked) -> None:
        """Each row of a batch is delivered or rejected."""
        del lane.tracked[tracked.batch.id]
        self._kept_bytes -= tracked.batch.block.held_bytes
        lane.retire_keys(tracked, self._tools.clock.monotonic())
        lane.repeats.n_older -= n_older(tracked.batch)
        for epoch, count in tracked.batch.counts().items():
            rejected = tracked.rejected.get(epoch, 0)
            epoch.rejected += rejected
            epoch.delivered += count - rejected
            lane.delivered += count - rejected
            counts = self._tools.progress.counts[epoch.stream or lane.plan.key]
            counts.delivered += count - rejected


def _by_stream(batch: Batch, rejected: Sequence[RejectedRow]) -> list[RejectedRow]:
    """The vendor's refusals under the streams of their rows, where several share the table."""
    epochs = [batch.epoch_of(row.index) for row in rejected]
    return [
        replace(row, stream=epoch.stream) if epoch and epoch.stream else row
        for row, epoch in zip(rejected, epochs, strict=True)
    ]
