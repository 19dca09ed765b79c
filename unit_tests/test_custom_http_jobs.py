"""custom_http where rows are stored by jobs: nothing is delivered before its job is over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from destination_bulk_tables.errors import ConfigError, TransientError, UnaccountedRows
from destination_bulk_tables.http import (
    Ambiguous,
    HttpRequest,
    HttpResponse,
    Refused,
    RowFault,
    TooLarge,
)
from destination_bulk_tables.model import Receipt
from destination_bulk_tables.outcomes import Outcome, Unverified
from unit_tests.custom_forms import COUNT, answer, block, made, run, table, write
from unit_tests.custom_vendor import JOBS, JobVendor
from unit_tests.fakes import FakeClock, apply_then_status
from unit_tests.syncs import Sync, SyncMode, catalog_of, complete, records, state
from unit_tests.vendors import Row

ROWS: list[Row] = [{"id": f"r{i}", "name": "n", "amount": i, "version": 1} for i in range(8)]
SCRIPT = [records(ROWS[:4]), state(4), records(ROWS[4:]), state(8), complete()]
ERRORS: dict[str, Any] = {
    "errors_path": "errors",
    "error_index_member": "row",
    "error_message_member": "reason",
}
EMPTY: dict[str, Any] = {
    "replace_type": "empty_first",
    "requests": [{"method": "DELETE", "path": "/t/{table}/rows"}],
}


def a_sync(
    vendor: JobVendor,
    mode: SyncMode = "append",
    *,
    script: Any = None,
    form: Any = None,
    **more: Any,
) -> Sync:
    """A sync of eight rows in requests of four, unless told otherwise."""
    provider = made(**{"job": JOBS, **ERRORS, **(form or {})})
    more = {"slots": 0, **more}
    api: Any = vendor
    messages: Any = SCRIPT if script is None else script
    return Sync(provider, api, FakeClock(), catalog_of(mode), messages, **more)


def ids(rows: list[Row]) -> list[Any]:
    return sorted(row["id"] for row in rows)


def bad(*numbers: int) -> list[Any]:
    rows = [{**row, "name": None if i in numbers else "n"} for i, row in enumerate(ROWS)]
    return [records(rows[:4]), state(4), records(rows[4:]), state(8), complete()]


# --- a job that is done


def test_rows_are_acknowledged_when_their_job_is_done() -> None:
    """Not when their request was answered: at each state, what came before it is in the table."""
    vendor = JobVendor()
    sync = a_sync(vendor)
    held: list[tuple[int, int]] = []
    sync.on_state = lambda number, _: held.append((number, len(vendor.stored)))
    sync.run()
    assert sync.error is None
    assert [number for number, _ in held] == [4, 8]
    assert all(stored >= number for number, stored in held)
    assert sync.counts == (8, 8, 0)
    assert vendor.asked.count("/jobs/j0") == 2


def test_several_jobs_are_under_way_and_one_where_the_number_is_set() -> None:
    """The number of requests at a time counts jobs, as each request lasts until its job is over."""
    most = {}
    for parallel in (None, 1):
        vendor = JobVendor(fates=("done",))
        sync = a_sync(
            vendor,
            max_rows=1,
            slots=parallel or 0,
            form={"max_parallel_requests": 1} if parallel else {},
        )
        open_jobs: list[int] = []
        sync.on_request = lambda _, v=vendor, seen=open_jobs: seen.append(  # type: ignore[misc]
            sum(not job.is_over for job in v.jobs)
        )
        sync.run()
        assert sync.error is None
        most[parallel] = max(open_jobs)
    assert most[1] == 1
    assert most[None] > 2


def test_a_newer_version_waits_for_the_job_of_its_key() -> None:
    """Jobs end in no certain order, so two with one key are never under way together."""
    versions = [{**ROWS[0], "amount": i, "version": i} for i in range(3)]
    script = [part for row in versions for part in (records([row]), 1.0)]
    vendor = JobVendor(is_keyed=True)
    seen: list[int] = []
    sync = a_sync(
        vendor,
        "append_dedup",
        script=[*script, complete()],
        form={"upsert": {"upsert_type": "insert"}},
        max_rows=1,
    )
    sync.on_request = lambda _: seen.append(sum(not job.is_over for job in vendor.jobs))
    sync.run()
    assert sync.error is None
    assert max(seen) == 1
    assert [row["amount"] for row in vendor.stored] == [2]


def test_a_load_is_done_when_its_jobs_are() -> None:
    """The table is counted after the last of them."""
    vendor = JobVendor()
    vendor.stored = [{**ROWS[0], "id": "old"}]
    sync = a_sync(vendor, "overwrite", form={"replace": EMPTY, **COUNT}).run()
    assert sync.error is None
    assert ids(vendor.stored) == ids(ROWS)


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_the_rows_that_a_job_names_are_rejected(mode: SyncMode) -> None:
    """By their numbers, with the API's reason; the others are delivered, each counted right."""
    vendor = JobVendor()
    sync = a_sync(vendor, mode, script=bad(1, 6), form={"replace": EMPTY, **COUNT}).run()
    assert sync.error is None
    assert sync.rejected_ids == ["r1", "r6"]
    assert {row.reason for row in sync.rejects.rows} == {"no name"}
    assert sync.counts == (8, 6, 2)
    assert ids(vendor.stored) == ["r0", "r2", "r3", "r4", "r5", "r7"]
    if mode == "append":
        stats = [found["destinationStats"] for found in sync.states]
        assert [(s["recordCount"], s["rejectedRecordCount"]) for s in stats] == [(3, 1), (3, 1)]


# --- a job that failed


def test_a_failed_job_is_a_refusal() -> None:
    """Under fail the sync ends with what the API says, without a row's values."""
    vendor = JobVendor(fates=("whole",))
    sync = a_sync(vendor, script=bad(2), policy="fail").run()
    assert isinstance(sync.error, ConfigError)
    assert "refused 4 rows of table deals (job_failed)" in sync.error.message
    assert "r2" not in sync.error.message
    assert sync.acknowledged == []


def test_the_good_rows_of_a_failed_job_are_sent_again() -> None:
    """Without those it names, where the form says that it stores none; each ends up once."""
    vendor = JobVendor(fates=("whole",))
    sync = a_sync(vendor, script=bad(2), form={"refusals_store_nothing": True}).run()
    assert sync.error is None
    assert sync.rejected_ids == ["r2"]
    assert ids(vendor.stored) == ids([row for row in ROWS if row["id"] != "r2"])
    assert sync.acknowledged == [4, 8]


def test_a_failed_job_that_names_no_row_is_taken_apart() -> None:
    """By halves, until the bad row stands alone."""
    vendor = JobVendor(fates=("whole",))
    form: dict[str, Any] = {
        "refusals_store_nothing": True,
        "errors_path": None,
        "error_index_member": None,
    }
    form["error_message_member"] = None
    sync = a_sync(vendor, script=bad(2), form=form).run()
    assert sync.error is None
    assert sync.rejected_ids == ["r2"]
    assert ids(vendor.stored) == ids([row for row in ROWS if row["id"] != "r2"])


def test_many_failed_jobs_of_one_request_are_no_lost_ones() -> None:
    """Each tells what became of its rows, so a request is taken apart however many there are."""
    vendor = JobVendor(fates=("whole",))
    form = {"refusals_store_nothing": True, **dict.fromkeys(ERRORS)}
    sync = a_sync(vendor, script=bad(0, 3, 5), form=form, max_rows=8).run()
    assert sync.error is None
    assert sync.rejected_ids == ["r0", "r3", "r5"]
    assert ids(vendor.stored) == ["r1", "r2", "r4", "r6", "r7"]


def test_a_lost_answer_before_a_failed_job_is_one_attempt() -> None:
    """However many rows it was about: what is left of them may end without an answer again."""
    vendor = JobVendor(fates=("whole",), is_keyed=True)
    form = {
        "refusals_store_nothing": True,
        "on_ambiguous_write": "retry",
        **dict.fromkeys(ERRORS),
    }
    lost = dict.fromkeys((1, 5), apply_then_status(502))
    sync = a_sync(vendor, script=bad(2), form=form, max_rows=8, slots=1, faults=lost).run()
    assert [sync.transport.sent[i - 1].request.method for i in (1, 2, 5)] == ["POST"] * 3
    assert (sync.error, sync.rejected_ids) == (None, ["r2"])
    assert ids(vendor.stored) == ids([row for row in ROWS if row["id"] != "r2"])


def test_what_a_lost_answers_job_stored_is_known_after_a_failed_one() -> None:
    """Its rows are refused as there already, in each part that the failed job is taken into."""
    vendor = JobVendor(fates=("done", "failed", "done"))
    vendor.says = lambda _: {"errors": [{"row": 0, "reason": "key exists"}]}
    form = {**ERRORS, "already_stored_texts": ["key exists"]}
    script = [records(ROWS[:4]), complete()]
    lost = {1: apply_then_status(502)}
    more: dict[str, Any] = {"form": {**form, "on_ambiguous_write": "retry"}, "faults": lost}
    sync = a_sync(vendor, script=script, slots=1, **more).run()
    assert len(vendor.jobs) == 4
    assert (sync.error, sync.counts) == (None, (4, 4, 0))


def test_rows_beside_one_that_ends_the_sync_are_not_settled() -> None:
    """Under fail nothing more of a job is counted once it has named a row."""
    sync = a_sync(JobVendor(), script=[bad(2)[0], complete()], policy="fail").run()
    assert isinstance(sync.error, ConfigError)
    assert sync.counts == (4, 0, 1)


@pytest.mark.parametrize(
    ("fates", "form", "doubled"),
    [
        (("failed", "done"), COUNT, False),
        (("half", "done"), {"repeat_is_safe": True}, False),
        (("half", "done"), {"on_ambiguous_write": "retry"}, True),
    ],
)
def test_what_a_failed_job_stored_is_looked_up(
    fates: tuple[str, ...],
    form: dict[str, Any],
    doubled: bool,  # noqa: FBT001 - a column of the table above
) -> None:
    """By a count, or it does not matter, or the user takes doubled rows."""
    vendor = JobVendor(fates=fates, is_keyed="repeat_is_safe" in form)
    sync = a_sync(vendor, form={"table_count_is_exact": True, **form}).run()
    assert sync.error is None
    assert set(ids(vendor.stored)) == set(ids(ROWS))
    assert (len(vendor.stored) > len(ROWS)) is doubled


def test_a_part_that_nothing_can_tell_ends_the_sync() -> None:
    """A failed job stored a half: neither lost nor sent again behind the user's back."""
    vendor = JobVendor(fates=("half", "done"))
    sync = a_sync(vendor, form=COUNT).run()
    assert sync.error is not None
    assert "could not tell" in sync.error.message
    assert sync.acknowledged == []


# --- a job that tells nothing


@pytest.mark.parametrize("fate", ["gone", "lost"])
def test_a_lost_job_is_a_lost_answer(fate: str) -> None:
    """Nobody knows whether its rows are in, so what is set for lost answers decides."""
    sync = a_sync(JobVendor(fates=(fate, "done"))).run()
    assert isinstance(sync.error, TransientError)
    assert "does not know the job" in sync.error.message
    assert "on_ambiguous_write" in sync.error.message
    vendor = JobVendor(fates=(fate, "done"), is_keyed=True)
    assert a_sync(vendor, form={"repeat_is_safe": True}).run().error is None
    assert ids(vendor.stored) == ids(ROWS)


@pytest.mark.parametrize("is_taken", [True, False])
def test_a_newer_version_waits_for_a_job_that_nobody_follows(
    is_taken: bool,  # noqa: FBT001
) -> None:
    """A lost job may still store what it was given, also where the row is refused by then."""
    vendor = JobVendor(fates=("gone", "done"), is_keyed=True)
    take = vendor.write

    def write(rows: list[Row]) -> HttpResponse:
        is_second = len(vendor.jobs) == 1 and rows[0]["version"] == 1
        return take(rows) if is_taken or not is_second else answer(400)

    vendor.write = write  # type: ignore[method-assign]  # an API that has changed its mind
    script = [records([ROWS[0]]), 45.0, records([{**ROWS[0], "version": 2}]), complete()]
    form = {"upsert": {"upsert_type": "insert"}, "repeat_is_safe": True}
    sync = a_sync(vendor, "append_dedup", script=script, form=form).run()
    posts = [sent.at for sent in sync.transport.sent if sent.request.method == "POST"]
    _, again, newer = posts
    assert (sync.error, vendor.stored[0]["version"]) == (None, 2)
    assert newer > again + 30


def test_a_count_that_holds_the_rows_of_a_lost_job_tells() -> None:
    """They are not sent again; rows that are not in may still be brought by that job."""
    vendor = JobVendor(fates=("lost", "done"))
    sync = a_sync(vendor, form=COUNT, slots=1).run()
    assert sync.error is None
    assert ids(vendor.stored) == ids(ROWS)
    vendor = JobVendor(fates=("done", "lost", "done"))
    sync = a_sync(vendor, script=bad(1), form=COUNT, slots=1).run()
    assert (sync.error, sync.counts) == (None, (8, 7, 1))  # a row that was rejected is not counted
    vendor = JobVendor(fates=("gone", "done"))
    sync = a_sync(vendor, form={**COUNT, "table_count_is_exact": True}, slots=1).run()
    assert isinstance(sync.error, TransientError)
    assert "could not tell" in sync.error.message


def test_jobs_that_get_lost_again_and_again_end_the_sync() -> None:
    """Also where a repeat is safe."""
    vendor = JobVendor(fates=("gone",), is_keyed=True)
    sync = a_sync(
        vendor, form={"repeat_is_safe": True}, max_rows=8, script=[records(ROWS), complete()]
    )
    sync.run()
    assert isinstance(sync.error, TransientError)
    assert "keep ending without telling" in sync.error.message
    assert len(vendor.jobs) == 6


@pytest.mark.parametrize("fate", ["endless", "strange"])
def test_a_job_that_does_not_end_ends_the_sync(fate: str, caplog: pytest.LogCaptureFixture) -> None:
    """After the time that is set; a status in neither list is no end, and is shown."""
    caplog.set_level("INFO")
    job = {**JOBS, "timeout_minutes": 2}
    sync = a_sync(JobVendor(fates=(fate,)), form={"job": job}).run()
    assert isinstance(sync.error, TransientError)
    assert "job.timeout_minutes" in sync.error.message
    assert "job.done" in sync.error.message
    assert 120 < sync.clock.elapsed < 180
    assert sync.acknowledged == []
    status = "running" if fate == "endless" else "zombie"
    assert [r.getMessage() for r in caplog.records].count(
        f"job_goes_on table=deals status={status}"
    ) == 1


@pytest.mark.parametrize("named", [[0], [0, 1]], ids=["one", "two by turns"])
def test_one_job_for_two_requests_proves_nothing(named: list[int]) -> None:
    """A path that leads to something else than the job would have every row taken for stored."""
    vendor = JobVendor(fates=("endless",))
    plain = vendor.write

    def write(rows: list[Row]) -> HttpResponse:
        plain(rows)
        return answer(202, {"job": {"id": f"j{named[len(vendor.jobs) % len(named)]}"}})

    vendor.write = write  # type: ignore[method-assign]  # an API with one queue
    sync = a_sync(vendor, max_rows=2).run()
    assert isinstance(sync.error, UnaccountedRows)
    assert "the same job for two requests" in sync.error.message
    assert "job.id" in sync.error.message


# --- one answer


def accepted(response: HttpResponse, **job: Any) -> str:
    """The job that an answer names."""
    receipt = write(made(job={**JOBS, **job}), response).receipt
    assert receipt is not None
    assert (receipt.rows, receipt.resent) == (3, 0)
    return receipt.id


def asked(response: HttpResponse, *, age_s: float = 60.0, resent: int = 0, **form: Any) -> Any:
    """What the answer about a job of three rows means."""
    provider = made(**{"job": JOBS, **form})
    receipt = Receipt("7", 3, resent, block())
    return run(provider, provider.verify(Unverified(table(), (receipt,), 3, age_s)), response)


@pytest.mark.parametrize(
    ("named", "response", "job"),
    [
        ("job.id", answer(202, {"job": {"id": 7}}), "7"),
        ("id", answer(202, {"id": "a/b"}), "a/b"),
        ("header:Location", answer(201, b"", location="http://10.0.0.1/v1/jobs/7?f=json"), "7"),
        ("header:Location", answer(201, b"", location="/jobs/7/"), "7"),
        ("header:X-Job", answer(200, b"", x_job="7"), "7"),
    ],
)
def test_a_job_is_named_in_the_answer_or_a_header(
    named: str, response: HttpResponse, job: str
) -> None:
    """As a number, a text, or the last step of an address, which may be another's."""
    assert accepted(response, id=named) == job


@pytest.mark.parametrize(
    "response",
    [
        answer(202, {}),
        answer(202, {"job": {"id": ""}}),
        answer(202, {"job": {"id": None}}),
        answer(202, {"job": {"id": True}}),
        answer(202, {"job": {"id": {}}}),
        answer(202, b""),
        answer(200, b"<html>", content_type="text/html"),
    ],
)
def test_an_answer_without_a_job_proves_nothing(response: HttpResponse) -> None:
    """Whatever its status."""
    with pytest.raises(Ambiguous):
        accepted(response)


def test_an_answer_that_tells_of_trouble_is_no_job() -> None:
    """Also with an id beside it."""
    with pytest.raises(Refused):
        accepted(answer(200, {"job": {"id": 7}, "success": False}))


@pytest.mark.parametrize(
    ("base_url", "location", "path"),
    [
        ("https://api.example.com", "https://api.example.com/jobs/7?full=1", "/jobs/7?full=1"),
        ("https://api.example.com", "/jobs/7", "/jobs/7"),
        ("https://api.example.com", "jobs/7", "/t/deals/jobs/7"),
        ("https://api.example.com/v1", "https://api.example.com/v1/jobs/7#x", "/jobs/7"),
    ],
)
def test_a_jobs_address_is_followed_below_the_apis(base_url: str, location: str, path: str) -> None:
    """Whole, from the root, or from where the request went."""
    job = {**JOBS, "id": "header:Location", "path": ""}
    provider = made(base_url=base_url, job=job)
    receipt = write(provider, answer(202, b"", location=location)).receipt
    assert receipt is not None
    flow = provider.verify(Unverified(table(), (receipt,), 3, 1.0))
    assert next(flow).path == path


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.example.com/jobs/7",
        "http://api.example.com/v1/jobs/7",
        "https://api.example.com:444/v1/jobs/7",
        "https://api.example.com@evil.example.com/v1/jobs/7",
        "//evil.example.com/v1/jobs/7",
        "https://api.example.com/v2/jobs/7",
        "../../../v2/jobs/7",
        "https://[/v1/jobs/7",
        "file:///v1/jobs/7",
    ],
)
def test_a_credential_goes_to_no_other_address(location: str) -> None:
    """An answer cannot send the connector elsewhere."""
    job = {**JOBS, "id": "header:Location", "path": ""}
    with pytest.raises(ConfigError, match="not below base_url"):
        write(
            made(base_url="https://api.example.com/v1", job=job),
            answer(202, b"", location=location),
        )


def test_a_jobs_id_stays_in_its_segment() -> None:
    """It comes from an answer."""
    provider = made(job=JOBS)
    flow = provider.verify(Unverified(table(), (Receipt("a/../b?c", 3, 0, block()),), 3, 1.0))
    request: HttpRequest = next(flow)
    assert request.path == "/jobs/a%2F..%2Fb%3Fc"
    assert request.method == "GET"


@pytest.mark.parametrize(
    ("status", "found"),
    [(202, None), (200, Outcome()), (303, Outcome()), (404, None)],
)
def test_the_http_status_may_tell_how_a_job_stands(status: int, found: Outcome | None) -> None:
    """Where no path to a status is given; a job that is not known yet is asked for again."""
    job = {**JOBS, "status": "", "done": "200,303", "failed": "500"}
    assert asked(answer(status, b""), age_s=1.0, job=job) == found
    failed = asked(answer(500, b"out of disk"), job=job).fate
    assert (failed.code, failed.reason) == ("job_500", "out of disk")


@pytest.mark.parametrize(
    "response",
    [
        answer(200, {"state": "running"}),
        answer(200, {}),
        answer(200, b"<html>done</html>"),
        answer(200, b"{"),
    ],
)
def test_a_job_goes_on_until_an_answer_says_otherwise(response: HttpResponse) -> None:
    """Nothing but a status that is listed ends it."""
    assert asked(response) is None


def test_the_last_answer_about_a_job_is_read_like_one_about_rows() -> None:
    """Its count has to be that of the rows, its errors and results are theirs."""
    done = {"state": "DONE", "n": 2, "errors": [{"row": 1, "reason": "bad"}]}
    fault = RowFault(1, "row_error", "bad")
    assert asked(answer(200, done), count_path="n", **ERRORS) == Outcome((fault,))
    assert isinstance(
        asked(answer(200, {**done, "n": 3}), count_path="n", **ERRORS).fate, Ambiguous
    )
    assert isinstance(asked(answer(200, {"state": "done"}), count_path="n").fate, Ambiguous)
    unread = asked(answer(200, {"state": "done", "failed": 1})).fate
    assert isinstance(unread, Refused)
    assert unread.partial
    results = {"state": "done", "r": [{"s": 201}, {"s": 429}, {"s": 201}]}
    form: dict[str, Any] = {"results_path": "r", "result_status_member": "s"}
    assert asked(answer(200, results), **form) == Outcome(again=(1,))


def test_rows_that_a_job_puts_off_are_sent_again() -> None:
    """A "try later" about a row is no fault of the row."""
    vendor = JobVendor()
    busy = iter([429, 201])
    vendor.says = lambda rows: {"r": [{"s": next(busy, 201)} for _ in rows]}
    form: dict[str, Any] = {"results_path": "r", "result_status_member": "s", "errors_path": None}
    form |= {"error_index_member": None, "error_message_member": None}
    sync = a_sync(vendor, form=form, slots=1).run()
    assert sync.error is None
    assert len(vendor.jobs) == 3
    assert sorted(len(job.rows) for job in vendor.jobs) == [1, 4, 4]


def test_texts_tell_what_a_failed_job_is_about() -> None:
    """A wrong setting ends the sync, too many rows are split; an echoed row decides nothing."""
    stop: dict[str, Any] = {"stop_texts": ["no such table"]}
    with pytest.raises(ConfigError, match="'no such table', one of stop_texts"):
        asked(answer(200, {"state": "failed", "why": "no such table"}), **stop)
    large = asked(answer(200, {"state": "failed", "why": "too many"}), too_large_texts=["too many"])
    assert isinstance(large.fate, TooLarge)
    echoed = asked(answer(200, {"state": "failed", "row": {"n": "a"}}), stop_texts=['"n": "a"'])
    assert echoed.fate.code == "job_failed"


def test_a_repeated_row_that_is_in_is_not_rejected() -> None:
    """As for an answer about rows: only where an earlier attempt may have stored it."""
    done = {"state": "done", "errors": [{"row": 1, "reason": "key exists"}]}
    form: dict[str, Any] = {**ERRORS, "already_stored_texts": ["key exists"]}
    assert asked(answer(200, done), resent=3, **form) == Outcome()
    assert len(asked(answer(200, done), **form).faults) == 1


# --- the form


@pytest.mark.parametrize(
    ("job", "more", "words"),
    [
        ({"path": "/jobs"}, {}, "provider.job.path lacks {job}"),
        ({"path": "jobs/{job}"}, {}, "provider.job.path must start with /"),
        ({"done": " "}, {}, "provider.job.done is empty"),
        ({"failed": "Done"}, {}, "provider.job.failed holds 'done'"),
        ({"status": ""}, {}, "provider.job.done must be statuses"),
        ({"timeout_minutes": 0}, {}, "job.timeout_minutes"),
        (
            {},
            {"replace": {"replace_type": "query", "query": "all=1", "requests": "first"}},
            "must be 'one'",
        ),
    ],
)
def test_a_form_that_cannot_work_is_refused(
    job: dict[str, Any], more: dict[str, Any], words: str
) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigError) as caught:
        made(job={**JOBS, **job}, **more)
    assert words in caught.value.message


def test_no_job_is_asked_for_where_none_is_described() -> None:
    """A 202 counts as before."""
    report = write(made(), answer(202, {"job": {"id": 7}}))
    assert (report.delivered, report.receipt) == (3, None)
    assert not made().traits.follows
    assert made(job={"job_type": "none"}).traits == made().traits


def test_rows_of_open_jobs_are_bounded() -> None:
    """Not more of them are kept than of queued rows, however quickly requests are answered."""
    vendor = JobVendor(fates=("endless",))
    wide = [{**row, "name": "x" * 6_000_000} for row in ROWS]
    form = {"job": {**JOBS, "timeout_minutes": 0.1}, "max_megabytes_per_request": 10}
    sync = a_sync(
        vendor, form=form, max_rows=1, max_bytes=10_000_000, script=[records([r]) for r in wide]
    )
    sync.run()
    assert isinstance(sync.error, TransientError)
    assert len(vendor.jobs) == 6
    assert json.dumps(sync.states) == "[]"
