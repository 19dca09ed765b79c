"""Rolling request windows per table, as Kore.ai counts them.

Source: https://koreai.mintlify.app/ai-for-service/apis/automation/rate-limit (read 2026-11-22)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class RollingWindows:
    """Times of the requests that were let through, per table."""

    def __init__(self) -> None:
        self.violations = 0
        self._times: dict[str, deque[float]] = {}

    def breached(
        self, table: str, now: float, windows: Sequence[tuple[int, float]]
    ) -> float | None:
        """Count one request; return the length of the window it breaks, in seconds, or None."""
        times = self._times.setdefault(table, deque())
        longest = max(seconds for _, seconds in windows)
        while times and times[0] <= now - longest:
            times.popleft()
        for limit, seconds in windows:
            # the request `limit` places back still being inside the window means that the window is
            # full
            if len(times) >= limit and times[-limit] > now - seconds:
                self.violations += 1
                return seconds
        times.append(now)
        return None

    def record(self, table: str, now: float) -> None:
        """Count a request that was let through although it broke a window."""
        self._times[table].append(now)
