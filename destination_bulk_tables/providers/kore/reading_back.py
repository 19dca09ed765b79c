"""After a write without an answer: which of its rows the table holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from destination_bulk_tables.http import Flow, Refused, TooLarge
from destination_bulk_tables.outcomes import Context, ReadBack
from destination_bulk_tables.providers.kore.calls import PAGE, Calls
from destination_bulk_tables.providers.kore.filters import all_of, any_of
from destination_bulk_tables.providers.kore.old_rows import KorePlan, OldRows, tell_apart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from destination_bulk_tables.model import JsonObject, JsonValue, RowBlock, Table

_PROBE_COLUMNS = 10
_PROBE_SAMPLE = 8
_MAX_PROBE_TOKEN = 256


def stored_rows(calls: Calls, table: Table, block: RowBlock, context: Context) -> Flow[ReadBack]:
    """Compare the table's total with what it should be, and look for the rows.

    Somebody else may write to the table, and an insert that was given up may be applied late: a
    total that says all or none is believed only where a sample of the rows says the same.
    """
    total = None
    try:
        total = yield from calls.total(table.name)
        if total is None or context.stored is None:
            return ReadBack(None, total)
        new = total - context.stored
        return ReadBack((yield from _which_are_in(calls, table, block, context, new)), total)
    except Refused:
        return ReadBack(None, total)


def _which_are_in(
    calls: Calls, table: Table, block: RowBlock, context: Context, new: int
) -> Flow[set[int] | None]:
    """Which rows are in where the table holds `new` more; None where it cannot be told."""
    if not 0 <= new <= block.count + context.others:
        return None  # somebody else writes to the table as well
    old = OldRows()
    if isinstance(context.replace, KorePlan):
        yield from tell_apart(calls, table, context.replace)
        old = context.replace.olds()
    filters = [_filter_of(row, table) for row in block.rows()]
    if new in {0, block.count + context.others}:
        claim = range(block.count if new else 0)
        sample = _sample([i for i, found_by in enumerate(filters) if found_by is not None])
        held = yield from _held(calls, table, filters, _telling_column(block, table), sample, old)
        return set(claim) if sample and held == set(sample) & set(claim) else None
    if None in filters or len(set(filters)) < len(filters):
        return None
    known = cast("list[bytes]", filters)
    return (yield from _find_rows(calls, table, block, known, new, context.others, old))


def _find_rows(
    calls: Calls,
    table: Table,
    block: RowBlock,
    filters: Sequence[bytes],
    new: int,
    others: int,
    old: OldRows,
) -> Flow[set[int] | None]:
    """Look for `new` rows of the block among the table's, those with `old` ids left out."""
    telling = _telling_column(block, table)
    if not others:
        # an insert that stops at its first bad row has stored the rows before it
        head, tail = range(new), range(new, block.count)
        if (yield from _all(calls, table, filters, _sample(head), old, is_in=True)) and (
            yield from _all(calls, table, filters, _sample(tail), old, is_in=False)
        ):
            fewer = head if len(head) <= len(tail) else tail
            held = yield from _held(calls, table, filters, telling, fewer, old)
            if held == (set(head) if fewer is head else set()):
                return set(head)
    found = yield from _held(calls, table, filters, telling, range(block.count), old)
    return found if len(found) <= new <= len(found) + others else None


def _held(
    calls: Calls,
    table: Table,
    filters: Sequence[bytes | None],
    telling: tuple[str, Sequence[dict[str, bytes]]] | None,
    positions: Sequence[int],
    old: OldRows,
) -> Flow[set[int]]:
    """Which rows the table holds: asked for by the page where one column tells them apart."""
    found: set[int] = set()
    size = PAGE // 2 if old else PAGE  # a page shows an old and a new row of each
    for start in range(0, len(positions), size):
        group = positions[start : start + size]
        if telling is not None:
            column, probes = telling
            query = any_of(column, [probes[i][column] for i in group])
            try:
                answer = yield from calls.query(table.name, query, limit=PAGE)
            except TooLarge:  # a gateway's limit on bodies, which split the batch as well
                answer = None
            if answer is not None and answer.total == len(answer.queryResult):
                held = [msgspec.json.decode(row) for row in old.without(answer.queryResult)]
                # the same key may be there with other values, of an earlier sync
                found |= {i for i in group if any(_is_like(row, probes[i]) for row in held)}
                continue
        for position in group:
            if (yield from _holds(calls, table, filters[position], old)):
                found.add(position)
    return found


def _all(
    calls: Calls,
    table: Table,
    filters: Sequence[bytes | None],
    positions: Sequence[int],
    old: OldRows,
    *,
    is_in: bool,
) -> Flow[bool]:
    """Whether each of these rows, which have a filter, is in; or none of them."""
    for position in positions:
        if (yield from _holds(calls, table, filters[position], old)) is not is_in:
            return False
    return True


def _holds(calls: Calls, table: Table, query: bytes | None, old: OldRows) -> Flow[bool]:
    assert query is not None
    answer = yield from calls.query(table.name, query, limit=PAGE if old else 1)
    return bool(old.without(answer.queryResult))


def _probes(row: bytes, table: Table) -> dict[str, bytes]:
    """The columns a filter can find this row by: short texts and numbers."""
    members = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    tokens = {column: bytes(raw) for column, raw in members.items()}
    return {
        column: token
        for column, token in tokens.items()
        if (column in table.text_columns or token[0] in b"-0123456789")
        and len(token) <= _MAX_PROBE_TOKEN
    }


def _is_like(row: JsonObject, probes: dict[str, bytes]) -> bool:
    return all(
        _plain(row.get(column)) == _plain(msgspec.json.decode(token))
        for column, token in probes.items()
    )


def _plain(value: JsonValue) -> JsonValue:
    """Numbers as a vendor may keep them."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _telling_column(block: RowBlock, table: Table) -> tuple[str, list[dict[str, bytes]]] | None:
    """A column with another value in each row of the block, and what each is found by."""
    probes = [_probes(row, table) for row in block.rows()]
    for column in probes[0]:
        tokens = [probe[column] for probe in probes if column in probe]
        if len(tokens) == len(set(tokens)) == len(probes):
            return column, probes
    return None


def _filter_of(row: bytes, table: Table) -> bytes | None:
    """A filter that finds this row by its text and number columns; None when it has none."""
    members = list(_probes(row, table).items())
    if not members:
        return None
    return all_of(members[:_PROBE_COLUMNS])


def _sample(positions: Sequence[int]) -> list[int]:
    """The ends and some between."""
    if len(positions) <= _PROBE_SAMPLE:
        return list(positions)
    step = (len(positions) - 1) / (_PROBE_SAMPLE - 1)
    return sorted({positions[round(i * step)] for i in range(_PROBE_SAMPLE)})
