"""What is sent when, beside what, and what is counted when answers come."""

from __future__ import annotations

import pytest

from destination_bulk_tables.exchange import Tally
from destination_bulk_tables.lanes import Tracked
from destination_bulk_tables.messages import Message
from destination_bulk_tables.model import Batch, RowBlock
from unit_tests.fakes import FakeClock, answer_status, cut_after
from unit_tests.syncs import DEALS, SyncMode, complete, records, sync
from unit_tests.vendors import KoreVendor, QobraVendor, Row

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


def test_accepted_rows_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may have to be sent again while an import runs, and an import may take long."""
    clock = FakeClock()
    script: list[Message | float] = [records(ROWS), complete()]
    vendor = QobraVendor(clock, delay_s=20.0)
    done = sync("qobra", "append", script, vendor=vendor, clock=clock, slots=3)
    kept: list[list[int]] = []

    def look(_: int) -> None:
        lane = done.lanes[DEALS]
        accepted = [t for t in lane.tracked.values() if t.open_receipts and not t.open_deliveries]
        kept.append(sorted(tracked.batch.block.count for tracked in accepted))

    done.on_read = look
    monkeypatch.setattr("destination_bulk_tables.settling.MAX_KEPT_BYTES", 300)
    done.run()
    assert (done.error, len(done.vendor.rows())) == (None, len(ROWS))
    assert max(kept, key=lambda counts: (len(counts), sum(counts))) == [0, 0, 4]


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_rows_are_kept_only_where_they_may_be_sent_again(mode: SyncMode) -> None:
    """Those of a load are on disk."""
    clock = FakeClock()
    vendor = QobraVendor(clock, delay_s=20.0)
    script: list[Message | float] = [records(ROWS[:4]), complete()]
    done = sync("qobra", mode, script, vendor=vendor, clock=clock)
    kept: set[int] = set()
    lane = done.lanes[DEALS]
    done.on_read = lambda _: kept.update(
        tracked.batch.block.count for tracked in lane.tracked.values() if tracked.open_receipts
    )
    done.run()
    assert (done.error, kept) == (None, {4} if mode == "append" else {0})


def test_a_busy_vendor_gets_fewer_while_the_request_is_still_under_way() -> None:
    """An attempt that met it may be repeated for a minute."""
    done = sync("kore", "append", [], slots=0)
    lane, engine = done.lanes[DEALS], done.engine()
    lane.pace.limit = 8
    batch = Batch(1, lane.plan.table, RowBlock((), 0, []), "end")
    lane.in_flight[1], lane.tracked[1] = batch, Tracked(batch, tally=Tally(pushed_back_at=0.5))
    done.clock.advance(1.0)
    engine._turn()
    assert lane.pace.limit == 6


def test_a_request_that_met_a_busy_vendor_between_two_turns_counts_as_well() -> None:
    """It is answered before anyone looks at it."""
    script: list[Message | float] = [records(ROWS), complete()]
    done = sync("kore", "append", script, slots=0, faults={2: answer_status(429)})
    done.lanes[DEALS].pace.limit = 8
    limits: list[int] = []
    done.on_read = lambda _: limits.append(done.lanes[DEALS].pace.limit)
    done.run()
    assert (done.error, min(limits)) == (None, 6)


@pytest.mark.parametrize("reads", [True, False])
def test_a_table_that_cannot_be_counted_is_told(
    caplog: pytest.LogCaptureFixture,
    reads: bool,  # noqa: FBT001
) -> None:
    """A lost answer is a matter of the settings then."""
    vendor = KoreVendor(reads=reads)
    done = sync("kore", "append", [records(ROWS[:1]), complete()], vendor=vendor).run()
    assert done.error is None
    assert ("table_not_counted table=deals" in caplog.text) is not reads
