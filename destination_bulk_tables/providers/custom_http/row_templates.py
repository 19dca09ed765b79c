"""The JSON around each row, and what may stand in it of that row.

`{row}` is the row as encoded, `{row_values}` a list of its values, `{row_text}` and `{row_base64}`
the row as a text, `{row_key}` an object of its key columns, `{key}` the value of its only key
column, `{column:NAME}` that of any column, `{row_number}` its place in the request, from 0, as a
text. Each is a text of its own in the template; the last three may also be a part of one, where a
value is percent-encoded. In the path of a request that holds one row, values may stand as well.

A value that is null, empty, `.` or `..` makes another path of the one it is put into: such a row is
not sent.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from urllib.parse import quote

import msgspec

from destination_bulk_tables.model import RowBlock, Table
from destination_bulk_tables.providers.custom_http.fields import wrong
from destination_bulk_tables.providers.custom_http.templates import COLUMN, Path, Template

_ROWS = frozenset({"row", "row_values", "row_text", "row_base64"})
_PARTS = frozenset({"key", "row_number"})
_KEYS = frozenset({"key", "row_key"})
_OF_A_ROW = _ROWS | _PARTS | _KEYS
# no template and no name may hold U+0000, so nothing else looks like these
_MARK = re.compile(rb'"\\u0000(\w+)"|\\u0000(\w+)\\u0000')
_PATH_MARK = re.compile(r"%00(\w+)%00")
_NO_SEGMENT = frozenset({"", ".", ".."})
_NULL = msgspec.Raw(b"null")
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
    known = {*names, "row_number", COLUMN}
    return known | ({"key"} if "row_key" in known else set())


def _require_whole(field: str, template: Template) -> None:
    for name in _ROWS | {"row_key"}:
        if any(f"{{{name}}}" in part and part != f"{{{name}}}" for part in template.texts()):
            raise wrong(field, f'needs "{{{name}}}" exactly once, as a text of its own')


class Values:
    """What single columns of a table's rows are where a template names them."""

    def __init__(self, field: str, table: Table, names: Iterable[str]) -> None:
        self._columns: dict[str, str] = {}
        self.marks: dict[str, str] = {}  # of each name, what stands for it in a rendered template
        for name in sorted(names):
            column = _column_of(name, field, table)
            if column is not None:
                mark = f"c{len(self.marks)}"
                self.marks[name] = f"\0{mark}"
                self._columns[mark] = column

    def token(self, mark: str, members: dict[str, msgspec.Raw]) -> bytes | None:
        """The JSON of the value that a mark stands for; None where it is no mark of a column."""
        column = self._columns.get(mark)
        return None if column is None else bytes(members.get(column, b"null"))

    def segment(self, mark: str, members: dict[str, msgspec.Raw]) -> str | None:
        """It as a segment of a path; None where it can be none."""
        token = self.token(mark, members) or b"null"
        if token == b"null":
            return None
        text = msgspec.json.decode(token, type=str) if token[:1] == b'"' else token.decode()
        return None if text in _NO_SEGMENT else quote(text, safe="")


def _column_of(name: str, field: str, table: Table) -> str | None:
    if name == "key":
        if len(table.key_columns) != 1:
            what = (
                f"holds {{key}}, which needs exactly one primary key column; table {table.name} "
                f"has {len(table.key_columns)}"
            )
            raise wrong(field, what)
        return table.key_columns[0]
    column = name.removeprefix("column:")
    if column == name:
        return None
    if column not in table.columns:
        raise wrong(field, f"holds {{{name}}}, and table {table.name} gets no such column")
    return column


class RowTemplate:
    """Wraps rows of one table; either template may be missing."""

    def __init__(self, table: Table, template: Template | None, line: Template | None) -> None:
        given = [part for part in (line, template) if part is not None]
        names = {name for part in given for name in part.names()}
        self._values = Values(given[-1].field, table, names)
        more = {name: f"\0{name}" for name in _OF_A_ROW} | self._values.marks
        texts = [msgspec.json.encode(part.render(table, more)) for part in given]
        if template is None:
            texts.append(b'"\\u0000row"')
        # literal, whole name, inner name, literal, ...
        self._parts: list[bytes | None] = list(_MARK.split(b"\n".join(texts)))
        self._table = table
        self._inner = [
            part.decode() for part in self._parts[2::3] if part and part != b"row_number"
        ]
        self._is_plain = {part for i, part in enumerate(self._parts) if i % 3 and part} == {b"row"}

    def wrap(self, rows: Iterable[bytes]) -> list[bytes]:
        if self._is_plain:
            before, after = self._parts[0] or b"", self._parts[3] or b""
            return [before + row + after for row in rows]
        return [self._wrapped(row, number) for number, row in enumerate(rows)]

    def unfit(self, block: RowBlock) -> list[int]:
        return _unfit(block, self._values, self._inner)

    def _wrapped(self, row: bytes, number: int) -> bytes:
        members = _members(row)
        parts = []
        for i, part in enumerate(self._parts):
            if i % 3 == 0:
                parts.append(part or b"")
            elif part is not None:
                parts.append(self._value(part.decode(), row, members, number, is_whole=i % 3 == 1))
        return b"".join(parts)

    def _value(
        self,
        name: str,
        row: bytes,
        members: dict[str, msgspec.Raw],
        number: int,
        *,
        is_whole: bool,
    ) -> bytes:
        match name:
            case "row":
                return row
            case "row_values":
                return b"[%b]" % b",".join([members.get(c, _NULL) for c in self._table.columns])
            case "row_text":
                return msgspec.json.encode(row.decode())
            case "row_base64":
                return b'"%b"' % b64encode(row)
            case "row_key":
                keys = self._table.key_columns
                return msgspec.json.encode({key: members[key] for key in keys})
            case "row_number":
                return b'"%d"' % number if is_whole else b"%d" % number
            case _ if is_whole:
                return self._values.token(name, members) or b"null"
            case _:
                return (self._values.segment(name, members) or "").encode()


class RowPath:
    """The path of a request that holds one row, with values of it."""

    def __init__(self, table: Table, path: Path) -> None:
        self._values = Values(path.field, table, path.names())
        marks = {name: f"{mark}\0" for name, mark in self._values.marks.items()}
        # literal, name, literal, ...
        self._parts = _PATH_MARK.split(path.render(table, marks))
        self.shown = "*".join(self._parts[::2])  # for who looks at requests, and at no row

    def of(self, block: RowBlock) -> str:
        """The path for the only row of a block that is not unfit."""
        (row,) = block.rows()
        members = _members(row)
        parts = list(self._parts)
        parts[1::2] = [self._values.segment(mark, members) or "" for mark in parts[1::2]]
        return "".join(parts)

    def unfit(self, block: RowBlock) -> list[int]:
        return _unfit(block, self._values, self._parts[1::2])


def needs_row(path: Path) -> bool:
    """Whether a path holds a value of the row."""
    return any(name == "key" or name.startswith("column:") for name in path.names())


def _unfit(block: RowBlock, values: Values, marks: list[str]) -> list[int]:
    if not marks:
        return []
    return [
        i
        for i, members in enumerate(map(_members, block.rows()))
        if any(values.segment(mark, members) is None for mark in marks)
    ]
