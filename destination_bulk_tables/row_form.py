"""How rows are held between reading and writing, compiled from a stream's columns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import repeat, starmap
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from destination_bulk_tables import timestamps, values
from destination_bulk_tables.columns import Column, Extra
from destination_bulk_tables.provider import RowRules
from destination_bulk_tables.values import Convert

NULL = b"null"
EMITTED = "\ue000emitted_at"  # no field of a source: it stands for the message's own time
ABSENT = Raw(NULL)  # an encoder that omits nulls knows it by identity
encode = msgspec.json.Encoder().encode


class TokenColumn(NamedTuple):
    """A column that is held as JSON tokens; `mask` comes after everything else."""

    attribute: str
    field: str
    converts: list[Convert]
    mask: Convert | None


class RowForm:
    """How rows are held between reading and writing: which columns are read natively.

    A text, integer or boolean column costs less as a Python value than as a token, its type is
    checked on the way, and a null is left out by the encoder. `as_tokens`: the attributes to keep
    as tokens. `hidden`: those that are read and not sent; unset, the encoder leaves them out.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        extras: Sequence[Extra],
        attributes: dict[str, str],
        rules: RowRules,
        as_tokens: Container[str | None],
        *,
        coerces: bool,
        salt: bytes,
    ) -> None:
        sent = [(attributes[column.field], column) for column in columns]
        self.hidden = list(attributes.values())[len(columns) :]
        self.emitted = attributes.get(EMITTED, "")
        self._extras = extras
        self.omits = rules.nulls == "omit"
        self.native: dict[str, Any] = {
            attribute: kind
            for attribute, column in sent
            if attribute not in as_tokens and (kind := _native_type(column, rules)) is not None
        }
        self.tokens = [
            TokenColumn(
                a,
                column.field,
                list(_conversions(column, rules, coerces=coerces)),
                values.masking(column.mask, column.mask_length, salt) if column.mask else None,
            )
            for a, column in sent
            if a not in self.native
        ]
        self.booleans = [
            (a, values.NATIVE_BOOLEANS[rules.booleans])
            for a, column in sent
            if column.is_boolean and a in self.native and rules.booleans != "json"
        ]
        self._plan_reading(attributes)
        self._plan_writing(columns)

    def _fields(self, names: dict[str, str]) -> list[tuple[str, Any, Any]]:
        def default(attribute: str) -> Any:
            if attribute in self.hidden:
                return UNSET
            return None if attribute in self.native else ABSENT

        return [
            (a, self.native.get(a, Raw), msgspec.field(name=name, default=default(a)))
            for a, name in names.items()
        ]

    def _plan_reading(self, attributes: dict[str, str]) -> None:
        self.row_type: Any = None
        is_plain = _can_name(attributes)
        names = {a: field if is_plain else a for field, a in attributes.items()}
        constants = {
            f"c{i}": ABSENT if extra.token == NULL else Raw(extra.token)
            for i, extra in enumerate(self._extras)
            if extra.token is not None
        }
        row = msgspec.defstruct(
            "Row",
            self._fields(names),
            gc=False,
            omit_defaults=self.omits,
            namespace=constants,  # read like a member of each row, and held once
        )
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
            rows: list[Any] = decode_rows(encode(members))
            return rows

        decode_rows = msgspec.json.Decoder(_list_of(row)).decode
        self.decode = decode

    def _plan_writing(self, columns: Sequence[Column]) -> None:
        sources = [column.field for column in columns]
        self._names = [column.name for column in columns]
        sent = [f"f{i}" for i in range(len(columns))]
        self._values_of: Callable[[Any], Any] | None = None
        self._out: Callable[..., Any] | None = None
        fields = self._fields(dict(zip(sent, self._names, strict=True)))
        for i, extra in enumerate(self._extras):
            fields.append((f"c{i}", Raw, msgspec.field(name=extra.name, default=ABSENT)))
            self._names.append(extra.name)
            sent.append(self.emitted if extra.token is None else f"c{i}")
        if not sent:
            return
        if not _can_name(self._names):
            self._out = self._named
        elif self.row_type is None or sources != self._names:
            self._out = msgspec.defstruct("Out", fields, gc=False, omit_defaults=self.omits)
        get = attrgetter(*sent)
        self._values_of = get if len(sent) > 1 else lambda row: (get(row),)

    def _named(self, *members: object) -> dict[str, object]:
        pairs = zip(self._names, members, strict=True)
        return {n: m for n, m in pairs if not self.omits or (m is not None and m is not ABSENT)}

    def pieces(self, rows: list[Any], absent: str | None = None) -> Sequence[bytes]:
        """The rows as JSON text, joined by commas; nothing where there is no row.

        `absent`: a hidden attribute that no row has.
        """
        if not rows:
            return ()
        if self._values_of is None:
            return (b",".join([b"{}"] * len(rows)),)
        if self._out is not None:
            rows = list(starmap(self._out, map(self._values_of, rows)))
        else:
            for attribute in self.hidden:  # what is not set is not written
                if attribute != absent:
                    put(rows, attribute, repeat(UNSET))
        return (encode(rows)[1:-1],)


def _native_type(column: Column, rules: RowRules) -> Any:
    """The Python type that holds all values of a column without loss; None where there is none."""
    if column.mask:
        return None
    if column.is_text:
        return str | None
    if column.is_boolean:
        return bool | None
    # of any size: what an `int` cannot hold is no integer to the decoder, and stays a token
    return int | None if column.is_integer and rules.decimals == "number" else None


def _conversions(column: Column, rules: RowRules, *, coerces: bool) -> Iterator[Convert]:
    """What to do with the tokens of a column; those of timestamps come last."""
    if coerces and column.is_text:
        yield values.scalar_texts
    if coerces and column.is_boolean:
        yield values.SCALAR_BOOLEANS[rules.booleans]
    if coerces and column.is_number:
        yield values.scalar_numbers
    if column.may_be_decimal and rules.decimals == "string":
        yield values.number_texts
    if rules.booleans != "json":  # whatever the schema says: a vendor without them takes none
        yield values.BOOLEANS[rules.booleans]
    if column.is_timestamp and rules.timestamps != "as_is":
        yield timestamps.TIMESTAMPS[rules.timestamps]


def are_blank(rows: Sequence[Any]) -> bool:
    """Whether no row has a value: all are null, or their records hold other fields."""
    blank = type(rows[0])() if rows else None
    return bool(rows) and rows[0] == blank and all(row == blank for row in rows)


def values_in(rows: list[Any], attribute: str) -> list[Any]:
    return list(map(attrgetter(attribute), rows))


def is_absent(rows: list[Any], attribute: str) -> bool:
    """Whether no row has a field that came as tokens."""
    return values_in(rows, attribute).count(UNSET) == len(rows)


def tokens_in(rows: list[Any], attribute: str) -> list[bytes]:
    """The JSON tokens of one field that came as tokens; a conversion may have left a value."""
    found = values_in(rows, attribute)
    absent = found.count(UNSET)
    if not absent:
        return list(map(encode, found))
    if absent == len(rows):
        return [NULL] * absent
    return [NULL if value is UNSET else encode(value) for value in found]


def put(rows: Sequence[Any], attribute: str, column: Iterable[Any]) -> None:
    deque(map(setattr, rows, repeat(attribute), column), maxlen=0)


def _list_of(row: Any) -> Any:
    return list[row]


def _can_name(names: Iterable[str]) -> bool:
    """Whether msgspec takes all of these as names of struct fields on the wire."""
    return not any(char in '\\"' or char < " " for name in names for char in name)
