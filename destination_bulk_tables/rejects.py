"""Counts rejected rows, writes the report if configured, ends the sync if the policy says so.

Invariant: a rejected row is counted, and in the report where there is one, before any state after
it is acknowledged. The log names codes and counts; rows and reasons stand in the report only.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, BinaryIO, Literal

import msgspec

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.model import RowBlock
from destination_bulk_tables.private_files import file_in, is_at, make_folder, open_private
from destination_bulk_tables.redact import mask_values
from destination_bulk_tables.secrecy import SECRETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from destination_bulk_tables.model import RejectedRow

log = logging.getLogger(__name__)


class Rejects:
    """The rejected rows of one sync; used by the engine thread only."""

    def __init__(
        self,
        policy: Literal["fail", "skip"],
        max_rejected: int,
        report_path: str | None,
        now: float,
    ) -> None:
        self._policy = policy
        self._max = max_rejected
        self._path = file_in(report_path, "rejected", now) if report_path else None
        self._file: BinaryIO | None = None
        self._is_ours = False  # made by this run
        self._seen: set[tuple[str, str]] = set()
        self.total = 0
        if self._path:
            self._open()

    def add(self, rejected: Sequence[RejectedRow]) -> None:
        """Count and report; raises `ConfigError` under policy fail, or over the limit."""
        if not rejected:
            return
        self.total += len(rejected)
        self._report(rejected)
        for row in rejected:
            if (str(row.stream), row.code) not in self._seen:
                self._seen.add((str(row.stream), row.code))
                log.warning(
                    "row_rejected stream=%s stage=%s code=%s", row.stream, row.stage, row.code
                )
        first = rejected[0]
        what = f"{len(rejected)} row(s) of stream {first.stream} cannot be delivered ({first.code}"
        what += f": {_shown(first)})"
        where = (
            f" The report {self._path} lists them."
            if self._path
            else " Set rejected_records.report_path to list them."
        )
        if self._policy == "fail":
            message = (
                f"{what}.{where} Correct them at the source, or set rejected_records.policy to "
                "'skip'."
            )
            raise ConfigError(message, stream=first.stream)
        if self.total > self._max:
            message = (
                f"{self.total} rows were rejected, more than rejected_records.max_rejected allows "
                f"({self._max}); the last: {what}.{where}"
            )
            raise ConfigError(message, stream=first.stream)

    @property
    def allowance(self) -> int:
        """How many more rows may be rejected before the sync ends."""
        return 0 if self._policy == "fail" else max(0, self._max - self.total)

    def finish(self) -> None:
        """Close the report before the last states leave; raises `ConfigError` where that fails."""
        if self._file:
            try:
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                raise self._unwritable(error) from error
        self.close()

    def close(self) -> None:
        """Close the report; remove one that this run made and that stayed empty."""
        if self._file and self._path:
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

    def _open(self) -> None:
        assert self._path
        try:
            make_folder(self._path.parent)
            self._file, self._is_ours = open_private(self._path)
        except OSError as error:
            raise self._unwritable(error) from error

    def _report(self, rejected: Sequence[RejectedRow]) -> None:
        if not self._file:
            return
        try:
            self._file.write(b"".join(map(_line, rejected)))
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> ConfigError:
        message = (
            f"rejected_records.report_path cannot be written: {self._path} ({error.strerror}). "
            "Choose a folder that exists in the container, that its user may write to and that has "
            "room."
        )
        return ConfigError(message)


def _shown(row: RejectedRow) -> str:
    """Why a row is rejected, for a message: a vendor may quote it, our own reasons do not."""
    if row.stage == "shape":
        return row.reason
    return mask_values(row.reason, RowBlock([row.row], 1, range(1)))


def _line(row: RejectedRow) -> bytes:
    try:
        value: object = msgspec.Raw(row.row)
        msgspec.json.decode(row.row)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = row.row.decode("utf-8", "replace")
    members = {
        "stream": row.stream.name,
        "namespace": row.stream.namespace,
        "stage": row.stage,
        "code": row.code,
        "reason": SECRETS.mask(row.reason, is_cut=True),
        "row": value,
    }
    return msgspec.json.encode(members) + b"\n"
