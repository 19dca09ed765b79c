"""Kore.ai: old rows are told by their date where that is proven, else by their ids."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import pytest

from destination_bulk_tables.errors import DestinationError, TransientError
from destination_bulk_tables.providers.kore import replacing
from unit_tests.fakes import answer_status, apply_then_status, cut_after, cut_before, nothing
from unit_tests.kore_flows import REPLACE, ROWS
from unit_tests.syncs import Sync, complete, state, sync
from unit_tests.vendors import Dates, KoreVendor, Row

OLD: list[Row] = [{"id": f"d{i % 10}", "name": f"n{i % 10}", "amount": i} for i in range(130)]
TELLING = {"plain", "epoch", "offset", "seconds"}
FAULTS = [cut_before, cut_after, answer_status(400), apply_then_status(502)]


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of some hundred rows is a large one here."""
    monkeypatch.setattr(replacing, "FEW_ROWS", 100)


def filled(**settings: Any) -> KoreVendor:
    """A table that is too large to be listed where that is not needed."""
    vendor = KoreVendor(**settings)
    vendor.put(OLD)
    return vendor


def listed(done: Sync) -> int:
    """How many pages beyond the first were read."""
    paths = [sent.request.path for sent in done.transport.sent]
    return sum("sys_limit=100" in path and not path.endswith("sys_offset=0") for path in paths)


@pytest.mark.parametrize("dates", get_args(Dates))
@pytest.mark.parametrize("slots", [1, 3])
def test_a_large_table_is_replaced_whatever_dates_do(dates: Any, slots: int) -> None:
    """Listed only where the date does not tell; no row but the new ones is left."""
    vendor = filled(dates=dates)
    done = sync("kore", "overwrite", REPLACE, vendor=vendor, slots=slots).run()
    assert (done.error, done.acknowledged) == (None, [1])
    assert sorted(vendor.rows(), key=str) == sorted(ROWS, key=str)
    pages = len(OLD) // 100
    assert listed(done) <= 1 if dates in TELLING else listed(done) >= pages


@pytest.mark.parametrize("dates", ["seconds", "plain"])
def test_rows_made_in_the_same_second_are_told_by_their_ids(dates: Any) -> None:
    """The date of the first new row is that of the old ones; the answers name the new ones."""
    vendor = filled(dates=dates, tick_s=0.0)
    done = sync("kore", "overwrite", REPLACE, vendor=vendor).run()
    assert (done.error, vendor.rows()) == (None, ROWS)
    assert listed(done) >= len(OLD) // 100


@pytest.mark.parametrize("delete_max", [1000, 17])
def test_a_delete_by_date_is_repeated_until_no_old_row_is_left(
    delete_max: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A vendor may limit how many rows one removes; no id of an old row is needed."""
    caplog.set_level("INFO")
    vendor = filled(delete_max=delete_max)
    done = sync("kore", "overwrite", REPLACE, vendor=vendor).run()
    assert (done.error, vendor.rows()) == (None, ROWS)
    assert listed(done) <= 1
    assert "old_rows_listed" not in caplog.text


def test_an_old_row_that_somebody_swapped_for_a_new_one_stops_the_replace() -> None:
    """The total is the same; the date finds fewer rows than before, so none is deleted by it."""
    vendor = filled()
    done = sync("kore", "overwrite", REPLACE, vendor=vendor)

    def swap(_: Sync) -> None:
        if len(vendor.tables["deals"]) == len(OLD) + len(ROWS) and not swapped:
            swapped.append(vendor.tables["deals"].pop(0))
            vendor.put([{"id": "stranger"}])

    swapped: list[Row] = []
    done.on_request = swap
    done.run()
    assert isinstance(done.error, TransientError)
    assert done.acknowledged == []
    assert [row in vendor.rows() for row in OLD].count(False) == 1


def test_no_rows_empty_a_large_table() -> None:
    """There is no date of a new row, so the ids are listed."""
    vendor = filled()
    done = sync("kore", "overwrite", [state(1), complete()], vendor=vendor).run()
    assert (done.error, done.acknowledged, vendor.rows()) == (None, [1], [])


@pytest.mark.parametrize("dates", ["plain", "absent", "words"])
@pytest.mark.parametrize("bulk", ["atomic", "ordered_partial", "skip_bad"])
def test_bad_rows_do_not_stop_the_replace_of_a_large_table(bulk: Any, dates: Any) -> None:
    """Also those of the first insert, which then has no date to tell by, if any row ever has."""
    vendor = filled(bulk=bulk, dates=dates)
    vendor.is_bad = lambda row: bool(row.get("version")) and row["id"] in {"d2", "d7"}
    done = sync("kore", "overwrite", REPLACE, vendor=vendor).run()
    assert (done.error, done.acknowledged, done.rejected_ids) == (None, [1], ["d2", "d7"])
    assert sorted(row["id"] for row in vendor.rows()) == [f"d{i}" for i in (0, 1, 3, 4, 5, 6, 8, 9)]


def test_a_table_that_refuses_copies_keeps_its_old_rows_or_loses_them_by_id() -> None:
    """No row is refused, so no old one is in the way; a copy to try a delete on is not needed."""
    vendor = filled()
    vendor.is_bad = lambda row: any(
        row.get("version") and {**row, "sys_Id": r["sys_Id"], "Created_On": r["Created_On"]} == r
        for r in vendor.tables["deals"]
    )
    done = sync("kore", "overwrite", REPLACE, vendor=vendor).run()
    assert (done.error, vendor.rows()) == (None, ROWS)


def holds(vendor: KoreVendor) -> Counter[str]:
    """How many rows of each version are there: None is old."""
    return Counter("new" if "version" in row else "old" for row in vendor.rows())


def is_whole(vendor: KoreVendor) -> bool:
    """All old rows, or all new ones."""
    found = holds(vendor)
    ids = {row["id"] for row in vendor.rows() if "version" in row}
    return found["old"] == len(OLD) or len(ids) == len(ROWS)


@pytest.mark.parametrize(
    ("dates", "slots"),
    [
        ("plain", 1),
        ("plain", 2),
        ("seconds", 2),
        ("ignored", 1),
        ("ignored_by_deletes", 2),
        ("refused", 1),
    ],
)
def test_a_fault_at_each_request_of_a_large_replace(dates: Any, slots: int) -> None:
    """All old rows, or all new ones, and the state only with these; the next attempt converges."""
    clean = sync("kore", "overwrite", REPLACE, vendor=filled(dates=dates), slots=slots).run()
    total = len(clean.transport.sent)
    for fault in FAULTS:
        for position in range(1, total + 1):
            vendor = filled(dates=dates)
            more: Any = {"vendor": vendor, "slots": slots}
            done = sync("kore", "overwrite", REPLACE, faults={position: fault}, **more).run()
            where = (dates, slots, fault, position, done.error)
            assert is_whole(vendor), where
            if done.error is None:
                assert sorted(vendor.rows(), key=str) == sorted(ROWS, key=str), where
                continue
            assert isinstance(done.error, DestinationError), where
            assert done.acknowledged == [], where
            again = sync("kore", "overwrite", REPLACE, **more).run()
            assert (again.error, again.acknowledged) == (None, [1]), where
            assert sorted(vendor.rows(), key=str) == sorted(ROWS, key=str), where


def test_somebody_else_writing_into_a_large_table_stops_the_replace() -> None:
    """No old row is deleted; the next attempt replaces all it finds."""
    vendor = filled()
    done = sync("kore", "overwrite", REPLACE, vendor=vendor)

    def bot(_: Sync) -> None:
        if sum(sent.request.path.endswith("/bulk") for sent in done.transport.sent) == 2:
            vendor.put([{"id": "bot"}])

    done.on_request = bot
    done.run()
    assert isinstance(done.error, TransientError)
    assert holds(vendor)["old"] >= len(OLD)


def test_somebody_else_writing_hides_no_delete_that_reads_no_date() -> None:
    """The copy that it was tried on is looked for: its row was replaced in the table's count."""
    vendor = filled(dates="ignored_by_deletes")
    done = sync("kore", "overwrite", REPLACE, vendor=vendor)

    def bot(_: Sync) -> None:
        if sum(sent.request.method == "DELETE" for sent in done.transport.sent) == 1:
            done.on_request = nothing
            vendor.put([{"id": "bot"}])

    done.on_request = bot
    done.run()
    assert is_whole(vendor)
    assert {"id": "bot"} in vendor.rows()
