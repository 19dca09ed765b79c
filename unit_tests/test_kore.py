"""Kore.ai: tokens, filters, reading back and replacing, one answer at a time and in whole syncs."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from destination_bulk_tables.errors import ConfigError, TransientError, UnaccountedRows
from destination_bulk_tables.model import Message, RowBlock, Table, Tombstone
from destination_bulk_tables.provider import (
    Ambiguous,
    Context,
    HttpRequest,
    Refused,
    Renew,
    Retry,
    Stop,
    Throw,
    TooLarge,
)
from destination_bulk_tables.providers.kore import Kore
from unit_tests.fakes import answer_status, cut_after, garble, status
from unit_tests.syncs import DEALS, Sync, complete, kore, records, state, sync
from unit_tests.test_qobra import play
from unit_tests.vendors import SECRET, KoreVendor, Row, answer_of

DEDUP = Table("deals", DEALS, "dedup", key_columns=("id",), text_columns=("id",))
PAIR = Table("deals", DEALS, "dedup", key_columns=("a", "b"))
APPEND = Table("my deals", DEALS, "append", text_columns=("id",))
NOW = 1_700_000_000.0
INSERT = HttpRequest("POST", "/api/public/tables/deals/bulk", body=b"{}", repeat="unsafe")
QUERY = HttpRequest("POST", "/api/public/tables/deals/query?sys_limit=1&sys_offset=0")
DELETE = HttpRequest("DELETE", "/api/public/tables/deals")
ROWS: list[Row] = [{"id": f"d{i}", "name": f"n{i}", "amount": i, "version": 1} for i in range(10)]


def signed_by(**authentication: Any) -> Kore:
    """A provider with this authentication."""
    return Kore.from_config({"host": "https://h", "authentication": authentication})


def block_of(*rows: Row, keys: list[bytes] | None = None, **more: Any) -> RowBlock:
    """A block of these rows."""
    pieces = [json.dumps(row).encode() for row in rows]
    return RowBlock(pieces, len(rows), range(len(rows)), keys, **more)


# --- tokens


def test_claims() -> None:
    """AppId names the app; the token is young, short-lived and never the same twice."""
    provider = signed_by(auth_type="jwt_app", client_id=" cs-1 ", client_secret=SECRET)
    seen = set()
    for _ in range(3):
        token = provider.headers(NOW)["auth"]
        claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"verify_exp": False})
        seen.add(claims.pop("jti"))
        assert claims.pop("exp") - NOW <= 300
        assert NOW - 60 <= claims.pop("iat") <= NOW
        assert claims == {"sub": "airbyte", "appId": "cs-1"}
    assert len(seen) == 3


@pytest.mark.parametrize("algorithm", ["RS256", "RS512"])
@pytest.mark.parametrize("newline", ["\n", "\\n"])
def test_pem_keys_sign(algorithm: str, newline: str) -> None:
    """A private key in PEM form works, also where a form turned its line ends into backslash-n."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    provider = signed_by(
        auth_type="jwt_app",
        client_id="cs-1",
        client_secret=pem.replace("\n", newline),
        algorithm=algorithm,
    )
    token = provider.headers(NOW)["auth"]
    options: Any = {"verify_exp": False}
    claims = jwt.decode(token, key.public_key(), algorithms=[algorithm], options=options)
    assert claims["appId"] == "cs-1"


def test_a_secret_that_cannot_sign_is_a_config_error() -> None:
    """It is found before the first request, and the secret is not in the message."""
    with pytest.raises(ConfigError) as caught:
        signed_by(auth_type="jwt_app", client_id="c", client_secret="not-a-pem", algorithm="RS256")
    assert "not-a-pem" not in caught.value.message


def test_static_tokens() -> None:
    """A static token is used as it is until it expires, and one without an end for ever."""
    lasting = jwt.encode({"appId": "c"}, SECRET)
    assert signed_by(auth_type="static_jwt", jwt=f" {lasting}\n").headers(NOW) == {"auth": lasting}
    provider = signed_by(auth_type="static_jwt", jwt=jwt.encode({"exp": NOW}, SECRET))
    provider.headers(NOW - 1)
    with pytest.raises(ConfigError, match="expired"):
        provider.headers(NOW)
    with pytest.raises(ConfigError, match="three parts"):
        signed_by(auth_type="static_jwt", jwt="nonsense")
    with pytest.raises(ConfigError, match="in one line"):
        signed_by(auth_type="static_jwt", jwt=f"{lasting[:9]}\n{lasting[9:]}")


# --- what an answer means


@pytest.mark.parametrize("code", [400, 403, 429, 500])
@pytest.mark.parametrize(
    "text",
    ["You've exceeded the per-minute rate limit.", "Rate limit for this API has been reached"],
)
def test_the_minute_limit_is_known_by_its_text(code: int, text: str) -> None:
    """Whatever the status, it holds the table for a minute, or for as long as the vendor says."""
    found = kore().classify(INSERT, status(code, text.encode()))
    assert found == Retry(after_s=60.0, pause=True)
    found = kore().classify(INSERT, status(code, text.encode(), retry_after="5"))
    assert found == Retry(after_s=None, pause=True)


@pytest.mark.parametrize("code", [400, 429])
def test_the_hourly_limit_ends_the_sync(code: int) -> None:
    """Nobody sleeps for an hour: the error is one that may pass."""
    found = kore().classify(INSERT, status(code, b"You've exceeded the Hourly Rate Limit."))
    assert isinstance(found, Stop)
    assert isinstance(found.error, TransientError)


def test_a_good_answer_that_mentions_a_rate_limit_is_good() -> None:
    """A row may hold the words."""
    assert type(kore().classify(INSERT, status(200, b"rate limit"))).__name__ == "Accept"


def test_a_refusal_that_quotes_a_rate_limit_is_a_refusal() -> None:
    """A row may hold the words, and so may the text about it; the vendor's own are known."""
    insert = replace(INSERT, body=b'{"data":[{"note":"Interest Rate Limit per hour"}]}')
    quoted = status(400, b"Invalid value 'interest rate limit per hour'")
    assert isinstance(kore().classify(insert, quoted), Throw)
    assert isinstance(kore().classify(INSERT, quoted), Stop)
    told = status(400, b"You've exceeded the per-minute rate limit.")
    assert isinstance(kore().classify(insert, told), Retry)


def test_a_missing_right_names_it() -> None:
    """401 and 403 are read alike; a delete needs Read and Delete."""
    for request, right in [(INSERT, "Write"), (DELETE, "Read and Delete")]:
        renew, stop = (kore().classify(request, status(code)) for code in (401, 403))
        assert isinstance(renew, Renew)
        assert isinstance(stop, Stop)
        assert all(right in str(found.error) for found in (renew, stop))


def test_a_refused_query_is_for_the_flow_to_judge() -> None:
    """Without the right to read, a sync that only appends goes on."""
    for code in (400, 403, 404):
        found = kore().classify(QUERY, status(code))
        assert isinstance(found, Throw)
        assert isinstance(found.error, Refused)
    assert isinstance(kore().classify(QUERY, status(401)), Renew)


# --- the check


def test_the_check_queries_each_table() -> None:
    """One row each; it needs the right to read and changes nothing."""
    page = answer_of(200, {"queryResult": [], "total": 0})
    _, requests = play(kore().check(["a", "b c"]), page, page)
    assert [r.path.partition("?")[0] for r in requests] == [
        "/api/public/tables/a/query",
        "/api/public/tables/b%20c/query",
    ]


@pytest.mark.parametrize(
    ("tables", "answers", "words"),
    [
        (["a"], [Refused("http_401", ""), Refused("http_401", "")], "token"),
        (["a"], [Refused("http_401", ""), Refused("http_400", "It says: no.")], "right to Read"),
        (["a"], [Refused("http_403", ""), Refused("http_404", "It says: no.")], "right to Read"),
        (["a"], [Refused("http_400", "")], "table's name"),
        ([], [Refused("http_401", "")], "token"),
        ([], [Refused("http_404", "")], "host and api_path_prefix"),
        ([], [status(200, b"<html>")], "host and api_path_prefix"),
        ([], [status(200, b"{}")], "host and api_path_prefix"),
    ],
)
def test_the_check_says_what_is_wrong(tables: list[str], answers: list[Any], words: str) -> None:
    """A bad token, a missing right and an unknown table are told apart."""
    with pytest.raises(ConfigError, match=words):
        play(kore().check(tables), *answers)


def test_the_check_without_tables_accepts_a_good_token() -> None:
    """A table that cannot exist is refused with anything but 401."""
    play(kore().check([]), Refused("http_400", "It says: no such table."))


# --- columns


@pytest.mark.parametrize("column", ["sys_Id", "_id", "Created_On", "Updated_By"])
def test_system_columns_are_refused(column: str) -> None:
    """Kore.ai fills them itself."""
    with pytest.raises(ConfigError, match=column):
        kore().validate(Table("t", DEALS, "append", columns=("id", column)))


def test_reserved_words_and_many_columns_are_warned_of() -> None:
    """The vendor's page advises against both; neither stops a sync."""
    assert kore().warnings(Table("t", DEALS, "append", columns=("id", "name"))) == []
    [warning] = kore().warnings(Table("t", DEALS, "append", columns=("id", "Date", "size")))
    assert "Date,size" in warning
    columns = tuple(f"c{i}" for i in range(21))
    [warning] = kore().warnings(Table("t", DEALS, "append", columns=columns))
    assert "21" in warning


# --- writing


def test_an_insert() -> None:
    """The name is encoded, rows are wrapped in data, and it must not be repeated blindly."""
    flow = kore().write(APPEND, block_of({"id": "a"}), Context())
    report, [request] = play(flow, answer_of(200, {"records": [{"id": "a"}]}))
    assert request.path == "/api/public/tables/my%20deals/bulk"
    assert request.body == b'{"data":[{"id": "a"}]}'
    assert request.repeat == "unsafe"
    assert report.delivered == 1


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"records":[]}', b'{"records":[1,2]}'])
@pytest.mark.parametrize(("table", "partial"), [(APPEND, True), (DEDUP, False)])
def test_an_answer_that_does_not_list_each_row(
    body: bytes,
    table: Table,
    partial: bool,  # noqa: FBT001
) -> None:
    """It proves nothing; where rows are kept by key, the write can be repeated."""
    block = block_of({"id": "a"}, keys=[b'"a"'])
    deleted = [answer_of(200, {"nDeleted": 0})] if table is DEDUP else []
    with pytest.raises(Refused) as caught:
        play(kore().write(table, block, Context()), *deleted, status(200, body))
    assert caught.value.partial is partial


def test_keyed_rows_are_deleted_first() -> None:
    """One column: one filter of a hundred keys joined by or, while the table is empty."""
    keys = [b'"k%d"' % i for i in range(150)]
    block = block_of(*[{"id": f"k{i}"} for i in range(150)], keys=keys)
    gone = answer_of(200, {"nDeleted": 0})
    answer = answer_of(200, {"records": [{}] * 150})
    _, requests = play(kore().write(DEDUP, block, Context()), total(0), gone, gone, answer)
    assert [r.method for r in requests] == ["POST", "DELETE", "DELETE", "POST"]
    queries = [json.loads(r.body or b"")["query"] for r in requests[1:3]]
    assert [len(query["expressions"]) for query in queries] == [100, 50]
    assert {query["operator"] for query in queries} == {"or"}
    assert queries[1]["expressions"][-1] == {"field": "id", "operand": "=", "value": "k149"}


def test_a_composite_key_takes_a_request_each() -> None:
    """A filter cannot nest, so each key is its columns joined by and."""
    block = block_of({"a": 1, "b": "x"}, keys=[b'1,"x,y"'], tombstones=(Tombstone(1, b'2,"z"'),))
    gone = answer_of(200, {"nDeleted": 1})
    report, requests = play(
        kore().write(PAIR, block, Context()), gone, gone, answer_of(200, {"records": [{}]})
    )
    queries = [json.loads(r.body or b"")["query"] for r in requests[:2]]
    assert [query["operator"] for query in queries] == ["and", "and"]
    assert [[e["value"] for e in query["expressions"]] for query in queries] == [
        [1, "x,y"],
        [2, "z"],
    ]
    assert report.delivered == 2


def test_tombstones_alone_insert_nothing() -> None:
    """Only deletes leave."""
    block = RowBlock((), 0, [], keys=[], tombstones=(Tombstone(0, b'"a"'),))
    report, requests = play(kore().write(DEDUP, block, Context()), answer_of(200, {"nDeleted": 1}))
    assert [r.method for r in requests] == ["DELETE"]
    assert report.delivered == 1


@pytest.mark.parametrize(
    ("table", "keys", "filters"),
    [
        (DEDUP, [b'"k%d"' % i for i in range(150)], [99, 51]),
        (PAIR, [b'1,"x"', b'2,"y"'], [1, 1]),
    ],
)
@pytest.mark.parametrize("total", [True, False])
def test_keys_written_in_doubt_are_counted(
    table: Table,
    keys: list[bytes],
    filters: list[int],
    total: bool,  # noqa: FBT001
) -> None:
    """Each filter asks for fewer keys than a page holds, so that a doubled row shows."""
    block = block_of(*[{}] * len(keys), keys=keys)
    found = [
        answer_of(200, {"queryResult": [{}] * count, **({"total": count} if total else {})})
        for count in filters
    ]
    doubled = answer_of(200, {"queryResult": [{}] * (filters[1] + 1)})
    written = [
        *([some(0)] if table is DEDUP else []),
        *[answer_of(200, {"nDeleted": 0})] * 2,
        answer_of(200, {"records": [{}] * len(keys)}),
    ]
    context = Context(repeated=True)
    report, requests = play(kore().write(table, block, context), *written, *found)
    assert report.delivered == len(keys)
    assert [r.path.partition("?")[0].endswith("/query") for r in requests[-2:]] == [True, True]
    with pytest.raises(Ambiguous, match="keys"):
        play(kore().write(table, block, context), *written, found[0], doubled)


# --- reading back


def stored(block: RowBlock, *answers: Any, others: int = 0, before: int | None = 0) -> Any:
    """Read a block back with these answers."""
    context = Context(stored=before, others=others)
    return play(kore().stored_rows(APPEND, block, context), *answers)


def total(count: int | None) -> Any:
    """A query's answer that counts."""
    return answer_of(200, {"queryResult": [], **({} if count is None else {"total": count})})


THREE = [{"id": "a", "amount": 1}, {"id": "b", "amount": 2}, {"id": "c", "amount": 3}]
TWINS = [{"id": "a"}, {"id": "a"}]
PROBELESS: list[Row] = [{"flag": "x"}, {"flag": "y"}]
STRANGER = {"id": "stranger", "amount": 9}


@pytest.mark.parametrize(
    ("rows", "others", "answer", "found"),
    [
        (THREE, 0, total(0), set()),
        (THREE, 0, total(3), {0, 1, 2}),
        (THREE, 2, total(5), {0, 1, 2}),
        (THREE, 0, total(-1), None),
        (THREE, 0, total(4), None),
        (THREE, 2, total(6), None),
        (THREE, 0, total(None), None),
        (THREE, 0, Refused("http_401", ""), None),
        (THREE, 0, Refused("http_403", ""), None),
        (TWINS, 0, total(1), None),
        (PROBELESS, 0, total(1), None),
    ],
)
def test_the_total_decides_where_it_can(
    rows: list[Row], others: int, answer: Any, found: set[int] | None
) -> None:
    """One question; doubt is None and not a guess."""
    assert stored(block_of(*rows), answer, others=others)[0] == found


def test_without_a_first_count_nothing_can_be_told() -> None:
    """The total alone says nothing."""
    assert stored(block_of(*THREE), total(3), before=None)[0] is None


def look(vendor: KoreVendor, rows: list[Row], others: int, before: int = 0) -> set[int] | None:
    """Read rows back from a vendor."""
    table = Table("deals", DEALS, "append", text_columns=("id",))
    flow = kore().stored_rows(table, block_of(*rows), Context(stored=before, others=others))
    try:
        request = next(flow)
        while True:
            request = flow.send(vendor.answer(request))
    except StopIteration as end:
        found: set[int] | None = end.value
        return found


@pytest.mark.parametrize(
    ("held", "others", "found"),
    [
        (THREE[:1], 0, {0}),
        (THREE[:2], 0, {0, 1}),
        (THREE[1:2], 0, {1}),
        (THREE[1:], 0, {1, 2}),
        ([STRANGER], 1, set()),
        ([STRANGER], 0, None),
        ([THREE[2], STRANGER], 1, {2}),
        ([THREE[2], STRANGER], 0, None),
        ([THREE[0], THREE[2]], 1, {0, 2}),
    ],
)
def test_single_rows_are_looked_for_where_some_are_in(
    held: list[Row], others: int, found: set[int] | None
) -> None:
    """A prefix, any subset, rows of other batches, and strangers that make it unknown."""
    vendor = KoreVendor()
    vendor.put(held)
    assert look(vendor, THREE, others) == found


@pytest.mark.parametrize("stored_rows", [1, 7, 100, 150, 249])
@pytest.mark.parametrize("is_prefix", [True, False])
def test_a_large_batch_is_read_back(stored_rows: int, is_prefix: bool) -> None:  # noqa: FBT001
    """More rows than a page: each one that is in is found, in any place."""
    rows = [{"id": f"r{i}", "amount": i} for i in range(250)]
    held = range(stored_rows) if is_prefix else sorted(Random(4).sample(range(250), stored_rows))
    vendor = KoreVendor()
    vendor.put([rows[i] for i in held])
    assert look(vendor, rows, 0) == set(held)


BEFORE: list[Row] = [{**row, "version": 0} for row in ROWS]
REPLACE: list[Message | float] = [records(ROWS), state(1), complete()]


@pytest.mark.parametrize("bulk", ["ordered_partial", "skip_bad"])
@pytest.mark.parametrize(
    ("old", "mode"), [(BEFORE, "append"), (BEFORE, "overwrite"), (ROWS, "overwrite")]
)
def test_rows_of_an_earlier_sync_are_not_taken_for_those_just_sent(
    bulk: Any, old: list[Row], mode: Any
) -> None:
    """They have the same ids, or even the same values where a table is replaced."""
    vendor = KoreVendor(bulk=bulk, is_bad=lambda row: row["id"] in {"d2", "d7"})
    vendor.put(old)
    done = sync("kore", mode, REPLACE, vendor=vendor).run()
    assert (done.error, done.acknowledged, done.rejected_ids) == (None, [1], ["d2", "d7"])
    rows = [row for row in vendor.rows() if mode == "overwrite" or row not in old]
    assert sorted(row["id"] for row in rows) == [f"d{i}" for i in range(10) if i not in {2, 7}]


# --- many keys in one delete


def some(count: int | None, *ids: str) -> Any:
    """A query's answer that counts and shows rows with these ids."""
    page = {"queryResult": [{"sys_Id": i} for i in ids]}
    return answer_of(200, page if count is None else {**page, "total": count})


ROWS_OF_TABLE = some(3, "s1", "s2")
PROOF = [ROWS_OF_TABLE, some(2, "s2", "s1")]


def held(count: int, key: str) -> Any:
    """A query's answer that counts and shows a row with this key."""
    return answer_of(200, {"queryResult": [{"sys_Id": "s", "id": key}], "total": count})


def written(n_keys: int, sizes: list[int] | None = None) -> list[Any]:
    """The answers to deletes of so many keys each, and to the insert."""
    return [
        *[answer_of(200, {"nDeleted": size}) for size in sizes or [n_keys]],
        answer_of(200, {"records": [{}] * n_keys}),
    ]


def write_keys(
    provider: Kore, n_keys: int, *answers: Any, table: Table = DEDUP
) -> list[tuple[str, int]]:
    """Write so many keys with these answers: verb and expressions of each request but the insert.

    Each answer must be used.
    """
    keys: list[Any] = [f"k{i}" for i in range(n_keys)]
    block = block_of(*[{}] * n_keys, keys=keys)
    _, requests = play(provider.write(table, block, Context()), *answers)
    assert len(requests) == len(answers)
    found = [(r.method, json.loads(r.body or b"")["query"]) for r in requests[:-1]]
    deleted = [
        e["value"] for verb, query in found if verb == "DELETE" for e in query["expressions"]
    ]
    assert set(deleted) == set(keys)
    return [(verb, len(query["expressions"])) for verb, query in found]


def test_a_long_query_is_proven_before_a_long_delete() -> None:
    """It must find two rows, named first and last, and nothing else; each table is asked once."""
    provider = kore()
    block = block_of(*[{}] * 250, keys=[f"k{i}" for i in range(250)])  # type: ignore[misc]  # keys
    answers = [*PROOF, held(250, "k7"), *written(250)]
    _, requests = play(provider.write(DEDUP, block, Context()), *answers)
    assert [r.method for r in requests] == ["POST", "POST", "POST", "DELETE", "POST"]
    asked = json.loads(requests[1].body or b"")["query"]
    values = [expression["value"] for expression in asked["expressions"]]
    assert (asked["operator"], values[0], values[-1]) == ("or", "s1", "s2")
    assert len(set(values)) == len(values) == 1000
    assert {(e["field"], e["operand"]) for e in asked["expressions"]} == {("sys_Id", "=")}
    assert [r.repeat for r in requests] == ["safe", "once", "once", "once", "unsafe"]
    assert write_keys(provider, 2500, *written(2500, [1000, 1000, 500])) == [
        ("DELETE", 1000),
        ("DELETE", 1000),
        ("DELETE", 500),
    ]
    other = replace(DEDUP, name="others")
    found = write_keys(provider, 101, *PROOF, total(0), *written(101, [0]), table=other)
    assert found == [("POST", 1), ("POST", 1000), ("POST", 101), ("DELETE", 101)]


@pytest.mark.parametrize(
    ("answers", "cause"),
    [
        ([ROWS_OF_TABLE, total(None)], "found_None"),
        ([ROWS_OF_TABLE, total(0)], "found_0"),
        ([ROWS_OF_TABLE, total(1)], "found_1"),
        ([ROWS_OF_TABLE, total(3)], "found_3"),
        ([ROWS_OF_TABLE, total(2)], "found_2"),
        ([ROWS_OF_TABLE, some(2, "s1", "s3")], "found_2"),
        ([*PROOF, total(None)], "no_total"),
        ([*PROOF, Refused("http_400", "")], "http_400"),
        ([*PROOF, Ambiguous("HTTP 503")], "no_answer"),
        ([some(None, "s1", "s2"), total(None)], "found_None"),
        ([ROWS_OF_TABLE, Refused("http_400", "")], "http_400"),
        ([ROWS_OF_TABLE, TooLarge()], "toolarge"),
        ([ROWS_OF_TABLE, Ambiguous("HTTP 500")], "ambiguous"),
        ([ROWS_OF_TABLE, status(200, b"<html>")], "unreadable_answer"),
        ([Refused("http_401", "")], "http_401"),
        ([answer_of(200, {"queryResult": [{}, {}], "total": 3})], "validationerror"),
    ],
)
def test_without_the_proof_deletes_stay_short(
    caplog: pytest.LogCaptureFixture, answers: list[Any], cause: str
) -> None:
    """For the rest of the sync; the log says so once."""
    provider = kore()
    caplog.set_level("INFO")
    found = write_keys(provider, 150, *answers, *written(150, [100, 50]))
    assert found[len(answers) :] == [("DELETE", 100), ("DELETE", 50)]
    assert write_keys(provider, 150, *written(150, [100, 50])) == found[len(answers) :]
    assert caplog.text.count("short_deletes table=deals keys=100") == 1
    assert f"cause={cause}" in caplog.text


@pytest.mark.parametrize("few", [total(0), some(None), some(1, "s1"), some(2, "s1", "s2")])
def test_a_table_with_too_few_rows_is_asked_again(few: Any) -> None:
    """Short deletes for this batch; the next one may find the table filled."""
    provider = kore()
    short = [("DELETE", 100), ("DELETE", 50)]
    assert write_keys(provider, 150, few, *written(150, [100, 50])) == [("POST", 1), *short]
    found = write_keys(provider, 150, *PROOF, total(0), *written(150, [0]))
    assert found == [("POST", 1), ("POST", 1000), ("POST", 150), ("DELETE", 150)]


def test_few_keys_and_composite_keys_ask_nothing() -> None:
    """There a long filter saves nothing."""
    assert write_keys(kore(), 100, *written(100)) == [("DELETE", 100)]
    keys = [b'%d,"x"' % i for i in range(150)]
    answers = written(150, [1] * 150)
    _, requests = play(kore().write(PAIR, block_of(*[{}] * 150, keys=keys), Context()), *answers)
    assert [r.method for r in requests] == ["DELETE"] * 150 + ["POST"]


def test_rows_are_counted_until_a_delete_is_seen_to_read_a_whole_filter() -> None:
    """One key that is in the table is put last, and as many rows as were counted must go."""
    provider = kore()
    counted = [("POST", 150), ("DELETE", 150)]
    answers = [*PROOF, total(0), *written(150, [0])]  # no row to tell by
    assert write_keys(provider, 150, *answers)[2:] == counted
    answers = [held(2, "another"), *written(150, [2, 0])]  # as a vendor that spells keys anew
    assert write_keys(provider, 150, *answers) == [*counted, ("DELETE", 150)]
    block = block_of(*[{}] * 150, keys=[f"k{i}" for i in range(150)])  # type: ignore[misc]  # keys
    answers = [held(3, "k20"), *written(150, [3, 0])]
    _, requests = play(provider.write(DEDUP, block, Context()), *answers)
    expressions = json.loads(requests[1].body or b"")["query"]["expressions"]
    assert [e["value"] for e in expressions[-2:]] == ["k149", "k20"]
    assert write_keys(provider, 150, *written(150, [0])) == [("DELETE", 150)]


def test_a_delete_that_leaves_rows_of_a_long_filter_is_repeated_in_short_ones() -> None:
    """It may read the first expressions only; what is left would be doubled by the insert."""
    answers = [*PROOF, held(150, "k0"), *written(150, [100, 0, 0, 50])]
    found = write_keys(kore(), 150, *answers)
    assert found[3:] == [("DELETE", 150)] * 2 + [("DELETE", 100), ("DELETE", 50)]


def test_a_delete_that_takes_more_rows_than_its_filter_finds_ends_the_sync() -> None:
    """Nothing brings them back; the message says where to look."""
    write_keys(kore(), 150, *PROOF, held(7, "k0"), *written(150, [157, 0]))
    with pytest.raises(UnaccountedRows, match="took 158 rows where its filter found 7"):
        write_keys(kore(), 150, *PROOF, held(7, "k0"), *written(150, [158, 0]))


@pytest.mark.parametrize("refusal", [Refused("http_400", ""), TooLarge()])
def test_a_refused_long_delete_is_repeated_in_short_ones(
    caplog: pytest.LogCaptureFixture, refusal: Exception
) -> None:
    """The same keys and all later ones; a table is not asked again."""
    provider = kore()
    caplog.set_level("INFO")
    first = answer_of(200, {"nDeleted": 1000})
    answers = [*PROOF, held(1000, "k1"), first, refusal, *written(1150, [100, 50])]
    found = write_keys(provider, 1150, *answers)
    assert found[3:] == [("DELETE", 1000), ("DELETE", 150), ("DELETE", 100), ("DELETE", 50)]
    assert write_keys(provider, 150, *written(150, [100, 50])) == found[-2:]
    assert caplog.text.count("short_deletes") == 1
    with pytest.raises(type(refusal)):
        write_keys(provider, 150, refusal)


def test_a_long_delete_without_an_answer_leaves_doubt() -> None:
    """It may be applied late, so short ones follow and the keys are counted after the insert."""
    unanswered = Ambiguous("no answer in time", is_slow=True)
    block = block_of(*[{}] * 150, keys=[f"k{i}" for i in range(150)])  # type: ignore[misc]  # keys
    answers = [*PROOF, total(0), unanswered, *written(150, [100, 50]), total(99), total(51)]
    report, requests = play(kore().write(DEDUP, block, Context()), *answers)
    assert (report.delivered, len(requests)) == (150, len(answers))


@pytest.mark.parametrize(("told", "size"), [(0, 150), (1, 100)])
def test_batches_that_ask_at_once_agree(told: int, size: int) -> None:
    """What the first was told stays: its deletes may take the rows that the other asks for."""
    provider = kore()
    block = block_of(*[{}] * 150, keys=[f"k{i}" for i in range(150)])  # type: ignore[misc]  # keys
    flows = [provider.write(DEDUP, block, Context()) for _ in range(2)]
    for flow in flows:
        next(flow)
        flow.send(ROWS_OF_TABLE)
    answers = [PROOF[1], total(1)]
    for flow, answer in zip(flows, [answers[told], answers[1 - told]], strict=True):
        request = flow.send(answer)
        assert len(json.loads(request.body or b"")["query"]["expressions"]) == size


def delete_sizes(done: Sync) -> list[int]:
    """The expressions of each delete that was sent."""
    return [
        len(json.loads(sent.request.body or b"")["query"]["expressions"])
        for sent in done.transport.sent
        if sent.request.method == "DELETE"
    ]


MANY: list[Row] = [{"id": f"m{i}", "amount": i, "version": 1} for i in range(260)]
LATER: list[Row] = [{**row, "version": 2} for row in MANY[70:]]


@pytest.mark.parametrize(
    ("longest", "limits_queries", "size"),
    [
        (None, True, 200),
        ((1000, 400), True, 200),
        ((999, 400), True, 100),
        ((150, 400), True, 100),
        ((100, 413), True, 100),
        ((100, 500), True, 100),
        ((100, "ignore"), True, 100),
        ((150, "ignore"), True, 100),
        ((100, "match_all"), True, 100),
        ((150, 400), False, 200),
        ((100, 413), False, 200),
        ((100, 405), False, 200),
        ((100, 500), False, 200),
        ((100, 503), False, 200),
        ((100, "ignore"), False, 200),
    ],
)
def test_whatever_filter_is_too_long_each_key_has_its_last_version(
    longest: Any,
    limits_queries: bool,  # noqa: FBT001
    size: int,
) -> None:
    """Also where only deletes are limited; other rows stay. `size`: of the longest delete."""
    vendor = KoreVendor(longest=longest, limits_queries=limits_queries)
    vendor.put([{**row, "version": 0} for row in MANY] + [STRANGER])
    script: list[Message | float] = [records(MANY), state(1), records(LATER), state(2), complete()]
    done = sync("kore", "append_dedup", script, vendor=vendor, max_rows=200).run()
    assert (done.error, done.acknowledged) == (None, [1, 2])
    expected = [*MANY[:70], *LATER, STRANGER]
    assert sorted(vendor.rows(), key=str) == sorted(expected, key=str)
    assert max(delete_sizes(done)) == size


@pytest.mark.parametrize("delete_max", [None, 7, 50, 100, 130])
def test_no_row_of_a_key_stays_however_few_a_delete_removes(delete_max: int | None) -> None:
    """Some keys have several rows, as after plain appends."""
    vendor = KoreVendor(delete_max=delete_max)
    vendor.put([{**row, "version": -n} for n in range(3) for row in MANY[n * 40 :]])
    script: list[Message | float] = [records(MANY), state(1), records(LATER), state(2), complete()]
    done = sync("kore", "append_dedup", script, vendor=vendor, max_rows=200).run()
    assert (done.error, done.acknowledged) == (None, [1, 2])
    assert sorted(vendor.rows(), key=str) == sorted([*MANY[:70], *LATER], key=str)


def test_a_delete_that_counts_rows_and_keeps_them_ends_the_sync() -> None:
    """After a hundred requests: an insert would double what stays."""
    keys: list[Any] = ["a", "b", "c"]
    answers = written(3, [7] * 100)
    with pytest.raises(UnaccountedRows, match="that stay there"):
        play(kore().write(DEDUP, block_of({}, {}, {}, keys=keys), Context()), *answers)


@pytest.mark.parametrize("delete_max", [None, 70])
@pytest.mark.parametrize(
    ("longest", "limits_queries", "deletes"),
    [
        (None, True, [230]),
        ((150, 400), True, [100, 100, 30]),
        ((150, 400), False, [230, 100, 100, 30]),
        ((150, "ignore"), True, [100, 100, 30]),
        ((150, "match_all"), True, [100, 100, 30]),
        ((150, 504), False, [230, 100, 100, 30]),
        ((150, "ignore"), False, [230, 230, 100, 100, 100, 30]),
    ],
)
def test_old_rows_are_deleted_with_as_long_filters_as_are_proven(
    longest: Any,
    limits_queries: bool,  # noqa: FBT001
    deletes: list[int],
    delete_max: int | None,
) -> None:
    """The old rows go and the new ones stay, and no row is deleted by a filter that is too long."""
    vendor = KoreVendor(longest=longest, limits_queries=limits_queries, delete_max=delete_max)
    vendor.put([{"id": f"old{i}"} for i in range(230)])
    done = sync("kore", "overwrite", REPLACE, vendor=vendor).run()
    assert (done.error, done.acknowledged, vendor.rows()) == (None, [1], ROWS)
    sizes = delete_sizes(done)
    assert list(dict.fromkeys(sizes)) == list(dict.fromkeys(deletes))
    assert delete_max is not None or sizes == deletes


# --- replacing


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
