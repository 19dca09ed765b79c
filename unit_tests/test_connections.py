"""A request and its answer end in time, in bounds, at the address that was checked."""

from __future__ import annotations

import gc
import gzip
import ipaddress
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from destination_bulk_tables.clock import Clock
from destination_bulk_tables.connections import Attempt, is_public
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import HttpRequest, HttpResponse
from destination_bulk_tables.transport import Transport, TransportError
from unit_tests.fakes import FakeClock
from unit_tests.raw_server import answering, certificate, plain, read_request, serving

GET = HttpRequest("GET", "/")
LARGE = HttpRequest("POST", "/", bytes(8_000_000))


def send(url: str, request: HttpRequest = GET, timeout_s: float = 5.0) -> HttpResponse:
    """Send once, on a transport of its own."""
    transport = Transport(url, Clock())
    try:
        return transport.send(request, {}, timeout_s)
    finally:
        transport._adapter().close()


# --- interim answers


@pytest.mark.parametrize("interim", ["100 Continue", "102 Processing", "103 Early Hints", "199 ?"])
@pytest.mark.parametrize("times", [1, 3])
def test_an_interim_answer_is_passed_over(interim: str, times: int) -> None:
    """Else the next request on the connection would be given the answer to this one."""
    before = f"HTTP/1.1 {interim}\r\nLink: </a>\r\n\r\n".encode() * times
    behave = answering(before + plain(b"first", "201 Created"), before + plain(b"other"))
    with serving(behave) as url:
        transport = Transport(url, Clock())
        found = [transport.send(GET, {}, 5.0) for _ in range(2)]
        transport._adapter().close()
    assert [(answer.status, answer.body) for answer in found] == [(201, b"first"), (200, b"other")]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"Omg What Is This?\r\n\r\n", id="no status line"),
        pytest.param(b"HTTP/9 200 OK\r\nContent-Length: 2\r\n\r\n{}", id="an unknown version"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000, id="an endless header"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 70_000,
            id="an endless size of a chunk",
        ),
    ],
)
def test_an_answer_that_is_no_http_may_hide_that_rows_are_in(answer: bytes) -> None:
    """It is given up at once, without waiting for its end or holding all of it."""
    with serving(answering(answer)) as url, pytest.raises(TransportError) as caught:
        send(url)
    assert (caught.value.sent, caught.value.kind) == ("maybe", "broken")


def test_an_answer_is_read_that_comes_before_the_body_is_taken() -> None:
    """A server that says 413 and hangs up is understood, so that the batch is halved."""

    def behave(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(plain(b"too large", "413 Content Too Large", "Connection: close"))

    with serving(behave) as url:
        answer = send(url, LARGE)
    assert (answer.status, answer.body) == (413, b"too large")


def test_a_connection_that_switches_protocols_is_not_used_again() -> None:
    """Nobody asked for it, so it is the answer, and what follows is no HTTP."""
    asked: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        asked.append(read_request(connection))
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n\0\1\2")
        asked.append(read_request(connection))

    with serving(behave) as url:
        transport = Transport(url, Clock())
        assert [transport.send(GET, {}, 5.0).status for _ in range(2)] == [101, 101]
        transport._adapter().close()
    assert len([request for request in asked if request]) == 2


def test_an_endless_row_of_interim_answers_ends_in_time() -> None:
    """The deadline is that of the answer as a whole."""

    def behave(connection: socket.socket) -> None:
        read_request(connection)
        while True:
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)

    with serving(behave) as url, pytest.raises(TransportError) as caught:
        send(url, timeout_s=0.3)
    assert (caught.value.sent, caught.value.kind) == ("maybe", "timeout")


# --- what looks like a wrong setting


@pytest.mark.filterwarnings("ignore:unclosed")
def test_a_broken_header_of_an_answer_is_no_setting() -> None:
    """Two lengths that differ came from the server, after it may have applied the request."""
    behave = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 15, 16\r\n\r\n{}")
    sent = ""
    with serving(behave) as url:
        try:
            send(url)
        except TransportError as error:
            sent = error.sent
    assert sent == "maybe"
    gc.collect()  # urllib3 lets go of that answer without closing it


# --- the time for a body


@pytest.mark.parametrize("with_tls", [False, True])
def test_a_body_may_take_longer_than_a_connection(
    with_tls: bool,  # noqa: FBT001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that takes its time to read is not one that cannot be reached."""
    monkeypatch.setattr("destination_bulk_tables.transport.CONNECT_TIMEOUT_S", 1.0)
    file = certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def behave(connection: socket.socket) -> None:
        threading.Event().wait(1.2)
        read_request(connection)
        connection.sendall(plain(b"done"))

    with serving(behave, file if with_tls else None) as url:
        assert send(url, LARGE, 30.0).body == b"done"


@pytest.mark.parametrize("with_tls", [False, True])
def test_a_body_that_is_not_taken_ends_in_time(
    with_tls: bool,  # noqa: FBT001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the server takes some now and then: the time is that of the whole body."""
    file = certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    is_over = threading.Event()

    def behave(connection: socket.socket) -> None:
        while not is_over.wait(0.1):
            connection.recv(5000)

    try:
        with (
            serving(behave, file if with_tls else None) as url,
            pytest.raises(TransportError) as caught,
        ):
            send(url, LARGE, 0.5)
    finally:
        is_over.set()
    assert (caught.value.sent, caught.value.kind) == ("maybe", "timeout")


class _SlowSocket:
    """Takes a byte each two seconds."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.timeouts: list[float] = []

    def gettimeout(self) -> float | None:
        return self.timeouts[-1] if self.timeouts else None

    def settimeout(self, seconds: float) -> None:
        self.timeouts.append(seconds)

    def send(self, _: memoryview) -> int:
        self.clock.advance(2.0)
        return 1


def test_headers_and_body_have_one_deadline() -> None:
    """The next request has its own."""
    clock = FakeClock()
    sock: Any = _SlowSocket(clock)
    exchange = Attempt()
    exchange.start(5.0)
    assert not exchange.begun
    exchange.send(sock, b"a", clock.monotonic)
    assert exchange.begun
    with pytest.raises(TimeoutError, match="not taken in time"):
        exchange.send(sock, b"abc", clock.monotonic)
    exchange.start(5.0)
    assert not exchange.begun
    exchange.send(sock, b"a", clock.monotonic)
    assert sock.timeouts == [5.0, 3.0, 1.0, 5.0]


# --- the size of an answer


def packed(body: bytes) -> bytes:
    """Return an answer that is compressed."""
    return plain(gzip.compress(body), "200 OK", "Content-Encoding: gzip")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b" " * 20_000_000, "larger than 16000000 bytes"),
        (b"[" + b"[]," * 5_000_000 + b"1]", "more values than its request explains"),
        (b"[" + b"1," * 600_000 + b"1]", "more values than its request explains"),
    ],
)
def test_an_answer_that_its_request_does_not_explain_is_none(body: bytes, words: str) -> None:
    """A few kilobytes of gzip may become gigabytes of objects, and the rows may be in."""
    with serving(answering(packed(body))) as url, pytest.raises(TransportError) as caught:
        send(url)
    assert (caught.value.sent, caught.value.reason) == ("maybe", f"the answer {holds(words)}")


def holds(words: str) -> str:
    """Return the verb that goes with it."""
    return f"is {words}" if words.startswith("larger") else f"holds {words}"


@pytest.mark.parametrize("wrap", [plain, packed])
def test_an_answer_may_repeat_the_rows_of_its_request(wrap: Any) -> None:
    """Four times over, however large they are and however small they were made."""
    rows = b"[" + b'{"a":1,"b":[2]},' * 400_000 + b"1]"
    answer = b"[%b,%b,%b]" % (rows, rows, rows)
    request = HttpRequest("POST", "/", rows)
    if wrap is packed:
        request = HttpRequest("POST", "/", gzip.compress(rows, 1), plain=rows)
    with serving(answering(wrap(answer))) as url:
        assert send(url, request, 60.0).body == answer


# --- where a request may go


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::5db8:d822", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
    ],
)
def test_an_address_is_public_or_not(address: str, expected: bool) -> None:  # noqa: FBT001
    """Loopback, private, link-local, reserved and multicast ones are not, nor in disguise."""
    assert is_public(address) is expected


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Make each name resolve to these, one list after the other; the hosts that were asked for."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: str, *more: Any, **options: Any) -> Any:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            asked.append(host)
            number = min(len(asked), len(addresses)) - 1
            names = addresses[number].split()
            return [entry for name in names for entry in real(name, *more, **options)]
        return real(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


@pytest.mark.parametrize(
    "addresses",
    ["127.0.0.1", "169.254.169.254", "93.184.216.34 10.0.0.1", "::1", "::ffff:10.0.0.1"],
)
def test_nothing_connects_to_a_private_network_on_cloud(
    addresses: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever name leads there, also beside a public address."""
    resolving(monkeypatch, addresses)
    transport = Transport("http://vendor.example:9", Clock(), public_only=True)
    with pytest.raises(ConfigError, match="not reached from Airbyte Cloud"):
        transport.send(GET, {}, 2.0)


def test_a_literal_address_is_looked_at_as_well() -> None:
    """There is nothing to resolve."""
    transport = Transport("http://127.0.0.1:9", Clock(), public_only=True)
    with pytest.raises(ConfigError, match="not reached from Airbyte Cloud"):
        transport.send(GET, {}, 2.0)


def test_the_address_connected_to_is_the_one_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that resolves to another one the second time has no second time."""
    connected: list[str] = []

    def connect(address: tuple[str, int], *_: Any, **__: Any) -> Any:
        connected.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    asked = resolving(monkeypatch, "93.184.216.34 93.184.216.35", "127.0.0.1")
    transport = Transport("http://vendor.example:9", Clock(), public_only=True)
    with pytest.raises(TransportError) as caught:
        transport.send(GET, {}, 2.0)
    assert (caught.value.sent, caught.value.kind) == ("no", "connect")
    assert (asked, connected) == (["vendor.example"], ["93.184.216.34", "93.184.216.35"])


# --- what the environment says


def test_nothing_goes_to_a_proxy_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain http is for this machine alone, where a proxy would read the credential."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(answering(plain(b"direct"))) as url:
        assert send(url).body == b"direct"


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("socks5h://127.0.0.1:9", "SOCKS proxy"),
        ("http://", "proxy of the environment"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_told(
    proxy: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was sent, and no attempt will go better."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(ConfigError, match=words):
        send("https://vendor.example")


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize(
    ("content", "cause"), [(None, "No such file"), ("no certificate", "no certificates in it")]
)
def test_certificates_that_cannot_be_read_are_told(
    name: str,
    content: str | None,
    cause: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the variable that names them; no host or port is to blame."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv(name, str(path))
    with pytest.raises(ConfigError, match=f"{name} is set to .*{cause}"):
        Transport("https://vendor.example", FakeClock())
    Transport("http://127.0.0.1", FakeClock())  # needs none


@pytest.mark.parametrize(
    ("host", "days", "trusted", "reason"),
    [
        ("127.0.0.1", 1, False, "self-signed certificate"),
        ("127.0.0.1", -1, True, "certificate has expired"),
        ("127.0.0.9", 1, True, "IP address mismatch"),
    ],
)
def test_a_certificate_that_is_not_trusted_is_told_with_its_reason(
    host: str,
    days: int,
    trusted: bool,  # noqa: FBT001
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A newer Python refuses what an older one took, and only OpenSSL's words tell which rule."""
    file = certificate(tmp_path, host, days=days)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    if trusted:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    with serving(answering(plain(b"")), file) as url, pytest.raises(TransportError) as caught:
        send(url)
    assert (caught.value.sent, caught.value.kind) == ("no", "tls")
    assert reason in caught.value.reason
