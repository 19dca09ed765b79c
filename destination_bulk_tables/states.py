"""Keeps waiting STATE messages: a few megabytes in memory, the rest on local disk.

A source may send states of a megabyte, or one that grows with each partition, and all of a replaced
table wait for the end of the sync. The file is anonymous, like a spool, and starts anew when
nothing that was written to it waits any more.
"""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from typing import IO

from destination_bulk_tables.spool import DiskBudget, disk_error

MEMORY_BYTES = 8_000_000


@dataclass(slots=True)
class Kept:
    """A state that waits: its bytes, or where in the file they are."""

    size: int
    state: bytes | None = None
    offset: int = 0


class StateStore:
    def __init__(self, budget: DiskBudget | None = None) -> None:
        self._budget = budget
        self._file: IO[bytes] | None = None
        self._end = 0
        self._on_disk = 0
        self._in_memory = 0

    def keep(self, state: bytes) -> Kept:
        """Keep a state; raises `DestinationError` when the disk or its budget is used up."""
        size = len(state)
        if self._budget is None or self._in_memory + size <= MEMORY_BYTES:
            self._in_memory += size
            return Kept(size, state)
        self._budget.spend(size)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._budget.directory)  # noqa: SIM115
            self._file.seek(self._end)
            self._file.write(state)
        except OSError as error:
            raise disk_error(error, self._budget.directory) from error
        kept = Kept(size, offset=self._end)
        self._end += size
        self._on_disk += size
        return kept

    def take(self, kept: Kept) -> bytes:
        """Give a state back and forget it."""
        if kept.state is not None:
            self._in_memory -= kept.size
            return kept.state
        assert self._file is not None
        assert self._budget is not None
        try:
            self._file.seek(kept.offset)
            state = self._file.read(kept.size)
            self._on_disk -= kept.size
            if not self._on_disk:
                self._file.truncate(0)
                self._budget.spend(-self._end)
                self._end = 0
        except OSError as error:
            raise disk_error(error, self._budget.directory) from error
        return state

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
