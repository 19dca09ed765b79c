"""Tables of Kore.ai: their definition, and what is wrong with rows that are to be inserted.

Source: https://koreai.mintlify.app/ai-for-service/administration/data/data-tables-and-views
(read 2026-11-22)
The definition is the one the app exports: `schemaDef` and `indexes`. A table without columns takes
any that are not system fields. What is refused is a choice of the emulator, so are the texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .settings import Settings
from .values import SYSTEM_FIELDS

_DATE = re.compile(
    r"(\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?)|(\d{1,2}/\d{1,2}/\d{4})"
)
_NOTHING: frozenset[type] = frozenset({type(None)})
_FINE: dict[str, frozenset[type]] = {
    "string": frozenset({str}) | _NOTHING,
    "number": frozenset({int, float}) | _NOTHING,
    "date": frozenset({int}) | _NOTHING,
}


@dataclass(frozen=True)
class Column:
    """One column of `schemaDef`."""

    name: str
    kind: str
    required: bool
    max_length: int | None
    default: Any


@dataclass(frozen=True)
class KoreTable:
    """A data table; `unique` holds the columns of each unique index."""

    name: str
    columns: dict[str, Column]
    unique: tuple[tuple[str, ...], ...] = ()

    @property
    def store(self) -> str:
        """Return the name of its storage table."""
        return f"kore:{self.name}"


def table_of(definition: Mapping[str, Any]) -> KoreTable:
    """Read an exported definition; an index is `{"columns" or "column", "isUnique"}`."""
    columns = {}
    for entry in definition.get("schemaDef", ()):
        length = str(entry.get("maxLength") or "")
        default = entry.get("default")
        if entry.get("type", "string") not in _FINE:
            raise ValueError(f"Kore.ai has no column type {entry['type']!r}")
        columns[entry["name"]] = Column(
            entry["name"],
            entry.get("type", "string"),
            bool(entry.get("isRequired")),
            int(length) if length else None,
            None if default == "" else default,
        )
    unique = tuple(
        tuple(index.get("columns") or [index["column"]])
        for index in definition.get("indexes", ())
        if index.get("isUnique")
    )
    return KoreTable(definition["name"], columns, unique)


def row_errors(
    table: KoreTable, rows: Sequence[Mapping[str, Any]], settings: Settings
) -> dict[int, str]:
    """Map the index of each bad row to a message; unique indexes are not looked at here."""
    keys = set().union(*rows)
    suspects: dict[int, str] = {}
    refused = keys & SYSTEM_FIELDS
    if table.columns and settings.kore_unknown_column == "reject":
        refused |= keys - table.columns.keys()
    if refused:
        for index, row in enumerate(rows):
            if name := next((key for key in row if key in refused), None):
                kind = "read-only" if name in SYSTEM_FIELDS else "unknown"
                suspects[index] = f"Invalid column {name}: {kind}"
    for column in table.columns.values():
        if not _plainly_fine(column, [row.get(column.name) for row in rows]):
            for index, row in enumerate(rows):
                if index not in suspects and (message := _cell_error(column, row, settings)):
                    suspects[index] = message
    return suspects


def _plainly_fine(column: Column, values: list[Any]) -> bool:
    """Tell from the types alone, where they suffice."""
    types = set(map(type, values))
    fine = _FINE[column.kind] if not column.required else _FINE[column.kind] - _NOTHING
    return types <= fine and column.max_length is None


def _cell_error(column: Column, row: Mapping[str, Any], settings: Settings) -> str | None:
    """Say what is wrong with one value."""
    value = row.get(column.name)
    if value is None:
        missing = column.required and (column.default is None or column.name in row)
        return f"Missing value for required column {column.name}" if missing else None
    if column.max_length is not None and isinstance(value, str) and len(value) > column.max_length:
        return f"Value of column {column.name} is longer than {column.max_length}"
    if type(value) in _FINE[column.kind]:
        return None
    if column.kind == "date" and isinstance(value, str) and _DATE.fullmatch(value):
        return None
    if (
        column.kind == "number"
        and isinstance(value, str)
        and settings.kore_string_in_number == "accept"
    ):
        return None
    if column.kind == "number" and type(value).__name__ == "Decimal":
        return None
    return f"Value of column {column.name} is not a {column.kind}"
