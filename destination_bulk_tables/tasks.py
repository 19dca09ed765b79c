"""Tasks on sender threads: how many run, their cost, and the first failure, which ends the sync.

Used by the engine thread only; what runs on the others is a task's function, which never raises.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from destination_bulk_tables.clock import Clock
from destination_bulk_tables.errors import (
    DestinationError,
    InternalError,
    Stopped,
    TransientError,
)
from destination_bulk_tables.exchange import Tally
from destination_bulk_tables.guard import Guard
from destination_bulk_tables.http import Ambiguous, Flow, Refused, TooLarge, cause_of
from destination_bulk_tables.lanes import Lane
from destination_bulk_tables.ledger import Ledger
from destination_bulk_tables.model import RejectedRow
from destination_bulk_tables.progress import Progress
from destination_bulk_tables.provider import Provider
from destination_bulk_tables.rejects import Rejects
from destination_bulk_tables.sender import Sender
from destination_bulk_tables.workers import Workers

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tools:
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
    guard: Guard


class Tasks:
    """What runs on sender threads; `failure` is what ends the sync."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self.running = 0
        self.failure: DestinationError | None = None

    def submit(self, lane: Lane, flow: Callable[[], Flow[T]], then: Callable[[T], None]) -> None:
        """Run a flow on a sender thread; its error fails the sync."""

        def finished(outcome: tuple[T | Exception, Tally]) -> None:
            self.running -= 1
            answer, tally = outcome
            lane.questions -= 1
            lane.charge(tally)
            self.count_requests(lane, tally.requests, tally.retries)
            if isinstance(answer, Exception):
                self.fail(answer, lane)
            else:
                then(answer)

        self.running += 1
        lane.questions += 1
        self._tools.workers.submit(lambda: self.ask(lane, flow), finished)

    def ask(self, lane: Lane, flow: Callable[[], Flow[T]]) -> tuple[T | Exception, Tally]:
        """On a sender thread: what a flow returns or raises, and what it cost."""
        tally = Tally()
        try:
            return self._tools.sender.exchange.run(lane.plan.table, flow(), tally), tally
        except Exception as error:  # noqa: BLE001 - the border of the sender thread
            return error, tally

    def count_requests(self, lane: Lane, requests: int, retries: int) -> None:
        counts = self._tools.progress.counts[lane.plan.key]
        counts.requests += requests
        counts.retries += retries

    def count_rejected(self, lane: Lane, rejected: Sequence[RejectedRow]) -> bool:
        """Count and report; False when the sync may not go on with so many: settle nothing more."""
        for row in rejected:
            self._tools.progress.counts[row.stream].rejected += 1
        try:
            self._tools.rejects.add(rejected, self._tools.progress.rows_read)
        except DestinationError as error:
            self.fail(error, lane)
            return False
        return True

    def fail(self, error: Exception, lane: Lane) -> None:
        """Remember the first failure and have the sender threads stop retrying."""
        if self.failure is None:
            if isinstance(error, Refused | TooLarge | Ambiguous):
                # a question, which is small: a proxy on the way may answer in the vendor's place
                message = (
                    f"{self._tools.provider.title} did not take a question about table "
                    f"{lane.plan.table.name} ({cause_of(error)}). The next attempt starts where "
                    "this one stopped. If it stays so, look at what answers at its address: a "
                    "gateway or a proxy may be in between."
                )
                error = TransientError(message)
            if not isinstance(error, DestinationError):
                log.error("unexpected_error", exc_info=error)
                message = (
                    f"An unexpected error ended the sync ({type(error).__name__}). Please report "
                    "it with the log."
                )
                error = InternalError(message, detail=repr(type(error)))
            if not isinstance(error, Stopped):
                error.stream = error.stream or lane.plan.key
            self.failure = error
        self._tools.halt.set()
