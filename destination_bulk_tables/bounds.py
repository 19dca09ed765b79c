"""What bounded a sync: where the time of each table went, and which setting would change it.

While rows may be read, time counts as reading for every table, whatever is under way beside it: the
source (or our own work on its rows) sets the pace then. While none may be read, it counts for each
table as what that table waits for. While its requests are under way that is, in shares of what they
waited for: the rate limit (ours, or the vendor's 429), failures (attempts without an answer, and
the waits after them and after 503), and answers.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence

from destination_bulk_tables.lanes import Lane

log = logging.getLogger(__name__)

_ROWS = "batching.max_rows"
_PARALLEL = "batching.max_parallel_requests"
_WINDOW = "debounce_seconds, for a shorter window"
_SETTINGS = {
    "reading": "none, the source sets the pace",
    "rate_limit": f"{_ROWS}, for fewer requests",
    "failures": "none, the vendor was busy or did not answer",
    "answers": f"{_ROWS}, for fewer requests",
    "imports": f"{_ROWS}, for fewer imports",
    "other_tables": _PARALLEL,
}


class Bounds:
    """Used by the engine thread only."""

    def __init__(self, lanes: Sequence[Lane], now: float) -> None:
        # seconds in which each table held the sync up, by what it waited for
        self._waits = [(lane, defaultdict[str, float](float)) for lane in lanes]
        self._reading_s = 0.0
        self._last = now

    def spend(self, now: float, *, is_reading: bool) -> None:
        seconds, self._last = now - self._last, now
        if is_reading:
            self._reading_s += seconds
            return
        for lane, waits in self._waits:
            if lane.questions or (lane.is_sending and not lane.waits_for_jobs):
                waits["sending"] += seconds
            else:
                waits["imports" if lane.is_busy else "other_tables"] += seconds

    def report(self) -> None:
        """One line a table that got requests."""
        for lane, waits in self._waits:
            if lane.answer_s or lane.limited_s or lane.failed_s:
                seconds = self._of(lane, waits)
                total = sum(seconds.values()) or 1.0
                most = max(seconds, key=lambda name: seconds[name])
                log.info(
                    "sync_bound table=%s %s bound_by=%s setting=%r",
                    lane.plan.table.name,
                    " ".join([f"{name}={s / total:.0%}" for name, s in seconds.items()]),
                    most,
                    _setting(lane, most),
                )

    def _of(self, lane: Lane, waits: Mapping[str, float]) -> dict[str, float]:
        a_second = waits["sending"] / (lane.limited_s + lane.failed_s + lane.answer_s)
        return {
            "reading": self._reading_s,
            "rate_limit": a_second * lane.limited_s,
            "failures": a_second * lane.failed_s,
            "answers": a_second * lane.answer_s,
            "imports": waits["imports"],
            "other_tables": waits["other_tables"],
        }


def _setting(lane: Lane, bound: str) -> str:
    """What would change a bound of this table."""
    if bound == "answers" and lane.pace.is_fixed:
        return _PARALLEL
    if bound == "imports" and lane.replace is not None and lane.replace.window_s is not None:
        return _WINDOW
    return _SETTINGS[bound]
