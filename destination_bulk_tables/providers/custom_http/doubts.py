"""Signs of trouble in an answer that nobody told us to read.

Many APIs answer 200 and say beside it what went wrong: `{"inserted": 90, "errors": [...]}`,
`{"FailedRecordCount": 3}`, `{"success": false}`. A form that does not mention the place must not
turn them into delivered rows. Looked at are the members of the answer and those of objects in a
list of it; not what a row may have brought along, so no member that is called like a column.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from destination_bulk_tables.http import HttpResponse

_WORDS = frozenset(
    {"error", "errors", "fail", "failed", "failure", "failures", "invalid", "unprocessed"}
    | {"rejected", "rejects", "rejections"}
)
_CLAIMS = frozenset({"ok", "success", "succeeded"})
_OUTCOMES = frozenset({"status", "result", "state"})
_BAD_OUTCOMES = frozenset({"error", "errors", "fail", "failed", "failure", "partial"})
# cheap, so that answers without such a word are not decoded
_SUSPECT = re.compile(
    rb"error|fail|invalid|reject|unprocessed|partial|\"(?:ok|success|succeeded)\"\s*:\s*false",
    re.IGNORECASE,
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def trouble_in(
    response: HttpResponse, count: int = 0, columns: Collection[str] = (), *, read: str = "."
) -> tuple[str, Any] | None:
    """The member that tells of trouble and what it says; None where all is well.

    `count` and `columns`: of the rows sent. `read`: the path of a list whose items are not looked
    at, because a setting judges them; `.`: no list's are.
    """
    if not _SUSPECT.search(response.body):
        return None
    answer = response.parsed()
    own = columns if count == 1 else ()  # an answer about one row may be that row
    for name, value in _members(answer, own, columns, read):
        if _tells_trouble(name.rpartition(".")[2], value):
            return name, value
    return None


def _members(
    answer: Any, own: Collection[str], columns: Collection[str], read: str
) -> Iterator[tuple[str, Any]]:
    if isinstance(answer, list) and read != ".":
        yield from _members_of_items("", answer, columns)
    if isinstance(answer, dict):
        yield from ((name, value) for name, value in answer.items() if name not in own)
        for name, value in answer.items():
            if isinstance(value, list) and name not in {*own, read} and read != ".":
                yield from _members_of_items(f"{name}.", value, columns)


def _members_of_items(
    before: str, items: list[Any], columns: Collection[str]
) -> Iterator[tuple[str, Any]]:
    for number, item in enumerate(items):
        if isinstance(item, dict):
            for name, value in item.items():
                if name not in columns:
                    yield f"{before}{number}.{name}", value


def _tells_trouble(name: str, value: Any) -> bool:
    lowered = name.lower()
    if lowered in _CLAIMS:
        return value is False
    if lowered in _OUTCOMES:
        return isinstance(value, str) and value.lower() in _BAD_OUTCOMES
    words = {word.lower() for word in _WORD.findall(name)}
    return bool(words & _WORDS) and not _is_empty(value)


def _is_empty(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_empty, value.values()))
    if isinstance(value, list):
        return all(map(_is_empty, value))
    return value in (None, False, 0, "", "0", "false", "none")
