"""Sends one attempt and folds whatever keeps its answer away into `TransportError`.

`TransportError.sent` is the fact everything above rests on: "no" means the vendor cannot have seen
the request, "maybe" that it may have been applied. No redirect is followed, no cookie is kept, no
attempt is repeated here, no credential is taken from the environment, and an answer is bounded in
time and by what its request explains: in bytes, unpacked, and in JSON values, each of which takes
many times its bytes in memory.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import Literal

import requests
import requests.utils
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
)

from destination_bulk_tables.clock import Clock
from destination_bulk_tables.connections import BROKEN, CONNECT_TIMEOUT_S, Adapter
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import HttpRequest, HttpResponse

MAX_RESPONSE_BYTES = 128_000_000
IDLE_LIMIT_S = 5.0
_UNASKED_BYTES = 16_000_000  # of an answer to a request that holds no row
_UNASKED_VALUES = 500_000  # and its JSON values
_FEW_BYTES = 1_000_000  # as many values as they may hold are no burden
_ECHOES = 4  # an answer may hold each row, and say something about it
_CHUNK = 1 << 18
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_TLS = "the TLS certificate or handshake failed"
_HEADERS = requests.utils.default_headers()
_HEADERS["User-Agent"] = "airbyte-destination-bulk-tables"


class TransportError(Exception):
    """No complete response. `kind` tells a wrong host from a certificate that does not fit."""

    def __init__(
        self,
        sent: Literal["no", "maybe"],
        reason: str,
        kind: Literal["dns", "tls", "connect", "timeout", "broken"] = "broken",
        *,
        after_s: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.sent = sent
        self.reason = reason
        self.kind = kind
        self.after_s = after_s  # when to try again, where a server told


class Transport:
    """Connections to one base URL, one per thread; `public_only`: none to a private network."""

    def __init__(self, base_url: str, clock: Clock, *, public_only: bool = False) -> None:
        self._base_url = base_url.rstrip("/")
        self._clock = clock
        self._public_only = public_only
        self._local = threading.local()
        self._routes: dict[str, tuple[dict[str, str], str | bool]] = {}
        self._route(self._base_url)  # what is wrong with the environment shows at once

    def send(
        self, request: HttpRequest, headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        """Send once; raises `TransportError`, or `ConfigError` for what HTTP cannot carry.

        `timeout_s` bounds the sending of the body, and then the answer, each as a whole.
        """
        adapter = self._adapter()
        adapter.attempt.start(timeout_s)
        merged = _HEADERS.copy()
        if request.body is not None:
            merged["Content-Type"] = request.content_type
        merged.update(headers)
        merged.update(request.headers)
        # without a session: it would look for settings and cookies that nobody set, at each request
        prepared = requests.PreparedRequest()
        proxies, ca_bundle = self._route(self._base_url if request.url is None else request.url)
        try:
            prepared.prepare(
                method=request.method,
                url=self._base_url + request.path if request.url is None else request.url,
                headers=merged,
                data=request.body,
            )
            response = adapter.send(
                prepared,
                timeout=(min(CONNECT_TIMEOUT_S, timeout_s), timeout_s),
                stream=True,
                verify=ca_bundle,
                proxies=proxies,
            )
            with response:
                body = _read(response, request)
        except (requests.RequestException, HTTPError, OSError, UnicodeError) as error:
            adapter.close()
            raise _fold(error, begun=adapter.attempt.begun) from error
        finally:
            self._local.used = self._clock.monotonic()
        names = {name.lower(): value for name, value in response.headers.items()}
        return HttpResponse(response.status_code, names, body)

    def _route(self, url: str) -> tuple[dict[str, str], str | bool]:
        """The proxy and the trusted certificates for an address."""
        route = self._routes.get(url)
        if route is None:
            ca_bundle = _ca_bundle() if url.startswith("https:") else True
            route = self._routes[url] = (_proxies_for(url), ca_bundle)
        return route

    def _adapter(self) -> Adapter:
        adapter: Adapter | None = getattr(self._local, "adapter", None)
        if adapter is None:
            adapter = self._local.adapter = Adapter(public_only=self._public_only)
        elif self._clock.monotonic() - self._local.used > IDLE_LIMIT_S:
            # a server closing an idle connection just as we send looks like an ambiguous write
            adapter.close()
        return adapter


# --- what the environment says


def _proxies_for(url: str) -> dict[str, str]:
    """The environment's proxy for a URL; over plain http one would read the credential."""
    if not url.startswith("https:"):
        return {}
    proxies: dict[str, str] = requests.utils.get_environ_proxies(url)
    chosen = requests.utils.select_proxy(url, proxies) or ""
    if chosen.casefold().startswith("socks"):
        raise ConfigError(
            "The environment names a SOCKS proxy (HTTPS_PROXY or ALL_PROXY), which this connector "
            "cannot use. Set HTTPS_PROXY to an http proxy, or NO_PROXY to the provider's host."
        )
    return proxies


def _ca_bundle() -> str | bool:
    """The certificates that the environment trusts; raises `ConfigError` where there are none."""
    name = next((name for name in _CA_VARIABLES if os.environ.get(name)), None)
    if name is None:
        return True
    path = os.environ[name]
    is_folder = os.path.isdir(path)  # noqa: PTH112 - as requests will look at it
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            capath=path if is_folder else None, cafile=None if is_folder else path
        )
    except OSError as error:  # an SSLError is one
        cause = error.strerror if not isinstance(error, ssl.SSLError) else "no certificates in it"
        raise ConfigError(
            f"{name} is set to {path}, which cannot be read as trusted certificates ({cause}). "
            "Correct or unset it."
        ) from error
    return path


# --- the answer


def _read(response: requests.Response, request: HttpRequest) -> bytes:
    most = _most_bytes(request)
    length: int | None = response.raw.length_remaining
    is_plain = "Content-Encoding" not in response.headers
    if is_plain and length is not None and length <= most:
        # at once, which costs least; where nothing is to come, only a look ends the answer
        body: bytes = response.raw.read(length or 1)
        if len(body) < length:
            raise TransportError("maybe", BROKEN)
    else:
        body = b"".join(_parts(response, most))
    if len(body) > _FEW_BYTES and _values(body) > _UNASKED_VALUES + _ECHOES * _values(
        request.content
    ):
        raise TransportError("maybe", "the answer holds more values than its request explains")
    return body


def _parts(response: requests.Response, most: int) -> Iterator[bytes]:
    size = 0
    try:
        for part in response.iter_content(_CHUNK):
            size += len(part)
            if size > most:
                raise TransportError("maybe", f"the answer is larger than {most} bytes")
            yield part
    except requests.exceptions.SSLError as error:  # the handshake is long past
        raise TransportError("maybe", BROKEN) from error


def _most_bytes(request: HttpRequest) -> int:
    """How large an answer may be: one may list rows that nobody sent, or repeat those sent."""
    return min(MAX_RESPONSE_BYTES, max(_UNASKED_BYTES, _ECHOES * len(request.content)))


def _values(text: bytes) -> int:
    """How many values JSON may have, at most."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


# --- what went wrong


def _fold(error: BaseException, *, begun: bool) -> Exception:
    """What an exception means. `begun`: a byte of the request may have left."""
    causes = list(_causes(error))
    known = next((cause for cause in causes if isinstance(cause, TransportError)), None)
    if known is not None:
        return known
    if begun:
        late = (ReadTimeoutError, TimeoutError, requests.Timeout)
        if any(isinstance(cause, late) for cause in causes):
            return TransportError("maybe", "no complete answer in time", "timeout")
        return TransportError("maybe", BROKEN)
    if isinstance(error, requests.exceptions.InvalidProxyURL):
        return ConfigError("The proxy of the environment (HTTPS_PROXY) is not a valid URL.")
    settings = (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader)
    if isinstance(error, (*settings, LocationParseError, UnicodeError)):
        return ConfigError(
            "No request can be made of the provider's address, path or credential: one of them "
            f"holds characters that HTTP does not allow ({type(error).__name__})."
        )
    return _unreached(causes)


def _unreached(causes: list[BaseException]) -> TransportError:
    for cause in causes:
        match cause:
            case NameResolutionError():
                return TransportError("no", "the host name does not resolve", "dns")
            case NewConnectionError():  # a subclass of the next
                return TransportError(
                    "no", "the connection was refused or the host is unreachable", "connect"
                )
            case ConnectTimeoutError() | requests.exceptions.ConnectTimeout():
                return TransportError("no", "no connection in time", "connect")
            case ssl.SSLError():
                # OpenSSL's own words, and no more of the certificate than our host's name
                said = getattr(cause, "verify_message", "") or getattr(cause, "reason", None)
                return TransportError("no", f"{_TLS} ({said})" if said else _TLS, "tls")
            case _:
                pass
    if any(isinstance(cause, requests.exceptions.SSLError) for cause in causes):
        return TransportError("no", _TLS, "tls")
    if any(isinstance(cause, requests.exceptions.ProxyError) for cause in causes):
        return TransportError("no", "the proxy did not connect", "connect")
    return TransportError("no", "no connection", "connect")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it stands for: requests hides the exact error in its arguments."""
    found: list[object] = [error]
    for _ in range(30):
        if not found:
            return
        cause = found.pop(0)
        if isinstance(cause, BaseException):
            yield cause
            found += [getattr(cause, "reason", None), *cause.args, cause.__cause__]
            found.append(cause.__context__)
