"""What a sync has done so far: one log line per stream every 30 s, and a summary at the end."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from destination_bulk_tables.model import StreamKey

log = logging.getLogger(__name__)
INTERVAL_S = 30.0


@dataclass(slots=True)
class StreamCounts:
    """Counts of one stream; `delivered` means verified where the vendor works in the background."""

    read: int = 0
    delivered: int = 0
    rejected: int = 0
    requests: int = 0
    retries: int = 0


class Progress:
    """Used by the engine thread only."""

    def __init__(self, streams: list[StreamKey], now: float) -> None:
        self.counts = {stream: StreamCounts() for stream in streams}
        self.acknowledged = 0
        self._started = now
        self._last = now
        self._last_read = dict.fromkeys(streams, 0)

    @property
    def rows_read(self) -> int:
        """Of all streams."""
        return sum(counts.read for counts in self.counts.values())

    @property
    def due_at(self) -> float:
        return self._last + INTERVAL_S

    def report(self, now: float, *, is_final: bool = False) -> None:
        """Log a line per stream with news; the rate is since the last, at the end the whole."""
        seconds = max(1e-3, now - (self._started if is_final else self._last))
        for stream, counts in self.counts.items():
            if not is_final and not counts.read:
                continue
            rows = counts.read - (0 if is_final else self._last_read[stream])
            log.info(
                (
                    "%s stream=%s read=%d delivered=%d rejected=%d rows_per_s=%.0f requests=%d "
                    "retries=%d"
                ),
                "sync_summary" if is_final else "sync_progress",
                stream,
                counts.read,
                counts.delivered,
                counts.rejected,
                rows / seconds,
                counts.requests,
                counts.retries,
            )
            self._last_read[stream] = counts.read
        if is_final:
            log.info(
                "sync_ended elapsed_s=%.1f states_acknowledged=%d",
                now - self._started,
                self.acknowledged,
            )
        self._last = now
