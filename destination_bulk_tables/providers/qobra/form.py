"""The form of Qobra: data only."""

from __future__ import annotations

from destination_bulk_tables.form.fields import branch, choice, decimal, integer, secret, text
from destination_bulk_tables.model import JsonObject

MAX_DEBOUNCE_S = 3600

FORM: JsonObject = branch(
    "Qobra",
    "Data tables of Qobra.",
    ("provider_type", "qobra"),
    ["api_key"],
    api_key=secret(
        "API key",
        (
            "Made in Qobra under the global settings, section API. It belongs to the person who "
            "makes it and stops working when that account is closed."
        ),
    ),
    id_field=text(
        "Id column",
        (
            "API name of the column that identifies a row, as the table's settings page shows it. "
            "Rows are updated by it; a row without a value there is rejected."
        ),
        default="id",
    ),
    timestamp_format=choice(
        "Timestamps",
        "How date-time values are sent.",
        {"date": "the UTC date", "iso": "ISO 8601 in UTC"},
    ),
    qobra_nulls=choice(
        "Nulls",
        "What is sent for a null, and for a field that a record lacks.",
        {
            "send": "a null, which empties the column",
            "omit": "nothing, which leaves the column of a known row as it is",
        },
    ),
    debounce_seconds=integer(
        "Debounce (seconds)",
        (
            "Only for replacing a table with more rows than fit in one request: how long Qobra "
            "waits for the rest. Leave empty to have it computed from the size of the load."
        ),
        0,
        MAX_DEBOUNCE_S,
        900,
    ),
    import_timeout_minutes=decimal(
        "Import timeout (minutes)",
        "How long to wait for Qobra to finish an import, beyond its debounce.",
        0.01,
        110,
        default=60,
    ),
    base_url=text(
        "API address",
        "Only to be changed for a proxy or a test server.",
        default="https://api.qobra.co",
    ),
)
