"""What bounded a sync: where the time went, and the setting that is named."""

from __future__ import annotations

import re
from typing import Any

import pytest

from destination_bulk_tables.bounds import Bounds
from destination_bulk_tables.http import HttpRequest, HttpResponse
from destination_bulk_tables.lanes import Job
from destination_bulk_tables.messages import Message
from destination_bulk_tables.model import Batch, RowBlock
from unit_tests.fakes import Answer, FakeClock, Fault, answer_status, refuse, time_out_after
from unit_tests.syncs import DEALS, complete, records, sync
from unit_tests.vendors import QobraVendor

ROWS = [records([{"id": f"d{i}", "name": "n", "amount": i, "version": 1}]) for i in range(12)]

AT_ONCE = records([{"id": f"e{i}", "name": "n", "amount": i, "version": 1} for i in range(12)])


def line_of(caplog: pytest.LogCaptureFixture, table: str = "deals") -> dict[str, str]:
    """The members of a table's line."""
    lines = [r.getMessage() for r in caplog.records if "sync_bound table=" in r.getMessage()]
    (line,) = [line for line in lines if f"table={table} " in line]
    return dict(re.findall(r"(\w+)=('[^']*'|\S+)", line))


def run(name: Any, script: list[Message | float], **more: Any) -> None:
    sync(name, "append", [*script, complete()], seed=1, **more).run()


def test_a_silent_source(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing to set: the rows come slowly."""
    caplog.set_level("INFO")
    run("kore", [part for row in ROWS for part in (row, 20.0)])
    found = line_of(caplog)
    assert (found["bound_by"], found["setting"]) == ("reading", "'none, the source sets the pace'")
    assert int(found["reading"].rstrip("%")) > 90


@pytest.mark.parametrize(
    ("answer_s", "limited_s", "slots", "bound_by", "setting"),
    [
        (9.0, 1.0, 1, "answers", "'batching.max_parallel_requests'"),
        (9.0, 1.0, 0, "answers", "'batching.max_rows, for fewer requests'"),
        (1.0, 9.0, 1, "rate_limit", "'batching.max_rows, for fewer requests'"),
    ],
)
def test_a_vendor_that_holds_the_source_back(
    caplog: pytest.LogCaptureFixture,
    answer_s: float,
    limited_s: float,
    slots: int,
    bound_by: str,
    setting: str,
) -> None:
    """More at a time where that is set, else fewer requests."""
    caplog.set_level("INFO")
    lane = sync("kore", "append", [], slots=slots).lanes[DEALS]
    bounds = Bounds([lane], 100.0)
    bounds.spend(101.0, is_reading=True)
    lane.is_exclusive = True  # something is under way
    bounds.spend(111.0, is_reading=False)
    lane.answer_s, lane.limited_s = answer_s, limited_s
    bounds.report()
    found = line_of(caplog)
    assert (found["bound_by"], found["setting"]) == (bound_by, setting)
    assert (found["reading"], found[bound_by], found["imports"]) == ("9%", "82%", "0%")


@pytest.mark.parametrize(
    ("follows", "is_under_way", "waits_for"),
    [(True, False, "imports"), (True, True, "answers"), (False, False, "answers")],
)
def test_a_table_whose_rows_wait_for_jobs_waits_for_imports(
    caplog: pytest.LogCaptureFixture,
    follows: bool,  # noqa: FBT001
    is_under_way: bool,  # noqa: FBT001
    waits_for: str,
) -> None:
    """Unless a request is under way, or its jobs hold no request back."""
    caplog.set_level("INFO")
    lane = sync("kore", "append", []).lanes[DEALS]
    batch = Batch(1, lane.plan.table, RowBlock((), 0, []), "end")
    lane.queue.append(batch)
    lane.jobs["j"] = Job()
    lane.follows = follows
    if is_under_way:
        lane.in_flight[2] = batch
    bounds = Bounds([lane], 100.0)
    bounds.spend(110.0, is_reading=False)
    lane.answer_s = 1.0
    bounds.report()
    found = line_of(caplog)
    assert (found["bound_by"], found[waits_for]) == (waits_for, "100%")


def slow(clock: FakeClock, seconds: float) -> Fault:
    """Answer as usual, and late."""

    def answer_late(request: HttpRequest, answer: Answer) -> HttpResponse:
        clock.advance(seconds)
        return answer(request)

    return answer_late


def refuse_for(clock: FakeClock, seconds: float) -> Fault:
    """Keep the connection waiting, and refuse it."""

    def refuse_late(request: HttpRequest, answer: Answer) -> HttpResponse:
        clock.advance(seconds)
        return refuse(request, answer)

    return refuse_late


def test_a_short_sync_waits_for_its_one_answer(caplog: pytest.LogCaptureFixture) -> None:
    """What the last wait of a sync was for is told as well: there is no other table."""
    caplog.set_level("INFO")
    clock = FakeClock()
    run("kore", [ROWS[0]], clock=clock, faults={2: slow(clock, 5.0)})
    found = line_of(caplog)
    assert (found["bound_by"], found["other_tables"]) == ("answers", "0%")


@pytest.mark.parametrize(
    ("fault", "bound_by", "setting"),
    [
        (answer_status(429), "rate_limit", "'batching.max_rows, for fewer requests'"),
        (
            answer_status(429, retry_after="40"),
            "rate_limit",
            "'batching.max_rows, for fewer requests'",
        ),
        (answer_status(503), "failures", "'none, the vendor was busy or did not answer'"),
        (
            answer_status(503, retry_after="40"),
            "failures",
            "'none, the vendor was busy or did not answer'",
        ),
        (time_out_after, "failures", "'none, the vendor was busy or did not answer'"),
    ],
)
@pytest.mark.parametrize("slots", [0, 1])
def test_a_vendor_that_puts_requests_off(
    caplog: pytest.LogCaptureFixture, fault: Fault, slots: int, bound_by: str, setting: str
) -> None:
    """A request's own wait after 429 is the rate limit's, after 503 or no answer a failure's."""
    caplog.set_level("INFO")
    faults = dict.fromkeys([2, 3, 5, 6, 8], fault)
    run("qobra", [*ROWS], slots=slots, faults=faults)
    found = line_of(caplog)
    assert (found["bound_by"], found["setting"]) == (bound_by, setting)


def test_the_rate_window_of_a_vendor(caplog: pytest.LogCaptureFixture) -> None:
    """Kore.ai takes 600 requests a minute; the 601st waits for the first to be a minute old."""
    caplog.set_level("INFO")
    rows = [{"id": f"d{i}", "name": "n", "amount": i, "version": 1} for i in range(650)]
    sync("kore", "append", [records(rows), complete()], max_rows=1).run()
    found = line_of(caplog)
    assert (found["bound_by"], found["setting"]) == (
        "rate_limit",
        "'batching.max_rows, for fewer requests'",
    )


@pytest.mark.parametrize(
    ("slots", "setting"),
    [(0, "'batching.max_rows, for fewer requests'"), (1, "'batching.max_parallel_requests'")],
)
def test_slow_answers(caplog: pytest.LogCaptureFixture, slots: int, setting: str) -> None:
    """More at a time where a number is set; where it is found, fewer requests."""
    caplog.set_level("INFO")
    clock = FakeClock()
    faults = dict.fromkeys(range(2, 20), slow(clock, 5.0))
    run("kore", [AT_ONCE], clock=clock, faults=faults, slots=slots, max_rows=1)
    found = line_of(caplog)
    assert (found["bound_by"], found["setting"]) == ("answers", setting)


def test_a_debounce(caplog: pytest.LogCaptureFixture) -> None:
    """The vendor waits for the rest of a load as long as the setting says."""
    caplog.set_level("INFO")
    clock = FakeClock()
    vendor = QobraVendor(clock)
    sync("qobra", "overwrite", [*ROWS, complete()], clock=clock, vendor=vendor).run()
    found = line_of(caplog)
    assert (found["bound_by"], found["setting"]) == (
        "imports",
        "'debounce_seconds, for a shorter window'",
    )


def test_questions_about_a_table_are_its_own_time(caplog: pytest.LogCaptureFixture) -> None:
    """The vendor is slow to list and delete the old rows: no other table is waited for."""
    caplog.set_level("INFO")
    clock = FakeClock()
    done = sync(
        "kore",
        "overwrite",
        [ROWS[0], complete()],
        clock=clock,
        faults=dict.fromkeys(range(1, 40), slow(clock, 5.0)),
    ).run()
    assert done.error is None
    found = line_of(caplog)
    assert (found["bound_by"], found["answers"]) == ("answers", "100%")


@pytest.mark.parametrize(
    ("silence_s", "wait_s", "busy_s", "answer_s", "bound_by"),
    [
        (400.0, 60, 60, 5.0, "reading"),
        (60.0, 200, 60, 5.0, "rate_limit"),
        (60.0, 60, 200, 5.0, "failures"),
        (60.0, 60, 60, 30.0, "answers"),
    ],
)
def test_several_bounds_at_once(
    caplog: pytest.LogCaptureFixture,
    silence_s: float,
    wait_s: int,
    busy_s: int,
    answer_s: float,
    bound_by: str,
) -> None:
    """Each has its share, and the largest is named."""
    caplog.set_level("INFO")
    clock = FakeClock()
    faults = dict.fromkeys(range(2, 40), slow(clock, answer_s))
    faults[5] = answer_status(429, retry_after=str(wait_s))
    faults[11] = refuse_for(clock, busy_s)
    run("kore", [silence_s, AT_ONCE], clock=clock, faults=faults, max_rows=1)
    found = line_of(caplog)
    assert found["bound_by"] == bound_by
    shares = [int(share[:-1]) for share in found.values() if share.endswith("%")]
    assert sum(map(bool, shares)) == 4
    assert 97 <= sum(shares) <= 103


@pytest.mark.parametrize(
    ("silence_s", "import_s", "bound_by"), [(200.0, 60.0, "reading"), (60.0, 400.0, "imports")]
)
def test_a_silent_source_and_slow_imports(
    caplog: pytest.LogCaptureFixture, silence_s: float, import_s: float, bound_by: str
) -> None:
    """The longer of the two is named."""
    caplog.set_level("INFO")
    clock = FakeClock()
    vendor = QobraVendor(clock, delay_s=import_s)
    run("qobra", [silence_s, AT_ONCE], clock=clock, vendor=vendor)
    assert line_of(caplog)["bound_by"] == bound_by


def test_a_table_that_waits_for_another(caplog: pytest.LogCaptureFixture) -> None:
    """Its time is the other's; a table without a request has no line."""
    caplog.set_level("INFO")
    lanes = [sync("kore", "append", []).lanes[DEALS] for _ in range(3)]
    lanes[0].is_exclusive = True
    lanes[0].answer_s = lanes[1].answer_s = 1.0
    bounds = Bounds(lanes, 0.0)
    bounds.spend(8.0, is_reading=False)
    bounds.report()
    lines = [r.getMessage() for r in caplog.records]
    assert ["bound_by=answers" in line for line in lines] == [True, False]
    assert ["bound_by=other_tables" in line for line in lines] == [False, True]


def test_slow_imports(caplog: pytest.LogCaptureFixture) -> None:
    """Fewer imports."""
    caplog.set_level("INFO")
    clock = FakeClock()
    run("qobra", [*ROWS], clock=clock, vendor=QobraVendor(clock, delay_s=90.0))
    found = line_of(caplog)
    assert (found["bound_by"], found["setting"]) == (
        "imports",
        "'batching.max_rows, for fewer imports'",
    )
