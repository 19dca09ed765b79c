"""Tables that are replaced: which loads may, and when the states of all of them leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from destination_bulk_tables.errors import ConfigError, DestinationError, Stopped, TransientError
from destination_bulk_tables.guard import Guard
from destination_bulk_tables.http import HttpRequest, HttpResponse
from destination_bulk_tables.messages import BadRecord, Message, StateMessage
from destination_bulk_tables.model import StreamKey
from destination_bulk_tables.reports import FileReport
from unit_tests.fakes import Bucket, FakeClock, answer_status, status
from unit_tests.syncs import DEALS, Sync, VendorName, catalog_of, complete, records, state, sync
from unit_tests.vendors import KoreVendor, QobraVendor, Row

CALLS = StreamKey(None, "calls")
BOTH = (DEALS, CALLS)
VENDORS: list[VendorName] = ["kore", "qobra"]
OLD: list[Row] = [{"id": f"o{i}", "name": "old", "amount": i, "version": 1} for i in range(3)]
NEW: list[Row] = [{"id": f"n{i}", "name": "new", "amount": i, "version": 1} for i in range(5)]
GLOBAL = StateMessage(b'{"type":"GLOBAL","stream":{"stream_state":{"number":9}}}', None)


def two_streams(vendor_name: VendorName, **more: Any) -> Sync:
    """A refresh of two streams whose tables hold old rows."""
    clock = FakeClock()
    vendor = KoreVendor() if vendor_name == "kore" else QobraVendor(clock)
    for key in BOTH:
        vendor.tables[key.name] = [] if isinstance(vendor, KoreVendor) else {}  # type: ignore[assignment]
        vendor.put(OLD, key.name)
    script = more.pop("script", None) or [
        *(part for key in BOTH for part in (records(NEW, key), state(1, key), complete(key)))
    ]
    catalog = catalog_of("overwrite", "deals", "calls")
    return sync(
        vendor_name, "overwrite", script, catalog=catalog, vendor=vendor, clock=clock, **more
    )


def contents(done: Sync, table: str) -> list[str]:
    """The ids that a table holds."""
    return sorted(row["id"] for row in done.vendor.rows(table))


@pytest.mark.parametrize("vendor", VENDORS)
def test_no_state_leaves_before_the_last_table_is_replaced(vendor: VendorName) -> None:
    """Whatever request of the sync fails for good, the next attempt is given all rows again."""
    whole = two_streams(vendor).run()
    assert (whole.error, sorted(whole.acknowledged)) == (None, [1, 1])
    last = len(whole.transport.sent)
    for position in range(1, last + 1):
        done = two_streams(vendor, faults={position: answer_status(403)}).run()
        assert isinstance(done.error, DestinationError)
        assert done.acknowledged == []


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("is_global", [False, True])
def test_a_stop_between_two_replaces_lets_no_state_go(
    vendor: VendorName,
    is_global: bool,  # noqa: FBT001
) -> None:
    """SIGTERM at any turn: both tables are done and every state left, or none did."""
    script = [
        *(part for key in BOTH for part in (records(NEW, key), complete(key))),
        *([GLOBAL] if is_global else [state(1, key) for key in BOTH]),
    ]
    seen = set()
    for at in range(1, 120):
        done = two_streams(vendor, script=script, max_rows=10)

        def stop(number: int, done: Sync = done, at: int = at) -> None:
            if number == at:
                done.stop.set()

        done.on_read = stop
        done.run()
        are_new = [contents(done, key.name) == [row["id"] for row in NEW] for key in BOTH]
        seen.add((type(done.error), all(are_new), any(are_new), len(done.states)))
    states = 1 if is_global else 2
    assert (type(None), True, True, states) in seen
    assert (Stopped, False, True, 0) in seen
    assert {n for error, _, _, n in seen if error is Stopped} == {0}


def test_a_report_that_cannot_be_finished_lets_no_state_of_a_replaced_table_go() -> None:
    """After the states nothing may fail any more."""
    done = two_streams("kore")
    bucket = Bucket()
    done.rejects.report = bucket.report(done.clock)
    done.rejects.report.add(StreamKey(None, "deals"), b"a line")
    bucket.fails = ConfigError("the store is gone")
    done.run()
    assert isinstance(done.error, ConfigError)
    assert done.acknowledged == []


class _DiskFails(FileReport):
    """Its lines never reach the disk."""

    def finish(self) -> None:
        raise ConfigError("the disk is gone")


def test_a_report_that_never_reaches_the_disk_lets_no_state_of_a_replaced_table_go(
    tmp_path: Path,
) -> None:
    """A file is in memory of the system until the end."""
    done = two_streams("kore")
    done.rejects.report = report = _DiskFails(tmp_path / "report.jsonl")
    done.run()
    report.close()
    assert isinstance(done.error, ConfigError)
    assert done.acknowledged == []


def test_a_load_of_which_too_large_a_part_was_rejected_replaces_nothing() -> None:
    """The part is judged when all was read, before the first table is touched."""
    done = two_streams("kore", script=[records(NEW), *_not_json() * 10, *map(complete, BOTH)])
    done.rejects._settings = replace(done.rejects._settings, max_rejected_percent=60)
    done.run()
    assert isinstance(done.error, ConfigError)
    assert "10 of 15 rows" in done.error.message
    assert done.transport.sent == []


def test_states_of_appended_streams_do_not_wait_for_a_replace() -> None:
    """What was appended is not replaced by a later attempt."""
    catalog: Any = catalog_of("overwrite", "deals", "calls")
    catalog["streams"][1]["minimum_generation_id"] = 0
    catalog["streams"][1]["destination_sync_mode"] = "append"
    vendor = KoreVendor()
    vendor.tables["calls"] = []
    done = sync(
        "kore",
        "overwrite",
        [
            *(records(NEW, CALLS), state(2, CALLS), complete(CALLS)),
            *(records(NEW), state(1), complete()),
        ],
        catalog=catalog,
        vendor=vendor,
        faults={4: answer_status(403)},
    ).run()
    assert isinstance(done.error, ConfigError)
    assert done.acknowledged == [2]


# --- loads of which nothing is left


def _null_ids() -> list[Message]:
    return [records([{**row, "id": None} for row in NEW])]


def _too_large() -> list[Message]:
    return [records([{**row, "name": "x" * 500} for row in NEW])]


def _not_json() -> list[Message]:
    return [BadRecord(DEALS, "not_json", "it holds NaN", b'{"id":"nan"}')]


def _deleted() -> list[Message]:
    gone = {"_ab_cdc_deleted_at": "2026-01-01T00:00:00Z"}
    return [records([*NEW, *({**row, **gone} for row in NEW)])]


@pytest.mark.parametrize("rows", [_null_ids, _too_large, _not_json, _deleted])
@pytest.mark.parametrize("vendor_name", VENDORS)
def test_a_load_of_which_no_row_is_left_replaces_nothing(vendor_name: Any, rows: Any) -> None:
    """Rejected by our own rules or deleted by their own source: the table is not even asked for."""
    catalog: Any = catalog_of("overwrite")
    catalog["streams"][0]["destination_sync_mode"] = "append_dedup"
    done = sync(
        vendor_name,
        "overwrite",
        [*rows(), state(1), complete()],
        catalog=catalog,
        max_bytes=400,
    )
    done.vendor.put(OLD)
    done.run()
    assert isinstance(done.error, ConfigError)
    assert "The table was not touched" in done.error.message
    assert (done.transport.sent, done.acknowledged) == ([], [])


def test_all_loads_are_judged_before_the_first_table_is_touched() -> None:
    """A load that may not replace its table keeps the others from being replaced as well."""
    script = [
        *(records(NEW), state(1), complete()),
        *(records([{**NEW[0], "id": None}], CALLS), complete(CALLS)),
    ]
    done = two_streams("qobra", script=script).run()
    assert isinstance(done.error, ConfigError)
    assert done.transport.sent == []


@pytest.mark.parametrize("vendor_name", VENDORS)
def test_a_load_of_which_the_vendor_takes_no_row_is_an_error(vendor_name: Any) -> None:
    """Its state is not acknowledged, whatever became of the old rows at the vendor."""
    done = sync(vendor_name, "overwrite", [records(NEW), state(1), complete()])
    done.vendor.is_bad = lambda _: True
    done.vendor.put(OLD)
    done.run()
    assert isinstance(done.error, ConfigError)
    assert "rejected_records.report_path" in done.error.message
    assert done.acknowledged == []
    assert vendor_name == "qobra" or "(see the log)" not in done.error.message  # but the codes
    assert vendor_name == "qobra" or contents(done, "deals") == ["o0", "o1", "o2"]


@pytest.mark.parametrize("vendor_name", VENDORS)
def test_a_source_without_rows_empties_the_table(vendor_name: Any) -> None:
    """That is what it holds."""
    done = sync(vendor_name, "overwrite", [state(1), complete()])
    done.vendor.put(OLD)
    done.run()
    assert (done.error, done.vendor.rows(), done.acknowledged) == (None, [], [1])


# --- a load that may be what an earlier attempt had left, and replace_guard


def refresh(
    vendor_name: VendorName,
    rows: list[Row],
    held: int,
    guard: Guard,
    beside: Sequence[Row] = (),
    **more: Any,
) -> Sync:
    """A refresh of an incremental stream as a platform asks for it, into a table with rows."""
    catalog = catalog_of("append", generation_id=7, minimum_generation_id=7, **more)
    read = [records(rows)] if rows else []
    script: list[Message] = [*read, state(1), complete()]
    done = sync(vendor_name, "append", script, catalog=catalog, guard=guard)
    done.vendor.put([{"id": f"o{i}", "amount": i} for i in range(held)])
    done.vendor.put(list(beside))
    return done.run()


@pytest.mark.parametrize(
    ("rows", "held", "attempt", "is_taken"),
    [
        (0, 50, 0, True),  # a first attempt has nothing before it
        (0, 50, 1, False),
        (0, 0, 1, True),  # nothing can be lost
        (1, 50, 1, False),
        (5, 20, 1, False),
        (5, 10, 1, True),
        (5, 8, 1, True),
        (5, 11, 4, False),  # none of these rows is of an earlier attempt
    ],
)
def test_a_load_that_may_be_the_rest_replaces_nothing(
    rows: int,
    held: int,
    attempt: int,
    is_taken: bool,  # noqa: FBT001
) -> None:
    """A later attempt whose load is far smaller than its table ends with what to do."""
    done = refresh("kore", NEW[:rows], held, Guard(attempt=attempt))
    if is_taken:
        assert (done.error, len(done.vendor.rows()), done.acknowledged) == (None, rows, [1])
        return
    assert isinstance(done.error, ConfigError)
    assert "Start the refresh again" in done.error.message
    assert (len(done.vendor.rows()), done.transport.writes, done.acknowledged) == (held, [], [])


OTHERS: list[Row] = [{"id": f"x{i}", "name": "other", "amount": i, "version": 1} for i in range(9)]
TWIN = NEW[0]


@pytest.mark.parametrize(
    ("load", "held", "attempt", "is_taken"),
    [
        # the rest of a load: a third, or a sixth, of which nothing or all is there once
        (NEW[:2], OTHERS[:6], 2, False),
        (NEW[:1], OTHERS[:6], 4, False),
        (NEW[:2], [*OTHERS[:4], *NEW[:2]], 2, False),
        (NEW[:4], [*OTHERS, *NEW[:4]], 4, False),
        ([TWIN, TWIN, NEW[1]], [*OTHERS, TWIN, TWIN, NEW[1]], 2, False),
        # what attempts that failed late left, whole or in part, beside other rows or the same ones
        (NEW, [*OTHERS[:4], *NEW * 4], 4, True),
        (NEW, [*OTHERS[:4], *NEW[:3] * 3], 3, True),
        (NEW, [*OTHERS[:4], *NEW, *NEW], 2, True),
        ([*NEW, TWIN], [*OTHERS[:5], *[*NEW, TWIN] * 3], 3, True),
        # more copies than attempts are the table's own
        (NEW[:2], [*OTHERS, *NEW[:2] * 5], 2, False),
    ],
)
def test_only_copies_beyond_the_first_are_of_earlier_attempts(
    load: list[Row],
    held: list[Row],
    attempt: int,
    is_taken: bool,  # noqa: FBT001
) -> None:
    """A rest passes in no attempt, and an ordinary retry converges whatever was left beside."""
    done = refresh("kore", load, 0, Guard(attempt=attempt), beside=held)
    if is_taken:
        assert (done.error, len(done.vendor.rows()), done.acknowledged) == (None, len(load), [1])
        return
    assert isinstance(done.error, ConfigError)
    assert "Start the refresh again" in done.error.message
    assert (len(done.vendor.rows()), done.transport.writes) == (len(held), [])
    assert done.acknowledged == []


def test_where_a_table_keeps_one_row_of_a_key_copies_are_told_by_it() -> None:
    """Old rows have the same keys and other values; their number alone would hold the load back."""
    old = [{**row, "version": 0} for row in NEW]
    held = [*old, *OTHERS[:2], *NEW]
    by_key = refresh(
        "kore", NEW, 0, Guard(attempt=1), beside=held, destination_sync_mode="append_dedup"
    )
    assert (by_key.error, by_key.vendor.rows()) == (None, NEW)
    assert isinstance(refresh("kore", NEW, 0, Guard(attempt=1), beside=held).error, ConfigError)


def test_where_no_copies_can_be_counted_none_are_taken_for_granted() -> None:
    """A table that does not answer this question counts whole."""
    vendor = KoreVendor()
    vendor.put([*OTHERS[:4], *NEW * 4])

    def answer(request: HttpRequest) -> HttpResponse:
        is_about_rows = request.path.endswith("/query?sys_limit=100&sys_offset=0")
        return status(400) if is_about_rows else vendor.answer(request)

    catalog = catalog_of("append", generation_id=7, minimum_generation_id=7)
    script: list[Message] = [records(NEW), state(1), complete()]
    more: Any = {"catalog": catalog, "vendor": vendor, "guard": Guard(attempt=4)}
    done = sync("kore", "append", script, **more)
    done.transport.answer = answer
    assert isinstance(done.run().error, ConfigError)


def test_where_nothing_counts_only_an_empty_load_may_be_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Qobra cannot be asked what a table holds; the log says what may be."""
    empty = refresh("qobra", [], 3, Guard(attempt=1))
    assert isinstance(empty.error, ConfigError)
    assert len(empty.vendor.rows()) == 3
    some = refresh("qobra", NEW[:1], 3, Guard(attempt=1))
    assert (some.error, len(some.vendor.rows())) == (None, 1)
    assert "load_may_be_a_rest table=deals rows=1" in caplog.text
    assert "replace_not_guarded" not in caplog.text


@pytest.mark.parametrize(
    "more",
    [
        {"sync_mode": "full_refresh"},
        {"destination_sync_mode": "overwrite", "minimum_generation_id": 0},
        {
            "destination_sync_mode": "overwrite",
            "generation_id": 1,
            "minimum_generation_id": 1,
            "sync_id": 1,
        },
    ],
)
def test_only_a_refresh_of_an_incremental_stream_goes_on(more: dict[str, Any]) -> None:
    """A full refresh starts anew in each attempt, and PyAirbyte's 1/1/1 is no refresh."""
    catalog: Any = catalog_of("append")
    catalog["streams"][0] |= {"generation_id": 7, "minimum_generation_id": 7, **more}
    done = sync("kore", "append", [state(1), complete()], catalog=catalog, guard=Guard(attempt=2))
    done.vendor.put(OLD)
    done.run()
    assert (done.error, done.vendor.rows()) == (None, [])


@pytest.mark.parametrize(
    ("rows", "held", "percent", "is_taken"),
    [(0, 3, 0, True), (0, 3, 1, False), (4, 10, 50, False), (5, 10, 50, True), (0, 0, 100, True)],
)
def test_a_load_below_the_set_share_replaces_nothing(
    rows: int,
    held: int,
    percent: int,
    is_taken: bool,  # noqa: FBT001
) -> None:
    """`replace_guard` holds in every attempt and mode, where the table can be counted."""
    script = [records(NEW[:rows])] if rows else []
    guard = Guard(percent=percent)
    done = sync("kore", "overwrite", [*script, state(1), complete()], guard=guard)
    done.vendor.put([{"id": f"o{i}"} for i in range(held)])
    done.run()
    if is_taken:
        assert (done.error, len(done.vendor.rows())) == (None, rows)
        return
    assert isinstance(done.error, ConfigError)
    assert "replace_guard" in done.error.message
    assert (len(done.vendor.rows()), done.acknowledged) == (held, [])


def test_a_table_that_cannot_be_counted_is_not_guarded(caplog: pytest.LogCaptureFixture) -> None:
    """The log says so."""
    done = sync("qobra", "overwrite", [state(1), complete()], guard=Guard(percent=50))
    done.vendor.put(OLD)
    done.run()
    assert (done.error, done.vendor.rows()) == (None, [])
    assert "replace_not_guarded table=deals" in caplog.text


def test_a_replace_of_which_every_attempt_fails_late_converges() -> None:
    """Attempts 0 to 3 leave their rows beside the old ones; attempt 4 replaces all of them."""
    vendor = KoreVendor()
    vendor.put(OLD)
    catalog = catalog_of("append", generation_id=7, minimum_generation_id=7)

    def refuse_deletes(request: HttpRequest) -> HttpResponse:
        is_delete = request.method == "DELETE"
        return status(503, retry_after="9999") if is_delete else vendor.answer(request)

    for attempt in range(5):
        script: list[Message] = [records(NEW), state(1), complete()]
        done = sync(
            "kore", "append", script, catalog=catalog, vendor=vendor, guard=Guard(attempt=attempt)
        )
        if attempt < 4:
            done.transport.answer = refuse_deletes
        done.run()
        assert isinstance(done.error, TransientError) is (attempt < 4)
        assert len(vendor.rows()) == (3 + 5 * (attempt + 1) if attempt < 4 else 5)
        assert done.acknowledged == ([] if attempt < 4 else [1])
    assert [row["id"] for row in vendor.rows()] == [row["id"] for row in NEW]
