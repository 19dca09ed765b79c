"""Sends rows: one upsert in bulk, which Qobra imports in the background."""

from __future__ import annotations

from destination_bulk_tables.errors import UnaccountedRows
from destination_bulk_tables.http import Flow, HttpRequest, segment
from destination_bulk_tables.model import Receipt, RowBlock, Table
from destination_bulk_tables.outcomes import Context, WriteReport
from destination_bulk_tables.providers.qobra.answers import Ingested

ENVELOPE = (b'{"items":[', b"]}")


def write(table: Table, block: RowBlock, context: Context) -> Flow[WriteReport]:
    """One request with all rows; in a load, with the query that every request of it carries."""
    plan = context.replace
    query = ""
    if plan is not None:
        query = "?all=true" if plan.window_s is None else f"?all=true&debounce={int(plan.window_s)}"
    response = yield HttpRequest(
        "POST",
        f"/v1/tables/{segment(table.name)}/records/bulk{query}",
        body=block.enclosed(*ENVELOPE),
        not_after=plan.not_after if plan else None,
        rows=block.count,
    )
    answer = response.decode(Ingested)
    if answer.objects_imported != block.count:
        raise UnaccountedRows(
            f"Qobra counted {answer.objects_imported} records in a request of {block.count} "
            f"for table {table.name}."
        )
    resent = block.count * (response.resent + context.repeated)
    return WriteReport(receipt=Receipt(answer.import_id, block.count, resent))
