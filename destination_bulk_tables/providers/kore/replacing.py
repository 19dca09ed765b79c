"""Replacing a table: Kore.ai has neither a truncate nor a swap.

`insert_then_delete` lists the rows that are there, and deletes them once the new ones are proven to
be in; `delete_then_insert` empties the table first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from destination_bulk_tables.errors import ConfigError, TransientError, UnaccountedRows
from destination_bulk_tables.model import RowBlock, Table
from destination_bulk_tables.provider import Ambiguous, Flow, Refused, ReplacePlan, TooLarge
from destination_bulk_tables.providers.kore.answers import (
    NO_READ,
    Inserted,
    Row,
    cause_of,
    deleted_rows,
    ids_of,
    no_table,
)
from destination_bulk_tables.providers.kore.calls import PAGE, SHORT_FILTER, Calls
from destination_bulk_tables.providers.kore.filters import EVERY_ROW

if TYPE_CHECKING:
    from destination_bulk_tables.providers.kore.deleting import Deletes

Strategy = Literal["insert_then_delete", "delete_then_insert"]

_LISTINGS = 20
_UNIQUE_INDEX = (
    "If the table has a unique index, old and new rows clash: set replace_strategy to "
    "'delete_then_insert'."
)


def begin(calls: Calls, table: Table, strategy: Strategy) -> Flow[ReplacePlan]:
    try:
        if strategy == "delete_then_insert":
            yield from _empty(calls, table)
            return ReplacePlan(stored=0)
        ids = yield from _list_ids(calls, table)
        return ReplacePlan(stored=len(ids), old_ids=ids, hint=_UNIQUE_INDEX if ids else "")
    except Refused as refused:
        if refused.code not in NO_READ:
            raise ConfigError(no_table(table.name, refused), stream=table.stream) from None
        message = (
            f"Replacing table {table.name} needs the rights to Read, Write and Delete; the app "
            "may not read it. Give it the rights in the table's App Assignments. The table was "
            "not touched."
        )
        raise ConfigError(message, stream=table.stream) from None


def end(
    calls: Calls, deletes: Deletes, table: Table, plan: ReplacePlan, delivered: int
) -> Flow[None]:
    """Delete the rows that were there before, only after the new ones are proven to be in."""
    yield from _require_total(calls, table, len(plan.old_ids) + delivered)
    if plan.refused and plan.old_ids:
        yield from _require_no_clash(calls, table, plan, delivered)
    old = list(map(msgspec.json.encode, plan.old_ids))
    size = yield from deletes.size(table, len(old))
    while old:
        group = old[:size]
        try:
            yield from deletes.delete_ids(table, group)
        except (Refused, TooLarge, Ambiguous) as error:
            if len(group) > SHORT_FILTER:
                size = deletes.take_fewer(table, cause_of(error))
                continue
            if not isinstance(error, Refused):
                raise
            message = (
                f"Kore.ai refuses to delete the old rows of table {table.name} "
                f"({error.code}), so it holds the old and the new ones. Give the app the "
                "right to Read and Delete in the table's App Assignments."
            )
            raise ConfigError(message, stream=table.stream) from None
        del old[:size]
    if plan.old_ids:
        yield from _require_total(calls, table, delivered)


def _require_no_clash(calls: Calls, table: Table, plan: ReplacePlan, delivered: int) -> Flow[None]:
    """Raise unless the refused rows are bad in themselves: then the old ones must stay.

    A row may be refused because an old one has its value in a column with a unique index. A
    table with such an index refuses a copy of a row as well; a copy it takes goes with the old.
    """
    copy = (yield from _insert_copy(calls, table, plan)) if delivered else None
    if copy is None:
        message = (
            f"Kore.ai refused rows that were to replace table {table.name} "
            f"({', '.join(sorted(plan.refused))}), and they may be good: it refuses copies of "
            "rows too, or took none. No old row was deleted. rejected_records.report_path "
            f"lists the refused rows and why. {_UNIQUE_INDEX}"
        )
        raise ConfigError(message, stream=table.stream)
    plan.old_ids.append(copy)


def _insert_copy(calls: Calls, table: Table, plan: ReplacePlan) -> Flow[str | None]:
    """Insert a copy of a row, of a new one if possible: its sys_Id, None when refused."""
    old = set(plan.old_ids)
    try:
        page = yield from calls.query(table.name, EVERY_ROW, limit=PAGE, offset=len(old))
        rows = [_copy_of(row, table, old) for row in page.queryResult]
        _, _, copy = max(rows, default=(False, 0, b"{}"))
        try:
            response = yield calls.insert(table.name, RowBlock([copy], 1, range(1)))
        except (Refused, TooLarge):
            return None
        stored = response.decode(Inserted).records
        return msgspec.json.decode(stored[0], type=Row).sys_Id if stored else None
    except (Refused, Ambiguous, msgspec.DecodeError) as error:
        message = (
            f"Rows that were to replace table {table.name} were refused, and it could not be "
            "told why. No old row was deleted; the next attempt replaces all it finds."
        )
        raise TransientError(message, stream=table.stream) from error


def _require_total(calls: Calls, table: Table, expected: int) -> Flow[None]:
    try:
        total = yield from calls.total(table.name)
        if total is None:
            total = len((yield from _list_ids(calls, table)))
    except Refused as refused:
        message = (
            f"Table {table.name} could not be counted while it was being replaced "
            f"({refused.code}). {refused.reason} The next attempt replaces all it finds."
        )
        raise TransientError(message, stream=table.stream) from None
    if total != expected:
        message = (
            f"Table {table.name} holds {total} rows where {expected} were expected while it "
            "was being replaced. Something else may write to it. No row that was not replaced "
            "has been deleted; the next attempt replaces all it finds."
        )
        raise TransientError(message, stream=table.stream)


def _list_ids(calls: Calls, table: Table) -> Flow[list[str]]:
    """The sys_Id of each row. Pages have no documented order: read until none is missing."""
    ids: dict[str, None] = {}
    for _ in range(_LISTINGS):
        offset, known = 0, len(ids)
        while True:
            page = yield from calls.query(table.name, EVERY_ROW, limit=PAGE, offset=offset)
            ids.update(dict.fromkeys(ids_of(page)))
            offset += len(page.queryResult)
            if not page.queryResult or (page.total is not None and offset >= page.total):
                break
        if len(ids) == page.total or (page.total is None and known == len(ids)):
            return list(ids)
    message = (
        f"The rows of table {table.name} cannot be listed: they change while they are read. "
        "Nothing was changed."
    )
    raise TransientError(message, stream=table.stream)


def _empty(calls: Calls, table: Table) -> Flow[None]:
    """Delete all rows; stop before anything is inserted when some stay."""
    total = yield from calls.total(table.name)
    while total is None or total:
        response = yield calls.delete(table.name, EVERY_ROW, 1)
        before, total = total, (yield from calls.total(table.name))
        if total is None:
            total = len((yield from _list_ids(calls, table)))
        deleted = deleted_rows(response)
        if total and not deleted and (before is None or total >= before):
            message = (
                f"Kore.ai does not delete the rows of table {table.name}, so it cannot be replaced."
            )
            raise UnaccountedRows(message, stream=table.stream)


def _copy_of(row: bytes, table: Table, old: set[str]) -> tuple[bool, int, bytes]:
    """What is sent of a row to insert it once more; the best to copy is new and has most values."""
    members = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    sent = {column: members[column] for column in table.columns if column in members}
    sent = {column: raw for column, raw in sent.items() if bytes(raw) != b"null"}
    is_new = msgspec.json.decode(row, type=Row).sys_Id not in old
    return is_new, len(sent), msgspec.json.encode(sent)
