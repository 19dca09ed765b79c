"""Where the report of rejected rows goes: a local file, or objects in a store.

Invariant: what `add` was given is kept for good when `keep` returns, and no state leaves before.
A file takes each line at once. A store takes a part at a time, as an object of its own that is
there whole or not at all: `STREAM/SYNC/NUMBER.jsonl`, which no other sync writes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO, Protocol

from destination_bulk_tables.clock import Clock
from destination_bulk_tables.errors import ConfigError, DestinationError
from destination_bulk_tables.model import StreamKey
from destination_bulk_tables.private_files import (
    file_in,
    is_at,
    make_folder,
    name_of_sync,
    open_private,
)
from destination_bulk_tables.stores import PART_BYTES, Store, StoreSettings, is_store, key_part

log = logging.getLogger(__name__)

SETTING = "rejected_records.report_path"
_MOST_TAKEN = 5  # no other sync writes these names; an attempt without an answer may have
_GATHER_S = 2.0  # a state waits at most this long for others to be acknowledged with it


def open_report(
    path: str, settings: StoreSettings, clock: Clock, stop: threading.Event
) -> FileReport | StoreReport:
    """Raises `ConfigError` where nothing can be written to."""
    if not is_store(path):
        return FileReport(file_in(path, "rejected", clock.now()))
    store = Store(path, settings, SETTING, stop)
    return StoreReport(store.address, name_of_sync(clock.now()), store, clock)


class FileReport:
    """A local file for its owner alone; one that this run made is removed where it stays empty.

    Each line is written when it comes, and a process that is killed loses none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.where = str(path)
        with self._explaining():
            make_folder(path.parent)
            file, self._is_ours = open_private(path)
        self._file: BinaryIO | None = file

    def add(self, stream: StreamKey, lines: bytes) -> None:  # noqa: ARG002 - one file for all
        if self._file:
            with self._explaining():
                self._file.write(lines)
                self._file.flush()

    def finish(self) -> None:
        if self._file:
            with self._explaining():
                self._file.flush()
                os.fsync(self._file.fileno())
        self.close()

    def close(self) -> None:
        if self._file:
            file, self._file = self._file, None
            try:
                is_empty = self._is_ours and os.fstat(file.fileno()).st_size == 0
                is_there = is_empty and is_at(self._path, file)
                file.close()
                if is_there:
                    self._path.unlink(missing_ok=True)
            except OSError as error:
                # whatever ended the sync is what the user must read
                log.warning("report_not_closed path=%s cause=%s", self._path, error.strerror)

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"{SETTING} cannot be written: {self._path} ({error.strerror}). Choose a folder "
                "that exists in the container, that its user may write to and that has room."
            ) from error


class Uploads(Protocol):
    """How objects get into a store: `put` in the thread of what was started, the others here."""

    def put(self, key: str, data: bytes) -> bool: ...
    def start(self, work: Callable[[], None], /) -> Future[None]: ...
    def wait(self, upload: Future[None], /) -> None: ...


class StoreReport:
    """Objects in a store, one upload at a time; rows go on while it runs.

    Used by the engine thread only, as a file is; a verb raises the `DestinationError` that ends it.
    """

    def __init__(self, address: str, sync: str, uploads: Uploads, clock: Clock) -> None:
        self.where = f"{address}/STREAM/{sync}"
        self._sync = sync
        self._uploads = uploads
        self._clock = clock
        self._parts: dict[StreamKey, list[bytes]] = {}
        self._n_bytes = 0
        self._upload: Future[None] | None = None
        self._started_at = float("-inf")
        self._number = 0
        self._failure: DestinationError | None = None

    def add(self, stream: StreamKey, lines: bytes) -> None:
        self._parts.setdefault(stream, []).append(lines)
        self._n_bytes += len(lines)
        if self._n_bytes >= PART_BYTES:
            self.start_keeping()

    @property
    def has_waiting(self) -> bool:
        """Whether lines are in memory of which no upload is under way."""
        return bool(self._parts)

    def is_keeping(self) -> bool:
        """Whether an upload is under way; raises what ended one."""
        if self._upload is not None and self._upload.done():
            self._land()
        return self._upload is not None

    def gathers(self) -> bool:
        """Whether lines that wait are to be uploaded with more, as one began a moment ago."""
        return self._clock.monotonic() < self._started_at + _GATHER_S

    def start_keeping(self) -> None:
        """Begin to upload what waits; an upload that is under way ends before."""
        self._land()
        parts, self._parts, self._n_bytes = self._parts, {}, 0
        self._started_at = self._clock.monotonic()
        self._upload = self._uploads.start(lambda: self._write(parts))

    def keep(self) -> None:
        """Have everything in the store."""
        if self._parts:
            self.start_keeping()
        self._land()

    finish = keep

    def close(self) -> None:
        """Whatever ended the sync is what the user must read, so a failure here is a warning."""
        if self._failure is None:
            try:
                self.keep()
            except DestinationError as error:
                log.warning("report_not_closed cause=%s", error.message)

    def _land(self) -> None:
        # what failed once is not in the store, whatever comes later
        if self._failure is not None:
            raise self._failure
        upload, self._upload = self._upload, None
        if upload is not None:
            try:
                self._uploads.wait(upload)
            except DestinationError as error:
                self._failure = error
                raise

    def _write(self, parts: dict[StreamKey, list[bytes]]) -> None:
        """In the uploads' thread."""
        for stream, lines in parts.items():
            self._put(stream, b"".join(lines))

    def _put(self, stream: StreamKey, data: bytes) -> None:
        for _ in range(_MOST_TAKEN):
            self._number += 1
            key = f"{key_part(str(stream))}/{self._sync}/{self._number:06}.jsonl"
            if self._uploads.put(key, data):
                return
        raise ConfigError(
            f"{SETTING} cannot be written: {self.where} (the store says of each new name that it "
            "is taken). Choose a store that takes conditional writes (If-None-Match), or a folder."
        )
