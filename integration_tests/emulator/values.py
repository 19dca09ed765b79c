"""Rows as JSON texts: cutting a request body into them, reading them exactly, adding them up.

A row is kept as the text that was received, so that a big integer or a long decimal can be compared
byte by byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import orjson

SYSTEM_FIELDS = frozenset({"_id", "sys_Id", "Created_On", "Updated_On", "Created_By", "Updated_By"})


class MalformedError(ValueError):
    """The body is not JSON of the expected shape."""


_envelope = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_list = msgspec.json.Decoder(list[msgspec.Raw])
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _constant(name: str) -> Any:
    raise MalformedError(f"{name} is not JSON")


def _integer(digits: str) -> int:
    # int() refuses more than 4,300 digits, and Decimal is exact
    return int(Decimal(digits)) if len(digits) > 4_000 else int(digits)


_exact = json.JSONDecoder(parse_float=Decimal, parse_int=_integer, parse_constant=_constant)


def exact(text: bytes) -> Any:
    """Read JSON with integers of any size as int and every other number as Decimal."""
    try:
        return _exact.decode(text.decode())
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise MalformedError(str(error)) from error


def quick(text: bytes) -> Any:
    """Read JSON fast, for its types; exactly where a number is out of the fast range."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        value = exact(text)
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise MalformedError("a lone surrogate is not text") from error
    return value


def rows_of(body: bytes, member: str) -> tuple[list[bytes], list[dict[str, Any]]]:
    """Cut `{"<member>": [{...}, ...]}` into a text per row; also read the rows for types."""
    rows = quick(body)
    if not isinstance(rows, dict) or not isinstance(rows.get(member), list):
        raise MalformedError(f"an array {member!r} is expected")
    rows = rows[member]
    if not all(type(row) is dict for row in rows):
        raise MalformedError(f"{member!r} must hold objects")
    texts = [bytes(raw) for raw in _raw_list.decode(_envelope.decode(body)[member])]
    return texts, rows


def member_text(body: bytes, member: str) -> bytes:
    """Return the text of one member of a JSON object."""
    return bytes(_envelope.decode(body)[member])


def cells(text: bytes | str) -> dict[str, msgspec.Raw]:
    """Split a row into columns whose values stay texts."""
    return _raw_object.decode(text)


def picked(text: bytes, columns: Sequence[str]) -> list[Any]:
    """Read some columns exactly, without reading the rest; an absent one is None."""
    row = cells(text)
    return [exact(bytes(row[column])) if column in row else None for column in columns]


def joined(row: Mapping[str, msgspec.Raw]) -> bytes:
    """Put a split row together again."""
    return msgspec.json.encode(row)


def _canonical(value: Any) -> Any:
    """Make equal values equal texts: 1, 1.0 and 1e0 are one, absent and null members too."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float | Decimal):
        number = Decimal(str(value)) if isinstance(value, float) else Decimal(value)
        sign, digits, exponent = number.as_tuple()
        text = "".join(map(str, digits)).lstrip("0")
        kept = text.rstrip("0")
        return [
            "number",
            sign if kept else 0,
            kept,
            int(exponent) + len(text) - len(kept) if kept else 0,
        ]
    if isinstance(value, Mapping):
        return {
            key: _canonical(member) for key, member in sorted(value.items()) if member is not None
        }
    if isinstance(value, list):
        return [_canonical(member) for member in value]
    return value


def checksum(rows: Iterable[Mapping[str, Any]]) -> str:
    """Add up rows without regard to order, nulls and the vendor's system fields.

    32 hex digits; equal multisets of rows have equal sums. Numbers count by exact value.
    """
    total = 0
    for row in rows:
        own = {key: value for key, value in row.items() if key not in SYSTEM_FIELDS}
        digest = hashlib.blake2b(json.dumps(_canonical(own)).encode(), digest_size=16).digest()
        total += int.from_bytes(digest)
    return f"{total % (1 << 128):032x}"
