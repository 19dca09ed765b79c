"""What an answer says of single rows: which failed, with what status, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from destination_bulk_tables.http import RowFault
from destination_bulk_tables.providers.custom_http.fields import (
    dig,
    row_number,
    words_and_statuses,
    wrong,
)

_NEEDS = {
    "result_error_member": ("results_path",),
    "result_status_member": ("results_path", "errors_path"),
    "error_index_member": ("errors_path",),
    "error_message_member": ("results_path", "errors_path"),
}


@dataclass(frozen=True, slots=True)
class Failed:
    """What an answer says of one row. `status`: that of the row, where it has one."""

    fault: RowFault
    status: int | None


class RowFaults:
    def __init__(self, form: dict[str, Any]) -> None:
        self.results_path: str = form.get("results_path", "")
        self.errors_path: str = form.get("errors_path", "")
        self._error_member: str = form.get("result_error_member", "")
        self.status_member: str = form.get("result_status_member", "")
        self._index_member: str = form.get("error_index_member", "")
        self._index_base = int(form.get("error_index_base", 0))
        self._message_member: str = form.get("error_message_member", "")
        if self.results_path and not (self._error_member or self.status_member):
            raise wrong(
                "results_path",
                "needs result_error_member or result_status_member: what makes a result an error",
            )
        for name, needs in _NEEDS.items():
            if form.get(name) and not any(form.get(other) for other in needs):
                raise wrong(name, f"needs {' or '.join(needs)}")
        self.good, self._good_words = words_and_statuses(
            "result_success_statuses", form.get("result_success_statuses") or "200-299"
        )

    def results(self, answer: Any, count: int | None) -> list[Any] | None:
        """The list of results; of one row also the bare result, if it shows that it is one."""
        if not self.results_path:
            return None
        found = dig(answer, self.results_path)
        if isinstance(found, list):
            return found
        if count != 1:
            return None
        if isinstance(found, dict) and self.results_path != ".":
            return [found]
        return [answer] if isinstance(answer, dict) and self.tells(answer) else None

    def tells(self, result: Any) -> bool:
        """Whether a result has something that was promised of one."""
        return dig(result, self.status_member) is not None or self._is_named(result)

    def _is_named(self, result: Any) -> bool:
        """Whether a result has what makes it an error."""
        return dig(result, self._error_member) not in (None, False, "", [], {})

    def is_error(self, result: Any) -> bool:
        if self._is_named(result):
            return True
        return bool(self.status_member) and not self._is_good(dig(result, self.status_member))

    def _is_good(self, status: Any) -> bool:
        number = row_number(status)
        return status in self._good_words if number is None else number in self.good

    def failed_results(self, results: Sequence[Any]) -> dict[int, Failed]:
        return {
            i: self._failed(i, result) for i, result in enumerate(results) if self.is_error(result)
        }

    def errors(self, answer: Any) -> Any:
        return dig(answer, self.errors_path)

    def named_errors(self, answer: Any, count: int) -> dict[int, Failed] | None:
        """Errors by row; None when one of them names no row of the request."""
        errors = self.errors(answer)
        if isinstance(errors, dict):
            pairs: list[tuple[Any, Any]] = list(errors.items())
        elif isinstance(errors, list):
            pairs = [(dig(error, self._index_member), error) for error in errors]
        else:
            pairs = [(None, errors)] if errors else []
        failed = {}
        for named, error in pairs:
            number = row_number(named)
            if number is None or not 0 <= number - self._index_base < count:
                return None
            position = number - self._index_base
            failed[position] = self._failed(position, error)
        return failed

    def _failed(self, position: int, error: Any) -> Failed:
        status = row_number(dig(error, self.status_member))
        name = "row_error" if status is None else f"status_{status}"
        return Failed(RowFault(position, name, self.message(error)), status)

    def message(self, error: Any) -> str:
        text = dig(error, self._message_member) or error  # an empty reason is none
        if isinstance(text, str):
            return text
        return msgspec.json.encode(text)[:2000].decode("utf-8", "replace")
