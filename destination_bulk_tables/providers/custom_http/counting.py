"""How many rows a table holds, and whether that tells anything about a write."""

from __future__ import annotations

from destination_bulk_tables.errors import ConfigError, TransientError
from destination_bulk_tables.http import Flow, Refused, TooLarge
from destination_bulk_tables.model import Table
from destination_bulk_tables.providers.custom_http.fields import is_page, told_by_page
from destination_bulk_tables.providers.custom_http.reading import Count


class Counting:
    """Counts tables, and knows what each held before this sync wrote to it."""

    def __init__(self, count: Count | None, *, is_exact: bool) -> None:
        self.count = count
        self._is_exact = is_exact
        self._first: dict[str, int] = {}

    def prepare(self, table: Table) -> Flow[int | None]:
        """Count for the first time, perhaps; None where nothing counts."""
        if self.count is None:
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
        assert self.count is not None
        try:
            response = yield self.count.question.request(table)
        except (Refused, TooLarge):
            message = (
                f"The API refuses to count table {table.name}. Check table_count_path and the "
                "table's name (tables[].table)."
            )
            raise ConfigError(message, stream=table.stream) from None
        if is_page(response) and table.name in self._first:
            raise TransientError(told_by_page("table_count_path", table), stream=table.stream)
        return self.count.read(response, table)
