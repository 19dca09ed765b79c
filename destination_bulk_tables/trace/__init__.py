"""One JSON line per request, for who looks at night at what a sync did. Opt-in.

A line holds sizes, times and names: never a body, a header, the query of a path (which may name a
key) or a secret. Sender threads share a trace; a line is in the file before its request's answer is
acted on, so whatever ends the process leaves the lines of all that was answered. What cannot be
written is warned of once and the sync goes on: a trace proves nothing and is owed to nobody.
"""

from __future__ import annotations

import logging
import threading
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from destination_bulk_tables.private_files import file_in, make_folder, open_private
from destination_bulk_tables.secrecy import SECRETS

if TYPE_CHECKING:
    from pathlib import Path

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
    """Appends lines to a file for its owner alone; in a folder, to a new one for each sync."""

    def __init__(self, trace_path: str, now: float) -> None:
        self._path = file_in(trace_path, "trace", now)
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        try:
            make_folder(self._path.parent)
            self._file, _ = open_private(self._path)
        except OSError as error:
            _warn(self._path, error)

    def add(self, line: Line) -> None:
        """Write one line; texts that a server or the config had a part in are masked."""
        if self._file is None:
            return
        masked = msgspec.structs.replace(
            line,
            ms=round(line.ms, 1),
            limited_ms=round(line.limited_ms, 1),
            waited_ms=round(line.waited_ms, 1),
            path=SECRETS.mask(line.path.partition("?")[0]),
            import_id=_masked(line.import_id),
            trouble=_masked(line.trouble),
            cause=_masked(line.cause),
        )
        data = msgspec.json.encode(masked) + b"\n"
        with self._lock:
            if self._file is None:
                return
            try:
                self._file.write(data)
                self._file.flush()
            except OSError as error:
                self._drop(error)

    def close(self) -> None:
        """Close the file; lines of requests that are still under way are lost."""
        with self._lock:
            if self._file is not None:
                self._drop()

    def _drop(self, error: OSError | None = None) -> None:
        file, self._file = self._file, None
        assert file is not None
        try:
            file.close()
        except OSError as late:  # what was buffered cannot be written either
            error = error or late
        if error is not None:
            _warn(self._path, error)


def _masked(text: str | None) -> str | None:
    return None if text is None else SECRETS.mask(text, is_cut=True)


def _warn(path: Path, error: OSError) -> None:
    log.warning(
        "trace_not_written setting=diagnostics.trace_path path=%s cause=%s effect=sync_goes_on",
        path,
        error.strerror,
    )
