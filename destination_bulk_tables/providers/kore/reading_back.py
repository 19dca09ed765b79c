"""After writes without an answer: which of their rows the table holds.

Rows that are equal in every column are told by their number alone. So all rows in doubt are looked
at together, with nothing else under way, and counted: as many of each kind as were written may be
new, and in sum as many as the table has more than before. Copies of earlier syncs spoil the sum,
and then it cannot be told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

import msgspec

from destination_bulk_tables.http import Flow, Refused, TooLarge
from destination_bulk_tables.model import JsonObject, JsonValue, RowBlock, Table
from destination_bulk_tables.outcomes import Context, ReadBack
from destination_bulk_tables.providers.kore.calls import PAGE, Calls
from destination_bulk_tables.providers.kore.filters import all_of, any_of
from destination_bulk_tables.providers.kore.old_rows import KorePlan, OldRows, tell_apart

_PROBE_COLUMNS = 10
_PROBE_SAMPLE = 8
_MAX_PROBE_TOKEN = 256

Probes = tuple[tuple[str, bytes], ...]


@dataclass(slots=True)
class _Kind:
    """Rows that no filter tells apart: what finds them, and where they are."""

    probes: Probes
    positions: list[int] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.positions)

    def is_like(self, row: JsonObject) -> bool:
        return all(
            _plain(row.get(column)) == _plain(msgspec.json.decode(token))
            for column, token in self.probes
        )


def stored_rows(
    calls: Calls, table: Table, blocks: Sequence[RowBlock], context: Context
) -> Flow[ReadBack]:
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
        return ReadBack((yield from _which_are_in(calls, table, blocks, context, new)), total)
    except Refused:
        return ReadBack(None, total)


def copies(calls: Calls, table: Table, block: RowBlock) -> Flow[list[int] | None]:
    """How often the table holds each row of a block, by key where it keeps one row of each."""
    rows = block.rows()
    kinds = _kinds(rows, table, table.key_columns if table.mode == "dedup" else ())
    known = [kind for probes, kind in kinds.items() if probes]
    counts = [0] * len(rows)
    try:
        held = yield from _count(calls, table, known, OldRows())
    except Refused:
        return None
    for kind, count in zip(known, held, strict=True):
        for position in kind.positions:
            counts[position] = count
    return counts


def _which_are_in(
    calls: Calls, table: Table, blocks: Sequence[RowBlock], context: Context, new: int
) -> Flow[set[int] | None]:
    """Which rows are in where the table holds `new` more; None where it cannot be told."""
    rows = list(chain.from_iterable(block.rows() for block in blocks))
    if not 0 <= new <= len(rows):
        return None  # somebody else writes to the table as well
    old = OldRows()
    if isinstance(context.replace, KorePlan):
        yield from tell_apart(calls, table, context.replace)
        old = context.replace.olds()
    kinds = _kinds(rows, table)
    if new in {0, len(rows)}:
        sample = _sample(kinds, blocks)
        counts = yield from _count(calls, table, sample, old)
        agrees = all(
            min(n, kind.count) == (kind.count if new else 0)
            for kind, n in zip(sample, counts, strict=True)
        )
        return set(range(new)) if sample and agrees else None
    if () in kinds:
        return None
    known = list(kinds.values())
    held = yield from _count(calls, table, known, old)
    counts = [min(n, kind.count) for kind, n in zip(known, held, strict=True)]
    if sum(counts) != new:
        return None  # more: some are copies from before, and it cannot be seen which
    found: set[int] = set()
    for kind, count in zip(known, counts, strict=True):
        if 0 < count < kind.count and len({rows[i] for i in kind.positions}) > 1:
            return None
        found.update(kind.positions[:count])
    return found


def _kinds(rows: Sequence[bytes], table: Table, columns: Sequence[str] = ()) -> dict[Probes, _Kind]:
    """The rows by what finds them, in these columns or all; `()` is what no filter can find."""
    kinds: dict[Probes, _Kind] = {}
    for position, row in enumerate(rows):
        probes = _probes(row, table)
        if columns:
            probes = tuple((column, token) for column, token in probes if column in columns)
        kinds.setdefault(probes, _Kind(probes)).positions.append(position)
    return kinds


def _sample(kinds: dict[Probes, _Kind], blocks: Sequence[RowBlock]) -> list[_Kind]:
    """The kinds of some rows of each block that can be looked for: the ends and some between."""
    places = {i: kind for probes, kind in kinds.items() if probes for i in kind.positions}
    chosen: dict[int, _Kind] = {}
    first = 0
    for block in blocks:
        own = [i for i in range(first, first + block.count) if i in places]
        first += block.count
        step = max(1.0, (len(own) - 1) / (_PROBE_SAMPLE - 1))
        for at in range(min(len(own), _PROBE_SAMPLE)):
            kind = places[own[round(at * step)]]
            chosen[kind.positions[0]] = kind
    return list(chosen.values())


def _count(calls: Calls, table: Table, kinds: Sequence[_Kind], old: OldRows) -> Flow[list[int]]:
    """How many rows of each kind the table holds."""
    groups: dict[bytes, list[_Kind]] = defaultdict(list)
    column = _telling_column(kinds)
    if column is None:
        return (yield from _count_each(calls, table, kinds, old))
    for kind in kinds:
        groups[dict(kind.probes)[column]].append(kind)
    counts: dict[Probes, int] = {}
    waiting = _pages(groups, PAGE // 2 if old else PAGE)  # a page shows old and new rows
    while waiting:
        tokens = waiting.pop()
        asked = list(chain.from_iterable(groups[token] for token in tokens))
        held = yield from _page(calls, table, any_of(column, tokens), old)
        if held is not None:
            counts |= {kind.probes: sum(map(kind.is_like, held)) for kind in asked}
        elif len(tokens) > 1:
            middle = len(tokens) // 2
            waiting += [tokens[:middle], tokens[middle:]]
        else:
            found = yield from _count_each(calls, table, asked, old)
            counts |= dict(zip([kind.probes for kind in asked], found, strict=True))
    return [counts[kind.probes] for kind in kinds]


def _pages(groups: dict[bytes, list[_Kind]], size: int) -> list[list[bytes]]:
    """The values to ask for at a time: of so many rows as fit a page, and of one at least."""
    pages: list[list[bytes]] = []
    room = 0
    for token, kinds in groups.items():
        rows = sum(kind.count for kind in kinds)
        if not pages or room < rows:
            pages.append([])
            room = size
        pages[-1].append(token)
        room -= rows
    return pages


def _page(calls: Calls, table: Table, query: bytes, old: OldRows) -> Flow[list[JsonObject] | None]:
    """The new rows that a filter finds; None where they are more than a page shows."""
    try:
        answer = yield from calls.query(table.name, query, limit=PAGE)
    except TooLarge:  # a gateway's limit on bodies, which split the batch as well
        return None
    if answer.total != len(answer.queryResult):
        return None
    return [msgspec.json.decode(row) for row in old.without(answer.queryResult)]


def _count_each(
    calls: Calls, table: Table, kinds: Sequence[_Kind], old: OldRows
) -> Flow[list[int]]:
    """The same by a question for each kind. Raises `Refused` where old rows hide new ones."""
    counts: list[int] = []
    for kind in kinds:
        query = all_of(kind.probes[:_PROBE_COLUMNS])
        answer = yield from calls.query(table.name, query, limit=PAGE if old else 1)
        if old and answer.found > len(answer.queryResult):
            raise Refused("old_rows_hide_new", "more rows are equal than a page shows")
        counts.append(len(old.without(answer.queryResult)) if old else answer.found)
    return counts


def _probes(row: bytes, table: Table) -> Probes:
    """The columns a filter can find this row by: short texts and numbers."""
    members = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    tokens = {column: bytes(raw) for column, raw in members.items()}
    return tuple(
        (column, token)
        for column, token in tokens.items()
        if (column in table.text_columns or token[0] in b"-0123456789")
        and len(token) <= _MAX_PROBE_TOKEN
    )


def _plain(value: JsonValue) -> JsonValue:
    """Numbers as a vendor may keep them."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _telling_column(kinds: Iterable[_Kind]) -> str | None:
    """The column with the most values of those by which every kind can be found."""
    values: dict[str, set[bytes]] = {}
    for place, kind in enumerate(kinds):
        probes = dict(kind.probes)
        if not place:
            values = {column: set() for column in probes}
        values = {column: known for column, known in values.items() if column in probes}
        for column, known in values.items():
            known.add(probes[column])
    return max(values, key=lambda name: len(values[name]), default=None)
