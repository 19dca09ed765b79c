"""Qobra: its flows one answer at a time, and whole syncs under each reading of its page."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from destination_bulk_tables.errors import (
    ConfigError,
    DestinationError,
    TransientError,
    UnaccountedRows,
)
from destination_bulk_tables.http import Ambiguous, HttpRequest, HttpResponse
from destination_bulk_tables.lines import Lines
from destination_bulk_tables.messages import Message
from destination_bulk_tables.model import Receipt, RowBlock, Table
from destination_bulk_tables.outcomes import (
    Context,
    Load,
    Mingled,
    ReplacePlan,
    Unverified,
    Verdict,
)
from destination_bulk_tables.overwrite import StagedLoad
from destination_bulk_tables.providers.qobra import Qobra
from destination_bulk_tables.spool import DiskBudget
from unit_tests.fakes import FakeClock, answer_status, apply_then_status, play, positions_of, status
from unit_tests.syncs import DEALS, Sync, complete, qobra, records, state, sync
from unit_tests.vendors import QobraVendor, Row, answer_of

TABLE = Table("sales deals", DEALS, "append")
ROWS: list[Row] = [{"id": f"d{i}", "name": f"n{i}", "amount": i, "version": 1} for i in range(10)]
BLOCK = RowBlock([b'{"id":"a"},{"id":"b"}'], 2, range(2))
BAD_ROW = {"line_number": 1, "row": {"id": "a", "amount": "AAA"}, "details": "could not convert"}


def shown(**more: Any) -> HttpResponse:
    """A finished import of two rows into our table."""
    own = {
        "type": "api",
        "status": "finished",
        "data_table_key": TABLE.name,
        "number_of_records": 2,
        "error": None,
        **more.pop("own", {}),
    }
    found = {"id": "i1", "status": "finished", "data_tables_details": [own], **more}
    return answer_of(200, {"data_import": found})


def pending(**more: Any) -> Unverified:
    """Two accepted rows of one import."""
    return Unverified(
        **{"table": TABLE, "receipts": (Receipt("i1", 2),), "rows": 2, "age_s": 1.0, **more}
    )


# --- writing


@pytest.mark.parametrize(
    ("plan", "query"),
    [
        (None, ""),
        (ReplacePlan(single=True), "?all=true"),
        (ReplacePlan(window_s=900.0), "?all=true&debounce=900"),
    ],
)
def test_a_write_is_one_request(plan: ReplacePlan | None, query: str) -> None:
    """The table's name is encoded, the rows are wrapped in items, a replace carries its query."""
    flow = qobra().write(TABLE, BLOCK, Context(replace=plan))
    report, [request] = play(flow, answer_of(200, {"import_id": "i1", "objects_imported": 2}))
    assert request.path == f"/v1/tables/sales%20deals/records/bulk{query}"
    assert request.body == b'{"items":[{"id":"a"},{"id":"b"}]}'
    assert request.repeat == "safe"
    assert report.receipt == Receipt("i1", 2, 0)


def test_another_count_than_sent_is_not_success() -> None:
    """objects_imported says how many rows the request held."""
    flow = qobra().write(TABLE, BLOCK, Context())
    with pytest.raises(UnaccountedRows):
        play(flow, answer_of(200, {"import_id": "i1", "objects_imported": 1}))


def test_an_unreadable_answer_is_ambiguous() -> None:
    """It names no import, so it proves nothing."""
    with pytest.raises(Ambiguous):
        play(qobra().write(TABLE, BLOCK, Context()), status(200, b"<html>"))


@pytest.mark.parametrize(("resent", "repeated"), [(True, False), (False, True)])
def test_rows_that_may_be_in_twice_are_marked(resent: bool, repeated: bool) -> None:  # noqa: FBT001
    """The import may count them twice."""
    answer = answer_of(200, {"import_id": "i1", "objects_imported": 2})
    answer = HttpResponse(200, answer.headers, answer.body, resent=resent)
    report, _ = play(qobra().write(TABLE, BLOCK, Context(repeated=repeated)), answer)
    assert report.receipt.resent == 2


def test_dedup_needs_the_id_column_as_its_key() -> None:
    """Qobra updates rows by one column and no other."""
    provider = Qobra.from_config({"api_key": "k", "id_field": "ref"})
    provider.validate(Table("t", DEALS, "dedup", key_columns=("ref",)))
    for key in [("id",), ("ref", "id"), ()]:
        with pytest.raises(ConfigError, match="ref"):
            provider.validate(Table("t", DEALS, "dedup", key_columns=key))
    provider.validate(Table("t", DEALS, "append"))


@pytest.mark.parametrize("key", ["cl\u00e9", "a\nb", "a\x00b", "\ud800"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    """Before the first request, and without showing it."""
    with pytest.raises(ConfigError) as caught:
        Qobra.from_config({"api_key": key})
    assert "api_key" in caught.value.message
    assert key not in caught.value.message


def test_the_check_reads_and_recognises_qobra() -> None:
    """It asks for the data structures, and another server's page is not taken for Qobra."""
    _, [request] = play(qobra().check([]), answer_of(200, {"data": []}))
    assert (request.method, request.path) == ("GET", "/v2/data-structures")
    for body in (b"<html>", b"[]", b"{}"):
        with pytest.raises(ConfigError, match="base_url"):
            play(qobra().check([]), status(200, body))


# --- verifying


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (shown(), Verdict()),
        (shown(status="started"), None),
        (shown(status="scheduled"), None),
        (status(200, b"<html>"), None),
        (Ambiguous("cut"), None),
    ],
)
def test_an_import_is_done_when_it_is_finished(answer: Any, verdict: Verdict | None) -> None:
    """Anything else is asked again later."""
    assert play(qobra().verify(pending()), answer)[0] == verdict


def test_foreign_entries_do_not_count() -> None:
    """Another table's error, or another kind of load of ours, says nothing about these rows."""
    broken = {"title": "ParsingError", "description": "x", "parsing_error_details": []}
    own = {"type": "api", "data_table_key": TABLE.name, "number_of_records": 2, "error": None}
    foreign = [
        {"type": "api", "data_table_key": "other", "number_of_records": None, "error": broken},
        {**own, "type": "csv", "number_of_records": None, "error": broken},
        {**own, "type": "integration", "number_of_records": 7},
    ]
    answer = shown(data_tables_details=[*foreign, own], has_error=True)
    assert play(qobra().verify(pending()), answer)[0] == Verdict()


@pytest.mark.parametrize(
    ("own", "error", "is_mingled"),
    [
        ({"number_of_records": None}, UnaccountedRows, False),
        ({"number_of_records": 1}, UnaccountedRows, False),
        ({"number_of_records": 3}, TransientError, True),
        ({"number_of_records": None, "error": {"title": "Boom"}}, ConfigError, False),
        (
            {
                "number_of_records": None,
                "error": {"title": "ParsingError", "parsing_error_details": [BAD_ROW]},
            },
            ConfigError,
            False,
        ),
        (
            {
                "number_of_records": 2,
                "error": {"title": "ParsingError", "parsing_error_details": [BAD_ROW]},
            },
            ConfigError,
            True,
        ),
        (
            {
                "number_of_records": 1,
                "error": {
                    "title": "ParsingError",
                    "parsing_error_details": [{**BAD_ROW, "row": {"id": key}} for key in "xyz"],
                },
            },
            TransientError,
            True,
        ),
        ({"data_table_key": "other"}, UnaccountedRows, False),
    ],
)
def test_finished_is_not_delivered(
    own: Row,
    error: type[DestinationError],
    is_mingled: bool,  # noqa: FBT001
) -> None:
    """Without the right count, or with an error that names no rows, nothing is settled.

    What counts or names more rows than ours holds what somebody else sent: ours may go out again.
    """
    with pytest.raises(Mingled if is_mingled else error) as caught:
        play(qobra().verify(pending()), shown(own=own))
    found: Any = caught.value
    found = found.error if isinstance(found, Mingled) else found
    assert isinstance(found, error)
    assert "AAA" not in found.message
    assert ("ParsingError" in found.message) is (
        "parsing_error_details" in str(own) and error is ConfigError
    )


@pytest.mark.parametrize(
    "error",
    [
        {"title": "Jane's row: bad", "parsing_error_details": [BAD_ROW]},
        {"title": "E" * 61},
        {
            "title": "ParsingError",
            "description": "Can't parse Jane",
            "parsing_error_details": [BAD_ROW, {"line_number": 2}],
        },
    ],
)
def test_a_failed_import_quotes_no_row(error: Row) -> None:
    """Neither by its title, which goes into the log, nor by a text about rows it does not show."""
    with pytest.raises(ConfigError) as caught:
        play(qobra().verify(pending()), shown(own={"number_of_records": None, "error": error}))
    assert "Jane" not in caught.value.message
    assert "EEE" not in caught.value.message


def test_named_rows_are_rejected_when_the_rest_is_counted() -> None:
    """A parse error of one row with a count of all others is one rejected row."""
    own = {
        "number_of_records": 1,
        "error": {"title": "ParsingError", "parsing_error_details": [BAD_ROW]},
    }
    verdict, _ = play(qobra().verify(pending()), shown(own=own))
    [fault] = verdict.faults
    assert (fault.key, fault.code, json.loads(fault.row)) == ("a", "ParsingError", BAD_ROW["row"])


@pytest.mark.parametrize(("counts", "fine"), [((2, 1), True), ((3, 3), True), ((2, 2), False)])
def test_several_ids_show_their_part_or_the_whole(counts: tuple[int, int], fine: bool) -> None:  # noqa: FBT001
    """Requests of one load may get an id each, which counts its own rows or all of them."""
    receipts = (Receipt("i1", 2), Receipt("i2", 1))
    answers = [shown(own={"number_of_records": n}) for n in counts]
    flow = qobra().verify(pending(receipts=receipts, rows=3))
    if fine:
        assert play(flow, *answers)[0] == Verdict()
    else:
        with pytest.raises(Mingled):
            play(flow, *answers)


def test_repeated_rows_may_be_counted_twice() -> None:
    """A request sent twice may be two entries of one import; more than that is not explained."""
    receipts = (Receipt("i1", 2, resent=2),)
    for count in (2, 3, 4):
        flow = qobra().verify(pending(receipts=receipts))
        assert play(flow, shown(own={"number_of_records": count}))[0] == Verdict()
    with pytest.raises(Mingled):
        play(qobra().verify(pending(receipts=receipts)), shown(own={"number_of_records": 5}))


@pytest.mark.parametrize(
    ("created", "launched", "pushed_s", "fine"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z", 100.0, True),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z", 100.0, False),
        (None, None, 100.0, True),
        ("soon", "later", 100.0, True),
    ],
)
def test_a_launch_before_the_last_request_is_seen(
    created: str | None,
    launched: str | None,
    pushed_s: float,
    fine: bool,  # noqa: FBT001
) -> None:
    """The vendor's own times tell that a load was split, whatever the counts say."""
    answer = shown(created_at=created, launched_at=launched)
    plan = ReplacePlan(window_s=300.0)
    flow = qobra().verify(pending(pushed_s=pushed_s, replace=plan))
    if fine:
        assert play(flow, answer)[0] == Verdict()
    else:
        with pytest.raises(Mingled, match="debounce_seconds"):
            play(flow, answer)


@pytest.mark.parametrize(("launched", "fine"), [("00:05:00", True), ("00:05:04", False)])
def test_requests_that_were_not_joined_are_seen(launched: str, fine: bool) -> None:  # noqa: FBT001
    """Imports of one load that launch as far apart as they came replaced each other."""
    receipts = (Receipt("i1", 1), Receipt("i2", 1))
    answers = [
        shown(
            own={"number_of_records": 1},
            created_at=f"2026-01-01T00:00:0{number * 4}Z",
            launched_at=f"2026-01-01T{launch}Z",
        )
        for number, launch in enumerate(["00:05:00", launched])
    ]
    plan = ReplacePlan(window_s=300.0)
    flow = qobra().verify(pending(receipts=receipts, pushed_s=4.0, replace=plan))
    if fine:
        assert play(flow, *answers)[0] == Verdict()
    else:
        with pytest.raises(Mingled, match="in parts"):
            play(flow, *answers)


@pytest.mark.parametrize(
    ("created", "launched", "is_logged"),
    [
        (["00:00:00", "00:00:04"], ["00:05:00", "00:05:00"], False),
        (["00:00:00", "00:00:00"], ["00:05:00", "00:05:00"], True),
        (["00:00:00", "00:00:04"], ["00:05:00", None], True),
        ([None, None], [None, None], True),
    ],
)
def test_times_that_do_not_tell_are_logged(
    created: list[str | None],
    launched: list[str | None],
    is_logged: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Imports of one load with an id each, and nothing that shows they were joined."""
    times = [
        {
            name: text and f"2026-01-01T{text}Z"
            for name, text in (("created_at", one), ("launched_at", two))
        }
        for one, two in zip(created, launched, strict=True)
    ]
    answers = [shown(own={"number_of_records": 1}, **found) for found in times]
    receipts = (Receipt("i1", 1), Receipt("i2", 1))
    flow = qobra().verify(pending(receipts=receipts, replace=ReplacePlan(window_s=300.0)))
    assert play(flow, *answers)[0] == Verdict()
    assert ("load_not_proven_whole" in caplog.text) is is_logged


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b'{"data_import":{"status":5}}', b'{"data_import":{"status":null}}']
)
def test_an_import_that_is_not_as_documented_ends_the_sync(body: bytes) -> None:
    """It will not change in an hour, and no timeout is to be raised for it."""
    with pytest.raises(UnaccountedRows, match="not as documented"):
        play(qobra().verify(pending()), status(200, body))


@pytest.mark.parametrize("word", ["scheduled", "started"])
def test_an_import_that_is_not_over_need_not_have_its_final_shape(word: str) -> None:
    """Details that are null, or of another type, may still come."""
    body = f'{{"data_import":{{"status":"{word}","data_tables_details":null}}}}'.encode()
    assert play(qobra().verify(pending()), status(200, body))[0] is None


# --- replacing


@pytest.mark.parametrize(
    ("setting", "requests", "window"),
    [(None, 2, 300.0), (None, 60, 600.0), (None, 5000, 3600.0), (900, 60, 900.0), (30, 60, 30.0)],
)
def test_the_window_is_sized_to_the_load(setting: int | None, requests: int, window: float) -> None:
    """Computed with a floor and a ceiling, or as configured where that suffices."""
    provider = qobra(**({} if setting is None else {"debounce_seconds": setting}))
    plan, sent = play(provider.replace_begin(TABLE, Load(1, 1, requests)))
    assert (plan.window_s, plan.first_alone, plan.single, sent) == (window, True, False, [])


@pytest.mark.parametrize(("setting", "requests"), [(29, 60), (0, 2), (None, 7201)])
def test_a_window_that_is_too_small_is_refused(setting: int | None, requests: int) -> None:
    """Before the first request, naming the setting."""
    provider = qobra(**({} if setting is None else {"debounce_seconds": setting}))
    with pytest.raises(ConfigError, match="Nothing was sent"):
        play(provider.replace_begin(TABLE, Load(1, 1, requests)))


@pytest.mark.parametrize("requests", [0, 1])
def test_one_request_needs_no_window(requests: int) -> None:
    """all=true with debounce 0 replaces the table at once."""
    plan, _ = play(qobra(debounce_seconds=0).replace_begin(TABLE, Load(1, 1, requests)))
    assert (plan.window_s, plan.single) == (None, True)


# --- whole syncs


def run(mode: Any, rows: list[Row] = ROWS, **more: Any) -> Sync:
    """A sync of these rows with a state after them."""
    return sync("qobra", mode, [records(rows), state(1), complete()], **more).run()


@pytest.mark.parametrize("shares_id", [True, False])
@pytest.mark.parametrize("counts", ["part", "whole"])
@pytest.mark.parametrize("window", ["first", "last"])
def test_a_load_in_a_window_replaces_the_table(
    shares_id: bool,  # noqa: FBT001
    counts: Any,
    window: Any,
) -> None:
    """Under each reading of ids, counts and the window; all requests carry the same query."""
    clock = FakeClock()
    vendor = QobraVendor(clock, shares_id=shares_id, counts=counts, window=window)
    vendor.put([{"id": "old"}])
    done = run("overwrite", clock=clock, vendor=vendor)
    assert done.error is None
    assert done.acknowledged == [1]
    assert vendor.rows() == ROWS
    assert {sent.request.path for sent in done.transport.writes} == {
        "/v1/tables/deals/records/bulk?all=true&debounce=300"
    }


def test_a_load_is_asked_for_when_all_of_it_was_sent() -> None:
    """An import that is over before the last request is answered tells of a part of the load."""
    for seed in range(5):
        done = sync("qobra", "overwrite", [records(ROWS), state(1), complete()], slots=3, seed=seed)

        def let_time_pass(_: int, clock: FakeClock = done.clock) -> None:
            clock.advance(1.0)

        done.on_read = let_time_pass
        done.run()
        methods = [sent.request.method for sent in done.transport.sent]
        assert (done.error, done.acknowledged) == (None, [1])
        assert methods[:3] == ["POST"] * 3
        assert set(methods[3:]) == {"GET"}


def test_no_rows_empty_the_table_in_one_request() -> None:
    """Zero records and COMPLETE: {"items": []} with all=true."""
    clock = FakeClock()
    vendor = QobraVendor(clock)
    vendor.put([{"id": "old"}])
    done = run("overwrite", [], clock=clock, vendor=vendor)
    assert done.error is None
    [write] = done.transport.writes
    assert write.request.path.endswith("?all=true")
    assert write.request.body == b'{"items":[]}'
    assert vendor.rows() == []
    assert done.acknowledged == [1]


def test_a_small_window_is_refused_before_any_request() -> None:
    """Nothing is sent, and the table keeps its rows."""
    done = run("overwrite", settings={"debounce_seconds": 1}, max_rows=2)
    assert isinstance(done.error, ConfigError)
    assert done.transport.sent == []
    assert done.acknowledged == []


def test_sending_stops_when_the_window_is_over() -> None:
    """A request that would come after the window is not sent, and nothing is acknowledged."""
    done = sync(
        "qobra",
        "overwrite",
        [records(ROWS), state(1), complete()],
        settings={"debounce_seconds": 10},
    )
    done.on_request = lambda it: it.clock.advance(9.0)
    done.run()
    assert isinstance(done.error, TransientError)
    assert "debounce" in done.error.message
    assert len(done.transport.writes) == 1
    assert done.acknowledged == []


@pytest.mark.parametrize("is_always", [False, True])
def test_an_early_launch_is_not_acknowledged(is_always: bool) -> None:  # noqa: FBT001
    """A vendor that starts the import before all requests came is found out by its times.

    The load is sent again, which helps where its requests had joined an older window.
    """
    clock = FakeClock()
    vendor = QobraVendor(clock)
    done = sync(
        "qobra", "overwrite", [records(ROWS), state(1), complete()], clock=clock, vendor=vendor
    )

    def hurry(it: Sync) -> None:
        if len(it.transport.writes) % 3 == 2:
            clock.advance(20.0)
        elif len(it.transport.writes) % 3 == 0:
            for run in vendor.runs if is_always else vendor.runs[:1]:
                run.launch_at = run.created_at  # it says so itself; the counts would be right

    done.on_request = hurry
    done.run()
    assert len(done.transport.writes) == (9 if is_always else 6)
    assert done.acknowledged == ([] if is_always else [1])
    if is_always:
        assert isinstance(done.error, TransientError)
        assert "launched" in done.error.message


# --- imports that hold what somebody else sent

STALE: list[Row] = [
    {"id": "d1", "name": "of an earlier attempt"},
    {"id": "gone", "name": "of an earlier attempt"},
]


def _somebody(vendor: QobraVendor, rows: list[Row], query: str = "") -> None:
    """Send rows as an attempt that was cut off, or another client, did."""
    body = json.dumps({"items": rows}).encode()
    vendor.answer(HttpRequest("POST", f"/v1/tables/deals/records/bulk{query}", body=body))


@pytest.mark.parametrize("shares_id", [True, False])
@pytest.mark.parametrize("window", ["first", "last"])
@pytest.mark.parametrize("is_bad", [False, True])
@pytest.mark.parametrize("repeats", [[], [{"id": "d0", "version": 0}]])
def test_a_load_that_joined_an_earlier_attempts_is_sent_again(
    shares_id: bool,  # noqa: FBT001
    window: Any,
    is_bad: bool,  # noqa: FBT001
    repeats: list[Row],
) -> None:
    """A count with other rows in it proves nothing; the second load is alone in its import."""
    clock = FakeClock()
    vendor = QobraVendor(
        clock,
        shares_id=shares_id,
        window=window,
        is_bad=lambda row: is_bad and row["id"] == "gone",
    )
    vendor.put([{"id": "old"}])
    _somebody(vendor, STALE, "?all=true&debounce=120")
    done = run("overwrite", [*repeats, *ROWS], clock=clock, vendor=vendor)
    assert (done.error, done.acknowledged) == (None, [1])
    assert sorted(vendor.rows(), key=lambda row: str(row["id"])) == ROWS
    assert len(done.transport.writes) == 6
    assert done.counts == (len(repeats) + 10, len(repeats) + 10, 0)
    assert not done.lanes[DEALS].tracked


def test_a_load_is_not_sent_for_ever() -> None:
    """Where somebody writes into each import, the sync fails as transient and tells nothing."""
    clock = FakeClock()
    vendor = QobraVendor(clock)
    done = sync(
        "qobra", "overwrite", [records(ROWS), state(1), complete()], clock=clock, vendor=vendor
    )
    done.on_request = lambda _: _somebody(vendor, STALE, "?all=true&debounce=120")
    done.run()
    assert isinstance(done.error, TransientError)
    assert "another client" in done.error.message
    assert len(done.transport.writes) == 9
    assert done.acknowledged == []


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("limit", [99, 3])
@pytest.mark.parametrize("mode", ["append", "append_dedup"])
def test_rows_that_joined_an_earlier_attempts_import_are_sent_again(
    slots: int, limit: int, mode: Any
) -> None:
    """Plain imports stack: what an attempt left behind is counted with the rows of the next."""
    for seed in range(20):
        clock = FakeClock()
        vendor = QobraVendor(clock, stack_s=5.0)
        _somebody(vendor, STALE)
        done = sync(
            "qobra",
            mode,
            [records(ROWS), state(1), 1.0, records([{**ROWS[0], "version": 2}]), complete()],
            clock=clock,
            vendor=vendor,
            slots=slots,
            seed=seed,
        )
        done.transport.answer = _limited(vendor, limit)
        done.run()
        assert (done.error, done.acknowledged) == (None, [1])
        found = {row["id"]: row for row in vendor.rows()}
        assert found == {**{row["id"]: row for row in ROWS}, "d0": {**ROWS[0], "version": 2}} | {
            "gone": STALE[1]
        }
        assert done.counts == (11, 11, 0)
        assert done.ran._dispatch.settling._kept_bytes == 0


def _limited(vendor: QobraVendor, limit: int) -> Callable[[HttpRequest], HttpResponse]:
    """The vendor behind a gateway that takes few rows at a time."""

    def answer(request: HttpRequest) -> HttpResponse:
        if request.method == "POST" and len(json.loads(request.body or b"{}")["items"]) > limit:
            return status(413, b"")
        return vendor.answer(request)

    return answer


def test_a_lost_answers_rows_may_be_counted_with_others() -> None:
    """The import of one batch holds another whose answer was lost, and which went to a next one."""
    clock = FakeClock()
    vendor = QobraVendor(clock, stack_s=5.0)
    done = sync("qobra", "append", [records(ROWS[:8]), state(1), complete()], clock=clock)
    done.vendor = vendor

    def lose_one(request: HttpRequest) -> HttpResponse:
        good = vendor.answer(request)
        if len(done.transport.writes) == 2:
            clock.advance(6.0)
            return status(502, b"")
        return good

    done.transport.answer = lose_one
    done.run()
    assert (done.error, done.acknowledged) == (None, [1])
    assert vendor.rows() == ROWS[:8]


@pytest.mark.parametrize("lost", [1, 2, 3])
@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_an_answer_that_is_lost_again_and_again_is_counted_as_often(mode: Any, lost: int) -> None:
    """Each attempt may have joined the import: a right table is no failed sync, nor sent again."""
    clock = FakeClock()
    done = sync(
        "qobra",
        mode,
        [records(ROWS), state(1), complete()],
        clock=clock,
        vendor=QobraVendor(clock, stack_s=300.0),
        faults=dict.fromkeys(range(1, lost + 1), apply_then_status(502)),
    ).run()
    assert (done.error, done.acknowledged) == (None, [1])
    assert isinstance(done.vendor, QobraVendor)
    assert done.vendor.rows() == ROWS
    assert len(done.transport.writes) == 3 + lost


@pytest.mark.parametrize("is_kept", [True, False])
def test_rows_in_a_foreign_import_are_not_acknowledged(
    is_kept: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where they cannot be sent again, or it never helps, the next attempt is to send them."""
    if not is_kept:
        monkeypatch.setattr("destination_bulk_tables.settling.MAX_KEPT_BYTES", 10)
    clock = FakeClock()
    vendor = QobraVendor(clock, stack_s=5.0)
    done = sync("qobra", "append", [records(ROWS[:3]), state(1), complete()], clock=clock)
    done.transport.answer = vendor.answer
    done.on_request = lambda _: _somebody(vendor, STALE)
    done.run()
    assert isinstance(done.error, TransientError)
    assert len(done.transport.writes) == (3 if is_kept else 1)
    assert done.acknowledged == []


def test_the_lines_of_rows_count_where_rows_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report of rejected rows keeps the line of each, which may be far longer than its row."""
    monkeypatch.setattr("destination_bulk_tables.settling.MAX_KEPT_BYTES", 5000)
    clock = FakeClock()
    vendor = QobraVendor(clock, delay_s=60.0)
    script: list[Message | float] = [records(ROWS, line=b"x" * 500), state(1), complete()]
    done = sync("qobra", "append", script, clock=clock, vendor=vendor)
    kept: list[int] = []

    def look(it: Sync) -> None:
        tracked = [t for lane in it.lanes.values() for t in lane.tracked.values()]
        kept.append(sum(t.batch.block.held_bytes for t in tracked if t.open_receipts))

    done.on_request = look
    done.run()
    assert done.acknowledged == [1]
    assert 2000 < max(kept) <= 5000


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("mode", ["append", "append_dedup"])
def test_requests_that_join_one_import_are_judged_together(slots: int, mode: Any) -> None:
    """An import that counts a request whose answer is still on its way is asked again later."""
    for seed in range(25):
        clock = FakeClock()
        vendor = QobraVendor(clock, stack_s=0.3, delay_s=0.0)
        script = [
            part for i in range(0, 10, 2) for part in (records(ROWS[i : i + 2]), state(i), 0.1)
        ]
        done = sync(
            "qobra",
            mode,
            [*script, complete()],
            clock=clock,
            vendor=vendor,
            slots=slots,
            seed=seed,
            max_rows=1,
        ).run()
        assert done.error is None
        assert done.acknowledged == [0, 2, 4, 6, 8]
        assert vendor.rows() == ROWS or slots > 1
        assert len(vendor.runs) < 10


@pytest.mark.parametrize(("policy", "acknowledged"), [("skip", [1]), ("fail", [])])
def test_bad_rows_of_an_import(policy: Any, acknowledged: list[int]) -> None:
    """Policy skip rejects exactly the rows the import names; fail ends the sync."""
    clock = FakeClock()
    vendor = QobraVendor(clock, is_bad=lambda row: row["id"] in {"d2", "d7"})
    done = run("append", clock=clock, vendor=vendor, policy=policy)
    assert done.acknowledged == acknowledged
    assert (done.error is None) is (policy == "skip")
    if policy == "skip":
        assert done.rejected_ids == ["d2", "d7"]
        assert done.states[0]["destinationStats"] == {"recordCount": 8, "rejectedRecordCount": 2}


def test_rows_beside_one_that_ends_the_sync_are_not_settled() -> None:
    """Under fail nothing more of an import is counted once it has named a row."""
    clock = FakeClock()
    vendor = QobraVendor(clock, is_bad=lambda row: row["id"] == "d2")
    done = run("append", ROWS[:4], clock=clock, vendor=vendor, policy="fail")
    assert isinstance(done.error, ConfigError)
    assert done.counts == (4, 0, 1)


@pytest.mark.parametrize("mode", ["append", "append_dedup", "overwrite"])
def test_a_row_that_an_import_names_has_its_line(mode: Any) -> None:
    """A report shows it as it was read: lines are found by key, those of a load on disk."""
    clock = FakeClock()
    lines = Lines.of_list([b"line %d" % i for i in range(10)])
    vendor = QobraVendor(clock, is_bad=lambda row: row["id"] in {"d2", "d7"})
    script: list[Message] = [records(ROWS)._replace(lines=lines), state(1), complete()]
    done = sync("qobra", mode, script, clock=clock, vendor=vendor)
    if mode == "overwrite":
        budget = DiskBudget(tempfile.gettempdir(), 10**6)
        done.lanes[DEALS].load = StagedLoad(budget, ("id",), keeps_originals=True)
    done.run()
    assert (done.error, done.acknowledged) == (None, [1])
    assert [row.original for row in done.rejects.rows] == [b"line 2", b"line 7"]


@pytest.mark.parametrize("mode", ["append", "append_dedup"])
def test_a_deletion_is_rejected_and_never_an_update(mode: Any) -> None:
    """A write is an upsert in both modes, and Qobra deletes nothing."""
    clock = FakeClock()
    vendor = QobraVendor(clock)
    vendor.put([{"id": "d1", "name": "old"}])
    gone = {"id": "d1", "name": None, "_ab_cdc_deleted_at": "2026-01-01T00:00:00Z"}
    rows = [gone, {"id": "d2", "_ab_cdc_deleted_at": None}]
    done = run(mode, rows, clock=clock, vendor=vendor)
    assert done.error is None
    assert done.acknowledged == [1]
    assert [row.code for row in done.rejects.rows] == ["cdc_delete"]
    assert [(row["id"], row.get("name")) for row in vendor.rows()] == [("d1", "old"), ("d2", None)]


def test_a_replaced_table_lacks_what_was_deleted() -> None:
    """Of a load the last version counts, and that is none."""
    gone = {"id": "d1", "_ab_cdc_deleted_at": "2026-01-01T00:00:00Z"}
    done = run("overwrite", [*ROWS[:3], gone])
    assert isinstance(done.vendor, QobraVendor)
    assert (done.error, done.acknowledged) == (None, [1])
    assert done.vendor.rows() == [ROWS[0], ROWS[2]]


def test_an_import_that_spoils_the_whole_table_fails() -> None:
    """number_of_records null: nothing went in, so nothing is rejected or acknowledged."""
    clock = FakeClock()
    vendor = QobraVendor(clock, is_bad=lambda row: row["id"] == "d2", rejects="table")
    done = run("append", clock=clock, vendor=vendor)
    assert isinstance(done.error, ConfigError)
    assert done.acknowledged == []


@pytest.mark.parametrize(("unknown_for_s", "is_fine"), [(20.0, True), (1000.0, False)])
def test_a_new_import_may_be_unknown_for_a_while(unknown_for_s: float, is_fine: bool) -> None:  # noqa: FBT001
    """404 at first is patience, 404 for long is an error."""
    clock = FakeClock()
    done = run("append", clock=clock, vendor=QobraVendor(clock, unknown_for_s=unknown_for_s))
    assert (done.error is None) is is_fine
    assert is_fine or isinstance(done.error, UnaccountedRows)


def test_the_wait_for_an_import_begins_when_it_is_accepted() -> None:
    """However long the sync has run by then."""
    clock = FakeClock()
    script: list[Message | float] = [1000.0, records(ROWS[:1]), state(1), complete()]
    settings = {"import_timeout_minutes": 5}
    vendor = QobraVendor(clock, delay_s=60.0)
    done = sync("qobra", "append", script, clock=clock, vendor=vendor, settings=settings).run()
    assert (done.error, done.acknowledged) == (None, [1])


def test_each_attempt_to_ask_for_imports_is_counted() -> None:
    """The repeated ones too, and none for an import that was not asked for yet."""
    clock = FakeClock()
    vendor = QobraVendor(clock, shares_id=False)
    faults = {5: answer_status(503)}
    done = run("overwrite", clock=clock, vendor=vendor, faults=faults)
    counts = done.progress.counts[DEALS]
    assert (done.error, done.transport.sent[4].request.method) == (None, "GET")
    assert (counts.requests, counts.retries) == (len(done.transport.sent), 1)


def test_an_import_that_never_finishes_ends_in_time() -> None:
    """The import timeout bounds the wait, and the error names it."""
    clock = FakeClock()
    done = run(
        "append",
        clock=clock,
        vendor=QobraVendor(clock, delay_s=1e9),
        settings={"import_timeout_minutes": 5},
    )
    assert isinstance(done.error, TransientError)
    assert "import_timeout_minutes" in done.error.message
    assert 300 < clock.elapsed < 330
    asked = [done.transport.sent[i - 1].at for i in positions_of(done.transport.sent, "/run0")]
    gaps = [late - early for early, late in pairwise(asked)]
    assert max(gaps) < 17
    assert len(asked) < 40


def test_a_key_waits_for_its_import() -> None:
    """Imports finish in any order, so a batch with a key under way is held back."""
    rows = [{"id": "a", "version": i} for i in range(6)]
    clock = FakeClock()
    vendor = QobraVendor(clock, delay_s=10.0)
    script = [part for row in rows for part in (records([row]), 40.0)]
    done = sync(
        "qobra", "append_dedup", [*script, complete()], clock=clock, vendor=vendor, slots=2
    ).run()
    assert done.error is None
    assert [
        run.launch_at >= early.finish_at
        for early, run in zip(vendor.runs, vendor.runs[1:], strict=False)
    ]
    assert vendor.rows()[0]["version"] == 5
