"""Judges a staged load before its table is touched: whether it may replace what is there.

Only an empty source empties a table: a load of which rows were read and none is left never does.
The next attempt of a job may be given the rest of a load by a source that goes on from an
acknowledged state, and `replace_guard` sets a share below which no load replaces. Both look at
what the table counts, where it can be counted. An attempt that failed late may have left its rows
beside the old ones; only copies show that, for after an attempt that only the platform calls failed
the table holds each row of its load once. `Guard` does no I/O.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from destination_bulk_tables.catalog import StreamPlan
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.progress import StreamCounts

log = logging.getLogger(__name__)

REST_PERCENT = 50
SAMPLE_ROWS = 50  # at least so many rows of a load are looked for


@dataclass(frozen=True, slots=True)
class Guard:
    """`percent`: the setting `replace_guard`, 0 is off; `attempt`: of the job, the first is 0."""

    percent: int = 0
    attempt: int = 0

    def wants_count(self, plan: StreamPlan) -> bool:
        """Whether the table is to be counted before it is replaced."""
        return self.percent > 0 or self._may_be_rest(plan)

    def _may_be_rest(self, plan: StreamPlan) -> bool:
        return plan.may_resume and self.attempt > 0

    def may_be_rest(self, plan: StreamPlan, rows: int, held: int | None) -> bool:
        """Whether a load of `rows` is far smaller than its table, and may be what was left."""
        return self._may_be_rest(plan) and rows * 100 < (held or 0) * REST_PERCENT

    def left_beside(self, rows: int, copies: Sequence[int], own: Iterable[int]) -> int:
        """How many rows of a table are of earlier attempts of this job, of as many `rows`.

        Of rows all over the load: `copies` that the table holds, `own` that the load has. One copy
        of each may be what a source brings once more.
        """
        shares = [
            min(self.attempt, max(0, found - count) / count)
            for found, count in zip(copies, own, strict=True)
        ]
        return int(rows * sum(shares) / len(shares))

    def require_rows(self, plan: StreamPlan, rows: int, counts: StreamCounts) -> None:
        """Raise `ConfigError` where rows were read and none is left to replace the table with."""
        if rows or not counts.read:
            return
        message = (
            f"{counts.read} rows of stream {plan.key} were read and none is left to replace table "
            f"{plan.table.name} with ({counts.rejected} rejected, the others deleted by later "
            "records). The table was not touched: only a source without rows empties it. Correct "
            "the rows or their mapping in tables[].columns."
        )
        raise ConfigError(message, stream=plan.key)

    def require_whole(self, plan: StreamPlan, rows: int, held: int | None, left: int) -> None:
        """Raise `ConfigError` where a load of `rows` is too small for a table that holds `held`.

        `left`: how many of these are `left_beside`.
        """
        if held == 0:
            return
        if self._may_be_rest(plan):
            self._require_no_rest(plan, rows, held, left)
        if not self.percent:
            return
        if held is None:
            log.warning("replace_not_guarded table=%s cause=cannot_be_counted", plan.table.name)
        elif rows * 100 < held * self.percent:
            message = (
                f"Stream {plan.key} brings {rows} rows, and table {plan.table.name} holds {held}: "
                f"fewer than the {self.percent} % that replace_guard asks for. The table was not "
                "touched. If the rows are right, set replace_guard lower for one sync; rows that a "
                "failed replace left there count as well."
            )
            raise ConfigError(message, stream=plan.key)

    def _require_no_rest(self, plan: StreamPlan, rows: int, held: int | None, left: int) -> None:
        if held is None and rows:
            log.warning(
                "load_may_be_a_rest table=%s rows=%d attempt=%d cause=cannot_be_counted",
                plan.table.name,
                rows,
                self.attempt,
            )
            return
        if rows and not self.may_be_rest(plan, rows, (held or 0) - left):
            return
        holds = "an unknown number of rows" if held is None else f"{held} rows"
        message = (
            f"Stream {plan.key} brings {rows} rows to replace table {plan.table.name}, which holds "
            f"{holds}, in attempt {self.attempt + 1} of its job. An earlier attempt may have "
            "loaded the table, and this may be only what the source had left. The table was not "
            "touched. Start the refresh again."
        )
        raise ConfigError(message, stream=plan.key)
