"""Requests that only read something about a table."""

from __future__ import annotations

from typing import Any

import msgspec

from destination_bulk_tables.model import Table
from destination_bulk_tables.providers.custom_http.answers import Request
from destination_bulk_tables.providers.custom_http.fields import wrong
from destination_bulk_tables.providers.custom_http.templates import Path, Template


class Question:
    """A request about a table, of the settings whose names begin with `setting`."""

    def __init__(self, form: dict[str, Any], setting: str) -> None:
        self._setting = f"{setting}_path"
        self._path = Path.parse(self._setting, form[self._setting], {"table"})
        self.method: str = form.get(f"{setting}_method", "GET")
        text = form.get(f"{setting}_body")
        if text and self.method != "POST":
            raise wrong(f"{setting}_body", f"needs POST as {setting}_method")
        self._body = Template.parse(f"{setting}_body", text, {"table"}) if text else None

    @property
    def names_table(self) -> bool:
        return "table" in self._path.names() | (self._body.names() if self._body else set())

    def request(self, table: Table, *, is_optional: bool = False) -> Request:
        """It only reads, whatever its method."""
        return Request(
            self.method,
            self._path.render(table),
            body=msgspec.json.encode(self._body.render(table)) if self._body else None,
            setting=self._setting,
            table=table,
            is_optional=is_optional,
        )
