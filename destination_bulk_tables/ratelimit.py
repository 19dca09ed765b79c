"""Several rolling windows at once, for one table; shared by all sender threads.

Invariant: in any window of `seconds` at most `requests` slots are given out, whatever the attempt
is for. The windows here are a little longer than the vendor's, because requests spaced exactly
would arrive closer where latency varies. A sliding log of times is exact where a token bucket
allows a burst on top of the rate, and is shorter than adapting a library to an injected clock and
an interruptible wait.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

MARGIN = 1.02


class WindowLimiter:
    """Gives out times at which a request may leave."""

    def __init__(self, windows: Sequence[tuple[int, float]]) -> None:
        self._windows = [(requests, seconds * MARGIN) for requests, seconds in windows]
        self._times: deque[float] = deque(maxlen=max((n for n, _ in windows), default=1))
        self._paused_until = float("-inf")
        self._lock = threading.Lock()

    def reserve(self, now: float) -> float:
        """Take a slot at `now` and return 0, or take none and return the seconds to wait."""
        with self._lock:
            ready = self._paused_until
            for requests, seconds in self._windows:
                if len(self._times) >= requests:
                    ready = max(ready, self._times[-requests] + seconds)
            if ready > now:
                return ready - now
            self._times.append(now)
            return 0.0

    def pause(self, until: float) -> None:
        """Let nothing leave before `until`: the vendor asked for it."""
        with self._lock:
            self._paused_until = max(self._paused_until, until)
