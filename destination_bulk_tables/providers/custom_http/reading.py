"""The requests that only read: the connection test, and how many rows a table holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import HttpResponse
from destination_bulk_tables.model import Table
from destination_bulk_tables.providers.custom_http.answers import Request
from destination_bulk_tables.providers.custom_http.fields import dig, statuses, texts, wrong
from destination_bulk_tables.providers.custom_http.templates import Path, Template


@dataclass(frozen=True, slots=True)
class Check:
    """The request of the connection test."""

    method: str
    path: str
    success: frozenset[int]
    text: list[bytes]

    @classmethod
    def parse(cls, form: dict[str, Any]) -> Check:
        path = Path.parse("check_path", form["check_path"], ())
        success = statuses("check_statuses", form.get("check_statuses", "200-299"))
        method, text = form.get("check_method", "GET"), texts([form.get("check_text", "")])
        if text and method == "HEAD":
            raise wrong("check_text", "needs an answer with a body, and check_method is HEAD")
        return cls(method, path.text, success, text)


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows a table holds."""

    path: Path
    value: str
    method: str = "GET"
    body: Template | None = None

    @classmethod
    def parse(cls, form: dict[str, Any]) -> Count | None:
        path, value = form.get("table_count_path"), form.get("table_count_value")
        if not path and not value:
            return None
        if not path:
            raise wrong("table_count_path", "is missing, and table_count_value is given")
        if not value:
            raise wrong("table_count_value", "is missing, and table_count_path is given")
        parsed = Path.parse("table_count_path", path, {"table"})
        method, text = form.get("table_count_method", "GET"), form.get("table_count_body")
        if text and method != "POST":
            raise wrong("table_count_body", "needs POST as table_count_method")
        if method == "HEAD" and not value.startswith("header:"):
            raise wrong("table_count_value", "must be header:NAME, as HEAD is answered by no body")
        body = Template.parse("table_count_body", text, {"table"}) if text else None
        if "table" not in parsed.names() | (body.names() if body else set()):
            raise wrong("table_count_path", "lacks {table}")
        return cls(parsed, value, method, body)

    def request(self, table: Table) -> Request:
        """It only reads, whatever its method."""
        return Request(
            self.method,
            self.path.render(table),
            body=msgspec.json.encode(self.body.render(table)) if self.body else None,
            setting="table_count_path",
            table=table,
        )

    def read(self, response: HttpResponse, table: Table) -> int:
        try:
            if self.value.startswith("header:"):
                name = self.value.partition(":")[2].strip().lower()
                return int(response.headers[name].rpartition("/")[2])
            found = dig(response.parsed(), self.value)
            if isinstance(found, int | float | str) and not isinstance(found, bool):
                return int(found)
        except (KeyError, ValueError, OverflowError):
            pass
        message = (
            f"The API's answer about table {table.name} has no number where table_count_value "
            "says. Correct it."
        )
        raise ConfigError(message, stream=table.stream)
