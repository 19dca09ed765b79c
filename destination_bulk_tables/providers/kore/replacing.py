"""Replacing a table: Kore.ai has neither a truncate nor a swap.

`insert_then_delete` inserts the new rows, and deletes the old ones once the new are proven to be
in; `old_rows` tells which is which. `delete_then_insert` empties the table first.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence

import msgspec

from destination_bulk_tables.errors import ConfigError, TransientError, UnaccountedRows
from destination_bulk_tables.http import Ambiguous, Flow, Refused, TooLarge, cause_of
from destination_bulk_tables.model import RowBlock, Table
from destination_bulk_tables.outcomes import ReplacePlan
from destination_bulk_tables.providers.kore.answers import (
    NO_READ,
    Inserted,
    Row,
    deleted_rows,
    no_table,
    rows_of,
)
from destination_bulk_tables.providers.kore.calls import LONG, PAGE, SHORT_FILTER, Calls
from destination_bulk_tables.providers.kore.deleting import Deletes
from destination_bulk_tables.providers.kore.filters import EVERY_ROW, any_of, older_than
from destination_bulk_tables.providers.kore.old_rows import (
    KorePlan,
    OldRows,
    are_dated,
    count_rows,
    list_older,
    list_rows,
    not_read,
)

log = logging.getLogger(__name__)

# a table of so many rows is listed: a proof takes as many requests
FEW_ROWS = 10 * PAGE
_UNIQUE_INDEX = (
    "If the table has a unique index, old and new rows clash: set replace_strategy to "
    "'delete_then_insert'."
)


def begin(calls: Calls, table: Table, strategy: str) -> Flow[ReplacePlan]:
    try:
        if strategy == "delete_then_insert":
            yield from _empty(calls, table)
            return KorePlan(stored=0)
        some = yield from calls.query(table.name, EVERY_ROW, limit=PAGE)
        if some.total is not None and some.total > FEW_ROWS and are_dated(rows_of(some)):
            return KorePlan(stored=some.total, is_dated=True, first_alone=True, hint=_UNIQUE_INDEX)
        ids = [row.sys_Id for row in (yield from list_rows(calls, table))]
        return KorePlan(stored=len(ids), old_ids=ids, hint=_UNIQUE_INDEX if ids else "")
    except Refused as refused:
        if refused.code not in NO_READ:
            raise ConfigError(no_table(table.name, refused)) from None
        raise ConfigError(
            f"Replacing table {table.name} needs the rights to Read, Write and Delete; the app "
            "may not read it. Give it the rights in the table's App Assignments. The table was "
            "not touched."
        ) from None


def end(
    calls: Calls, deletes: Deletes, table: Table, plan: ReplacePlan, delivered: int
) -> Flow[None]:
    """Delete the rows that were there before, only after the new ones are proven to be in."""
    assert isinstance(plan, KorePlan)
    old = (plan.stored or 0) if plan.is_dated else len(plan.old_ids)
    yield from _require_total(calls, table, old + delivered)
    copies: list[str] = []
    if plan.refused and old:
        copies.append((yield from _require_no_clash(calls, table, plan, delivered)))
    if plan.is_dated:
        left = yield from _delete_older(calls, table, plan, copies)
        if left:
            yield from list_older(calls, table, plan, left)
    yield from _delete_ids(deletes, table, [*plan.old_ids, *copies])
    if old:
        yield from _require_total(calls, table, delivered)


def _delete_ids(deletes: Deletes, table: Table, ids: Sequence[str]) -> Flow[None]:
    old = list(map(msgspec.json.encode, ids))
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
            raise ConfigError(
                f"Kore.ai refuses to delete the old rows of table {table.name} ({error.code}), so "
                "it holds the old and the new ones. Give the app the right to Read and Delete in "
                "the table's App Assignments."
            ) from None
        del old[:size]


def _delete_older(calls: Calls, table: Table, plan: KorePlan, copies: list[str]) -> Flow[int]:
    """Delete the old rows by their date, where it is proven to tell them: how many are left."""
    left = plan.stored or 0
    if plan.first is None:
        return left
    filter_ = older_than(plan.first)
    try:
        is_proven = yield from _tells_old(calls, table, plan, plan.first, copies)
        while is_proven and left:
            gone, before = 0, left
            with contextlib.suppress(Ambiguous):  # what it did is counted
                while gone < left:
                    deleted = deleted_rows((yield calls.delete(table.name, filter_, LONG)))
                    gone += deleted or 0
                    if not deleted:
                        break
            total = (yield from calls.query(table.name, filter_, limit=1)).total
            left = before if total is None else total
            if left >= before:
                break
    except (Refused, TooLarge, Ambiguous, msgspec.DecodeError) as error:
        log.info("old_rows_not_deleted_by_date table=%s cause=%s", table.name, cause_of(error))
    return left


def _tells_old(
    calls: Calls, table: Table, plan: KorePlan, first: bytes, copies: list[str]
) -> Flow[bool]:
    """Whether a filter by date finds as many rows as there were before, and none of the new.

    Whether a delete reads it as a query does is tried on a copy of a row, which it must not take;
    `copies` are of that kind.
    """
    found = yield from calls.query(table.name, older_than(first), limit=PAGE)
    if found.total != plan.stored or not all(map(plan.olds().has, rows_of(found))):
        return False
    if not copies:
        copy = yield from _insert_copy(calls, table, plan)
        if copy is None:
            return False
        copies.append(copy)
    for sys_id in (*plan.samples, *copies):
        new = yield from calls.query(table.name, older_than(first, sys_id), limit=1)
        if new.total != 0:
            return False
    yield calls.delete(table.name, older_than(first, copies[0]), LONG)
    # looked for, not counted: somebody else may have added a row
    kept = any_of("sys_Id", [msgspec.json.encode(copies[0])])
    return bool((yield from calls.query(table.name, kept, limit=1)).queryResult)


def _require_no_clash(calls: Calls, table: Table, plan: KorePlan, delivered: int) -> Flow[str]:
    """Raise unless the refused rows are bad in themselves: else the old ones must stay.

    A row may be refused because an old one has its value in a column with a unique index. A
    table with such an index refuses a copy of a row as well; a copy it takes, here its sys_Id,
    goes with the old.
    """
    copy = (yield from _insert_copy(calls, table, plan)) if delivered else None
    if copy is None:
        raise ConfigError(
            f"Kore.ai refused rows that were to replace table {table.name} "
            f"({', '.join(sorted(plan.refused))}), and they may be good: it refuses copies of "
            "rows too, or took none. No old row was deleted. rejected_records.report_path "
            f"lists the refused rows and why. {_UNIQUE_INDEX}"
        )
    return copy


def _insert_copy(calls: Calls, table: Table, plan: KorePlan) -> Flow[str | None]:
    """Insert a copy of a row, of a new one if possible: its sys_Id, None when refused."""
    old = plan.olds()
    try:
        page = yield from calls.query(table.name, EVERY_ROW, limit=PAGE, offset=plan.stored or 0)
        _, _, copy = max(_copies(page.queryResult, table, old))
        try:
            response = yield calls.insert(table.name, RowBlock([copy], 1, range(1)))
        except (Refused, TooLarge):
            return None
        stored = response.decode(Inserted).records
        return msgspec.json.decode(stored[0], type=Row).sys_Id if stored else None
    except (Refused, Ambiguous, msgspec.DecodeError) as error:
        raise TransientError(
            f"Rows that were to replace table {table.name} were refused, and it could not be "
            "told why. No old row was deleted; the next attempt replaces all it finds."
        ) from error


def _copies(
    rows: Sequence[msgspec.Raw], table: Table, old: OldRows
) -> list[tuple[bool, int, bytes]]:
    """What may be copied; raises `Ambiguous` where somebody else deletes and no row is found.

    An empty row would go in whatever index there is.
    """
    if not rows:
        raise Ambiguous("no row to copy was found")
    return [_copy_of(row, table, old) for row in rows]


def _require_total(calls: Calls, table: Table, expected: int) -> Flow[None]:
    try:
        total = yield from count_rows(calls, table)
    except Refused as refused:
        raise not_read(f"Table {table.name} could not be counted", refused) from None
    if total != expected:
        raise TransientError(
            f"Table {table.name} holds {total} rows where {expected} were expected while it "
            "was being replaced. Something else may write to it. No row that was not replaced "
            "has been deleted; the next attempt replaces all it finds."
        )


def _empty(calls: Calls, table: Table) -> Flow[None]:
    """Delete all rows; stop before anything is inserted when some stay."""
    total = yield from calls.total(table.name)
    while total is None or total:
        response = yield calls.delete(table.name, EVERY_ROW, 1)
        before, total = total, (yield from count_rows(calls, table))
        deleted = deleted_rows(response)
        if total and not deleted and (before is None or total >= before):
            raise UnaccountedRows(
                f"Kore.ai does not delete the rows of table {table.name}, so it cannot be replaced."
            )


def _copy_of(row: bytes, table: Table, old: OldRows) -> tuple[bool, int, bytes]:
    """What is sent of a row to insert it once more; the best to copy is new and has most values."""
    members = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    sent = {column: members[column] for column in table.columns if column in members}
    sent = {column: raw for column, raw in sent.items() if bytes(raw) != b"null"}
    is_new = not old.has(msgspec.json.decode(row, type=Row))
    return is_new, len(sent), msgspec.json.encode(sent)
