"""How many rows a table holds, and whether that tells anything about a write."""

from __future__ import annotations

from typing import Any

from destination_bulk_tables.errors import ConfigError, TransientError
from destination_bulk_tables.http import Flow, HttpResponse, Refused, TooLarge
from destination_bulk_tables.model import Table
from destination_bulk_tables.providers.custom_http.fields import dig, is_page, told_by_page, wrong
from destination_bulk_tables.providers.custom_http.questions import Question


class Counting:
    """Counts tables, and knows what each held before this sync wrote to it.

    `question`: None where nothing counts.
    """

    def __init__(self, form: dict[str, Any]) -> None:
        self._value: str = form.get("table_count_value", "")
        self._is_exact = bool(form.get("table_count_is_exact"))
        self._first: dict[str, int] = {}
        self.question: Question | None = None
        path = form.get("table_count_path")
        if not path and not self._value:
            return
        if not path:
            raise wrong("table_count_path", "is missing, and table_count_value is given")
        if not self._value:
            raise wrong("table_count_value", "is missing, and table_count_path is given")
        self.question = Question(form, "table_count")
        if self.question.method == "HEAD" and not self._value.startswith("header:"):
            raise wrong("table_count_value", "must be header:NAME, as HEAD is answered by no body")
        if not self.question.names_table:
            raise wrong("table_count_path", "lacks {table}")

    def prepare(self, table: Table) -> Flow[int | None]:
        """Count for the first time, perhaps; None where nothing counts."""
        if self.question is None:
            return None
        total = yield from self.total(table)
        self._first.setdefault(table.name, total)
        return total

    def begin_empty(self, table: Table) -> None:
        """The table was emptied: what it holds from now on is of this sync."""
        self._first[table.name] = 0

    def has_moved(self, table: Table, total: int) -> bool:
        """Whether the count was seen to move with rows of this sync.

        An estimate, a replica or a cache stands still, and then says nothing about a write; of an
        exact count the user has said that it does not.
        """
        return self._is_exact or total > self._first.get(table.name, 0)

    def total(self, table: Table) -> Flow[int]:
        assert self.question is not None
        try:
            response = yield self.question.request(table)
        except (Refused, TooLarge):
            raise ConfigError(
                f"The API refuses to count table {table.name}. Check table_count_path and the "
                "table's name (tables[].table)."
            ) from None
        if is_page(response) and table.name in self._first:
            raise TransientError(told_by_page("table_count_path", table))
        return self._read(response, table)

    def _read(self, response: HttpResponse, table: Table) -> int:
        try:
            if self._value.startswith("header:"):
                name = self._value.partition(":")[2].strip().lower()
                return int(response.headers[name].rpartition("/")[2])
            found = dig(response.parsed(), self._value)
            if isinstance(found, int | float | str) and not isinstance(found, bool):
                return int(found)
        except (KeyError, ValueError, OverflowError):
            pass
        raise ConfigError(
            f"The API's answer about table {table.name} has no number where table_count_value "
            "says. Correct it."
        )
