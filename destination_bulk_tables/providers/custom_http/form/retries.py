"""What is sent again, and what a lost answer means."""

from __future__ import annotations

from destination_bulk_tables.form.fields import choice, flag, integer, text, texts
from destination_bulk_tables.model import JsonObject
from destination_bulk_tables.providers.custom_http.form.answers import SAID, STATUS_LIST

RETRIES: dict[str, JsonObject] = {
    "retry_statuses": text(
        "Retry: statuses",
        STATUS_LIST,
        "429,502-504",
        default="408,425,429,500,502-504,520-524",
    ),
    "rate_limit_texts": texts(
        "Retry: texts that mean a rate limit",
        f"Whatever the status. {SAID}",
        "rate limit exceeded",
    ),
    "rate_limit_wait_seconds": integer(
        "Retry: wait after a rate limit (seconds)",
        "At least this long; a longer Retry-After of the server wins.",
        0,
        300,
        30,
        default=0,
    ),
    "reset_header": text(
        "Retry: header that tells when to go on",
        "Beside Retry-After, which is always read.",
        "x-ratelimit-reset",
    ),
    "reset_header_format": choice(
        "Retry: what that header holds",
        "When the next request is welcome.",
        {"seconds": "seconds from now", "unix_time": "seconds since 1970"},
    ),
    "idempotency_header": text(
        "Retry: header for an idempotency key",
        (
            "For an API that knows a repeated request by a key: an insert without an answer is "
            "sent again with the same key, also at a later attempt of a job. For one in the body, "
            "put `{idempotency_key}` there."
        ),
        "Idempotency-Key",
    ),
    "repeat_is_safe": flag(
        "Retry: a repeated insert changes nothing",
        (
            "True where rows are kept by a key that each row holds, so that sending rows "
            "again cannot double them."
        ),
    ),
    "after_lost_answer": choice(
        "Retry: an insert without an answer",
        (
            "Where a repeated insert is not safe. With a count path the table is counted first; "
            "what to do where that cannot tell."
        ),
        {"fail": "the sync ends", "retry": "the rows are sent again, which may double them"},
        known_as="on_ambiguous_write",
    ),
    "already_stored_texts": texts(
        "Retry: texts that mean stored before",
        (
            "In the error of a row that was sent again: it is in from the first time, and "
            "not rejected."
        ),
        "Document update conflict",
    ),
}
