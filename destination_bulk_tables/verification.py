"""Background work at the vendor: accepted rows are delivered when their import is proven over.

One poll is under way at a time; it asks for everything that is due.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from destination_bulk_tables.errors import BadRows, TransientError, UnaccountedRows
from destination_bulk_tables.exchange import Tally
from destination_bulk_tables.model import RejectedRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from destination_bulk_tables.dispatch import Dispatch
    from destination_bulk_tables.lanes import Job, Lane
    from destination_bulk_tables.outcomes import Unverified, Verdict
    from destination_bulk_tables.tasks import Tasks, Tools


class Verification:
    """Asks what became of accepted rows, and settles them."""

    def __init__(
        self, lanes: Sequence[Lane], tools: Tools, tasks: Tasks, dispatch: Dispatch
    ) -> None:
        self._all = lanes
        self._tools = tools
        self._tasks = tasks
        self._dispatch = dispatch
        self._is_polling = False

    def due_at(self, lane: Lane) -> float:
        """When (monotonic) something of this lane is to be asked for; never while a poll runs."""
        if lane.is_pushing or self._is_polling:
            return float("inf")
        return min((job.next_poll for job in lane.jobs.values()), default=float("inf"))

    def poll(self, now: float) -> None:
        """Ask for what is due, unless a poll is under way."""
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
                self._tasks.count_requests(lane, len(unverified.receipts), 0)
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
            self._tasks.fail(answer, lane)
        elif answer is None or not is_current:
            if now - job.accepted_at > self._tools.provider.verify_timeout_s(unverified):
                message = (
                    f"{self._tools.provider.title} accepted rows for table {lane.plan.table.name} "
                    "and has not finished importing them in time. Look at its import page; if "
                    "imports are slow there, raise import_timeout_minutes."
                )
                self._tasks.fail(TransientError(message, stream=lane.plan.key), lane)
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
            self._tasks.fail(UnaccountedRows(message, stream=stream), lane)
            return
        faults = [RejectedRow(stream, "vendor", f.code, f.reason, f.row) for f in verdict.faults]
        if not self._tasks.count_rejected(lane, faults):
            return
        lane.jobs = {key: other for key, other in lane.jobs.items() if other is not job}
        for tracked in job.batches:
            tracked.open_receipts -= 1
            if tracked.is_settled:
                self._dispatch.finish(lane, tracked)
