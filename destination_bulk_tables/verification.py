"""Background work at the vendor: accepted rows are delivered when their import is proven over.

One poll is under way at a time; it asks for everything that is due. Where each request is a job of
its own, rows of one that failed or got lost go the way of rows whose write was refused or not
answered (`doubt`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from destination_bulk_tables.errors import (
    BadRows,
    DestinationError,
    TransientError,
    UnaccountedRows,
)
from destination_bulk_tables.exchange import Tally
from destination_bulk_tables.http import Ambiguous, Refused, TooLarge
from destination_bulk_tables.keys import text_of
from destination_bulk_tables.lanes import Job, Lane, Tracked
from destination_bulk_tables.model import Doubtful, RejectedRow
from destination_bulk_tables.outcomes import Mingled, Outcome, Unverified, Verdict
from destination_bulk_tables.passage import MAX_AMBIGUOUS
from destination_bulk_tables.refusals import rejected_rows
from destination_bulk_tables.settling import Settling
from destination_bulk_tables.tasks import Tasks, Tools

log = logging.getLogger(__name__)
_Answer = Verdict | Outcome | None


class Verification:
    def __init__(
        self, lanes: Sequence[Lane], tools: Tools, tasks: Tasks, settling: Settling
    ) -> None:
        self._all = lanes
        self._tools = tools
        self._tasks = tasks
        self._settling = settling
        self._is_polling = False

    def due_at(self, lane: Lane) -> float:
        """When (monotonic) something of this lane is to be asked for; never while a poll runs."""
        if self._is_polling or not lane.jobs:
            return float("inf")
        return min((job.next_poll for job in lane.asked_jobs()), default=float("inf"))

    def poll(self, now: float) -> None:
        """Ask for what is due, unless a poll is under way."""
        if self._is_polling:
            return
        due = [
            (lane, job, job.revision, lane.unverified(job, now))
            for lane in self._all
            if lane.jobs
            for job in lane.asked_jobs()
            if job.next_poll <= now
        ]
        if not due:
            return
        self._is_polling = True
        provider = self._tools.provider

        def ask() -> list[tuple[_Answer | Exception, Tally]]:
            return [
                self._tasks.ask(lane, partial(provider.verify, unverified))
                for lane, _, _, unverified in due
            ]

        def polled(answers: list[tuple[_Answer | Exception, Tally]]) -> None:
            self._is_polling = False
            for (lane, job, revision, unverified), (answer, tally) in zip(
                due, answers, strict=True
            ):
                self._tasks.count_requests(lane, tally.requests, tally.retries)
                self._judge(lane, job, unverified, answer, is_current=job.revision == revision)

        self._tools.workers.submit(ask, polled)

    def _judge(
        self,
        lane: Lane,
        job: Job,
        unverified: Unverified,
        answer: _Answer | Exception,
        *,
        is_current: bool,
    ) -> None:
        now = self._tools.clock.monotonic()
        may_change = lane.in_flight or not is_current
        if may_change and isinstance(answer, UnaccountedRows | BadRows | Mingled):
            answer = None  # a request that is under way may have joined the same import
        if isinstance(answer, Mingled):
            self._send_again(lane, job, answer.error)
        elif isinstance(answer, Exception):
            self._tasks.fail(answer, lane)
        elif answer is None or not is_current:
            provider = self._tools.provider
            if now - job.accepted_at > provider.verify_timeout_s(unverified):
                message = (
                    f"{provider.title} accepted rows for table {lane.plan.table.name} and has not "
                    f"finished storing them in time. {provider.traits.slow_hint}"
                ).rstrip()
                self._tasks.fail(TransientError(message, stream=lane.plan.key), lane)
            job.postpone(now)
        elif isinstance(answer, Outcome):
            self._followed(lane, job, answer)
        else:
            self._verified(lane, job, answer)

    def _send_again(self, lane: Lane, job: Job, error: DestinationError) -> None:
        """The work is over and proves nothing: its rows go out once more, then maybe alone."""
        table = lane.plan.table.name
        log.warning("import_mingled table=%s rows=%d effect=sent_again", table, job.rows)
        lane.jobs = {key: other for key, other in lane.jobs.items() if other is not job}
        for tracked in job.batches:
            tracked.open_receipts -= 1
        if lane.replace is not None:
            for tracked in job.batches:
                lane.tracked.pop(tracked.batch.id, None)
            lane.mingled = error
        elif not all(self._settling.send_again(lane, tracked) for tracked in job.batches):
            self._tasks.fail(error, lane)

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
            self._tasks.fail(UnaccountedRows(message, stream=stream), lane)
            return
        brought = _brought(lane, job, {fault.key for fault in verdict.faults})
        faults = [
            RejectedRow(stream, "vendor", f.code, f.reason, f.row, original=brought.get(f.key, b""))
            for f in verdict.faults
        ]
        if not self._tasks.count_rejected(lane, faults):
            return
        self._end(lane, job)

    def _end(self, lane: Lane, job: Job) -> None:
        """Forget a job that is over; what it brought is settled."""
        lane.jobs = {key: other for key, other in lane.jobs.items() if other is not job}
        for tracked in job.batches:
            tracked.open_receipts -= 1
            if tracked.is_settled:
                self._settling.finish(lane, tracked)

    def _followed(self, lane: Lane, job: Job, outcome: Outcome) -> None:
        """One request's work is over: its bad rows are rejected, what is not in is sent again."""
        (receipt,), (tracked,) = job.receipts.values(), job.batches
        block, fate = receipt.block, outcome.fate
        assert block is not None
        rejected = rejected_rows(lane.plan.table, block, outcome.faults)
        if not self._settling.reject(lane, tracked, rejected):
            return
        parts: list[Doubtful] = []
        if fate is not None:
            parts = [Doubtful(block, fate)]
        elif outcome.again:
            parts = [Doubtful(block.select(outcome.again))]
        if parts:
            if isinstance(fate, Refused):
                # a receipt counts rows, a refusal attempts
                fate.resent = max(fate.resent, receipt.resent // max(1, receipt.rows))
            elif not (isinstance(fate, TooLarge) or self._may_repeat(lane, tracked, fate)):
                return
            self._settling.doubt_again(lane, tracked, parts)
        if lane.stored is not None:
            left = sum(part.block.count for part in parts)
            lane.stored += receipt.rows - len(rejected) - left
        self._end(lane, job)

    def _may_repeat(self, lane: Lane, tracked: Tracked, fate: Exception | None) -> bool:
        """Count a job that left its rows open; False when it is one too many."""
        tracked.lost += 1
        tracked.is_resent = tracked.is_resent or isinstance(fate, Ambiguous)
        if tracked.lost <= MAX_AMBIGUOUS:
            return True
        message = (
            f"Jobs of {self._tools.provider.title} for table {lane.plan.table.name} keep ending "
            f"without telling what became of their rows ({fate or 'put off'}). "
            f"{self._tools.provider.traits.slow_hint}"
        ).rstrip()
        self._tasks.fail(TransientError(message, stream=lane.plan.key), lane)
        return False


def _brought(lane: Lane, job: Job, keys: set[str]) -> dict[str, bytes]:
    """The lines that brought the rows of these keys, as far as they are still at hand."""
    if not keys:
        return {}
    if lane.load is not None:
        return lane.load.originals_of(keys)
    blocks = [tracked.batch.block for tracked in job.batches]
    return {
        text: line
        for block in blocks
        for key, line in zip(block.keys or (), block.originals or (), strict=False)
        if (text := text_of(key)) in keys
    }
