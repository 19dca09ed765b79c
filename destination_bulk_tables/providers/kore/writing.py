"""Inserts, after the deletes of their keys where rows are kept by key.

Source: https://koreai.mintlify.app/ai-for-service/apis/automation/bulk-data-insert
(read 2026-11-22)
An insert is answered with one record per row stored. A delete that ended without an answer may be
applied late and take rows that were inserted since: the keys are counted after the insert.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from destination_bulk_tables.http import Ambiguous, Flow, Refused
from destination_bulk_tables.model import Key, RowBlock, Table
from destination_bulk_tables.outcomes import Context, WriteReport
from destination_bulk_tables.providers.kore.answers import Inserted
from destination_bulk_tables.providers.kore.calls import PAGE, Calls
from destination_bulk_tables.providers.kore.deleting import Deletes
from destination_bulk_tables.providers.kore.filters import key_filter
from destination_bulk_tables.providers.kore.old_rows import KorePlan, note_new

log = logging.getLogger(__name__)


def repeats_safely(table: Table) -> bool:
    return table.mode == "dedup" and not table.replace


def write(
    calls: Calls, deletes: Deletes, table: Table, block: RowBlock, context: Context
) -> Flow[WriteReport]:
    """Insert; where rows are kept by key, delete their keys first."""
    is_doubtful = False
    if table.mode == "dedup" and context.replace is None:
        keys = [*(block.keys or ()), *(tombstone.key for tombstone in block.tombstones)]
        is_resent = yield from deletes.delete_keys(table, keys)
        is_doubtful = is_resent or context.repeated > 0
    if not block.count:
        return WriteReport(delivered=len(block))
    response = yield calls.insert(table.name, block)
    try:
        records = response.decode(Inserted).records
    except Ambiguous:
        if repeats_safely(table):
            raise
        unreadable = "the answer does not list the records"
        raise Refused("unreadable_answer", unreadable, partial=True) from None
    if len(records) != block.count:
        reason = f"the answer lists {len(records)} of {block.count} rows"
        raise Refused("not_stored", reason, partial=not repeats_safely(table))
    if isinstance(context.replace, KorePlan):
        yield from note_new(calls, table, context.replace, records)
    if repeats_safely(table):
        yield from deletes.require_null_found(table, block.keys or ())
    if is_doubtful:
        yield from _require_keys(calls, table, block.keys or ())
    return WriteReport(delivered=len(block))


def _require_keys(calls: Calls, table: Table, keys: Sequence[Key]) -> Flow[None]:
    """Raise `Ambiguous` unless the table holds one row of each key: nothing came late."""
    try:
        for group in _groups(keys, 1 if len(table.key_columns) > 1 else PAGE - 1):
            answer = yield from calls.query(table.name, key_filter(table, group), limit=PAGE)
            if answer.found != len(group):
                raise Ambiguous(
                    f"the table holds {answer.found} rows of {len(group)} keys just written"
                )
    except Refused as refused:
        log.warning(
            "keys_not_counted table=%s code=%s effect=late_deletes_go_unnoticed",
            table.name,
            refused.code,
        )


def _groups(keys: Sequence[Key], size: int) -> Iterator[Sequence[Key]]:
    return (keys[i : i + size] for i in range(0, len(keys), size))
