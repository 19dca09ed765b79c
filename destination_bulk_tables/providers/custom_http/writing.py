"""The requests that change a table: insert, upsert, and what replaces its content."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from destination_bulk_tables.model import RowBlock, Table
from destination_bulk_tables.providers.custom_http.fields import header_lines, statuses, wrong
from destination_bulk_tables.providers.custom_http.row_templates import (
    RowPath,
    RowTemplate,
    needs_row,
    parse,
    parse_line,
)
from destination_bulk_tables.providers.custom_http.templates import (
    COLUMN,
    IDEMPOTENCY,
    KEY_NAMES,
    TABLE_NAMES,
    Path,
    Template,
)

_MARK = "\0rows"
_KEY = b'"\\u0000idempotency_key"'
_KEY_INSIDE = b"\\u0000idempotency_key\\u0000"
_KEY_MARK = {IDEMPOTENCY: f"\0{IDEMPOTENCY}"}
_BODY_NAMES = TABLE_NAMES | {IDEMPOTENCY}
_NEEDS = {
    "extra_body": ("object", "that is an object"),
    "body_template": ("template", "that is a template"),
    "line_before": ("lines", "of JSON lines"),
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A write for one table: everything but the rows."""

    write: Write
    path: str | RowPath
    before: bytes
    after: bytes
    row: RowTemplate | None

    def path_of(self, block: RowBlock) -> str:
        """The path for these rows; of one, where it holds a value of the row."""
        return self.path if isinstance(self.path, str) else self.path.of(block)

    def unfit(self, block: RowBlock) -> set[int]:
        """The positions of rows that lack a value which a path needs."""
        unfit: set[int] = set()
        for part in (self.row, self.path):
            if isinstance(part, RowTemplate | RowPath):
                unfit.update(part.unfit(block))
        return unfit

    def filled(self, body: bytes, key: str) -> bytes:
        start, end = len(self.before), len(body) - len(self.after)
        before, after = (
            part.replace(_KEY_INSIDE, key.encode()).replace(_KEY, b'"%b"' % key.encode())
            for part in (self.before, self.after)
        )
        return b"".join((before, memoryview(body)[start:end], after))

    def body(self, block: RowBlock) -> bytes:
        """The body; its idempotency key, if it holds one, is not filled in."""
        between = b"\n" if self.write.kind == "lines" else b","
        if self.row is None and between == b",":
            return block.enclosed(self.before, self.after)
        rows = block.rows() if self.row is None else self.row.wrap(block.rows())
        return b"".join((self.before, between.join(rows), self.after))


@dataclass(frozen=True, slots=True)
class Write:
    """Insert or upsert."""

    setting: str
    method: str
    path: Path
    headers: Mapping[str, str]
    success: frozenset[int]
    count_path: str
    kind: str
    rows_path: str
    extra: Template
    row: Template | None
    line: Template | None = None
    prepared: dict[Table, Prepared] = field(default_factory=dict)

    @classmethod
    def insert(cls, form: dict[str, Any]) -> Write:
        body = form["body"]
        row = form.get("row_template")
        rows_path = body.get("rows_path", "rows") if body["body_type"] == "object" else "rows"
        if not all(rows_path.split(".")) or "{" in rows_path:
            raise wrong("body.rows_path", "must be names of members joined by dots")
        line = body.get("line_before") if body["body_type"] == "lines" else None
        write = cls(
            setting="write_path",
            method=form.get("write_method", "POST"),
            path=Path.parse("write_path", form["write_path"], {*TABLE_NAMES, COLUMN}),
            headers={},
            success=statuses("success_statuses", form.get("success_statuses", "200-299")),
            count_path=form.get("count_path", ""),
            kind=body["body_type"],
            rows_path=rows_path,
            extra=_body_template("body.body_template", body["body_template"], _BODY_NAMES)
            if body["body_type"] == "template"
            else Template.object("body.extra_body", body.get("extra_body"), _BODY_NAMES),
            row=parse("row_template", row, TABLE_NAMES) if row else None,
            line=parse_line("body.line_before", line, TABLE_NAMES) if line else None,
        )
        write.require_table()
        write.require_one_row(form)
        return write

    @classmethod
    def upsert(cls, form: dict[str, Any], insert: Write) -> Write:
        upsert: dict[str, Any] = form["upsert"]
        for name, (kind, what) in _NEEDS.items():
            if upsert.get(name) and insert.kind != kind:
                raise wrong(f"upsert.{name}", f"needs a body {what} (body)")
        names = TABLE_NAMES | KEY_NAMES
        in_body, in_row = names | {IDEMPOTENCY}, names | {"row_key"}
        parts: dict[str, tuple[str, Callable[[str, str], object]]] = {
            "path": ("path", lambda field, text: Path.parse(field, text, {*names, "key", COLUMN})),
            "headers": ("headers", header_lines),
            "extra_body": ("extra", lambda field, text: Template.object(field, text, in_body)),
            "body_template": ("extra", lambda field, text: _body_template(field, text, in_body)),
            "row_template": ("row", lambda field, text: parse(field, text, in_row)),
            "line_before": ("line", lambda field, text: parse_line(field, text, in_row)),
            "success_statuses": ("success", statuses),
            "count_path": ("count_path", lambda _, text: "" if text == "none" else text),
        }
        own: dict[str, Any] = {
            part: read(f"upsert.{name}", upsert[name])
            for name, (part, read) in parts.items()
            if upsert.get(name)
        }
        write = replace(
            insert,
            setting="upsert.path" if "path" in own else insert.setting,
            method=upsert.get("method", insert.method),
            prepared={},
            **own,
        )
        write.require_table()
        write.require_one_row(form)
        same = (write.method, write.path, write.headers, write.extra, write.row, write.line)
        if same == (insert.method, insert.path, {}, insert.extra, insert.row, insert.line):
            raise wrong(
                "upsert",
                (
                    "says nothing that differs from the insert: give it a path, method, header, "
                    "member or row template, or choose that the insert replaces rows already"
                ),
            )
        return write

    def require_table(self) -> None:
        row = {name for part in (self.row, self.line) if part for name in part.names()}
        if "table" not in self.path.names() | self.extra.names() | row:
            raise wrong(
                self.setting,
                (
                    "lacks {table}: the table's name must be in the path, in extra_body or in "
                    "row_template"
                ),
            )

    def require_one_row(self, form: dict[str, Any]) -> None:
        """Raise where a path is one row's and a request may hold several."""
        if needs_row(self.path) and form.get("max_rows_per_request") != 1:
            raise wrong("max_rows_per_request", f"must be 1: {self.path.field} holds a row's value")

    @property
    def holds_key(self) -> bool:
        """Whether an idempotency key is to be filled into the body."""
        return IDEMPOTENCY in self.extra.names()

    def prepare(self, table: Table) -> Prepared:
        found = self.prepared.get(table)
        if found is None:
            found = self.prepared[table] = self._prepare(table)
        return found

    def _prepare(self, table: Table) -> Prepared:
        before, after = b"[", b"]"
        if self.kind == "lines":
            before, after = b"", b"\n"
        elif self.kind != "array":
            body = self.extra.render(table, {"rows": _MARK, **_KEY_MARK})
            if self.kind == "object":
                _put(body, self.rows_path.split("."), _MARK)
            text = msgspec.json.encode(body)
            start, _, end = text.partition(b'"\\u0000rows"')
            before, after = start + before, after + end
        return Prepared(
            self,
            RowPath(table, self.path) if needs_row(self.path) else self.path.render(table),
            before,
            after,
            RowTemplate(table, self.row, self.line) if self.row or self.line else None,
        )


def _body_template(field: str, text: str, names: Iterable[str]) -> Template:
    template = Template.parse(field, text, {*names, "rows"}, in_members=True)
    if [part for part in template.texts() if "{rows}" in part] != ["{rows}"]:
        raise wrong(field, 'needs "{rows}" exactly once, as a text of its own')
    return template


def _put(body: Any, steps: Sequence[str], value: str) -> None:
    for step in steps[:-1]:
        body = body.setdefault(step, {})
        if not isinstance(body, dict):
            raise wrong(
                "body.rows_path",
                (
                    f"goes through {step!r}, which extra_body fills with something that is not an "
                    "object"
                ),
            )
    if steps[-1] in body:
        raise wrong("body.rows_path", "names a member that extra_body fills already")
    body[steps[-1]] = value
