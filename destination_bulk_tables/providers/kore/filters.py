"""Filters: expressions of `=`, `!=`, `<` or `>` under one `and` or `or`.

Source: https://koreai.mintlify.app/ai-for-service/apis/automation/query-table-data
(read 2026-11-22)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from destination_bulk_tables.keys import key_tokens
from destination_bulk_tables.model import Key, Table

EVERY_ROW = b'{"expressions":[{"field":"sys_Id","operand":"!=","value":""}],"operator":"and"}'


def all_of(members: Iterable[tuple[str, bytes]]) -> bytes:
    """A filter for the rows with each of these columns' JSON tokens."""
    expressions = [
        b'{"field":%b,"operand":"=","value":%b}' % (msgspec.json.encode(column), token)
        for column, token in members
    ]
    return b'{"expressions":[%b],"operator":"and"}' % b",".join(expressions)


def any_of(column: str, tokens: Iterable[bytes]) -> bytes:
    """A filter for the rows with one of these JSON tokens in a column."""
    start = b'{"field":%b,"operand":"=","value":' % msgspec.json.encode(column)
    expressions = (b"}," + start).join(tokens)
    return b'{"expressions":[%b%b}],"operator":"or"}' % (start, expressions)


def older_than(date: bytes, sys_id: str | None = None) -> bytes:
    """A filter for rows made before this date, as the vendor writes it; or for one of them."""
    dated = b'{"field":"Created_On","operand":"<","value":%b}' % date
    if sys_id is not None:
        dated += b',{"field":"sys_Id","operand":"=","value":%b}' % msgspec.json.encode(sys_id)
    return b'{"expressions":[%b],"operator":"and"}' % dated


def key_filter(table: Table, keys: Sequence[Key]) -> bytes:
    """A filter for keys of one column, joined by `or`, or for one key of several, by `and`."""
    if len(table.key_columns) == 1:
        return any_of(table.key_columns[0], map(key_tokens, keys))
    (key,) = keys
    return all_of(_members(table, key))


def null_columns(table: Table, key: Key) -> tuple[str, ...]:
    """The columns of a key of several that are null."""
    return tuple(column for column, token in _members(table, key) if token == b"null")


def _members(table: Table, key: Key) -> list[tuple[str, bytes]]:
    tokens = msgspec.json.decode(b"[%b]" % key_tokens(key), type=list[msgspec.Raw])
    return list(zip(table.key_columns, map(bytes, tokens), strict=True))


def long_filter(first: str, last: str, length: int) -> bytes:
    """A filter of this many expressions; all but the first and last match no row."""
    between = [f"airbyte-no-such-row-{i}" for i in range(2, length)]
    return any_of("sys_Id", map(msgspec.json.encode, [first, *between, last]))
