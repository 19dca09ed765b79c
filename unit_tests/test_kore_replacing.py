"""Kore.ai: replacing a table, one answer at a time and in whole syncs."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from destination_bulk_tables.errors import ConfigError, TransientError, UnaccountedRows
from destination_bulk_tables.http import HttpRequest, HttpResponse
from destination_bulk_tables.model import Table
from unit_tests.fakes import answer_status, cut_after, garble, play
from unit_tests.kore_flows import APPEND, BEFORE, REPLACE, ROWS, some, total
from unit_tests.syncs import DEALS, complete, kore, records, state, sync
from unit_tests.vendors import KoreVendor, Row, answer_of


@pytest.mark.parametrize("totals", [True, False])
@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize("strategy", ["insert_then_delete", "delete_then_insert"])
def test_a_table_of_many_pages_is_replaced(totals: bool, shuffled: bool, strategy: str) -> None:  # noqa: FBT001
    """Whatever the order of pages, all old rows go and all new ones stay."""
    vendor = KoreVendor(totals=totals, order=Random(3) if shuffled else None)
    vendor.put([{"id": f"old{i}"} for i in range(230)])
    done = sync(
        "kore",
        "overwrite",
        [records(ROWS), state(1), complete()],
        vendor=vendor,
        settings={"replace_strategy": strategy},
    ).run()
    if shuffled and not totals:
        # nothing tells whether a row was missed; then the old rows stay, or the new ones are in
        assert done.error is None or len(vendor.rows()) >= 230
        return
    assert done.error is None
    assert done.acknowledged == [1]
    assert sorted(row["id"] for row in vendor.rows()) == sorted(str(row["id"]) for row in ROWS)


def test_replacing_without_the_right_to_read_touches_nothing() -> None:
    """The old rows could not be found again."""
    vendor = KoreVendor(reads=False)
    vendor.put([{"id": "old"}])
    done = sync("kore", "overwrite", [records(ROWS), state(1), complete()], vendor=vendor).run()
    assert isinstance(done.error, ConfigError)
    assert "not touched" in done.error.message
    assert [row["id"] for row in vendor.rows()] == ["old"]


def test_a_table_that_keeps_its_rows_is_not_loaded() -> None:
    """The strategy delete_then_insert stops before it inserts anything."""
    flow = kore(replace_strategy="delete_then_insert").replace_begin(APPEND, None)  # type: ignore[arg-type]  # any load
    with pytest.raises(UnaccountedRows):
        play(flow, total(5), answer_of(200, {"nDeleted": 0}), total(5))


def test_what_deletes_left_is_counted() -> None:
    """A delete that tells of a row it did not remove is found out after the last one."""
    provider = kore()
    plan, _ = play(provider.replace_begin(APPEND, None), some(1, "old"), some(1, "old"))  # type: ignore[arg-type]  # any load
    flow = provider.replace_end(APPEND, plan, 2)
    with pytest.raises(TransientError, match="holds 3 rows where 2 were expected"):
        play(flow, total(3), answer_of(200, {"nDeleted": 1}), total(3))


def test_old_rows_are_deleted_to_the_last() -> None:
    """A vendor may remove fewer of the named rows at a time, whatever their number."""
    provider = kore()
    page = some(2, "old", "older")
    plan, _ = play(provider.replace_begin(APPEND, None), page, page)  # type: ignore[arg-type]  # any load
    one = answer_of(200, {"nDeleted": 1})
    _, sent = play(provider.replace_end(APPEND, plan, 3), total(5), one, one, total(3))
    assert [request.method for request in sent] == ["POST", "DELETE", "DELETE", "POST"]


def test_a_copy_is_sent_as_a_row_is() -> None:
    """Without what the vendor adds, and without null, which it shows for what was left out."""
    table = Table("deals", DEALS, "append", columns=("id", "name"), replace=True)
    provider = kore()
    plan, _ = play(provider.replace_begin(table, None), some(1, "old"), some(1, "old"))  # type: ignore[arg-type]  # any load
    plan.refused = {"http_400"}
    row = {"sys_Id": "new", "Created_On": 1, "id": "d1", "name": None}
    _, sent = play(
        provider.replace_end(table, plan, 1),
        total(2),
        answer_of(200, {"queryResult": [row], "total": 2}),
        answer_of(200, {"records": [{"sys_Id": "copy"}]}),
        answer_of(200, {"nDeleted": 2}),
        total(1),
    )
    assert sent[2].body == b'{"data":[{"id":"d1"}]}'
    assert b'"old"' in (sent[3].body or b"")
    assert b'"copy"' in (sent[3].body or b"")


def test_no_rows_empty_the_table() -> None:
    """Zero records and COMPLETE."""
    vendor = KoreVendor()
    vendor.put([{"id": "old"}])
    done = sync("kore", "overwrite", [state(1), complete()], vendor=vendor).run()
    assert (done.error, vendor.rows(), done.acknowledged) == (None, [], [1])


def test_somebody_else_writing_stops_a_replace_before_it_deletes() -> None:
    """The total does not add up, so nothing is deleted."""
    vendor = KoreVendor()
    vendor.put([{"id": "old"}])
    done = sync("kore", "overwrite", [records(ROWS), state(1), complete()], vendor=vendor)
    done.on_request = lambda it: vendor.put([{"id": "x"}] if len(it.transport.sent) == 2 else [])
    done.run()
    assert isinstance(done.error, TransientError)
    assert done.acknowledged == []
    assert {"old", "x"} <= {row["id"] for row in vendor.rows()}


def is_unique(vendor: KoreVendor, *bad: str) -> KoreVendor:
    """Make a unique index on the id; rows with these ids are bad in any case."""
    deals = vendor.tables["deals"]
    vendor.is_bad = lambda row: row["id"] in bad or any(row["id"] == d.get("id") for d in deals)
    return vendor


@pytest.mark.parametrize("bulk", ["atomic", "ordered_partial", "skip_bad"])
@pytest.mark.parametrize("old", [BEFORE[:5], [*BEFORE, {"id": "more"}]])
@pytest.mark.parametrize("strategy", ["insert_then_delete", "delete_then_insert"])
def test_rows_that_clash_with_old_ones_cost_no_old_row(
    bulk: Any, old: list[Row], strategy: str
) -> None:
    """A unique index refuses some or all of the new rows, which are good: the old ones stay."""
    vendor = KoreVendor(bulk=bulk)
    vendor.put(old)
    done = sync(
        "kore",
        "overwrite",
        REPLACE,
        vendor=is_unique(vendor),
        settings={"replace_strategy": strategy},
    ).run()
    if strategy == "delete_then_insert":
        assert (done.error, done.acknowledged, vendor.rows()) == (None, [1], ROWS)
        return
    assert isinstance(done.error, ConfigError)
    code = "not_stored" if bulk == "skip_bad" else "http_400"
    for word in (code, "'delete_then_insert'", "rejected_records.report_path"):
        assert word in done.error.message
    assert done.acknowledged == []
    assert [row for row in vendor.rows() if row in old] == old


@pytest.mark.parametrize("bulk", ["atomic", "ordered_partial", "skip_bad"])
def test_rows_that_are_bad_in_themselves_do_not_stop_a_replace(bulk: Any) -> None:
    """Where a copy of a row goes in, no old row was in the way; the copy goes with the old rows."""
    vendor = KoreVendor(bulk=bulk, is_bad=lambda row: row["id"] in {"d2", "d7"})
    vendor.put(BEFORE)
    done = sync("kore", "overwrite", REPLACE, vendor=vendor).run()
    assert (done.error, done.acknowledged) == (None, [1])
    assert vendor.rows() == [row for row in ROWS if row["id"] not in {"d2", "d7"}]


def test_a_replace_of_which_every_row_is_refused_deletes_nothing() -> None:
    """As after a mistake in the names of the columns."""
    vendor = KoreVendor(is_bad=lambda row: "version" in row)
    vendor.put([{"id": "old"}])
    done = sync("kore", "overwrite", REPLACE, vendor=vendor).run()
    assert isinstance(done.error, ConfigError)
    assert vendor.rows() == [{"id": "old"}]


@pytest.mark.parametrize("fault", [cut_after, garble(lambda _: b"{}"), answer_status(500)])
def test_a_copy_of_unknown_fate_ends_the_replace(fault: Any) -> None:
    """The next attempt replaces all it finds, the copy too."""
    vendor = KoreVendor(is_bad=lambda row: row["id"] == "d2")
    vendor.put([{"id": "old"}])
    plain = sync("kore", "overwrite", REPLACE, vendor=vendor).run()
    assert plain.error is None
    copied = max(n for n, sent in enumerate(plain.transport.sent, 1) if sent.is_write)
    vendor.tables["deals"].clear()
    vendor.put([{"id": "old"}])
    done = sync("kore", "overwrite", REPLACE, vendor=vendor, faults={copied: fault}).run()
    assert isinstance(done.error, TransientError)
    assert {"id": "old"} in vendor.rows()
    assert sync("kore", "overwrite", REPLACE, vendor=vendor).run().error is None
    assert len(vendor.rows()) == 9


def test_without_a_row_to_copy_no_old_row_is_deleted() -> None:
    """Somebody who deletes moves the rows away from where they are looked for."""
    vendor = KoreVendor(is_bad=lambda row: row["id"] == "d2")
    vendor.put(BEFORE)
    done = sync("kore", "overwrite", REPLACE, vendor=vendor)
    answer = done.transport.answer

    def without_a_page(request: HttpRequest) -> HttpResponse:
        is_asked_for = f"sys_offset={len(BEFORE)}" in request.path
        return total(12) if is_asked_for else answer(request)

    done.transport.answer = without_a_page
    done.run()
    assert isinstance(done.error, TransientError)
    assert {} not in vendor.rows()
    assert all(row in vendor.rows() for row in BEFORE)


def test_a_refused_load_names_the_other_strategy_under_policy_fail() -> None:
    """The old rows may be what is in the way."""
    vendor = KoreVendor()
    vendor.put(BEFORE)
    done = sync("kore", "overwrite", REPLACE, vendor=is_unique(vendor), policy="fail").run()
    assert isinstance(done.error, ConfigError)
    assert "'delete_then_insert'" in done.error.message
    assert vendor.rows() == BEFORE


def test_appending_needs_only_the_right_to_write(caplog: pytest.LogCaptureFixture) -> None:
    """The log says what cannot be verified; the rows arrive."""
    vendor = KoreVendor(reads=False)
    done = sync("kore", "append", [records(ROWS), state(1), complete()], vendor=vendor).run()
    assert (done.error, done.acknowledged, len(vendor.rows())) == (None, [1], 10)
    assert "table_not_readable table=deals needs=read_right" in caplog.text
