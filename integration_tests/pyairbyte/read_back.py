"""What a client sent, what the tables hold and what was rejected, stream by stream.

PyAirbyte counts what it sent, so a destination that drops everything passes its test. This reads
the messages that went into the connector and the rows the emulator got. The rules by which a value
may look different in a table are written here again, on purpose: nothing is taken from the package.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
KORE_SYSTEM_COLUMNS = {
    *("_id", "sys_Id", "Created_On", "Created_By", "Updated_On", "Updated_By"),
    *("Created_On_TimeStamp", "Updated_On_TimeStamp"),
}


@dataclass(frozen=True)
class StreamResult:
    """One line of the table that is printed."""

    stream: str
    sent: int
    expected: int  # rows once duplicates of a key are one
    stored: int
    rejected: Counter[str]  # by reason
    differences: tuple[str, ...]  # columns whose value is not what was sent, doubled rows

    @property
    def is_complete(self) -> bool:
        """Every row is in the table or in the reject report, with its values."""
        return self.expected == self.stored + self.rejected.total() and not self.differences

    def __str__(self) -> str:
        reasons = "; ".join(f"{reason} ({n})" for reason, n in self.rejected.items())
        counts = f"{self.sent:>5} {self.stored:>8} {self.rejected.total():>8}"
        return f"{self.stream:<28} {counts}  {reasons}  {' '.join(self.differences[:5])}".rstrip()


HEADING = f"{'stream':<28} {'sent':>5} {'in table':>8} {'rejected':>8}  reason"


def messages(paths: Iterable[Path]) -> list[Any]:
    """Read every line of these files, numbers exact."""
    lines = (line for path in paths for line in path.read_bytes().splitlines())
    return [json.loads(line, parse_float=Decimal) for line in lines]


def compare(
    stream: str, sent: Sequence[Row], stored: Sequence[Row], rejected: Sequence[Row]
) -> StreamResult:
    """Match rows by their id, the last one of an id; rows without one by their number only."""
    wanted = {row["id"]: row for row in sent if "id" in row}
    expected = len(wanted) + sum("id" not in row for row in sent)
    differences = [
        f"{row['id']}.{column}"
        for row in stored
        if "id" in row
        for column in _differences(wanted[_id_in(wanted, row["id"])], row)
    ]
    ids = Counter(str(row["id"]) for row in stored if "id" in row)
    differences += [f"{key} is there {count} times" for key, count in ids.items() if count > 1]
    reasons = Counter(str(line["reason"]) for line in rejected)
    return StreamResult(stream, len(sent), expected, len(stored), reasons, tuple(differences))


def _id_in(wanted: Mapping[Any, Row], stored: Any) -> Any:
    return next(key for key in wanted if _is_same(key, stored))


def _differences(sent: Row, stored: Row) -> list[str]:
    """Name the columns that changed, were lost or came from nowhere."""
    columns = (sent.keys() | stored.keys()) - KORE_SYSTEM_COLUMNS
    return [name for name in sorted(columns) if not _is_same(sent.get(name), stored.get(name))]


def _is_same(sent: Any, stored: Any) -> bool:
    """Say whether the value is there, in a form the documentation names."""
    if type(sent) is type(stored) and sent == stored:
        return True
    if isinstance(sent, bool):  # Kore.ai has no boolean column
        return bool(stored == str(sent).lower())
    if isinstance(sent, int | Decimal) and isinstance(stored, int | Decimal):
        return sent == stored
    if isinstance(sent, dict | list) and isinstance(stored, str):
        return bool(json.loads(stored, parse_float=Decimal) == sent)
    return isinstance(sent, str) and isinstance(stored, str) and _is_same_time(sent, stored)


def _is_same_time(sent: str, stored: str) -> bool:
    """Compare instants to the millisecond, as documented, or UTC dates where a date is sent."""
    try:
        instant = _utc(datetime.fromisoformat(sent))
        if len(stored) == len("2026-01-01"):
            return instant.date() == date.fromisoformat(stored)
        milliseconds = instant.replace(microsecond=instant.microsecond // 1000 * 1000)
        return milliseconds == _utc(datetime.fromisoformat(stored))
    except ValueError:
        return False


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
