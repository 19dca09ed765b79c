"""Which rows were in a table before the load that replaces them: by date where proven, else by id.

Each row has a `Created_On`. Rows that were there before have an earlier one than the first new row,
as the vendor wrote it; then one filter finds them all, where listing their ids takes a query per
hundred. Not documented: whether a filter reads this column, and how: as text, in which time zone,
how finely. So it counts as told only where the filter finds exactly as many rows as there were
before; any doubt goes back to listing ids.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from destination_bulk_tables.errors import TransientError
from destination_bulk_tables.http import Flow, Refused
from destination_bulk_tables.model import Table
from destination_bulk_tables.outcomes import ReplacePlan
from destination_bulk_tables.providers.kore.answers import Row, rows_of
from destination_bulk_tables.providers.kore.calls import PAGE, Calls
from destination_bulk_tables.providers.kore.filters import EVERY_ROW, older_than

log = logging.getLogger(__name__)

_LISTINGS = 20


@dataclass(slots=True)
class KorePlan(ReplacePlan):
    """`stored`: the old rows. `is_dated`: they are told by date, as soon as a new row has one.

    `first`: the JSON token of the first new row's date; `samples`: ids of new rows.
    """

    is_dated: bool = False
    first: bytes | None = None
    samples: list[str] = field(default_factory=list)

    def olds(self) -> OldRows:
        return OldRows(frozenset(self.old_ids), self.first if self.is_dated else None)


@dataclass(frozen=True, slots=True)
class OldRows:
    """Tells a row that was there before; by default there was none."""

    ids: frozenset[str] = frozenset()
    first: bytes | None = None

    def __bool__(self) -> bool:
        return bool(self.ids) or self.first is not None

    def has(self, row: Row) -> bool:
        return row.sys_Id in self.ids or (
            self.first is not None and _moment(bytes(row.Created_On)) < _moment(self.first)
        )

    def without(self, rows: Sequence[msgspec.Raw]) -> list[msgspec.Raw]:
        if not self:
            return list(rows)
        return [row for row in rows if not self.has(msgspec.json.decode(row, type=Row))]


def _moment(date: bytes) -> float:
    """A date as the vendor writes it, for comparison. Raises `Refused` where it cannot be read."""
    value = msgspec.json.decode(date)
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        return float(value)
    except (TypeError, ValueError):
        raise Refused("unreadable_date", "a row has no Created_On that can be compared") from None


def are_dated(rows: Sequence[Row]) -> bool:
    """Whether each has a date: else nothing tells new rows whose insert was not answered."""
    with contextlib.suppress(Refused):
        for row in rows:
            _moment(bytes(row.Created_On))
        return True
    return False


def note_new(
    calls: Calls, table: Table, plan: KorePlan, records: Sequence[msgspec.Raw]
) -> Flow[None]:
    """After an insert: take the first date, prove that it tells the old rows, or list these.

    The first insert of a load is alone, so that there is no new row but its own.
    """
    if not plan.is_dated:
        return
    new: list[Row] = []
    try:
        new = [msgspec.json.decode(record, type=Row) for record in records]
        if plan.first is not None:
            plan.samples[1:] = [new[-1].sys_Id]
            return
        first = min((bytes(row.Created_On) for row in new), key=_moment)
        found = yield from calls.query(table.name, older_than(first), limit=PAGE)
        if found.total == plan.stored and all(map(OldRows(first=first).has, rows_of(found))):
            plan.first, plan.samples = first, [new[0].sys_Id]
            return
        cause = f"found_{found.total}_of_{plan.stored}_rows"
    except (Refused, msgspec.DecodeError) as error:
        cause = type(error).__name__.lower()
    own = {row.sys_Id for row in new}
    rows = [row for row in (yield from _list(calls, table)) if row.sys_Id not in own]
    _go_by_id(table, plan, _oldest(rows, plan.stored), cause)


def tell_apart(calls: Calls, table: Table, plan: KorePlan) -> Flow[None]:
    """Before rows of a load are looked for: have the old rows told from them.

    Where no insert was answered yet, the newest rows are the new ones, as many as there are more
    than before. Raises `Refused` where that cannot be seen.
    """
    if plan.is_dated and plan.first is None:
        old = _oldest((yield from list_rows(calls, table)), plan.stored)
        if len(old) != plan.stored:
            raise Refused("old_rows_unknown", "new rows cannot be told from old ones")
        _go_by_id(table, plan, old, "first_insert_without_answer")


def list_older(calls: Calls, table: Table, plan: KorePlan, expected: int) -> Flow[None]:
    """Go back to ids where the date does not serve to delete by; raises where they differ."""
    olds = plan.olds()
    rows = yield from _list(calls, table)
    plan.stored = expected
    old = rows
    if plan.first is not None:  # before any row went in, all are old
        with contextlib.suppress(Refused):
            old = [row for row in rows if olds.has(row)]
    _go_by_id(table, plan, old, "not_deleted_by_date")


def _oldest(rows: list[Row], count: int | None) -> list[Row]:
    """So many of the oldest rows; all where it cannot be seen which those are."""
    if count is None or len(rows) <= count:
        return rows
    with contextlib.suppress(Refused):
        dated = sorted((_moment(bytes(row.Created_On)), row.sys_Id, row) for row in rows)
        if not count or dated[count - 1][0] < dated[count][0]:
            return [row for _, _, row in dated[:count]]
    return rows


def _go_by_id(table: Table, plan: KorePlan, old: Sequence[Row], cause: str) -> None:
    if len(old) != plan.stored:
        raise TransientError(
            f"{len(old)} rows of table {table.name} seem to be old ones, of {plan.stored}. "
            "Something else may write to it. No row that was not replaced has been deleted; the "
            "next attempt replaces all it finds."
        )
    log.info("old_rows_listed table=%s rows=%s cause=%s", table.name, plan.stored, cause)
    plan.is_dated = False
    plan.old_ids = [row.sys_Id for row in old]


def _list(calls: Calls, table: Table) -> Flow[list[Row]]:
    """List the rows in the midst of a load, where a refusal must not pass for one of a write."""
    try:
        return (yield from list_rows(calls, table))
    except Refused as refused:
        raise not_read(f"The rows of table {table.name} could not be listed", refused) from None


def not_read(what: str, refused: Refused) -> TransientError:
    """The error of a question in the midst of a load that was refused."""
    return TransientError(
        f"{what} while it was being replaced ({refused.code}). {refused.reason} The next attempt "
        "replaces all it finds."
    )


def count_rows(calls: Calls, table: Table) -> Flow[int]:
    """How many there are, listed where the vendor does not tell."""
    total = yield from calls.total(table.name)
    return len((yield from list_rows(calls, table))) if total is None else total


def list_rows(calls: Calls, table: Table) -> Flow[list[Row]]:
    """Each row once. Pages have no documented order: read until none is missing."""
    rows: dict[str, Row] = {}
    for _ in range(_LISTINGS):
        offset, known = 0, len(rows)
        while True:
            page = yield from calls.query(table.name, EVERY_ROW, limit=PAGE, offset=offset)
            rows.update({row.sys_Id: row for row in rows_of(page)})
            offset += len(page.queryResult)
            if not page.queryResult or (page.total is not None and offset >= page.total):
                break
        if len(rows) == page.total or (page.total is None and known == len(rows)):
            return list(rows.values())
    raise TransientError(
        f"The rows of table {table.name} cannot be listed: they change while they are read. "
        "No old row was deleted."
    )
