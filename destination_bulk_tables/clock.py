"""Time, as a dependency: what waits or measures takes a `Clock`, so tests run without sleeping."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime


class Clock:
    """Monotonic and wall time in seconds, and a wait that a stop flag ends."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point; never goes back."""
        return time.monotonic()

    def now(self) -> float:
        """Unix time in seconds."""
        return datetime.now(UTC).timestamp()

    def wait(self, seconds: float, stop: threading.Event) -> bool:
        """Wait; return True at once when `stop` is or becomes set."""
        return stop.wait(max(0.0, seconds))
