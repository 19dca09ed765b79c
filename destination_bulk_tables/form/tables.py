"""Which stream goes to which table, and what is made of its fields."""

from __future__ import annotations

from destination_bulk_tables.form.fields import (
    choice,
    flag,
    integer,
    members,
    objects,
    open_choice,
    ordered,
    secret,
    text,
    texts,
)
from destination_bulk_tables.model import JsonObject

_COLUMN = members(
    ["field", "column"],
    field=text("Field", "The field of the stream.", "Id"),
    column=text("Column", "The column's API name at the provider.", "id"),
    mask=choice(
        "Mask",
        "What is sent in place of the values, for personal data.",
        {
            "none": "the values themselves",
            "hash": "the SHA-256 of `mask_salt` and the value, as hexadecimal text",
            "redact": "three asterisks",
            "truncate": "the first characters, as many as `mask_length` says",
        },
    ),
    mask_length=integer("Characters", "With `truncate`: how many are kept.", 1, 10_000, 4),
)

_CONSTANT = members(
    ["column", "value"],
    column=text("Column", "The column's API name at the provider.", "origin"),
    value=text("Value", "The text that each row holds there.", "webshop"),
)

_MESSAGE_COLUMN = members(
    ["column", "holds"],
    column=text("Column", "The column's API name at the provider.", "loaded_at"),
    holds=open_choice(
        "Holds",
        "What Airbyte says of each record.",
        {
            "emitted_at": "when the source emitted it",
            "stream": "the stream's name",
            "namespace": "the stream's namespace",
            "generation_id": "the number of the stream's generation, where the platform has them",
        },
    ),
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
        (
            "The table's key or API name at the provider. Leave empty to use the stream's name, or "
            "what `table_name_pattern` makes of it."
        ),
        "deals",
        always_show=True,
    ),
    columns=objects(
        "All columns",
        (
            "Leave empty to send all fields of the stream under their own names. When given, only "
            "these are sent."
        ),
        _COLUMN,
        always_show=True,
    ),
    rename=objects(
        "Renamed columns",
        "These fields go to other columns; all others are sent under their own names.",
        _COLUMN,
        always_show=True,
    ),
    exclude=texts("Excluded fields", "These fields are not sent.", "internal_note"),
    constants=objects(
        "Constant columns", "Columns that hold the same text in each row.", _CONSTANT
    ),
    message_columns=objects(
        "Columns of the message",
        "Columns that hold what Airbyte says of a record.",
        _MESSAGE_COLUMN,
    ),
    id_field=text(
        "Id column of this table",
        ("Qobra only: the column that identifies a row, where that is not the common one."),
        "key",
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
            group="tables",
        ),
        "nested_values": choice(
            "Nested values",
            "What becomes of objects and arrays.",
            {
                "json_string": "sent as compact JSON text",
                "json": "sent as JSON, where the provider's API takes that (custom_http)",
                "reject": "rows that hold them are rejected",
            },
            group="tables",
        ),
        "table_name_pattern": text(
            "Names of tables",
            (
                "Names the table of each stream that has none of its own in `tables`: a text with "
                "{stream}, and {namespace} where that is wanted; without a namespace its place "
                "closes up. Leave empty to use the stream's name."
            ),
            "{namespace}_{stream}",
            group="tables",
        ),
        "coerce_scalars": {
            **flag(
                "Convert values to the declared type",
                (
                    "For sources that send another type than they declare: numbers and booleans "
                    "become text in a column of text, 1 and 0 booleans, a text that spells a "
                    "number that number. What does not convert is sent as it is."
                ),
            ),
            "group": "tables",
        },
        "mask_salt": secret(
            "Secret of the hashes",
            (
                "A long random text that goes into each `hash` of a mask, so that nobody finds a "
                "value by hashing likely ones. With another text all hashes change."
            ),
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
