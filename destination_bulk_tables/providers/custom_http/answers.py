"""What an answer means by its status and the texts in it. What it says about rows: `results`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

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
from destination_bulk_tables.errors import ConfigError, InternalError, TransientError
from destination_bulk_tables.http import HttpRequest, HttpResponse, Refused, TooLarge, unix_time
from destination_bulk_tables.model import RowBlock, Table
from destination_bulk_tables.providers.custom_http.fields import says, squeeze, texts, wrong
from destination_bulk_tables.providers.custom_http.results import NOT_STORED, Results

_LOOKED_AT = 64_000  # bytes of an answer that are searched for texts
OK = frozenset(range(200, 300))
_NOT_THIS_CONTENT = 415
_ABSENT = frozenset({404, 405, 410})


@dataclass(frozen=True, slots=True)
class Request(HttpRequest):
    """A request, and what its answer has to be.

    `job`: the one that it asks for, which may be gone; `is_optional`: nothing depends on its
    answer.
    """

    setting: str = ""
    table: Table | None = None
    success: frozenset[int] = OK
    job: str | None = None
    is_optional: bool = False


class Answers:
    def __init__(self, form: dict[str, Any], results: Results) -> None:
        self._results = results
        self._accepted: set[tuple[str, str]] = set()  # settings and tables that worked before
        self._is_atomic = bool(form.get("refusals_store_nothing"))
        stop = [text.strip() for text in form.get("stop_texts", ()) if text.strip()]
        self._stop = dict(zip(texts(stop), stop, strict=True))
        self._limited, self._large, self._bad = (
            texts(form.get(name, ()))
            for name in ("rate_limit_texts", "too_large_texts", "refused_texts")
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
        if told := _told(said, self._stop, request):
            message = (
                f"The API answered {status} with {self._stop[told]!r}, one of stop_texts. Check "
                "authentication and its rights, the table's name (tables[].table) and "
                f"its columns, and {request.setting}."
            )
            return Stop(ConfigError(message))
        is_partial = is_success and not self._is_atomic  # rows without an error are stored
        if status == 429 or _told(said, self._limited, request):
            applied: Literal["no", "maybe"] = "maybe" if is_partial else "no"
            return Retry(after_s=self._pause_s(response), applied=applied, pause=True)
        is_large = status == 413 or _told(said, self._large, request)
        if is_large and not (is_partial and request.repeat == "unsafe"):
            return Throw(TooLarge())
        is_refused = status in self._results.refused_statuses or _told(said, self._bad, request)
        if is_success or is_refused:
            found = self._about_rows(request, response, is_success=is_success)
            if found is not None:
                return found
        if is_success:
            if request.table is not None:
                self._accepted.add((request.setting, request.table.name))
            return Accept()
        if is_refused:
            faults = self._results.faults_in_refusal(response, request.rows)
            return Throw(Refused(f"http_{status}", response.text, faults=faults))
        if status in self._results.retry_statuses:
            # a proxy's own 503 may follow a request that it passed on; one that tells when to
            # come back is the API's
            is_known = status < 500 or (status == 503 and "retry-after" in response.headers)
            return Retry(applied="no" if is_known else "maybe")
        return self._by_status(request, response)

    def classify_optional(self, request: Request, response: HttpResponse) -> Disposition:
        """What can be done without ends nothing, whatever the status."""
        refused = Refused(f"http_{response.status}", "")
        if response.status in request.success:
            return Accept()
        if response.status == 401:
            return Renew(refused)
        if response.status == 429 or response.status in self._results.retry_statuses:
            return Retry(after_s=self._pause_s(response), pause=response.status == 429)
        return Throw(refused)

    def _about_rows(
        self, request: Request, response: HttpResponse, *, is_success: bool
    ) -> Disposition | None:
        """What the statuses of single rows mean for the whole request, if anything."""
        found = self._results.statuses_of_failed(response, request.rows)
        denied = [status for status in found if self._results.is_denied(status)]
        if denied:
            message = (
                f"The API answered {response.status}, and {denied[0]} for a row. "
                f"{_hint(denied[0], request)} "
                "Where such a row is bad, name the status in refused_statuses."
            )
            return Stop(ConfigError(message))
        again = [status for status in found if self._results.is_retried(status)]
        is_partial = is_success and not self._is_atomic
        if not again or (is_partial and len(again) < (request.rows or 0)):
            return None  # the others are judged first, and these sent again
        is_known = self._is_atomic or (is_success and set(again) <= NOT_STORED)
        return Retry(
            after_s=self._pause_s(response), applied="no" if is_known else "maybe", pause=True
        )

    def about_failed_job(
        self, response: HttpResponse, block: RowBlock, refused: Refused
    ) -> Refused | TooLarge:
        """What the texts in the last answer of a failed job make of its refusal."""
        said = squeeze(response.body[:_LOOKED_AT])
        sent = squeeze(block.enclosed(b"", b""))
        if told := _told(said, self._stop, sent):
            raise ConfigError(
                f"A job ended as {refused.code}, with {self._stop[told]!r}, one of stop_texts. "
                "Check authentication and its rights, the table's name (tables[].table) and its "
                "columns."
            )
        return TooLarge() if _told(said, self._large, sent) else refused

    def _by_status(self, request: Request, response: HttpResponse) -> Disposition:
        """What a status means that the form puts nowhere."""
        status = response.status
        hint = _hint(status, request)
        if request.job is not None and status in _ABSENT:
            return Throw(Refused(f"http_{status}", response.text))
        if 300 <= status < 400:
            return classify_by_status(response, "The API", {})
        if not hint:
            message = (
                f"The API answered {status} to {request.setting}, which is neither a success, nor "
                "in retry_statuses or refused_statuses. Add it where it belongs."
            )
            return Stop(InternalError(message))
        message = f"The API answered {status}. {hint}"
        where = (request.setting, request.table.name if request.table else "")
        if where not in self._accepted:
            error = ConfigError(message)
            return Renew(error) if status == 401 else Stop(error)
        # what worked before in this sync is no wrong setting
        if status in _ABSENT:
            return Retry(applied="no")  # a server that starts listens before it knows its routes
        message = f"{message} The same was accepted earlier in this sync."
        passing = TransientError(message)
        return Renew(passing) if status == 401 else Stop(passing)

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
            since = unix_time(response.headers["date"]) if self._reset_is_time else 0.0
            waits.append(float(reset) - since)
        except (KeyError, ValueError, TypeError):
            pass
        return max(waits)


def _told(said: bytes, wanted: Iterable[bytes], sent: Request | bytes) -> bytes | None:
    """The text of these that an answer holds by itself, not because it repeats a row."""
    found = [text for text in wanted if text in said]
    if not found:
        return None
    rows = sent if isinstance(sent, bytes) else squeeze(sent.content)
    return next((text for text in found if text not in rows), None)


def _hint(status: int, request: Request) -> str:
    """What to check where a status is about the credential or the address."""
    if status in {401, 402, 403}:
        right = f"the right that {request.setting} needs"
        return f"Check authentication and extra_headers, and {right}."
    if status in _ABSENT:
        return f"Check base_url, {request.setting} and the table's name (tables[].table)."
    if status == _NOT_THIS_CONTENT and request.plain is not None:
        return "It may not read compressed bodies: set request_compression to 'none'."
    return ""


def _seconds(retry_after: str, response: HttpResponse) -> float:
    """`Retry-After` as seconds; a date counts from the server's own."""
    try:
        if retry_after[:1].isdigit():
            return float(retry_after)
        return unix_time(retry_after) - unix_time(response.headers["date"])
    except (KeyError, ValueError, TypeError):
        return 0.0
