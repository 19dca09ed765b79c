"""What an answer means by its status and the texts in it. What it says about rows: `results`."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from destination_bulk_tables.errors import ConfigError, InternalError
from destination_bulk_tables.provider import (
    Accept,
    HttpRequest,
    Refused,
    Retry,
    Stop,
    Throw,
    TooLarge,
    classify_by_status,
)
from destination_bulk_tables.providers.custom_http.fields import (
    says,
    squeeze,
    statuses,
    texts,
    wrong,
)

if TYPE_CHECKING:
    from destination_bulk_tables.provider import Disposition, HttpResponse
    from destination_bulk_tables.providers.custom_http.results import Results

_LOOKED_AT = 64_000  # bytes of an answer that are searched for texts
OK = frozenset(range(200, 300))


@dataclass(frozen=True, slots=True)
class Request(HttpRequest):
    """A request, and what its answer has to be. `rows`: how many it holds, if it is a write."""

    setting: str = ""
    success: frozenset[int] = OK
    rows: int | None = None


class Answers:
    """Judges answers as the form describes them."""

    def __init__(self, form: dict[str, Any], results: Results) -> None:
        self._results = results
        self._is_atomic = bool(form.get("refusals_store_nothing"))
        self._refused_statuses = statuses(
            "refused_statuses", form.get("refused_statuses", "400,409,422")
        )
        self._retry_statuses = statuses(
            "retry_statuses", form.get("retry_statuses", "408,425,429,500,502-504,520-524")
        )
        self._stop, self._limited, self._large, self._bad = (
            texts(form.get(name, ()))
            for name in ("stop_texts", "rate_limit_texts", "too_large_texts", "refused_texts")
        )
        self._in_success = [*self._stop, *self._limited, *self._large]
        self._wait_s = float(form.get("rate_limit_wait_seconds", 0))
        self._reset_header = form.get("reset_header", "").lower()
        self._reset_is_time = form.get("reset_header_format") == "unix_time"
        if self._reset_is_time and not self._reset_header:
            raise wrong("reset_header_format", "needs reset_header")

    def classify(self, request: Request, response: HttpResponse) -> Disposition:
        status = response.status
        is_success = status in request.success
        said = self._said(request, response, is_success=is_success)
        if says(said, self._stop):
            message = (
                f"The API answered {status} with one of stop_texts. Check authentication and its "
                "rights, the table's name (tables[].table) and "
                f"its columns, and {request.setting}."
            )
            return Stop(ConfigError(message))
        is_partial = is_success and not self._is_atomic  # rows without an error are stored
        if status == 429 or says(said, self._limited):
            applied: Literal["no", "maybe"] = "maybe" if is_partial else "no"
            return Retry(after_s=self._pause_s(response), applied=applied, pause=True)
        is_large = status == 413 or says(said, self._large)
        if is_large and not (is_partial and request.repeat == "unsafe"):
            return Throw(TooLarge())
        if is_success:
            return Accept()
        if status in self._refused_statuses or says(said, self._bad):
            faults = self._results.faults_in_refusal(response, request.rows)
            return Throw(Refused(f"http_{status}", response.text, faults=faults))
        if status in self._retry_statuses:
            # a proxy's own 503 may follow a request that it passed on; one that tells when to
            # come back is the API's
            is_known = status < 500 or (status == 503 and "retry-after" in response.headers)
            return Retry(applied="no" if is_known else "maybe")
        return _by_status(request, response)

    def _said(self, request: Request, response: HttpResponse, *, is_success: bool) -> bytes:
        """What may be searched for texts: a success may repeat rows, and these prove nothing."""
        if not is_success:
            return squeeze(response.body[:_LOOKED_AT])
        if not self._in_success or not says(squeeze(response.body), self._in_success):
            return b""
        return squeeze(msgspec.json.encode(self._results.errors(response, request.rows)))

    def _pause_s(self, response: HttpResponse) -> float | None:
        """The longest wait asked for; None leaves Retry-After to the sender."""
        reset = response.headers.get(self._reset_header, "") if self._reset_header else ""
        if not self._wait_s and not reset:
            return None
        waits = [self._wait_s, _seconds(response.headers.get("retry-after", ""), response)]
        try:
            # Date is the server's own clock, so ours does not matter
            since = _unix_time(response.headers["date"]) if self._reset_is_time else 0.0
            waits.append(float(reset) - since)
        except (KeyError, ValueError, TypeError):
            pass
        return max(waits)


def _by_status(request: Request, response: HttpResponse) -> Disposition:
    """What a status means that the form puts nowhere."""
    where = f"Check base_url, {request.setting} and the table's name (tables[].table)."
    denied = f"Check authentication and extra_headers, and the right that {request.setting} needs."
    hints = {401: denied, 403: denied, 402: denied, 404: where, 405: where, 410: where}
    if response.status in hints or 300 <= response.status < 400:
        return classify_by_status(response, "The API", hints)
    message = (
        f"The API answered {response.status} to {request.setting}, which is neither a success, nor "
        "in retry_statuses or refused_statuses. Add it where it belongs."
    )
    return Stop(InternalError(message))


def _unix_time(http_date: str) -> float:
    return parsedate_to_datetime(http_date).timestamp()


def _seconds(retry_after: str, response: HttpResponse) -> float:
    """`Retry-After` as seconds; a date counts from the server's own."""
    try:
        if retry_after[:1].isdigit():
            return float(retry_after)
        return _unix_time(retry_after) - _unix_time(response.headers["date"])
    except (KeyError, ValueError, TypeError):
        return 0.0
