"""What Kore.ai's answers mean: rows stored, found and deleted, refusals, the rate limit."""

from __future__ import annotations

import msgspec

from destination_bulk_tables.dispositions import (
    Accept,
    Disposition,
    Renew,
    Retry,
    Stop,
    Throw,
    classify_by_status,
)
from destination_bulk_tables.errors import TransientError
from destination_bulk_tables.http import Ambiguous, HttpRequest, HttpResponse, Refused
from destination_bulk_tables.model import RowBlock
from destination_bulk_tables.redact import mask_values

TITLE = "Kore.ai"
NO_READ = {"http_401", "http_403"}
RATE_PAUSE_S = 60.0  # after a refusal for the rate that does not say how long to wait
_RATE_LIMITS = (b"per-minute rate limit", b"hourly rate limit", b"rate limit for this api")
_NOT_REFUSALS = {408, 413, 425, 429}  # of the client errors


class Inserted(msgspec.Struct):
    records: list[msgspec.Raw]


class Deleted(msgspec.Struct):
    nDeleted: int = 0  # noqa: N815 - the vendor's name


class Row(msgspec.Struct):
    """What the vendor adds to a row; `Created_On` is a text or a number."""

    sys_Id: str  # noqa: N815 - the vendor's name
    Created_On: msgspec.Raw = msgspec.Raw(b"null")


class Queried(msgspec.Struct):
    queryResult: list[msgspec.Raw]  # noqa: N815 - the vendor's name
    total: int | None = None
    metaInfo: msgspec.Raw = msgspec.Raw(b"[]")  # noqa: N815 - the vendor's name

    @property
    def found(self) -> int:
        """How many rows a filter found, or at least those shown where it does not tell."""
        return len(self.queryResult) if self.total is None else self.total


class MetaColumn(msgspec.Struct):
    """A column of the queried table; older documentation has none of them."""

    name: str
    type: str = ""


def classify(request: HttpRequest, response: HttpResponse) -> Disposition:
    """Tell the hourly limit and the rights apart from the usual meanings.

    Source: https://community.kore.ai/t/article-understanding-rate-limits-for-kore-ai-public-apis/3638
    (read 2026-11-22)
    """
    status = response.status
    text = response.body[:4000].lower() if status >= 400 else b""
    if _tells_rate_limit(text, request):
        if b"hour" in text:
            message = (
                "Kore.ai's hourly rate limit (18,000 requests per table) is used up, also by "
                "other clients. Run the sync less often, raise batching.max_rows, or ask "
                "Kore.ai for a higher limit."
            )
            return Stop(TransientError(message))
        return Retry(
            after_s=None if "retry-after" in response.headers else RATE_PAUSE_S, pause=True
        )
    if 200 <= status < 300:
        return Accept()  # an answer that echoes every row is not read for its errors
    is_query = request.path.partition("?")[0].endswith("/query")
    # what a sync can do without may be refused by any proxy that finds it too long
    is_optional = request.repeat == "once" and status != 401
    if (is_query or is_optional) and 400 <= status < 500 and status not in _NOT_REFUSALS:
        refused = Refused(f"http_{status}", _message(request, response))
        return Renew(refused) if status == 401 else Throw(refused)
    right = {"DELETE": "Read and Delete"}.get(request.method, "Write")
    where = "Data > Apps" if status == 401 else "the table's App Assignments"
    hint = (
        f"{_message(request, response)} Check the client id, secret and algorithm, and that "
        f"the app has the right to {right} on the table ({where} in Kore.ai)."
    )
    missing = (
        "Check provider.host, api_path_prefix and the table's name (tables[].table); the table "
        "must exist first."
    )
    return classify_by_status(response, TITLE, {401: hint, 403: hint, 404: missing})


def deleted_rows(response: HttpResponse) -> int | None:
    """Rows a delete counts; None where its answer cannot be read: the table's total tells then."""
    try:
        return response.decode(Deleted).nDeleted
    except Ambiguous:
        return None


def _tells_rate_limit(text: bytes, request: HttpRequest) -> bool:
    """Whether a text speaks of the rate limit; the words alone may be quoted from a row."""
    if b"rate limit" not in text:
        return False
    is_quoted = b"rate limit" in (request.body or b"").lower()
    return not is_quoted or any(known in text for known in _RATE_LIMITS)


def _message(request: HttpRequest, response: HttpResponse) -> str:
    """The vendor's own text about the credential or the table: {"errors": [{"msg", "code"}]}."""
    try:
        message = str(response.parsed()["errors"][0]["msg"])
        # whatever was sent may be quoted: rows, or the values of a filter
        message = mask_values(message, RowBlock([request.body or b"{}"], 1, range(1)))[:200]
    except (KeyError, IndexError, TypeError):
        return ""
    return f"It says: {message.rstrip('.')}."


def no_table(name: str, refused: Refused) -> str:
    return (
        f"Kore.ai refuses to read table {name} ({refused.code}). {refused.reason} Check the "
        "table's name (tables[].table), provider.host and api_path_prefix; the table must exist "
        "before the first sync."
    )


def rows_of(page: Queried) -> list[Row]:
    return [msgspec.json.decode(row, type=Row) for row in page.queryResult]


def ids_of(page: Queried) -> list[str]:
    return [row.sys_Id for row in rows_of(page)]
