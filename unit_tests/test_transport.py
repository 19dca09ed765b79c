"""What an exception of requests or urllib3 says: the request cannot have been seen, or may have."""

from __future__ import annotations

import gzip
import io
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from urllib3 import HTTPResponse
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

from destination_bulk_tables.connections import Adapter, BoundedReader
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import HttpRequest
from destination_bulk_tables.transport import Transport, TransportError, _fold
from unit_tests.fakes import FakeClock

CONNECTION = HTTPSConnection("vendor.example")
POOL: Any = None


def retried(reason: Exception) -> MaxRetryError:
    """As urllib3 wraps what ended its last attempt."""
    return MaxRetryError(POOL, "/", reason)


BROKEN_PIPE = ProtocolError("aborted", BrokenPipeError())
RESET = ProtocolError("aborted", ConnectionResetError(104, "reset"))
CUT = ProtocolError("broken", IncompleteRead(1, 9))
READ_TIMEOUT = ReadTimeoutError(POOL, "/", "timed out")
UNRESOLVED = NameResolutionError("vendor.example", CONNECTION, socket.gaierror())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (requests.ConnectionError(retried(UNRESOLVED)), "dns"),
        (requests.ConnectionError(retried(NewConnectionError(CONNECTION, "refused"))), "connect"),
        (
            requests.ConnectTimeout(retried(ConnectTimeoutError(CONNECTION, "timed out"))),
            "connect",
        ),
        (requests.ConnectTimeout(), "connect"),
        (requests.exceptions.ProxyError(), "connect"),
        (requests.exceptions.SSLError("certificate verify failed"), "tls"),
        (requests.ConnectionError(RESET), "connect"),
        (OSError("anything"), "connect"),
        (requests.ConnectionError(CUT), "connect"),
    ],
)
def test_what_happens_before_a_byte_left_is_no(error: Exception, kind: str) -> None:
    """The vendor cannot have seen a request of which nothing was sent."""
    folded = _fold(error, begun=False)
    assert isinstance(folded, TransportError)
    assert (folded.sent, folded.kind) == ("no", kind)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (requests.ReadTimeout(READ_TIMEOUT), "timeout"),
        (requests.Timeout(), "timeout"),
        (requests.ConnectionError(READ_TIMEOUT), "timeout"),
        (requests.ConnectionError(ProtocolError("aborted", TimeoutError("slow"))), "timeout"),
        (requests.ConnectionError(RESET), "broken"),
        (requests.exceptions.ChunkedEncodingError(CUT), "broken"),
        (BROKEN_PIPE, "broken"),
        (ConnectionResetError(104, "reset"), "broken"),
        (OSError("anything"), "broken"),
        (requests.exceptions.InvalidHeader("two lengths"), "broken"),
        (UnicodeDecodeError("ascii", b"", 0, 1, ""), "broken"),
        (requests.exceptions.SSLError("bad record"), "broken"),
    ],
)
def test_whatever_happens_after_that_is_maybe(error: Exception, kind: str) -> None:
    """Also what looks like a fault of a setting: it is then one of the answer."""
    folded = _fold(error, begun=True)
    assert isinstance(folded, TransportError)
    assert (folded.sent, folded.kind) == ("maybe", kind)


def test_what_is_folded_already_stays_as_it_is() -> None:
    """The reading of an answer raises its own."""
    error = TransportError("maybe", "as it is", "tls")
    assert _fold(error, begun=True) is error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ssl.SSLCertVerificationError(1, "text"), "the TLS certificate or handshake failed"),
        (ssl.SSLError(1, "text"), "the TLS certificate or handshake failed"),
    ],
)
def test_a_tls_error_without_a_reason_has_none(error: ssl.SSLError, reason: str) -> None:
    """OpenSSL does not always give one."""
    folded = _fold(requests.exceptions.SSLError(error), begun=False)
    assert str(folded) == reason


class _Body(io.BytesIO):
    """What a server sends after the headers; it notes how many bytes were asked for at a time."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.asked: list[int | None] = []

    def read(self, size: int | None = None) -> bytes:
        self.asked.append(size)
        return super().read(size)


class _Adapter(Adapter):
    """Answers without a network, or raises; `begun`: after the request left."""

    def __init__(self, content: bytes, error: Exception | None, *, begun: bool) -> None:
        super().__init__()
        self.begun = begun
        self.body = _Body(content)
        self.error = error
        self.prepared: list[requests.PreparedRequest] = []
        self.options: list[dict[str, Any]] = []
        self.status = 200
        self.headers = {"X-Thing": "Value", "Location": "https://elsewhere.example/"}

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]  # all by name
        self.prepared.append(request)
        self.options.append(options)
        self.attempt.begun = self.begun
        if self.error is not None:
            raise self.error
        raw = HTTPResponse(
            self.body, self.headers, self.status, preload_content=False, decode_content=False
        )
        return self.build_response(request, raw)


def rig(
    content: bytes, error: Exception | None = None, *, begun: bool = True
) -> tuple[Transport, _Adapter, FakeClock]:
    """A transport whose adapter answers from memory."""
    clock = FakeClock()
    transport = Transport("https://vendor.example/", clock)
    adapter = _Adapter(content, error, begun=begun)
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
        rig(b"", error, begun=False)[0].send(HttpRequest("GET", "/"), {}, 5.0)


def test_a_request_leaves_as_it_is() -> None:
    """Path, headers and body arrive; no password is added; no redirect is followed."""
    transport, adapter, _ = rig(b"abc")
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
    transport, adapter, _ = rig(b"")
    transport.send(HttpRequest("GET", "/"), {}, 5.0)
    assert "Content-Type" not in adapter.prepared[0].headers
    assert adapter.options[0]["timeout"] == (5.0, 5.0)


def test_the_nearest_of_two_headers_is_sent_however_it_is_spelled() -> None:
    """What the request says holds, then what the configuration says, then what is usual."""
    transport, adapter, _ = rig(b"")
    own = {"Accept": "own"}
    transport.send(HttpRequest("GET", "/"), {}, 5.0)
    transport.send(HttpRequest("POST", "/", b""), {"accept": "a", "content-type": "c"}, 5.0)
    transport.send(HttpRequest("POST", "/", b"", headers=own), {"accept": "a"}, 5.0)
    sent = [(p.headers["Accept"], p.headers.get("Content-Type")) for p in adapter.prepared]
    assert sent == [("*/*", None), ("a", "c"), ("own", "application/json")]


def test_an_exception_is_folded() -> None:
    """Nothing of requests gets out."""
    transport, _, _ = rig(b"", requests.ReadTimeout())
    with pytest.raises(TransportError) as caught:
        transport.send(HttpRequest("GET", "/"), {}, 5.0)
    assert caught.value.sent == "maybe"


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "5000"}])
def test_an_endless_answer_is_cut(headers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In size and in time: the request may have been applied."""
    monkeypatch.setattr("destination_bulk_tables.transport.MAX_RESPONSE_BYTES", 4000)
    transport, adapter, _ = rig(bytes(5000))
    adapter.headers = headers
    with pytest.raises(TransportError, match="larger than 4000") as caught:
        transport.send(HttpRequest("GET", "/"), {}, 5.0)
    assert caught.value.sent == "maybe"


def test_a_short_answer_is_broken() -> None:
    """The connection ended before all bytes that were announced had come."""
    transport, adapter, _ = rig(b"ab")
    adapter.headers = {"Content-Length": "3"}
    with pytest.raises(TransportError) as caught:
        transport.send(HttpRequest("GET", "/"), {}, 5.0)
    assert (caught.value.sent, caught.value.kind) == ("maybe", "broken")


def test_an_encoded_answer_is_counted_while_it_grows() -> None:
    """A few bytes of gzip may become any number; an answer as it is comes at once."""
    packed = gzip.compress(bytes(1000))
    transport, adapter, _ = rig(packed)
    adapter.headers = {"Content-Length": str(len(packed)), "Content-Encoding": "gzip"}
    assert transport.send(HttpRequest("GET", "/"), {}, 5.0).body == bytes(1000)
    assert adapter.body.asked[0] == 1 << 18
    transport, adapter, _ = rig(packed)
    adapter.headers = {"Content-Length": str(len(packed))}
    assert transport.send(HttpRequest("GET", "/"), {}, 5.0).body == packed
    assert adapter.body.asked == [len(packed)]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False  # a connection that a failed test left open
    answer = b""
    connections = 0


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.server.connections += 1
        while self.rfile.readline():
            while self.rfile.readline().strip():
                pass
            self.wfile.write(self.server.answer)


@contextmanager
def serving(answer: bytes) -> Iterator[_Server]:
    """A server that says the same to each request, and leaves the connection open."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.answer = answer
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("method", "head", "body"),
    [
        ("GET", b"200 OK\r\nContent-Length: 3", b"abc"),
        ("GET", b"200 OK\r\nContent-Length: 0", b""),
        ("GET", b"200 OK\r\nTransfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n"),
        ("DELETE", b"204 No Content", b""),
        ("HEAD", b"200 OK\r\nContent-Length: 3", b""),
    ],
)
def test_a_connection_is_used_again_after_a_whole_answer(
    method: Any, head: bytes, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after one of no bytes, which ends before anything of it can be read."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(b"HTTP/1.1 %b\r\n\r\n%b" % (head, body)) as server:
        transport = Transport(f"http://127.0.0.1:{server.server_address[1]}", FakeClock())
        bodies = [transport.send(HttpRequest(method, "/"), {}, 5.0).body for _ in range(2)]
        assert bodies == [b"abc" if body else b""] * 2
        assert server.connections == 1
        transport._adapter().close()


@pytest.mark.parametrize("length", [0, 3])
def test_a_length_that_is_said_twice_bounds_an_answer(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the standard library this is no length, and all that comes would be the answer."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d, %d\r\n\r\n" % (length, length)
    with serving(head + b"abc" * 1000) as server:
        transport = Transport(f"http://127.0.0.1:{server.server_address[1]}", FakeClock())
        assert len(transport.send(HttpRequest("GET", "/"), {}, 5.0).body) <= 3


BAD_RECORD = ssl.SSLError(1, "decryption failed or bad record mac")


class _BreakingAnswer(io.RawIOBase):
    def __init__(self, text: bytes) -> None:
        self.text = io.BytesIO(text)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self.text.readinto(buffer)
        if not count:
            raise BAD_RECORD
        return count


class BreakingSocket:
    """Takes a request, answers as far as is said, and then receives a record that is none."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer

    def send(self, data: bytes) -> int:
        if self.answer is None:
            raise BAD_RECORD
        return len(data)

    def makefile(self, *_: Any, **__: Any) -> Any:
        return _BreakingAnswer(self.answer or b"")

    def gettimeout(self) -> float:
        return 5.0

    def settimeout(self, _: float) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize("proxy", ["", "http://proxy.example:3128"])
@pytest.mark.parametrize(
    ("connected", "sent", "kind"),
    [
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), "no", "tls"),
        (ssl.SSLError(1, "sslv3 alert handshake failure"), "no", "tls"),
        (BreakingSocket(None), "maybe", "broken"),
        (BreakingSocket(b""), "maybe", "broken"),
        (BreakingSocket(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), "maybe", "broken"),
        (BreakingSocket(b"HTTP/1.1 200 OK\r\n\r\nabc"), "maybe", "broken"),
        (
            BreakingSocket(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
            "maybe",
            "broken",
        ),
    ],
    ids=["certificate", "handshake", "sending", "status", "length", "no length", "chunked"],
)
def test_only_a_handshake_fails_before_the_request(
    connected: Any, sent: str, kind: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TLS error after it may have come when the request had been applied."""

    def connect(self: Any) -> None:
        self._has_connected_to_proxy = bool(self.proxy)
        if isinstance(connected, Exception):
            raise connected
        self.sock, self.is_verified = connected, True

    monkeypatch.setattr(HTTPSConnection, "connect", connect)
    monkeypatch.setenv("https_proxy", proxy)
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(TransportError) as caught:
        Transport("https://vendor.example", FakeClock()).send(HttpRequest("GET", "/"), {}, 5.0)
    assert (caught.value.sent, caught.value.kind) == (sent, kind)


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
    assert sock.timeouts == [3.0, 5.0, 1.0, 5.0]  # none is set that is there
    reader.close()
    assert clock.elapsed == 106.0


def test_an_idle_connection_is_not_used_again() -> None:
    """A server that closes it just as we send would look like an ambiguous write."""
    transport, adapter, clock = rig(b".")
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
