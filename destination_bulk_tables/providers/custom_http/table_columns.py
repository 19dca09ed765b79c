"""The request that tells a table's columns, and what is read of its answer.

A sync can do without: what cannot be asked or read is unknown, and never an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from destination_bulk_tables.http import HttpResponse
from destination_bulk_tables.model import Table
from destination_bulk_tables.provider import ColumnKind
from destination_bulk_tables.providers.custom_http.fields import dig, wrong
from destination_bulk_tables.providers.custom_http.reading import Question
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


@dataclass(frozen=True, slots=True)
class TableColumns:
    """How to ask; where the columns are in the answer, and what one of them says."""

    question: Question
    listed: str
    name: str
    kind: str

    @classmethod
    def parse(cls, form: dict[str, Any]) -> TableColumns | None:
        rest = ("body", "list", "name", "type")
        if not form.get("table_columns_path"):
            given = [name for name in rest if form.get(f"table_columns_{name}")]
            if given:
                raise wrong(
                    "table_columns_path", f"is missing, and table_columns_{given[0]} is not"
                )
            return None
        question = Question.parse(form, "table_columns")
        listed = form.get("table_columns_list") or "."
        require_known("table_columns_list", listed, {"table"})
        if not question.names_table and _TABLE not in listed.split("."):
            what = "lacks {table}, which must be in it, in the body or a step of table_columns_list"
            raise wrong("table_columns_path", what)
        name, kind = form.get("table_columns_name", ""), form.get("table_columns_type", "")
        return cls(question, listed, name, kind)

    def read(self, response: HttpResponse, table: Table) -> Mapping[str, ColumnKind | None] | None:
        """None where the answer names no column, or one entry has no name where it should be."""
        found: Any = response.parsed()
        for step in self.listed.split(".") if self.listed != "." else ():
            is_member = step == _TABLE and isinstance(found, dict)
            found = found.get(table.name) if is_member else dig(found, step)
        # an answer that is an object may as well be an error's
        is_object = isinstance(found, dict) and self.listed != "." and not self.name
        entries = found.items() if is_object else _entries(found, self.name)
        columns = {name: self._kind(about) for name, about in entries}
        return columns if columns and all(isinstance(name, str) for name in columns) else None

    def _kind(self, about: Any) -> ColumnKind | None:
        return kind_of(dig(about, self.kind))


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
