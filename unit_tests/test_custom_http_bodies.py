"""custom_http: the bodies that other APIs want, compared with what their documentation shows."""

from __future__ import annotations

import gzip
import json
import os
from typing import Any

import pytest

from destination_bulk_tables.dispositions import Stop, Throw
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import HttpRequest, HttpResponse
from destination_bulk_tables.model import Batch, BatchResult, Epoch, JsonObject, RowBlock, Table
from destination_bulk_tables.outcomes import Context, Load, ReplacePlan
from destination_bulk_tables.passage import Delivery
from destination_bulk_tables.preview import rehearse
from destination_bulk_tables.preview_report import as_json
from destination_bulk_tables.providers.custom_http import CustomHttp
from destination_bulk_tables.providers.custom_http.batch_keys import BatchKeys
from unit_tests.custom_forms import (
    COUNT,
    LEAST,
    ROWS,
    Wire,
    answer,
    block,
    dedup,
    judged,
    made,
    run,
    sent_by,
    table,
)
from unit_tests.custom_vendor import CustomVendor
from unit_tests.fakes import FakeClock
from unit_tests.syncs import Sync, SyncMode, catalog_of, complete, records
from unit_tests.vendors import Row


def lines(**body: Any) -> dict[str, Any]:
    return {"body": {"body_type": "lines", **body}}


def test_a_bulk_body_is_that_of_elasticsearchs_page() -> None:
    """An action line and a source line per row, the last with a line end.

    Source: https://www.elastic.co/guide/en/elasticsearch/reference/7.8/docs-bulk.html (read
    2026-11-28): the example's index and create actions, the final line end, the content type
    """
    action = '{"index": {"_index": "{table}", "_id": "{key}"}}'
    provider = made(
        write_path="/_bulk?t={table}",
        **lines(line_before='{"create": {"_index": "{table}"}}'),
        upsert={"upsert_type": "request", "line_before": action},
        results_path="items",
        result_status_member="index.status",
    )
    row = b'{"field1":"value1","id":"1"}'
    assert sent_by(provider).content_type == "application/x-ndjson"
    upsert = next(provider.write(dedup(), block(row), Context()))
    assert upsert.body == b'{"index":{"_index":"deals","_id":"1"}}\n' + row + b"\n"
    insert = next(provider.write(table(), block(row, row), Context()))
    assert insert.body == (b'{"create":{"_index":"deals"}}\n' + row + b"\n") * 2
    body = {"took": 1, "errors": False, "items": [{"index": {"status": 201}}]}
    flow = provider.write(dedup(), block(row), Context())
    assert run(provider, flow, answer(200, body)).delivered == 1


@pytest.mark.parametrize(
    ("template", "body"),
    [
        (
            '{"jsonrpc": "2.0", "id": 1, "method": "add", "params": ["{table}", "{rows}"]}',
            b'{"jsonrpc":"2.0","id":1,"method":"add","params":["deals",[%b]]}',
        ),
        ('{"RequestItems": {"{table}": "{rows}"}}', b'{"RequestItems":{"deals":[%b]}}'),
        (
            '{"query": "mutation { add }", "variables": {"r": "{rows}"}, "n": "{table}"}',
            b'{"query":"mutation { add }","variables":{"r":[%b]},"n":"deals"}',
        ),
    ],
    ids=["JSON-RPC", "a table as a member", "GraphQL"],
)
def test_the_rows_stand_anywhere_in_a_body_template(template: str, body: bytes) -> None:
    """Below lists, under the table's name, among variables."""
    provider = made(write_path="/rpc", body={"body_type": "template", "body_template": template})
    request = sent_by(provider)
    assert request.body == body % b",".join(ROWS)
    assert provider.body_size(table()) + len(b",".join(ROWS)) == len(request.body)


@pytest.mark.parametrize(
    ("template", "first"),
    [
        ('"{row_values}"', b'[1,"a"]'),
        ('{"Data": "{row_base64}"}', b'{"Data":"eyJpZCI6MSwibiI6ImEifQ=="}'),
        (
            '{"Id": "{row_number}", "MessageBody": "{row_text}"}',
            b'{"Id":"0","MessageBody":"{\\"id\\":1,\\"n\\":\\"a\\"}"}',
        ),
        ('{"id": "r{row_number}", "body": "{row}"}', b'{"id":"r0","body":{"id":1,"n":"a"}}'),
    ],
)
def test_a_row_may_be_a_list_or_a_text(template: str, first: bytes) -> None:
    """As queues and sheets want it; the number is that in the request."""
    request = sent_by(made(row_template=template))
    assert (request.body or b"").startswith(b'{"rows":[' + first + b",")


def test_a_key_stands_in_the_path_of_each_row() -> None:
    """Encoded for a path inside a text, as it is where it is one of its own."""
    upsert = {
        "upsert_type": "request",
        "row_template": '{"path": "/b/{table}/{key}", "id": "{key}", "body": "{row}"}',
    }
    provider = made(upsert=upsert)
    row = b'{"id":"a/b \\u00e9","n":1}'
    body = json.loads(next(provider.write(dedup(), block(row), Context())).body or b"")
    (one,) = body["rows"]
    assert (one["path"], one["id"]) == ("/b/deals/a%2Fb%20%C3%A9", "a/b é")
    with pytest.raises(ConfigError, match="exactly one primary key column"):
        provider.validate(table(mode="dedup", key_columns=("id", "n")))


def test_any_column_stands_in_a_template() -> None:
    """As the value it is, or encoded for a path inside a text; whatever the column is called."""
    template = '{"url": "/u/{column:account id}?n={column:n}", "n": "{column:n}", "b": "{row}"}'
    provider = made(row_template=template)
    where = table(columns=("account id", "n"))
    row = b'{"account id":"a/b","n":12.50}'
    request = next(provider.write(where, block(row), Context()))
    wrapped = b'{"url":"/u/a%2Fb?n=12.50","n":12.50,"b":' + row + b"}"
    assert request.body == b'{"rows":[' + wrapped + b"]}"
    with pytest.raises(ConfigError, match="table deals gets no such column"):
        provider.validate(table(columns=("id", "account id")))


def test_a_row_without_a_value_that_a_path_needs_is_not_sent() -> None:
    """Nothing, or dots, would be another address; the others go without it."""
    rows = [b'{"id":%b,"n":1}' % id_ for id_ in (b'"a"', b"null", b'""', b'".."', b'"b"')]
    provider = made(row_template='{"path": "/b/{column:id}", "body": "{row}"}')
    report = run(provider, provider.write(table(), block(*rows), Context()))
    assert [fault.position for fault in report.faults] == [1, 2, 3]
    assert {fault.code for fault in report.faults} == {"no_value"}
    assert report.again == (0, 4)
    fit = block(*[rows[i] for i in report.again])
    request = next(provider.write(table(), fit, Context()))
    paths = [row["path"] for row in json.loads(request.body or b"")["rows"]]
    assert paths == ["/b/a", "/b/b"]


def test_a_refusal_names_rows_of_the_request_that_left() -> None:
    """Rows without a value stood before them in the batch, and moved no other row's place."""
    provider = made(
        row_template='{"path": "/b/{column:n}", "body": "{row}"}',
        errors_path="e",
        error_index_member="row",
        refusals_store_nothing=True,
    )

    def answer_to(request: HttpRequest) -> HttpResponse:
        ids = [row["body"]["id"] for row in json.loads(request.body or b"")["rows"]]
        bad = [{"row": at} for at, found in enumerate(ids) if found >= 90]
        return answer(400 if bad else 201, {"e": bad})

    wire = Wire(provider, answer_to)

    def deliver(first: bytes, bad: int) -> BatchResult:
        ids = [(1, first), (2, b'"b"'), (bad, b'"c"'), (3, b'"d"')]
        rows = block(*[b'{"id":%d,"n":%b}' % found for found in ids])
        return wire.sender.deliver(Delivery(Batch(1, table(), rows, "end", [(Epoch(4), 4)])))

    deliver(b'"a"', 90)  # shows that its numbers are those of rows
    result = deliver(b"null", 91)
    assert [(row.code, row.index) for row in result.rejected] == [("no_value", 0), ("row_error", 2)]


def preview_of(**form: Any) -> Any:
    """What a preview shows of a stream of one record."""
    config: JsonObject = {"provider": LEAST | form, "rejected_records": {"policy": "skip"}}
    stdin, source = os.pipe()
    record = {"stream": "deals", "data": {"id": "a", "name": "b"}, "emitted_at": 1}
    os.write(source, json.dumps({"type": "RECORD", "record": record}).encode() + b"\n")
    os.close(source)
    found = rehearse(config, catalog_of("append"), stdin, FakeClock(), rows=None, reads=False)
    os.close(stdin)
    shown: Any = as_json(found, 0.0)
    (stream,) = shown["streams"]
    return stream


def test_a_preview_counts_rows_that_cannot_be_sent() -> None:
    """No request says so: a batch may hold no other row."""
    stream = preview_of(row_template='{"p": "/b/{column:amount}", "r": "{row}"}')
    assert (stream["rows_to_send"], stream["rows_rejected"], stream["requests"]) == (0, 1, 0)


def test_a_preview_shows_a_compressed_body_as_it_was() -> None:
    """What is sent is for the API to read; how large it is says the report."""
    plain, packed = preview_of(), preview_of(request_compression="gzip")
    assert packed["first_request"]["body"] == plain["first_request"]["body"]
    assert packed["first_request"]["body_bytes"] != plain["first_request"]["body_bytes"]


def test_a_request_of_one_row_has_its_key_in_the_path() -> None:
    """`PUT /things/{key}`, as most APIs of single objects want an upsert."""
    form = {
        "body": {"body_type": "lines"},
        "write_path": "/{table}?owner={column:n}",
        "upsert": {"upsert_type": "request", "method": "PUT", "path": "/{table}/{key}"},
    }
    provider = made(max_rows_per_request=1, **form)
    row = b'{"id":"a/b c","n":"x&y"}'
    assert next(provider.write(dedup(), block(row), Context())).path == "/deals/a%2Fb%20c"
    assert next(provider.write(table(), block(row), Context())).path == "/deals?owner=x%26y"
    report = run(provider, provider.write(dedup(), block(b'{"id":"..","n":1}'), Context()))
    assert report.faults[0].code == "no_value"
    with pytest.raises(ConfigError, match=r"max_rows_per_request must be 1: upsert\.path holds"):
        made(**{**form, "write_path": "/{table}"})


@pytest.mark.parametrize(
    "body",
    [
        {"body_type": "object", "extra_body": '{"batch": {"id": "{idempotency_key}"}, "n": 1}'},
        {"body_type": "template", "body_template": '{"id": "{idempotency_key}", "r": "{rows}"}'},
        {"body_type": "template", "body_template": '{"r": "{rows}", "id": "b-{idempotency_key}"}'},
    ],
)
def test_an_idempotency_key_may_be_a_member_of_the_body(body: dict[str, Any]) -> None:
    """It is that of the rows, the same at each attempt, and the request may be repeated."""
    made_so = [made(body=body) for _ in range(2)]
    first, again = (sent_by(provider, table(job="7")) for provider in made_so)
    assert first.body == again.body
    found = json.loads(first.body or b"")
    key = found["batch"]["id"] if "batch" in found else found["id"].removeprefix("b-")
    assert len(key) == 36
    assert first.repeat == "safe"
    rows = b",".join(ROWS)
    assert rows in (first.body or b"")
    assert made_so[0].body_size(table()) + len(rows) == len(first.body or b"")
    other = json.loads(next(made_so[0].write(table(), block(ROWS[0]), Context())).body or b"")
    assert other != found
    assert key not in json.dumps(other)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"row_template": '{"a": "{column:}", "b": "{row}"}'}, "holds {column:}, which is unknown"),
        ({"check_path": "/{column:id}"}, "check_path holds {column:id}, which is unknown"),
        ({"row_template": '{"a": "{key}", "b": "{row}"}'}, "row_template holds {key}"),
        ({"row_template": '{"a": "{row}", "b": "{row_text}"}'}, "exactly once"),
        (lines(line_before='{"a": "{row}"}'), "body.line_before holds {row}"),
        (
            {"body": {"body_type": "template", "body_template": '{"r": "x {rows}"}'}},
            'body.body_template needs "{rows}" exactly once',
        ),
        (COUNT | {"table_count_body": "{}"}, "table_count_body needs POST"),
        (COUNT | {"table_count_method": "HEAD"}, "table_count_value must be header:NAME"),
        ({"idempotency_header": "a b"}, "idempotency_header holds a header name"),
    ],
)
def test_a_template_that_cannot_work_is_an_error(form: dict[str, Any], message: str) -> None:
    """It names the field, before anything is sent."""
    with pytest.raises(ConfigError) as caught:
        made(**form)
    assert message in caught.value.message


def test_an_insert_may_be_an_upsert_already() -> None:
    """Of an API that keeps rows by key; nothing of the request differs, and it may be repeated."""
    provider = made(upsert={"upsert_type": "insert"})
    provider.validate(dedup())
    upsert, insert = sent_by(provider, dedup()), sent_by(provider)
    assert (upsert.path, upsert.body, upsert.repeat) == (insert.path, insert.body, "safe")
    assert insert.repeat == "safe"


def test_a_body_may_be_compressed() -> None:
    """The same rows, and the header that says so; texts of rows are still told from answers."""
    provider = made(request_compression="gzip", stop_texts=["denied"])
    request = sent_by(provider)
    assert gzip.decompress(request.body or b"") == b'{"rows":[%b]}' % b",".join(ROWS)
    assert request.headers["Content-Encoding"] == "gzip"
    assert sent_by(provider).body == request.body
    row = b'{"id":1,"n":"denied"}'
    quoting = next(provider.write(table(), block(row), Context()))
    assert isinstance(provider.classify(quoting, answer(400, row)), Throw)
    assert isinstance(provider.classify(request, answer(400, row)), Stop)


@pytest.mark.parametrize(("way", "told"), [("gzip", True), ("none", False)])
def test_an_api_that_reads_no_compressed_body_is_told_by_its_status(way: str, told: bool) -> None:  # noqa: FBT001
    """The setting to change, where it is that."""
    found = judged(made(request_compression=way), answer(415))
    assert isinstance(found, Stop)
    assert ("request_compression" in str(found.error)) is told
    assert isinstance(found.error, ConfigError) is told


KEYED = {"idempotency_header": "Idempotency-Key"}


def key_of(provider: CustomHttp, where: Table, rows: RowBlock, **context: Any) -> str:
    """The key that a request carries."""
    return next(provider.write(where, rows, Context(**context))).headers["Idempotency-Key"]


def test_an_idempotency_key_is_that_of_a_batch() -> None:
    """The same when it is sent again, by a later attempt too; such a request may be repeated."""
    provider, later = made(**KEYED), made(**KEYED)
    where, rows = table(job="7"), block()
    key = key_of(provider, where, rows)
    assert key == key_of(provider, where, rows, repeated=1)
    assert key == key_of(later, where, block())
    others = [
        key_of(provider, where, block(ROWS[0])),
        key_of(provider, table("orders", job="7"), block()),
        key_of(provider, where, block()),  # equal rows that come again
        key_of(later, table(job="8"), block()),  # and in the next sync
    ]
    assert len({key, *others}) == 5
    assert sent_by(provider).repeat == "safe"
    assert not provider.repeats_safely(table())  # parts of it are other requests


@pytest.mark.parametrize(
    ("form", "where", "context"),
    [
        ({}, table(), {}),
        ({"upsert": {"upsert_type": "insert"}}, dedup(job="7"), {}),
        ({"repeat_is_safe": True}, table(job="7"), {}),
        ({}, table(job="7"), {"replace": ReplacePlan()}),
    ],
    ids=["no known job", "append + deduped", "kept by key", "a load"],
)
def test_a_key_of_an_earlier_run_stands_for_nothing(form: Any, where: Table, context: Any) -> None:
    """The table was emptied since, or a newer version of the rows came in between."""
    runs = [made(**KEYED, **form), made(**KEYED, **form)]
    assert len({key_of(run, where, block(), **context) for run in runs}) == 2


def test_keys_of_many_batches_begin_a_new_series(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, and no key comes twice for that."""
    monkeypatch.setattr(f"{BatchKeys.__module__}.MOST_KNOWN", 2)
    provider, where = made(**KEYED), table(job="7")
    keys = [key_of(provider, where, block(row)) for _ in range(3) for row in ROWS]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("mode", ["append", "append_dedup"])
def test_equal_batches_are_stored_as_often_as_they_come(mode: SyncMode) -> None:
    """At an API that answers a known key without storing: whichever came last, and each row."""
    versions: list[Row] = [{"id": "a", "name": "n", "amount": i, "version": 1} for i in (1, 2, 1)]
    vendor = CustomVendor(is_keyed=mode != "append", says=lambda rows: {"n": len(rows)})
    known: dict[str, HttpResponse] = {}

    def answer_to(request: HttpRequest) -> HttpResponse:
        key = request.headers["Idempotency-Key"]
        if key not in known:
            known[key] = vendor.answer(request)
        return known[key]

    provider = made(**KEYED, upsert={"upsert_type": "insert"} if mode != "append" else {})
    script = [part for row in versions for part in (records([row]), 40.0)]
    api: Any = vendor
    sync = Sync(provider, api, FakeClock(), catalog_of(mode), [*script, complete()], max_rows=1)
    sync.transport.answer = answer_to
    sync.run()
    assert sync.error is None
    assert vendor.rows() == (versions if mode == "append" else versions[-1:])


def test_a_count_may_be_a_header_or_an_answer_to_a_body() -> None:
    """HEAD where only a header tells the total, POST where a query has to be sent."""
    head = made(
        table_count_path="/t/{table}",
        table_count_value="header:Total-Objects",
        table_count_method="HEAD",
    )
    sent: list[HttpRequest] = []
    total = answer(200, b"", **{"total-objects": "7"})
    assert run(head, head.prepare(table()), total, sent=sent) == 7
    post = made(
        table_count_path="/sql",
        table_count_value="n",
        table_count_method="POST",
        table_count_body='{"q": "select count(*) from {table}"}',
    )
    assert run(post, post.prepare(table()), answer(200, {"n": 5}), sent=sent) == 5
    assert [(r.method, r.path, r.body) for r in sent] == [
        ("HEAD", "/t/deals", None),
        ("POST", "/sql", b'{"q":"select count(*) from deals"}'),
    ]


def test_a_table_may_be_emptied_by_a_get() -> None:
    """Some servers read commands from a path."""
    requests = [{"method": "GET", "path": "/d/truncate?target_name={table}"}]
    provider = made(replace={"replace_type": "empty_first", "requests": requests})
    sent: list[HttpRequest] = []
    run(provider, provider.replace_begin(table(), Load(1, 1, 1)), answer(200), sent=sent)
    assert [(r.method, r.path) for r in sent] == [("GET", "/d/truncate?target_name=deals")]
