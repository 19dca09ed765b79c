"""Encoded rows on local disk until the source has completed: append, then read back in order.

The file has no name (it is unlinked at birth), so the disk is free again whatever ends the process,
SIGKILL included. It is never read by a later process: a new attempt brings the rows again, so
nothing is synced and no torn tail is recovered. Invariant: all spools of a sync together stay
within one byte budget.
"""

from __future__ import annotations

import contextlib
import errno
import tempfile
from array import array
from collections.abc import Iterator
from itertools import compress, count, pairwise
from typing import IO

from destination_bulk_tables.errors import ConfigError, DestinationError, TransientError

_READ_BYTES = 1_000_000
_BY_SETTING = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS}


class DiskBudget:
    """Bytes that all spools of a sync may use together, in one directory."""

    def __init__(self, directory: str, max_bytes: int) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.used = 0

    def spend(self, n_bytes: int) -> None:
        """Raises `ConfigError` when the budget is used up."""
        self.used += n_bytes
        if self.used > self.max_bytes:
            raise ConfigError(
                "Replacing a table stages its rows on local disk, and they need more than "
                f"staging.max_gigabytes allows ({self.max_bytes / 1e9:g} GB in {self.directory}). "
                "Raise it, point staging.directory at a larger disk, or sync fewer rows. The table "
                "was not touched."
            )


class Spool:
    """An append-only file of lines; a line is one encoded row, which never holds a newline."""

    def __init__(self, budget: DiskBudget) -> None:
        self._budget = budget
        self._file: IO[bytes] | None = None
        self.lines = 0
        self.n_bytes = 0
        self.longest = 0

    def append(self, lines: list[bytes]) -> None:
        """Write lines. Raises `ConfigError` for the settings, `TransientError` for a full disk."""
        if not lines:
            return
        data = b"\n".join(lines) + b"\n"
        self._budget.spend(len(data))
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._budget.directory)  # noqa: SIM115
            self._file.write(data)
        except OSError as error:
            raise disk_error(error, self._budget.directory) from error
        self.lines += len(lines)
        self.longest = max(self.longest, *map(len, lines))
        self.n_bytes += len(data) - len(lines)

    def read(self) -> Iterator[list[bytes]]:
        """All lines in order, in lists of about a megabyte."""
        if self._file is None:
            return
        parts: list[bytes] = []
        try:
            self._file.seek(0)
            while block := self._file.read(_READ_BYTES):
                first, *lines = block.split(b"\n")
                parts.append(first)
                if lines:
                    last = lines.pop()
                    yield [b"".join(parts), *lines]
                    parts = [last]
        except OSError as error:
            raise disk_error(error, self._budget.directory) from error

    def close(self) -> None:
        """Free the disk."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk fails the last flush as well
                self._file.close()
            self._file = None


def disk_error(error: OSError, directory: str) -> DestinationError:
    """What to say of a file under the staging directory that cannot be written or read."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return TransientError(
            f"The disk under {directory} is full; rows of a table to replace are staged there. "
            "Free space, or point staging.directory at a larger disk. The table was not touched."
        )
    message = (
        f"Rows cannot be staged under {directory} ({error.strerror}). Set staging.directory to a "
        "folder the connector may write to. The table was not touched."
    )
    return ConfigError(message) if error.errno in _BY_SETTING else TransientError(message)


class KeyFilter:
    """Finds repeated keys among millions by their hashes: 8 bytes a row, and 8 more at the end.

    Rows of one hash are suspects, which are compared exactly; at 64 bits hardly any other key is.
    """

    _PARTS = 256

    def __init__(self) -> None:
        self._hashes = array("q")
        self._wanted: set[int] = set()

    def add(self, hashes: list[int]) -> None:
        """Note the key hashes of appended rows, in order."""
        self._hashes.extend(hashes)

    def suspect(self, value: int) -> None:
        """Have rows with this hash compared exactly, whatever else happens."""
        self._wanted.add(value)

    def suspects(self) -> Iterator[int]:
        """The row numbers whose keys must be compared exactly."""
        wanted = self._wanted | self._repeated()
        if not wanted:
            return iter(())
        return compress(count(), map(wanted.__contains__, self._hashes))

    def _repeated(self) -> set[int]:
        """The hashes that occur more than once, a part of all hashes at a time."""
        parts = [array("q") for _ in range(self._PARTS)]
        appends = [part.append for part in parts]
        mask = self._PARTS - 1
        for value in self._hashes:
            appends[value & mask](value)
        repeated: set[int] = set()
        while parts:
            repeated |= _twice(parts.pop())
        return repeated


def _twice(values: array[int]) -> set[int]:
    if len(set(values)) == len(values):
        return set()
    ordered = sorted(values)
    return {value for value, following in pairwise(ordered) if value == following}
