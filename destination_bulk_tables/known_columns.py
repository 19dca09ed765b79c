"""Compares what is sent with the columns that the vendor says a table has, before the first row.

A column that the table lacks fails each row, or is dropped without a word. Where the vendor does
not tell its columns, nothing is compared.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping

from destination_bulk_tables.catalog import StreamPlan
from destination_bulk_tables.columns import Column
from destination_bulk_tables.errors import ConfigError, TransientError
from destination_bulk_tables.exchange import Exchange
from destination_bulk_tables.http import Ambiguous, Refused, TooLarge, name_of
from destination_bulk_tables.model import Table
from destination_bulk_tables.provider import ColumnKind, Provider, RowRules

log = logging.getLogger(__name__)

_MOST_NAMES = 20
_BOOLEANS: dict[str, ColumnKind] = {"json": "boolean", "string": "text", "number": "number"}


def compare_columns(
    plans: Iterable[StreamPlan], provider: Provider, exchange: Exchange, *, is_strict: bool
) -> None:
    """Ask for the columns of each table and compare. `is_strict`: a lacking one is an error."""
    known: dict[str, Mapping[str, ColumnKind | None] | None] = {}
    for plan in plans:
        name = plan.table.name
        if name not in known:
            known[name] = ask_columns(name, provider, exchange, plan.table)
        found = known[name]
        if found is None:
            continue
        lacking = lacking_columns(name, plan.table.columns, found)
        if lacking and is_strict:
            raise ConfigError(lacking, stream=plan.key)
        if lacking:
            log.warning("columns_missing %s", lacking)
        for column in plan.columns:
            held, sent = found.get(column.name), _kinds(column, provider.rules)
            if held is not None and sent and held not in sent:
                log.warning(
                    "column_type table=%s column=%s sent=%s held=%s effect=rows_may_be_rejected",
                    name,
                    column.name,
                    "/".join(sorted(sent)),
                    held,
                )


def ask_columns(
    table: str, provider: Provider, exchange: Exchange, paying: Table | None = None
) -> Mapping[str, ColumnKind | None] | None:
    """The columns a table has; None where the vendor does not say, or is not there to ask.

    `paying`: the table whose rate windows the question counts in.
    """
    try:
        return exchange.run(paying, provider.columns(table))
    except (Refused, TooLarge, Ambiguous, TransientError) as error:
        log.info("columns_unknown table=%s cause=%s", table, name_of(error))
        return None


def lacking_columns(
    table: str, sent: Iterable[str], known: Mapping[str, ColumnKind | None]
) -> str | None:
    """What to tell of columns that are sent and that the table lacks; None when it has them all."""
    lacking = [name for name in sent if name not in known]
    if not lacking:
        return None
    named = [repr(name) + _near(name, known) for name in lacking[:_MOST_NAMES]]
    more = "" if len(lacking) <= _MOST_NAMES else f" and {len(lacking) - _MOST_NAMES} more"
    return (
        f"Table {table} has no column {', '.join(named)}{more}. Make the columns there, or name "
        "those it has in tables[].columns, tables[].rename or tables[].exclude."
    )


def _near(name: str, known: Iterable[str]) -> str:
    by_case = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name.casefold(), by_case, 1)
    return f" (but {by_case[near[0]]!r})" if near else ""


def _kinds(column: Column, rules: RowRules) -> set[ColumnKind]:
    """The kinds of column that hold what is sent of this one; empty: no saying."""
    if column.mask is not None:
        return {"text"}
    if column.is_timestamp:
        return {"number", "date"} if rules.timestamps == "epoch_ms" else {"text", "date"}
    if column.is_text:
        return {"text", "date"}
    if column.is_boolean:
        return {_BOOLEANS[rules.booleans]}
    if column.is_integer or column.is_number:
        return {"number", "date"} if rules.decimals == "number" else {"text"}
    return set()
