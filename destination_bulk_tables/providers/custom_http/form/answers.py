"""What answers say about a request and its rows."""

from __future__ import annotations

from destination_bulk_tables.form.fields import flag, integer, text, texts
from destination_bulk_tables.model import JsonObject

STATUS_LIST = "Statuses and ranges joined by commas."
SAID = "Looked for in answers that are no success, and in the errors of rows of those that are."

ANSWERS: dict[str, JsonObject] = {
    "success_statuses": text(
        "Answer: success statuses",
        (
            f"{STATUS_LIST} A 202 counts as stored: where the API only queues rows, describe "
            "its background jobs. A 207 needs a path to results, errors or a count."
        ),
        "200,201",
        default="200-299",
    ),
    "success_text": text(
        "Answer: text of a good answer",
        "For answers that are no JSON. Without it a page (HTML, XML) is never a success.",
        "OK",
    ),
    "count_path": text(
        "Answer: path to the number of rows stored",
        "It must equal the rows sent: a number, or a list whose length counts.",
        "inserted",
        "records",
    ),
    "results_path": text(
        "Answer: path to one result per row",
        (
            "A list in the order of the rows; `.` is the whole answer. Looked at in "
            "successes and refusals."
        ),
        "results",
        ".",
    ),
    "result_error_member": text(
        "Answer: a result is an error when it has",
        "Path inside one result; absent, null, false and empty mean success.",
        "error",
    ),
    "result_status_member": text(
        "Answer: status inside a result",
        "Path to a number, or to a text such as OK.",
        "status",
    ),
    "result_success_statuses": text(
        "Answer: statuses inside a result that mean stored",
        (
            "Statuses, ranges and texts joined by commas; all others are errors of the row. A row "
            "with one of the statuses for retries is sent again; 401, 403 and 404 end the sync."
        ),
        "201",
        "OK",
        default="200-299",
    ),
    "errors_path": text(
        "Answer: path to the errors of rows",
        ("A list, an object whose member names are row numbers, or a text. Absent or empty: none."),
        "errors",
        "data.requests",
    ),
    "error_index_member": text(
        "Answer: row number inside an error",
        "For a list of errors.",
        "index",
    ),
    "error_index_base": integer(
        "Answer: number of the first row",
        "0 or 1, for row numbers inside errors and as member names.",
        0,
        1,
        1,
        default=0,
    ),
    "error_message_member": text(
        "Answer: reason inside an error or result",
        "For the report of rejected rows.",
        "reason",
        "response.data",
    ),
    "refusals_store_nothing": flag(
        "Answer: a refused request stores nothing",
        "True where all rows of a request are stored or none.",
    ),
    "refused_statuses": text(
        "Answer: statuses that mean bad rows",
        STATUS_LIST,
        "400,422",
        default="400,409,422",
    ),
    "refused_texts": texts(
        "Answer: texts that mean bad rows",
        "Never retried, even with a 5xx status. Looked for in answers that are no success.",
        "Code: 27,",
    ),
    "too_large_texts": texts(
        "Answer: texts that mean too many rows",
        f"The request is split. {SAID}",
        "Too many rows",
    ),
    "stop_texts": texts(
        "Answer: texts that mean a wrong setting",
        f"Credential, right or table: the sync ends, even after a success status. {SAID}",
        "no such table",
    ),
}
