"""Sends a batch, and tells what came of it, or what a count tells where no answer did."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from destination_bulk_tables.http import Flow, Refused, RowFault
from destination_bulk_tables.model import RowBlock, Table
from destination_bulk_tables.outcomes import Context, Outcome, ReadBack, WriteReport
from destination_bulk_tables.providers.custom_http.batches import Batches
from destination_bulk_tables.providers.custom_http.counting import Counting
from destination_bulk_tables.providers.custom_http.emptying import Replace
from destination_bulk_tables.providers.custom_http.jobs import Jobs, warn_stored_before
from destination_bulk_tables.providers.custom_http.results import Results

log = logging.getLogger(__name__)

_NO_VALUE = "a column that stands in a path has no value, or one that would make another path"


@dataclass(frozen=True, slots=True)
class Sending:
    """`jobs`: where rows are stored later."""

    _batches: Batches
    _results: Results
    _counting: Counting
    _replace: Replace
    _jobs: Jobs | None

    def write(self, table: Table, block: RowBlock, context: Context) -> Flow[WriteReport]:
        """Write the block in one request; rows that cannot be in one are told before it."""
        unfit = self._batches.write_of(table).prepare(table).unfit(block)
        if unfit:
            faults = tuple(RowFault(i, "no_value", _NO_VALUE) for i in sorted(unfit))
            fit = tuple(i for i in range(block.count) if i not in unfit)
            return WriteReport(faults=faults, again=fit)
        if self._jobs is not None:
            return WriteReport(receipt=(yield from self._jobs.begin(table, block, context)))
        judged, clashes = yield from self._write_once(table, block, context)
        bad, again = judged.faults, judged.again
        delivered = block.count - len(bad) - len(again)
        if clashes and not (yield from self._are_own(table, len(clashes), delivered, context)):
            bad += clashes
            delivered -= len(clashes)
        if again:
            log.warning("rows_put_off table=%s rows=%d", table.name, len(again))
        return WriteReport(delivered=delivered, faults=bad, again=again)

    def _write_once(
        self, table: Table, block: RowBlock, context: Context
    ) -> Flow[tuple[Outcome, tuple[RowFault, ...]]]:
        """One request; also the rows that are said to be in already, at a repeated attempt."""
        request = self._batches.request(table, block, context)
        plan = context.replace
        is_repeated = context.repeated > 0
        try:
            response = yield request
            is_repeated = is_repeated or response.resent > 0
            judged = self._results.judge_success(
                response,
                block.count,
                columns=table.columns,
                count_path=self._batches.write_of(table).count_path,
                is_repeat=is_repeated and self._batches.repeats_safely(table),
                is_repeatable=self._batches.repeats_safely(table),
            )
        except Refused as refused:
            is_repeated = is_repeated or refused.resent > 0
            if not (is_repeated and self._results.is_stored_before(refused.reason)):
                raise
            if block.count == 1:
                if plan is not None:
                    plan.begun = True
                return Outcome(), (RowFault(0, refused.code, refused.reason),)
            # some are in: the count may tell, or each row by itself
            is_safe = self._batches.repeats_safely(table)
            again = Refused(refused.code, refused.reason, partial=is_safe)
            again.resent = max(1, refused.resent)
            raise again from None
        if plan is not None:
            plan.begun = True
        if not is_repeated:
            return judged, ()
        clashes = tuple(f for f in judged.faults if self._results.is_stored_before(f.reason))
        bad = tuple(f for f in judged.faults if f not in clashes)
        return replace(judged, faults=bad), clashes

    def _are_own(self, table: Table, clashes: int, delivered: int, context: Context) -> Flow[bool]:
        """Whether rows "stored before" are those of the attempt without an answer.

        They may be older and have other values. Only a count can tell; without one they are
        taken for our own, and the log says so. `delivered` includes them.
        """
        warn_stored_before(table, clashes)
        if self._counting.question is None or context.stored is None or not context.alone:
            return True
        total = yield from self._counting.total(table)
        new = total - context.stored
        return new > delivered - clashes or not self._counting.has_moved(table, total)

    def stored_rows(
        self, table: Table, blocks: Sequence[RowBlock], context: Context
    ) -> Flow[ReadBack]:
        """By count alone: all or none of the rows, or it cannot be told."""
        if context.replace is not None and self._replace.is_first(context.replace):
            return ReadBack(set())  # a count may be that of the old rows; this one replaces again
        if context.stored is None or self._counting.question is None:
            return ReadBack(None)
        total = yield from self._counting.total(table)
        new = total - context.stored
        rows = sum(block.count for block in blocks)
        if new == rows:
            return ReadBack(set(range(rows)), total)
        # a job that nobody follows may still bring them
        may_come = self._jobs is not None and not context.is_over
        is_none = new == 0 and not may_come and self._counting.has_moved(table, context.stored)
        return ReadBack(set() if is_none else None, total)
