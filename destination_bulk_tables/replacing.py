"""Replaces tables: only after the input ended and each stream that will get a COMPLETE has one.

The load is staged by then (`overwrite`); the order of the steps is decided here, what they are by
the provider.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from destination_bulk_tables.dispatch import Dispatch
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.guard import SAMPLE_ROWS
from destination_bulk_tables.http import Flow
from destination_bulk_tables.lanes import Lane
from destination_bulk_tables.model import Batch, RowBlock
from destination_bulk_tables.outcomes import Load, ReplacePlan
from destination_bulk_tables.settling import MAX_MINGLED, NO_ROWS
from destination_bulk_tables.tasks import Tasks, Tools

log = logging.getLogger(__name__)
T = TypeVar("T")


class Replacing:
    """Replaces one table at a time; `wait` takes a turn of the engine's loop."""

    def __init__(
        self, tools: Tools, tasks: Tasks, dispatch: Dispatch, wait: Callable[[], None]
    ) -> None:
        self._tools = tools
        self._tasks = tasks
        self._dispatch = dispatch
        self._wait = wait

    def replace(self, lanes: Sequence[Lane]) -> None:
        """Replace the tables' content by the staged loads; judge all before any is touched."""
        sizes = [self._judge(lane) for lane in lanes]
        for lane, size in zip(lanes, sizes, strict=True):
            self._replace(lane, size)

    def _judge(self, lane: Lane) -> Load:
        """Raise `ConfigError` when a load may not replace its table: how large it is."""
        assert lane.load is not None
        guard, plan, batcher = self._tools.guard, lane.plan, lane.batcher
        size = lane.load.seal(batcher.max_rows, batcher.max_bytes - batcher.overhead)
        guard.require_rows(plan, size.rows, self._tools.progress.counts[plan.key])
        if guard.wants_count(plan):
            held = self._call(lane, lambda: self._tools.provider.prepare(plan.table))
            is_rest = guard.may_be_rest(plan, size.rows, held)
            left = self._left_beside(lane, size.rows) if is_rest and size.rows else 0
            guard.require_whole(plan, size.rows, held, left)
        return size

    def _left_beside(self, lane: Lane, rows: int) -> int:
        """How many rows of the table are of attempts that failed before they deleted the old."""
        assert lane.load is not None
        own = lane.load.sample(SAMPLE_ROWS)
        block = RowBlock(list(own), len(own), range(len(own)))
        provider, table = self._tools.provider, lane.plan.table
        copies = self._call(lane, lambda: provider.copies(table, block))
        return 0 if copies is None else self._tools.guard.left_beside(rows, copies, own.values())

    def _replace(self, lane: Lane, size: Load) -> None:
        assert lane.load is not None
        provider, table, load = self._tools.provider, lane.plan.table, lane.load
        log.info("replace_started table=%s rows=%d", table.name, size.rows)
        plan = self._send(lane, size)
        for _ in range(MAX_MINGLED):
            if lane.mingled is None or plan.refused:  # what was refused is reported once
                break
            plan = self._send(lane, size)
        if lane.mingled is not None:
            raise lane.mingled
        self._tools.progress.counts[lane.plan.key].delivered += load.superseded
        delivered = lane.delivered
        if size.rows and not delivered:
            message = (
                f"{provider.title} rejected each row that was to replace table {table.name} "
                f"({', '.join(sorted(plan.refused)) or 'see the log'}). No more was changed. "
                "Correct the rows, which rejected_records.report_path lists, or their mapping in "
                f"tables[].columns. {plan.hint}"
            ).rstrip()
            raise ConfigError(message, stream=lane.plan.key)
        self._call(lane, lambda: provider.replace_end(table, plan, delivered))
        log.info("replace_done table=%s rows=%d", table.name, delivered)

    def _send(self, lane: Lane, size: Load) -> ReplacePlan:
        """Send the whole load and wait until its background work, if any, is judged."""
        assert lane.load is not None
        provider, table = self._tools.provider, lane.plan.table
        plan = self._call(lane, lambda: provider.replace_begin(table, size))
        lane.begin_load(plan)
        for batch in lane.load.batches(lane.batcher):
            self._dispatch.queue(lane, batch)
            while lane.queue:  # the others are better on disk
                self._wait()
        if not size.rows and plan.single:
            self._dispatch.queue(lane, Batch(0, table, NO_ROWS, "end"))
        while lane.is_sending:
            self._wait()
        lane.is_pushing = False
        while lane.is_busy:
            self._wait()
        return plan

    def _call(self, lane: Lane, flow: Callable[[], Flow[T]]) -> T:
        """Run a flow on a sender thread and wait for it."""
        answers: list[T] = []
        self._tasks.submit(lane, flow, answers.append)
        while not answers:
            self._wait()
        return answers[0]
