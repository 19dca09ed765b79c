"""What is sent when, beside what, and what is counted when answers come."""

from __future__ import annotations

import pytest

from destination_bulk_tables.messages import Message
from unit_tests.fakes import FakeClock, cut_after
from unit_tests.syncs import DEALS, complete, records, sync
from unit_tests.vendors import QobraVendor, Row

ROWS: list[Row] = [{"id": f"d{i}", "name": f"n{i}", "amount": i, "version": 1} for i in range(12)]


@pytest.mark.parametrize("seed", range(3))
def test_the_first_request_of_a_load_is_alone_and_no_other(seed: int) -> None:
    """It begins a window at the vendor; those that follow may overtake each other."""
    done = sync("qobra", "overwrite", [records(ROWS), complete()], slots=3, seed=seed, max_rows=1)
    lane = done.lanes[DEALS]
    beside: list[tuple[bool, int]] = []
    done.on_read = lambda _: beside.append((bool(lane.accepted), len(lane.in_flight)))
    done.run()
    assert (done.error, len(done.vendor.rows())) == (None, len(ROWS))
    assert max(n for is_begun, n in beside if not is_begun) == 1
    assert max(n for is_begun, n in beside if is_begun) == 3


@pytest.mark.parametrize("seed", range(3))
def test_a_table_is_counted_before_anything_is_sent(seed: int) -> None:
    """What is sent meanwhile might be in the count, and then be counted again."""
    script: list[Message | float] = [*(records([row]) for row in ROWS), complete()]
    done = sync("kore", "append", script, slots=3, seed=seed, max_rows=1)
    beside: list[int] = []
    lane = done.lanes[DEALS]
    done.on_read = lambda _: beside.append(len(lane.in_flight)) if lane.stored is None else None
    done.run()
    assert (done.error, lane.stored) == (None, len(ROWS))
    assert set(beside) == {0}


def test_a_key_waits_no_longer_for_an_import_that_nobody_follows_than_twice_its_own() -> None:
    """Its answer was lost; how long the sync has been running by then is no matter."""
    clock = FakeClock()
    clock.advance(5000.0)
    versions = [records([{"id": "a", "version": version}]) for version in (1, 2)]
    script: list[Message | float] = [versions[0], 1.0, versions[1], complete()]
    vendor = QobraVendor(clock, delay_s=20.0)
    done = sync(
        "qobra", "append", script, vendor=vendor, clock=clock, max_rows=1, faults={1: cut_after}
    ).run()
    first, repeated, newer = (sent.at for sent in done.transport.writes)
    assert done.error is None
    assert 60.0 <= newer - first < 75.0
    assert repeated - first < 5.0
