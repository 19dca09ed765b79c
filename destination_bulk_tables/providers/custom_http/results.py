"""What an answer means for the rows of its request: stored, failed, to be sent again.

An answer without what the form promises about it proves nothing and is ambiguous. Where nothing is
promised, one that tells of trouble where no setting reads is no success either (`doubts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from destination_bulk_tables.http import Ambiguous, HttpResponse, Refused, RowFault
from destination_bulk_tables.outcomes import Outcome
from destination_bulk_tables.providers.custom_http.doubts import trouble_in
from destination_bulk_tables.providers.custom_http.fields import (
    dig,
    is_page,
    says,
    squeeze,
    statuses,
    texts,
)
from destination_bulk_tables.providers.custom_http.row_faults import Failed, RowFaults

_STATUSES = {
    "refused_statuses": "400,409,422",
    "retry_statuses": "408,425,429,500,502-504,520-524",
}
_DENIED = frozenset({401, 403, 404})
NOT_STORED = frozenset({408, 425, 429, 503})  # said of a row by the API itself


class Results:
    def __init__(self, form: dict[str, Any]) -> None:
        self._is_atomic = bool(form.get("refusals_store_nothing"))
        self._rows = RowFaults(form)
        self.refused_statuses, self.retry_statuses = (
            statuses(name, form.get(name, default)) for name, default in _STATUSES.items()
        )
        self._denied = _DENIED - self.refused_statuses - self._rows.good
        self._retried = self.retry_statuses - self.refused_statuses - self._rows.good
        self._before = texts(form.get("already_stored_texts", ()))
        self._text = texts([form.get("success_text", "")])

    @property
    def reads_nothing(self) -> bool:
        """Whether no setting but a path to a count says what an answer must hold."""
        return not (self._rows.results_path or self._rows.errors_path or self._text)

    def errors(self, response: HttpResponse, count: int | None) -> list[Any]:
        """All that an answer about so many rows names as errors of them."""
        answer = response.parsed()
        results = self._rows.results(answer, count) or ()
        failed = [result for result in results if self._rows.is_error(result)]
        return [failed, self._rows.errors(answer)]

    def statuses_of_failed(self, response: HttpResponse, count: int | None) -> list[int]:
        """The statuses of single rows that an answer, of whatever status, gives as failed."""
        if not self._rows.status_member or not count:
            return []
        answer = response.parsed()
        results = self._rows.results(answer, count) or ()
        failed = self._rows.failed_results(results[:count]) | (
            self._rows.named_errors(answer, count) or {}
        )
        return [one.status for one in failed.values() if one.status is not None]

    def is_denied(self, status: int) -> bool:
        """Whether such a status of a row is about the credential or the table, not the row."""
        return status in self._denied

    def is_retried(self, status: int) -> bool:
        """Whether such a status of a row means to come back, not that the row is bad."""
        return status in self._retried

    def judge_success(
        self,
        response: HttpResponse,
        count: int,
        *,
        columns: Sequence[str] = (),
        count_path: str = "",
        is_repeat: bool = False,
        is_repeatable: bool = False,
    ) -> Outcome:
        """The rows that a success names as failed; of a repeat fewer rows may be new.

        Raises `Ambiguous` when it lacks what was promised, `Refused` when nothing was stored or
        when it tells of trouble without a row.
        """
        if self._text and not says(squeeze(response.body), self._text):
            raise Ambiguous(f"HTTP {response.status} without success_text")
        if is_page(response) and not self._text:
            raise Ambiguous(
                f"HTTP {response.status} with a page of HTML or XML, as logins, proxies and "
                "maintenances show, in place of an answer about the rows; where the API does "
                "answer so, success_text tells which of its answers is good"
            )
        promises = count_path or self._rows.results_path
        if not promises and not (self._rows.errors_path and response.body.strip()):
            if response.status == 207 and not self._text:
                raise Ambiguous(
                    "HTTP 207, of which neither results_path, errors_path nor count_path tells more"
                )
            self._require_no_trouble(response, count, columns)
            return Outcome()
        answer = response.parsed()
        if answer is None:
            raise Ambiguous(f"HTTP {response.status} with an answer that is not JSON")
        failed = self._rows.failed_results(self._promised_results(answer, count))
        named = self._rows.named_errors(answer, count)
        if named is None:
            raise Refused(
                "row_errors",
                self._rows.message(self._rows.errors(answer)),
                partial=not self._is_atomic,
            )
        failed |= named
        ordered = [failed[position] for position in sorted(failed)]
        if not ordered:
            self._require_no_trouble(response, count, columns)
        if ordered and self._is_atomic:
            faults = tuple(one.fault for one in ordered)
            raise Refused(faults[0].code, faults[0].reason, faults=faults)
        if count_path:
            _require_count(answer, count_path, count, count - len(ordered), is_repeat=is_repeat)
        return self._judgement(ordered, is_repeatable=is_repeatable)

    def _judgement(self, failed: Sequence[Failed], *, is_repeatable: bool) -> Outcome:
        again, faults = [], []
        for one in failed:
            if one.status is None or not self.is_retried(one.status):
                faults.append(one.fault)
            elif is_repeatable or one.status in NOT_STORED:
                again.append(one.fault.position)
            else:  # a gateway's word about a row: nobody knows whether it is in
                raise Refused(one.fault.code, one.fault.reason, partial=True)
        return Outcome(tuple(faults), tuple(again))

    def _require_no_trouble(
        self, response: HttpResponse, count: int, columns: Sequence[str]
    ) -> None:
        """Raise `Refused` for an answer that tells of errors where no setting reads."""
        found = trouble_in(response, count, columns, read=self._rows.results_path)
        if found is not None:
            name, value = found
            reason = (
                f"The answer has {name!r}, which tells of trouble and which no setting reads "
                f"(errors_path, results_path): {self._rows.message(value)}"
            )
            raise Refused("unread_errors", reason, partial=not self._is_atomic)

    def _promised_results(self, answer: Any, count: int) -> list[Any]:
        if not self._rows.results_path:
            return []
        results = self._rows.results(answer, count)
        if results is None:
            raise Ambiguous("an answer without a list at results_path")
        if len(results) == count:
            if self._rows.status_member and not all(map(self._rows.tells, results)):
                raise Ambiguous("a result without what result_status_member promises")
            return results
        # an API that stops at the first bad row has no results for those after it
        is_cut = self._is_atomic and 0 < len(results) < count
        if is_cut and self._rows.is_error(results[-1]):
            return results
        raise Ambiguous(f"an answer with {len(results)} results for {count} rows")

    def judge_accepted(self, response: HttpResponse, count: int, columns: Sequence[str]) -> None:
        """An answer before the rows are stored proves nothing; raise for one that tells trouble."""
        if is_page(response):
            raise Ambiguous(f"HTTP {response.status} with a page in place of a job")
        self._require_no_trouble(response, count, columns)

    def is_stored_before(self, reason: str) -> bool:
        return says(squeeze(reason.encode()), self._before)

    def faults_in_refusal(self, response: HttpResponse, count: int | None) -> tuple[RowFault, ...]:
        """The rows a refusal names, as far as it does."""
        has_paths = self._rows.results_path or self._rows.errors_path
        answer = response.parsed() if count and has_paths else None
        if answer is None or count is None:
            return ()
        results = self._rows.results(answer, count)
        failed = self._rows.failed_results(results) if results and len(results) <= count else {}
        failed |= self._rows.named_errors(answer, count) or {}
        return tuple(failed[position].fault for position in sorted(failed))


def _require_count(answer: Any, path: str, sent: int, good: int, *, is_repeat: bool) -> None:
    found = dig(answer, path)
    stored = len(found) if isinstance(found, list) else found
    is_number = isinstance(stored, int | float) and not isinstance(stored, bool)
    if not is_number or not (0 if is_repeat else good) <= stored <= good:
        told = stored if is_number else "no number"
        raise Ambiguous(f"an answer with {told} at count_path for {sent} rows")
