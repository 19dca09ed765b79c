"""The only module that speaks `requests`: one attempt, its exceptions folded into `TransportError`.

`TransportError.sent` is the fact everything above rests on: "no" means the vendor cannot have seen
the request, "maybe" that it may have been applied. No redirect is followed, no cookie is kept, no
attempt is repeated here, no credential is taken from the environment, and a response is bounded in
size and in time: as a whole, where a socket's timeout starts anew with each byte that trickles in.
"""

from __future__ import annotations

import http.client
import io
import os
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

import requests
import requests.adapters
import requests.utils
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
)

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.provider import HttpResponse

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from destination_bulk_tables.clock import Clock
    from destination_bulk_tables.provider import HttpRequest

CONNECT_TIMEOUT_S = 15.0
MAX_RESPONSE_BYTES = 128_000_000
IDLE_LIMIT_S = 5.0
_CHUNK = 1 << 18
_BUFFER = 1 << 16
_BROKEN = "the connection broke before the answer was complete"
_HEADERS = requests.utils.default_headers()
_HEADERS["User-Agent"] = "airbyte-destination-bulk-tables"


class TransportError(Exception):
    """No complete response. `kind` tells a wrong host from a certificate that does not fit."""

    def __init__(
        self,
        sent: Literal["no", "maybe"],
        reason: str,
        kind: Literal["dns", "tls", "connect", "timeout", "broken"] = "broken",
    ) -> None:
        super().__init__(reason)
        self.sent = sent
        self.reason = reason
        self.kind = kind


class Transport:
    """Connections to one base URL, one per thread."""

    def __init__(self, base_url: str, clock: Clock) -> None:
        self._base_url = base_url.rstrip("/")
        self._clock = clock
        self._local = threading.local()
        self._proxies = requests.utils.get_environ_proxies(self._base_url)
        variables = (os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
        self._ca_bundle = next(filter(None, variables), True)

    def send(
        self, request: HttpRequest, headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        """Send once; raises `TransportError`, or `ConfigError` for what HTTP cannot carry.

        `timeout_s` bounds the answer as a whole.
        """
        adapter = self._adapter()
        merged = _HEADERS.copy()
        if request.body is not None:
            merged["Content-Type"] = request.content_type
        merged.update(headers)
        merged.update(request.headers)
        # without a session: it would look for settings and cookies that nobody set, at each request
        prepared = requests.PreparedRequest()
        try:
            prepared.prepare(
                method=request.method,
                url=self._base_url + request.path,
                headers=merged,
                data=request.body,
            )
            response = adapter.send(
                prepared,
                timeout=(min(CONNECT_TIMEOUT_S, timeout_s), timeout_s),
                stream=True,
                verify=self._ca_bundle,
                proxies=self._proxies,
            )
            with response:
                body = _read(response)
        except (
            requests.exceptions.InvalidURL,
            requests.exceptions.InvalidHeader,
            LocationParseError,
            UnicodeError,
        ) as error:
            message = (
                "No request can be made of the provider's address, path or credential: one of them "
                f"holds characters that HTTP does not allow ({type(error).__name__})."
            )
            raise ConfigError(message) from error
        except (requests.RequestException, HTTPError, OSError) as error:
            adapter.close()
            raise _fold(error) from error
        finally:
            self._local.used = self._clock.monotonic()
        names = {name.lower(): value for name, value in response.headers.items()}
        return HttpResponse(response.status_code, names, body)

    def _adapter(self) -> requests.adapters.HTTPAdapter:
        adapter: requests.adapters.HTTPAdapter | None = getattr(self._local, "adapter", None)
        if adapter is None:
            adapter = self._local.adapter = _Adapter(max_retries=0)
        elif self._clock.monotonic() - self._local.used > IDLE_LIMIT_S:
            # a server closing an idle connection just as we send looks like an ambiguous write
            adapter.close()
        return adapter


def _read(response: requests.Response) -> bytes:
    length: int | None = response.raw.length_remaining
    is_plain = "Content-Encoding" not in response.headers
    if is_plain and length is not None and length <= MAX_RESPONSE_BYTES:
        # at once, which costs least; where nothing is to come, only a look ends the answer
        body: bytes = response.raw.read(length or 1)
        if len(body) < length:
            raise TransportError("maybe", _BROKEN)
        return body
    parts: list[bytes] = []
    size = 0
    try:
        for part in response.iter_content(_CHUNK):
            parts.append(part)
            size += len(part)
            if size > MAX_RESPONSE_BYTES:
                message = f"the answer is larger than {MAX_RESPONSE_BYTES} bytes"
                raise TransportError("maybe", message)
    except requests.exceptions.SSLError as error:  # the handshake is long past
        raise TransportError("maybe", _BROKEN) from error
    return b"".join(parts)


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
            message = "the answer did not end in time"
            raise TimeoutError(message)
        self._sock.settimeout(left)
        try:
            return self._received.readinto(buffer)
        finally:
            self._sock.settimeout(self._timeout_s)  # the connection may be used again

    def close(self) -> None:
        self._received.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(BoundedReader(sock), _BUFFER)


class _Connection(HTTPConnection):
    response_class = _Answer


class _TlsConnection(HTTPSConnection):
    """Its handshake is done in `connect`, before a request: a TLS error after it is a break."""

    response_class = _Answer

    def request(self, *args: Any, **options: Any) -> None:
        try:
            super().request(*args, **options)
        except ssl.SSLError as error:
            raise ConnectionError(_BROKEN) from error

    def getresponse(self) -> Any:
        try:
            return super().getresponse()
        except ssl.SSLError as error:
            raise ConnectionError(_BROKEN) from error


class _Adapter(requests.adapters.HTTPAdapter):
    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        pool.ConnectionCls = _TlsConnection if pool.scheme == "https" else _Connection
        return pool


def _fold(error: BaseException) -> TransportError:
    """Walk the chain of causes: requests hides urllib3's exact error in its arguments."""
    if isinstance(error, TransportError):
        return error
    if isinstance(error, requests.exceptions.SSLError):
        return TransportError("no", "the TLS certificate or handshake failed", "tls")
    cause: object = error
    for _ in range(6):
        if isinstance(cause, NameResolutionError):
            return TransportError("no", "the host name does not resolve", "dns")
        if isinstance(cause, NewConnectionError):  # a subclass of the next
            return TransportError(
                "no", "the connection was refused or the host is unreachable", "connect"
            )
        if isinstance(cause, ConnectTimeoutError):
            return TransportError("no", "no connection in time", "connect")
        if isinstance(cause, ReadTimeoutError):
            return TransportError("maybe", "no complete answer in time", "timeout")
        reason = getattr(cause, "reason", None)
        arguments = getattr(cause, "args", ())
        cause = reason if reason is not None else (arguments[0] if arguments else None)
    if isinstance(error, requests.exceptions.ConnectTimeout | requests.exceptions.ProxyError):
        return TransportError("no", "no connection", "connect")
    if isinstance(error, requests.exceptions.Timeout):
        return TransportError("maybe", "no answer in time", "timeout")
    return TransportError("maybe", _BROKEN)
