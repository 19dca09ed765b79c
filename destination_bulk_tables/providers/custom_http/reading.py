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
class Question:
    """A request about a table, of the settings whose names begin with `setting`."""

    setting: str
    method: str
    path: Path
    body: Template | None

    @classmethod
    def parse(cls, form: dict[str, Any], setting: str) -> Question:
        path = Path.parse(f"{setting}_path", form[f"{setting}_path"], {"table"})
        method, text = form.get(f"{setting}_method", "GET"), form.get(f"{setting}_body")
        if text and method != "POST":
            raise wrong(f"{setting}_body", f"needs POST as {setting}_method")
        body = Template.parse(f"{setting}_body", text, {"table"}) if text else None
        return cls(setting, method, path, body)

    @property
    def names_table(self) -> bool:
        return "table" in self.path.names() | (self.body.names() if self.body else set())

    def request(self, table: Table, *, is_optional: bool = False) -> Request:
        """It only reads, whatever its method."""
        return Request(
            self.method,
            self.path.render(table),
            body=msgspec.json.encode(self.body.render(table)) if self.body else None,
            setting=f"{self.setting}_path",
            table=table,
            is_optional=is_optional,
        )


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows a table holds."""

    question: Question
    value: str

    @classmethod
    def parse(cls, form: dict[str, Any]) -> Count | None:
        path, value = form.get("table_count_path"), form.get("table_count_value")
        if not path and not value:
            return None
        if not path:
            raise wrong("table_count_path", "is missing, and table_count_value is given")
        if not value:
            raise wrong("table_count_value", "is missing, and table_count_path is given")
        question = Question.parse(form, "table_count")
        if question.method == "HEAD" and not value.startswith("header:"):
            raise wrong("table_count_value", "must be header:NAME, as HEAD is answered by no body")
        if not question.names_table:
            raise wrong("table_count_path", "lacks {table}")
        return cls(question, value)

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
