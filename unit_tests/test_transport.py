"""What an exception of requests or urllib3 says: the request cannot have been seen, or may have."""

from __future__ import annotations

import io
import socket
from typing import TYPE_CHECKING, Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    IncompleteRead,
    LocationParseError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.provider import HttpRequest
from destination_bulk_tables.transport import (
    MAX_RESPONSE_BYTES,
    BoundedReader,
    Transport,
    TransportError,
    _fold,
)
from unit_tests.fakes import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTION = HTTPSConnection("vendor.example")
POOL: Any = None


def retried(reason: Exception) -> MaxRetryError:
    """As urllib3 wraps what ended its last attempt."""
    return MaxRetryError(POOL, "/", reason)


@pytest.mark.parametrize(
    ("error", "sent", "kind"),
    [
        (
            requests.ConnectionError(
                retried(NameResolutionError("vendor.example", CONNECTION, socket.gaierror()))
            ),
            "no",
            "dns",
        ),
        (
            requests.ConnectionError(retried(NewConnectionError(CONNECTION, "refused"))),
            "no",
            "connect",
        ),
        (
            requests.ConnectTimeout(retried(ConnectTimeoutError(CONNECTION, "timed out"))),
            "no",
            "connect",
        ),
        (requests.ConnectTimeout(), "no", "connect"),
        (requests.exceptions.ProxyError(), "no", "connect"),
        (requests.exceptions.SSLError("certificate verify failed"), "no", "tls"),
        (requests.ReadTimeout(ReadTimeoutError(POOL, "/", "timed out")), "maybe", "timeout"),
        (requests.Timeout(), "maybe", "timeout"),
        (requests.ConnectionError(ReadTimeoutError(POOL, "/", "timed out")), "maybe", "timeout"),
        (
            requests.ConnectionError(ProtocolError("aborted", ConnectionResetError(104, "reset"))),
            "maybe",
            "broken",
        ),
        (
            requests.exceptions.ChunkedEncodingError(ProtocolError("broken", IncompleteRead(1, 9))),
            "maybe",
            "broken",
        ),
        (ProtocolError("aborted", BrokenPipeError()), "maybe", "broken"),
        (ConnectionResetError(104, "reset"), "maybe", "broken"),
        (OSError("anything"), "maybe", "broken"),
        (TransportError("no", "as it is", "tls"), "no", "tls"),
    ],
)
def test_an_exception_says_whether_the_request_was_seen(
    error: Exception, sent: str, kind: str
) -> None:
    """Only what surely happened before sending is "no"."""
    folded = _fold(error)
    assert (folded.sent, folded.kind) == (sent, kind)


class _Adapter(HTTPAdapter):
    """Answers without a network, or raises."""

    def __init__(self, chunks: list[bytes], error: Exception | None = None) -> None:
        super().__init__()
        self.chunks = chunks
        self.error = error
        self.prepared: list[requests.PreparedRequest] = []
        self.options: list[dict[str, Any]] = []
        self.status = 200
        self.headers = {"X-Thing": "Value", "Location": "https://elsewhere.example/"}
        self.sizes: list[int] = []

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]  # all by name
        self.prepared.append(request)
        self.options.append(options)
        if self.error is not None:
            raise self.error
        response = requests.Response()
        response.status_code = self.status
        response.request = request
        response.raw = io.BytesIO()
        response.url = str(request.url)
        response.headers.update(self.headers)
        response.iter_content = self.pieces  # type: ignore[method-assign,assignment]  # no socket
        return response

    def pieces(self, size: int) -> Iterator[bytes]:
        self.sizes.append(size)
        return iter(self.chunks)


def rig(
    chunks: list[bytes], error: Exception | None = None
) -> tuple[Transport, _Adapter, FakeClock]:
    """A transport whose adapter answers from memory."""
    clock = FakeClock()
    transport = Transport("https://vendor.example/", clock)
    adapter = _Adapter(chunks, error)
    transport._local.adapter = adapter
    transport._local.used = 0.0
    return transport, adapter, clock


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("https://vendor .example", {}),
        ("https://.example", {}),
        ("https://vendor.example", {"auth": "a\nb"}),
    ],
)
def test_what_http_cannot_carry_is_a_config_error(url: str, headers: dict[str, str]) -> None:
    """It fails the same way at each attempt, so it is not one that may pass."""
    with pytest.raises(ConfigError):
        Transport(url, FakeClock()).send(HttpRequest("GET", "/"), headers, 5.0)


@pytest.mark.parametrize(
    "error",
    [LocationParseError("label too long"), UnicodeEncodeError("latin-1", "\u20ac", 0, 1, "")],
)
def test_what_only_shows_when_it_is_sent_is_one_as_well(error: Exception) -> None:
    """A host name with a label that is too long, a header that is not Latin-1."""
    with pytest.raises(ConfigError):
        rig([], error)[0].send(HttpRequest("GET", "/"), {}, 5.0)


def test_a_request_leaves_as_it_is() -> None:
    """Path, headers and body arrive; no password is added; no redirect is followed."""
    transport, adapter, _ = rig([b"ab", b"c"])
    adapter.status = 302
    request = HttpRequest("POST", "/a%20b?c=1", body=b"{}", headers={"X-More": "1"})
    response = transport.send(request, {"auth": "token"}, 30.0)
    assert (response.status, response.body) == (302, b"abc")
    assert response.headers["x-thing"] == "Value"
    [prepared] = adapter.prepared
    assert prepared.url == "https://vendor.example/a%20b?c=1"
    assert prepared.body == b"{}"
    headers = prepared.headers
    assert (headers["auth"], headers["X-More"]) == ("token", "1")
    assert headers["Content-Type"] == "application/json"
    assert "Authorization" not in headers
    assert adapter.options[0]["timeout"] == (15.0, 30.0)


def test_a_request_without_a_body_has_no_content_type() -> None:
    """There is no content."""
    transport, adapter, _ = rig([])
    transport.send(HttpRequest("GET", "/"), {}, 5.0)
    assert "Content-Type" not in adapter.prepared[0].headers
    assert adapter.options[0]["timeout"] == (5.0, 5.0)


def test_an_exception_is_folded() -> None:
    """Nothing of requests gets out."""
    transport, _, _ = rig([], requests.ReadTimeout())
    with pytest.raises(TransportError) as caught:
        transport.send(HttpRequest("GET", "/"), {}, 5.0)
    assert caught.value.sent == "maybe"


def test_an_endless_answer_is_cut() -> None:
    """In size and in time: the request may have been applied."""
    chunk = bytes(1 << 20)
    transport, _, _ = rig([chunk] * (MAX_RESPONSE_BYTES // len(chunk) + 1))
    with pytest.raises(TransportError, match="larger") as caught:
        transport.send(HttpRequest("GET", "/"), {}, 5.0)
    assert caught.value.sent == "maybe"


@pytest.mark.parametrize(
    ("headers", "is_whole"),
    [
        ({"Content-Length": "2"}, True),
        ({}, False),
        ({"Content-Length": "2", "Content-Encoding": "gzip"}, False),
    ],
)
def test_only_an_answer_of_known_size_is_read_in_one_piece(
    headers: dict[str, str], *, is_whole: bool
) -> None:
    """Two bytes of gzip may become any number: it is counted while it grows."""
    transport, adapter, _ = rig([b"ab"])
    adapter.headers = headers
    assert transport.send(HttpRequest("GET", "/"), {}, 5.0).body == b"ab"
    assert [size > MAX_RESPONSE_BYTES for size in adapter.sizes] == [is_whole]


class TricklingSocket:
    """A byte each two seconds, forever."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.timeout = 5.0
        self.timeouts: list[float] = []

    def makefile(self, *_: Any, **__: Any) -> Any:
        return self

    def gettimeout(self) -> float:
        return self.timeout

    def settimeout(self, seconds: float) -> None:
        self.timeout = seconds
        self.timeouts.append(seconds)

    def readinto(self, buffer: Any) -> int:
        self.clock.advance(2.0)
        buffer[:1] = b"."
        return 1

    def close(self) -> None:
        self.clock.advance(100.0)


def test_an_answer_that_trickles_in_is_bounded_as_a_whole() -> None:
    """Each byte starts a socket's timeout anew, so each waits for what is left of the first one."""
    clock = FakeClock()
    sock: Any = TricklingSocket(clock)
    reader = io.BufferedReader(BoundedReader(sock, clock.monotonic))
    with pytest.raises(TimeoutError, match="in time"):
        reader.readline()
    assert clock.elapsed == 6.0
    assert sock.timeouts == [5.0, 5.0, 3.0, 5.0, 1.0, 5.0]
    reader.close()
    assert clock.elapsed == 106.0


def test_an_idle_connection_is_not_used_again() -> None:
    """A server that closes it just as we send would look like an ambiguous write."""
    transport, adapter, clock = rig([b"."])
    closed: list[bool] = []
    adapter.close = lambda: closed.append(True)  # type: ignore[method-assign]  # to see it
    transport.send(HttpRequest("GET", "/"), {}, 5.0)
    assert closed == []
    clock.advance(4.9)
    transport.send(HttpRequest("GET", "/"), {}, 5.0)
    assert closed == []
    clock.advance(5.1)
    transport.send(HttpRequest("GET", "/"), {}, 5.0)
    assert closed == [True]
