"""Keys of rows: made of JSON tokens, taken apart again, and compared by value, not by spelling."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

import msgspec

from destination_bulk_tables.model import Key

_LONGEST_PLAIN = 40  # digits; larger exponents are kept as such


def key_of(tokens: Sequence[bytes]) -> Key:
    """The key of a row by the JSON tokens of its columns; equal values give equal keys."""
    if len(tokens) == 1 and tokens[0][:1] == b'"':
        return msgspec.json.decode(tokens[0], type=str)
    return b",".join(map(canonical, tokens))


def canonical(token: bytes) -> bytes:
    """One spelling for each value: of 1.0 and 1, of an escape and its character."""
    if token[:1] == b'"':
        return msgspec.json.encode(msgspec.json.decode(token)) if b"\\" in token else token
    if token.isdigit():
        return token
    try:
        sign, digits, exponent = Decimal(token.decode()).as_tuple()
    except InvalidOperation:  # no number, or one that no table holds
        return token
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).lstrip("0")
    number = text.rstrip("0")
    exponent += len(text) - len(number)
    if not number:
        return b"0"
    if abs(exponent) > _LONGEST_PLAIN:
        return f"{'-' * sign}{number}E{exponent}".encode()
    return f"{Decimal((sign, tuple(map(int, number)), exponent)):f}".encode()


def text_of(key: Key) -> str:
    """A key as people read it: that of one text column without its quotes."""
    return key if isinstance(key, str) else key.decode()


def key_tokens(key: Key) -> bytes:
    """The JSON tokens of a key's columns, joined by commas."""
    return msgspec.json.encode(key) if isinstance(key, str) else key
