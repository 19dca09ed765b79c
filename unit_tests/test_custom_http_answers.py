"""custom_http against answers it did not expect: none of them may pass for a success."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from destination_bulk_tables.dispositions import Accept, Renew, Retry, Stop, Throw
from destination_bulk_tables.errors import ConfigError, TransientError
from destination_bulk_tables.http import Ambiguous, HttpRequest, HttpResponse, Refused
from destination_bulk_tables.model import RowBlock
from destination_bulk_tables.outcomes import Context, Load, WriteReport
from destination_bulk_tables.transport import TransportError
from unit_tests.custom_forms import (
    COUNT,
    ROWS,
    Wire,
    answer,
    block,
    judged,
    made,
    run,
    sent_by,
    table,
    write,
)
from unit_tests.fakes import scripted

RESULTS = {"results_path": "results", "result_error_member": "error"}
STATUSES = {"results_path": "r", "result_status_member": "s"}
PAGE = b"<html><title>Sign in</title></html>"
EMPTY = {"replace_type": "empty_first", "requests": [{"method": "DELETE", "path": "/{table}"}]}
LOAD = Load(rows=3, n_bytes=100, requests=1)
BOM = b"\xef\xbb\xbf"


# --- one row


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"message":"please log in"}',
        b"false",
        b"0",
        b'"maintenance"',
        b"[]",
        b'{"results":null}',
        b'{"data":{"errors":["denied"]}}',
        b"null",
        b"",
    ],
)
@pytest.mark.parametrize("form", [RESULTS, {**STATUSES, "results_path": "results"}])
def test_an_answer_about_one_row_proves_nothing_without_a_result(
    form: dict[str, Any], body: bytes
) -> None:
    """A batch of one row is as common as any other, and no JSON will do for its result."""
    provider = made(**form)
    with pytest.raises(Ambiguous):
        run(provider, provider.write(table(), block(ROWS[0]), Context()), answer(200, body))


@pytest.mark.parametrize("body", [{"results": {"error": "x"}}, {"error": "x"}])
def test_a_bare_error_of_one_row_is_an_error(body: Any) -> None:
    """Whether it stands where the list would, or for the whole answer."""
    provider = made(**RESULTS)
    flow = provider.write(table(), block(ROWS[0]), Context())
    assert len(run(provider, flow, answer(200, body)).faults) == 1


def test_a_result_without_the_promised_status_proves_nothing() -> None:
    """It is neither stored nor bad."""
    with pytest.raises(Ambiguous, match="result_status_member"):
        write(made(**STATUSES), answer(200, {"r": [{"s": 200}, {}, {"s": 200}]}))


def test_a_status_in_digits_is_a_status() -> None:
    """Some APIs write numbers as texts."""
    assert write(made(**STATUSES), answer(200, {"r": [{"s": "201"}] * 3})).delivered == 3


@pytest.mark.parametrize(
    ("good", "body", "bad"),
    [("201", [{"s": 201}, {"s": 200}, {"s": 201}], [1]), ("OK, 204", [{"s": "OK"}] * 3, [])],
)
def test_the_statuses_of_stored_rows_are_the_users(
    good: str, body: list[Any], bad: list[int]
) -> None:
    """An API that answers 200 with the old row for a known id has not stored the new one."""
    provider = made(**STATUSES, result_success_statuses=good)
    report = write(provider, answer(200, {"r": body}))
    assert [fault.position for fault in report.faults] == bad


# --- pages


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (PAGE, {"content-type": "text/html; charset=utf-8"}),
        (b"please log in", {"content-type": "text/html"}),
        (b'\n<?xml version="1.0"?><e/>', {}),
        (BOM + PAGE, {"content-type": "application/json"}),
    ],
)
@pytest.mark.parametrize("form", [{}, {"errors_path": "errors"}, {"count_path": "n"}])
def test_a_page_is_no_delivered_batch(
    form: dict[str, Any], body: bytes, headers: dict[str, str]
) -> None:
    """A login, a proxy or a maintenance answers 200 as well."""
    with pytest.raises(Ambiguous, match="page of HTML or XML"):
        write(made(**form), answer(200, body, **headers))


def test_an_api_that_answers_in_pages_says_how_a_good_one_looks() -> None:
    """With a text to look for, a page is as good as any other answer, and without it none."""
    provider = made(success_text="<ok/>")
    assert write(provider, answer(200, b"<a> <ok/> </a>")) == WriteReport(delivered=3)
    with pytest.raises(Ambiguous, match="success_text"):
        write(provider, answer(200, b'{"ok": true}'))


def test_a_page_is_neither_a_check_nor_an_emptied_table_nor_a_count() -> None:
    """Each names its setting."""
    provider = made(replace=EMPTY, **COUNT)
    page = answer(200, PAGE)
    with pytest.raises(ConfigError, match="check_path with a page"):
        run(provider, provider.check([]), page)
    with pytest.raises(TransientError, match=r"replace.requests of table deals with a page"):
        run(provider, provider.replace_begin(table(), LOAD), page)
    with pytest.raises(ConfigError, match="table_count_value"):
        run(provider, provider.prepare(table()), page)
    run(provider, provider.prepare(table()), answer(200, {"n": 1}))
    with pytest.raises(TransientError, match="table_count_path of table deals with a page"):
        run(provider, provider.prepare(table()), page)


def test_trouble_is_neither_a_check_nor_an_emptied_table() -> None:
    """Where no text says how a good answer looks; what a list of things holds is theirs."""
    provider = made(replace=EMPTY)
    trouble = answer(200, {"success": False})
    with pytest.raises(ConfigError, match=r"check_path with 'success'"):
        run(provider, provider.check([]), trouble)
    run(provider, provider.check([]), answer(200, [{"id": 1, "state": "failed"}]))
    with pytest.raises(ConfigError, match=r"http_200 with 'success'"):
        run(provider, provider.replace_begin(table(), LOAD), trouble)


# --- trouble that no setting reads


@pytest.mark.parametrize(
    "body",
    [
        {"errors": ["row 3"]},
        {"inserted": 3, "failed": 1},
        {"FailedRecordCount": 2, "x": 1},
        {"insertErrors": [{"index": 1}]},
        {"error": "not stored"},
        {"error_message": "no"},
        {"success": False},
        {"ok": False},
        {"status": "error"},
        {"UnprocessedItems": {"t": [{}, {"a": 1}]}},
        [{"id": 1}, {"id": 2, "error": "conflict"}],
        {"results": [{"ok": 1}, {"error": "conflict"}]},
        {"rejected": 1},
    ],
)
def test_trouble_that_no_setting_reads_is_no_success(body: Any) -> None:
    """A form that does not mention the errors must not turn them into delivered rows."""
    with pytest.raises(Refused, match="unread_errors") as caught:
        write(made(), answer(200, body))
    assert caught.value.partial
    assert "no setting reads" in caught.value.reason


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"Ok.",
        {"errors": []},
        {"errors": {}, "error": None, "failed": 0, "invalid": False},
        {"failed": {"count": 0, "rows": []}},
        {"success": True, "status": "ok"},
        {"failover": "eu-2"},
        [{"id": 1, "n": "error"}, {"id": 2, "n": "failed"}],
        b'"errors": [',
    ],
)
def test_an_answer_that_only_looks_like_trouble_is_a_success(body: Any) -> None:
    """An empty list of errors, a word in a value, a text that is no JSON."""
    assert write(made(), answer(200, body)).delivered == 3


def test_rows_that_come_back_are_no_trouble() -> None:
    """A column may be called `errors`; what else came along may not."""
    columns: dict[str, Any] = {"columns": ("id", "errors")}
    rows = [{"id": 1, "errors": "x"}] * 3
    provider = made()
    for body in (rows, {"data": rows}):
        flow = provider.write(table(**columns), block(), Context())
        assert run(provider, flow, answer(201, body)).delivered == 3
    one = provider.write(table(**columns), block(ROWS[0]), Context())
    assert run(provider, one, answer(201, rows[0])).delivered == 1
    again = provider.write(table(**columns), block(), Context())
    with pytest.raises(Refused):
        run(provider, again, answer(201, {"errors": ["x"]}))


def test_results_that_a_setting_judges_are_left_to_it() -> None:
    """What else a good result holds is the API's."""
    form = {"results_path": "items", "result_status_member": "s"}
    body = {"items": [{"s": 201, "failed": 1}] * 3, "errors": False}
    assert write(made(**form), answer(200, body)).delivered == 3
    with pytest.raises(Refused, match="unread_errors"):
        write(made(**form), answer(200, body | {"errors": True}))


def test_a_delivery_that_only_a_status_proves_is_said_once() -> None:
    """Whoever reads the log knows what a delivered row means."""
    (warning,) = made().warnings(table())
    assert warning.startswith("delivery_proven_by_status_only table=deals")
    for form in (RESULTS, {"count_path": "n"}, {"errors_path": "e"}, {"success_text": "ok"}):
        assert made(**form).warnings(table()) == []


# --- statuses of single rows


def put_off(*found: int) -> HttpResponse:
    return answer(200, {"r": [{"s": status} for status in found]})


@pytest.mark.parametrize("status", [429, 503])
def test_rows_that_are_put_off_are_sent_again(status: int) -> None:
    """A row with the status of a retry is not bad; the others are in and are not repeated."""
    wire = Wire(made(**STATUSES), scripted(put_off(201, status, 400), put_off(201)))
    result = wire.deliver(3)
    assert wire.bodies == [[0, 1, 2], [1]]
    assert (result.delivered, [row.index for row in result.rejected]) == (2, [2])


def test_positions_of_rows_put_off_twice_are_those_of_the_batch() -> None:
    """A fault found at the second request is that of the row, not of its place there."""
    wire = Wire(made(**STATUSES), scripted(put_off(429, 201, 429), put_off(201, 400)))
    assert [row.index for row in wire.deliver(3).rejected] == [2]


@pytest.mark.parametrize("refusal", [answer(400), TransportError("maybe", "it broke")])
def test_what_becomes_of_rows_put_off_does_not_touch_those_that_are_in(refusal: Any) -> None:
    """A refused or lost second request is about its own rows: the others are never doubled."""
    stored: list[int] = []
    writes = iter([put_off(201, 201, 429), refusal])

    def answer_to(request: HttpRequest) -> HttpResponse:
        if request.method == "GET":
            return answer(200, {"n": len(stored)})
        ids = [row["id"] for row in json.loads(request.body or b"")["rows"]]
        found = next(writes, put_off(201))
        if isinstance(found, Exception):
            raise found
        judged_so = json.loads(found.body or b"{}").get("r", ())
        stored.extend(i for i, one in zip(ids, judged_so, strict=False) if one["s"] == 201)
        return found

    provider = made(**STATUSES, **COUNT)
    wire = Wire(provider, answer_to)
    result = wire.deliver(3, stored=wire.sender.exchange.run(table(), provider.prepare(table())))
    assert result.error is None
    assert stored[:2] == [0, 1]
    assert len(stored) == len(set(stored)) == result.delivered
    assert result.delivered + len(result.rejected) == 3


def test_a_request_of_which_each_row_is_put_off_waits_like_any_rate_limit() -> None:
    """Nothing is in, so the whole request is tried again after a pause."""
    assert judged(made(**STATUSES), put_off(429, 429, 503)) == Retry(applied="no", pause=True)
    again = judged(made(**STATUSES), put_off(500, 429, 503))
    assert again == Retry(applied="maybe", pause=True)


def test_a_gateways_word_about_one_row_needs_rows_that_may_be_repeated() -> None:
    """A 504 for a row of an insert: nobody knows."""
    with pytest.raises(Refused) as caught:
        write(made(**STATUSES), put_off(201, 504, 201))
    assert caught.value.partial
    keyed = made(**STATUSES, repeat_is_safe=True)
    assert write(keyed, put_off(201, 504, 201)) == WriteReport(delivered=2, again=(1,))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_denied_row_ends_the_sync(status: int) -> None:
    """A wrong password is no bad row, though it is said of each row."""
    found = judged(made(**STATUSES), put_off(status, status, status))
    assert isinstance(found, Stop)
    assert isinstance(found.error, ConfigError)
    assert f"and {status} for a row" in found.error.message
    listed = made(**STATUSES, refused_statuses=f"400,{status}")
    assert isinstance(judged(listed, put_off(201, status, 201)), Accept)


def test_a_rate_limit_inside_a_refusal_is_no_bad_row() -> None:
    """A batch refused for the limit of one part is tried again, not taken apart."""
    form = {"errors_path": "e", "result_status_member": "s", "refusals_store_nothing": True}
    refusal = answer(400, {"e": {"1": {"s": 429}}})
    assert judged(made(**form), refusal) == Retry(applied="no", pause=True)
    partly = made(**form | {"refusals_store_nothing": False})
    assert judged(partly, refusal) == Retry(applied="maybe", pause=True)
    bad = answer(400, {"e": {"1": {"s": 400}}})
    assert isinstance(judged(made(**form), bad), Throw)
    whole = made(**STATUSES, refusals_store_nothing=True)
    assert judged(whole, put_off(424, 429, 424)) == Retry(applied="no", pause=True)


# --- what worked before


@pytest.mark.parametrize("status", [404, 405, 410])
def test_a_path_that_worked_before_is_tried_again(status: int) -> None:
    """A server that starts answers so; only a first answer is about the setting."""
    provider = made()
    request = sent_by(provider)
    assert isinstance(provider.classify(request, answer(status)), Stop)
    provider.classify(request, answer(201))
    assert provider.classify(request, answer(status)) == Retry(applied="no")
    other = sent_by(provider, table("orders"))
    assert isinstance(provider.classify(other, answer(status)), Stop)


def test_a_credential_that_worked_before_is_no_wrong_setting() -> None:
    """The sync ends, and the platform may try again."""
    provider = made()
    request = sent_by(provider)
    provider.classify(request, answer(201))
    for status, kind in ((401, Renew), (403, Stop)):
        found = provider.classify(request, answer(status))
        assert isinstance(found, kind)
        assert isinstance(found.error, TransientError)


# --- texts


@pytest.mark.parametrize(
    "setting", ["stop_texts", "rate_limit_texts", "too_large_texts", "refused_texts"]
)
def test_a_text_that_an_answer_repeats_from_a_row_decides_nothing(setting: str) -> None:
    """A row may say "no such table", and a refusal may quote it."""
    provider = made(**{setting: ["no such table"]}, refused_statuses="400")
    row = b'{"id":1,"n":"user saw: no such table"}'
    request = next(provider.write(table(), block(row), Context()))
    found = provider.classify(request, answer(400, {"error": "bad", "row": row.decode()}))
    assert isinstance(found, Throw)
    assert isinstance(found.error, Refused)
    plain = provider.classify(sent_by(provider), answer(500, b"no such table"))
    assert plain != provider.classify(sent_by(provider), answer(500, b"other"))


# --- an earlier attempt


CLASH = {
    "results_path": ".",
    "result_error_member": "error",
    "already_stored_texts": ["conflict"],
    "repeat_is_safe": True,
}
CLASHES = answer(201, [{"ok": 1}, {"error": "conflict"}, {"error": "conflict"}])


def test_rows_stored_before_are_counted_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A hiccup that turns conflicts into delivered rows leaves a trace."""
    with caplog.at_level(logging.WARNING):
        assert write(made(**CLASH), CLASHES, repeated=True).delivered == 3
    assert "stored_before table=deals rows=2" in caplog.text


@pytest.mark.parametrize(
    ("total", "delivered"), [(13, 3), (11, 1), (12, 3)], ids=["ours", "older", "partly"]
)
def test_a_count_tells_old_rows_from_our_own(total: int, delivered: int) -> None:
    """Where the table did not grow by them, the old rows are still there and the new rejected."""
    provider = made(**CLASH, **COUNT)
    run(provider, provider.prepare(table()), answer(200, {"n": 4}))
    context = Context(stored=10, repeated=True)
    flow = provider.write(table(), block(), context)
    report = run(provider, flow, CLASHES, answer(200, {"n": total}))
    assert report.delivered == delivered
    assert [f.position for f in report.faults] == ([] if delivered == 3 else [1, 2])


def test_a_count_that_stood_still_cannot_say_that_nothing_was_stored() -> None:
    """An estimate or a replica does so as well; it has to move with a delivered write first."""
    provider = made(**COUNT)
    run(provider, provider.prepare(table()), answer(200, {"n": 10}))
    for stored, told in ((10, None), (12, set())):
        flow = provider.stored_rows(table(), [block()], Context(stored=stored))
        assert run(provider, flow, answer(200, {"n": stored})).stored == told
    flow = provider.stored_rows(table(), [block()], Context(stored=10))
    assert run(provider, flow, answer(200, {"n": 13})).stored == {0, 1, 2}


def test_an_exact_count_that_stands_still_says_that_nothing_was_stored() -> None:
    """Also before a row of this sync is in, so that a bad row of the first batch is found."""
    provider = made(table_count_is_exact=True, **COUNT)
    run(provider, provider.prepare(table()), answer(200, {"n": 10}))
    flow = provider.stored_rows(table(), [block()], Context(stored=10))
    assert run(provider, flow, answer(200, {"n": 10})).stored == set()


class Estimating:
    """A table whose count stands still, and whose first answer is lost."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method == "GET":
            return answer(200, {"n": 0})
        self.rows += [row["id"] for row in json.loads(request.body or b"")["rows"]]
        return answer(504 if len(self.rows) < 4 else 201)


def test_a_lost_first_answer_is_not_repeated_for_an_estimate() -> None:
    """The rows are in once, and the sync ends and says why."""
    api = Estimating()
    provider = made(**COUNT)
    run(provider, provider.prepare(table()), answer(200, {"n": 0}))
    result = Wire(provider, api).deliver(3, stored=0)
    assert isinstance(result.error, TransientError)
    assert api.rows == [0, 1, 2]


# --- what HTTP and JSON allow


def test_a_byte_order_mark_before_json_is_read_past() -> None:
    """In a result as in a count."""
    provider = made(count_path="n", **COUNT)
    assert write(provider, answer(200, BOM + b'{"n": 3}')).delivered == 3
    assert run(provider, provider.prepare(table()), answer(200, BOM + b'{"n": 7}')) == 7
    assert answer(200, BOM + b"[1]").decode(list[int]) == [1]


def test_json_too_deep_to_read_is_no_answer() -> None:
    """Neither a count nor a result, and no crash."""
    deep = answer(200, b"[" * 100_000)
    provider = made(count_path="n", **COUNT)
    with pytest.raises(Ambiguous):
        write(provider, deep)
    with pytest.raises(ConfigError, match="table_count_value"):
        run(provider, provider.prepare(table()), deep)
    with pytest.raises(Ambiguous):
        deep.decode(list[Any])


@pytest.mark.parametrize("field", ["success_statuses", "retry_statuses", "refused_statuses"])
@pytest.mark.parametrize("statuses", ["103", "100-299"])
def test_what_comes_before_an_answer_is_none(field: str, statuses: str) -> None:
    """A 1xx says nothing about a request, so no list of statuses may hold it."""
    with pytest.raises(ConfigError, match=f"provider.{field} must be statuses and ranges from 200"):
        made(**{field: statuses})


@pytest.mark.parametrize("more", [{"name": "\0rows"}, {"columns": ("id", "\0r")}])
def test_a_name_with_a_null_character_is_refused(more: dict[str, Any]) -> None:
    """It would look like the marks that templates are cut at."""
    with pytest.raises(ConfigError, match=r"U\+0000"):
        made().validate(table(**more))


# --- what the messages say


def test_a_failed_emptying_says_what_the_api_said() -> None:
    """The request holds no row, so its answer may be shown."""
    for response, text in (
        (answer(400, b"invalid command name: []"), "http_400: invalid command name"),
        (answer(200, b"false"), "http_200 without success_text: false"),
    ):
        provider = made(replace=EMPTY | {"success_text": "true"})
        with pytest.raises(ConfigError) as caught:
            run(provider, provider.replace_begin(table(), LOAD), response)
        assert text in caught.value.message


def test_a_total_that_disagrees_may_be_an_estimate() -> None:
    """Each attempt of a replace would end the same, so the message names the count."""
    provider = made(replace=EMPTY, **COUNT)
    plan = run(provider, provider.replace_begin(table(), LOAD), answer(), answer(200, {"n": 0}))
    with pytest.raises(TransientError, match="table_count_path gives a number that lags"):
        run(provider, provider.replace_end(table(), plan, 3), answer(200, {"n": 0}))


def test_a_lost_answer_names_the_settings_that_would_have_helped() -> None:
    """A path to a count, or the word that a repeat does no harm."""
    result = Wire(made(), lambda _: answer(500)).deliver(3)
    assert isinstance(result.error, TransientError)
    assert "table_count_path" in result.error.message
    assert "repeat_is_safe" in result.error.message


def test_an_empty_reason_is_none() -> None:
    """The whole error is shown where the member that should tell is empty."""
    form = {"errors_path": "e", "error_message_member": "data"}
    body = {"e": {"0": {"data": {}, "message": "Too Many Requests."}}}
    (fault,) = write(made(**form), answer(200, body)).faults
    assert "Too Many Requests." in fault.reason


def test_a_block_without_rows_is_a_request_too() -> None:
    """A replace of a table by nothing is judged like any other."""
    provider = made(replace={"replace_type": "query", "query": "all=true"})
    flow = provider.write(table(), RowBlock((), 0, range(0)), Context())
    assert run(provider, flow, answer(200, {"errors": []})).delivered == 0
