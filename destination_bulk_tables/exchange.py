"""One request until it is accepted: rate limit -> transport -> disposition -> retry or give up.

The only retry loop of the program. Runs on sender threads. Invariants: every attempt pays the rate
limit; each wait has a deadline and ends with the stop flag; a request that is unsafe to repeat is
not repeated here when its outcome is unknown, but thrown into its flow as `Ambiguous`.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from destination_bulk_tables.clock import Clock
from destination_bulk_tables.dispositions import BUSY_STATUSES, Accept, Renew, Retry
from destination_bulk_tables.errors import Stopped, TransientError
from destination_bulk_tables.http import (
    Ambiguous,
    Flow,
    HttpRequest,
    HttpResponse,
    Refused,
    TooLarge,
)
from destination_bulk_tables.model import Table
from destination_bulk_tables.provider import Provider
from destination_bulk_tables.ratelimit import WindowLimiter
from destination_bulk_tables.refusals import about, exhausted
from destination_bulk_tables.signing import Signer
from destination_bulk_tables.trace import Trace
from destination_bulk_tables.transport import Transport, TransportError

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_ATTEMPTS = 15
# with one read timeout on top: a dead vendor ends the sync within ten minutes
MAX_ELAPSED_S = 300.0
BACKOFF_BASE_S = 0.5
BACKOFF_CAP_S = 30.0
SETTLE_S = 1.0  # an ambiguous request may still be under way when its connection is gone
SETTLE_SLOW_S = 10.0
LONG_WAIT_S = 10.0  # a wait for the rate limit that somebody who watches should understand
_GATEWAY_TIMEOUT = 504
_PUSHES_BACK = {429, 502, 503}
_OVERLOADED = {"timeout", "broken", "connect"}  # as a proxy keeps away what is too much


@dataclass(slots=True)
class Tally:
    """What a delivery cost; the engine may look at it while it grows."""

    requests: int = 0
    retries: int = 0
    answer_s: float = 0.0  # waiting for answers
    limited_s: float = 0.0  # waiting for the rate limit, ours or what the vendor answered
    failed_s: float = 0.0  # in attempts without an answer, and waiting after one that failed
    pushed_back_at: float | None = None  # when an attempt began that met a busy vendor
    cause: str | None = None  # what went wrong last, and was waited for since, before what follows
    waited_s: float = 0.0


class _Attempt(NamedTuple):
    """`at`: when it was sent (monotonic); `limited_s`: what the rate limit made it wait."""

    request: HttpRequest
    table: Table | None
    at: float
    number: int
    limited_s: float


class Exchange:
    """Shared by all sender threads. `max_elapsed_s`: how long one request's retries may take."""

    def __init__(
        self,
        provider: Provider,
        transport: Transport,
        clock: Clock,
        halt: threading.Event,
        *,
        max_elapsed_s: float | None = None,
        jitter: Callable[[], float] = random.random,
        trace: Trace | None = None,
    ) -> None:
        self.provider = provider
        self._trace = trace
        self._signer = Signer(provider, transport, clock, trace)
        self.clock = clock
        self._halt = halt
        self.max_elapsed_s = MAX_ELAPSED_S if max_elapsed_s is None else max_elapsed_s
        self._jitter = jitter
        self._limiters: dict[str, WindowLimiter] = {}

    def in_brief(self, stop: threading.Event, max_elapsed_s: float) -> Exchange:
        """The same limits for what may be done without: it gives up soon, or when stopped."""
        brief = copy(self)
        brief._halt = stop  # noqa: SLF001 - a copy of its own
        brief.max_elapsed_s = max_elapsed_s
        return brief

    def run(self, table: Table | None, flow: Flow[T], tally: Tally | None = None) -> T:
        """Drive a flow to its end. Raises what the flow lets pass, and `DestinationError`s."""
        tally = tally or Tally()
        try:
            request = next(flow)
            while True:
                try:
                    response = self._exchange(table, request, tally)
                except (Refused, TooLarge, Ambiguous) as error:
                    request = flow.throw(error)
                else:
                    request = flow.send(response)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # StopIteration.value is untyped

    def _exchange(self, table: Table | None, request: HttpRequest, tally: Tally) -> HttpResponse:  # noqa: C901, PLR0915
        limiter = self._limiter(table)
        attempts = 0
        give_up = float("inf")
        renewed, resent = False, 0
        while True:
            limited_s = self._take_slot(limiter, request, table, tally)
            started = self.clock.monotonic()
            timeout = self.provider.limits.read_timeout_s
            attempts += 1
            tally.requests += 1
            attempt = _Attempt(request, table, started, attempts, limited_s)
            try:
                response = self._signer.send(request, min(timeout, max(1.0, give_up - started)))
            except TransportError as error:
                tally.failed_s += self.clock.monotonic() - started
                retry = Retry(error.after_s, error.sent)
                ambiguous = Ambiguous(error.reason, is_slow=error.kind == "timeout")
                pushes_back = error.kind in _OVERLOADED
                self._note(attempt, tally, None, error.reason)
            else:
                tally.answer_s += self.clock.monotonic() - started
                self._note(attempt, tally, response)
                disposition = self.provider.classify(request, response)
                if isinstance(disposition, Accept):
                    return replace(response, resent=resent)
                if isinstance(disposition, Renew) and not renewed:
                    renewed = True
                    self._signer.renew()
                    tally.retries += 1
                    tally.cause = f"HTTP {response.status}"
                    log.warning("credential_renewed status=%d", response.status)
                    continue
                if not isinstance(disposition, Retry):
                    if isinstance(disposition.error, Refused):
                        disposition.error.resent = resent
                    raise about(table, disposition.error)
                retry = disposition
                if retry.after_s is None:
                    retry = replace(retry, after_s=response.retry_after_s(self.clock.now()))
                ambiguous = Ambiguous(
                    f"HTTP {response.status}",
                    is_slow=response.status == _GATEWAY_TIMEOUT,
                    is_busy=response.status in BUSY_STATUSES,
                    after_s=retry.after_s,
                )
                pushes_back = ambiguous.is_slow or response.status in _PUSHES_BACK
            if pushes_back:
                tally.pushed_back_at = started
            self._require_repeatable(request, retry, ambiguous, tally)
            trouble, is_maybe = str(ambiguous), retry.applied == "maybe"
            resent += is_maybe
            now = self.clock.monotonic()
            give_up = min(give_up, started + self.max_elapsed_s)
            wait = max(self.backoff_s(attempts), retry.after_s or 0.0)
            if is_maybe and request.repeat == "settled":
                wait = max(wait, settle_s(is_slow=ambiguous.is_slow))
            if attempts >= MAX_ATTEMPTS or now + wait > give_up:
                raise exhausted(self.provider, trouble, attempts, retry.after_s, table)
            if retry.pause:
                limiter.pause(now + wait)
            tally.retries += 1
            log.warning(
                "attempt_failed table=%s cause=%r attempt=%d wait_s=%.1f",
                table.name if table else "-",
                trouble,
                attempts,
                wait,
            )
            self.hold(wait, trouble, tally, is_limit=retry.pause)

    def _note(
        self,
        attempt: _Attempt,
        tally: Tally,
        response: HttpResponse | None,
        trouble: str | None = None,
    ) -> None:
        """Trace an attempt that has ended, and what was waited for before it."""
        cause, waited_s = tally.cause, tally.waited_s
        tally.cause, tally.waited_s = None, 0.0
        if self._trace is not None:
            self._trace.note(
                attempt.request,
                response,
                attempt.at,
                table=attempt.table.name if attempt.table else "-",
                attempt=attempt.number,
                limited_ms=attempt.limited_s * 1000,
                waited_ms=waited_s * 1000,
                cause=cause,
                trouble=trouble,
                import_id=self.provider.job_of(attempt.request, response) if response else None,
            )

    def _require_repeatable(
        self, request: HttpRequest, retry: Retry, ambiguous: Ambiguous, tally: Tally
    ) -> None:
        """Raise `Ambiguous` where the flow decides what comes after an attempt without answer."""
        is_maybe = retry.applied == "maybe"
        if request.repeat == "once" and not retry.pause:
            if is_maybe:
                self.hold(settle_s(is_slow=ambiguous.is_slow), str(ambiguous), tally)
            raise ambiguous
        if request.repeat == "unsafe" and is_maybe:
            raise ambiguous

    def is_over(self, since: float, wait_s: float) -> bool:
        """Whether a wait would end after what began then (monotonic) must be given up."""
        return self.clock.monotonic() + wait_s > since + self.max_elapsed_s

    def backoff_s(self, attempts: int) -> float:
        """How long to wait after so many attempts: longer each time, by chance."""
        longest: float = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** min(attempts, 10))
        return self._jitter() * longest

    def _take_slot(
        self, limiter: WindowLimiter, request: HttpRequest, table: Table | None, tally: Tally
    ) -> float:
        """Wait until the rate limit lets one more go; how long that took."""
        is_logged = False
        waited_s = 0.0
        while True:
            now = self.clock.monotonic()
            if request.not_after is not None and now > request.not_after:
                raise TransientError(
                    "The load took longer to send than its debounce window allows, so the rest was "
                    "not sent: the table may hold a part of it until the next attempt replaces it. "
                    "Raise debounce_seconds or leave it empty."
                )
            wait = limiter.reserve(now)
            if not wait:
                return waited_s
            if wait > LONG_WAIT_S and not is_logged:
                is_logged = True
                windows = self.provider.limits.windows
                log.info(
                    "rate_limit_wait table=%s wait_s=%.0f limits=%s",
                    table.name if table else "-",
                    wait,
                    ",".join([f"{requests}/{seconds:.0f}s" for requests, seconds in windows]),
                )
            tally.limited_s += wait
            waited_s += wait
            self.wait(wait)

    def hold(self, seconds: float, cause: str, tally: Tally, *, is_limit: bool = False) -> None:
        """Wait because of what went wrong; the next request of the delivery tells it."""
        tally.cause = cause
        tally.waited_s += seconds
        if is_limit:
            tally.limited_s += seconds
        else:
            tally.failed_s += seconds
        self.wait(seconds)

    def wait(self, seconds: float) -> None:
        """Raises `Stopped` as soon as the sync ends."""
        if self.clock.wait(seconds, self._halt):
            raise Stopped("The sync was asked to stop before all rows were delivered.")

    def _limiter(self, table: Table | None) -> WindowLimiter:
        name = table.name if table and not self.provider.limits.shared_windows else ""
        # setdefault is atomic: two threads meeting here share one limiter
        return self._limiters.setdefault(name, WindowLimiter(self.provider.limits.windows))


def settle_s(*, is_slow: bool) -> float:
    """How long a request without an answer is given to end at the vendor."""
    return SETTLE_SLOW_S if is_slow else SETTLE_S
