"""The sync loop: the one thread that owns all state, and the order in which things happen.

It reads messages while there is room (`intake`), sends what may leave (`dispatch`), settles what
came back (`settling`), asks for background work (`verification`), replaces tables at the end
(`replacing`), and prints each checkpoint as soon as the ledger lets it go. Not reading stdin is the
backpressure.
Invariants: a state leaves only after its rows (`ledger`); memory is bounded by open, queued and
flying batches; every wait has a deadline or ends with the stop flag.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Protocol

from destination_bulk_tables.acknowledging import Acknowledging
from destination_bulk_tables.bounds import Bounds
from destination_bulk_tables.dispatch import PAUSE_S, Dispatch
from destination_bulk_tables.errors import BadInput, DestinationError, InternalError, Stopped
from destination_bulk_tables.intake import Intake, UndeliverableRow
from destination_bulk_tables.lanes import Lane
from destination_bulk_tables.messages import Message
from destination_bulk_tables.model import Cut, StreamKey
from destination_bulk_tables.replacing import Replacing
from destination_bulk_tables.tasks import Tasks, Tools
from destination_bulk_tables.verification import Verification

MAX_STATE_BYTES = 16_000_000
STOP_GRACE_S = 8.0
FAILURE_GRACE_S = 30.0
_LONGEST_WAIT_S = 1.0


class Source(Protocol):
    """Where messages come from; `stdio.MessageReader` or a script."""

    ended: bool

    def read(self, timeout_s: float, *, wants_input: bool) -> Iterator[Message]:
        """Wait for input (where wanted), a finished job or the timeout; yield what came."""


class Engine:
    """One sync. `slots`: requests at a time; `max_wait_s`: how long a batch stays open."""

    def __init__(
        self, lanes: Mapping[StreamKey, Lane], tools: Tools, *, slots: int, max_wait_s: float
    ) -> None:
        self._all = list(dict.fromkeys(lanes.values()))  # streams may share one
        self._tools = tools
        self._max_wait_s = max_wait_s
        self._tasks = Tasks(tools)
        self._dispatch = Dispatch(self._all, tools, self._tasks, slots, max_wait_s)
        self._verification = Verification(self._all, tools, self._tasks, self._dispatch.settling)
        self._replacing = Replacing(tools, self._tasks, self._dispatch, self._wait)
        self.bounds = Bounds(self._all, tools.clock.monotonic())
        self._acknowledging = Acknowledging(tools)
        self._intake = Intake(lanes, tools, self._dispatch)
        for key, lane in lanes.items():
            if lane.load is not None:
                tools.ledger.hold(key)

    def run(self, source: Source) -> None:
        """Sync until the input has ended and all is settled. Raises what ended it early."""
        self._source = source
        try:
            bad_input = self._read()
            self._flush("end")
            while any(lane.is_busy for lane in self._all):
                self._wait()
            if bad_input is not None:
                raise bad_input
            self._intake.require_completion()
            self._tools.rejects.judge_share(self._tools.progress.rows_read)
            self._replacing.replace([lane for lane in self._all if lane.load is not None])
            self._finish()
        except DestinationError:
            self._abandon()
            raise
        finally:
            for lane in self._all:
                if lane.load is not None:
                    lane.load.close()
            self._tools.ledger.close()

    def _read(self) -> DestinationError | None:
        """Read to the end. An error in the input is returned: what came before it is good."""
        while not self._source.ended:
            try:
                has_room = self._dispatch.has_room()
                for message in self._source.read(self._patience(), wants_input=has_room):
                    self._dispatch.flowing_until = self._tools.clock.monotonic() + PAUSE_S
                    self._intake.take(message)
            except BadInput as error:
                return error
            except UndeliverableRow as error:
                return error.cause
            self.bounds.spend(self._tools.clock.monotonic(), is_reading=has_room)
            self._turn()
        return None

    def _turn(self) -> None:
        """Take what came back, and move everything on by one step without waiting."""
        tools = self._tools
        now = tools.clock.monotonic()
        tools.workers.deliver_results()
        for lane in self._all:
            opened = lane.batcher.opened_at
            if opened is not None and lane.load is None and now - opened >= self._max_wait_s:
                self._dispatch.queue(lane, lane.batcher.cut("age"))
        if tools.ledger.taken_bytes > MAX_STATE_BYTES:
            self._flush("memory")  # states wait for rows, and rows for a batch to fill
            tools.ledger.taken_bytes = 0
        self._acknowledging.turn()
        if self._tasks.failure is not None:
            raise self._tasks.failure
        if tools.stop.is_set():
            raise Stopped("The sync was asked to stop before all rows were delivered.")
        self._dispatch.move(now)
        self._verification.poll(now)
        if now >= tools.progress.due_at:
            tools.progress.report(now)

    def _wait(self) -> None:
        """Wait for something to happen without reading, and take a turn."""
        for _ in self._source.read(self._patience(), wants_input=False):
            pass
        # before the turn, in which what was waited for is settled
        self.bounds.spend(self._tools.clock.monotonic(), is_reading=False)
        self._turn()

    def _patience(self) -> float:
        """Seconds until something is due; a second at most, so that a stop is noticed."""
        now = self._tools.clock.monotonic()
        due = now + min(_LONGEST_WAIT_S, self._acknowledging.patience_s)
        for lane in self._all:
            if lane.batcher.opened_at is not None and lane.load is None:
                due = min(due, lane.batcher.opened_at + self._max_wait_s)
            due = min(due, self._verification.due_at(lane), self._dispatch.due_at(lane))
        return max(0.0, due - now)

    def _flush(self, reason: Cut) -> None:
        self._dispatch.is_flushing = reason == "end"
        for lane in self._all:
            if lane.batcher.opened_at is not None and lane.load is None:
                self._dispatch.queue(lane, lane.batcher.cut(reason))

    def _finish(self) -> None:
        """Let the states of replaced tables go, when nothing can fail any more.

        A source resumes from an acknowledged state, so after a failure the next attempt would
        replace a table that is done by what the source has left.
        """
        tools = self._tools
        if not tools.ledger.is_settled:
            raise InternalError("The sync ended with states that cannot be acknowledged.")
        if tools.rejects.report is not None:
            tools.rejects.report.finish()
        for lane in self._all:
            tools.ledger.release(lane.plan.key)
        self._acknowledging.finish()

    def _abandon(self) -> None:
        """End early: start nothing, let flying requests settle, acknowledge what they prove."""
        tools = self._tools
        tools.halt.set()
        deadline = tools.clock.monotonic() + FAILURE_GRACE_S
        while self._tasks.running and tools.clock.monotonic() < deadline:
            if tools.stop.is_set():  # now or meanwhile
                deadline = min(deadline, tools.clock.monotonic() + STOP_GRACE_S)
            for _ in self._source.read(0.1, wants_input=False):
                pass
            tools.workers.deliver_results()
        with contextlib.suppress(DestinationError):
            self._acknowledging.finish()
