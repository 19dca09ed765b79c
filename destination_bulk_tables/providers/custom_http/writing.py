"""The requests that change a table: insert, upsert, and what replaces its content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A write for one table: everything but the rows."""

    method: str
    path: str
    headers: Mapping[str, str]
    success: frozenset[int]
    count_path: str
    setting: str
    before: bytes
    after: bytes
    between: bytes
    row: RowTemplate | None
    content_type: str
    row_path: RowPath | None = None
    holds_key: bool = False  # an idempotency key is to be filled in

    def path_of(self, block: RowBlock) -> str:
        """The path for these rows; of one, where it holds a value of the row."""
        return self.path if self.row_path is None else self.row_path.of(block)

    def unfit(self, block: RowBlock) -> set[int]:
        """The positions of rows that lack a value which a path needs."""
        unfit: set[int] = set()
        for part in (self.row, self.row_path):
            unfit.update(part.unfit(block) if part is not None else ())
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
        if self.row is None and self.between == b",":
            return block.enclosed(self.before, self.after)
        rows = block.rows() if self.row is None else self.row.wrap(block.rows())
        return b"".join((self.before, self.between.join(rows), self.after))


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
    def upsert(cls, form: dict[str, Any], upsert: dict[str, Any]) -> Write:
        insert = cls.insert(form)
        names = TABLE_NAMES | KEY_NAMES
        in_path, in_body = {*names, "key", COLUMN}, names | {IDEMPOTENCY}
        path, extra, row = (upsert.get(name) for name in ("path", "extra_body", "row_template"))
        own = upsert.get("success_statuses")
        counted = upsert.get("count_path")
        if extra and insert.kind != "object":
            raise wrong("upsert.extra_body", "needs a body that is an object (body)")
        whole, line = upsert.get("body_template"), upsert.get("line_before")
        if whole and insert.kind != "template":
            raise wrong("upsert.body_template", "needs a body that is a template (body)")
        if line and insert.kind != "lines":
            raise wrong("upsert.line_before", "needs a body of JSON lines (body)")
        body = Template.object("upsert.extra_body", extra, in_body) if extra else insert.extra
        write = cls(
            setting="upsert.path" if path else "write_path",
            method=upsert.get("method", insert.method),
            path=Path.parse("upsert.path", path, in_path) if path else insert.path,
            headers=header_lines("upsert.headers", upsert.get("headers")),
            success=statuses("upsert.success_statuses", own) if own else insert.success,
            count_path="" if counted == "none" else counted or insert.count_path,
            kind=insert.kind,
            rows_path=insert.rows_path,
            extra=_body_template("upsert.body_template", whole, in_body) if whole else body,
            row=parse("upsert.row_template", row, {*names, "row_key"}) if row else insert.row,
            line=parse_line("upsert.line_before", line, {*names, "row_key"})
            if line
            else insert.line,
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

    def prepare(self, table: Table) -> Prepared:
        found = self.prepared.get(table)
        if found is None:
            found = self.prepared[table] = self._prepare(table)
        return found

    def _prepare(self, table: Table) -> Prepared:
        before, after, between = b"[", b"]", b","
        if self.kind == "lines":
            before, after, between = b"", b"\n", b"\n"
        elif self.kind == "template":
            text = msgspec.json.encode(self.extra.render(table, {"rows": _MARK, **_KEY_MARK}))
            before, _, after = text.partition(b'"\\u0000rows"')
            before, after = before + b"[", b"]" + after
        elif self.kind == "object":
            body = self.extra.render(table, _KEY_MARK)
            _put(body, self.rows_path.split("."), _MARK)
            before, _, after = msgspec.json.encode(body).partition(b'"\\u0000rows"')
            before, after = before + b"[", b"]" + after
        row_path = RowPath(table, self.path) if needs_row(self.path) else None
        return Prepared(
            method=self.method,
            path="" if row_path else self.path.render(table),
            headers=self.headers,
            success=self.success,
            count_path=self.count_path,
            setting=self.setting,
            before=before,
            after=after,
            between=between,
            row=RowTemplate(table, self.row, self.line) if self.row or self.line else None,
            content_type="application/x-ndjson" if self.kind == "lines" else "application/json",
            row_path=row_path,
            holds_key=IDEMPOTENCY in self.extra.names(),
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
