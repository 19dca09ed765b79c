"""Emulated time: wall time plus what tests advanced, or a clock that stands still.

All of the emulator's time comes from here. It never goes backwards and it does not sleep.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """Seconds since the epoch, as the emulated vendors see them."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._frozen_at: float | None = None

    def now(self) -> float:
        """Return the emulated time in seconds since the epoch."""
        wall = time.time() if self._frozen_at is None else self._frozen_at  # noqa: TID251
        return wall + self._ahead

    def advance(self, seconds: float) -> None:
        """Move the time ahead."""
        self._ahead += seconds

    def freeze(self, *, frozen: bool) -> None:
        """Let the time stand still, or run again from where it stands."""
        if frozen == (self._frozen_at is not None):
            return
        now = self.now()
        wall = time.time()  # noqa: TID251
        self._ahead = now - wall
        self._frozen_at = wall if frozen else None


def iso(seconds: float) -> str:
    """Format as the vendors do: UTC, milliseconds, Z."""
    moment = datetime.fromtimestamp(seconds, tz=UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
