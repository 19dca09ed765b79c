"""What an answer means: its status, the texts in it, and what it says about single rows."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import msgspec

from destination_bulk_tables.errors import ConfigError, InternalError
from destination_bulk_tables.provider import (
    Accept,
    Ambiguous,
    HttpRequest,
    Refused,
    Retry,
    RowFault,
    Stop,
    Throw,
    TooLarge,
    classify_by_status,
)
from destination_bulk_tables.providers.custom_http.fields import dig, statuses, wrong

if TYPE_CHECKING:
    from collections.abc import Sequence

    from destination_bulk_tables.provider import Disposition, HttpResponse

_LOOKED_AT = 64_000  # bytes of an answer that are searched for texts
OK = frozenset(range(200, 300))


@dataclass(frozen=True, slots=True)
class Request(HttpRequest):
    """A request, and what its answer has to be. `rows`: how many it holds, if it is a write."""

    setting: str = ""
    success: frozenset[int] = OK
    rows: int | None = None


class Answers:
    """Reads answers as the form describes them."""

    def __init__(self, form: dict[str, Any]) -> None:
        self._count_path = form.get("count_path")
        self._results_path = form.get("results_path")
        self._errors_path = form.get("errors_path")
        self._error_member = form.get("result_error_member")
        self._status_member = form.get("result_status_member")
        self._index_member = form.get("error_index_member")
        self._message_member = form.get("error_message_member")
        if self._results_path and not (self._error_member or self._status_member):
            raise wrong(
                "results_path",
                "needs result_error_member or result_status_member: what makes a result an error",
            )
        self._refused_statuses = statuses(
            "refused_statuses", form.get("refused_statuses", "400,409,422")
        )
        self._retry_statuses = statuses(
            "retry_statuses", form.get("retry_statuses", "408,425,429,500,502-504")
        )
        self._stop, self._limited, self._large, self._bad, self._before = (
            [_squeeze(text.encode()) for text in form.get(name, ()) if text.strip()]
            for name in (
                "stop_texts",
                "rate_limit_texts",
                "too_large_texts",
                "refused_texts",
                "already_stored_texts",
            )
        )
        self._wait_s = float(form.get("rate_limit_wait_seconds", 0))
        self._reset_header = form.get("reset_header", "").lower()
        self._reset_is_time = form.get("reset_header_format") == "unix_time"

    def classify(self, request: Request, response: HttpResponse) -> Disposition:
        status = response.status
        is_success = status in request.success
        said = self._said(response, is_success=is_success)
        if _found(self._stop, said):
            message = (
                f"The API answered {status} with one of stop_texts. Check authentication and its "
                "rights, the table's name (tables[].table) and "
                f"its columns, and {request.setting}."
            )
            return Stop(ConfigError(message))
        if status == 429 or _found(self._limited, said):
            return Retry(after_s=self._pause_s(response), pause=True)
        if status == 413 or _found(self._large, said):
            return Throw(TooLarge())
        if is_success:
            return Accept()
        if status in self._refused_statuses or _found(self._bad, said):
            faults = self._faults_in_refusal(response, request.rows)
            return Throw(Refused(f"http_{status}", response.text, faults=faults))
        if status in self._retry_statuses:
            is_known = status < 500 or status == 503
            return Retry(applied="no" if is_known else "maybe")
        return self._by_status(request, response)

    def _by_status(self, request: Request, response: HttpResponse) -> Disposition:
        where = f"Check base_url, {request.setting} and the table's name (tables[].table)."
        denied = (
            f"Check authentication and extra_headers, and the right that {request.setting} needs."
        )
        hints = {401: denied, 403: denied, 402: denied, 404: where, 405: where, 410: where}
        if response.status >= 500 or 200 <= response.status < 300:
            message = (
                f"The API answered {response.status} to {request.setting}, which is neither a "
                "success, nor in retry_statuses or "
                "refused_statuses. Add it where it belongs."
            )
            return Stop(InternalError(message))
        return classify_by_status(response, "The API", hints)

    def _said(self, response: HttpResponse, *, is_success: bool) -> bytes:
        """What may be searched for texts: a success may repeat rows, and these prove nothing."""
        body = _squeeze(response.body[:_LOOKED_AT])
        texts = [*self._stop, *self._limited, *self._large]
        if not is_success or not _found(
            texts, _squeeze(response.body) if len(response.body) > _LOOKED_AT else body
        ):
            return b"" if is_success else body
        answer = _decode(response)
        results = self._results(answer)
        errors = [result for result in results or () if self._is_error(result)]
        return _squeeze(msgspec.json.encode([errors, self._errors(answer)]))

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

    # --- rows

    def faults_in_success(
        self, response: HttpResponse, count: int, *, is_atomic: bool
    ) -> list[RowFault]:
        """The rows that a success names as failed.

        Raises `Ambiguous` when it lacks what was promised, `Refused` when nothing was stored.
        """
        promises = self._count_path or self._results_path
        if not promises and not (self._errors_path and response.body.strip()):
            return []
        answer = _decode(response)
        if answer is None:
            raise Ambiguous(f"HTTP {response.status} with an answer that is not JSON")
        faults = self._faults_of(self._promised_results(answer, count, stops_early=is_atomic))
        errors = self._errors(answer)
        named = self._named_faults(errors, count)
        if named is None:
            raise Refused("row_errors", self._message(errors), partial=not is_atomic)
        ordered = [fault for _, fault in sorted((faults | named).items())]
        if ordered and is_atomic:
            raise Refused(ordered[0].code, ordered[0].reason, faults=tuple(ordered))
        if self._count_path:
            found = dig(answer, self._count_path)
            stored = len(found) if isinstance(found, list) else found
            if isinstance(stored, bool) or stored != count - len(ordered):
                told = stored if isinstance(stored, int) else "no number"
                raise Ambiguous(f"an answer with {told} at count_path for {count} rows")
        return ordered

    def _promised_results(self, answer: Any, count: int, *, stops_early: bool) -> list[Any]:
        if not self._results_path:
            return []
        results = self._results(answer)
        if results is None and count == 1:
            results = [answer]  # an answer about one row may leave the list out
        if results is None:
            raise Ambiguous("an answer without a list at results_path")
        if len(results) == count:
            return results
        # an API that stops at the first bad row has no results for those after it
        if stops_early and len(results) < count and results and self._is_error(results[-1]):
            return results
        raise Ambiguous(f"an answer with {len(results)} results for {count} rows")

    def is_stored_before(self, reason: str) -> bool:
        return _found(self._before, _squeeze(reason.encode()))

    def _faults_in_refusal(self, response: HttpResponse, count: int | None) -> tuple[RowFault, ...]:
        """The rows a refusal names, as far as it does."""
        answer = _decode(response) if count and (self._results_path or self._errors_path) else None
        if answer is None or count is None:
            return ()
        results = self._results(answer)
        faults = self._faults_of(results) if results and len(results) <= count else {}
        faults |= self._named_faults(self._errors(answer), count) or {}
        return tuple(faults[position] for position in sorted(faults))

    def _results(self, answer: Any) -> list[Any] | None:
        found = dig(answer, self._results_path) if self._results_path else None
        return found if isinstance(found, list) else None

    def _errors(self, answer: Any) -> Any:
        return dig(answer, self._errors_path) if self._errors_path else None

    def _is_error(self, result: Any) -> bool:
        if self._error_member and dig(result, self._error_member) not in (None, False, "", [], {}):
            return True
        status = dig(result, self._status_member) if self._status_member else 200
        return not (isinstance(status, int) and 200 <= status < 300)

    def _faults_of(self, results: Sequence[Any]) -> dict[int, RowFault]:
        return {
            i: self._fault(i, result) for i, result in enumerate(results) if self._is_error(result)
        }

    def _named_faults(self, errors: Any, count: int) -> dict[int, RowFault] | None:
        """Errors by row; None when one of them names no row of the request."""
        if isinstance(errors, dict):
            pairs = [
                (int(name) if name.isdigit() else None, error) for name, error in errors.items()
            ]
        elif isinstance(errors, list):
            pairs = [
                (dig(error, self._index_member) if self._index_member else None, error)
                for error in errors
            ]
        else:
            pairs = [(None, errors)] if errors else []
        faults = {}
        for position, error in pairs:
            if (
                not isinstance(position, int)
                or isinstance(position, bool)
                or not 0 <= position < count
            ):
                return None
            faults[position] = self._fault(position, error)
        return faults

    def _fault(self, position: int, error: Any) -> RowFault:
        code = dig(error, self._status_member) if self._status_member else None
        name = f"status_{code}" if isinstance(code, int) else "row_error"
        return RowFault(position, name, self._message(error))

    def _message(self, error: Any) -> str:
        text = dig(error, self._message_member) if self._message_member else None
        text = error if text is None else text
        return (
            text
            if isinstance(text, str)
            else msgspec.json.encode(text)[:2000].decode("utf-8", "replace")
        )


def _decode(response: HttpResponse) -> Any:
    try:
        return msgspec.json.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _squeeze(text: bytes) -> bytes:
    """Without white space, in which JSON of the same content may differ."""
    return b"".join(text.split())


def _found(texts: Sequence[bytes], said: bytes) -> bool:
    return any(text in said for text in texts)


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
