"""What replaces a table's content: requests that empty it, or a query on the load."""

from __future__ import annotations

from typing import Any

import msgspec

from destination_bulk_tables.model import Table
from destination_bulk_tables.outcomes import ReplacePlan
from destination_bulk_tables.providers.custom_http.answers import Request
from destination_bulk_tables.providers.custom_http.fields import statuses, texts, wrong
from destination_bulk_tables.providers.custom_http.templates import (
    Path,
    Template,
    plain,
    require_known,
)


class Replace:
    def __init__(self, form: dict[str, Any]) -> None:
        self.kind: str = form.get("replace_type", "none")
        self.requests, self.query = "one", ""
        self.text = texts([form.get("success_text", "")])
        self._success = statuses(
            "replace.success_statuses", form.get("success_statuses", "200-299")
        )
        self._steps: list[tuple[str, Path, Template | str | None]] = []
        if self.kind == "query":
            query = form["query"].strip().lstrip("?&").strip()
            if not query:
                raise wrong("replace.query", "is empty, so nothing would be replaced")
            encoded = Path.parse("replace.query", "/?" + query, ()).text
            self.query = encoded.partition("?")[2]
            self.requests = form.get("requests", "one")
            return
        for number, step in enumerate(form.get("requests", ())):
            where = f"replace.requests[{number}]"
            path = Path.parse(f"{where}.path", step["path"], {"table"})
            body = _replace_body(f"{where}.body", step.get("body"))
            is_inside = "{table}" in (step.get("body") or "")
            if "table" not in path.names() and not is_inside:
                raise wrong(where, "lacks {table}, in its path or in its body")
            self._steps.append((step["method"], path, body))

    def prepare(self, table: Table) -> list[Request]:
        """The requests that empty the table; each may be sent again, and none may come late."""
        requests = []
        for number, (method, path, body) in enumerate(self._steps):
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
                    success=self._success,
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
