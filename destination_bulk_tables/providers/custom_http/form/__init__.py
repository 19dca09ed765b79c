"""The form of `custom_http`: data only, a module per group of fields."""

from __future__ import annotations

from destination_bulk_tables.form.fields import (
    branch,
    choice,
    decimal,
    integer,
    long_text,
    members,
    objects,
    text,
)
from destination_bulk_tables.model import JsonObject
from destination_bulk_tables.providers.custom_http.form.answers import ANSWERS, STATUS_LIST
from destination_bulk_tables.providers.custom_http.form.authentication import AUTHENTICATION
from destination_bulk_tables.providers.custom_http.form.counts import COUNTS
from destination_bulk_tables.providers.custom_http.form.jobs import JOB
from destination_bulk_tables.providers.custom_http.form.replacing import REPLACE
from destination_bulk_tables.providers.custom_http.form.retries import RETRIES
from destination_bulk_tables.providers.custom_http.form.writes import BODY, UPSERT

SPEC: JsonObject = branch(
    "Custom HTTP API",
    "Any HTTP API that takes rows of a table as JSON, many in one request.",
    ("provider_type", "custom_http"),
    ["api_address", "api_authentication", "write_path", "body", "check_path"],
    api_address=text(
        "Address of the API",
        ("The address all paths below are added to. Plain http is accepted for this machine only."),
        "https://api.example.com",
        known_as="base_url",
    ),
    api_authentication={**AUTHENTICATION, "known_as": "authentication"},
    write_path=text(
        "Insert: path",
        ("Path and query of the request that takes rows. `{table}` is the table's name, encoded."),
        "/lab/{table}/-/insert",
        "/api/batch?fields=status",
    ),
    body=BODY,
    upsert=UPSERT,
    replace=REPLACE,
    job=JOB,
    check_path=text(
        "Check: path",
        (
            "Path of a request that reads and needs the credential; the connection test "
            "sends it, and nothing else but the question for columns where that is set."
        ),
        "/-/actor.json",
        "/api/collections?perPage=1",
    ),
    check_method=choice(
        "Check: method",
        "Sent without a body. It must not write.",
        ("GET", "POST", "HEAD"),
    ),
    check_statuses=text("Check: success statuses", STATUS_LIST, "200", default="200-299"),
    check_text=text(
        "Check: text of a good answer",
        "Needed where a wrong credential is answered with a success status.",
        '"actor": {',
    ),
    write_method=choice(
        "Insert: method",
        "HTTP method.",
        ("POST", "PUT", "PATCH"),
    ),
    row_template=long_text(
        "Insert: row template",
        (
            'JSON for one row, in which `"{row}"` is replaced by the row. Empty: the row '
            "as it is. `{table}`, `{columns}` "
            "(`a,b`) and `{parameters}` (`:a,:b`) may stand in its texts. In place of the row: "
            '`"{row_values}"`, a list; `"{row_text}"`; `"{row_base64}"`. `{row_number}` counts, '
            "`{column:NAME}` is a value of the row; inside a text it is encoded for a path."
        ),
        '{"fields": "{row}"}',
        '["insert into {table}({columns}) values({parameters})", "{row}"]',
    ),
    request_compression=choice(
        "Insert: compression",
        "Of the request's body; only where the API reads it.",
        {"none": "sent as it is", "gzip": "compressed, with Content-Encoding: gzip"},
    ),
    extra_headers=long_text(
        "Extra headers",
        "One `Name: value` per line. Sent with every request and kept secret.",
        "X-Tenant: acme",
        airbyte_secret=True,
    ),
    max_rows_per_request=integer(
        "Limits: rows per request",
        "Most rows the API takes at once.",
        1,
        100_000,
        1000,
        default=100,
    ),
    max_megabytes_per_request=decimal(
        "Limits: megabytes per request",
        "Largest request body, in 10^6 bytes.",
        0.01,
        100,
        5,
        default=1,
    ),
    rate_limits=objects(
        "Limits: requests per time",
        "All of them hold at once, for all tables together.",
        members(
            ["requests", "seconds"],
            requests=integer("Requests", "At most this many", 1, 1_000_000, 5),
            seconds=decimal("Seconds", "in any time of this length.", 0.1, 86_400, 1),
        ),
        examples=[[{"requests": 5, "seconds": 1}]],
    ),
    max_parallel_requests=integer(
        "Limits: parallel requests",
        (
            "At most this many at a time. Empty: as many as the API answers quickly, 1 to 8. Rows "
            "of several requests may arrive in another order; 1 keeps it. A background job counts "
            "until it is over."
        ),
        1,
        8,
        1,
        2,
    ),
    **ANSWERS,
    **RETRIES,
    **COUNTS,
    nulls=choice(
        "Values: null",
        "What becomes of a column without a value.",
        {
            "send": "every row has every column",
            "omit": "left out; the server decides what an absent column of an upsert means",
        },
    ),
    timestamps=choice(
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
    decimal_format=choice(
        "Values: numbers",
        "How numbers are sent.",
        {"number": "as JSON numbers", "string": "as texts"},
    ),
    booleans=choice(
        "Values: booleans",
        "How booleans are sent.",
        {"json": "true", "string": 'the text "true"', "number": "1 or 0"},
        known_as="boolean_format",
    ),
)
