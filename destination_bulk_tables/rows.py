"""One stream's codec: record data in, encoded rows and rejected rows out.

The schema decides the columns; undeclared fields are dropped. Values stay JSON tokens
(`msgspec.Raw`), so decimals of any size reach the vendor with all their digits; text, integers and
booleans of columns that hold nothing else become Python values, which is cheaper. A run of
records is worked on a column at a time, and a column that needs nothing costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, Literal, cast

import msgspec
from msgspec import UNSET, Raw

from destination_bulk_tables import timestamps, values
from destination_bulk_tables.columns import Column, Extra
from destination_bulk_tables.keys import key_of
from destination_bulk_tables.model import (
    UNDECODABLE,
    Key,
    RejectedRow,
    RowBlock,
    StreamKey,
    Tombstone,
)
from destination_bulk_tables.provider import RowRules
from destination_bulk_tables.row_form import (
    ABSENT,
    EMITTED,
    NULL,
    RowForm,
    TokenColumn,
    are_blank,
    encode,
    is_absent,
    put,
    tokens_in,
    values_in,
)
from destination_bulk_tables.sample import FieldSample

_DIGITS = b"0123456789"
CDC_DELETED_AT = "_ab_cdc_deleted_at"
_TextOf = Callable[[Any, int], bytes]


class RowCodec:
    """One stream's codec; used by the engine thread only.

    `cursor_path`: where inside `cursor_field` the cursor is. `extras`: columns that no field feeds;
    one of the message's time wants the times of a run beside its records (`wants_time`). `coerces`:
    scalars become what their column declares. `salt`: for masks. `sample`: looks at the first
    records' fields.

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
        cursor_path: Sequence[str] = (),
        tombstones: Literal["delete", "reject"] | None = None,
        extras: Sequence[Extra] = (),
        coerces: bool = False,
        salt: str = "",
        sample: FieldSample | None = None,
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
        self._cursor_path = cursor_path
        self._sample = sample
        self._deleted = attribute(CDC_DELETED_AT) if tombstones else None
        self._rejects_deleted = tombstones == "reject"
        self.wants_time = any(extra.token is None for extra in extras)
        self._emitted = attribute(EMITTED) if self.wants_time else None
        self._sources = list(attributes)
        as_tokens = {self._cursor, self._deleted}
        texts = {attributes[column.field] for column in columns if column.is_text}
        if len(self._keys) > 1 or not texts.issuperset(self._keys):
            as_tokens.update(self._keys)
        self._forms = [
            RowForm(columns, extras, attributes, rules, kept, coerces=coerces, salt=salt.encode())
            for kept in (as_tokens, set(attributes.values()))
        ]
        self.row_types = [form.row_type for form in self._forms if form.row_type is not None]

    def encode(
        self, data: Sequence[Raw], times: Sequence[Raw] = ()
    ) -> tuple[RowBlock, list[RejectedRow]]:
        """Encode consecutive records' data; the block's `indexes` are positions in the run.

        Raises `ConfigError` where the first records, or a run without any value, are not what the
        schema says.
        """
        if self._sample is not None and not self._sample.is_done:
            self._sample.look(data)
        rejected: list[RejectedRow] = []
        indexes: Sequence[int] = range(len(data))
        text = b"".join((b"[", b",".join(data), b"]"))
        for form in self._forms:
            try:
                rows = form.decode(text)
                break
            except UNDECODABLE:
                continue
        else:
            rows, indexes = self._decode_singly(form, data, rejected)
        if self._sample is not None and are_blank(rows):
            self._sample.look_at_blank(data)
        self._stamp(rows, [times[i] for i in indexes] if times else ())
        return self._encode(form, rows, indexes, rejected, lambda _, index: bytes(data[index]))

    def encode_rows(
        self, rows: list[Any], times: Sequence[Raw] = ()
    ) -> tuple[RowBlock, list[RejectedRow]]:
        """Encode rows that were all read as one of `row_types`."""
        self._stamp(rows, times)
        form = next(form for form in self._forms if form.row_type is type(rows[0]))
        return self._encode(form, rows, range(len(rows)), [], lambda row, _: self._text(row))

    def _stamp(self, rows: list[Any], times: Sequence[Raw]) -> None:
        """Give each row the time at which its message was emitted."""
        if self._emitted is not None:
            stamps = (
                timestamps.emitted_at(times, self._rules.timestamps) if times else repeat(ABSENT)
            )
            put(rows, self._emitted, stamps)

    def _text(self, row: Any) -> bytes:
        members = zip(self._sources, msgspec.structs.astuple(row), strict=True)
        return encode(
            {source: value for source, value in members if value is not UNSET and source != EMITTED}
        )

    def _decode_singly(
        self, form: RowForm, data: Sequence[Raw], rejected: list[RejectedRow]
    ) -> tuple[list[Any], list[int]]:
        rows, indexes = [], []
        for index, raw in enumerate(data):
            try:
                rows += form.decode(b"[%b]" % raw)
                indexes.append(index)
            except UNDECODABLE:
                reason = "the record's data is not a JSON object that can be read"
                rejected.append(self._reject("bad_data", reason, bytes(raw), index))
        return rows, indexes

    def _encode(
        self,
        form: RowForm,
        rows: list[Any],
        indexes: Sequence[int],
        rejected: list[RejectedRow],
        text_of: _TextOf,
    ) -> tuple[RowBlock, list[RejectedRow]]:
        # versions are compared by the cursor as it came, and a deletion is no value to convert
        cursors = tokens_in(rows, self._cursor) if self._cursor else None
        if cursors and self._cursor_path:
            cursors = [values.member(token, self._cursor_path) for token in cursors]
        mark = self._deleted
        absent = mark if mark is not None and is_absent(rows, mark) else None
        deleted = [NULL] * len(rows) if mark is None or absent else tokens_in(rows, mark)
        faults: dict[int, str] = {}
        for column in form.tokens if rows else ():
            self._shape(form, column, rows, faults)
        for attribute, booleans in form.booleans:
            put(rows, attribute, list(map(booleans.__getitem__, values_in(rows, attribute))))
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
        block = RowBlock(
            form.pieces(rows, absent), len(rows), indexes, keys, cursors, tuple(tombstones)
        )
        return block, rejected

    def _shape(
        self, form: RowForm, column: TokenColumn, rows: list[Any], faults: dict[int, str]
    ) -> None:
        """Convert a column, make nested values compact, or faults, and omit nulls."""
        came: list[Raw] = values_in(rows, column.attribute)
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
        if column.mask is not None:
            tokens = column.mask(tokens, text)
        if form.omits and NULL in text:
            nulls = [bytes(token) == NULL for token in came]
            tokens = [ABSENT if n else t for n, t in zip(nulls, tokens, strict=True)]
        if tokens is not came:
            put(rows, column.attribute, tokens)

    def _key_values(self, form: RowForm, rows: list[Any]) -> Sequence[Key | None]:
        """The key of each row as it is sent; None where the vendor could not find the row by it."""
        if not self._keys:
            return [None] * len(rows)
        if self._keys[0] in form.native:
            keys: Sequence[Key | None] = values_in(rows, self._keys[0])
        else:
            columns = [tokens_in(rows, attribute) for attribute in self._keys]
            if len(columns) == 1 and not b"".join(columns[0]).translate(None, _DIGITS):
                return columns[0]
            if len(columns) > 1 and self._rules.required_column is None:  # some may be null
                return [
                    key_of(tokens) if tokens.count(NULL) < len(tokens) else None
                    for tokens in zip(*columns, strict=True)
                ]
            unusable = {NULL} if self._rules.required_column is None else {NULL, b'""'}
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
        if (all(keys) or None not in keys) and deleted.count(NULL) == len(rows):
            return None
        kept: list[int] = []
        for i, (index, key) in enumerate(zip(indexes, keys, strict=True)):
            if key is None:
                reason = "the key is null, empty or absent"
                row = text_of(rows[i], index)
                rejected.append(self._reject("bad_key", reason, row, index))
            elif deleted[i] == NULL:
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
