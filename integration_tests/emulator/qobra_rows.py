"""Which rows of a Qobra import have errors, with the documented error texts.

The common case is settled per column by the set of value types; cells are looked at one by one only
where a type is in doubt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_SCALARS: frozenset[type] = frozenset({str, int, float, bool, type(None)})
_FINE: dict[str, frozenset[type]] = {
    "any": frozenset({*_SCALARS, list, dict}),
    "string": _SCALARS,
    "number": frozenset({int, float, bool, type(None)}),
    "boolean": frozenset({bool, type(None)}),
    "date": frozenset({type(None)}),
}


@dataclass(frozen=True)
class RowError:
    """One bad row: its place in the request, the sentence for the import and Python's own text."""

    index: int
    description: str
    details: str


def check_types(columns: Mapping[str, str]) -> None:
    """Refuse a table whose columns have types that do not exist."""
    if unknown := set(columns.values()) - _FINE.keys():
        raise ValueError(f"Qobra has no column types {sorted(unknown)}")


def row_errors(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], id_field: str
) -> list[RowError]:
    """Find the first error of each bad row, in the order of the rows."""
    errors: dict[int, RowError] = {}
    for index, row in enumerate(rows):
        if row.get(id_field) in (None, ""):
            errors[index] = RowError(
                index, f"Missing value for identifier {id_field}", f"KeyError: '{id_field}'"
            )
    for column, kind in columns.items():
        if {type(row.get(column)) for row in rows} <= _FINE[kind]:
            continue
        for index, row in enumerate(rows):
            if index not in errors and (details := _cell_error(row.get(column), kind)):
                parsed = {"number": "float"}.get(kind, kind)
                text = f"Can't parse '{row.get(column)}' as {parsed} for user attribute {column}"
                errors[index] = RowError(index, text, details)
    return [errors[index] for index in sorted(errors)]


def _cell_error(value: Any, kind: str) -> str | None:
    """Say what is wrong with one value, as Python would."""
    if type(value) in _FINE[kind]:
        return None
    if kind == "number":
        try:
            float(value)
        except (TypeError, ValueError, OverflowError) as error:
            return f"{type(error).__name__}: {error}"
        return None
    if kind == "boolean" and value in ("true", "false"):
        return None
    if kind == "date" and isinstance(value, str) and _DATE.fullmatch(value):
        return None
    return f"ValueError: {value!r} is not a {kind}"
