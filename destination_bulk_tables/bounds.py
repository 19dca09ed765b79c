"""What bounded a sync: where the time of each table went, and which setting would change it.

While rows may be read, time counts as reading for every table, whatever is under way beside it: the
source (or our own work on its rows) sets the pace then. While none may be read, it counts for each
table as what that table waits for.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from destination_bulk_tables.lanes import Lane

log = logging.getLogger(__name__)

_ROWS = "batching.max_rows"
_PARALLEL = "batching.max_parallel_requests"
_SETTINGS = {
    "reading": "none, the source sets the pace",
    "rate_limit": f"{_ROWS}, for fewer requests",
    "answers": f"{_ROWS}, for fewer requests",
    "imports": f"{_ROWS}, for fewer imports",
    "other_tables": _PARALLEL,
}


@dataclass(slots=True)
class Shares:
    """Seconds in which one table held the sync up."""

    sending_s: float = 0.0
    imports_s: float = 0.0
    other_tables_s: float = 0.0


class Bounds:
    """Used by the engine thread only."""

    def __init__(self, lanes: Sequence[Lane], now: float) -> None:
        self._shares = [(lane, Shares()) for lane in lanes]
        self._reading_s = 0.0
        self._last = now

    def spend(self, now: float, *, is_reading: bool) -> None:
        seconds, self._last = now - self._last, now
        if is_reading:
            self._reading_s += seconds
            return
        for lane, shares in self._shares:
            if lane.is_sending and not lane.waits_for_jobs:
                shares.sending_s += seconds
            elif lane.is_busy:
                shares.imports_s += seconds
            else:
                shares.other_tables_s += seconds

    def report(self) -> None:
        """One line a table that got requests."""
        for lane, shares in self._shares:
            if lane.answer_s or lane.limited_s:
                seconds = self._of(lane, shares)
                total = sum(seconds.values()) or 1.0
                most = max(seconds, key=lambda name: seconds[name])
                is_set = lane.pace.is_fixed and most == "answers"
                log.info(
                    "sync_bound table=%s %s bound_by=%s setting=%r",
                    lane.plan.table.name,
                    " ".join([f"{name}={s / total:.0%}" for name, s in seconds.items()]),
                    most,
                    _PARALLEL if is_set else _SETTINGS[most],
                )

    def _of(self, lane: Lane, shares: Shares) -> dict[str, float]:
        limited = lane.limited_s / (lane.limited_s + lane.answer_s)
        return {
            "reading": self._reading_s,
            "rate_limit": shares.sending_s * limited,
            "answers": shares.sending_s * (1 - limited),
            "imports": shares.imports_s,
            "other_tables": shares.other_tables_s,
        }
