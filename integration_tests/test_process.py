"""The connector as a process: when it speaks, what it sends, how it ends, and what it never says.

Waiting is for something that happens, with a deadline. Times that are measured have bounds that a
loaded machine keeps.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from integration_tests.connector import (
    Connector,
    Outcome,
    Running,
    catalog,
    complete,
    configured,
    record,
    state,
    wait_until,
)
from integration_tests.emulator import Emulator
from integration_tests.vendor_configs import Vendor, config_for

Emulate = Callable[..., Emulator]
the_command = pytest.mark.starts_the_command
both = pytest.mark.parametrize("vendor", ["qobra", "kore"])
CATALOG = catalog(configured("deals", ["id", "name"]))
SECRETS = {"qobra": "qobra-key-1", "kore": "kore-secret-1"}
VALUE = "the value of Mrs Eleanor Rigby"


def rows(number: int, start: int = 0) -> list[bytes]:
    """Build records with an id and a value that must never be printed."""
    return [record("deals", {"id": str(i), "name": VALUE}) for i in range(start, start + number)]


def bulk(emulator: Emulator) -> list[Any]:
    """Return the logged bulk writes."""
    return [request for request in emulator.requests if request.kind == "bulk"]


def assert_discreet(outcome: Outcome, *also: str) -> None:
    """Assert that neither secrets nor row values were printed."""
    for word in (*SECRETS.values(), VALUE, "Rigby", *also):
        assert word not in outcome.text


# --- the verbs


@the_command
def test_spec_is_one_message(connector: Connector) -> None:
    """`spec` prints a SPEC that marks the secrets, and nothing else."""
    outcome = connector.start("spec", stdin=subprocess.DEVNULL).ended().delivered()
    (message,) = outcome.messages("SPEC")
    assert len(outcome.lines) == 1
    spec = message["spec"]
    assert spec["supported_destination_sync_modes"] == ["append", "overwrite", "append_dedup"]
    assert json.dumps(spec).count('"airbyte_secret": true') >= 3


@pytest.mark.parametrize("arguments", [(), ("read",), ("write",), ("check",)])
@the_command
def test_wrong_arguments_end_with_an_exit_code(
    connector: Connector, arguments: tuple[str, ...]
) -> None:
    """A verb that does not exist or lacks its files is no success."""
    outcome = connector.start(*arguments, stdin=subprocess.DEVNULL).ended()
    assert outcome.code == 2
    assert outcome.lines == []


# --- when it speaks


@both
@the_command
def test_a_state_is_visible_while_stdin_is_open_and_silent(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """The linger bounds how late an ack is, also when nothing more comes."""
    emulator = emulate(auto_create_tables=True, qobra_import_s=0.2)
    config = config_for(vendor, emulator.url, batching={"max_wait_seconds": 1})
    running = connector.writing(config, CATALOG)
    # a first state shows that the process has started
    running.send(*rows(1), state("deals", 0))
    running.wait_for_state()
    for turn in (1, 2):
        started = time.monotonic()
        running.send(*rows(3, turn * 3), state("deals", turn))
        line = running.wait_for_state()
        waited = time.monotonic() - started
        assert 0.5 < waited < 25  # the linger, the import, a loaded machine; the default is 30
        assert json.loads(line)["state"]["destinationStats"] == {"recordCount": 3.0}
        assert emulator.count(vendor, "deals") == 1 + turn * 3
    running.finish().delivered()


@both
def test_a_state_without_rows_is_answered_at_once(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """It has nothing to wait for, whatever the linger is."""
    config = config_for(vendor, emulate().url, batching={"max_wait_seconds": 900})
    running = connector.writing(config, CATALOG)
    running.send(state("deals", 1))
    running.wait_for_state()
    running.finish().delivered()


@both
def test_no_state_before_its_rows_are_in(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """While the vendor has not answered, or not imported, the state waits."""
    emulator = emulate(auto_create_tables=True, qobra_never_finish=True)
    if vendor == "kore":
        emulator.faults([{"kind": "stall_before", "match": "/bulk", "seconds": None}])
    config = config_for(vendor, emulator.url, batching={"max_rows": 2})
    running = connector.writing(config, CATALOG)
    running.send(*rows(2), state("deals", 1))
    wait_until(lambda: len(bulk(emulator)) == 1)
    with pytest.raises(AssertionError, match="not within"):
        running.wait_for_state(within_s=1.0)
    running.signal(signal.SIGTERM)
    assert running.ended().states == []


def test_a_batch_in_the_background_does_not_hold_the_next(
    connector: Connector, emulate: Emulate
) -> None:
    """Several Qobra imports are outstanding at a time."""
    emulator = emulate(auto_create_tables=True, qobra_never_finish=True)
    config = config_for("qobra", emulator.url, batching={"max_rows": 5})
    running = connector.writing(config, CATALOG)
    running.send(*rows(25), state("deals", 1))
    wait_until(lambda: len(bulk(emulator)) == 5)
    emulator.set(qobra_never_finish=False)
    running.wait_for_state()
    running.finish().delivered()


def test_progress_is_told_at_the_end(connector: Connector, emulate: Emulate) -> None:
    """The summary has the true counts per stream; the fast sync needs no line in between."""
    emulator = emulate(auto_create_tables=True)
    emulator.faults([{"kind": "status", "status": 503, "match": "/bulk", "at": 2}])
    config = config_for("qobra", emulator.url, batching={"max_rows": 10})
    outcome = connector.write(config, CATALOG, [*rows(25), state("deals", 1)]).delivered()
    (summary,) = [log for log in outcome.logs if "sync_summary" in log]
    for words in ("stream=deals", "read=25", "delivered=25", "rejected=0", "retries=1"):
        assert words in summary.split()
    assert any("states_acknowledged=1" in log for log in outcome.logs)


# --- what it sends


@both
def test_batches_are_bounded_by_rows(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """No request holds more rows, and none but the last fewer."""
    emulator = emulate(auto_create_tables=True)
    config = config_for(vendor, emulator.url, batching={"max_rows": 7})
    connector.write(config, CATALOG, rows(7 * 9 + 3)).delivered()
    assert sorted(request.rows for request in bulk(emulator)) == [3] + [7] * 9


@both
def test_batches_are_bounded_by_exact_bytes(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """A limit that five rows reach exactly cuts at five, one byte less at four."""
    member = {"qobra": "items", "kore": "data"}[vendor]
    row = json.dumps({"id": "1", "name": "x" * 990}, separators=(",", ":"))
    five = len(f'{{"{member}":[{",".join([row] * 5)}]}}')
    for limit, expected in ((five, 5), (five - 1, 4)):
        emulator = emulate(auto_create_tables=True)
        config = config_for(vendor, emulator.url, batching={"max_megabytes": limit / 1_000_000})
        lines = [record("deals", {"id": str(i % 10), "name": "x" * 990}) for i in range(10)]
        if vendor == "qobra":  # equal ids within a batch would be reduced
            lines = [record("deals", {"id": chr(97 + i), "name": "x" * 990}) for i in range(20)]
        else:
            lines *= 2
        connector.write(config, CATALOG, lines).delivered()
        sizes = [request.bytes for request in bulk(emulator)]
        assert max(sizes) <= limit
        assert {request.rows for request in bulk(emulator)} == {expected}
        if expected == 5:
            assert set(sizes) == {limit}


@both
def test_requests_are_in_flight_together(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """While one is stalled the others go on, as many at a time as configured and no more."""
    emulator = emulate(auto_create_tables=True)
    emulator.faults([{"kind": "stall_before", "match": "/bulk", "seconds": 120.0, "count": 3}])
    batching = {"max_rows": 5, "max_parallel_requests": 3}
    running = connector.writing(config_for(vendor, emulator.url, batching=batching), CATALOG)
    running.send(*rows(40), state("deals", 1))
    wait_until(lambda: len(bulk(emulator)) == 3)
    stalled = bulk(emulator)
    assert [request.status for request in stalled] == [0, 0, 0]
    emulator.script.faults[0].seconds = 0.0
    outcome = running.finish().delivered()
    assert len(outcome.states) == 1
    assert emulator.count(vendor, "deals") == 40
    assert most_at_a_time(emulator) == 3


def most_at_a_time(emulator: Emulator) -> int:
    """Return how many bulk requests overlapped, by the log's times."""
    edges = []
    for request in bulk(emulator):
        edges += [(request.time, 1), (request.time + request.duration_ms / 1000, -1)]
    open_now = most = 0
    for _, step in sorted(edges):
        open_now += step
        most = max(most, open_now)
    return most


@both
def test_stdin_is_the_backpressure(connector: Connector, emulate: Emulate, vendor: Vendor) -> None:
    """While the vendor does not answer, the connector stops reading instead of hoarding."""
    emulator = emulate(auto_create_tables=True)
    emulator.faults([{"kind": "stall_before", "match": "/bulk", "seconds": None, "count": None}])
    config = config_for(vendor, emulator.url, batching={"max_rows": 50})
    running = connector.writing(config, CATALOG)
    running.send(*rows(100))
    wait_until(lambda: len(bulk(emulator)) >= 1)
    assert filled(running, b"\n".join(rows(500)) + b"\n") < 20_000_000
    running.signal(signal.SIGTERM)
    assert running.ended().code != 0


def filled(running: Running, block: bytes, least: int = 0) -> int:
    """Write to its stdin until it has read and then not for two seconds; the number of bytes.

    `least`: what it reads in any case, if not at once.
    """
    assert running.process.stdin is not None
    pipe = running.process.stdin.fileno()
    os.set_blocking(pipe, False)
    holds = max(least, fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ))
    written, rest = 0, block
    while written < 50_000_000:
        if not select.select([], [pipe], [], 2.0 if written > holds else 100.0)[1]:
            break
        done = os.write(pipe, rest)
        written += done
        rest = rest[done:] or block
    return written


# --- how it ends


BAD_LINES = {
    "cut off": b'{"type":"RECORD","record":{"stream":"deals","data":{"name":"Rigby',
    "no JSON": b"Traceback (most recent call last): Rigby",
    "no object": b'["Rigby"]',
    "no type": b'{"record":{"stream":"deals","data":{"name":"Rigby"}}}',
    "no UTF-8": b'{"type":"RECORD","record":{"stream":"deals","data":{"name":"Rigby\xff"}}}',
    "a record without stream": b'{"type":"RECORD","record":{"data":{"name":"Rigby"}}}',
    "a record without data": b'{"type":"RECORD","record":{"stream":"deals","d":"Rigby"}}',
    "a state without content": b'{"type":"STATE","note":"Rigby"}',
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_ends_the_sync(connector: Connector, emulate: Emulate, line: bytes) -> None:
    """Its number is told and not its content; what came before it is delivered, nothing after."""
    emulator = emulate(auto_create_tables=True)
    lines = [*rows(3), state("deals", 1), *rows(1, 3), line, *rows(3, 4), state("deals", 2)]
    outcome = connector.write(config_for("kore", emulator.url), CATALOG, lines)
    assert outcome.code == 1
    assert outcome.stderr == b""
    kind, message = outcome.error
    assert kind == "system_error"
    assert "Line 6 " in message
    assert_discreet(outcome)
    assert [s["stream"]["stream_state"] for s in outcome.states] == [{"cursor": 1}]
    assert emulator.count("kore", "deals") == 4


def test_an_input_that_ends_within_a_line_is_no_success(
    connector: Connector, emulate: Emulate
) -> None:
    """A source that died while it wrote must not look like one that was done."""
    emulator = emulate(auto_create_tables=True)
    running = connector.writing(config_for("qobra", emulator.url), CATALOG)
    running.send(*rows(3), state("deals", 1))
    assert running.process.stdin is not None
    running.process.stdin.write(rows(1)[0][:40])
    outcome = running.finish()
    assert outcome.code == 1
    assert "Line 5 " in outcome.error[1]
    assert len(outcome.states) == 1


def test_a_last_line_may_lack_its_newline(connector: Connector, emulate: Emulate) -> None:
    """It is a whole message all the same."""
    emulator = emulate(auto_create_tables=True)
    running = connector.writing(config_for("qobra", emulator.url), CATALOG)
    running.send(*rows(3))
    assert running.process.stdin is not None
    running.process.stdin.write(state("deals", 1))
    assert len(running.finish().delivered().states) == 1


def test_a_record_of_an_unknown_stream_ends_the_sync(
    connector: Connector, emulate: Emulate
) -> None:
    """Nobody said where it goes."""
    emulator = emulate(auto_create_tables=True)
    lines = [*rows(3), state("deals", 1), record("calls", {"id": "1", "name": VALUE})]
    outcome = connector.write(config_for("qobra", emulator.url), CATALOG, lines)
    assert outcome.code == 1
    assert outcome.error[0] == "system_error"
    assert "calls" in outcome.error[1]
    assert len(outcome.states) == 1
    assert_discreet(outcome)


def test_states_of_two_kinds_end_the_sync(connector: Connector, emulate: Emulate) -> None:
    """STREAM and GLOBAL do not mix."""
    both_kinds = [state("deals", 1), b'{"type":"STATE","state":{"type":"GLOBAL","global":{}}}']
    outcome = connector.write(config_for("qobra", emulate().url), CATALOG, both_kinds)
    assert outcome.code == 1
    assert "STREAM and GLOBAL" in outcome.error[1]


@both
@the_command
def test_a_stdin_closed_at_once_is_an_empty_sync(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """Nothing came and nothing is wrong, as long as no status was due."""
    emulator = emulate()
    running = connector.writing(config_for(vendor, emulator.url), CATALOG, subprocess.DEVNULL)
    assert running.ended().delivered().states == []
    due = catalog(configured("deals", ["id"], generation_id=1, minimum_generation_id=0, sync_id=1))
    running = connector.writing(config_for(vendor, emulator.url), due, subprocess.DEVNULL)
    outcome = running.ended()
    assert outcome.code == 1
    assert outcome.error[0] == "transient_error"
    assert [request for request in emulator.requests if request.kind != "query"] == []


@both
def test_one_error_is_told_however_many_requests_fail(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """The platform decides by the first error, so there is only one."""
    emulator = emulate()  # without the table
    config = config_for(vendor, emulator.url, batching={"max_rows": 2, "max_parallel_requests": 8})
    outcome = connector.write(config, CATALOG, [*rows(100), state("deals", 1)])
    assert outcome.code == 1
    assert outcome.stderr == b""
    kind, message = outcome.error
    assert kind == "config_error"
    assert "table" in message
    assert outcome.states == []
    assert_discreet(outcome)


@pytest.mark.parametrize(
    ("path", "content", "word"),
    [
        ("config", {"provider": {"provider_type": "qobra"}}, "api_key"),
        ("config", "{", "not valid JSON"),
        ("catalog", {"streams": []}, "no streams"),
        ("catalog", "[", "not valid JSON"),
        ("catalog", catalog(configured("a", ["id"]), configured("a", ["id"])), "twice"),
        ("catalog", catalog(configured("a", ["id"], mode="update")), "not supported"),
    ],
)
def test_files_that_cannot_be_used_are_config_errors(
    connector: Connector, path: str, content: object, word: str
) -> None:
    """They end a sync before anything is read or sent."""
    files: dict[str, object] = {
        "config": config_for("qobra", "http://127.0.0.1:9"),
        "catalog": CATALOG,
        path: content,
    }
    outcome = connector.write(files["config"], files["catalog"], rows(1))
    assert outcome.code == 1
    assert outcome.error[0] == "config_error"
    assert word in outcome.error[1]


@both
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@the_command
def test_a_stop_acknowledges_only_what_is_settled(
    connector: Connector, emulate: Emulate, vendor: Vendor, number: signal.Signals
) -> None:
    """It takes seconds, it is not a success, and no state is ahead of its rows."""
    emulator = emulate(auto_create_tables=True)
    stall = {"kind": "stall_before", "match": "/bulk", "seconds": None, "at": 4, "count": None}
    emulator.faults([stall])
    batching = {"max_rows": 10, "max_parallel_requests": 1}
    running = connector.writing(config_for(vendor, emulator.url, batching=batching), CATALOG)
    for i in range(20):
        running.send(*rows(10, i * 10), state("deals", (i + 1) * 10))
    for _ in range(3):
        running.wait_for_state()
    wait_until(lambda: len(bulk(emulator)) >= 4)
    started = time.monotonic()
    running.signal(number)
    outcome = running.ended()
    assert time.monotonic() - started < 60  # a request has 120
    assert outcome.code != 0
    assert outcome.stderr == b""
    cursors = [found["stream"]["stream_state"]["cursor"] for found in outcome.states]
    assert cursors == [10, 20, 30]
    assert emulator.count(vendor, "deals") >= 30
    assert outcome.error[0] == "transient_error"


@the_command
def test_a_stop_while_idle_ends_at_once(connector: Connector, emulate: Emulate) -> None:
    """Nothing is under way, and stdin stays open."""
    running = connector.writing(config_for("qobra", emulate().url), CATALOG)
    running.send(state("deals", 1))
    running.wait_for_state()
    running.signal(signal.SIGTERM)
    outcome = running.ended()
    assert outcome.code != 0
    assert len(outcome.errors) == 1


@both
@the_command
def test_a_closed_stdout_ends_the_sync(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """Without a reader no state can be acknowledged, so it is not a success."""
    emulator = emulate(auto_create_tables=True)
    reading, writing = os.pipe()
    os.close(reading)
    config = config_for(vendor, emulator.url, batching={"max_rows": 5})
    running = connector.writing(config, CATALOG, stdout=writing)
    os.close(writing)
    with contextlib.suppress(BrokenPipeError):
        running.send(*rows(20), state("deals", 1))
    outcome = running.finish()
    assert outcome.code not in (0, None)
    assert outcome.stderr == b""


@the_command
def test_a_stdout_nobody_reads_does_not_hold_up_a_stop(
    connector: Connector, emulate: Emulate
) -> None:
    """A full pipe blocks the sync and not its end."""
    reading, writing = os.pipe()
    running = connector.writing(config_for("qobra", emulate().url), CATALOG, stdout=writing)
    os.close(writing)
    assert filled(running, state("deals", "x" * 1_000) + b"\n", least=100_000) > 100_000
    running.signal(signal.SIGTERM)
    assert running.ended().code != 0
    os.close(reading)


def test_socket_mode_is_refused(connector: Connector, emulate: Emulate) -> None:
    """Messages on sockets would be waited for in vain."""
    env = {"DATA_CHANNEL_MEDIUM": "SOCKET"}
    outcome = connector.write(config_for("qobra", emulate().url), CATALOG, [], env)
    assert outcome.code == 1
    assert outcome.error[0] == "config_error"


# --- what it never says


@both
@pytest.mark.parametrize("policy", ["fail", "skip"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 500, 301])
def test_what_a_vendor_quotes_is_not_passed_on(
    connector: Connector, emulate: Emulate, vendor: Vendor, status: int, policy: str
) -> None:
    """An error body may quote keys and rows; at no log level do they come out."""
    emulator = emulate(auto_create_tables=True)
    quote = f"cannot take {VALUE} with {SECRETS[vendor]}"
    body = {"message": quote, "errors": [{"msg": quote, "code": status}]}
    fault = {"kind": "status", "status": status, "body": body, "match": "/bulk", "count": None}
    emulator.faults([{**fault, "retry_after": 1_000}])
    config = config_for(vendor, emulator.url, rejected_records={"policy": policy})
    lines = [*rows(3), state("deals", 1)]
    outcome = connector.write(config, CATALOG, lines, {"LOG_LEVEL": "DEBUG"})
    assert outcome.stderr == b""
    assert_discreet(outcome)
    if outcome.code:
        assert len(outcome.errors) == 1
        assert outcome.states == []
    else:
        assert outcome.states[0]["destinationStats"] == {
            "recordCount": 0.0,
            "rejectedRecordCount": 3.0,
        }


@both
@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("Rigby " * 600, "Rigby " * 600),
        ("Rigby" * 600, "Rigby" * 600),
        ('Eleanor "Rigby"\nMüller', 'Eleanor "Rigby"\nMüller'),
        ("Eleanor Rigby", "Eleanor Rig..."),
        ("Eleanor Rigby", "ELEANOR RIGBY"),
    ],
    ids=["longer than what is read", "one long word", "escaped", "cut", "in capitals"],
)
def test_a_part_of_a_value_is_not_passed_on_either(
    connector: Connector, emulate: Emulate, vendor: Vendor, value: str, quoted: str
) -> None:
    """Vendors cut, escape and change what they quote."""
    emulator = emulate(auto_create_tables=True)
    body = {"message": f"bad value {quoted}"}
    fault = {"kind": "status", "status": 400, "body": body, "match": "/bulk", "count": None}
    emulator.faults([fault])
    lines = [record("deals", {"id": str(i), "name": value}) for i in range(2)]
    outcome = connector.write(config_for(vendor, emulator.url), CATALOG, lines)
    assert outcome.error[0] == "config_error"
    assert "bad value" in outcome.error[1]
    assert not re.search("rig|eleanor|ller", outcome.text, re.IGNORECASE)


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_a_row_a_vendor_rejects_is_counted_and_not_quoted(
    connector: Connector, emulate: Emulate, policy: str
) -> None:
    """Qobra's import names the bad row with its values; only the report may hold them."""
    emulator = emulate()
    emulator.create_table("qobra", "deals", {"id": "string", "name": "number"})
    report = connector.folder / "report.jsonl"
    rejected = {"policy": policy, "report_path": str(report)}
    good = record("deals", {"id": "2", "name": 5})
    config = config_for("qobra", emulator.url, rejected_records=rejected)
    outcome = connector.write(config, CATALOG, [*rows(1), good, state("deals", 1)])
    assert outcome.stderr == b""
    assert_discreet(outcome)
    assert emulator.count("qobra", "deals") == 1
    if policy == "fail":
        assert outcome.code == 1
        assert outcome.error[0] == "config_error"
        assert outcome.states == []
    else:
        (stats,) = [found["destinationStats"] for found in outcome.delivered().states]
        assert stats == {"recordCount": 1.0, "rejectedRecordCount": 1.0}
        assert VALUE in report.read_text()


@both
def test_masked_values_reach_no_table_and_no_output(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """Hashed, redacted and cut; the key is found by its hash, which takes the salt."""
    emulator = emulate(auto_create_tables=True)
    columns = [
        {"field": "id", "column": "id", "mask": "hash"},
        {"field": "name", "column": "name", "mask": "redact"},
        {"field": "zip", "column": "zip", "mask": "truncate", "mask_length": 2},
    ]
    config = config_for(
        vendor,
        emulator.url,
        mask_salt="salt-1",
        tables=[{"stream": "deals", "rename": columns}],
        diagnostics={"trace_path": f"{connector.folder}/trace.jsonl"},
    )
    fields = ["id", "name", "zip", "open"]
    streams = catalog(configured("deals", fields, "append_dedup", primary_key=[["id"]]))
    lines = [
        record("deals", {"id": "Mrs Eleanor", "name": VALUE, "zip": "L1 8JQ", "open": str(turn)})
        for turn in range(2)
    ]
    for _ in range(2):
        outcome = connector.write(config, streams, [*lines, state("deals", 1)]).delivered()
        assert_discreet(outcome, "Eleanor", "8JQ", "salt-1")
    hashed = hashlib.sha256(b"salt-1Mrs Eleanor").hexdigest()
    (row,) = emulator.rows(vendor, "deals")
    assert {name: row[name] for name in fields} == {
        "id": hashed,
        "name": "***",
        "zip": "L1",
        "open": "1",
    }
    assert not re.search("Eleanor|8JQ", (connector.folder / "trace.jsonl").read_text())


@both
def test_a_value_that_is_not_json_is_rejected_and_not_quoted(
    connector: Connector, emulate: Emulate, vendor: Vendor
) -> None:
    """NaN and half a surrogate pair are data that no vendor can take."""
    emulator = emulate(auto_create_tables=True)
    bad = [
        record("deals", f'{{"id":"8","name":NaN,"more":"{VALUE}"}}'),
        record("deals", f'{{"id":"9","name":"\\ud800 {VALUE}"}}'),
    ]
    lines = [*rows(2), *bad, *rows(1, 2), state("deals", 1)]
    skip = config_for(vendor, emulator.url, rejected_records={"policy": "skip"})
    outcome = connector.write(skip, CATALOG, lines).delivered()
    (stats,) = [found["destinationStats"] for found in outcome.states]
    assert stats == {"recordCount": 3.0, "rejectedRecordCount": 2.0}
    assert emulator.count(vendor, "deals") == 3
    assert_discreet(outcome)
    outcome = connector.write(config_for(vendor, emulator.url), CATALOG, lines)
    assert outcome.code == 1
    assert outcome.states == []
    assert_discreet(outcome)


@both
@pytest.mark.parametrize("mode", ["append", "overwrite", "append_dedup"])
@the_command
def test_nothing_is_left_in_the_temporary_directory(
    connector: Connector, emulate: Emulate, vendor: Vendor, mode: str
) -> None:
    """Rows that waited on disk are gone after the sync, in every mode (`delivered` looks)."""
    emulator = emulate(auto_create_tables=True)
    stream = configured("deals", ["id", "name"], mode=mode, primary_key=[["id"]])
    lines = [*rows(50), state("deals", 1), complete("deals")]
    connector.write(config_for(vendor, emulator.url), catalog(stream), lines).delivered()
    assert emulator.count(vendor, "deals") == 50
