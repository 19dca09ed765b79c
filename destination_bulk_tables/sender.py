"""Delivers one batch: flow -> rate limit -> transport -> disposition -> retry, narrow or give up.

Runs on sender threads and owns no state but a batch in hand. Invariants: every attempt pays the
rate limit; each wait has a deadline and ends with the stop flag; an unsafe request whose outcome is
unknown is repeated only after its rows were read back, or where the user chose so; each row of a
part is delivered, rejected, receipted or in doubt.
"""

from __future__ import annotations

import logging
import random
import re
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from destination_bulk_tables.errors import (
    ConfigError,
    DestinationError,
    Stopped,
    TransientError,
    UnaccountedRows,
)
from destination_bulk_tables.model import BatchResult, RejectedRow
from destination_bulk_tables.provider import (
    Accept,
    Ambiguous,
    Context,
    HttpResponse,
    Refused,
    Renew,
    Retry,
    RowFault,
    TooLarge,
    WriteReport,
)
from destination_bulk_tables.ratelimit import WindowLimiter
from destination_bulk_tables.redact import mask_values
from destination_bulk_tables.signing import Signer
from destination_bulk_tables.transport import TransportError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from destination_bulk_tables.clock import Clock
    from destination_bulk_tables.model import Batch, RowBlock, Table
    from destination_bulk_tables.provider import Flow, HttpRequest, Provider, ReplacePlan
    from destination_bulk_tables.transport import Transport

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_ATTEMPTS = 15
MAX_ELAPSED_S = (
    300.0  # with one read timeout on top: a dead vendor ends the sync within ten minutes
)
BACKOFF_BASE_S = 0.5
BACKOFF_CAP_S = 30.0
MAX_AMBIGUOUS = 5
MANY_REJECTED = 20
MAX_AMBIGUOUS_S = 420.0  # another attempt of a read timeout still ends within ten minutes
SETTLE_S = 1.0  # an ambiguous request may still be under way when its connection is gone
SETTLE_SLOW_S = 10.0
LONG_WAIT_S = 10.0  # a wait for the rate limit that somebody who watches should understand
_GATEWAY_TIMEOUT = 504
_OF_ONE_ROW = re.compile(r"""\"[^\"]*\"|'[^']*'|\d+""")


@dataclass(slots=True)
class Tally:
    """What a delivery cost."""

    requests: int = 0
    retries: int = 0


@dataclass(slots=True)
class Delivery:
    """A batch to deliver, or the parts of one that are in doubt."""

    batch: Batch
    context: Context = field(default_factory=Context)
    doubt: list[tuple[RowBlock, Exception]] = field(default_factory=list)


@dataclass(slots=True)
class _Part:
    block: RowBlock
    fate: Exception | None = None
    proves: str | None = None  # this kind of refusal stores nothing, if this part is delivered
    ambiguous: int = 0
    since: float = float("inf")  # when the first attempt began


class Sender:
    """Shared by all sender threads.

    `narrows`: a refused batch is taken apart (policy skip); one that deletes first always is.
    `max_elapsed_s`: how long the retries of one request may take.
    """

    def __init__(
        self,
        provider: Provider,
        transport: Transport,
        clock: Clock,
        halt: threading.Event,
        *,
        narrows: bool,
        max_elapsed_s: float | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._provider = provider
        self._signer = Signer(provider, transport, clock)
        self._clock = clock
        self._halt = halt
        self._narrows = narrows
        self._max_elapsed_s = MAX_ELAPSED_S if max_elapsed_s is None else max_elapsed_s
        self._jitter = jitter
        self._limiters: dict[str, WindowLimiter] = {}
        self._atomic: set[tuple[str, str]] = set()  # kinds of refusals seen to store nothing

    # --- one batch

    def deliver(self, delivery: Delivery) -> BatchResult:
        """Deliver a batch; never raises: a failure is the result's `error`."""
        result = BatchResult(delivery.batch, started_at=self._clock.monotonic())
        tally = Tally()
        try:
            self._deliver(delivery, result, tally)
        except Exception as error:  # noqa: BLE001 - the border of the sender thread
            result.error = error
        result.requests, result.retries = tally.requests, tally.retries
        result.elapsed_s = self._clock.monotonic() - result.started_at
        return result

    def _deliver(self, delivery: Delivery, result: BatchResult, tally: Tally) -> None:  # noqa: C901
        table, context = delivery.batch.table, delivery.context
        parts = [_Part(block, fate) for block, fate in reversed(delivery.doubt)]
        parts = parts or [_Part(delivery.batch.block)]
        examined = False
        while parts:
            part = parts.pop()
            fate = part.fate
            part.since = min(part.since, self._clock.monotonic())
            if fate is None:
                try:
                    now = replace(context, repeated=part.ambiguous > 0)
                    report = self.run(table, self._provider.write(table, part.block, now), tally)
                except (Refused, TooLarge, Ambiguous) as error:
                    fate = error
                else:
                    self._account(part, report, result)
                    if part.proves is not None and report.delivered == len(part.block):
                        self._atomic.add((table.name, part.proves))
                    context = _add_stored(context, report.delivered)
                    continue
            if isinstance(fate, Refused) and not examined:
                if self.run(table, self._provider.examine(table), tally) is None:
                    log.warning("table_not_examined table=%s", table.name)
                examined = True
            if (
                isinstance(fate, Refused)
                and not self._narrows
                and part.block.count > 1
                and not fate.partial
                and (not self._deletes_first(table) or _is_hopeless(result))
            ):
                raise self._refusal(table, part.block, fate, context.replace)
            needs_reading = self._needs_reading(table, fate)
            if needs_reading and not context.alone:
                result.doubt.append((part.block, fate))
                continue
            if isinstance(fate, Ambiguous):
                self._wait(_settle_s(is_slow=fate.is_slow))
            if needs_reading:
                stored = self._read_back(table, part, fate, context, tally)
            else:
                stored = self._unread(table, part.block, fate)
            result.delivered += len(stored)
            context = _add_stored(context, len(stored))
            at_once = context.replace is not None and context.replace.single
            self._pursue(part, fate, stored, parts, result, at_once=at_once)

    def _deletes_first(self, table: Table) -> bool:
        """Whether a refused batch may have lost the old versions of its good rows by now."""
        return self._provider.rules.deletes and self._provider.repeats_safely(table)

    def _needs_reading(self, table: Table, fate: Exception) -> bool:
        match fate:
            case Ambiguous():
                return self._provider.traits.reads_back and not self._provider.repeats_safely(table)
            case Refused():
                return fate.partial or not self._stores_nothing(table, fate)
            case _:
                return False

    def _stores_nothing(self, table: Table, fate: Refused) -> bool:
        """Whether this kind of refusal is known to store no row; another kind may store some."""
        known = (table.name, _kind(fate)) in self._atomic
        return known or self._provider.refusals_store_nothing(table)

    def _read_back(
        self, table: Table, part: _Part, fate: Exception, context: Context, tally: Tally
    ) -> set[int]:
        """Which positions of the part the table holds after an ambiguous or refused write."""
        stored = self.run(table, self._provider.stored_rows(table, part.block, context), tally)
        if stored is None:
            return self._unread(table, part.block, fate)
        log.warning(
            "rows_read_back table=%s sent=%d stored=%d cause=%s",
            table.name,
            part.block.count,
            len(stored),
            _name(fate),
        )
        return stored

    def _unread(self, table: Table, block: RowBlock, fate: Exception) -> set[int]:
        """Nothing can tell what a write did: decide as configured."""
        # rows that may be sent again need no account of which are in
        if isinstance(fate, TooLarge) or self._provider.repeats_safely(table):
            return set()
        traits, is_refused = self._provider.traits, isinstance(fate, Refused)
        if isinstance(fate, Refused):
            if fate.partial:
                message = (
                    f"{self._provider.title} did not account for each row sent to table "
                    f"{table.name}: {mask_values(fate.reason, block)}"
                )
                raise UnaccountedRows(message, stream=table.stream)
            if self._stores_nothing(table, fate):
                return set()
        if traits.on_unknown == "fail" and (traits.reads_back or not is_refused):
            message = (
                f"A write to table {table.name} was refused or ended without an answer ({fate}), "
                "and reading the table back could not tell which of its rows are in. The sync "
                f"stops because on_ambiguous_write is 'fail'. {traits.unknown_hint}"
            ).rstrip()
            raise TransientError(message, stream=table.stream)
        log.warning(
            "%s table=%s cause=%s duplicates=possible",
            "refusal_not_verified" if is_refused else "ambiguous_write_repeated",
            table.name,
            fate,
        )
        return set()

    def _pursue(
        self,
        part: _Part,
        fate: Exception,
        stored: set[int],
        parts: list[_Part],
        result: BatchResult,
        *,
        at_once: bool,
    ) -> None:
        """Queue what is left of a part: again as it is, in halves, or as a rejected row."""
        block = part.block
        if stored:
            block = block.select([i for i in range(block.count) if i not in stored])
        # a replace with no row at all is a request like any other: it empties the table
        if not block.count and not block.tombstones and (stored or not at_once):
            return
        if isinstance(fate, Ambiguous):
            is_over = self._clock.monotonic() - part.since > MAX_AMBIGUOUS_S
            if part.ambiguous >= MAX_AMBIGUOUS or is_over:
                message = (
                    f"Writes to table {result.batch.table.name} keep ending without an answer "
                    f"({fate})."
                )
                raise TransientError(message, stream=result.batch.table.stream)
            parts.append(_Part(block, ambiguous=part.ambiguous + 1, since=part.since))
        elif block.count > 1 and isinstance(fate, Refused) and fate.faults and not stored:
            _reject_faults(block, fate.faults, result)
            bad = {fault.position for fault in fate.faults}
            rest = [i for i in range(block.count) if i not in bad]
            if rest or block.tombstones or at_once:
                parts.append(_Part(block.select(rest), ambiguous=part.ambiguous, since=part.since))
        elif at_once:
            message = (
                f"{self._provider.title} refused the one request that replaces table "
                f"{result.batch.table.name} ({_name(fate)}). It cannot be sent in parts, because "
                "each would replace the one before. Lower batching.max_rows or "
                "batching.max_megabytes, or correct the rows. The table was not touched."
            )
            raise ConfigError(message, stream=result.batch.table.stream)
        elif block.count > 1:
            left, right = block.halves()
            proves = _kind(fate) if isinstance(fate, Refused) and not stored else None
            # the rows of a half may have been written before as well
            again = part.ambiguous or int(isinstance(fate, Refused) and fate.resent)
            parts += [
                _Part(right, ambiguous=again, since=part.since),
                _Part(left, ambiguous=again, since=part.since, proves=proves),
            ]
        else:
            if block.count and block.tombstones:
                # what was refused may be the delete, which is then owed to the other keys
                parts.append(_Part(block.select([])))
            code, reason = (
                (fate.code, fate.reason)
                if isinstance(fate, Refused)
                else ("too_large", "the vendor refuses a request with this row alone as too large")
            )
            self._reject(block, code, reason, result)

    def _account(self, part: _Part, report: WriteReport, result: BatchResult) -> None:
        receipted = report.receipt.rows if report.receipt else 0
        if report.delivered + len(report.faults) + receipted != len(part.block):
            message = f"{self._provider.title} accounted for another number of rows than were sent."
            raise UnaccountedRows(message, stream=result.batch.table.stream)
        result.delivered += report.delivered
        if report.receipt:
            result.receipts.append(report.receipt)
        _reject_faults(part.block, report.faults, result)

    def _reject(self, block: RowBlock, code: str, reason: str, result: BatchResult) -> None:
        """Reject the one row of a block; one without rows only deletes, and that must not fail."""
        stream = result.batch.table.stream
        if not block.count:
            message = (
                f"{self._provider.title} refuses to delete rows of table {result.batch.table.name} "
                f"({code})."
            )
            raise ConfigError(message, stream=stream)
        _reject_faults(block, [RowFault(0, code, reason)], result)

    def _refusal(
        self, table: Table, block: RowBlock, fate: Refused, plan: ReplacePlan | None
    ) -> ConfigError:
        message = (
            f"{self._provider.title} refused {block.count} rows of table {table.name} "
            f"({fate.code}): {mask_values(fate.reason, block)} Correct the rows or their mapping, "
            "or set rejected_records.policy to 'skip' to deliver the good rows and list the bad "
            f"ones in rejected_records.report_path. {plan.hint if plan else ''}"
        ).rstrip()
        return ConfigError(message, stream=table.stream)

    # --- one flow

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

    def _exchange(self, table: Table | None, request: HttpRequest, tally: Tally) -> HttpResponse:  # noqa: C901
        """One request until it is accepted: the only retry loop of the program."""
        limiter = self._limiter(table)
        attempts = 0
        give_up = float("inf")
        renewed = resent = False
        while True:
            self._take_slot(limiter, request, table)
            started = self._clock.monotonic()
            timeout = self._provider.limits.read_timeout_s
            attempts += 1
            tally.requests += 1
            try:
                response = self._signer.send(request, min(timeout, max(1.0, give_up - started)))
            except TransportError as error:
                retry = Retry(
                    after_s=error.after_s, applied="maybe" if error.sent == "maybe" else "no"
                )
                trouble, slow = error.reason, error.kind == "timeout"
            else:
                disposition = self._provider.classify(request, response)
                if isinstance(disposition, Accept):
                    return replace(response, resent=resent)
                if isinstance(disposition, Renew) and not renewed:
                    renewed = True
                    self._signer.renew()
                    tally.retries += 1
                    log.warning("credential_renewed status=%d", response.status)
                    continue
                if not isinstance(disposition, Retry):
                    if isinstance(disposition.error, Refused):
                        disposition.error.resent = resent
                    raise _about(table, disposition.error)
                retry = disposition
                if retry.after_s is None:
                    retry = replace(retry, after_s=self._retry_after(response.headers))
                trouble, slow = f"HTTP {response.status}", response.status == _GATEWAY_TIMEOUT
            self._require_repeatable(request, retry, trouble, is_slow=slow)
            resent = resent or retry.applied == "maybe"
            now = self._clock.monotonic()
            give_up = min(give_up, started + self._max_elapsed_s)
            wait = self._jitter() * min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** min(attempts, 10))
            must_settle = retry.applied == "maybe" and request.repeat == "settled"
            wait = max(wait, retry.after_s or 0.0, _settle_s(is_slow=slow) if must_settle else 0.0)
            if attempts >= MAX_ATTEMPTS or now + wait > give_up:
                raise self._exhausted(trouble, attempts, retry.after_s, table)
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
            self._wait(wait)

    def _require_repeatable(
        self, request: HttpRequest, retry: Retry, trouble: str, *, is_slow: bool
    ) -> None:
        """Raise `Ambiguous` where the flow decides what comes after an attempt without answer."""
        is_maybe = retry.applied == "maybe"
        if request.repeat == "once" and not retry.pause:
            if is_maybe:
                self._wait(_settle_s(is_slow=is_slow))
            raise Ambiguous(trouble, is_slow=is_slow)
        if request.repeat == "unsafe" and is_maybe:
            raise Ambiguous(trouble, is_slow=is_slow)

    def _exhausted(
        self, trouble: str, attempts: int, after_s: float | None, table: Table | None
    ) -> TransientError:
        asked = (
            f" It asked to wait {after_s:.0f} s, longer than the retries may take."
            if after_s
            else ""
        )
        message = (
            f"{self._provider.title} did not take a request after {attempts} attempt(s): "
            f"{trouble}.{asked} If it is up, check its address, the network and the vendor's "
            "limits; the next attempt starts where this one stopped."
        )
        return TransientError(message, stream=table.stream if table else None)

    def _take_slot(self, limiter: WindowLimiter, request: HttpRequest, table: Table | None) -> None:
        is_logged = False
        while True:
            now = self._clock.monotonic()
            if request.not_after is not None and now > request.not_after:
                message = (
                    "The load took longer to send than its debounce window allows, so the rest was "
                    "not sent: the table may hold a part of it until the next attempt replaces it. "
                    "Raise debounce_seconds or leave it empty."
                )
                raise TransientError(message)
            wait = limiter.reserve(now)
            if not wait:
                return
            if wait > LONG_WAIT_S and not is_logged:
                is_logged = True
                windows = self._provider.limits.windows
                log.info(
                    "rate_limit_wait table=%s wait_s=%.0f limits=%s",
                    table.name if table else "-",
                    wait,
                    ",".join([f"{requests}/{seconds:.0f}s" for requests, seconds in windows]),
                )
            self._wait(wait)

    def _wait(self, seconds: float) -> None:
        if self._clock.wait(seconds, self._halt):
            message = "The sync was asked to stop before all rows were delivered."
            raise Stopped(message)

    def _limiter(self, table: Table | None) -> WindowLimiter:
        name = table.name if table and not self._provider.limits.shared_windows else ""
        limiter = self._limiters.get(name)
        if limiter is None:
            # setdefault is atomic: two threads meeting here share one limiter
            limiter = self._limiters.setdefault(name, WindowLimiter(self._provider.limits.windows))
        return limiter

    def _retry_after(self, headers: Mapping[str, str]) -> float | None:
        """`Retry-After` in seconds from now: a number, or an HTTP date (RFC 9110 10.2.3)."""
        value = headers.get("retry-after", "").strip()
        if not value:
            return None
        try:
            return max(0.0, float(value)) if value[0].isdigit() else self._until(value)
        except (ValueError, TypeError):
            return None

    def _until(self, http_date: str) -> float:
        return max(0.0, parsedate_to_datetime(http_date).timestamp() - self._clock.now())


def _reject_faults(block: RowBlock, faults: Sequence[RowFault], result: BatchResult) -> None:
    stream, rows = result.batch.table.stream, block.rows() if faults else []
    for fault in faults:
        index = block.indexes[fault.position]
        row = rows[fault.position]
        result.rejected.append(RejectedRow(stream, "vendor", fault.code, fault.reason, row, index))


def _is_hopeless(result: BatchResult) -> bool:
    """Whether so many rows were refused and none taken that it is not about single rows."""
    return len(result.rejected) >= MANY_REJECTED and not result.delivered


def _settle_s(*, is_slow: bool) -> float:
    """How long a request without an answer is given to end at the vendor."""
    return SETTLE_SLOW_S if is_slow else SETTLE_S


def _about(table: Table | None, error: Exception) -> Exception:
    """An answer's error with the table it is about: the setting to check may be that table's."""
    if table is None or not isinstance(error, DestinationError):
        return error
    message = f"Table {table.name}: {error.message}"
    return type(error)(message, detail=error.detail, stream=table.stream)


def _add_stored(context: Context, rows: int) -> Context:
    return context if context.stored is None else replace(context, stored=context.stored + rows)


def _kind(fate: Refused) -> str:
    """A refusal's text without what differs from row to row."""
    return f"{fate.code} {_OF_ONE_ROW.sub('', fate.reason[:200])}"


def _name(fate: Exception) -> str:
    return type(fate).__name__.lower()
