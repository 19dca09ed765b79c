"""Compiles a stream's schema into a codec: record data in, blocks of rows and rejected rows out.

The schema decides the columns; undeclared fields are dropped. Values stay JSON tokens
(`msgspec.Raw`), so integers and decimals of any size reach the vendor with all their digits. Work
per row is done in Python only where a column needs it: a timestamp or boolean to convert, a key to
read, a nested value to turn into text. A run whose records hold exactly the declared scalar columns
is passed through as it came.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.model import RejectedRow, RowBlock, Tombstone

if TYPE_CHECKING:
    from destination_bulk_tables.model import JsonObject, JsonValue, Key, StreamKey
    from destination_bulk_tables.provider import RowRules

Convert = Callable[[Raw], Raw]
_NULL = b"null"
_NO_KEY = frozenset({_NULL, b'""'})
_DELETED_AT = "_ab_cdc_deleted_at"
_PASS_THROUGH_TRIES = 3
_encode = msgspec.json.Encoder().encode
# a quote inside a JSON string is always escaped, so these match members of the row only
_NULL_LATER = re.compile(rb',"[^"\\]*":null(?=[,}])')
_NULL_FIRST = re.compile(rb'\{"[^"\\]*":null(?:,|(?=\}))')


@dataclass(frozen=True, slots=True)
class Column:
    """A source field and its column at the vendor, with what the schema says of its values."""

    field: str
    name: str
    is_timestamp: bool = False
    may_be_boolean: bool = False
    may_be_decimal: bool = False
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
    """One stream's codec; used by the engine thread only."""

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
        self._converts = [
            (f"f{i}", convert)
            for i, column in enumerate(columns)
            if (convert := _convert(column, rules))
        ]
        position = {column.field: f"f{i}" for i, column in enumerate(columns)}
        hidden: dict[str, str] = {}  # fields that are read and not sent

        def attribute(field: str) -> str:
            return position.get(field) or hidden.setdefault(field, f"h{len(hidden)}")

        self._keys = [attribute(field) for field in key_fields]
        self._cursor = attribute(cursor_field) if cursor_field else None
        # versions are compared by the cursor as it came, so its conversion waits until it was read
        late = self._cursor if self._cursor not in self._keys else None
        self._late = [(a, convert) for a, convert in self._converts if a == late]
        self._converts = [(a, convert) for a, convert in self._converts if a != late]
        # a boolean that is only sent is converted in the encoded text, where its name and value stand out
        texts = _BOOLEAN_TEXTS.get(rules.booleans)
        self._replace: list[tuple[bytes, bytes]] = []
        if texts and _can_name([column.name for column in columns]):
            booleans = {
                a: column.name
                for a, column in zip(position.values(), columns, strict=True)
                if column.may_be_boolean and not column.is_timestamp and a not in self._keys
            }
            self._converts = [(a, convert) for a, convert in self._converts if a not in booleans]
            self._late = [(a, convert) for a, convert in self._late if a not in booleans]
            for name in booleans.values():
                label = _encode(name)
                self._replace += [
                    (b"%b:%b" % (label, t), b"%b:%b" % (label, to)) for t, to in texts
                ]
        self._deleted = attribute(_DELETED_AT) if tombstones else None
        self._rejects_deleted = tombstones == "reject"
        if not self._keys and rules.required_column is not None:
            self._keys = [position[c.field] for c in columns if c.name == rules.required_column]

        omit = rules.nulls == "omit"
        kind: Any = Raw | UnsetType if omit else Raw
        default: dict[str, Any] = {"default": UNSET if omit else Raw(_NULL)}
        sent = [(f"f{i}", column) for i, column in enumerate(columns)]
        sources = [column.field for column in columns] + list(hidden)
        if _can_name(sources):
            read = [(a, kind, msgspec.field(name=column.field, **default)) for a, column in sent]
            read += [
                (a, Raw, msgspec.field(name=field, default=Raw(_NULL)))
                for field, a in hidden.items()
            ]
            row = msgspec.defstruct("Row", read, gc=False)
            self._decode_row = msgspec.json.Decoder(row).decode
            self._decode = msgspec.json.Decoder(_list_of(row)).decode
        else:
            read = [(a, kind, msgspec.field(**default)) for a, _ in sent]
            read += [(a, Raw, msgspec.field(default=Raw(_NULL))) for a in hidden.values()]
            self._use_dicts(sources, msgspec.defstruct("Row", read, gc=False))
        self._out: Any = None
        self._names = [column.name for column in columns]
        self._astuple = attrgetter(*[a for a, _ in sent]) if len(sent) > 1 else None
        if not _can_name(self._names):
            self._out = self._named
        elif sent and (hidden or self._names != sources):
            out = [(a, kind, msgspec.field(name=column.name, **default)) for a, column in sent]
            self._out = msgspec.defstruct("Out", out, gc=False)
        self._pass_through: Any = None
        if columns and not (self._converts or self._late or self._replace or self._out):
            exact = [(a, Raw, msgspec.field(name=column.field)) for a, column in sent]
            struct = msgspec.defstruct("Exact", exact, gc=False, forbid_unknown_fields=True)
            self._pass_through = msgspec.json.Decoder(_list_of(struct)).decode
        self._tries = _PASS_THROUGH_TRIES

    def _use_dicts(self, sources: Sequence[str], row: Any) -> None:
        """Read rows through dicts: slower, for field names that a struct cannot have."""
        decode_dict = msgspec.json.Decoder(dict[str, Raw]).decode
        decode_dicts = msgspec.json.Decoder(list[dict[str, Raw]]).decode
        attributes = row.__struct_fields__

        def build(values: dict[str, Raw]) -> Any:
            return row(
                **{
                    a: values[field]
                    for a, field in zip(attributes, sources, strict=True)
                    if field in values
                }
            )

        self._decode_row = lambda data: build(decode_dict(data))
        self._decode = lambda text: [build(values) for values in decode_dicts(text)]

    def _named(self, *values: Raw | UnsetType) -> dict[str, Raw]:
        pairs = zip(self._names, values, strict=True)
        if self._rules.nulls == "send":
            return {name: value for name, value in pairs if value is not UNSET}
        return {
            name: value for name, value in pairs if value is not UNSET and bytes(value) != _NULL
        }

    def encode(self, data: Sequence[Raw]) -> tuple[RowBlock, list[RejectedRow]]:
        """Encode consecutive records' data; the block's `indexes` are positions in the run."""
        text = b"".join((b"[", b",".join(data), b"]"))
        nested = text.find(b"[", 1) >= 0 or text.count(b"{") != len(data)
        if (
            self._pass_through
            and not nested
            and (self._rules.nulls == "send" or b"null" not in text)
        ):
            try:
                rows = self._pass_through(text)
            except msgspec.ValidationError:
                # undeclared or absent fields; a source that does this does it often, so stop trying
                self._tries -= 1
                if not self._tries:
                    self._pass_through = None
            else:
                return self._block(rows, text[1:-1], range(len(rows)), [], data)
        rejected: list[RejectedRow] = []
        indexes: Sequence[int] = range(len(data))
        try:
            rows = self._decode(text)
        except (msgspec.DecodeError, RecursionError):
            rows, indexes = self._decode_singly(data, rejected)
        _apply(self._converts, rows)
        if nested:
            rows, indexes = self._flatten(rows, indexes, rejected, data)
        return self._block(rows, None, indexes, rejected, data)

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

    def _flatten(
        self,
        rows: list[Any],
        indexes: Sequence[int],
        rejected: list[RejectedRow],
        data: Sequence[Raw],
    ) -> tuple[list[Any], Sequence[int]]:
        """Turn nested values into compact JSON text, or reject their rows."""
        names = [f"f{i}" for i in range(len(self._columns))]
        kept, kept_indexes = [], []
        for row, index in zip(rows, indexes, strict=True):
            reason = None
            for name in names:
                value = getattr(row, name)
                if value is UNSET:
                    continue
                token = bytes(value)
                if token[0] not in b"[{":
                    continue
                if self._nested == "reject":
                    column = self._columns[int(name[1:])].field
                    reason = f"field {column!r} holds a nested value and nested_values is 'reject'"
                    break
                setattr(row, name, Raw(_encode(msgspec.json.format(token, indent=-1).decode())))
            if reason is None:
                kept.append(row)
                kept_indexes.append(index)
            else:
                rejected.append(self._reject("nested_value", reason, bytes(data[index]), index))
        return kept, kept_indexes

    def _block(
        self,
        rows: list[Any],
        body: bytes | None,
        indexes: Sequence[int],
        rejected: list[RejectedRow],
        data: Sequence[Raw],
    ) -> tuple[RowBlock, list[RejectedRow]]:
        """Check keys, take tombstones out, encode what is left (`body`: encoded already)."""
        keys: list[Key] | None = None
        tombstones: list[Tombstone] = []
        if self._keys or self._rules.required_column:
            columns = [self._tokens(rows, attribute) for attribute in self._keys]
            deleted = self._tokens(rows, self._deleted) if self._deleted else None
            is_plain = bool(columns) and all(_NO_KEY.isdisjoint(tokens) for tokens in columns)
            if not is_plain or (deleted and any(token != _NULL for token in deleted)):
                body = None
                rows, indexes = self._sort_out(
                    rows, indexes, columns, deleted, tombstones, rejected, data
                )
                columns = [self._tokens(rows, attribute) for attribute in self._keys]
            keys = (
                columns[0]
                if len(columns) == 1
                else [b",".join(key) for key in zip(*columns, strict=True)]
            )
        cursors = self._tokens(rows, self._cursor) if self._cursor else None
        _apply(self._late, rows)
        if body is None:
            body = self._encode_rows(rows)
        return RowBlock(body, len(rows), indexes, keys, cursors, tuple(tombstones)), rejected

    def _sort_out(
        self,
        rows: list[Any],
        indexes: Sequence[int],
        columns: Sequence[Sequence[bytes]],
        deleted: Sequence[bytes] | None,
        tombstones: list[Tombstone],
        rejected: list[RejectedRow],
        data: Sequence[Raw],
    ) -> tuple[list[Any], list[int]]:
        """Take out the rows without a key and the records of deleted rows; return what is left."""
        kept, kept_indexes = [], []
        cursors = self._tokens(rows, self._cursor) if self._cursor else None
        keys = list(zip(*columns, strict=True)) if columns else [(_NULL,)] * len(rows)
        for i, (row, key, index) in enumerate(zip(rows, keys, indexes, strict=True)):
            if not _NO_KEY.isdisjoint(key):
                reason = "the key is null, empty or absent"
                rejected.append(self._reject("bad_key", reason, bytes(data[index]), index))
            elif not deleted or deleted[i] == _NULL:
                kept.append(row)
                kept_indexes.append(index)
            elif self._rejects_deleted:
                reason = "the record says its row was deleted, and this vendor cannot delete a row"
                rejected.append(self._reject("cdc_delete", reason, bytes(data[index]), index))
            else:
                cursor = cursors[i] if cursors else None
                tombstones.append(Tombstone(index, b",".join(key), cursor))
        return kept, kept_indexes

    def _tokens(self, rows: list[Any], attribute: str) -> list[bytes]:
        """The JSON tokens of one field; null where it is absent."""
        get = attrgetter(attribute)
        if self._rules.nulls == "omit":
            return [_NULL if (value := get(row)) is UNSET else bytes(value) for row in rows]
        return [bytes(get(row)) for row in rows]

    def _encode_rows(self, rows: list[Any]) -> bytes:
        if self._out is not None:
            out, astuple = self._out, self._astuple
            rows = (
                [out(*astuple(row)) for row in rows] if astuple else [out(row.f0) for row in rows]
            )
        elif not self._columns:
            return b",".join([b"{}"] * len(rows))
        body = _encode(rows)[1:-1]
        for old, new in self._replace:
            body = body.replace(old, new)
        if self._rules.nulls == "omit" and b":null" in body:
            body = _NULL_FIRST.sub(b"{", _NULL_LATER.sub(b"", body))
        return body

    def _reject(self, code: str, reason: str, row: bytes, index: int) -> RejectedRow:
        return RejectedRow(self._stream, "shape", code, reason, row, index)


def _list_of(row: Any) -> Any:
    return list[row]


def _apply(converts: Sequence[tuple[str, Convert]], rows: list[Any]) -> None:
    for attribute, convert in converts:
        for row in rows:
            value = getattr(row, attribute)
            if value is not UNSET:
                setattr(row, attribute, convert(value))


def _can_name(names: Sequence[str]) -> bool:
    """Whether msgspec takes all of these as names of struct fields on the wire."""
    return not any(char in '\\"' or char < " " for name in names for char in name)


# --- conversions of one value


def _convert(column: Column, rules: RowRules) -> Convert | None:
    if column.is_timestamp and rules.timestamps != "as_is":
        return _TIMESTAMPS[rules.timestamps]
    if column.may_be_boolean and rules.booleans != "json":
        return _BOOLEANS[rules.booleans]
    if column.may_be_decimal and rules.decimals == "string":
        return _number_text
    return None


def _table(mapping: Mapping[bytes, bytes]) -> Convert:
    raws = {key: Raw(value) for key, value in mapping.items()}
    return lambda raw: raws.get(bytes(raw), raw)


def _number_text(raw: Raw) -> Raw:
    token = bytes(raw)
    return Raw(b'"%b"' % token) if token[0] in b"-0123456789" else raw


_BOOLEAN_TEXTS = {
    "string": [(b"true", b'"true"'), (b"false", b'"false"')],
    "number": [(b"true", b"1"), (b"false", b"0")],
}
_BOOLEANS = {name: _table(dict(texts)) for name, texts in _BOOLEAN_TEXTS.items()}
_STAMP = re.compile(
    rb'"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?\s?'
    rb'(?:(Z|z|UTC)|([+-])(\d\d):?(\d\d)?)?"'
)


def moment(token: bytes) -> datetime | None:
    """Read an ISO 8601 timestamp as UTC, also one without an offset; None for anything else."""
    match = _STAMP.fullmatch(token)
    if not match:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, offset_h, offset_m = match.groups()
    try:
        when = datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            int((fraction or b"0").ljust(6, b"0")[:6]),
            tzinfo=UTC,
        )
        if sign:
            offset = timedelta(hours=int(offset_h), minutes=int(offset_m or 0))
            when = when.replace(tzinfo=timezone(offset if sign == b"+" else -offset)).astimezone(
                UTC
            )
    except (ValueError, OverflowError):
        return None
    return when


_UTC_TAIL = re.compile(rb'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)?"')


def _to_date(raw: Raw) -> Raw:
    token = bytes(raw)
    if _UTC_TAIL.fullmatch(token):
        return Raw(token[:11] + b'"')
    when = moment(token)
    return raw if when is None else Raw(b'"%04d-%02d-%02d"' % (when.year, when.month, when.day))


def _to_iso(raw: Raw) -> Raw:
    token = bytes(raw)
    if _UTC_TAIL.fullmatch(token):
        fraction = (
            token[21:].partition(b"Z")[0].partition(b"+")[0].rstrip(b'"')
            if token[20:21] == b"."
            else b""
        )
        return Raw(b'%b.%bZ"' % (token[:20], fraction[:3].ljust(3, b"0")))
    when = moment(token)
    if when is None:
        return raw
    text = when.isoformat(timespec="milliseconds").removesuffix("+00:00")
    return Raw(b'"%bZ"' % text.encode())


def _to_epoch_ms(raw: Raw) -> Raw:
    when = moment(bytes(raw))
    if when is None:
        return raw
    return Raw(b"%d" % ((when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)))


_TIMESTAMPS: dict[str, Convert] = {"date": _to_date, "iso": _to_iso, "epoch_ms": _to_epoch_ms}
