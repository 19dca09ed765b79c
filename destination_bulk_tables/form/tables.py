"""Which stream goes to which table, and what is made of its fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

from destination_bulk_tables.form.fields import choice, integer, members, objects, ordered, text

if TYPE_CHECKING:
    from destination_bulk_tables.model import JsonObject

_COLUMN = members(
    ["field", "column"],
    field=text("Field", "The field of the stream.", "Id"),
    column=text("Column", "The column's API name at the provider.", "id"),
)

_TABLE = members(
    ["stream"],
    stream=text("Stream", "The name of the stream as the connection shows it.", "opportunities"),
    namespace=text(
        "Namespace",
        "Only streams of this namespace. Leave empty to match every namespace.",
        "crm",
    ),
    table=text(
        "Table",
        "The table's key or API name at the provider. Leave empty to use the stream's name.",
        "deals",
        always_show=True,
    ),
    columns=objects(
        "Columns",
        (
            "Leave empty to send all fields of the stream under their own names. When given, only "
            "these are sent."
        ),
        _COLUMN,
        always_show=True,
    ),
)

TABLES: JsonObject = ordered(
    {
        "tables": objects(
            "Tables",
            (
                "Which stream goes to which table. A stream without an entry here goes to the "
                "table that has the stream's name."
            ),
            _TABLE,
            group="tables",
            always_show=True,
        ),
        "truncate_mode": choice(
            "Replace the table's content",
            "When a sync replaces what a table holds.",
            {
                "sync_mode": (
                    "as the connection says: an overwrite or a truncating refresh replaces, all "
                    "else adds"
                ),
                "always": "in every sync",
                "never": (
                    "a lock: a sync that would replace ends with an error before anything is sent"
                ),
            },
            default="sync_mode",
            group="tables",
        ),
        "nested_values": choice(
            "Nested values",
            "What becomes of objects and arrays.",
            {
                "json_string": "sent as compact JSON text",
                "reject": "rows that hold them are rejected",
            },
            default="json_string",
            group="tables",
        ),
        "replace_guard": integer(
            "Least share of rows that may replace a table (%)",
            (
                "A load that is empty, or smaller than this share of the rows that the table "
                "counts, ends the sync with the table untouched, where the table can be counted. "
                "0 is off."
            ),
            0,
            100,
            50,
            default=0,
            group="tables",
        ),
    }
)
