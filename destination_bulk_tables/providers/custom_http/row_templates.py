"""The JSON around each row, and what may stand in it of that row.

`{row}` is the row as encoded, `{row_values}` a list of its values, `{row_text}` and `{row_base64}`
the row as a text, `{row_key}` an object of its key columns, `{key}` the value of its only key
column, `{row_number}` its place in the request, from 0, as a text. Each is a text of its own in the
template; `{key}`, percent-encoded, and `{row_number}` may also be a part of one.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from destination_bulk_tables.providers.custom_http.fields import wrong
from destination_bulk_tables.providers.custom_http.templates import Template

if TYPE_CHECKING:
    from collections.abc import Iterable

    from destination_bulk_tables.model import Table

_ROWS = frozenset({"row", "row_values", "row_text", "row_base64"})
_PARTS = frozenset({"key", "row_number"})
_KEYS = frozenset({"key", "row_key"})
_OF_A_ROW = _ROWS | _PARTS | _KEYS
# no template and no name may hold U+0000, so nothing else looks like these
_MARK = re.compile(rb'"\\u0000(\w+)"|\\u0000(\w+)\\u0000')
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def parse(field: str, text: str, names: Iterable[str]) -> Template:
    """Raise unless the template holds the row once. `names`: of the table, and `row_key`."""
    template = Template.parse(field, text, _known(names) | _ROWS)
    _require_whole(field, template)
    rows = [part for part in template.texts() if part[1:-1] in _ROWS]
    if len(rows) != 1:
        raise wrong(field, 'needs "{row}" exactly once, as a text of its own')
    return template


def parse_line(field: str, text: str, names: Iterable[str]) -> Template:
    """The line before a row, which holds nothing of it but its key and number."""
    template = Template.parse(field, text, _known(names))
    _require_whole(field, template)
    return template


def _known(names: Iterable[str]) -> set[str]:
    known = {*names, "row_number"}
    return known | ({"key"} if "row_key" in known else set())


def _require_whole(field: str, template: Template) -> None:
    for name in _ROWS | {"row_key"}:
        if any(f"{{{name}}}" in part and part != f"{{{name}}}" for part in template.texts()):
            raise wrong(field, f'needs "{{{name}}}" exactly once, as a text of its own')


class RowTemplate:
    """Wraps rows of one table; either template may be missing."""

    def __init__(self, table: Table, template: Template | None, line: Template | None) -> None:
        text = b'"\\u0000row"' if template is None else _rendered(template, table)
        if line is not None:
            text = _rendered(line, table) + b"\n" + text
        # literal, whole name, inner name, literal, ...
        self._parts: list[bytes | None] = list(_MARK.split(text))
        self._table = table
        names = {part for i, part in enumerate(self._parts) if i % 3 and part}
        self._is_plain = names == {b"row"}
        if b"key" in names and len(table.key_columns) != 1:
            what = (
                f"needs exactly one primary key column; table {table.name} has "
                f"{len(table.key_columns)}"
            )
            raise wrong((template or line or _nothing()).field, f"holds {{key}}, which {what}")

    def wrap(self, rows: Iterable[bytes]) -> list[bytes]:
        if self._is_plain:
            before, after = self._parts[0] or b"", self._parts[3] or b""
            return [before + row + after for row in rows]
        return [self._wrapped(row, number) for number, row in enumerate(rows)]

    def _wrapped(self, row: bytes, number: int) -> bytes:
        members = _members(row)
        parts = []
        for i, part in enumerate(self._parts):
            if i % 3 == 0:
                parts.append(part or b"")
            elif part is not None:
                parts.append(self._value(part, row, members, number, is_whole=i % 3 == 1))
        return b"".join(parts)

    def _value(
        self,
        name: bytes,
        row: bytes,
        members: dict[str, msgspec.Raw],
        number: int,
        *,
        is_whole: bool,
    ) -> bytes:
        match name:
            case b"row":
                return row
            case b"row_values":
                return b"[%b]" % b",".join(members[column] for column in self._table.columns)
            case b"row_text":
                return msgspec.json.encode(row.decode())
            case b"row_base64":
                return b'"%b"' % b64encode(row)
            case b"row_key":
                keys = self._table.key_columns
                return msgspec.json.encode({key: members[key] for key in keys})
            case b"key":
                token = members[self._table.key_columns[0]]
                return bytes(token) if is_whole else _in_path(bytes(token))
            case _:
                return b'"%d"' % number if is_whole else b"%d" % number


def _rendered(template: Template, table: Table) -> bytes:
    return msgspec.json.encode(template.render(table, {name: f"\0{name}" for name in _OF_A_ROW}))


def _in_path(token: bytes) -> bytes:
    text = msgspec.json.decode(token) if token[:1] == b'"' else token.decode()
    return quote(text, safe="").encode()


def _nothing() -> Template:
    return Template("row_template", None)
