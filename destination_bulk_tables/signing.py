"""Signs each attempt: a credential in the headers or in the query, or a token asked for first.

A token is asked for when the first request needs it, before it ends, and after it was refused; one
thread asks while the others wait for what it gets. An attempt that gets no token was not sent, so
it is repeated like one that reached nobody. Each token is a secret from then on.
"""

from __future__ import annotations

import threading
from dataclasses import replace

from destination_bulk_tables.clock import Clock
from destination_bulk_tables.http import HttpRequest, HttpResponse
from destination_bulk_tables.provider import Provider, TokenSource
from destination_bulk_tables.secrecy import SECRETS
from destination_bulk_tables.trace import Trace
from destination_bulk_tables.transport import Transport, TransportError

TOKEN_TIMEOUT_S = 30.0
_MARGIN_S = 60.0  # a token is renewed so long before it ends, or a fifth of a short life
_MARGIN_SHARE = 0.2
_PASSING = {408, 425, 429}


class Signer:
    """Shared by all sender threads."""

    def __init__(
        self, provider: Provider, transport: Transport, clock: Clock, trace: Trace | None = None
    ) -> None:
        self._trace = trace
        self._provider = provider
        self._transport = transport
        self._clock = clock
        self._lock = threading.Lock()
        self._used = threading.local()  # the token of each thread's last attempt
        self._token: str | None = None
        self._renew_at = float("inf")

    def send(self, request: HttpRequest, timeout_s: float) -> HttpResponse:
        """Send once. Raises as `Transport.send` does, also for what keeps a token away."""
        headers = self._provider.headers(self._clock.now())
        source = self._provider.tokens
        if source is not None:
            token = self._current(source, min(timeout_s, TOKEN_TIMEOUT_S))
            headers = {**headers, "Authorization": f"Bearer {token}"}
        if self._provider.query:
            mark = "&" if "?" in request.path else "?"
            request = replace(request, path=f"{request.path}{mark}{self._provider.query}")
        return self._transport.send(request, headers, timeout_s)

    def renew(self) -> None:
        """The credential of this thread's last attempt was refused."""
        with self._lock:
            # another thread may have got a new one by now
            if self._token == getattr(self._used, "token", None):
                self._token = None

    def _current(self, source: TokenSource, timeout_s: float) -> str:
        with self._lock:
            if self._token is None or self._clock.monotonic() >= self._renew_at:
                self._token = None  # whatever happens now, the old one is over
                self._token = self._ask(source, timeout_s)
            self._used.token = self._token
            return self._token

    def _ask(self, source: TokenSource, timeout_s: float) -> str:
        asked_at = self._clock.monotonic()
        try:
            response = self._transport.send(source.request, {}, timeout_s)
        except TransportError as error:
            self._note(source, None, asked_at, error.reason)
            reason = f"no token from token_url: {error.reason}"
            raise TransportError("no", reason, error.kind) from error
        self._note(source, response, asked_at)
        if response.status in _PASSING or response.status >= 500:  # noqa: PLR2004 - best known so
            reason = f"no token from token_url: HTTP {response.status}"
            wait = response.retry_after_s(self._clock.now())
            raise TransportError("no", reason, after_s=wait)
        token = source.read(response)
        SECRETS.add(token.value)
        lifetime = token.lifetime_s
        self._renew_at = asked_at + lifetime - min(_MARGIN_S, lifetime * _MARGIN_SHARE)
        return token.value

    def _note(
        self,
        source: TokenSource,
        response: HttpResponse | None,
        asked_at: float,
        trouble: str | None = None,
    ) -> None:
        if self._trace is not None:
            self._trace.note(source.request, response, asked_at, trouble=trouble)
