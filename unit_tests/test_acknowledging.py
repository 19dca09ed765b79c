"""No state is printed before its rejected rows are kept, and none is left behind."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from destination_bulk_tables import acknowledging
from destination_bulk_tables.acknowledging import Acknowledging
from destination_bulk_tables.errors import TransientError
from destination_bulk_tables.ledger import Ledger
from destination_bulk_tables.model import StreamKey
from unit_tests.fakes import Bucket, FakeClock

STREAM = StreamKey(None, "deals")


class Rig:
    """A ledger, a report in a store, and what was printed."""

    def __init__(self, *, has_report: bool = True) -> None:
        self.clock, self.bucket, self.ledger = FakeClock(), Bucket(is_slow=True), Ledger()
        self.report = self.bucket.report(self.clock)
        self.printed: list[int] = []
        self.sizes: list[int] = []
        self.progress = SimpleNamespace(acknowledged=0)
        tools: Any = SimpleNamespace(
            ledger=self.ledger,
            rejects=SimpleNamespace(report=self.report if has_report else None),
            progress=self.progress,
            emit=self._emit,
        )
        self.acknowledging = Acknowledging(tools)

    def _emit(self, lines: list[bytes]) -> None:
        self.sizes.append(len(lines))
        self.printed += [json.loads(line)["state"]["n"] for line in lines]

    def state(self, number: int, *, rejected: bool) -> None:
        epoch = self.ledger.count_read(STREAM, 1)
        if rejected:
            self.report.add(STREAM, b"%d\n" % number)
            epoch.rejected += 1
        else:
            epoch.delivered += 1
        self.ledger.checkpoint(b'{"n":%d}' % number, STREAM)

    def turn(self) -> list[int]:
        self.acknowledging.turn()
        return self.printed


@pytest.mark.parametrize("has_report", [True, False])
def test_a_state_without_rejected_rows_leaves_at_once(*, has_report: bool) -> None:
    """Also where there is no report."""
    rig = Rig(has_report=has_report)
    rig.state(1, rejected=False)
    assert rig.turn() == [1]
    assert rig.progress.acknowledged == 1


def test_a_state_waits_for_its_rows_and_not_for_later_ones() -> None:
    """Rows that are rejected while an upload runs are in the next one, and so is their state."""
    rig = Rig()
    rig.state(1, rejected=True)
    assert rig.turn() == []
    rig.state(2, rejected=True)
    assert rig.turn() == []
    rig.bucket.arrive()
    assert rig.turn() == [1]
    rig.clock.advance(2)
    assert rig.turn() == [1]
    rig.bucket.arrive()
    assert rig.turn() == [1, 2]
    assert list(rig.bucket.objects.values()) == [b"1\n", b"2\n"]


def test_states_gather_for_an_upload() -> None:
    """A source that sends a state for each row does not cause an object for each."""
    rig = Rig()
    rig.state(1, rejected=True)
    rig.turn()
    rig.bucket.arrive()
    for number in range(2, 6):
        rig.state(number, rejected=True)
        assert rig.turn() == [1]
    rig.clock.advance(2)
    rig.turn()
    rig.bucket.arrive()
    assert rig.turn() == [1, 2, 3, 4, 5]
    assert len(rig.bucket.objects) == 2


def test_the_end_waits_for_all() -> None:
    """What is held, what is ready, and the rows of both."""
    rig = Rig()
    rig.state(1, rejected=True)
    rig.turn()
    rig.state(2, rejected=True)
    rig.state(3, rejected=False)
    rig.acknowledging.finish()
    assert rig.printed == [1, 2, 3]
    assert len(rig.bucket.objects) == 2


def test_the_end_without_a_report() -> None:
    """What is ready leaves, once, and nothing is printed of nothing."""
    rig = Rig(has_report=False)
    rig.acknowledging.finish()
    rig.state(1, rejected=False)
    rig.acknowledging.finish()
    assert (rig.printed, rig.sizes) == ([1], [1])


@pytest.mark.parametrize(("below", "sizes"), [(0, [3, 3, 1]), (1, [2, 2, 2, 1])])
def test_large_states_are_printed_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch, below: int, sizes: list[int]
) -> None:
    """Many at once would be in memory twice; a bound that is reached is not exceeded yet."""
    size = len(b'{"type":"STATE","state":{"n":1,"destinationStats":{"recordCount":1.0}}}')
    monkeypatch.setattr(acknowledging, "_ACK_BYTES", 2 * size - below)
    rig = Rig(has_report=False)
    for number in range(1, 8):
        rig.state(number, rejected=False)
    assert rig.turn() == list(range(1, 8))
    assert (rig.sizes, rig.progress.acknowledged) == (sizes, 7)


def test_an_upload_is_looked_at_soon() -> None:
    """It wakes nobody when it is done; without one there is nothing to look at."""
    rig = Rig()
    assert rig.acknowledging.patience_s == float("inf")
    rig.report.add(STREAM, b"a row\n")
    rig.turn()
    assert not rig.report.is_keeping()  # no state waits for it yet
    rig.state(1, rejected=True)
    rig.turn()
    assert 0 < rig.acknowledging.patience_s < 1
    rig.bucket.arrive()
    assert rig.turn() == [1]
    assert rig.acknowledging.patience_s == float("inf")


def test_after_a_failed_upload_no_state_leaves() -> None:
    """Neither the one whose rows it held nor a later one, also where the store is back."""
    rig = Rig()
    rig.state(1, rejected=True)
    rig.turn()
    rig.bucket.fails = TransientError("full")
    rig.bucket.arrive()
    with pytest.raises(TransientError, match="full"):
        rig.turn()
    rig.bucket.fails = None
    rig.state(2, rejected=False)
    with pytest.raises(TransientError, match="full"):
        rig.acknowledging.finish()
    assert rig.printed == []
