"""What a replay did, as text for people and as a JSON document for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from destination_bulk_tables.model import JsonObject
from destination_bulk_tables.replay import Replayed


def as_json(done: Replayed) -> JsonObject:
    """Counts per stream; `rejects` is where the new report is, None where nothing is in it."""
    has_rejects = any(counts.rejected for counts in done.counts.values())
    return {
        "streams": [
            {
                "stream": str(stream),
                "rows_sent": counts.read,
                "rows_delivered": counts.delivered,
                "rows_rejected_again": counts.rejected,
            }
            for stream, counts in done.counts.items()
        ],
        "rows_left_out": dict(done.left_out),
        "unreadable_lines": done.unreadable,
        "tables_where_a_repetition_doubles_rows": [*dict.fromkeys(done.unkeyed)],
        "rejects": done.rejects if has_rejects else None,
    }


def as_text(report: JsonObject) -> str:
    """The same for a terminal."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Any) -> Iterator[str]:
    if "problem" in report:
        yield f"The replay did not get to its end: {report['problem']}"
        return
    for stream in report["streams"]:
        yield (
            f"{stream['stream']}: {stream['rows_sent']} rows sent, {stream['rows_delivered']} "
            f"delivered, {stream['rows_rejected_again']} rejected again"
        )
    for stream, rows in report["rows_left_out"].items():
        yield f"{stream}: {rows} rows left out, the catalog has no such stream"
    if report["unreadable_lines"]:
        yield f"{report['unreadable_lines']} lines left out that are no RECORD messages"
    if report["rejects"]:
        yield f"Rejected again: {report['rejects']}"
    for table in report["tables_where_a_repetition_doubles_rows"]:
        yield f"Table {table} is not kept by key: the same replay again would double its rows."
