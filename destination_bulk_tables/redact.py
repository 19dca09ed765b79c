"""Keeps secrets and row values out of everything that is printed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from destination_bulk_tables.model import JsonObject, JsonValue, RowBlock

MASK = "****"
_SHORTEST = 3  # shorter values ("1", "EU") would mask half of every text and give nothing away
# a number with a point, as the row has it and as a float is printed
_decode = msgspec.json.Decoder(float_hook=lambda token: [token, str(float(token))]).decode
_TOKEN = re.compile(r"[^\s'\"`<>\[\]{}(),;:]+")
_ESCAPE = re.compile(r"\\+[nrtbf\"'/\\]")
_WORD = re.compile(r"(?:\\+u[0-9a-fA-F]{4}|[^\W_])+")
# a JWT, or a Basic pair: base64, which no plain word is that has a capital or a digit inside
_MADE_OF_SECRETS = re.compile(
    r"eyJ[\w-]+\.eyJ[\w-]+\.[\w-]*|[Bb]asic\s+(?=[a-zA-Z][a-z+/]*[A-Z0-9=])[A-Za-z0-9+/]{8,}={0,2}"
)
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
    Nothing is left where the rows cannot be read.
    """
    text = _ESCAPE.sub(" ", text)
    try:
        rows = [_decode(row) for row in block.rows()]
    except (msgspec.DecodeError, ValueError, RecursionError):
        return MASK
    if not all(isinstance(row, dict) for row in rows):
        return MASK  # what the text is about is not known
    values = {value for row in rows for value in _scalars(row)}
    for value in sorted(
        (v for v in values if len(v) >= _SHORTEST and v in text), key=len, reverse=True
    ):
        text = text.replace(value, MASK)
    text = _TOKEN.sub(lambda match: MASK if match[0] in values else match[0], text)
    words = {word.casefold() for value in values for word in _WORD.findall(value)}

    def mask(match: re.Match[str]) -> str:
        word = match[0].casefold()
        if len(word) < _SHORTEST or word in _COMMON:
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


def secrets_of(config: JsonValue, spec: JsonObject) -> list[str]:
    """The values of all `airbyte_secret` members, longest first.

    Also each line of them, and of a line such as `Name: value` the value.
    """
    found: set[str] = set()

    def visit(value: JsonValue, schema: JsonValue) -> None:
        if not isinstance(schema, dict):
            return
        if schema.get("airbyte_secret") is True and isinstance(value, str):
            lines = [value, *value.splitlines()]
            lines += [line.partition(":")[2] for line in lines]  # what a header line holds
            found.update(line.strip() for line in lines if len(line.strip()) >= _SHORTEST)
        branches = schema.get("oneOf")
        for branch in branches if isinstance(branches, list) else []:
            visit(value, branch)
        properties = schema.get("properties")
        if isinstance(value, dict) and isinstance(properties, dict):
            for name, member in value.items():
                visit(member, properties.get(name))
        if isinstance(value, list):
            for member in value:
                visit(member, schema.get("items"))

    visit(config, spec)
    return sorted(found, key=len, reverse=True)


def mask_secrets(text: str, secrets: Iterable[str]) -> str:
    """The text without any of the secrets, nor a pair or a signed token made of one."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return _MADE_OF_SECRETS.sub(MASK, text)
