"""What an answer says about the rows of its request: how many, which failed, and why.

An answer without what the form promises about it proves nothing and is ambiguous.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from destination_bulk_tables.provider import Ambiguous, Refused, RowFault
from destination_bulk_tables.providers.custom_http.fields import (
    dig,
    row_number,
    says,
    squeeze,
    texts,
    wrong,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from destination_bulk_tables.provider import HttpResponse

_NEEDS = {
    "result_error_member": ("results_path",),
    "result_status_member": ("results_path", "errors_path"),
    "error_index_member": ("errors_path",),
    "error_message_member": ("results_path", "errors_path"),
}


class Results:
    """Reads counts, results and errors where the form says that they are."""

    def __init__(self, form: dict[str, Any]) -> None:
        self._is_atomic = bool(form.get("refusals_store_nothing"))
        self._results_path = form.get("results_path")
        self._errors_path = form.get("errors_path")
        self._error_member = form.get("result_error_member")
        self._status_member = form.get("result_status_member")
        self._index_member = form.get("error_index_member")
        self._index_base = int(form.get("error_index_base", 0))
        self._message_member = form.get("error_message_member")
        if self._results_path and not (self._error_member or self._status_member):
            raise wrong(
                "results_path",
                "needs result_error_member or result_status_member: what makes a result an error",
            )
        for name, needs in _NEEDS.items():
            if form.get(name) and not any(form.get(other) for other in needs):
                raise wrong(name, f"needs {' or '.join(needs)}")
        self._before = texts(form.get("already_stored_texts", ()))

    def errors(self, response: HttpResponse, count: int | None) -> list[Any]:
        """All that an answer about so many rows names as errors of them."""
        answer = _decode(response)
        results = self._results(answer, count) or ()
        failed = [result for result in results if self._is_error(result)]
        return [failed, self._errors(answer)]

    def faults_in_success(
        self, response: HttpResponse, count: int, *, count_path: str = "", is_repeat: bool = False
    ) -> list[RowFault]:
        """The rows that a success names as failed; of a repeat fewer rows may be new.

        Raises `Ambiguous` when it lacks what was promised, `Refused` when nothing was stored.
        """
        promises = count_path or self._results_path
        if not promises and not (self._errors_path and response.body.strip()):
            if response.status == 207:
                raise Ambiguous(
                    "HTTP 207, of which neither results_path, errors_path nor count_path tells more"
                )
            return []
        answer = _decode(response)
        if answer is None:
            raise Ambiguous(f"HTTP {response.status} with an answer that is not JSON")
        faults = self._faults_of(self._promised_results(answer, count))
        errors = self._errors(answer)
        named = self._named_faults(errors, count)
        if named is None:
            raise Refused("row_errors", self._message(errors), partial=not self._is_atomic)
        ordered = [fault for _, fault in sorted((faults | named).items())]
        if ordered and self._is_atomic:
            raise Refused(ordered[0].code, ordered[0].reason, faults=tuple(ordered))
        if count_path:
            found = dig(answer, count_path)
            stored = len(found) if isinstance(found, list) else found
            good = count - len(ordered)
            is_number = isinstance(stored, int | float) and not isinstance(stored, bool)
            if not is_number or not (0 if is_repeat else good) <= stored <= good:
                told = stored if is_number else "no number"
                raise Ambiguous(f"an answer with {told} at count_path for {count} rows")
        return ordered

    def _promised_results(self, answer: Any, count: int) -> list[Any]:
        if not self._results_path:
            return []
        results = self._results(answer, count)
        if results is None:
            raise Ambiguous("an answer without a list at results_path")
        if len(results) == count:
            return results
        # an API that stops at the first bad row has no results for those after it
        is_cut = self._is_atomic and 0 < len(results) < count
        if is_cut and self._is_error(results[-1]):
            return results
        raise Ambiguous(f"an answer with {len(results)} results for {count} rows")

    def is_stored_before(self, reason: str) -> bool:
        return says(squeeze(reason.encode()), self._before)

    def faults_in_refusal(self, response: HttpResponse, count: int | None) -> tuple[RowFault, ...]:
        """The rows a refusal names, as far as it does."""
        answer = _decode(response) if count and (self._results_path or self._errors_path) else None
        if answer is None or count is None:
            return ()
        results = self._results(answer, count)
        faults = self._faults_of(results) if results and len(results) <= count else {}
        faults |= self._named_faults(self._errors(answer), count) or {}
        return tuple(faults[position] for position in sorted(faults))

    def _results(self, answer: Any, count: int | None) -> list[Any] | None:
        if not self._results_path:
            return None
        found = dig(answer, self._results_path)
        if isinstance(found, list):
            return found
        return [answer] if count == 1 else None  # an answer about one row may leave the list out

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
            pairs: list[tuple[Any, Any]] = list(errors.items())
        elif isinstance(errors, list):
            pairs = [
                (dig(error, self._index_member) if self._index_member else None, error)
                for error in errors
            ]
        else:
            pairs = [(None, errors)] if errors else []
        faults = {}
        for named, error in pairs:
            number = row_number(named)
            if number is None or not 0 <= number - self._index_base < count:
                return None
            position = number - self._index_base
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
