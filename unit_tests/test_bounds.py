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
from unit_tests.fakes import Answer, FakeClock
from unit_tests.syncs import DEALS, complete, records, sync
from unit_tests.vendors import QobraVendor

ROWS = [records([{"id": f"d{i}", "name": "n", "amount": i, "version": 1}]) for i in range(12)]


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


def test_a_short_sync_waits_for_its_one_answer(caplog: pytest.LogCaptureFixture) -> None:
    """What the last wait of a sync was for is told as well: there is no other table."""
    caplog.set_level("INFO")
    clock = FakeClock()

    def slowly(request: HttpRequest, answer: Answer) -> HttpResponse:
        clock.advance(5.0)
        return answer(request)

    run("kore", [ROWS[0]], clock=clock, faults={2: slowly})
    found = line_of(caplog)
    assert (found["bound_by"], found["other_tables"]) == ("answers", "0%")


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
