"""One JSON line per request, for who looks at night at what a sync did. Opt-in.

A line holds sizes, times and names: never a body, a value of a row, a header, the query of an
address (which may name a key) or a secret. Sender threads share a trace; a line is in a file before
its request's answer is acted on, so whatever ends the process leaves the lines of all that was
answered; a store gets them a minute later at most. What cannot be written is warned of once and the
sync goes on: a trace proves nothing and is owed to nobody.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from datetime import UTC, datetime
from typing import Any

import msgspec

from destination_bulk_tables.clock import Clock
from destination_bulk_tables.errors import DestinationError
from destination_bulk_tables.http import HttpRequest, HttpResponse
from destination_bulk_tables.secrecy import SECRETS
from destination_bulk_tables.stores import StoreSettings
from destination_bulk_tables.trace.places import SETTING, FilePlace, StorePlace, open_place

log = logging.getLogger(__name__)


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt of a request.

    `time`: when it was sent. `status`: 0 where no answer came, and `trouble` then says why.
    `cause`: what was wrong with the attempt before, or the request before this one of the same
    rows; `waited_ms`: how long that was waited for. `limited_ms`: waited for the rate limit.
    """

    time: datetime
    table: str
    method: str
    path: str
    rows: int | None
    bytes: int
    status: int
    ms: float
    attempt: int = 1
    limited_ms: float = 0.0
    waited_ms: float = 0.0
    cause: str | None = None
    trouble: str | None = None
    import_id: str | None = None


class Trace:
    """Writes lines until one cannot be written, which is warned of once."""

    def __init__(
        self, path: str, settings: StoreSettings, clock: Clock, stop: threading.Event
    ) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._place: FilePlace | StorePlace | None = None
        try:
            self._place = open_place(path, settings, clock, stop)
        except (OSError, DestinationError) as error:
            self._warn(error)

    def note(
        self,
        request: HttpRequest,
        response: HttpResponse | None,
        sent_at: float,
        *,
        table: str = "-",
        **more: Any,
    ) -> None:
        """Write the line of an attempt that has ended and was sent then (monotonic)."""
        took_s = self._clock.monotonic() - sent_at
        self.add(
            Line(
                time=datetime.fromtimestamp(self._clock.now() - took_s, UTC),
                table=table,
                method=request.method,
                path=request.url or request.path if request.shown is None else request.shown,
                rows=request.rows,
                bytes=len(request.body or b""),
                status=response.status if response else 0,
                ms=took_s * 1000,
                **more,
            )
        )

    def add(self, line: Line) -> None:
        """Write one line; texts that a server or the config had a part in are masked."""
        if self._place is None:
            return
        masked = msgspec.structs.replace(
            line,
            ms=round(line.ms, 1),
            limited_ms=round(line.limited_ms, 1),
            waited_ms=round(line.waited_ms, 1),
            path=SECRETS.mask(line.path.partition("?")[0]),
            import_id=_masked(line.import_id and line.import_id.partition("?")[0]),
            trouble=_masked(line.trouble),
            cause=_masked(line.cause),
        )
        data = msgspec.json.encode(masked) + b"\n"
        with self._lock:
            if self._place is None:
                return
            try:
                self._place.write(data)
            except (OSError, DestinationError) as error:
                self._warn(error)
                place, self._place = self._place, None
                with contextlib.suppress(OSError, DestinationError):  # it is told already
                    place.close()

    def close(self) -> None:
        """Lines of requests that are still under way are lost."""
        with self._lock:
            place, self._place = self._place, None
            try:
                if place is not None:
                    place.close()
            except (OSError, DestinationError) as error:
                self._warn(error)

    def _warn(self, error: OSError | DestinationError) -> None:
        cause = error.strerror if isinstance(error, OSError) else error.message
        log.warning(
            "trace_not_written setting=%s path=%s cause=%s effect=sync_goes_on",
            SETTING,
            self._path,
            cause,
        )


def _masked(text: str | None) -> str | None:
    return None if text is None else SECRETS.mask(text, is_cut=True)
