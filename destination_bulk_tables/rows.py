"""Compiles a stream's schema into a codec: record data in, encoded rows and rejected rows out.

The schema decides the columns; undeclared fields are dropped. Values stay JSON tokens
(`msgspec.Raw`), so integers and decimals of any size reach the vendor with all their digits. A run
of records is worked on a column at a time, and a column that needs nothing costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Raw

from destination_bulk_tables import values
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.model import RejectedRow, RowBlock, Tombstone

if TYPE_CHECKING:
    from destination_bulk_tables.model import JsonObject, JsonValue, Key, StreamKey
    from destination_bulk_tables.provider import RowRules
    from destination_bulk_tables.values import Convert

_NULL = b"null"
_NO_KEY = frozenset({_NULL, b'""'})
_DELETED_AT = "_ab_cdc_deleted_at"
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Column:
    """A source field and its column at the vendor, with what the schema says of its values."""

    field: str
    name: str
    is_timestamp: bool = False
    may_be_boolean: bool = False
    may_be_decimal: bool = False
    may_be_nested: bool = False
    is_text: bool = False


def columns_of(
    schema: JsonObject, mapping: Sequence[tuple[str, str]] | None, where: str
) -> list[Column]:
    """The columns of a stream as sent. Raises `ConfigError` for a mapping that cannot hold."""
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    pairs = [(field, field) for field in properties] if mapping is None else list(mapping)
    seen: set[str] = set()
    columns: list[Column] = []
    for field, name in pairs:
        if properties and field not in properties:
            known = ", ".join(sorted(properties)[:20])
            message = (
                f"{where}: the stream has no field {field!r}. Correct tables[].columns; its fields "
                f"are: {known}."
            )
            raise ConfigError(message)
        if any(column.field == field for column in columns):
            message = f"{where}: the field {field!r} is listed twice in tables[].columns. Keep one."
            raise ConfigError(message)
        if name in seen:
            message = (
                f"{where}: two fields go to the column {name!r}. Give each its own in "
                "tables[].columns."
            )
            raise ConfigError(message)
        seen.add(name)
        columns.append(_column(field, name, properties.get(field)))
    return columns


def _column(field: str, name: str, schema: JsonValue) -> Column:
    types, is_timestamp = _types(schema)
    return Column(
        field,
        name,
        is_timestamp=is_timestamp,
        may_be_boolean=not types or "boolean" in types,
        may_be_decimal=not types or bool(types & {"number", "integer"}),
        may_be_nested=not types or bool(types & {"object", "array"}),
        is_text=types <= {"string", "null"} and "string" in types and not is_timestamp,
    )


def _types(schema: JsonValue) -> tuple[set[str], bool]:
    """All JSON types a property may take (empty: unknown), and whether it is a date-time."""
    if not isinstance(schema, dict):
        return set(), False
    declared = schema.get("type")
    names = declared if isinstance(declared, list) else [declared]
    types = {name for name in names if isinstance(name, str)}
    stamp = schema.get("format") == "date-time" or str(schema.get("airbyte_type", "")).startswith(
        "timestamp_"
    )
    for union in ("oneOf", "anyOf"):
        branches = schema.get(union)
        for branch in branches if isinstance(branches, list) else []:
            more, is_stamp = _types(branch)
            types |= more
            stamp = stamp or is_stamp
    return types, stamp


class RowCodec:
    """One stream's codec; used by the engine thread only.

    `row_type` reads a record's data where it stands, so that the reader can decode a whole line at
    once; it is None where field names do not allow it.
    """

    def __init__(
        self,
        stream: StreamKey,
        columns: Sequence[Column],
        rules: RowRules,
        *,
        nested: Literal["json_string", "reject"],
        key_fields: Sequence[str] = (),
        cursor_field: str | None = None,
        tombstones: Literal["delete", "reject"] | None = None,
    ) -> None:
        self._stream = stream
        self._columns = columns
        self._rules = rules
        self._nested = nested
        attributes = {column.field: f"f{i}" for i, column in enumerate(columns)}
        sent = list(attributes.values())

        def attribute(field: str) -> str:
            return attributes.setdefault(field, f"h{len(attributes)}")  # read and not sent

        self._keys = [attribute(field) for field in key_fields]
        if not self._keys and rules.required_column is not None:
            self._keys = [
                attributes[column.field]
                for column in columns
                if column.name == rules.required_column
            ]
        self._cursor = attribute(cursor_field) if cursor_field else None
        self._deleted = attribute(_DELETED_AT) if tombstones else None
        self._rejects_deleted = tombstones == "reject"
        self._may_nest = [(a, c) for a, c in zip(sent, columns, strict=False) if c.may_be_nested]
        self._scalars = [(a, c) for a, c in zip(sent, columns, strict=False) if not c.may_be_nested]
        self._plan_conversions(sent)
        self._plan_reading(attributes)
        self._plan_writing(sent, len(attributes))

    def _plan_conversions(self, sent: Sequence[str]) -> None:
        self._converts: list[tuple[str, Convert]] = []
        self._late: list[tuple[str, Convert]] = []
        self._replace: list[tuple[bytes, bytes]] = []
        for attribute, column in zip(sent, self._columns, strict=False):
            # versions are compared by the cursor as it came, so it is converted after that
            is_late = attribute == self._cursor and attribute not in self._keys
            converts = self._late if is_late else self._converts
            if column.may_be_decimal and self._rules.decimals == "string":
                converts.append((attribute, values.number_text))
            if column.may_be_boolean and self._rules.booleans != "json":
                if attribute in self._keys or not _stands_out(column.name):
                    converts.append((attribute, values.BOOLEANS[self._rules.booleans]))
                else:  # in the encoded text its name and value stand out
                    label = _encode(column.name)
                    self._replace += [
                        (b"%b:%b" % (label, old), b"%b:%b" % (label, new))
                        for old, new in values.BOOLEAN_TEXTS[self._rules.booleans]
                    ]
            if column.is_timestamp and self._rules.timestamps != "as_is":
                converts.append((attribute, values.TIMESTAMPS[self._rules.timestamps]))

    def _plan_reading(self, attributes: dict[str, str]) -> None:
        null = Raw(_NULL)
        self._sources = list(attributes)
        self.row_type: Any = None
        if _can_name(self._sources):
            fields = [
                (a, Raw, msgspec.field(name=field, default=null)) for field, a in attributes.items()
            ]
            self.row_type = msgspec.defstruct("Row", fields, gc=False)
            self._decode_row = msgspec.json.Decoder(self.row_type).decode
            self._decode = msgspec.json.Decoder(_list_of(self.row_type)).decode
            return
        # names that a struct cannot have go through dicts, which is slower
        row = msgspec.defstruct(
            "Row", [(a, Raw, msgspec.field(default=null)) for a in attributes.values()], gc=False
        )
        decode_dict = msgspec.json.Decoder(dict[str, Raw]).decode
        decode_dicts = msgspec.json.Decoder(list[dict[str, Raw]]).decode

        def build(members: dict[str, Raw]) -> Any:
            return row(**{a: members[f] for f, a in attributes.items() if f in members})

        self._decode_row = lambda data: build(decode_dict(data))
        self._decode = lambda text: [build(members) for members in decode_dicts(text)]

    def _plan_writing(self, sent: Sequence[str], read: int) -> None:
        names = [column.name for column in self._columns]
        self._names = names
        self._encoded_names = frozenset(name.encode() for name in names)
        self._cuts_nulls = self._rules.nulls == "omit" and all(map(_stands_out, names))
        self._values_of: Callable[[Any], Any] | None = None
        self._out: Any = None
        if not sent:
            return
        if not all(map(_stands_out, names)):
            self._out = self._named
        elif read > len(sent) or names != self._sources:
            fields = [(a, Raw, msgspec.field(name=n)) for a, n in zip(sent, names, strict=True)]
            self._out = msgspec.defstruct("Out", fields, gc=False)
        get = attrgetter(*sent)
        self._values_of = get if len(sent) > 1 else lambda row: (get(row),)

    def _named(self, *tokens: Raw) -> dict[str, Raw]:
        members = dict(zip(self._names, tokens, strict=True))
        if self._rules.nulls == "send":
            return members
        return {name: token for name, token in members.items() if bytes(token) != _NULL}

    def encode(self, data: Sequence[Raw]) -> tuple[RowBlock, list[RejectedRow]]:
        """Encode consecutive records' data; the block's `indexes` are positions in the run."""
        rejected: list[RejectedRow] = []
        indexes: Sequence[int] = range(len(data))
        try:
            rows = self._decode(b"".join((b"[", b",".join(data), b"]")))
        except (msgspec.DecodeError, RecursionError):
            rows, indexes = self._decode_singly(data, rejected)
        return self._encode(rows, indexes, rejected, lambda _, index: bytes(data[index]))

    def encode_rows(self, rows: list[Any]) -> tuple[RowBlock, list[RejectedRow]]:
        """Encode rows that were read as `row_type`."""
        return self._encode(rows, range(len(rows)), [], lambda row, _: self._text(row))

    def _text(self, row: Any) -> bytes:
        return _encode(dict(zip(self._sources, msgspec.structs.astuple(row), strict=True)))

    def _decode_singly(
        self, data: Sequence[Raw], rejected: list[RejectedRow]
    ) -> tuple[list[Any], list[int]]:
        rows, indexes = [], []
        for index, raw in enumerate(data):
            try:
                rows.append(self._decode_row(raw))
                indexes.append(index)
            except (msgspec.DecodeError, RecursionError):
                reason = "the record's data is not a JSON object that can be read"
                rejected.append(self._reject("bad_data", reason, bytes(raw), index))
        return rows, indexes

    def _encode(
        self,
        rows: list[Any],
        indexes: Sequence[int],
        rejected: list[RejectedRow],
        text_of: Callable[[Any, int], bytes],
    ) -> tuple[RowBlock, list[RejectedRow]]:
        braces = 0
        if self._may_nest:
            rows, indexes, braces = self._flatten(self._may_nest, rows, indexes, rejected, text_of)
        for attribute, convert in self._converts:
            _apply(attribute, convert, rows)
        body = self._body(rows)
        if (braces or body.find(b"[") >= 0 or body.count(b"{") != len(rows)) and (
            body.count(b"{") + body.count(b"[") != len(rows) + braces
        ):
            # a scalar column may hold a nested value, or just a text with a brace in it
            rows, indexes, _ = self._flatten(self._scalars, rows, indexes, rejected, text_of)
            body = self._body(rows)
        before = len(rows)
        keys, tombstones, rows, indexes = self._sort(rows, indexes, rejected, text_of)
        cursors = _tokens(rows, self._cursor) if self._cursor else None
        for attribute, convert in self._late:
            _apply(attribute, convert, rows)
        if self._late or len(rows) != before:
            body = self._body(rows)
        return RowBlock(body, len(rows), indexes, keys, cursors, tuple(tombstones)), rejected

    def _flatten(
        self,
        columns: Sequence[tuple[str, Column]],
        rows: list[Any],
        indexes: Sequence[int],
        rejected: list[RejectedRow],
        text_of: Callable[[Any, int], bytes],
    ) -> tuple[list[Any], Sequence[int], int]:
        """Turn nested values into compact JSON text, or reject their rows; count its braces."""
        braces = 0
        faults: dict[int, str] = {}
        for attribute, column in columns:
            tokens = list(map(attrgetter(attribute), rows))
            where = values.nested_at(tokens)
            if where and self._nested == "reject":
                reason = (
                    f"field {column.field!r} holds a nested value and nested_values is 'reject'"
                )
                faults = dict.fromkeys(where, reason) | faults
            elif where:
                strings, text = values.json_strings([tokens[i] for i in where])
                braces += text.count(b"{") + text.count(b"[")
                for i, string in zip(where, strings, strict=True):
                    setattr(rows[i], attribute, string)
        if not faults:
            return rows, indexes, braces
        for i, reason in sorted(faults.items()):
            text = text_of(rows[i], indexes[i])
            rejected.append(self._reject("nested_value", reason, text, indexes[i]))
        kept = [i for i in range(len(rows)) if i not in faults]
        return [rows[i] for i in kept], [indexes[i] for i in kept], braces

    def _sort(
        self,
        rows: list[Any],
        indexes: Sequence[int],
        rejected: list[RejectedRow],
        text_of: Callable[[Any, int], bytes],
    ) -> tuple[list[Key] | None, list[Tombstone], list[Any], Sequence[int]]:
        """Read the keys; take out the rows without one and the records of deleted rows."""
        if not self._keys and self._rules.required_column is None:
            return None, [], rows, indexes
        columns = [_tokens(rows, attribute) for attribute in self._keys]
        deleted = _tokens(rows, self._deleted) if self._deleted else None
        keys = _joined(columns)
        if (
            columns
            and all(_NO_KEY.isdisjoint(tokens) for tokens in columns)
            and (deleted is None or all(token == _NULL for token in deleted))
        ):
            return keys, [], rows, indexes
        cursors = _tokens(rows, self._cursor) if self._cursor else None
        tombstones: list[Tombstone] = []
        kept: list[int] = []
        for i, index in enumerate(indexes):
            if not columns or any(tokens[i] in _NO_KEY for tokens in columns):
                reason = "the key is null, empty or absent"
                text = text_of(rows[i], index)
                rejected.append(self._reject("bad_key", reason, text, index))
            elif not deleted or deleted[i] == _NULL:
                kept.append(i)
            elif self._rejects_deleted:
                reason = "the record says its row was deleted, and this vendor cannot delete a row"
                text = text_of(rows[i], index)
                rejected.append(self._reject("cdc_delete", reason, text, index))
            else:
                tombstones.append(Tombstone(index, keys[i], cursors[i] if cursors else None))
        return (
            [keys[i] for i in kept],
            tombstones,
            [rows[i] for i in kept],
            [indexes[i] for i in kept],
        )

    def _body(self, rows: list[Any]) -> bytes:
        if self._values_of is None:
            return b",".join([b"{}"] * len(rows))
        if self._out is not None:
            out = self._out
            rows = [out(*tokens) for tokens in map(self._values_of, rows)]
        body = _encode(rows)[1:-1]
        for old, new in self._replace:
            body = body.replace(old, new)
        if self._cuts_nulls and b'":null' in body:
            body = values.without_nulls(body, self._encoded_names)
        return body

    def _reject(self, code: str, reason: str, row: bytes, index: int) -> RejectedRow:
        return RejectedRow(self._stream, "shape", code, reason, row, index)


def _tokens(rows: list[Any], attribute: str) -> list[bytes]:
    """The JSON tokens of one field."""
    return list(map(bytes, map(attrgetter(attribute), rows)))


def _joined(columns: Sequence[list[bytes]]) -> list[Key]:
    if len(columns) == 1:
        return columns[0]
    return [b",".join(key) for key in zip(*columns, strict=True)]


def _apply(attribute: str, convert: Convert, rows: list[Any]) -> None:
    for row, token in zip(rows, map(attrgetter(attribute), rows), strict=True):
        setattr(row, attribute, convert(token))


def _list_of(row: Any) -> Any:
    return list[row]


def _can_name(names: Sequence[str]) -> bool:
    """Whether msgspec takes all of these as names of struct fields on the wire."""
    return not any(char in '\\"' or char < " " for name in names for char in name)


def _stands_out(name: str) -> bool:
    """Whether the name in quotes cannot be what stands between two strings of a row."""
    return _can_name([name]) and not name.startswith((":", ",", "}"))
