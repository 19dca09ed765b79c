"""How rows are sent, and what becomes of those that cannot be."""

from __future__ import annotations

from destination_bulk_tables.form.fields import (
    choice,
    decimal,
    integer,
    ordered,
    secret,
    section,
    text,
)
from destination_bulk_tables.model import JsonObject

_FROM_ENVIRONMENT = "Leave empty to take it from the environment or the machine's role."

_BATCHING = section(
    "Batches",
    "How many rows go out in one request. The defaults suit each provider.",
    max_rows=integer(
        "Rows per request",
        "At most this many rows in a request. Leave empty for the provider's default.",
        1,
        100_000,
        1000,
    ),
    max_megabytes=decimal(
        "Megabytes per request",
        (
            "At most this many megabytes (10^6 bytes) in a request body; a row larger than that is "
            "rejected. Leave empty for the provider's default."
        ),
        0.001,
        100,
        5,
    ),
    max_wait_seconds=decimal(
        "Longest wait (seconds)",
        "A row waits at most this long for others to go out with.",
        0,
        900,
        default=30,
    ),
    max_parallel_requests=integer(
        "Parallel requests",
        (
            "At most this many writes at a time. Empty: as many per table as the vendor answers "
            "quickly, found while it runs. Asking whether imports are done does not count: it must "
            "not wait for a slow write."
        ),
        1,
        8,
        2,
    ),
)

_REJECTED_RECORDS = section(
    "Rejected rows",
    "What to do with rows the provider cannot take as they are.",
    policy=choice(
        "Policy",
        "What a row does to the sync that the provider cannot take as it is.",
        {
            "fail": "the sync ends at the first such row",
            "skip": (
                "the others are delivered, the rejected ones counted and listed in the report"
            ),
        },
        always_show=True,
    ),
    max_rejected=integer(
        "Most rejected rows",
        "With `skip`: more rejected rows than this end the sync.",
        0,
        None,
        default=1000,
    ),
    max_rejected_percent=decimal(
        "Most rejected rows (percent)",
        (
            "With `skip`: a larger part of the rows read ends the sync. Judged from 1,000 rows "
            "read on, and at the end of the input; fewer than 10 rejected rows always pass. Leave "
            "empty for no such limit."
        ),
        0,
        100,
        5,
    ),
    report_path=text(
        "Report",
        (
            "Where the rejected rows and their reasons go, as JSON lines: a file or folder in the "
            "connector's container, or an object store. Leave empty for none. The report holds "
            "row values."
        ),
        "s3://my-bucket/rejected",
        "/local/rejected",
    ),
)

_STAGING = section(
    "Staging",
    "Rows of a table to replace wait on the connector's disk until the source has completed.",
    directory=text(
        "Directory",
        "A folder with room for the rows. Leave empty for the system's temporary folder.",
        "/tmp",  # noqa: S108 - an example in the form
    ),
    max_gigabytes=decimal(
        "Most gigabytes",
        "A sync that needs more ends with an error and leaves the table as it was.",
        0.001,
        1_000_000,
        default=20,
    ),
)

_DIAGNOSTICS = section(
    "Diagnostics",
    "For who looks into a slow or failing sync.",
    trace_path=text(
        "Trace of requests",
        (
            "Where one JSON line per request goes: time, table, rows, bytes, status and waits, no "
            "row values. A file or folder in the connector's container, or an object store. Leave "
            "empty for none."
        ),
        "s3://my-bucket/trace",
        "/local/trace",
    ),
)

_OBJECT_STORE = section(
    "Object store",
    "How to reach the bucket or container of an address such as `s3://bucket/path`.",
    region=text("S3: region", "The bucket's region.", "eu-central-1"),
    endpoint=text(
        "Address of the store",
        "Of a store that speaks S3 or Azure Blob. Leave empty for the cloud's own.",
        "https://minio.example.com",
    ),
    access_key_id=text("S3: access key id", f"Of the credential. {_FROM_ENVIRONMENT}", "AKIA..."),
    secret_access_key=secret("S3: secret access key", f"Of the credential. {_FROM_ENVIRONMENT}"),
    service_account_key=secret(
        "Google: service account key", f"The key file's JSON. {_FROM_ENVIRONMENT}", multiline=True
    ),
    account_name=text(
        "Azure: storage account", f"The account's name. {_FROM_ENVIRONMENT}", "rejectedrows"
    ),
    account_key=secret("Azure: account key", f"One of its two keys. {_FROM_ENVIRONMENT}"),
)

DELIVERY: JsonObject = ordered(
    {
        "batching": {**_BATCHING, "group": "batching"},
        "rejected_records": {**_REJECTED_RECORDS, "group": "rejected_records"},
        "staging": {**_STAGING, "group": "staging"},
        "diagnostics": {**_DIAGNOSTICS, "group": "diagnostics"},
        "object_store": {**_OBJECT_STORE, "group": "object_store"},
    }
)
