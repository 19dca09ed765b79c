"""Kore.ai: deletes by many keys, one answer at a time and in whole syncs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from destination_bulk_tables.errors import ConfigError, UnaccountedRows
from destination_bulk_tables.http import Ambiguous, HttpRequest, HttpResponse, Refused, TooLarge
from destination_bulk_tables.keys import key_of
from destination_bulk_tables.messages import Message
from destination_bulk_tables.model import Table
from destination_bulk_tables.outcomes import Context
from destination_bulk_tables.providers.kore import Kore
from unit_tests.fakes import play, status
from unit_tests.kore_flows import (
    DEDUP,
    PAIR,
    REPLACE,
    ROWS,
    STRANGER,
    block_of,
    some,
    total,
)
from unit_tests.syncs import Sync, complete, kore, records, state, sync
from unit_tests.vendors import KoreVendor, Row, answer_of

UNREAD = status(200, b"<html>")
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
    block = block_of(*[{}] * 250, keys=[f"k{i}" for i in range(250)])
    answers = [*PROOF, held(250, "k7"), *written(250)]
    _, requests = play(provider.write(DEDUP, block, Context()), *answers)
    assert [r.method for r in requests] == ["POST", "POST", "POST", "DELETE", "POST"]
    asked = json.loads(requests[1].body or b"")["query"]
    values = [expression["value"] for expression in asked["expressions"]]
    assert (asked["operator"], values[0], values[-1]) == ("or", "s1", "s2")
    assert len(set(values)) == len(values) == 1000
    assert {(e["field"], e["operand"]) for e in asked["expressions"]} == {("sys_Id", "=")}
    assert [r.repeat for r in requests] == ["safe", "once", "once", "once", "unsafe"]
    assert write_keys(provider, 2500, *written(2500, [1000, 0, 999, 501])) == [
        ("DELETE", 1000),
        ("DELETE", 1000),
        ("DELETE", 999),
        ("DELETE", 501),
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
    found = write_keys(provider, 150, *answers, *written(150, [100, 0, 50]))
    assert found[len(answers) :] == [("DELETE", 100), ("DELETE", 100), ("DELETE", 50)]
    # fewer rows than some delete took are known to be all
    found = write_keys(provider, 150, *written(150, [99, 51]))
    assert found == [("DELETE", 99), ("DELETE", 51)]
    assert caplog.text.count("short_deletes table=deals keys=100") == 1
    assert f"cause={cause}" in caplog.text


@pytest.mark.parametrize("few", [total(0), some(None), some(1, "s1"), some(2, "s1", "s2")])
def test_a_table_with_too_few_rows_is_asked_again(few: Any) -> None:
    """Short deletes for this batch; the next one may find the table filled."""
    provider = kore()
    short = [("DELETE", 100), ("DELETE", 50)]
    assert write_keys(provider, 150, few, *written(150, [0, 0])) == [("POST", 1), *short]
    found = write_keys(provider, 150, *PROOF, total(0), *written(150, [0]))
    assert found == [("POST", 1), ("POST", 1000), ("POST", 150), ("DELETE", 150)]


def test_a_delete_that_went_out_twice_has_its_keys_counted_after_the_insert() -> None:
    """The attempt without an answer may be applied late and take the new rows."""
    block = block_of({"id": "a"}, keys=[key_of([b'"a"'])])
    late = replace(answer_of(200, {"nDeleted": 0}), resent=1)
    flow = kore().write(DEDUP, block, Context())
    with pytest.raises(Ambiguous, match="holds 0 rows of 1 keys"):
        play(flow, late, *written(1)[1:], total(0))


def pairs(*keys: list[bytes]) -> Any:
    """A flow that writes a row for each of these keys of two columns."""
    block = block_of(*[{}] * len(keys), keys=[key_of(key) for key in keys])
    return kore().write(PAIR, block, Context())


def test_two_keys_of_which_one_is_new_are_deleted_one_by_one() -> None:
    """One row alone shows nothing of how many a delete may take."""
    answers = [some(1, "s1"), total(0), *written(2, [0, 0])]
    _, requests = play(pairs([b"1", b"2"], [b"3", b"4"]), *answers)
    assert [r.method for r in requests] == ["POST", "POST", "DELETE", "DELETE", "POST"]


def test_a_refused_delete_of_two_columns_blames_their_nulls_where_there_is_one() -> None:
    """Another primary key helps there only."""
    with pytest.raises(ConfigError, match=r"no value in b, .* is refused for it \(http_400\)"):
        play(pairs([b"1", b"null"]), Refused("http_400", ""))
    with pytest.raises(Refused):
        play(pairs([b"1", b"2"]), Refused("http_400", ""))


def test_a_delete_whose_answer_cannot_be_read_is_sent_again() -> None:
    """Two times, as the key is gone or not whatever the answer said."""
    found = write_keys(kore(), 1, UNREAD, UNREAD, *written(1, [0]))
    assert found == [("DELETE", 1)] * 3


def test_few_keys_and_composite_keys_ask_nothing() -> None:
    """There a long filter saves nothing."""
    assert write_keys(kore(), 100, *written(100, [100, 0])) == [("DELETE", 100)] * 2
    keys = [b'%d,"x"' % i for i in range(150)]
    answers = [total(0), total(0), *written(150, [0] * 150)]
    _, requests = play(kore().write(PAIR, block_of(*[{}] * 150, keys=keys), Context()), *answers)
    assert [r.method for r in requests[2:]] == ["DELETE"] * 150 + ["POST"]


def test_a_delete_of_two_rows_saves_asking_once_more_for_each_composite_key() -> None:
    """As long as no delete took two rows, a vendor may remove one per request."""
    keys = [b'%d,"x"' % i for i in range(4)]
    block = block_of(*[{}] * 4, keys=keys)
    two = [some(1, "s0"), some(1, "s1"), answer_of(200, {"nDeleted": 2})]
    provider = kore()
    _, requests = play(provider.write(PAIR, block, Context()), *two, *written(4, [0, 0, 1, 1]))
    assert len(requests) == 8
    _, requests = play(provider.write(PAIR, block, Context()), *written(4, [1] * 4))
    assert len(requests) == 5
    single = [*two[:2], answer_of(200, {"nDeleted": 1}), *written(4, [0, 1, 0, 1, 0, 1, 0])]
    _, requests = play(kore().write(PAIR, block, Context()), *single)
    assert len(requests) == 11


def test_rows_are_counted_until_a_delete_is_seen_to_read_a_whole_filter() -> None:
    """One key that is in the table is put last, and as many rows as were counted must go."""
    provider = kore()
    counted = [("POST", 150), ("DELETE", 150)]
    answers = [*PROOF, total(0), *written(150, [0])]  # no row to tell by
    assert write_keys(provider, 150, *answers)[2:] == counted
    answers = [held(2, "another"), *written(150, [2])]  # as a vendor that spells keys anew
    assert write_keys(provider, 150, *answers) == counted
    block = block_of(*[{}] * 150, keys=[f"k{i}" for i in range(150)])
    answers = [held(3, "k20"), *written(150, [3])]
    _, requests = play(provider.write(DEDUP, block, Context()), *answers)
    expressions = json.loads(requests[1].body or b"")["query"]["expressions"]
    assert [e["value"] for e in expressions[-2:]] == ["k149", "k20"]
    assert write_keys(provider, 150, *written(150, [0])) == [("DELETE", 150)]


def test_a_delete_that_leaves_rows_of_a_long_filter_is_repeated_in_short_ones() -> None:
    """It may read the first expressions only; what is left would be doubled by the insert."""
    answers = [*PROOF, held(150, "k0"), *written(150, [100, 0, 0, 51])]
    found = write_keys(kore(), 150, *answers)
    assert found[3:] == [("DELETE", 150)] * 2 + [("DELETE", 99), ("DELETE", 51)]


def test_a_delete_that_takes_more_rows_than_its_filter_finds_ends_the_sync() -> None:
    """Nothing brings them back; the message says where to look."""
    write_keys(kore(), 150, *PROOF, held(7, "k0"), *written(150, [157]))
    with pytest.raises(UnaccountedRows, match="took 158 rows where its filter found 7"):
        write_keys(kore(), 150, *PROOF, held(7, "k0"), *written(150, [158]))


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
    block = block_of(*[{}] * 150, keys=[f"k{i}" for i in range(150)])
    answers = [*PROOF, total(0), unanswered, *written(150, [100, 0, 50]), total(99), total(51)]
    report, requests = play(kore().write(DEDUP, block, Context()), *answers)
    assert (report.delivered, len(requests)) == (150, len(answers))


@pytest.mark.parametrize(("told", "size"), [(0, 150), (1, 100)])
def test_batches_that_ask_at_once_agree(told: int, size: int) -> None:
    """What the first was told stays: its deletes may take the rows that the other asks for."""
    provider = kore()
    block = block_of(*[{}] * 150, keys=[f"k{i}" for i in range(150)])
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


def test_a_key_may_have_more_rows_than_a_hundred_deletes_take() -> None:
    """As long as they become fewer; a limit of rows per delete and plain appends make that."""
    vendor = KoreVendor(delete_max=1)
    vendor.put([{"id": "m0", "version": -n} for n in range(230)])
    done = sync("kore", "append_dedup", [records(MANY[:1]), state(1), complete()], vendor=vendor)
    assert (done.run().error, vendor.rows()) == (None, MANY[:1])


@pytest.mark.parametrize(("delete_max", "copies"), [(100, 2), (99, 3), (200, 2), (1, 1), (1, 2)])
def test_a_delete_that_takes_as_many_rows_as_it_has_keys_may_leave_some(
    delete_max: int, copies: int
) -> None:
    """A limit of rows and keys with several rows look like one row per key."""
    vendor = KoreVendor(delete_max=delete_max)
    vendor.put([{**row, "version": -1} for _ in range(copies) for row in MANY[:200]])
    script: list[Message | float] = [records(MANY[:200]), state(1), complete()]
    done = sync("kore", "append_dedup", script, vendor=vendor, max_rows=100).run()
    assert done.error is None
    assert sorted(vendor.rows(), key=str) == sorted(MANY[:200], key=str)


def test_a_delete_that_counts_rows_and_keeps_them_ends_the_sync() -> None:
    """As many are left as a hundred requests before: an insert would double what stays."""
    keys: list[Any] = ["a", "b", "c"]
    hundred = written(3, [7] * 100)[:-1]
    answers = [*hundred, total(3), *hundred, total(3)]
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


def test_a_delete_whose_answer_cannot_be_read_is_repeated() -> None:
    """It may have been cut off by a limit of rows, so that older versions would stay."""
    vendor = KoreVendor(delete_max=1)
    vendor.put([{"id": key, "name": "old"} for key in ("1", "1", "2")])
    script: list[Message] = [records([{"id": "1"}, {"id": "2"}]), state(2), complete()]
    done = sync("kore", "append_dedup", script, vendor=vendor)
    answer = done.transport.answer

    def unreadable_once(request: HttpRequest) -> HttpResponse:
        answered = answer(request)
        is_first = [sent.request.method for sent in done.transport.sent].count("DELETE") == 1
        return UNREAD if request.method == "DELETE" and is_first else answered

    done.transport.answer = unreadable_once
    done.run()
    assert (done.error, done.acknowledged) == (None, [2])
    assert sorted(row["id"] for row in vendor.rows()) == ["1", "2"]
    assert "old" not in {row.get("name") for row in vendor.rows()}


def test_deletes_that_never_tell_what_they_did_are_in_doubt() -> None:
    """Nothing is inserted beside rows that may still be there."""
    provider = kore()
    keys: list[Any] = ["k0"]
    block = block_of({}, keys=keys)
    with pytest.raises(Ambiguous, match="do not tell how many rows"):
        play(provider.write(DEDUP, block, Context()), UNREAD, UNREAD, UNREAD)
