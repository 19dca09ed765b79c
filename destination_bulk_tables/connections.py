"""Connections that bound what `requests` leaves open: how long a request and its answer may take.

A socket's timeout starts anew with each byte that moves, so a server that takes or gives one byte
at a time would hold a sync for ever: here a request's body and its answer have a deadline each, as
a whole. An `Attempt` tells whether any byte of a request has left, which is all that separates
"the vendor cannot have seen it" from "it may have been applied". On Airbyte Cloud no address of a
private network is connected to; what is resolved here is what is connected to.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests.adapters
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from destination_bulk_tables.errors import ConfigError

BROKEN = "the connection broke before the answer was complete"
CONNECT_TIMEOUT_S = 15.0
_BUFFER = 1 << 16
_AS_GOOD = 1.05  # times what is left: how late a timeout may come
_SWITCHING_PROTOCOLS = 101
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # NAT64: the IPv4 address is the last part


@dataclass(slots=True)
class Attempt:
    """One request and its answer. `begun`: a byte of the request may have left."""

    timeout_s: float = CONNECT_TIMEOUT_S
    begun: bool = False
    deadline: float | None = None

    def start(self, timeout_s: float) -> None:
        """Forget the one before."""
        self.timeout_s, self.begun, self.deadline = timeout_s, False, None

    def send(
        self, sock: socket.socket, data: bytes, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Send all of it before the deadline, which counts from the first byte of the request."""
        if self.deadline is None:
            self.deadline = now() + self.timeout_s
        self.begun = True
        left = memoryview(data)
        while left:
            seconds = self.deadline - now()
            if seconds <= 0:
                raise TimeoutError("the request was not taken in time")
            _limit(sock, seconds)
            left = left[sock.send(left) :]


class BoundedReader(io.RawIOBase):
    """What a socket receives, all of it within the timeout that the socket has at first."""

    def __init__(self, sock: socket.socket, now: Callable[[], float] = time.monotonic) -> None:
        self._sock = sock
        self._received = sock.makefile("rb", buffering=0)
        self._timeout_s = sock.gettimeout() or CONNECT_TIMEOUT_S
        self._now = now
        self._deadline = now() + self._timeout_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - self._now()
        if left <= 0:
            raise TimeoutError("the answer did not end in time")
        _limit(self._sock, left)
        try:
            return self._received.readinto(buffer)
        finally:
            _limit(self._sock, self._timeout_s)  # the connection may be used again

    def close(self) -> None:
        self._received.close()
        super().close()


def _limit(sock: socket.socket, seconds: float) -> None:
    """Set a socket's timeout, unless it is as good as that: a system call, between two threads."""
    if not seconds <= (sock.gettimeout() or 0) <= seconds * _AS_GOOD:
        sock.settimeout(seconds)


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(BoundedReader(sock), _BUFFER)

    def _read_status(self) -> tuple[str, int, str]:
        """Pass over every interim answer: the standard library does so for 100 alone.

        Source: https://www.rfc-editor.org/rfc/rfc9110#section-15.2 (read 2026-11-28): a client
        must be able to take answers of 1xx that it did not ask for. What comes after one would else
        be read as the answer to the next request.
        """
        while True:
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]  # not in the stubs
            if not _SWITCHING_PROTOCOLS < found[1] < http.HTTPStatus.OK:
                return found
            http.client.parse_headers(self.fp)

    def begin(self) -> None:
        super().begin()
        if self.status == _SWITCHING_PROTOCOLS:
            self.will_close = True  # nobody asked for it, and what follows is no HTTP


class _Connection(HTTPConnection):
    response_class = _Answer

    def __init__(
        self, attempt: Attempt, *args: Any, public_only: bool = False, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._attempt = attempt
        self._public_only = public_only
        self._is_open = False

    def connect(self) -> None:
        self._is_open = False  # what is sent meanwhile is for a proxy
        super().connect()
        self._is_open = True

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        if self._is_open:
            self._attempt.send(self.sock, data)
        else:
            super().send(data)

    def _new_conn(self) -> socket.socket:
        if not self._public_only or self.proxy:  # the operator's proxy is where he put it
            return super()._new_conn()
        host = self._dns_host
        *others, last = _public_addresses(host, self.port, self)
        try:
            for self._dns_host in others:
                with contextlib.suppress(NewConnectionError, ConnectTimeoutError):
                    return super()._new_conn()
            self._dns_host = last
            return super()._new_conn()
        finally:
            self._dns_host = host


class _TlsConnection(_Connection, HTTPSConnection):
    """Its handshake is done in `connect`, before a request: a TLS error after it is a break."""

    def request(self, *args: Any, **options: Any) -> None:
        try:
            super().request(*args, **options)
        except ssl.SSLError as error:
            raise ConnectionError(BROKEN) from error

    def getresponse(self) -> Any:
        try:
            return super().getresponse()
        except ssl.SSLError as error:
            raise ConnectionError(BROKEN) from error


class Adapter(requests.adapters.HTTPAdapter):
    """The connections of one thread; `public_only`: none into a private network."""

    def __init__(self, *, public_only: bool = False) -> None:
        super().__init__(max_retries=0)
        self.attempt = Attempt()
        self._public_only = public_only

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        kind = _TlsConnection if pool.scheme == "https" else _Connection
        pool.ConnectionCls = functools.partial(kind, self.attempt, public_only=self._public_only)
        return pool


def is_public(address: str) -> bool:
    """Whether an IP address is of the internet at large, also where it wraps one of IPv4."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if found in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast


def _public_addresses(host: str, port: int, connection: HTTPConnection) -> list[str]:
    """Resolve a host; one that is in a private network with any of its addresses is refused."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, 0, socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise NameResolutionError(host, connection, error) from error
    addresses = [str(address[4][0]) for address in found]
    if not all(map(is_public, addresses)):
        raise ConfigError(
            "The provider's address leads into a private or reserved network, which is not reached "
            "from Airbyte Cloud. Use an address of the internet."
        )
    return addresses
