"""Counts rejected rows, writes the report if configured, ends the sync if the policy says so.

Invariant: a rejected row is counted, and in the report where there is one, before any state after
it is acknowledged. The log names codes, columns and counts; rows and reasons stand in the report
only.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from destination_bulk_tables.clock import Clock
from destination_bulk_tables.config import RejectedRecords
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.model import RejectedRow, RowBlock, StreamKey
from destination_bulk_tables.redact import mask_values
from destination_bulk_tables.report_lines import Circumstances, line_of
from destination_bulk_tables.reports import FileReport, StoreReport

log = logging.getLogger(__name__)

JUDGED_ROWS = 1000  # rows read before a percentage ends a sync that goes on
FEW = 10  # rejected rows, which are never too many a percentage
_MOST_TOLD = 20
_MOST_KINDS = 1000  # a vendor may make up its codes
_ANY = "-"


class Rejects:
    """The rejected rows of one sync; used by the engine thread only."""

    def __init__(
        self,
        settings: RejectedRecords,
        report: FileReport | StoreReport | None,
        clock: Clock,
        streams: Mapping[StreamKey, Circumstances],
    ) -> None:
        self._settings = settings
        self.report = report
        self._clock = clock
        self._streams = streams
        self._names = {key: _names_of(common) for key, common in streams.items()}
        self._seen: set[tuple[str, str]] = set()
        self._kinds: Counter[tuple[str, str, str]] = Counter()
        self.total = 0

    def add(self, rejected: Sequence[RejectedRow], n_read: int) -> None:
        """Count and report; `n_read`: rows read so far, of which at least these are some.

        Raises `ConfigError` under policy fail, or over a limit.
        """
        if not rejected:
            return
        self.total += len(rejected)
        self._write(rejected)
        for row in rejected:
            self._count(row)
        first = rejected[0]
        what = f"{len(rejected)} row(s) of stream {first.stream} cannot be delivered ({first.code}"
        what += f": {_shown(first)})"
        if self._settings.policy == "fail":
            message = (
                f"{what}.{self._where} Correct them at the source, or set rejected_records.policy "
                "to 'skip'."
            )
            raise ConfigError(message, stream=first.stream)
        if self.total > self._settings.max_rejected:
            message = (
                f"{self.total} rows were rejected, more than rejected_records.max_rejected allows "
                f"({self._settings.max_rejected}); the last: {what}.{self._where}"
            )
            raise ConfigError(message, stream=first.stream)
        if n_read >= JUDGED_ROWS:
            self.judge_share(n_read)

    def judge_share(self, n_read: int) -> None:
        """Raise `ConfigError` where the rejected rows are too large a part of those read."""
        percent = self._settings.max_rejected_percent
        if percent is None or self.total < FEW or self.total * 100 <= percent * n_read:
            return
        raise ConfigError(
            f"{self.total} of {n_read} rows were rejected, more than "
            f"rejected_records.max_rejected_percent allows ({percent:g} %).{self._where}"
        )

    @property
    def allowance(self) -> int:
        """How many more rows may be rejected before the sync ends."""
        settings = self._settings
        return 0 if settings.policy == "fail" else max(0, settings.max_rejected - self.total)

    def close(self) -> None:
        """Close the report, and say in the log which rows there are in it."""
        if self.report is not None:
            self.report.close()
        for (stream, code, column), rows in self._kinds.most_common(_MOST_TOLD):
            log.warning(
                "rejected_rows stream=%s code=%s column=%s rows=%d", stream, code, column, rows
            )
        others = [rows for _, rows in self._kinds.most_common()[_MOST_TOLD:]]
        if others:
            log.warning("rejected_rows_of_other_kinds kinds=%d rows=%d", len(others), sum(others))
        self._kinds.clear()

    @property
    def _where(self) -> str:
        if self.report is None:
            return " Set rejected_records.report_path to list them."
        return f" The report {self.report.where} lists them."

    def _write(self, rejected: Sequence[RejectedRow]) -> None:
        if self.report is None:
            return
        now = self._clock.now()
        lines: dict[StreamKey, list[bytes]] = {}
        for row in rejected:
            line = line_of(row, self._streams[row.stream], now)
            lines.setdefault(row.stream, []).append(line)
        for stream, found in lines.items():
            self.report.add(stream, b"".join(found))

    def _count(self, row: RejectedRow) -> None:
        stream = str(row.stream)
        if (stream, row.code) not in self._seen:
            self._seen.add((stream, row.code))
            log.warning("row_rejected stream=%s stage=%s code=%s", stream, row.stage, row.code)
        kind = (stream, row.code, self._column(row))
        if kind not in self._kinds and len(self._kinds) >= _MOST_KINDS:
            kind = (stream, "others", _ANY)
        self._kinds[kind] += 1

    def _column(self, row: RejectedRow) -> str:
        """The column that the reason names: a name from the catalog, not a word of the vendor's."""
        found: list[str] = self._names[row.stream].findall(row.reason)
        return max(found, key=len, default=_ANY)


def _names_of(common: Circumstances) -> re.Pattern[str]:
    names = {*common.fields, *common.fields.values()} - {""}
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")


def _shown(row: RejectedRow) -> str:
    """Why a row is rejected, for a message: a vendor may quote it, our own reasons do not."""
    if row.stage == "shape":
        return row.reason
    return mask_values(row.reason, RowBlock([row.row], 1, range(1)))
