"""Replaces a table: what goes before the load's first row, and what must hold after its last."""

from __future__ import annotations

from dataclasses import dataclass

from destination_bulk_tables.errors import ConfigError, TransientError
from destination_bulk_tables.http import Ambiguous, Flow, Refused, TooLarge
from destination_bulk_tables.model import RowBlock, Table
from destination_bulk_tables.outcomes import Context, Load, ReplacePlan
from destination_bulk_tables.providers.custom_http.answers import Request
from destination_bulk_tables.providers.custom_http.counting import Counting
from destination_bulk_tables.providers.custom_http.doubts import trouble_in
from destination_bulk_tables.providers.custom_http.emptying import Replace
from destination_bulk_tables.providers.custom_http.fields import (
    is_page,
    says,
    squeeze,
    told_by_page,
)
from destination_bulk_tables.providers.custom_http.sending import Sending

_NO_ROWS = RowBlock((), 0, range(0))


@dataclass(frozen=True, slots=True)
class Replacing:
    _replace: Replace
    _counting: Counting
    _sending: Sending

    def begin(self, table: Table, load: Load) -> Flow[ReplacePlan]:
        """Empty the table, or plan the request that replaces it."""
        way = self._replace
        if way.kind == "query":
            if way.requests == "one" and load.requests > 1:
                raise ConfigError(
                    f"Replacing table {table.name} takes up to {load.requests} requests, and "
                    "replace.requests is 'one'. Nothing was "
                    "sent. Raise max_rows_per_request or max_megabytes_per_request as far as the "
                    "API allows, or choose 'first'."
                )
            single = load.rows == 0 or way.requests == "one"
            return ReplacePlan(
                first_alone=True, single=single, stored=None if way.requests == "every" else 0
            )
        for request in way.prepare(table):
            yield from self._empty(table, request)
        left = yield from self._counting.prepare(table)
        self._counting.begin_empty(table)
        if left:
            raise TransientError(
                f"Table {table.name} holds {left} rows after it was emptied. Check "
                "replace.requests, whether something else writes to the table, and whether "
                "table_count_path lags or estimates. No new row was sent."
            )
        return ReplacePlan(stored=0)

    def _empty(self, table: Table, request: Request) -> Flow[None]:
        text, said = self._replace.text, ""
        try:
            response = yield request
        except Refused as refused:
            said = f"{refused.code}: {refused.reason}"
        except TooLarge:
            said = "too large"
        else:
            if is_page(response) and not text:
                raise TransientError(told_by_page("replace.requests", table))
            trouble = None if text else trouble_in(response)
            if trouble is not None:
                said = f"http_{response.status} with {trouble[0]!r}: {response.text}"
            if text and not says(squeeze(response.body), text):
                said = f"http_{response.status} without success_text: {response.text}"
        if said:
            raise ConfigError(
                f"The API did not empty table {table.name} as replace.requests ask "
                f"({said[:300]}). Check them and the right to delete."
            )

    def end(self, table: Table, plan: ReplacePlan, delivered: int) -> Flow[None]:
        """Raise where the table does not hold the load."""
        if self._replace.is_flagged(plan) and not plan.begun:
            # each row was rejected, so no request has replaced anything
            try:
                yield from self._sending.write(table, _NO_ROWS, Context(replace=plan))
            except (Refused, TooLarge, Ambiguous):
                raise ConfigError(
                    f"Each row for table {table.name} was rejected, and the API does not take a "
                    "replacing request without a row: the table holds its old content. Correct "
                    "the rows."
                ) from None
        total = yield from self._counting.prepare(table)
        if total is not None and total != delivered:
            raise TransientError(
                f"Table {table.name} holds {total} rows after {delivered} were sent to replace "
                "its content. Rows of the same key may have replaced each other, something else "
                "may write to the table, or table_count_path gives a number that lags or is an "
                "estimate; no attempt gets past that: count exactly. The next attempt replaces "
                "all it finds."
            )
