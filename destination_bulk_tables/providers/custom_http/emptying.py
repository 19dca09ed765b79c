"""What replaces a table's content: requests that empty it, or a query on the load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from destination_bulk_tables.model import Table
from destination_bulk_tables.outcomes import ReplacePlan
from destination_bulk_tables.providers.custom_http.answers import OK, Request
from destination_bulk_tables.providers.custom_http.fields import statuses, texts, wrong
from destination_bulk_tables.providers.custom_http.templates import (
    Path,
    Template,
    plain,
    require_known,
)


@dataclass(frozen=True, slots=True)
class Replace:
    """How a table is emptied."""

    kind: str = "none"
    steps: tuple[tuple[str, Path, Template | str | None], ...] = ()
    success: frozenset[int] = OK
    text: Sequence[bytes] = ()
    query: str = ""
    requests: str = "one"

    @classmethod
    def parse(cls, form: dict[str, Any]) -> Replace:
        kind = form.get("replace_type", "none")
        if kind == "query":
            query = form["query"].strip().lstrip("?&").strip()
            if not query:
                raise wrong("replace.query", "is empty, so nothing would be replaced")
            encoded = Path.parse("replace.query", "/?" + query, ()).text
            return cls(kind, query=encoded.partition("?")[2], requests=form.get("requests", "one"))
        steps = []
        for number, step in enumerate(form.get("requests", ())):
            where = f"replace.requests[{number}]"
            path = Path.parse(f"{where}.path", step["path"], {"table"})
            body = _replace_body(f"{where}.body", step.get("body"))
            inside = (
                body.names()
                if isinstance(body, Template)
                else {"table"}
                if body and "{table}" in body
                else set()
            )
            if "table" not in path.names() | inside:
                raise wrong(where, "lacks {table}, in its path or in its body")
            steps.append((step["method"], path, body))
        success = statuses("replace.success_statuses", form.get("success_statuses", "200-299"))
        return cls(kind, tuple(steps), success, texts([form.get("success_text", "")]))

    def prepare(self, table: Table) -> list[Request]:
        """The requests that empty the table; each may be sent again, and none may come late."""
        requests = []
        for number, (method, path, body) in enumerate(self.steps):
            is_json = isinstance(body, Template)
            content: bytes | None = None
            if isinstance(body, Template):
                content = msgspec.json.encode(body.render(table))
            elif body is not None:
                content = plain(f"replace.requests[{number}].body", body, table).encode()
            requests.append(
                Request(
                    method,
                    path.render(table),
                    body=content,
                    content_type="application/json" if is_json else "text/plain",
                    repeat="settled",
                    setting="replace.requests",
                    table=table,
                    success=self.success,
                )
            )
        return requests

    def is_flagged(self, plan: ReplacePlan) -> bool:
        """Whether the next request of a load carries the query."""
        return self.kind == "query" and (self.requests == "every" or not plan.begun)

    def is_first(self, plan: ReplacePlan) -> bool:
        """Whether it replaces and may be sent again: nothing else of its load is in yet."""
        return self.kind == "query" and self.requests != "every" and not plan.begun


def _replace_body(where: str, text: str | None) -> Template | str | None:
    if not text:
        return None
    if text.lstrip()[:1] in "{[":
        return Template.parse(where, text, {"table"})
    require_known(where, text, {"table"})
    return text
