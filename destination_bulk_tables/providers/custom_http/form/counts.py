"""How a table is counted, and asked for its columns."""

from __future__ import annotations

from destination_bulk_tables.form.fields import choice, flag, long_text, text
from destination_bulk_tables.model import JsonObject

COUNTS: dict[str, JsonObject] = {
    "table_count_path": text(
        "Count: path",
        (
            "Path of a request that tells how many rows a table has, with every write that was "
            "answered before: not the number of a replica or an index that lags."
        ),
        "/{table}/count",
    ),
    "table_count_method": choice(
        "Count: method",
        "It must not write.",
        ("GET", "HEAD", "POST"),
    ),
    "table_count_body": long_text(
        "Count: body",
        "JSON, for POST; `{table}` may stand in it.",
        '{"query": "select count(*) from {table}"}',
    ),
    "table_count_value": text(
        "Count: where the number is",
        (
            "Path in the answer, `.` where it is the answer, or `header:NAME` (the number "
            "after the last slash)."
        ),
        "totalItems",
        "header:Content-Range",
    ),
    "table_count_is_exact": flag(
        "Count: it is exact",
        (
            "True where the rows are counted when asked, not estimated, cached or counted by a "
            "replica. Then a count that has not moved proves that nothing was stored, also before "
            "the first row of a sync is in."
        ),
    ),
    "table_columns_path": text(
        "Columns: path",
        (
            "Path of a request that tells which columns a table has. They are compared with what "
            "is sent before the first row and in the connection test; without an answer the sync "
            "goes on."
        ),
        "/collections/{table}",
    ),
    "table_columns_method": choice(
        "Columns: method",
        "It must not write.",
        ("GET", "POST"),
    ),
    "table_columns_body": long_text(
        "Columns: body",
        "JSON, for POST; `{table}` may stand in it.",
        '{"query": "describe {table}"}',
    ),
    "table_columns_list": text(
        "Columns: where they are",
        (
            "Path in the answer to a list, or to an object whose members are named like the "
            "columns; a step may be `{table}`. Empty: the answer itself, a list."
        ),
        "fields",
        "definitions.{table}.properties",
    ),
    "table_columns_name": text(
        "Columns: name inside one",
        "Path in an entry of the list. Empty: the entries are names.",
        "name",
    ),
    "table_columns_type": text(
        "Columns: type inside one",
        (
            "Path to the name of its type, such as `bigint`; one that does not hold what is sent "
            "is warned of. Empty: types are not compared."
        ),
        "type",
    ),
}
