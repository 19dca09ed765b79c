"""One HTTP request and its answer, as providers see them, and what can go wrong between the two.

A *flow* is a generator that yields an `HttpRequest` and receives the `HttpResponse` to it. The
sender pays the rate limit, retries, waits and authenticates each attempt; a flow sees only accepted
responses. What the sender cannot retry is thrown into the flow as one of three exceptions
(`Refused`, `TooLarge`, `Ambiguous`), which the flow may handle and otherwise lets pass to the
sender.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import msgspec

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.model import UNDECODABLE

T = TypeVar("T")
Flow = Generator["HttpRequest", "HttpResponse", T]
D = TypeVar("D")
_BOM = b"\xef\xbb\xbf"  # some servers begin JSON with it


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. `path` is below the provider's base URL and already encoded.

    `repeat="unsafe"`: applying it twice differs from once, so an ambiguous outcome is not retried
    blindly; "settled": it may be repeated, but what follows must not overtake an earlier attempt,
    so that is given time; "once": the flow has another way, so whatever keeps an answer away is
    thrown as `Ambiguous`, after time to settle. `not_after`: monotonic time after which it must not
    be sent any more. `rows`: how many it carries, if it is a write. `shown`: its path for who looks
    at requests, where the path itself holds values of a row. `plain`: its body as it was before it
    was compressed, if it was.
    """

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeat: Literal["safe", "settled", "unsafe", "once"] = "safe"
    not_after: float | None = None
    content_type: str = "application/json"
    url: str | None = None  # in place of base URL and path: a token server is at another address
    rows: int | None = None
    shown: str | None = None
    plain: bytes | None = None

    @property
    def content(self) -> bytes:
        """What its body says."""
        return (self.body if self.plain is None else self.plain) or b""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A complete response; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    resent: int = 0  # earlier attempts of this request that may have been applied as well

    def decode(self, kind: type[D]) -> D:
        """The JSON body as `kind`; raises `Ambiguous`: an unreadable answer proves nothing."""
        try:
            return msgspec.json.decode(self.body.removeprefix(_BOM), type=kind)
        except UNDECODABLE as error:
            message = f"HTTP {self.status} with an answer that is not the documented JSON"
            raise Ambiguous(message) from error

    def parsed(self) -> Any:
        """The JSON body as it is, None where it is none."""
        try:
            return self.decode(object)
        except Ambiguous:
            return None

    def retry_after_s(self, now: float) -> float | None:
        """`Retry-After` in seconds from now (Unix): a number, or an HTTP date (RFC 9110 10.2.3)."""
        value = self.headers.get("retry-after", "").strip()
        try:
            return float(value) if value[:1].isdigit() else max(0.0, unix_time(value) - now)
        except (ValueError, TypeError):
            return None

    @property
    def text(self) -> str:
        """The start of the body. It may quote rows: mask it before it reaches a log."""
        return self.body[:2000].decode("utf-8", "replace").strip()


@dataclass(frozen=True, slots=True)
class RowFault:
    """A row the vendor rejected while it took others; `position` is that in the block."""

    position: int
    code: str
    reason: str


class Refused(Exception):
    """The vendor refused content of the request; `reason` may quote rows.

    `partial`: it took some of the rows and the answer does not tell which. `faults`: the rows it
    names as bad, maybe not all of them; the others are sent again without these. `resent`, set by
    the sender: earlier attempts of the request that may have been applied.
    """

    def __init__(
        self, code: str, reason: str, *, partial: bool = False, faults: tuple[RowFault, ...] = ()
    ) -> None:
        super().__init__(code)
        self.code = code
        self.reason = reason
        self.partial = partial
        self.faults = faults
        self.resent = 0


class TooLarge(Exception):
    """The vendor refused the size of the request."""


class Ambiguous(Exception):
    """The request may or may not have been applied; `is_slow`: it may even still be under way.

    `is_busy`: the answer says "not now", maybe after `after_s` seconds; a gateway may say so of a
    request that it passed on.
    """

    def __init__(
        self,
        reason: str,
        *,
        is_slow: bool = False,
        is_busy: bool = False,
        after_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.is_slow = is_slow
        self.is_busy = is_busy
        self.after_s = after_s


def name_of(error: Exception) -> str:
    """One word for what kept a request from being accepted."""
    return type(error).__name__.lower()


def cause_of(error: Exception) -> str:
    """The same, of a refusal its code."""
    return error.code if isinstance(error, Refused) else name_of(error)


def unix_time(http_date: str) -> float:
    """An HTTP date; the oldest format names no zone. Raises `ValueError` or `TypeError`."""
    moment = parsedate_to_datetime(http_date)
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def segment(text: str, what: str = "a table name (tables[].table)") -> str:
    """Encode text as one segment of a URL path; `ConfigError` for one that leaves its place."""
    if text in {"", ".", ".."}:  # whatever is between makes another path of it
        raise ConfigError(f"{text!r} cannot be {what}: in an address it stands for another place.")
    return quote(text, safe="")
