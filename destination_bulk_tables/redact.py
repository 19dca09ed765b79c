"""Keeps the values of rows, and secrets, out of a vendor's text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from destination_bulk_tables.model import RowBlock
from destination_bulk_tables.secrecy import MASK, SECRETS, SHORTEST

# a number with a point, as the row has it and as a float is printed
_decode = msgspec.json.Decoder(float_hook=lambda token: [token, str(float(token))]).decode
_TOKEN = re.compile(r"[^\s'\"`<>\[\]{}(),;:]+")
_ESCAPE = re.compile(r"\\+[nrtbf\"'/\\]")
_WORD = re.compile(r"(?:\\+u[0-9a-fA-F]{4}|[^\W_])+")
_CUT = re.compile(r"\W*$|\s*(?:\.\.|\u2026)")
# what a vendor's sentence is made of, and gives nothing away when a row holds it too
_COMMON_TEXT = (
    "the and for not are was has with this that value values column columns row rows field fields "
    "type types string number integer float date boolean null true false invalid missing required "
    "unknown table error errors msg message code status must expected cannot record records data "
    "index length duplicate unique key"
)
_COMMON = frozenset(_COMMON_TEXT.split())


def mask_values(text: str, block: RowBlock) -> str:
    """A vendor's text without the values of the rows it is about, cut to a readable length.

    Also where it quotes a part of a value, or writes it with escapes: words of values are masked.
    Nothing is left where the rows cannot be read. Secrets go first: a value that is a part of one
    would leave the rest.
    """
    text = SECRETS.mask(text, is_cut=True)
    text = _ESCAPE.sub(" ", text)
    try:
        rows = [_decode(row) for row in block.rows()]
    except (msgspec.DecodeError, ValueError, RecursionError):
        return MASK
    if not all(isinstance(row, dict) for row in rows):
        return MASK  # what the text is about is not known
    values = {value for row in rows for value in _scalars(row)}
    for value in sorted(
        (v for v in values if len(v) >= SHORTEST and v in text), key=len, reverse=True
    ):
        text = text.replace(value, MASK)
    text = _TOKEN.sub(lambda match: MASK if match[0] in values else match[0], text)
    words = {word.casefold() for value in values for word in _WORD.findall(value)}

    def mask(match: re.Match[str]) -> str:
        word = match[0].casefold()
        if len(word) < SHORTEST or word in _COMMON:
            return match[0]
        is_cut = _CUT.match(match.string, match.end()) is not None
        is_quoted = word in words or "\\" in word
        if not is_quoted and is_cut:
            is_quoted = any(known.startswith(word) for known in words)
        return MASK if is_quoted else match[0]

    return _WORD.sub(mask, text)[:500]


def _scalars(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for member in value.values():
            yield from _scalars(member)
    elif isinstance(value, list):
        for member in value:
            yield from _scalars(member)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
