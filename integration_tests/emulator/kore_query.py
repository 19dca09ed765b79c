"""Kore.ai's filters over stored rows.

`{"expressions": [{"field", "operand", "value"}], "operator": "and" | "or"}`

Source: https://koreai.mintlify.app/ai-for-service/apis/automation/query-table-data
(read 2026-11-22)
The four documented operands, no nesting. Values of different types are never equal and never
ordered; an absent field is null, and is unequal to any value. Equality is answered from an index
that is built when a column is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .clock import iso
from .storage import Storage, StoredRow
from .values import SYSTEM_FIELDS, picked

_OPERANDS = ("=", "!=", "<", ">")
DATES = ("Created_On", "Updated_On")


Index = dict[tuple[Any, ...], set[str]]  # units of the columns -> keys of the rows


class BadQueryError(ValueError):
    """The filter is not of the documented form."""


@dataclass(frozen=True)
class Expression:
    """One comparison."""

    field: str
    operand: str
    value: Any


@dataclass(frozen=True)
class Query:
    """A filter; without expressions it matches all rows."""

    expressions: tuple[Expression, ...]
    is_or: bool


def object_id(key: str) -> str:
    """Derive the `_id` of a row from its sys_Id."""
    return key.removeprefix("sys-").replace("-", "")[:24]


def parse_query(payload: Any) -> Query:
    """Read the filter of a request body."""
    if not isinstance(payload, dict) or not isinstance(payload.get("query", {}), dict):
        raise BadQueryError("query must be an object")
    query = payload.get("query", {})
    entries = query.get("expressions", [])
    operator = query.get("operator", "and")
    if not isinstance(entries, list) or operator not in ("and", "or"):
        raise BadQueryError("Invalid query")
    expressions = []
    for entry in entries:
        if not isinstance(entry, dict) or not {"field", "operand", "value"} <= entry.keys():
            raise BadQueryError("Invalid expression in query")
        if entry["operand"] not in _OPERANDS:
            raise BadQueryError(f"Invalid operand {entry['operand']}")
        expressions.append(Expression(entry["field"], entry["operand"], entry["value"]))
    return Query(tuple(expressions), operator == "or")


def unit(value: Any) -> Any:
    """Return what stands for a value in an index: equal values of one type give equal units."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return ("bool", value) if isinstance(value, bool) else value
    if isinstance(value, int | Decimal):
        return Decimal(value)
    if isinstance(value, float):
        return Decimal(str(value))
    return ("json", str(value))


@dataclass(frozen=True)
class Dates:
    """How times are kept, shown and compared."""

    as_text: bool = False
    whole_seconds: bool = False
    shown_ahead_s: int = 0

    def kept(self, seconds: float) -> float:
        """Return a time as precise as it is kept."""
        return float(int(seconds)) if self.whole_seconds else seconds

    def compared(self, seconds: float, value: Any) -> Any:
        """Return a time in the form in which it is compared with a value."""
        seconds = self.kept(seconds)
        if self.as_text:
            return iso(seconds) if isinstance(value, str) else str(int(seconds * 1000))
        return iso(seconds) if isinstance(value, str) else int(seconds * 1000)


class Indexes:
    """Equality indexes of the columns that were asked for, one per (table, columns)."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._maps: dict[tuple[str, tuple[str, ...]], Index] = {}

    def forget(self, store: str) -> None:
        """Drop the indexes of a table that is made anew or emptied."""
        for name in [name for name in self._maps if name[0] == store]:
            del self._maps[name]

    def keys(self, store: str, columns: tuple[str, ...], values: tuple[Any, ...]) -> set[str]:
        """Return the keys of the rows whose columns equal the values."""
        if (store, columns) not in self._maps:
            self._maps[store, columns] = {}
            for row in self._storage.page(store, -1):
                _note(self._maps[store, columns], columns, row.key, row.text)
        return self._maps[store, columns].get(tuple(map(unit, values)), set())

    def add(self, store: str, keyed: Iterable[tuple[str, bytes]]) -> None:
        """Note new rows."""
        maps = self._of(store)
        for key, text in keyed if maps else ():
            for columns, index in maps:
                _note(index, columns, key, text)

    def remove(self, rows: Sequence[StoredRow], store: str) -> None:
        """Note that rows are gone."""
        maps = self._of(store)
        for row in rows if maps else ():
            for columns, index in maps:
                index.get(_units(row.text, columns), set()).discard(row.key)

    def _of(self, store: str) -> list[tuple[tuple[str, ...], Index]]:
        return [(columns, index) for (name, columns), index in self._maps.items() if name == store]


def _units(text: bytes, columns: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(map(unit, picked(text, columns)))


def _note(index: Index, columns: tuple[str, ...], key: str, text: bytes) -> None:
    index.setdefault(_units(text, columns), set()).add(key)


def select(
    storage: Storage, indexes: Indexes, store: str, query: Query, dates: Dates
) -> list[StoredRow]:
    """Return the matching rows in the order of insertion."""
    equal = [e for e in query.expressions if e.operand == "="]
    if equal and (not query.is_or or len(equal) == len(query.expressions)):
        used = equal if query.is_or else equal[:1]
        keys: set[str] = set()
        for expression in used:
            if expression.field == "sys_Id":
                keys.add(str(expression.value))
            elif expression.field in SYSTEM_FIELDS:
                return [row for row in storage.page(store, -1) if _matches(query, row, dates)]
            else:
                keys |= indexes.keys(store, (expression.field,), (expression.value,))
        rows = storage.get(store, list(keys))
        # what the index found for an `or` of equalities is the answer
        return rows if query.is_or else [row for row in rows if _matches(query, row, dates)]
    rows = storage.page(store, -1)
    return [row for row in rows if _matches(query, row, dates)] if query.expressions else rows


def _matches(query: Query, row: StoredRow, dates: Dates) -> bool:
    """Tell whether one row passes the filter."""
    passed = []
    own: dict[str, Any] = {}
    for expression in query.expressions:
        found = _system_value(row, expression, dates)
        value = expression.value
        if dates.as_text and expression.field in DATES and not isinstance(value, str):
            value = str(value)
        if found is _ABSENT:
            if expression.field not in own:
                (own[expression.field],) = picked(row.text, [expression.field])
            found = own[expression.field]
        passed.append(_holds(found, expression.operand, value))
    return any(passed) if query.is_or and passed else all(passed)


_ABSENT = object()


def _system_value(row: StoredRow, expression: Expression, dates: Dates) -> Any:
    """Return a system field in the form the expression compares it in."""
    if expression.field in ("sys_Id", "_id"):
        return row.key if expression.field == "sys_Id" else object_id(row.key)
    if expression.field in DATES:
        moment = row.created if expression.field == "Created_On" else row.updated
        return dates.compared(moment, expression.value)
    return _ABSENT


def _holds(found: Any, operand: str, value: Any) -> bool:
    """Compare as the operand says."""
    if operand in ("=", "!="):
        return bool(unit(found) == unit(value)) == (operand == "=")
    left, right = unit(found), unit(value)
    if type(left) is not type(right) or not isinstance(left, str | Decimal):
        return False
    return bool(left < right if operand == "<" else left > right)
