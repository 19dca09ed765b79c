"""Compiles a stream's schema into a codec: record data in, encoded rows and rejected rows out.

The schema decides the columns; undeclared fields are dropped. Values stay JSON tokens
(`msgspec.Raw`), so decimals of any size reach the vendor with all their digits; text, integers and
booleans of columns that hold nothing else become Python values, which is cheaper. A run of
records is worked on a column at a time, and a column that needs nothing costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat, starmap
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast
from urllib.parse import unquote

import msgspec
from msgspec import UNSET, Raw

from destination_bulk_tables import values
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.model import RejectedRow, RowBlock, Tombstone, key_of

if TYPE_CHECKING:
    from destination_bulk_tables.model import JsonObject, JsonValue, Key, StreamKey
    from destination_bulk_tables.provider import RowRules
    from destination_bulk_tables.values import Convert

_NULL = b"null"
_ABSENT = Raw(_NULL)  # an encoder that omits nulls knows it by identity
_DIGITS = b"0123456789"
_UNDECODABLE = (msgspec.DecodeError, RecursionError)
_MOST_PARTS = 200  # of a schema behind references and unions
_DELETED_AT = "_ab_cdc_deleted_at"
_encode = msgspec.json.Encoder().encode
_TextOf = Callable[[Any, int], bytes]


@dataclass(frozen=True, slots=True)
class Column:
    """A source field and its column at the vendor, with what the schema says of its values."""

    field: str
    name: str
    is_timestamp: bool = False
    may_be_decimal: bool = False
    is_text: bool = False
    is_boolean: bool = False
    is_integer: bool = False


def fields_of(schema: JsonObject) -> JsonObject:
    """The fields that a stream's schema declares, also behind a local `$ref` or in `allOf`."""
    fields: JsonObject = {}
    for part in _parts(schema, schema):
        properties = part.get("properties")
        fields.update(properties if isinstance(properties, dict) else {})
    return fields


def columns_of(
    schema: JsonObject, mapping: Sequence[tuple[str, str]] | None, where: str
) -> list[Column]:
    """The columns of a stream as sent. Raises `ConfigError` for a mapping that cannot hold."""
    properties = fields_of(schema)
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
        columns.append(_column(field, name, properties.get(field), schema))
    return columns


def _column(field: str, name: str, property_: JsonValue, schema: JsonObject) -> Column:
    types: set[str] = set()
    is_timestamp = False
    for part in _parts(property_, schema, ("allOf", "oneOf", "anyOf")):
        declared = part.get("type")
        names = declared if isinstance(declared, list) else [declared]
        types.update(name for name in names if isinstance(name, str))
        is_timestamp = (
            is_timestamp
            or part.get("format") == "date-time"
            or str(part.get("airbyte_type", "")).startswith("timestamp_")
        )
    return Column(
        field,
        name,
        is_timestamp=is_timestamp,
        may_be_decimal=not types or bool(types & {"number", "integer"}),
        is_text=types - {"null"} == {"string"} and not is_timestamp,
        is_boolean=types - {"null"} == {"boolean"},
        is_integer=types - {"null"} == {"integer"},
    )


def _parts(
    schema: JsonValue, root: JsonObject, members: Sequence[str] = ("allOf",)
) -> Iterator[JsonObject]:
    """A schema, what its local `$ref` names, its branches; bounded: a reference may be circular."""
    waiting: list[JsonValue] = [schema]
    for _ in range(_MOST_PARTS):
        if not waiting:
            return
        part = waiting.pop(0)
        if not isinstance(part, dict):
            continue
        yield part
        if "$ref" in part:
            waiting.append(_referenced(part["$ref"], root))
        for member in members:
            branches = part.get(member)
            waiting += branches if isinstance(branches, list) else []


def _referenced(ref: JsonValue, root: JsonObject) -> JsonValue:
    """What `#/a/b` names; None for anything else."""
    found: JsonValue = root
    if not isinstance(ref, str) or not ref.startswith("#"):
        return None
    for name in ref[1:].split("/")[1:]:
        plain = unquote(name).replace("~1", "/").replace("~0", "~")
        found = found.get(plain) if isinstance(found, dict) else None
    return found


class RowCodec:
    """One stream's codec; used by the engine thread only.

    `row_types`: how a record's data may be read where it stands, so that the reader can decode a
    whole line at once; the first is the fastest and takes only values of the declared types. Empty
    where field names do not allow it.
    """

    def __init__(
        self,
        stream: StreamKey,
        columns: Sequence[Column],
        rules: RowRules,
        *,
        nested: Literal["json_string", "reject", "json"],
        key_fields: Sequence[str] = (),
        cursor_field: str | None = None,
        tombstones: Literal["delete", "reject"] | None = None,
    ) -> None:
        self._stream = stream
        self._rules = rules
        self._nested = nested
        attributes = {column.field: f"f{i}" for i, column in enumerate(columns)}

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
        self._sources = list(attributes)
        as_tokens = {self._cursor, self._deleted}
        texts = {attributes[column.field] for column in columns if column.is_text}
        if len(self._keys) > 1 or not texts.issuperset(self._keys):
            as_tokens.update(self._keys)
        self._forms = [
            _Form(columns, attributes, rules, as_tokens),
            _Form(columns, attributes, rules, set(attributes.values())),
        ]
        self.row_types = [form.row_type for form in self._forms if form.row_type is not None]

    def encode(self, data: Sequence[Raw]) -> tuple[RowBlock, list[RejectedRow]]:
        """Encode consecutive records' data; the block's `indexes` are positions in the run."""
        rejected: list[RejectedRow] = []
        indexes: Sequence[int] = range(len(data))
        text = b"".join((b"[", b",".join(data), b"]"))
        for form in self._forms:
            try:
                rows = form.decode(text)
                break
            except _UNDECODABLE:
                continue
        else:
            rows, indexes = self._decode_singly(form, data, rejected)
        return self._encode(form, rows, indexes, rejected, lambda _, index: bytes(data[index]))

    def encode_rows(self, rows: list[Any]) -> tuple[RowBlock, list[RejectedRow]]:
        """Encode rows that were all read as one of `row_types`."""
        form = next(form for form in self._forms if form.row_type is type(rows[0]))
        return self._encode(form, rows, range(len(rows)), [], lambda row, _: self._text(row))

    def _text(self, row: Any) -> bytes:
        members = zip(self._sources, msgspec.structs.astuple(row), strict=True)
        return _encode({source: value for source, value in members if value is not UNSET})

    def _decode_singly(
        self, form: _Form, data: Sequence[Raw], rejected: list[RejectedRow]
    ) -> tuple[list[Any], list[int]]:
        rows, indexes = [], []
        for index, raw in enumerate(data):
            try:
                rows += form.decode(b"[%b]" % raw)
                indexes.append(index)
            except _UNDECODABLE:
                reason = "the record's data is not a JSON object that can be read"
                rejected.append(self._reject("bad_data", reason, bytes(raw), index))
        return rows, indexes

    def _encode(
        self,
        form: _Form,
        rows: list[Any],
        indexes: Sequence[int],
        rejected: list[RejectedRow],
        text_of: _TextOf,
    ) -> tuple[RowBlock, list[RejectedRow]]:
        # versions are compared by the cursor as it came, and a deletion is no value to convert
        cursors = _tokens(rows, self._cursor) if self._cursor else None
        deleted = _tokens(rows, self._deleted) if self._deleted else [_NULL] * len(rows)
        faults: dict[int, str] = {}
        for column in form.tokens if rows else ():
            self._shape(form, column, rows, faults)
        for attribute, booleans in form.booleans:
            _put(rows, attribute, list(map(booleans.__getitem__, _values(rows, attribute))))
        if faults:
            for i, reason in sorted(faults.items()):
                row = text_of(rows[i], indexes[i])
                rejected.append(self._reject("nested_value", reason, row, indexes[i]))
            good = [i for i in range(len(rows)) if i not in faults]
            rows, indexes = [rows[i] for i in good], [indexes[i] for i in good]
            cursors = cursors and [cursors[i] for i in good]
            deleted = [deleted[i] for i in good]
        tombstones: list[Tombstone] = []
        keys: list[Key] | None = None
        if self._keys or self._rules.required_column is not None:
            found = self._key_values(form, rows)
            kept = self._sort(rows, indexes, found, deleted, cursors, tombstones, rejected, text_of)
            if kept is not None:
                rows, indexes = [rows[i] for i in kept], [indexes[i] for i in kept]
                found = [found[i] for i in kept]
                cursors = cursors and [cursors[i] for i in kept]
            keys = cast("list[Key]", found)
        block = RowBlock(form.pieces(rows), len(rows), indexes, keys, cursors, tuple(tombstones))
        return block, rejected

    def _shape(
        self, form: _Form, column: _TokenColumn, rows: list[Any], faults: dict[int, str]
    ) -> None:
        """Convert a column, make nested values compact, or faults, and omit nulls."""
        came: list[Raw] = _values(rows, column.attribute)
        tokens: Sequence[Any] = came
        text = values.SEPARATOR.join(tokens)
        for convert in column.converts:
            tokens = convert(tokens, text)
        where = values.nested_at(text)
        if where and self._nested == "reject":
            reason = f"field {column.field!r} holds a nested value and nested_values is 'reject'"
            faults.update({i: reason for i in where if i not in faults})
        elif where:
            tokens = changed = list(tokens)
            compact = values.NESTED[self._nested]
            for i, nested in zip(where, compact([came[i] for i in where]), strict=True):
                changed[i] = nested
        if form.omits and _NULL in text:
            nulls = [bytes(token) == _NULL for token in came]
            tokens = [_ABSENT if n else t for n, t in zip(nulls, tokens, strict=True)]
        if tokens is not came:
            _put(rows, column.attribute, tokens)

    def _key_values(self, form: _Form, rows: list[Any]) -> Sequence[Key | None]:
        """The key of each row as it is sent; None where the vendor could not find the row by it."""
        if not self._keys:
            return [None] * len(rows)
        if self._keys[0] in form.native:
            keys: Sequence[Key | None] = _values(rows, self._keys[0])
        else:
            columns = [_tokens(rows, attribute) for attribute in self._keys]
            if len(columns) == 1 and not b"".join(columns[0]).translate(None, _DIGITS):
                return columns[0]
            if len(columns) > 1 and self._rules.required_column is None:  # some may be null
                return [
                    key_of(tokens) if tokens.count(_NULL) < len(tokens) else None
                    for tokens in zip(*columns, strict=True)
                ]
            unusable = {_NULL} if self._rules.required_column is None else {_NULL, b'""'}
            return [
                key_of(tokens) if unusable.isdisjoint(tokens) else None
                for tokens in zip(*columns, strict=True)
            ]
        if self._rules.required_column is not None and not all(keys):
            return [key or None for key in keys]
        return keys

    def _sort(
        self,
        rows: list[Any],
        indexes: Sequence[int],
        keys: Sequence[Key | None],
        deleted: list[bytes],
        cursors: list[bytes] | None,
        tombstones: list[Tombstone],
        rejected: list[RejectedRow],
        text_of: _TextOf,
    ) -> list[int] | None:
        """Take out rows without a key and records of deleted rows; None: all rows stay."""
        if (all(keys) or None not in keys) and deleted.count(_NULL) == len(rows):
            return None
        kept: list[int] = []
        for i, (index, key) in enumerate(zip(indexes, keys, strict=True)):
            if key is None:
                reason = "the key is null, empty or absent"
                row = text_of(rows[i], index)
                rejected.append(self._reject("bad_key", reason, row, index))
            elif deleted[i] == _NULL:
                kept.append(i)
            elif self._rejects_deleted:
                reason = "the record says its row was deleted, and this vendor cannot delete a row"
                row = text_of(rows[i], index)
                rejected.append(self._reject("cdc_delete", reason, row, index))
            else:
                tombstones.append(Tombstone(index, key, cursors[i] if cursors else None))
        return kept

    def _reject(self, code: str, reason: str, row: bytes, index: int) -> RejectedRow:
        return RejectedRow(self._stream, "shape", code, reason, row, index)


class _TokenColumn(NamedTuple):
    attribute: str
    field: str
    converts: list[Convert]


class _Form:
    """How rows are held between reading and writing: which columns are read natively.

    A text, integer or boolean column costs less as a Python value than as a token, its type is
    checked on the way, and a null is left out by the encoder. `as_tokens`: the attributes to keep
    as tokens. `hidden`: those that are read and not sent; unset, the encoder leaves them out.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        attributes: dict[str, str],
        rules: RowRules,
        as_tokens: Container[str | None],
    ) -> None:
        sent = [(attributes[column.field], column) for column in columns]
        self.hidden = list(attributes.values())[len(columns) :]
        self.omits = rules.nulls == "omit"
        self.native: dict[str, Any] = {
            attribute: kind
            for attribute, column in sent
            if attribute not in as_tokens and (kind := _native_type(column, rules)) is not None
        }
        self.tokens = [
            _TokenColumn(a, column.field, list(_conversions(column, rules)))
            for a, column in sent
            if a not in self.native
        ]
        self.booleans = [
            (a, values.NATIVE_BOOLEANS[rules.booleans])
            for a, column in sent
            if column.is_boolean and a in self.native and rules.booleans != "json"
        ]
        self._plan_reading(attributes)
        self._plan_writing([c.name for c in columns], [c.field for c in columns])

    def _fields(self, names: dict[str, str]) -> list[tuple[str, Any, Any]]:
        def default(attribute: str) -> Any:
            if attribute in self.hidden:
                return UNSET
            return None if attribute in self.native else _ABSENT

        return [
            (a, self.native.get(a, Raw), msgspec.field(name=name, default=default(a)))
            for a, name in names.items()
        ]

    def _plan_reading(self, attributes: dict[str, str]) -> None:
        self.row_type: Any = None
        is_plain = _can_name(attributes)
        names = {a: field if is_plain else a for field, a in attributes.items()}
        row = msgspec.defstruct("Row", self._fields(names), gc=False, omit_defaults=self.omits)
        if is_plain:
            self.row_type = row
            self.decode: Callable[[bytes], list[Any]] = msgspec.json.Decoder(_list_of(row)).decode
            return
        # names that a struct cannot have go through dicts, which is slower
        decode_dicts = msgspec.json.Decoder(list[dict[str, Raw]]).decode

        def decode(text: bytes) -> list[Any]:
            members = [
                {a: row[field] for field, a in attributes.items() if field in row}
                for row in decode_dicts(text)
            ]
            rows: list[Any] = decode_rows(_encode(members))
            return rows

        decode_rows = msgspec.json.Decoder(_list_of(row)).decode
        self.decode = decode

    def _plan_writing(self, names: list[str], sources: list[str]) -> None:
        self._names = names
        sent = [f"f{i}" for i in range(len(names))]
        self._values_of: Callable[[Any], Any] | None = None
        self._out: Callable[..., Any] | None = None
        if not sent:
            return
        if not _can_name(names):
            self._out = self._named
        elif self.row_type is None or sources != names:
            fields = self._fields(dict(zip(sent, names, strict=True)))
            self._out = msgspec.defstruct("Out", fields, gc=False, omit_defaults=self.omits)
        get = attrgetter(*sent)
        self._values_of = get if len(sent) > 1 else lambda row: (get(row),)

    def _named(self, *members: object) -> dict[str, object]:
        pairs = zip(self._names, members, strict=True)
        return {n: m for n, m in pairs if not self.omits or (m is not None and m is not _ABSENT)}

    def pieces(self, rows: list[Any]) -> Sequence[bytes]:
        """The rows as JSON text, joined by commas; nothing where there is no row."""
        if not rows:
            return ()
        if self._values_of is None:
            return (b",".join([b"{}"] * len(rows)),)
        if self._out is not None:
            rows = list(starmap(self._out, map(self._values_of, rows)))
        else:
            for attribute in self.hidden:  # what is not set is not written
                _put(rows, attribute, repeat(UNSET))
        return (_encode(rows)[1:-1],)


def _native_type(column: Column, rules: RowRules) -> Any:
    """The Python type that holds all values of a column without loss; None where there is none."""
    if column.is_text:
        return str | None
    if column.is_boolean:
        return bool | None
    # of any size: what an `int` cannot hold is no integer to the decoder, and stays a token
    return int | None if column.is_integer and rules.decimals == "number" else None


def _conversions(column: Column, rules: RowRules) -> Iterator[Convert]:
    """What to do with the tokens of a column; those of timestamps come last."""
    if column.may_be_decimal and rules.decimals == "string":
        yield values.number_texts
    if rules.booleans != "json":  # whatever the schema says: a vendor without them takes none
        yield values.BOOLEANS[rules.booleans]
    if column.is_timestamp and rules.timestamps != "as_is":
        yield values.TIMESTAMPS[rules.timestamps]


def _values(rows: list[Any], attribute: str) -> list[Any]:
    return list(map(attrgetter(attribute), rows))


def _tokens(rows: list[Any], attribute: str) -> list[bytes]:
    """The JSON tokens of one field that came as tokens; a conversion may have left a value."""
    found = _values(rows, attribute)
    absent = found.count(UNSET)
    if not absent:
        return list(map(_encode, found))
    if absent == len(rows):
        return [_NULL] * absent
    return [_NULL if value is UNSET else _encode(value) for value in found]


def _put(rows: Sequence[Any], attribute: str, column: Iterable[Any]) -> None:
    deque(map(setattr, rows, repeat(attribute), column), maxlen=0)


def _list_of(row: Any) -> Any:
    return list[row]


def _can_name(names: Iterable[str]) -> bool:
    """Whether msgspec takes all of these as names of struct fields on the wire."""
    return not any(char in '\\"' or char < " " for name in names for char in name)
