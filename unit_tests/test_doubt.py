"""What is learnt of a vendor's refusals, and how rows whose fate is unknown are looked for."""

from __future__ import annotations

from typing import Any

import pytest

from destination_bulk_tables import doubt as module
from destination_bulk_tables.doubt import Doubt
from destination_bulk_tables.exchange import Tally
from destination_bulk_tables.http import Ambiguous, Flow, Refused
from destination_bulk_tables.model import Doubtful, Table
from destination_bulk_tables.outcomes import Context, ReadBack
from unit_tests.fakes import FakeClock
from unit_tests.syncs import DEALS
from unit_tests.test_sender import TABLE, Rig, batch_of, deals
from unit_tests.vendors import QobraVendor

OTHER = Table("other", DEALS, "append")


def doubt() -> Doubt:
    """Of a provider that is not asked."""
    return Rig(QobraVendor(FakeClock()).answer).sender.doubt


def test_what_a_fault_names_is_trusted_once_it_was_right() -> None:
    """Each kind by itself; one that was wrong has no other of the table tried out."""
    found = doubt()
    assert found.names_row(TABLE, "a") is None
    found.learn_naming(TABLE, "a", is_right=True)
    assert [found.names_row(TABLE, kind) for kind in "ab"] == [True, None]
    found.learn_naming(TABLE, "b", is_right=False)
    assert [found.names_row(TABLE, kind) for kind in "abc"] == [True, False, False]
    assert found.names_row(OTHER, "c") is None


def test_what_is_learnt_of_faults_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vendor may make up a word for each row; a wrong one is remembered of the table."""
    monkeypatch.setattr(module, "_MOST_KINDS", 2)
    found = doubt()
    for kind in "abc":
        found.learn_naming(TABLE, kind, is_right=True)
    assert [found.names_row(TABLE, kind) for kind in "abc"] == [True, True, None]
    found.learn_naming(TABLE, "d", is_right=False)
    assert found.names_row(TABLE, "e") is False


@pytest.mark.parametrize(
    ("fates", "is_over"),
    [
        ([Refused("http_400", "no")], True),
        ([Refused("http_400", "no"), Ambiguous("cut")], False),
        ([Ambiguous("cut")], False),
    ],
)
def test_only_after_refusals_nothing_more_may_come(fates: list[Exception], is_over: bool) -> None:  # noqa: FBT001
    """A write without an answer may still be at work; rows are numbered through all of them."""
    rig = Rig(QobraVendor(FakeClock()).answer)
    asked: list[bool] = []

    def stored_rows(_: Any, blocks: Any, context: Context) -> Flow[ReadBack]:
        asked.append(context.is_over)
        yield from ()
        return ReadBack({0, 2 * len(blocks) - 1}, 7)

    rig.provider.stored_rows = stored_rows  # type: ignore[method-assign]
    doubts = [Doubtful(batch_of(deals(2)).block, fate) for fate in fates]
    assert rig.sender.doubt.read_back(TABLE, doubts, Context(), Tally()) == 7
    assert asked == [is_over]
    assert [found.stored for found in doubts] == ([{0, 1}] if len(fates) == 1 else [{0}, {1}])
    assert not any(found.is_none for found in doubts)


def test_rows_that_are_equal_prove_nothing_of_one_write() -> None:
    """Of several writes a row of one may stand for that of another; of one it cannot."""
    for stored, is_none in ((set(), True), ({0}, False)):
        rig = Rig(QobraVendor(FakeClock()).answer)
        rig.provider.stored_rows = lambda *_, stored=stored: _told(ReadBack(stored))  # type: ignore[method-assign]
        doubts = [Doubtful(batch_of(deals(1)).block, Ambiguous("cut")) for _ in range(2)]
        rig.sender.doubt.read_back(TABLE, doubts, Context(), Tally())
        assert [found.is_none for found in doubts] == [is_none, is_none]


def _told(found: ReadBack) -> Flow[ReadBack]:
    yield from ()
    return found


def test_only_a_write_without_an_answer_is_given_time() -> None:
    """A refusal was answered; a write that may be slow is given more of it."""
    found = doubt()
    fates = (None, Refused("http_400", "no"), Ambiguous("cut"), Ambiguous("late", is_slow=True))
    waits = [found.settling_s(TABLE, fate, 1, 0.0) for fate in fates]
    assert waits == [0.0, 0.0, 1.0, 10.0]
