"""What an entry of `tables` says of a stream, as values; what comes of its fields is in `columns`.

An entry names all columns (`columns`), or leaves the stream's fields as they are but for those it
renames or excludes. Either way it may add columns of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, NamedTuple

from destination_bulk_tables.errors import SettingError
from destination_bulk_tables.model import JsonObject, StreamKey

Masking = Literal["hash", "redact", "truncate"]
Holds = Literal["emitted_at", "stream", "namespace", "generation_id"]

_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_NAMESPACE = re.compile(r"\{namespace\}[^{}\w]*_*")  # with what parts it from the rest


class FieldMapping(NamedTuple):
    """A field of the stream and its column; `mask_length`: the characters that `truncate` keeps."""

    field: str
    column: str
    mask: Masking | None = None
    mask_length: int | None = None


class Constant(NamedTuple):
    """A column that holds the same text in each row."""

    column: str
    value: str


class MessageColumn(NamedTuple):
    """A column that holds what the message says beside the record's data."""

    column: str
    holds: Holds


@dataclass(frozen=True, slots=True)
class TableEntry:
    """Where a stream goes; `namespace` None matches each, `columns` None sends all fields."""

    stream: str
    namespace: str | None = None
    table: str | None = None
    columns: tuple[FieldMapping, ...] | None = None
    rename: tuple[FieldMapping, ...] = ()
    exclude: tuple[str, ...] = ()
    constants: tuple[Constant, ...] = ()
    message_columns: tuple[MessageColumn, ...] = ()
    id_field: str | None = None

    @property
    def sent(self) -> list[str]:
        """The columns it names."""
        named: Iterable[FieldMapping | Constant | MessageColumn] = chain(
            self.columns or (), self.rename, self.constants, self.message_columns
        )
        return [entry.column for entry in named]

    @property
    def names(self) -> list[str]:
        """All names it holds that go into requests or messages."""
        fields = [mapping.field for mapping in (*(self.columns or ()), *self.rename)]
        return [self.table or "", self.id_field or "", *fields, *self.exclude, *self.sent]


def entries_of(tables: Iterable[Any], *, has_salt: bool) -> tuple[TableEntry, ...]:
    """The entries of a validated config. Raises `SettingError` for one that cannot be meant."""
    entries: list[TableEntry] = []
    seen: set[tuple[str, str | None]] = set()
    for i, table in enumerate(tables):
        entry = TableEntry(
            stream=table["stream"],
            namespace=table.get("namespace") or None,
            table=table.get("table") or None,
            columns=_mappings(table, "columns", i, has_salt=has_salt) or None,
            rename=_mappings(table, "rename", i, has_salt=has_salt),
            exclude=tuple(table.get("exclude", ())),
            constants=tuple(Constant(c["column"], c["value"]) for c in table.get("constants", ())),
            message_columns=tuple(
                MessageColumn(c["column"], c["holds"]) for c in table.get("message_columns", ())
            ),
            id_field=table.get("id_field") or None,
        )
        if (entry.stream, entry.namespace) in seen:
            raise SettingError("tables", f"has two entries for stream {entry.stream!r}: keep one")
        seen.add((entry.stream, entry.namespace))
        if entry.table and _ADDRESS.match(entry.table):
            what = "is an address: put in the table's API name, key or number only"
            raise SettingError(f"tables[{i}].table", what)
        if entry.columns and (entry.rename or entry.exclude):
            what = (
                "lists all columns, so rename and exclude have nothing to act on: keep columns, or "
                "the other two"
            )
            raise SettingError(f"tables[{i}].columns", what)
        entries.append(entry)
    return tuple(entries)


def _mappings(table: JsonObject, member: str, i: int, *, has_salt: bool) -> tuple[Any, ...]:
    mappings = []
    rows: Any = table.get(member, ())
    for j, row in enumerate(rows):
        mask = row.get("mask", "none")
        where = f"tables[{i}].{member}[{j}]"
        length = row.get("mask_length")
        if mask == "hash" and not has_salt:
            raise SettingError(
                f"{where}.mask", "is 'hash', which needs a secret: fill in mask_salt"
            )
        if mask == "truncate" and length is None:
            what = "is 'truncate', which needs mask_length: how many characters to keep"
            raise SettingError(f"{where}.mask", what)
        kept = None if mask == "none" else mask
        mappings.append(FieldMapping(row["field"], row["column"], kept, length))
    return tuple(mappings)


def table_name(pattern: str | None, stream: StreamKey) -> str:
    """The table of a stream by the pattern; without a namespace its place closes up."""
    if pattern is None:
        return stream.name
    if stream.namespace is None:
        pattern = _NAMESPACE.sub("", pattern)
    parts = re.split(r"(\{namespace\}|\{stream\})", pattern)
    values = {"{namespace}": stream.namespace or "", "{stream}": stream.name}
    return "".join(values.get(part, part) for part in parts)


def require_pattern(pattern: str) -> None:
    """Raises `SettingError` where a pattern cannot tell streams apart."""
    unknown = re.sub(r"\{namespace\}|\{stream\}", "", pattern)
    if "{stream}" not in pattern or "{" in unknown or "}" in unknown:
        what = "must hold {stream}, may hold {namespace}, and no other braces"
        raise SettingError("table_name_pattern", what)
