"""How values are sent."""

from __future__ import annotations

from destination_bulk_tables.form.fields import choice
from destination_bulk_tables.model import JsonObject

VALUES: dict[str, JsonObject] = {
    "nulls": choice(
        "Values: null",
        "What becomes of a column without a value.",
        {
            "send": "every row has every column",
            "omit": "left out; the server decides what an absent column of an upsert means",
        },
    ),
    "timestamps": choice(
        "Values: date-times",
        "How date-time columns are sent.",
        {
            "as_is": "as they come",
            "iso": "ISO 8601 in UTC",
            "date": "the UTC date",
            "epoch_ms": "milliseconds since 1970",
        },
        known_as="timestamp_format",
    ),
    "decimal_format": choice(
        "Values: numbers",
        "How numbers are sent.",
        {"number": "as JSON numbers", "string": "as texts"},
    ),
    "booleans": choice(
        "Values: booleans",
        "How booleans are sent.",
        {"json": "true", "string": 'the text "true"', "number": "1 or 0"},
        known_as="boolean_format",
    ),
}
