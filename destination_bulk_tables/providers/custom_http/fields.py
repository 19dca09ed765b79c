"""The small languages of single fields, and the error of one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from destination_bulk_tables.errors import SettingError
from destination_bulk_tables.http import HttpResponse
from destination_bulk_tables.model import Table

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_OWN_HEADERS = frozenset(
    {"connection", "content-encoding", "content-length", "expect", "transfer-encoding"}
)
_DIGITS = re.compile(r"[0-9]{1,9}")
# 1xx come before an answer and are none
_STATUSES = re.compile(r"\s*([2-5]\d\d)\s*(?:-\s*([2-5]\d\d)\s*)?")


def wrong(field: str, what: str) -> SettingError:
    return SettingError(f"provider.{field}", what)


def statuses(field: str, text: str) -> frozenset[int]:
    """`200,201,500-504` as a set."""
    found: set[int] = set()
    for part in text.split(","):
        match = _STATUSES.fullmatch(part)
        named = range(int(match[1]), int(match[2] or match[1]) + 1) if match else ()
        if not named:
            raise wrong(
                field,
                "must be statuses and ranges from 200 to 599 joined by commas, such as 200,500-504",
            )
        found.update(named)
    return frozenset(found)


def words_and_statuses(field: str, text: str) -> tuple[frozenset[int], frozenset[str]]:
    """`200,201,OK`: statuses and ranges, and texts that stand where a status could."""
    parts = [part.strip() for part in text.split(",")]
    words = frozenset(part for part in parts if part and not part[0].isdigit())
    numbers = ",".join(part for part in parts if part not in words)
    return (statuses(field, numbers) if numbers else frozenset()), words


def header_lines(field: str, text: str | None) -> dict[str, str]:
    """One `Name: value` per line."""
    headers = {}
    for number, line in enumerate((text or "").splitlines(), 1):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise wrong(field, f"line {number} must look like Name: value")
        headers[header_name(field, name.strip())] = header_value(field, value.strip())
    return headers


def header_name(field: str, text: str) -> str:
    if not _HEADER_NAME.fullmatch(text):
        raise wrong(field, "holds a header name with characters that are not allowed in one")
    if text.casefold() in _OWN_HEADERS:
        raise wrong(field, f"holds the header {text}, which describes the request as it is sent")
    return text


def header_value(field: str, text: str) -> str:
    if not _HEADER_VALUE.fullmatch(text):
        raise wrong(
            field, "holds characters that are not allowed in a header: only printable ASCII is"
        )
    return text


def is_page(response: HttpResponse) -> bool:
    """Whether an answer is something to look at: of a login, a proxy, a maintenance."""
    body = response.body.lstrip(b"\xef\xbb\xbf \t\r\n")
    return body[:1] == b"<" or (
        bool(body) and "html" in response.headers.get("content-type", "").lower()
    )


def dig(value: Any, path: str) -> Any:
    """Follow a dotted path of member names and list positions; None where it ends, or for none."""
    if not path:
        return None
    for step in path.split(".") if path != "." else ():
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and (at := row_number(step)) is not None and at < len(value):
            value = value[at]
        else:
            return None
    return value


def row_number(value: Any) -> int | None:
    """A number as it is or in digits; None for all else, also for what only looks like digits."""
    if isinstance(value, str):
        return int(value) if _DIGITS.fullmatch(value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def texts(listed: Iterable[str]) -> list[bytes]:
    """Texts to look for; white space does not count, in which JSON of the same content differs."""
    return [squeeze(text.encode()) for text in listed if text.strip()]


def squeeze(text: bytes) -> bytes:
    return b"".join(text.split())


def says(squeezed: bytes, wanted: Iterable[bytes]) -> bool:
    return any(text in squeezed for text in wanted)


def told_by_page(setting: str, table: Table) -> str:
    return (
        f"The API answered {setting} of table {table.name} with a page of HTML or XML, as logins, "
        "proxies and maintenances show. Where the API does answer so, name a text of its good "
        "answers (success_text)."
    )
