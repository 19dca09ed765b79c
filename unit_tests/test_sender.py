"""The one retry loop, and what becomes of a batch that is refused, cut off or stored in part."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from destination_bulk_tables.batcher import Batcher
from destination_bulk_tables.dispositions import (
    Accept,
    Disposition,
    Renew,
    Retry,
    Stop,
    Throw,
    classify_by_status,
)
from destination_bulk_tables.errors import (
    ConfigError,
    DestinationError,
    Stopped,
    TransientError,
    UnaccountedRows,
)
from destination_bulk_tables.exchange import (
    BACKOFF_BASE_S,
    BACKOFF_CAP_S,
    MAX_ATTEMPTS,
    SETTLE_S,
    SETTLE_SLOW_S,
    Exchange,
    Tally,
)
from destination_bulk_tables.http import (
    Ambiguous,
    Flow,
    HttpRequest,
    HttpResponse,
    Refused,
    RowFault,
    TooLarge,
)
from destination_bulk_tables.lines import Lines
from destination_bulk_tables.model import (
    Batch,
    BatchResult,
    Doubtful,
    Epoch,
    Receipt,
    RowBlock,
    Table,
    Tombstone,
)
from destination_bulk_tables.outcomes import Context, ReadBack, ReplacePlan, WriteReport
from destination_bulk_tables.passage import MAX_AMBIGUOUS, Delivery
from destination_bulk_tables.sender import Sender
from destination_bulk_tables.transport import TransportError
from unit_tests.fakes import (
    Answer,
    FakeClock,
    FakeTransport,
    answer_status,
    apply_then_status,
    cut_after,
    cut_before,
    garble,
    http_date,
    refuse,
    scripted,
    status,
    time_out_after,
)
from unit_tests.syncs import DEALS, kore, qobra
from unit_tests.vendors import KoreVendor, QobraVendor, Row

TABLE = Table("deals", DEALS, "append", columns=("id", "amount"), text_columns=("id",))
LIMITED = answer_status(429)
KEYED = Table("deals", DEALS, "dedup", columns=("id", "amount"), key_columns=("id",))
GET = HttpRequest("GET", "/v1/imports/x")
POST = HttpRequest("POST", "/v1/tables/deals/records/bulk", body=b"{}")


def asked(request: HttpRequest = GET) -> Flow[HttpResponse]:
    """A flow of one request."""
    return (yield request)


def _flow(answer: Any) -> Any:
    """A flow that asks nothing."""
    yield from ()
    return answer


class Rig:
    """A sender on a fake clock and network."""

    def __init__(
        self,
        answer: Answer,
        provider: Any = None,
        *,
        jitter: Callable[[], float] = lambda: 1.0,
        narrows: bool = True,
    ) -> None:
        self.clock = FakeClock()
        self.halt = threading.Event()
        self.transport = FakeTransport(self.clock, answer)
        self.provider = provider or qobra()
        self.exchange = Exchange(
            self.provider, self.transport, self.clock, self.halt, jitter=jitter
        )
        self.sender = Sender(self.exchange, narrows=narrows)

    def ask(self, request: HttpRequest = GET) -> HttpResponse:
        return self.exchange.run(TABLE, asked(request))

    def deliver(self, rows: list[Row], context: Context | None = None, **more: Any) -> BatchResult:
        batch = batch_of(rows, **more)
        return self.sender.deliver(Delivery(batch, context or Context()))


def batch_of(rows: list[Row], table: Table = TABLE, epochs: Any = None) -> Batch:
    """A batch of these rows, all of one epoch unless told."""
    pieces = [json.dumps(row).encode() for row in rows]
    block = RowBlock(pieces, len(rows), range(len(rows)))
    batcher = Batcher(table, 10_000, 50_000_000, 10)
    list(batcher.extend(block, Epoch(), 0.0, []))
    batch = batcher.cut("end")
    batch.epochs = epochs or batch.epochs
    return batch


def deals(count: int) -> list[Row]:
    """Rows with a text and a number."""
    return [{"id": f"d{i}", "amount": i} for i in range(count)]


# --- dispositions


DISPOSITIONS: list[tuple[int, type[Any], str]] = [
    (200, Accept, ""),
    (201, Accept, ""),
    (299, Accept, ""),
    (301, Stop, "ConfigError"),
    (308, Stop, "ConfigError"),
    (400, Throw, "Refused"),
    (401, Renew, "ConfigError"),
    (402, Stop, "InternalError"),
    (403, Stop, "ConfigError"),
    (404, Stop, "ConfigError"),
    (405, Stop, "InternalError"),
    (408, Retry, "maybe"),
    (413, Throw, "TooLarge"),
    (422, Throw, "Refused"),
    (425, Retry, "maybe"),
    (429, Retry, "no"),
    (500, Retry, "maybe"),
    (501, Stop, "InternalError"),
    (502, Retry, "maybe"),
    (503, Retry, "maybe"),
    (504, Retry, "maybe"),
    (505, Stop, "InternalError"),
    (507, Retry, "maybe"),
    (520, Retry, "maybe"),
    (524, Retry, "maybe"),
    (529, Retry, "maybe"),
    (199, Stop, "InternalError"),
]


@pytest.mark.parametrize(("code", "kind", "detail"), DISPOSITIONS)
def test_status_means(code: int, kind: type[Any], detail: str) -> None:
    """A status decides alone what a response means, and no text of it reaches the message."""
    hints = {401: "Check key.", 403: "Check rights.", 404: "Check name."}
    found: Disposition = classify_by_status(status(code, b"secret row"), "Acme", hints)
    assert type(found) is kind
    match found:
        case Retry():
            assert found.applied == detail
            assert found.pause is (code == 429)
        case Stop(error) | Renew(error) | Throw(error):
            assert type(error).__name__ == detail
            assert "secret" not in str(error)
            if code in hints:
                assert hints[code] in str(error)
        case Accept():
            assert detail == ""


# --- backoff and budgets


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_backoff_grows_to_a_cap_and_is_jittered_in_full(share: float) -> None:
    """A wait is the jitter's share of base * 2^n, which stops growing at the cap."""
    rig = Rig(scripted(*[status(503)] * 10, status(200)), jitter=lambda: share)
    rig.ask()
    expected = [share * min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2**n) for n in range(1, 11)]
    assert rig.clock.waits == pytest.approx(expected)


def test_attempts_are_bounded() -> None:
    """A vendor that never recovers gets so many attempts and no more, even without any wait."""
    rig = Rig(scripted(status(503)), jitter=lambda: 0.0)
    with pytest.raises(TransientError, match=f"{MAX_ATTEMPTS} attempt") as caught:
        rig.ask()
    assert caught.value.stream == DEALS
    assert len(rig.transport.sent) == MAX_ATTEMPTS


def _hang(clock: FakeClock) -> Callable[[HttpRequest], HttpResponse]:
    def answer(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
        clock.advance(120.0)
        raise TransportError("maybe", "no answer in time", "timeout")

    return answer


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_vendor_that_never_answers_ends_within_ten_minutes(share: float) -> None:
    """Read timeouts and waits together stay below 600 seconds."""
    rig = Rig(scripted(status(200)), jitter=lambda: share)
    rig.transport.answer = _hang(rig.clock)
    with pytest.raises(TransientError):
        rig.ask()
    assert 300 <= rig.clock.elapsed < 600
    assert all(sent.timeout_s >= 1.0 for sent in rig.transport.sent)
    assert rig.transport.sent[0].timeout_s == rig.provider.limits.read_timeout_s
    assert rig.transport.sent[-1].timeout_s < rig.provider.limits.read_timeout_s


@pytest.mark.parametrize(
    ("header", "waited"),
    [
        ("7", 7.0),
        ("7.5", 7.5),
        ("0.4", 0.4),
        (http_date(20.01), 20.0),
        ("Tue Nov 14 22:13:40 2023", 20.0),
        (http_date(-5), 0.0),
        ("soon", 0.0),
        ("7 s", 0.0),
        ("Tue, 99 Nov 2023 22:13:40 GMT", 0.0),
        ("Tue, 14 Nov 99999 22:13:40 GMT", 0.0),
    ],
)
@pytest.mark.usefixtures("far_from_utc")
def test_retry_after_in_seconds_or_as_a_date(header: str, waited: float) -> None:
    """What the vendor asks for is waited, wherever this runs; nonsense is not."""
    rig = Rig(scripted(status(503, retry_after=header), status(200)), jitter=lambda: 0.0)
    rig.ask()
    assert rig.clock.waits == [pytest.approx(waited, abs=0.02)]


def test_the_longest_of_what_is_asked_for_and_the_backoff_is_waited() -> None:
    """What a provider reads in an answer goes before the header; a date that is over is none."""
    rig = Rig(scripted(status(503, retry_after="0.5"), status(200)))
    rig.ask()
    assert rig.clock.waits == [2 * BACKOFF_BASE_S]
    rig = Rig(scripted(status(503, retry_after="1"), status(200)))
    by_status = rig.provider.classify
    rig.provider.classify = lambda request, response: (  # type: ignore[method-assign]
        Retry(after_s=40.0) if response.status == 503 else by_status(request, response)
    )
    rig.ask()
    assert rig.clock.waits == [40.0]
    rig = Rig(scripted(status(503, retry_after=http_date(-5))), jitter=lambda: 0.0)
    with pytest.raises(TransientError) as caught:
        rig.ask()
    assert "asked" not in caught.value.message


def test_the_last_attempt_is_given_a_second() -> None:
    """However little of the time is left."""
    rig = Rig(scripted(status(503, retry_after="299.5"), status(200)))
    rig.ask()
    assert rig.transport.sent[1].timeout_s == 1.0


def test_a_retry_after_beyond_the_budget_fails_now() -> None:
    """Nobody sleeps for an hour: the error names the time asked for."""
    rig = Rig(scripted(status(429, retry_after="3600")))
    with pytest.raises(TransientError, match="3600 s"):
        rig.ask()
    assert len(rig.transport.sent) == 1
    assert rig.clock.waits == []


def test_the_time_of_a_request_may_be_set() -> None:
    """A check gives up long before a sync does; a wait that ends in time is still waited."""
    rig = Rig(scripted(status(503, retry_after="30")))
    exchange = rig.exchange.in_brief(rig.halt, 20.0)
    assert [exchange.is_over(5.0, wait_s) for wait_s in (25.0, 25.5)] == [False, True]
    with pytest.raises(TransientError, match="30 s"):
        exchange.run(TABLE, asked())
    exchange = Exchange(rig.provider, rig.transport, rig.clock, rig.halt, max_elapsed_s=20.0)
    with pytest.raises(TransientError, match="30 s"):
        exchange.run(TABLE, asked())
    assert (len(rig.transport.sent), rig.clock.waits) == (2, [])


@pytest.mark.parametrize(("code", "holds"), [(429, True), (503, False)])
def test_a_pause_holds_all_requests_of_the_table(code: int, holds: bool) -> None:  # noqa: FBT001
    """A 429 makes a request of another thread to the same table wait as well."""
    rig = Rig(scripted(status(code, retry_after="30"), status(200)))

    def meanwhile(seconds: float, stop: threading.Event) -> bool:  # noqa: ARG001
        rig.clock.wait = FakeClock.wait.__get__(rig.clock)  # type: ignore[method-assign]  # once
        Exchange.run(rig.exchange, TABLE, asked())
        return rig.clock.wait(0.0, stop)

    rig.clock.wait = meanwhile  # type: ignore[method-assign]  # what another thread does meanwhile
    rig.ask()
    assert (rig.transport.sent[1].at >= 30.0) is holds


@pytest.mark.parametrize(
    ("fault", "pushes_back"),
    [
        (LIMITED, True),
        (answer_status(503), True),
        (answer_status(504), True),
        (time_out_after, True),
        (answer_status(500), False),
        (answer_status(502), True),
        (cut_after, True),
        (refuse, True),
    ],
)
def test_a_tally_tells_what_a_request_cost(fault: Any, pushes_back: bool) -> None:  # noqa: FBT001
    """Attempts, their answers, and whether fewer at a time would be better."""
    rig = Rig(scripted(status(200)))
    rig.transport.faults = {2: fault}
    tally = Tally()
    rig.exchange.run(TABLE, asked(), tally)
    assert (tally.requests, tally.retries, tally.pushed_back_at) == (1, 0, None)
    began = rig.clock.elapsed
    rig.exchange.run(TABLE, asked(), tally)
    assert (tally.requests, tally.retries) == (3, 1)
    assert tally.pushed_back_at == (began if pushes_back else None)
    n_answers = 2 if fault in {cut_after, refuse, time_out_after} else 3
    assert tally.answer_s == pytest.approx(0.01 * n_answers)
    waited_s = sum(rig.clock.waits)
    unanswered_s = 0.01 * (3 - n_answers)
    is_limit = fault is LIMITED
    assert tally.limited_s == (waited_s if is_limit else 0.0)
    assert tally.failed_s == pytest.approx(0.0 if is_limit else waited_s + unanswered_s)


def test_every_attempt_pays_the_limiter() -> None:
    """Retries count: no minute holds more than 600 attempts, and the 601st waits."""
    answers = [status(503) if i % 2 else status(200) for i in range(700)]
    rig = Rig(scripted(*answers, status(200)), kore(), jitter=lambda: 0.0)
    for _ in range(360):
        rig.ask(HttpRequest("POST", "/api/public/tables/deals/query"))
    times = [sent.at for sent in rig.transport.sent]
    assert len(times) > 601
    assert all(late - early >= 60 for early, late in zip(times, times[600:], strict=False))


def test_a_long_wait_for_the_rate_limit_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody who watches sees which limit the sync waits for."""
    caplog.set_level("INFO")
    rig = Rig(scripted(status(200)), kore())
    for _ in range(600):
        rig.ask()
    assert "rate_limit_wait" not in caplog.text
    tally = Tally()
    rig.exchange.run(TABLE, asked(), tally)
    assert tally.limited_s == sum(rig.clock.waits)
    assert (
        caplog.text.count("rate_limit_wait table=deals wait_s=55 limits=600/60s,18000/3600s") == 1
    )


@pytest.mark.parametrize(("wait_s", "n_logged"), [(10.0, 0), (10.1, 1)])
def test_a_wait_that_grows_is_logged_once(
    caplog: pytest.LogCaptureFixture, wait_s: float, n_logged: int
) -> None:
    """Another request of the table may be asked to wait meanwhile; a short wait says nothing."""
    caplog.set_level("INFO")
    rig = Rig(scripted(status(200)))
    limiter = rig.exchange._limiter(TABLE)

    def meanwhile(seconds: float, stop: threading.Event) -> bool:
        rig.clock.wait = FakeClock.wait.__get__(rig.clock)  # type: ignore[method-assign]  # once
        limiter.pause(2 * wait_s)
        return rig.clock.wait(seconds, stop)

    rig.clock.wait = meanwhile  # type: ignore[method-assign]  # what another thread does meanwhile
    limiter.pause(wait_s)
    rig.ask()
    assert rig.clock.waits == [wait_s, wait_s]
    assert caplog.text.count("rate_limit_wait") == n_logged


def test_a_stop_ends_a_wait() -> None:
    """A sync that was asked to stop does not wait for its next attempt."""
    rig = Rig(scripted(status(503), status(200)))
    rig.halt.set()
    with pytest.raises(Stopped):
        rig.ask()


def test_a_flow_without_a_table_is_sent() -> None:
    """A check belongs to no table."""
    rig = Rig(scripted(status(200)))
    assert rig.exchange.run(None, asked()).status == 200


# --- credentials


def test_401_renews_once_and_then_stops() -> None:
    """A fresh token is tried once; the second 401 in a row is the user's to fix."""
    rig = Rig(scripted(status(401), status(200)), kore())
    assert rig.ask(POST).status == 200
    rig = Rig(scripted(status(401)), kore())
    with pytest.raises(ConfigError):
        rig.ask(POST)
    assert len(rig.transport.sent) == 2


@pytest.mark.parametrize("code", [401, 403, 404, 418])
def test_an_answer_that_ends_the_sync_names_the_table(code: int) -> None:
    """One of many tables may be missing or not be assigned to the app."""
    rig = Rig(scripted(status(code)))
    with pytest.raises(DestinationError, match=f"^Table deals: .*{code}") as caught:
        rig.ask(POST)
    assert caught.value.stream == DEALS
    with pytest.raises(DestinationError, match=f"^Qobra answered {code}"):
        rig.exchange.run(None, asked(POST))


def test_each_attempt_carries_a_fresh_token() -> None:
    """An app that enforces JTI takes a token once, so a retry needs another."""
    rig = Rig(scripted(status(503), status(401), status(503), status(200)), kore())
    rig.ask(POST)
    tokens = [sent.headers["auth"] for sent in rig.transport.sent]
    assert len(set(tokens)) == len(tokens) == 4


# --- what an attempt may have done


def test_an_unsafe_request_is_repeated_only_where_it_cannot_have_been_applied() -> None:
    """A refused connection and 429 are repeated; a cut, a 500 or a 503 is thrown into the flow."""
    for fault, sent in [(refuse, 2), (answer_status(429), 2)]:
        rig = Rig(scripted(status(200)), kore())
        rig.transport.faults = {1: fault}
        rig.ask(HttpRequest("POST", "/x/bulk", repeat="unsafe"))
        assert len(rig.transport.sent) == sent
    maybe = (500, 502, 503, 408, 425)
    for fault in (cut_before, cut_after, *map(answer_status, maybe)):
        rig = Rig(scripted(status(200)), kore())
        rig.transport.faults = {1: fault}
        with pytest.raises(Exception, match=r"broke|HTTP [54]"):
            rig.ask(HttpRequest("POST", "/x/bulk", repeat="unsafe"))
        assert len(rig.transport.sent) == 1


@pytest.mark.parametrize(
    ("fault", "waited"),
    [
        (refuse, []),
        (cut_after, [SETTLE_S]),
        (answer_status(500), [SETTLE_S]),
        (answer_status(504), [SETTLE_SLOW_S]),
        (time_out_after, [SETTLE_SLOW_S]),
    ],
)
def test_a_request_that_is_sent_once_is_given_time_to_settle(
    fault: Any, waited: list[float]
) -> None:
    """Its flow takes another way, which must not overtake it; 429 is no answer, so it is sent."""
    rig = Rig(scripted(status(200)))
    once = replace(GET, repeat="once")
    rig.transport.faults = {1: fault}
    with pytest.raises(Ambiguous):
        rig.ask(once)
    assert (len(rig.transport.sent), rig.clock.waits) == (1, waited)
    rig.transport.faults = {2: answer_status(429)}
    assert rig.ask(once).status == 200


@pytest.mark.parametrize(
    ("fault", "least_s"),
    [(refuse, 0.0), (cut_after, SETTLE_S), (time_out_after, SETTLE_SLOW_S)],
)
def test_what_follows_a_settled_request_does_not_overtake_it(fault: Any, least_s: float) -> None:
    """An attempt that may still be under way at the vendor is given time before the next."""
    rig = Rig(scripted(status(200)), jitter=lambda: 0.0)
    rig.transport.faults = {1: fault}
    rig.ask(replace(POST, repeat="settled"))
    assert rig.clock.waits == [least_s]


def test_a_repeated_safe_request_says_so() -> None:
    """The flow learns that an earlier attempt may have been applied as well, and only then."""
    for fault, resent in [(cut_after, 1), (answer_status(500), 1), (refuse, 0)]:
        rig = Rig(scripted(status(200)))
        rig.transport.faults = {1: fault}
        assert rig.ask(POST).resent == resent


def test_nothing_leaves_after_its_window() -> None:
    """A request with a last moment is not sent after it, also when a retry would be."""
    rig = Rig(scripted(status(503, retry_after="20"), status(200)))
    with pytest.raises(TransientError, match="debounce"):
        rig.ask(HttpRequest("POST", "/v1/x", not_after=10.0))
    assert len(rig.transport.sent) == 1
    rig.ask(HttpRequest("POST", "/v1/x", not_after=rig.clock.elapsed))


# --- refused batches


def _bad(*ids: str) -> Callable[[Row], bool]:
    return lambda row: row["id"] in ids


@pytest.mark.parametrize("bulk", ["atomic", "ordered_partial", "skip_bad"])
@pytest.mark.parametrize("count", [64, 1000])
def test_bad_rows_are_found_and_the_rest_is_delivered(bulk: Any, count: int) -> None:
    """Whatever an insert with a bad row stores: each good row is in once, each bad one rejected."""
    bad = ["d3", f"d{count // 2}", f"d{count - 1}"]
    vendor = KoreVendor(bulk=bulk, is_bad=_bad(*bad))
    rig = Rig(vendor.answer, kore())
    result = rig.deliver(deals(count), Context(stored=0))
    assert result.error is None
    assert [json.loads(row.row)["id"] for row in result.rejected] == bad
    assert [row.index for row in result.rejected] == [3, count // 2, count - 1]
    assert result.delivered == count - 3
    assert sorted(row["amount"] for row in vendor.rows()) == [
        i for i in range(count) if f"d{i}" not in bad
    ]


@pytest.mark.parametrize(("count", "allowed"), [(128, 2 * 7 + 6), (1024, 2 * 10 + 10)])
def test_a_bad_row_costs_two_requests_for_each_halving(count: int, allowed: int) -> None:
    """About 2 log2(n): a refusal is verified until it is proven to store nothing, then believed."""
    vendor = KoreVendor(is_bad=_bad("d77"))
    rig = Rig(vendor.answer, kore())
    result = rig.deliver(deals(count), Context(stored=0))
    assert result.delivered == count - 1
    assert result.requests == len(rig.transport.sent) <= allowed


def test_another_kind_of_refusal_is_verified_again() -> None:
    """A vendor that checks columns first and unique values late stores rows only in the second."""
    vendor = KoreVendor(is_bad=_bad("d2", "d14"), bulk="ordered_partial")
    rig = Rig(vendor.answer, kore())
    rig.transport.faults = {1: lambda *_: status(400, b"unknown column")}
    result = rig.deliver(deals(16), Context(stored=0))
    assert result.delivered == 14
    assert len(vendor.rows()) == 14


def test_too_large_is_halved() -> None:
    """A 413 halves the batch until it fits; a row that is too large alone is rejected."""
    vendor = KoreVendor()

    def answer(request: HttpRequest) -> HttpResponse:
        is_large = b"d5" in (request.body or b"") or len(request.body or b"") > 150
        return (
            status(413) if is_large and b"data" in (request.body or b"") else vendor.answer(request)
        )

    rig = Rig(answer, kore())
    result = rig.deliver(deals(16), Context(stored=0))
    assert [(row.index, row.code) for row in result.rejected] == [(5, "too_large")]
    assert result.delivered == 15 == len(vendor.rows())


def test_too_large_is_halved_at_once_whatever_is_set_and_under_way() -> None:
    """It stored nothing and says nothing of a row, so nothing is put off, read back or ended."""
    vendor = KoreVendor()

    def answer(request: HttpRequest) -> HttpResponse:
        is_large = len(json.loads(request.body or b"")["data"]) > 3
        return status(413) if is_large else vendor.answer(request)

    rig = Rig(answer, kore(), narrows=False)
    result = rig.deliver(deals(8), Context(stored=0, alone=False))
    assert (result.error, result.doubt, result.delivered) == (None, [], 8)
    assert len(rig.transport.sent) == len(rig.transport.writes) == 7


def test_rejected_rows_belong_to_their_epoch() -> None:
    """A row's index leads to the epoch it was counted in."""
    first, second = Epoch(read=4), Epoch(read=4)
    rig = Rig(KoreVendor(is_bad=_bad("d1", "d6")).answer, kore())
    batch = batch_of(deals(8), epochs=((first, 4), (second, 4)))
    result = rig.sender.deliver(Delivery(batch, Context(stored=0)))
    assert [batch.epoch_of(row.index) for row in result.rejected] == [first, second]


def test_policy_fail_stops_at_the_first_refusal() -> None:
    """Without narrowing a refused batch ends the sync, and the message holds no value of a row."""
    rig = Rig(
        lambda request: (
            status(400, b'{"errors":[{"msg":"bad value d1"}]}')
            if request.path.endswith("bulk")
            else KoreVendor().answer(request)
        ),
        kore(),
        narrows=False,
    )
    result = rig.deliver(deals(4), Context(stored=0))
    assert isinstance(result.error, ConfigError)
    assert "d1" not in result.error.message
    assert "rejected_records.policy" in result.error.message
    assert len(rig.transport.writes) == 1
    pair = Rig(KoreVendor(is_bad=_bad("d1")).answer, kore(), narrows=False)
    assert isinstance(pair.deliver(deals(2), Context(stored=0)).error, ConfigError)


def test_a_refusal_of_the_table_itself_rejects_no_row() -> None:
    """An unknown table answers 400 to everything: that is the user's to fix under any policy."""
    rig = Rig(KoreVendor().answer, kore())
    table = Table("nowhere", DEALS, "append")
    result = rig.deliver(deals(4), table=table)
    assert isinstance(result.error, ConfigError)
    assert result.rejected == []


def test_rows_that_are_not_listed_and_cannot_be_read_back_end_the_sync() -> None:
    """Some rows were taken and nothing tells which: neither delivered nor rejected."""
    rig = Rig(KoreVendor(is_bad=_bad("d1"), bulk="skip_bad", reads=False).answer, kore())
    result = rig.deliver(deals(3))
    assert isinstance(result.error, UnaccountedRows)
    assert (result.delivered, result.rejected) == (0, [])


def test_rows_that_a_refusal_names_are_rejected_and_the_rest_is_sent_again() -> None:
    """An API that refuses a batch whole may say which rows are bad; the first is proven alone."""
    vendor = KoreVendor(is_bad=_bad("d1", "d3"))
    rig = Rig(vendor.answer, kore())
    faults = (RowFault(1, "bad", "too long"), RowFault(3, "bad", "too long"))
    refused = Refused("http_422", "two rows", faults=faults)
    result = rig.sender.deliver(Delivery(batch_of(deals(5)), Context(stored=0), doubt_of(refused)))
    assert [row.index for row in result.rejected] == [1, 3]
    assert result.delivered == 3 == len(vendor.rows())
    again = rig.sender.deliver(Delivery(batch_of(deals(5)), Context(stored=3), doubt_of(refused)))
    assert [(row.index, row.code) for row in again.rejected] == [(1, "bad"), (3, "bad")]


@pytest.mark.parametrize(
    ("report", "is_right"),
    [
        (WriteReport(1), False),
        (WriteReport(faults=(RowFault(0, "bad", "too long"),)), True),
        (WriteReport(faults=(RowFault(0, "other", "unknown"),)), None),
        (WriteReport(receipt=Receipt("7", 1)), None),
    ],
)
def test_a_row_that_is_sent_for_its_name_tells_whether_it_was_right(
    report: WriteReport,
    is_right: bool | None,  # noqa: FBT001
) -> None:
    """Not where it is refused for something else, or where its job is still to tell."""
    rig = Rig(QobraVendor(FakeClock()).answer)
    reports = {1: report, 4: WriteReport(4)}
    rig.provider.write = lambda _table, block, _: _flow(reports[block.count])
    refused = Refused("http_422", "row 2", faults=(RowFault(1, "bad", "too long"),))
    result = rig.sender.deliver(Delivery(batch_of(deals(5)), Context(), doubt_of(refused)))
    assert result.error is None
    assert rig.sender.doubt.names_row(TABLE, "bad too long") is is_right


@pytest.mark.parametrize(
    ("positions", "alone", "writes", "rejected"),
    [
        ((1, 3), (), [1, 4], []),
        ((1, 3), (RowFault(0, "bad", "too long"),), [1, 3], [1, 3]),
        ((1,), (), [1, 4], []),
    ],
)
def test_what_is_known_of_the_other_rows_that_a_refusal_names(
    positions: tuple[int, ...],
    alone: tuple[RowFault, ...],
    writes: list[int],
    rejected: list[int],
) -> None:
    """One of them goes out alone: the others are rejected as well, or sent like any row."""
    rig = Rig(lambda _: total_of(0), kore())
    written: list[int] = []
    looks = 0

    def stored_rows(*_: object) -> Any:
        nonlocal looks
        looks += 1
        return _flow(ReadBack(None))

    def write(_table: Table, block: RowBlock, _: Context) -> Any:
        written.append(block.count)
        faults = alone if block.count == 1 else ()
        return _flow(WriteReport(block.count - len(faults), faults))

    rig.provider.write = write
    rig.provider.stored_rows = stored_rows  # type: ignore[method-assign]
    faults = tuple(RowFault(position, "bad", "too long") for position in positions)
    batch = batch_of(deals(5))
    known = Doubtful(
        batch.block, Refused("http_422", "rows", faults=faults), is_read=True, stored=set()
    )
    result = rig.sender.deliver(Delivery(batch, Context(stored=0), [known]))
    assert (result.error, result.delivered) == (None, 5 - len(rejected))
    assert written == writes
    assert sorted(row.index for row in result.rejected) == rejected
    assert looks == len(positions) - 1


def test_what_goes_out_as_any_other_tells_nothing_of_names() -> None:
    """Neither taken nor refused."""
    rig = Rig(KoreVendor(is_bad=_bad("d1")).answer, kore())
    result = rig.deliver(deals(4), Context(stored=0))
    assert (result.delivered, len(result.rejected)) == (3, 1)
    assert rig.sender.doubt.names_row(TABLE, "bad too long") is None


def test_a_refusal_that_is_known_to_store_nothing_costs_no_look_at_the_table() -> None:
    """What the first one taught; a batch still asks once whether it is about the table."""
    rig = Rig(KoreVendor(is_bad=_bad("d1")).answer, kore())
    first = rig.deliver(deals(4), Context(stored=0))
    looks = len(rig.transport.sent) - len(rig.transport.writes)
    second = rig.deliver(deals(2), Context(stored=first.stored))
    assert (second.error, second.delivered, second.stored) == (None, 1, 4)
    assert len(rig.transport.sent) - len(rig.transport.writes) == looks + 1
    assert (first.is_recounted, second.is_recounted) == (True, False)


def test_a_rejected_row_keeps_the_line_that_brought_it() -> None:
    """That of its own, where lines are kept at all."""
    rig = Rig(KoreVendor(is_bad=_bad("d1")).answer, kore())
    batch = batch_of(deals(3))
    batch.block.originals = Lines.of_list([b"line 0", b"line 1", b"line 2"])
    [row] = rig.sender.deliver(Delivery(batch, Context(stored=0))).rejected
    assert row.original == b"line 1"


def test_rows_that_a_refusal_names_wrongly_are_not_rejected() -> None:
    """An API that counts from another number than is set: a row that is taken alone is good."""
    rig = Rig(KoreVendor(is_bad=_bad("d1")).answer, kore())
    for number in range(2):
        wrong = Refused("http_422", "row 2", faults=(RowFault(2, "bad", "too long"),))
        context = Context(stored=4 * number)
        result = rig.sender.deliver(Delivery(batch_of(deals(5)), context, doubt_of(wrong)))
        assert [json.loads(row.row)["id"] for row in result.rejected] == ["d1"]
        assert (result.error, result.delivered) == (None, 4)
        assert rig.sender.doubt.names_row(TABLE, "any other kind") is False


def test_named_rows_of_a_refusal_that_stored_some_are_found_anew() -> None:
    """The positions it names are those of the whole batch and do not fit what is left."""
    vendor = KoreVendor(is_bad=_bad("d3"))
    vendor.put(deals(2))
    rig = Rig(vendor.answer, kore())
    refused = Refused("http_422", "a row", faults=(RowFault(2, "bad", "too long"),))
    result = rig.sender.deliver(Delivery(batch_of(deals(5)), Context(stored=0), doubt_of(refused)))
    assert [json.loads(row.row)["id"] for row in result.rejected] == ["d3"]
    assert result.delivered == 4 == len(vendor.rows())


def test_a_row_that_was_refused_alone_is_not_sent_again_for_its_name() -> None:
    """There is nothing to take it apart from."""
    rig = Rig(KoreVendor().answer, kore())
    refused = Refused("http_422", "a row", faults=(RowFault(0, "bad", "too long"),))
    batch = batch_of(deals(1))
    result = rig.sender.deliver(
        Delivery(batch, Context(stored=0), [Doubtful(batch.block, refused)])
    )
    assert [(row.index, row.code) for row in result.rejected] == [(0, "bad")]
    assert rig.transport.writes == []


def test_a_replace_in_one_request_that_is_in_is_not_repeated_with_no_rows() -> None:
    """Where the table tells that all rows are in, an empty request would empty it."""
    vendor = KoreVendor()
    rig = Rig(vendor.answer, kore())
    rig.transport.faults = {1: cut_after}
    write, written = rig.provider.write, []

    def watched(table: Table, block: RowBlock, context: Context) -> Any:
        written.append(block.count)
        return write(table, block, context)

    rig.provider.write = watched  # the same, looked at
    result = rig.deliver(deals(2), Context(stored=0, replace=ReplacePlan(single=True)))
    assert (result.error, result.delivered, written) == (None, 2, [2])


def test_when_all_rows_are_named_nothing_is_sent_again() -> None:
    """An empty request would replace a table, or mean nothing."""
    rig = Rig(QobraVendor(FakeClock()).answer)
    rig.sender.doubt.learn_naming(TABLE, "bad too long", is_right=True)
    faults = tuple(RowFault(i, "bad", "too long") for i in range(5))
    refused = Refused("http_422", "all rows", faults=faults)
    result = rig.sender.deliver(Delivery(batch_of(deals(5)), Context(), doubt_of(refused)))
    assert len(result.rejected) == 5
    assert rig.transport.sent == []


def test_a_replace_in_one_request_goes_on_without_the_rows_it_names() -> None:
    """It cannot be sent in parts to try out whether they are bad."""
    rig = Rig(QobraVendor(FakeClock()).answer)
    rig.provider.write = lambda _table, block, _: _flow(WriteReport(block.count))
    refused = Refused("http_422", "row 2", faults=(RowFault(1, "bad", "too long"),))
    context = Context(replace=ReplacePlan(single=True))
    result = rig.sender.deliver(Delivery(batch_of(deals(5)), context, doubt_of(refused)))
    assert (result.error, result.delivered) == (None, 4)
    assert [row.index for row in result.rejected] == [1]


def test_a_replace_of_which_all_rows_are_named_is_not_sent() -> None:
    """What is left of the rows would empty the table."""
    rig = Rig(QobraVendor(FakeClock()).answer)
    faults = tuple(RowFault(i, "bad", "too long") for i in range(5))
    refused = Refused("http_422", "all rows", faults=faults)
    context = Context(replace=ReplacePlan(single=True))
    result = rig.sender.deliver(Delivery(batch_of(deals(5)), context, doubt_of(refused)))
    assert isinstance(result.error, ConfigError)
    assert rig.transport.sent == []


def test_a_policy_of_failing_still_accounts_for_each_row() -> None:
    """A row that is refused alone goes to the report; rows that are in are not refused."""
    rig = Rig(KoreVendor(is_bad=_bad("d0")).answer, kore(), narrows=False)
    alone = rig.deliver(deals(1), Context(stored=0))
    assert (alone.error, [row.index for row in alone.rejected]) == (None, [0])
    vendor = KoreVendor()
    rig = Rig(vendor.answer, kore(), narrows=False)
    rig.transport.faults = {1: garble(lambda _: b'{"records":[]}')}
    result = rig.deliver(deals(3), Context(stored=0))
    assert (result.error, result.delivered, len(vendor.rows())) == (None, 3, 3)


def test_a_partial_answer_is_read_back_whatever_was_learnt() -> None:
    """That one answer stored nothing proves nothing of another that took some of the rows."""
    vendor = KoreVendor(is_bad=_bad("d2"), bulk="skip_bad")
    rig = Rig(vendor.answer, kore())
    rig.transport.faults = {1: lambda *_: status(200, b'{"records":[]}')}
    first = rig.deliver([{"id": f"x{i}", "amount": i} for i in range(4)], Context(stored=0))
    second = rig.deliver(deals(8), Context(stored=4))
    assert (first.delivered, second.delivered, len(vendor.rows())) == (4, 7, 11)


def test_named_rows_leave_the_deletes_of_their_batch() -> None:
    """A batch of rows and deletes whose rows are all bad still deletes."""
    vendor = KoreVendor(is_bad=_bad("d0", "d1"))
    vendor.put([{"id": "gone"}])
    rig = Rig(vendor.answer, kore())
    batch = batch_of(deals(2), KEYED)
    batch.block.keys = [b'"d0"', b'"d1"']
    batch.block.tombstones = (Tombstone(2, b'"gone"'),)
    refused = Refused("http_422", "", faults=(RowFault(0, "bad", ""), RowFault(1, "bad", "")))
    result = rig.sender.deliver(Delivery(batch, Context(), [Doubtful(batch.block, refused)]))
    assert (result.error, len(result.rejected), vendor.rows()) == (None, 2, [])


def doubt_of(fate: Exception) -> list[Doubtful]:
    """Five rows that met this fate."""
    return [Doubtful(batch_of(deals(5)).block, fate)]


def test_keyed_rows_need_no_reading_back(caplog: pytest.LogCaptureFixture) -> None:
    """Where a write can be repeated whole, a refusal is narrowed without a question."""
    vendor = KoreVendor(is_bad=_bad("d3"))
    rig = Rig(vendor.answer, kore())
    result = rig.sender.deliver(Delivery(keyed_batch(8)))
    assert result.delivered == 7 == len(vendor.rows())
    questions = [sent for sent in rig.transport.sent if "/query" in sent.request.path]
    assert len(questions) == 1  # whether the table itself is fine
    assert "refusal_not_verified" not in caplog.text


def test_a_refused_delete_is_not_lost() -> None:
    """A batch of deletes has no row to reject: the sync ends."""
    batch = batch_of(deals(1), KEYED)
    batch.block = RowBlock((), 0, [], keys=[], tombstones=(Tombstone(0, b'"d0"'),))
    vendor = KoreVendor()
    rig = Rig(vendor.answer, kore())
    rig.transport.faults = {1: answer_status(400)}
    assert isinstance(rig.sender.deliver(Delivery(batch)).error, ConfigError)


def test_too_large_is_halved_whatever_the_policy_for_doubt() -> None:
    """A 413 is an answer: nothing was stored."""
    vendor = KoreVendor()
    rig = Rig(vendor.answer, kore(on_ambiguous_write="fail"))
    rig.transport.faults = {1: answer_status(413)}
    result = rig.deliver(deals(4), Context(stored=0))
    assert result.delivered == 4 == len(vendor.rows())
    assert [len(json.loads(sent.request.body or b"")["data"]) for sent in rig.transport.sent] == [
        4,
        2,
        2,
    ]


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("code", [400, 413])
@pytest.mark.parametrize("count", [1, 4])
def test_a_replace_in_one_request_is_never_sent_in_parts(
    single: bool,  # noqa: FBT001
    code: int,
    count: int,
) -> None:
    """Each part would replace the one before; a replace of several requests may be narrowed."""
    rig = Rig(QobraVendor(FakeClock()).answer)
    rig.transport.faults = {1: answer_status(code)}
    plan = ReplacePlan(single=single, window_s=None if single else 300.0)
    result = rig.deliver(deals(count), Context(replace=plan))
    if single:
        assert isinstance(result.error, ConfigError)
        assert len(rig.transport.sent) == 1
    else:
        assert [receipt.rows for receipt in result.receipts] == [2, 2][: count // 2]
        assert len(result.rejected) == count % 2


def test_an_emptying_request_is_answered_for_like_any_other() -> None:
    """Refused it ends the sync, and without a readable answer it is repeated."""
    batch = Batch(0, TABLE, RowBlock((), 0, range(0)), "end")
    context = Context(replace=ReplacePlan(single=True))
    rig = Rig(QobraVendor(FakeClock()).answer)
    rig.transport.faults = {1: answer_status(400)}
    assert isinstance(rig.sender.deliver(Delivery(batch, context)).error, ConfigError)
    rig = Rig(QobraVendor(FakeClock()).answer)
    rig.transport.faults = {1: garble(lambda _: b"<html>")}
    [receipt] = rig.sender.deliver(Delivery(batch, context)).receipts
    assert receipt.rows == 0
    assert len(rig.transport.sent) == 2


@pytest.mark.parametrize("reads", [True, False])
def test_a_refusal_that_is_not_verified_is_logged(
    caplog: pytest.LogCaptureFixture,
    reads: bool,  # noqa: FBT001
) -> None:
    """Without the right to read it is assumed to have stored nothing, and the log says so."""
    rig = Rig(KoreVendor(is_bad=_bad("d1"), reads=reads).answer, kore())
    result = rig.deliver(deals(2), Context(stored=0) if reads else Context())
    assert result.delivered == 1
    assert ("refusal_not_verified" in caplog.text) is not reads
    assert ("table_not_examined" in caplog.text) is not reads


@pytest.mark.parametrize("policy", ["verify_then_retry", "fail"])
def test_a_refusal_whose_rows_may_be_in_is_decided_as_configured(
    policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody else writes, so the total proves nothing: sending rows again may double them."""
    vendor = KoreVendor(is_bad=_bad("d1"), bulk="ordered_partial")
    vendor.put(deals(9))
    rig = Rig(vendor.answer, kore(on_ambiguous_write=policy))
    result = rig.deliver(deals(2), Context(stored=0))
    if policy == "fail":
        assert isinstance(result.error, TransientError)
        assert "http_400" in result.error.message
        assert len(rig.transport.writes) == 1
    else:
        assert result.error is None
        assert "refusal_not_verified table=deals cause=http_400 duplicates=possible" in caplog.text


def test_a_keyed_batch_of_which_nothing_is_taken_is_given_up_early() -> None:
    """A column that does not exist is not found by asking for each row."""
    vendor = KoreVendor(is_bad=lambda _: True)
    rig = Rig(vendor.answer, kore(), narrows=False)
    table = Table("deals", DEALS, "dedup", columns=("id", "amount"), key_columns=("id",))
    rows = deals(1000)
    batch = batch_of(rows, table)
    batch.block.keys = [f"d{i}" for i in range(len(rows))]
    result = rig.sender.deliver(Delivery(batch, Context()))
    assert isinstance(result.error, ConfigError)
    assert "refused" in result.error.message
    assert len(rig.transport.sent) < 150


def test_a_write_that_nothing_can_read_back_is_repeated_after_a_pause() -> None:
    """A vendor that closes every connection is not asked five times within a moment."""
    rig = Rig(KoreVendor().answer, kore())
    rig.transport.faults = {1: cut_after, 2: cut_after}
    rig.provider.traits = replace(rig.provider.traits, reads_back=False)
    result = rig.deliver(deals(2))
    assert result.error is None
    times = [sent.at for sent in rig.transport.writes]
    assert [late - early >= SETTLE_S for early, late in pairwise(times)] == [True, True]


def test_a_refusal_is_not_decided_where_nothing_is_ever_read_back() -> None:
    """Not of one row: a refusal is its answer. Of more, `fail` ends the sync with the settings."""
    rig = Rig(KoreVendor(is_bad=_bad("d1")).answer, kore())
    rig.provider.traits = replace(rig.provider.traits, reads_back=False, on_unknown="fail")
    rig.provider.examine = lambda _: _flow(answer=True)  # type: ignore[method-assign]
    rig.provider.refusals_store_nothing = lambda _: False  # type: ignore[method-assign]
    result = rig.deliver(deals(2)[1:])
    assert (result.error, len(result.rejected), result.delivered) == (None, 1, 0)
    error = rig.deliver(deals(2)).error
    assert isinstance(error, ConfigError)
    assert "on_ambiguous_write is 'fail'" in error.message


def test_halves_of_a_write_that_was_sent_twice_are_known_to_be() -> None:
    """Their imports may count rows that the first attempt brought in."""
    rig = Rig(QobraVendor(FakeClock(), is_bad=lambda _: False).answer)
    rig.transport.faults = {1: cut_after, 2: answer_status(400)}
    result = rig.deliver(deals(4))
    assert result.error is None
    assert [(receipt.rows, receipt.resent) for receipt in result.receipts] == [(2, 2), (2, 2)]
    once = Rig(QobraVendor(FakeClock()).answer)
    once.transport.faults = {1: answer_status(413)}
    assert [receipt.resent for receipt in once.deliver(deals(4)).receipts] == [0, 0]


@pytest.mark.parametrize("report", [WriteReport(delivered=1), WriteReport(delivered=3)])
def test_a_report_of_another_number_of_rows_is_not_believed(report: WriteReport) -> None:
    """Each row of a request is delivered, rejected or receipted."""
    rig = Rig(KoreVendor().answer, kore())
    rig.provider.write = lambda *_: _flow(report)  # a wrong one
    assert isinstance(rig.deliver(deals(2)).error, UnaccountedRows)


@pytest.mark.parametrize(
    "report",
    [
        WriteReport(delivered=1, faults=(RowFault(1, "bad", "why"),)),
        WriteReport(faults=(RowFault(1, "bad", "why"),), receipt=Receipt("i", 1)),
    ],
)
def test_a_report_may_account_in_several_ways(report: WriteReport) -> None:
    """Some rows are delivered or receipted, and the others are named as bad."""
    rig = Rig(KoreVendor().answer, kore())
    rig.provider.write = lambda *_: _flow(report)  # a scripted one
    result = rig.deliver(deals(2))
    assert (result.error, [row.index for row in result.rejected]) == (None, [1])
    assert result.delivered + sum(receipt.rows for receipt in result.receipts) == 1


def test_beside_a_job_of_the_same_batch_no_row_is_looked_for() -> None:
    """The job changes what the table tells, so rows in doubt are put off until it is over."""
    rig = Rig(KoreVendor().answer, kore())
    fates = iter([TooLarge(), WriteReport(receipt=Receipt("i", 1)), Ambiguous("cut")])

    def write(*_: Any) -> Any:
        yield from ()
        fate = next(fates)
        if isinstance(fate, Exception):
            raise fate
        return fate

    rig.provider.write = write
    result = rig.deliver(deals(2), Context(stored=0))
    assert (result.error, [d.is_read for d in result.doubt]) == (None, [False])
    assert rig.transport.sent == []


def test_unaccounted_rows_are_not_quoted() -> None:
    """What an answer says of the rows may hold their values."""
    rig = Rig(KoreVendor(reads=False).answer, kore())
    refused = Refused("row_errors", "value 'd3' is bad", partial=True)
    error = rig.sender.deliver(Delivery(batch_of(deals(5)), Context(), doubt_of(refused))).error
    assert isinstance(error, UnaccountedRows)
    assert "value '****' is bad" in error.message


@pytest.mark.parametrize("shared", [True, False])
def test_a_pause_is_the_tables_own_unless_the_limit_is_shared(shared: bool) -> None:  # noqa: FBT001
    """Kore.ai counts per table; a configured API may count per key."""
    rig = Rig(scripted(status(429, retry_after="30"), status(200)))
    rig.provider.limits = replace(rig.provider.limits, shared_windows=shared)
    other = Table("other", DEALS, "append")

    def meanwhile(seconds: float, stop: threading.Event) -> bool:  # noqa: ARG001
        rig.clock.wait = FakeClock.wait.__get__(rig.clock)  # type: ignore[method-assign]  # once
        rig.exchange.run(other, asked())
        return rig.clock.wait(0.0, stop)

    rig.clock.wait = meanwhile  # type: ignore[method-assign]  # what another thread does meanwhile
    rig.ask()
    assert (rig.transport.sent[1].at >= 30.0) is shared


# --- ambiguous writes


@pytest.mark.parametrize(
    ("fault", "writes"), [(cut_before, 2), (cut_after, 1), (apply_then_status(502), 1)]
)
def test_an_ambiguous_write_is_read_back(fault: Any, writes: int) -> None:
    """Rows that are in are not sent again; rows that are not are."""
    vendor = KoreVendor()
    rig = Rig(vendor.answer, kore())
    rig.transport.faults = {1: fault}
    result = rig.deliver(deals(5), Context(stored=0))
    assert result.error is None
    assert result.delivered == 5 == len(vendor.rows())
    assert len(rig.transport.writes) == writes


@pytest.mark.parametrize("which", [[0, 1], [1, 4], [4]])
def test_the_rows_that_are_in_are_told_from_the_rest(which: list[int]) -> None:
    """A prefix or any subset that was stored is found, and only the rest is sent again."""
    vendor = KoreVendor()

    def some(request: HttpRequest, answer: Answer) -> HttpResponse:
        vendor.put([deals(5)[i] for i in which])
        return cut_before(request, answer)

    rig = Rig(vendor.answer, kore())
    rig.transport.faults = {1: some}
    result = rig.deliver(deals(5), Context(stored=0))
    assert result.delivered == 5
    assert sorted(row["id"] for row in vendor.rows()) == [f"d{i}" for i in range(5)]


@pytest.mark.parametrize("policy", ["verify_then_retry", "fail"])
def test_what_cannot_be_read_back_is_decided_as_configured(policy: str) -> None:
    """Without the right to read, the rows are sent again or the sync ends."""
    vendor = KoreVendor(reads=False)
    rig = Rig(vendor.answer, kore(on_ambiguous_write=policy))
    rig.transport.faults = {1: cut_after}
    result = rig.deliver(deals(3), Context())
    if policy == "fail":
        assert isinstance(result.error, TransientError)
        assert len(vendor.rows()) == 3
    else:
        assert result.delivered == 3
        assert len(vendor.rows()) == 6


def test_somebody_else_writing_makes_it_unknown() -> None:
    """More rows than were sent, or fewer than before, prove nothing."""
    for before, after in [(0, 9), (5, 3)]:
        vendor = KoreVendor()
        vendor.put(deals(after))
        rig = Rig(vendor.answer, kore(on_ambiguous_write="fail"))
        rig.transport.faults = {1: cut_before}
        result = rig.deliver(deals(2), Context(stored=before))
        assert isinstance(result.error, TransientError)
        assert len(rig.transport.writes) == 1


@pytest.mark.parametrize("is_first_in", [True, False])
def test_batches_in_doubt_are_looked_at_together(is_first_in: bool) -> None:  # noqa: FBT001
    """Once, before any is sent again: the total is the same whichever of two equal rows is in."""
    vendor = KoreVendor()
    twin, *rest = deals(3)
    batches = [[twin, rest[0]], [twin, rest[1]]]
    vendor.put(batches[0 if is_first_in else 1])
    rig = Rig(vendor.answer, kore())
    fates = [Ambiguous("cut"), Ambiguous("no answer", is_slow=True)]
    doubts = [
        [Doubtful(batch_of(rows).block, fate)] for rows, fate in zip(batches, fates, strict=True)
    ]
    stored: int | None = 0
    delivered = []
    for place, rows in enumerate(batches):
        beside = doubts[1] if not place else []
        delivery = Delivery(batch_of(rows), Context(stored=stored), doubts[place], beside)
        result = rig.sender.deliver(delivery)
        assert (result.error, result.is_recounted) == (None, True)
        delivered.append(result.delivered)
        stored = result.stored
    assert (delivered, stored, len(vendor.rows())) == ([2, 2], 4, 4)
    assert [row["id"] for row in vendor.rows()].count("d0") == 2
    sent = [json.loads(sent.request.body or b"")["data"] for sent in rig.transport.writes]
    assert sum(map(len, sent)) == 2
    assert rig.clock.waits == [10.0]


def test_a_batch_that_is_not_alone_is_put_off() -> None:
    """While other batches of the table are under way its total proves nothing."""
    vendor = KoreVendor()
    rig = Rig(vendor.answer, kore())
    rig.transport.faults = {1: cut_after}
    result = rig.deliver(deals(2), Context(stored=0, alone=False))
    assert result.error is None
    assert result.delivered == 0
    [doubt] = result.doubt
    assert (doubt.block.count, doubt.is_read) == (2, False)
    assert len(rig.transport.sent) == 1


def test_writes_that_keep_ending_without_an_answer_end_the_sync() -> None:
    """A few times are bad luck; then it is the vendor, whenever that begins."""
    vendor = KoreVendor()
    rig = Rig(
        lambda request: (
            cut_before(request, vendor.answer)
            if request.path.endswith("bulk")
            else vendor.answer(request)
        ),
        kore(),
    )
    rig.clock.advance(5000.0)
    result = rig.deliver(deals(2), Context(stored=0))
    assert isinstance(result.error, TransientError)
    assert len(rig.transport.writes) == 6


def test_a_timeout_waits_longer_before_reading_back() -> None:
    """A request that timed out may still be under way at the vendor."""
    waits = []
    for fault in (apply_then_status(504), cut_after):
        rig = Rig(KoreVendor().answer, kore())
        rig.transport.faults = {1: fault}
        rig.deliver(deals(2), Context(stored=0))
        waits.append(rig.clock.waits)
    assert waits == [[10.0], [1.0]]


def test_only_a_busy_vendor_is_left_alone_longer_each_time() -> None:
    """A connection that breaks says nothing of how much the vendor has to do."""
    waits = []
    for fault in (cut_before, answer_status(503)):
        rig = Rig(KoreVendor().answer, kore())
        rig.transport.faults = {1: fault, 4: fault}
        assert rig.deliver(deals(2), Context(stored=0)).error is None
        waits.append(rig.clock.waits[:2])
    assert waits == [[1.0, 1.0], [1.0, 2.0]]


def test_a_vendor_that_dies_during_a_write_ends_it_within_ten_minutes() -> None:
    """The write's timeout, the wait and the attempts to read back fit the budget together."""
    rig = Rig(scripted(status(200)), kore())
    rig.transport.answer = _hang(rig.clock)
    result = rig.deliver(deals(2), Context(stored=0))
    assert isinstance(result.error, TransientError)
    assert rig.clock.elapsed < 600


def test_inserts_that_never_answer_end_within_ten_minutes() -> None:
    """Also where the vendor answers every question in between."""
    vendor = KoreVendor()
    rig = Rig(vendor.answer, kore())
    hang = _hang(rig.clock)
    rig.transport.answer = lambda request: (
        hang(request) if request.path.endswith("bulk") else vendor.answer(request)
    )
    result = rig.deliver(deals(2), Context(stored=0))
    assert isinstance(result.error, TransientError)
    assert 300 < rig.clock.elapsed < 600


def test_keyed_rows_wait_as_long_before_they_are_repeated() -> None:
    """Their write can be repeated, but not while an earlier one may still be under way."""
    waits = []
    for fault in (apply_then_status(504), cut_after):
        vendor = KoreVendor()
        rig = Rig(vendor.answer, kore())
        rig.transport.faults = {2: fault}
        assert rig.sender.deliver(Delivery(keyed_batch(2))).delivered == 2 == len(vendor.rows())
        waits.append(rig.clock.waits)
    assert waits == [[10.0], [1.0]]


def keyed_batch(count: int) -> Batch:
    """Rows that replace those with the same id."""
    batch = batch_of(deals(count), KEYED)
    batch.block.keys = [b'"d%d"' % i for i in range(count)]
    return batch


@pytest.mark.parametrize("position", [1, 2])
@pytest.mark.parametrize("reads", [True, False])
def test_what_the_vendor_applies_late_is_repaired(
    position: int,
    reads: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A delete or an insert that comes after the client repeated it and wrote the rows anew."""
    vendor = KoreVendor(reads=reads)
    vendor.put([{"id": f"d{i}", "amount": -1} for i in range(4)])
    rig = Rig(vendor.answer, kore())
    late: list[HttpRequest] = []

    def time_out(request: HttpRequest, answer: Answer) -> HttpResponse:  # noqa: ARG001
        late.append(request)
        raise TransportError("maybe", "no answer in time", "timeout")

    def arrive() -> None:
        last = rig.transport.sent[-1]
        if late and last.is_write and len(rig.transport.sent) > position:
            vendor.answer(late.pop())

    rig.transport.faults, rig.transport.watch = {position: time_out}, arrive
    result = rig.sender.deliver(Delivery(keyed_batch(4)))
    assert (result.error, result.delivered) == (None, 4)
    assert rig.clock.waits[0] == 10.0
    if reads:
        assert sorted(row["amount"] for row in vendor.rows()) == [0, 1, 2, 3]
    assert ("keys_not_counted" in caplog.text) is not reads


def test_rows_that_never_stay_end_the_sync() -> None:
    """Counted again and again, the keys are not there: nothing is acknowledged."""
    vendor = KoreVendor()
    rig = Rig(vendor.answer, kore())
    rig.transport.faults = {1: cut_after}
    rig.transport.watch = vendor.tables["deals"].clear
    result = rig.sender.deliver(Delivery(keyed_batch(2)))
    assert isinstance(result.error, TransientError)
    assert result.delivered == 0


@pytest.mark.parametrize("verb", ["DELETE", "POST"])
def test_a_refused_row_does_not_take_the_deletes_of_its_batch_along(verb: str) -> None:
    """Whether the delete was refused or the insert: the other keys are still deleted."""
    vendor = KoreVendor()
    vendor.put([{"id": "gone1"}, {"id": "gone2"}])

    def answer(request: HttpRequest) -> HttpResponse:
        is_bad = request.method == verb and b"d0" in (request.body or b"")
        return status(400) if is_bad else vendor.answer(request)

    rig = Rig(answer, kore())
    batch = keyed_batch(1)
    batch.block.tombstones = (Tombstone(1, b'"gone1"'), Tombstone(2, b'"gone2"'))
    result = rig.sender.deliver(Delivery(batch))
    assert (result.error, result.delivered, len(result.rejected)) == (None, 2, 1)
    assert vendor.rows() == []


def test_a_bad_row_costs_no_other_key_its_row_under_any_policy() -> None:
    """The old versions are deleted by then, so the good rows go in before the sync may end."""
    vendor = KoreVendor(is_bad=_bad("d1"))
    vendor.put([{"id": f"d{i}", "amount": -1} for i in range(4)])
    rig = Rig(vendor.answer, kore(), narrows=False)
    result = rig.sender.deliver(Delivery(keyed_batch(4)))
    assert (result.error, [row.index for row in result.rejected]) == (None, [1])
    assert sorted(row["amount"] for row in vendor.rows()) == [0, 2, 3]


@pytest.mark.parametrize(
    ("delete_max", "deletes"), [(None, [2, 2]), (1, [6, 7]), (3, [2, 3]), (5, [2, 2])]
)
def test_a_delete_that_leaves_rows_behind_is_repeated(
    delete_max: int | None, deletes: list[int]
) -> None:
    """A key of which a row stayed would be doubled; once a limit is excluded nothing is asked."""
    vendor = KoreVendor(delete_max=delete_max)
    vendor.put([{"id": f"d{i}", "amount": -1} for i in range(5)])
    rig = Rig(vendor.answer, kore())
    for count in deletes:
        rig.transport.sent.clear()
        assert rig.sender.deliver(Delivery(keyed_batch(6))).delivered == 6
        assert sorted(row["amount"] for row in vendor.rows()) == [0, 1, 2, 3, 4, 5]
        assert len(rig.transport.sent) == count + 1


def test_an_unexpected_error_is_a_result() -> None:
    """A sender thread never raises: the engine decides."""
    rig = Rig(scripted(ZeroDivisionError()))
    assert isinstance(rig.deliver(deals(1)).error, ZeroDivisionError)


def test_a_receipt_counts_for_its_rows() -> None:
    """Qobra's answer delivers nothing yet: it names the import that will."""
    clock = FakeClock()
    rig = Rig(QobraVendor(clock).answer)
    result = rig.deliver(deals(3))
    assert result.delivered == 0
    assert [(receipt.rows, receipt.resent) for receipt in result.receipts] == [(3, 0)]


# --- several faults in one batch


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("lost", [0, 1])
def test_halves_that_end_without_an_answer_are_told_apart(slots: int, lost: int) -> None:
    """One is in and one is not, and the table's total is the same whichever it is."""
    vendor = KoreVendor()
    rig = Rig(vendor.answer, kore())
    writes = iter(
        [answer_status(413), *([cut_before, cut_after] if lost == 0 else [cut_after, cut_before])]
    )

    def answer(request: HttpRequest) -> HttpResponse:
        fault = next(writes, None) if request.path.endswith("/bulk") else None
        return vendor.answer(request) if fault is None else fault(request, vendor.answer)

    rig.transport.answer = answer
    batch = batch_of(deals(8))
    result = rig.sender.deliver(Delivery(batch, Context(stored=0, alone=slots == 1)))
    if result.doubt:
        context = Context(stored=result.delivered)
        result = rig.sender.deliver(Delivery(batch, context, result.doubt))
    assert result.error is None
    assert sorted(row["id"] for row in vendor.rows()) == [f"d{i}" for i in range(8)]


def test_a_kind_of_refusal_is_learnt_only_from_a_table_that_told() -> None:
    """A read-back that could not tell proves nothing of the next refusal of its kind."""
    vendor = KoreVendor(is_bad=_bad("d2", "e2"), bulk="ordered_partial")
    rig = Rig(vendor.answer, kore())
    twins = [*deals(2), {"id": "d1", "amount": 1}, *deals(4)[2:]]
    first = rig.deliver(twins, Context(stored=0))
    held = len(vendor.rows())
    rows = [{"id": f"e{i}", "amount": i} for i in range(4)]
    second = rig.deliver(rows, Context(stored=held))
    assert (first.error, second.error) == (None, None)
    assert sorted(row["id"] for row in vendor.rows()[held:]) == ["e0", "e1", "e3"]


def test_nothing_is_learnt_of_a_refusal_that_nobody_looked_into() -> None:
    """Without a count of the table the first refused batch tells nothing of the second."""
    vendor = KoreVendor(is_bad=_bad("d2", "e2"), bulk="ordered_partial")
    rig = Rig(vendor.answer, kore())
    first = rig.deliver(deals(4), Context())
    held = len(vendor.rows())
    second = rig.deliver(
        [{"id": f"e{i}", "amount": 10 + i} for i in range(4)], Context(stored=held)
    )
    assert (first.error, second.error) == (None, None)
    assert sorted(row["id"] for row in vendor.rows()[held:]) == ["e0", "e1", "e3"]


def test_a_busy_vendor_is_given_time_and_read_back() -> None:
    """A gateway's 503 may follow an insert that was applied; its Retry-After is kept."""
    vendor = KoreVendor()
    rig = Rig(vendor.answer, kore())

    def applied(request: HttpRequest, answer: Answer) -> HttpResponse:
        answer(request)
        return status(503, b"", retry_after="40")

    rig.transport.faults = {1: applied}
    result = rig.deliver(deals(3), Context(stored=0))
    assert (result.error, result.delivered, len(vendor.rows())) == (None, 3, 3)
    assert rig.clock.elapsed > 40
    busy = Rig(KoreVendor().answer, kore())
    busy.transport.faults = dict.fromkeys([1, 3, 5, 7, 9, 11, 13], answer_status(503))
    assert busy.deliver(deals(3), Context(stored=0)).error is None
    ended = Rig(
        lambda request: status(503) if request.path.endswith("/bulk") else total_of(0), kore()
    )
    error = ended.deliver(deals(3), Context(stored=0)).error
    assert isinstance(error, TransientError)
    assert ended.clock.elapsed < 600


@pytest.mark.parametrize(
    ("fault", "writes"), [(status(503), 1 + MAX_ATTEMPTS), (status(500), 1 + MAX_AMBIGUOUS)]
)
def test_a_busy_vendor_is_tried_more_often_than_one_that_fails(
    fault: HttpResponse, writes: int
) -> None:
    """It says that it will take the rows later; neither is tried for ever."""
    rig = Rig(
        lambda request: fault if request.path.endswith("/bulk") else total_of(0),
        kore(),
        jitter=lambda: 0.0,
    )
    assert isinstance(rig.deliver(deals(3), Context(stored=0)).error, TransientError)
    assert len(rig.transport.writes) == writes


def test_a_vendor_that_stays_busy_is_given_up_by_the_clock() -> None:
    """From the first attempt on, however long it asks to wait; the error says how many there were.

    Three attempts are at 0, 100 and 200 s, and a fourth would be over the budget.
    """

    def answer(request: HttpRequest) -> HttpResponse:
        is_write = request.path.endswith("/bulk")
        return status(503, retry_after="100") if is_write else total_of(0)

    rig = Rig(answer, kore(), jitter=lambda: 0.0)
    error = rig.deliver(deals(3), Context(stored=0)).error
    assert isinstance(error, TransientError)
    assert "after 3 attempt(s)" in error.message
    assert 200 <= rig.clock.elapsed < 210
    assert len(rig.transport.writes) == 3


def test_the_longest_wait_of_rows_in_doubt_is_kept() -> None:
    """Those of other batches are looked for as well, unless they were, or go out again anyway."""
    vendor = KoreVendor()
    rig = Rig(vendor.answer, kore())
    mine, other = batch_of(deals(2)), batch_of([{"id": "x", "amount": 1}])
    slow = Doubtful(other.block, Ambiguous("no answer", is_slow=True))
    known = Doubtful(other.block, Ambiguous("cut"), is_read=True, stored={0})
    again = Doubtful(other.block, None)
    refused = Doubtful(mine.block, Refused("http_400", "no"))
    result = rig.sender.deliver(
        Delivery(mine, Context(stored=0), [refused], [refused, slow, known, again])
    )
    assert (result.error, result.delivered) == (None, 2)
    assert rig.clock.waits == [10.0]
    assert [(d.is_read, d.stored) for d in (slow, known, again)] == [
        (True, set()),
        (True, {0}),
        (False, None),
    ]


def total_of(count: int) -> HttpResponse:
    """A query's answer."""
    return status(200, json.dumps({"queryResult": [], "total": count}).encode())


def test_what_a_read_back_counted_is_the_new_baseline() -> None:
    """A row of somebody else is not taken for one of a later batch."""
    vendor = KoreVendor()
    rig = Rig(vendor.answer, kore())
    rig.transport.faults = {1: cut_after}
    vendor.put([{"id": "bot"}])
    first = rig.deliver(deals(2), Context(stored=0))
    assert (first.error, first.is_recounted, first.stored) == (None, True, len(vendor.rows()))


@pytest.mark.parametrize("code", [400, 413])
@pytest.mark.parametrize(("narrows", "allowance", "most"), [(True, 0, 12), (True, 5, 30)])
def test_a_batch_that_is_refused_whole_ends_with_what_may_be_rejected(
    code: int,
    narrows: bool,  # noqa: FBT001
    allowance: int,
    most: int,
) -> None:
    """Not after two requests for each row of it."""
    rig = Rig(lambda _: status(code, b"no"), qobra(), narrows=narrows)
    result = rig.sender.deliver(Delivery(batch_of(deals(1000)), Context(), allowance=allowance))
    assert len(result.rejected) == allowance + 1
    assert len(rig.transport.sent) <= most


def test_a_keyed_batch_that_is_too_large_to_the_last_row_is_given_up_early() -> None:
    """Its deletes are done, so good rows are looked for, but not for ever."""
    vendor = KoreVendor()

    def answer(request: HttpRequest) -> HttpResponse:
        return status(413) if request.path.endswith("/bulk") else vendor.answer(request)

    rig = Rig(answer, kore(), narrows=False)
    result = rig.sender.deliver(Delivery(keyed_batch(200), Context(), allowance=0))
    assert len(result.rejected) == 21
    assert len(rig.transport.writes) <= 46


@pytest.mark.parametrize("error", [Refused("http_400", ""), TooLarge(), Ambiguous("a page")])
def test_a_table_that_does_not_answer_tells_nothing(error: Exception) -> None:
    """What is wrong with a question is not what became of a write."""
    vendor = KoreVendor()
    rig = Rig(vendor.answer, kore(on_ambiguous_write="fail"))

    def ask(*_: Any) -> Any:
        yield from ()
        raise error

    rig.provider.stored_rows = ask  # type: ignore[method-assign]
    rig.transport.faults = {1: cut_after}
    assert isinstance(rig.deliver(deals(3), Context(stored=0)).error, TransientError)


def test_rows_are_looked_for_one_by_one_where_a_longer_question_is_too_large() -> None:
    """A gateway that splits the batches refuses the questions about their rows as well."""
    vendor = KoreVendor()
    rig = Rig(vendor.answer, kore())
    table = Table("deals", DEALS, "append", columns=("id", "amount"), text_columns=("id",))

    def answer(request: HttpRequest) -> HttpResponse:
        is_write = request.path.endswith("/bulk")
        return (
            status(413)
            if len(request.body or b"") > 150 and not is_write
            else vendor.answer(request)
        )

    rig.transport.answer = answer
    rig.transport.faults = {1: cut_after}
    result = rig.sender.deliver(Delivery(batch_of(deals(6), table), Context(stored=0)))
    assert (result.error, result.delivered, len(vendor.rows())) == (None, 6, 6)
    assert len(rig.transport.writes) == 1
