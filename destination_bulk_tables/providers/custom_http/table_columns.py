"""The request that tells a table's columns, and what is read of its answer.

A sync can do without: what cannot be asked or read is unknown, and never an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from destination_bulk_tables.http import HttpResponse
from destination_bulk_tables.model import Table
from destination_bulk_tables.provider import ColumnKind
from destination_bulk_tables.providers.custom_http.fields import dig, wrong
from destination_bulk_tables.providers.custom_http.questions import Question
from destination_bulk_tables.providers.custom_http.templates import require_known

_TABLE = "{table}"
_WRAPPED = re.compile(r"(?:nullable|lowcardinality)\((.*)\)")
_KINDS: tuple[tuple[ColumnKind, re.Pattern[str]], ...] = (
    ("boolean", re.compile(r"bool")),
    ("number", re.compile(r"(u|big|small|medium|tiny)?int(\d+|eger)?\b|(big|small)?serial\b")),
    ("number", re.compile(r"float|double|real|numeric|number|decimal|money")),
    ("date", re.compile(r"date|time|autodate")),
    ("text", re.compile(r"text|\w*string|\w*char|citext|uuid|email|url|editor")),
)


class TableColumns:
    """`question`: how to ask; None where nobody does."""

    def __init__(self, form: dict[str, Any]) -> None:
        self.question: Question | None = None
        self._list: str = form.get("table_columns_list") or "."
        self._name: str = form.get("table_columns_name", "")
        self._type: str = form.get("table_columns_type", "")
        if not form.get("table_columns_path"):
            for name in ("body", "list", "name", "type"):
                if form.get(f"table_columns_{name}"):
                    raise wrong(
                        "table_columns_path", f"is missing, and table_columns_{name} is not"
                    )
            return
        self.question = Question(form, "table_columns")
        require_known("table_columns_list", self._list, {"table"})
        if not self.question.names_table and _TABLE not in self._list.split("."):
            what = "lacks {table}, which must be in it, in the body or a step of table_columns_list"
            raise wrong("table_columns_path", what)

    def read(self, response: HttpResponse, table: Table) -> Mapping[str, ColumnKind | None] | None:
        """None where the answer names no column, or one entry has no name where it should be."""
        found: Any = response.parsed()
        for step in self._list.split(".") if self._list != "." else ():
            is_member = step == _TABLE and isinstance(found, dict)
            found = found.get(table.name) if is_member else dig(found, step)
        # an answer that is an object may as well be an error's
        is_object = isinstance(found, dict) and self._list != "." and not self._name
        entries = found.items() if is_object else _entries(found, self._name)
        columns = {name: kind_of(dig(about, self._type)) for name, about in entries}
        return columns if columns and all(isinstance(name, str) for name in columns) else None


def _entries(found: Any, name: str) -> list[tuple[Any, Any]]:
    """Each column's name and what is said about it; a list of names says no more."""
    if not isinstance(found, list):
        return []
    named = [(dig(entry, name) if name else entry, entry) for entry in found]
    return named if all(isinstance(name, str) for name, _ in named) else []


def kind_of(type_name: Any) -> ColumnKind | None:
    """What a column of a type holds, as databases and services name them; None where not known."""
    if not isinstance(type_name, str):
        return None
    text = type_name.strip().casefold()
    if text.endswith("[]"):
        return None
    while wrapped := _WRAPPED.fullmatch(text):
        text = wrapped[1]
    return next((kind for kind, pattern in _KINDS if pattern.match(text)), None)
