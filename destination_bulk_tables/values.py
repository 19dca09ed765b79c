"""Conversions of a column's values: booleans, numbers as text, masks, nested values.

Each takes the JSON tokens of one column, a run at a time, and gives as many values back; with them
the tokens as they came, before another conversion, as one text. Nothing is parsed that need not be.
A value that is not what its column says is left as it is: the vendor decides.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from destination_bulk_tables.keys import canonical

Convert = Callable[[Sequence[Any], bytes], Sequence[Any]]

SEPARATOR = b"\0"  # what joins tokens to one text: no JSON text holds it
_SEPARATOR = SEPARATOR.decode()
_REDACTED = "***"
_OPENING = frozenset({b"[", b"{"})
_NUMERIC = frozenset(b"%c" % digit for digit in b"-0123456789")
_NULL = Raw(b"null")
_decode_raws = msgspec.json.Decoder(list[Raw]).decode


# --- booleans and numbers

_BOOLEAN_TEXTS: dict[str, dict[bool, bytes]] = {
    "string": {True: b'"true"', False: b'"false"'},
    "number": {True: b"1", False: b"0"},
}


def _booleans(texts: Mapping[bool, bytes]) -> Convert:
    raws = {b"true": Raw(texts[True]), b"false": Raw(texts[False])}

    def convert(tokens: Sequence[Any], text: bytes) -> Sequence[Any]:
        if b"e" not in text or (b"true" not in text and b"false" not in text):
            return tokens
        return [raws.get(bytes(token), token) for token in tokens]

    return convert


BOOLEANS = {name: _booleans(texts) for name, texts in _BOOLEAN_TEXTS.items()}
NATIVE_BOOLEANS: dict[str, dict[bool | None, Raw | None]] = {
    name: {None: None, **{value: Raw(text) for value, text in texts.items()}}
    for name, texts in _BOOLEAN_TEXTS.items()
}


def number_texts(tokens: Sequence[Raw], _: bytes) -> list[Raw]:
    """Numbers as strings with the same digits."""
    return [Raw(b'"%b"' % token) if bytes(token)[:1] in _NUMERIC else token for token in tokens]


# --- coercion to the declared type

_JSON_NUMBER = re.compile(rb'"(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)"')
_BOOLEAN_SPELLINGS = {
    **dict.fromkeys((b"1", b"1.0", b'"1"', b'"true"', b'"True"', b'"TRUE"'), True),
    **dict.fromkeys((b"0", b"0.0", b'"0"', b'"false"', b'"False"', b'"FALSE"'), False),
}


def scalar_texts(tokens: Sequence[Any], _: bytes) -> list[Any]:
    """Numbers and booleans as the text of their token."""
    return [
        Raw(b'"%b"' % token) if bytes(token)[:1] in _SCALAR_STARTS else token for token in tokens
    ]


def scalar_numbers(tokens: Sequence[Any], _: bytes) -> list[Any]:
    """Texts that spell a number as that number, booleans as 1 and 0."""
    return [
        _BITS.get(found) or ((match := _JSON_NUMBER.fullmatch(found)) and Raw(match[1])) or token
        for token in tokens
        for found in (bytes(token),)
    ]


def _scalar_booleans(texts: Mapping[bool, bytes]) -> Convert:
    raws = {spelling: Raw(texts[value]) for spelling, value in _BOOLEAN_SPELLINGS.items()}
    return lambda tokens, _: [raws.get(bytes(token), token) for token in tokens]


_BITS = {b"true": Raw(b"1"), b"false": Raw(b"0")}
_SCALAR_STARTS = _NUMERIC | {b"t", b"f"}
SCALAR_BOOLEANS = {
    name: _scalar_booleans(texts)
    for name, texts in {"json": {True: b"true", False: b"false"}, **_BOOLEAN_TEXTS}.items()
}


# --- masks


def masking(kind: str, length: int | None, salt: bytes) -> Convert:
    """The conversion of a mask; null stays null, and equal values give equal hashes."""

    def hashed(text: str) -> str:
        return hashlib.sha256(salt + text.encode()).hexdigest()

    masks: dict[str, Callable[[str], str]] = {
        "hash": hashed,
        "redact": lambda _: _REDACTED,
        "truncate": lambda text: text[:length],
    }
    mask = masks[kind]
    return lambda tokens, _: [
        token if (text := _text(token)) is None else mask(text) for token in tokens
    ]


def _text(value: object) -> str | None:
    """The text of a value as it would be sent: a number in one spelling, null as None."""
    if isinstance(value, Raw):
        token = bytes(value)
        if token == b"null":
            return None
        if token[:1] == b'"':
            return msgspec.json.decode(token, type=str)
        return canonical(token).decode()
    return None if value is None else str(value)


# --- nested values


def nested_at(text: bytes) -> Sequence[int]:
    """Positions of the objects and arrays among joined tokens."""
    if text[:1] not in _OPENING and b"\0{" not in text and b"\0[" not in text:
        return ()
    count = text.count(SEPARATOR) + 1
    if (text[:1] in _OPENING) + text.count(b"\0{") + text.count(b"\0[") == count:
        return range(count)
    return [i for i, token in enumerate(text.split(SEPARATOR)) if token[:1] in _OPENING]


def json_tokens(tokens: Sequence[Raw]) -> list[Raw]:
    """Nested values as compact JSON; compact, because a record may span lines."""
    return _decode_raws(msgspec.json.format(b"[%b]" % b",".join(tokens), indent=-1))


def json_texts(tokens: Sequence[Raw]) -> list[str]:
    as_came = b"[%b]" % b",".join(tokens)
    compact = msgspec.json.format(as_came, indent=-1)
    if compact == as_came:
        return SEPARATOR.join(tokens).decode().split(_SEPARATOR)
    return [bytes(value).decode() for value in _decode_raws(compact)]


NESTED: dict[str, Callable[[Sequence[Raw]], Sequence[object]]] = {
    "json_string": json_texts,
    "json": json_tokens,
}


_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode


def member(token: bytes, path: Sequence[str]) -> bytes:
    """The token at a path inside a nested value; null where the path does not lead."""
    for name in path:
        try:
            token = bytes(_decode_members(token).get(name, _NULL))
        except msgspec.DecodeError:
            return bytes(_NULL)
    return token
