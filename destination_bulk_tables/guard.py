"""Judges a staged load before its table is touched: whether it may replace what is there.

Only an empty source empties a table: a load of which rows were read and none is left never does.
The next attempt of a job may be given the rest of a load by a source that goes on from an
acknowledged state, and `replace_guard` sets a share below which no load replaces. Both look at
what the table counts, where it can be counted; `Guard` does no I/O.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from destination_bulk_tables.errors import ConfigError

if TYPE_CHECKING:
    from destination_bulk_tables.catalog import StreamPlan
    from destination_bulk_tables.progress import StreamCounts

log = logging.getLogger(__name__)

REST_PERCENT = 50


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

    def require_whole(self, plan: StreamPlan, rows: int, held: int | None) -> None:
        """Raise `ConfigError` where a load of `rows` is too small for a table that holds `held`."""
        if held == 0:
            return
        if self._may_be_rest(plan):
            self._require_no_rest(plan, rows, held)
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

    def _require_no_rest(self, plan: StreamPlan, rows: int, held: int | None) -> None:
        if held is None and rows:
            log.warning(
                "load_may_be_a_rest table=%s rows=%d attempt=%d cause=cannot_be_counted",
                plan.table.name,
                rows,
                self.attempt,
            )
            return
        # an attempt that failed may have put this load beside the old rows, and never deleted those
        old = (held or 0) - self.attempt * rows
        if rows and rows * 100 >= old * REST_PERCENT:
            return
        holds = "an unknown number of rows" if held is None else f"{held} rows"
        message = (
            f"Stream {plan.key} brings {rows} rows to replace table {plan.table.name}, which holds "
            f"{holds}, in attempt {self.attempt + 1} of its job. An earlier attempt may have "
            "loaded the table, and this may be only what the source had left. The table was not "
            "touched. Start the refresh again."
        )
        raise ConfigError(message, stream=plan.key)
