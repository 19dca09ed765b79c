"""How the verbs are put together: what a check says, and a write from stdin to stdout."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from destination_bulk_tables import commands, sync
from destination_bulk_tables.catalog import plan_streams
from destination_bulk_tables.errors import ConfigError, DestinationError, InternalError
from destination_bulk_tables.http import HttpRequest, HttpResponse
from destination_bulk_tables.model import JsonObject, StreamKey
from destination_bulk_tables.output import LogLines, Output
from destination_bulk_tables.secrecy import SECRETS
from destination_bulk_tables.spool import DiskBudget
from destination_bulk_tables.stdio import LineWriter
from destination_bulk_tables.transport import Transport, TransportError
from unit_tests.fakes import FakeClock, FakeTransport, status
from unit_tests.syncs import catalog_of
from unit_tests.vendors import SECRET, KoreVendor, answer_of

KORE: JsonObject = {
    "provider_type": "kore",
    "host": "https://platform.example",
    "authentication": {"auth_type": "jwt_app", "client_id": "cs-1", "client_secret": SECRET},
}
QOBRA: JsonObject = {"provider_type": "qobra", "api_key": "the-key"}


def answering(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[HttpRequest], HttpResponse]
) -> list[tuple[HttpRequest, float]]:
    """Have every request answered from memory; the list gets the requests and their timeouts."""
    sent: list[tuple[HttpRequest, float]] = []

    def send(_: Transport, request: HttpRequest, headers: Any, timeout_s: float) -> HttpResponse:  # noqa: ARG001
        sent.append((request, timeout_s))
        return answer(request)

    monkeypatch.setattr(Transport, "send", send)
    return sent


# --- check


def test_a_good_credential_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the provider alone, and with each table that is named."""
    sent = answering(monkeypatch, lambda _: answer_of(200, {"data": []}))
    assert commands.check({"provider": QOBRA}) is None
    assert sent[0][1] == 20.0
    sent = answering(monkeypatch, lambda _: answer_of(200, {"queryResult": [], "total": 0}))
    tables: JsonObject = {"tables": [{"stream": "a", "table": "t1"}, {"stream": "t2"}]}
    assert commands.check({"provider": KORE, **tables}) is None
    assert ["/t1/" in sent[0][0].path, "/t2/" in sent[1][0].path] == [True, True]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("dns", "The host name in {} does not resolve"),
        ("tls", "The TLS certificate of the address in {} is not valid"),
        ("connect", "The address in {} cannot be reached"),
        ("timeout", "The address in {} did not answer within 20 s"),
        ("broken", "The address in {} closed the connection"),
    ],
)
def test_each_way_not_to_reach_the_vendor_has_its_words(
    monkeypatch: pytest.MonkeyPatch, kind: Any, words: str
) -> None:
    """One attempt: a person waits for the answer, which names the setting with the address."""

    def fail(_: HttpRequest) -> HttpResponse:
        raise TransportError("no", "refused", kind)

    sent = answering(monkeypatch, fail)
    where = 'base_url ("API address" in the form)'
    assert words.format(where) in str(commands.check({"provider": QOBRA}))
    assert len(sent) == 1
    where = 'baserow.address ("Baserow > Address" in the form)'
    preset: JsonObject = {
        "provider_type": "baserow",
        "baserow": {"address": "https://b.example", "token": "t"},
    }
    assert words.format(where) in str(commands.check({"provider": preset}))


@pytest.mark.parametrize("code", [401, 403, 404, 302, 418])
def test_a_refused_check_says_what_to_change(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """The answer names the vendor's status and no secret."""
    answering(monkeypatch, lambda _: status(code, b"the-key"))
    found = str(commands.check({"provider": QOBRA}))
    assert str(code) in found
    assert "the-key" not in found


@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_check_that_the_address_does_not_take_names_it(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Another server's answer to a request it does not know is not an unexpected error."""
    answering(monkeypatch, lambda _: status(code))
    found = str(commands.check({"provider": QOBRA}))
    assert "base_url" in found
    assert "unexpected" not in found


def test_a_bad_config_is_an_answer_too() -> None:
    """Whatever is wrong, a check answers."""
    assert "provider_type" in str(commands.check({}))


def test_an_unexpected_error_is_reported_without_its_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its text may hold a value."""

    def fail(_: HttpRequest) -> HttpResponse:
        raise ZeroDivisionError("a secret value")

    answering(monkeypatch, fail)
    found = str(commands.check({"provider": QOBRA}))
    assert "ZeroDivisionError" in found
    assert "secret" not in found


# --- write


def lines_of(*messages: JsonObject) -> bytes:
    """Messages as a source writes them."""
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


def record(number: int) -> JsonObject:
    """A RECORD message."""
    row: JsonObject = {"id": f"d{number}", "amount": number}
    return {"type": "RECORD", "record": {"stream": "deals", "data": row, "emitted_at": 1}}


STATE: JsonObject = {
    "type": "STATE",
    "state": {
        "type": "STREAM",
        "stream": {"stream_descriptor": {"name": "deals"}, "stream_state": {"cursor": 5}},
    },
}
COMPLETE: JsonObject = {
    "type": "TRACE",
    "trace": {
        "type": "STREAM_STATUS",
        "emitted_at": 1,
        "stream_status": {"stream_descriptor": {"name": "deals"}, "status": "COMPLETE"},
    },
}


def write(
    monkeypatch: pytest.MonkeyPatch,
    vendor: KoreVendor,
    text: bytes,
    catalog: JsonObject | None = None,
    **config: Any,
) -> tuple[list[Any], DestinationError | None]:
    """Write this input; return the messages on stdout and the error that ended the sync."""
    clock = FakeClock()
    monkeypatch.setattr(commands, "Transport", lambda *_, **__: FakeTransport(clock, vendor.answer))
    in_r, in_w = os.pipe()
    out_r, out_w = os.pipe()
    os.write(in_w, text)
    os.close(in_w)
    stop = threading.Event()
    error = None
    try:
        commands.write(
            {"provider": KORE, **config},
            catalog or catalog_of("append"),
            in_r,
            LineWriter(out_w, stop),
            stop,
            clock,
        )
    except DestinationError as found:
        error = found
    os.close(out_w)
    os.close(in_r)
    with os.fdopen(out_r, "rb") as out:
        return [json.loads(line) for line in out], error


def test_records_go_in_and_states_come_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """From bytes on stdin to rows in the table and the state on stdout."""
    vendor = KoreVendor()
    text = lines_of(record(1), record(2), STATE, COMPLETE)
    messages, error = write(monkeypatch, vendor, text)
    assert error is None
    assert [row["id"] for row in vendor.rows()] == ["d1", "d2"]
    [message] = messages
    assert message["state"]["stream"]["stream_state"] == {"cursor": 5}
    assert message["state"]["destinationStats"] == {"recordCount": 2.0}


def test_a_line_that_is_no_message_fails_the_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came before it is delivered; its content is not in the error."""
    vendor = KoreVendor()
    messages, error = write(
        monkeypatch, vendor, lines_of(record(1), STATE) + b"secret garbage\n" + lines_of(COMPLETE)
    )
    assert isinstance(error, InternalError)
    assert "3" in error.message
    assert "secret" not in error.message
    assert len(messages) == 1 == len(vendor.rows())


def test_what_cannot_work_is_refused_before_the_first_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Socket mode, a system column, a table locked against truncation."""
    vendor = KoreVendor()
    catalog: Any = catalog_of("append")
    catalog["streams"][0]["stream"]["json_schema"]["properties"]["sys_Id"] = {"type": "string"}
    _, error = write(monkeypatch, vendor, lines_of(COMPLETE), catalog)
    assert isinstance(error, ConfigError)
    _, error = write(monkeypatch, vendor, b"", catalog_of("overwrite"), truncate_mode="never")
    assert isinstance(error, ConfigError)
    monkeypatch.setenv("DATA_CHANNEL_MEDIUM", "SOCKET")
    _, error = write(monkeypatch, vendor, b"")
    assert isinstance(error, ConfigError)
    assert vendor.tokens == set()


@pytest.mark.parametrize("policy", ["fail", "skip"])
@pytest.mark.parametrize("mode", ["append", "append_dedup", "overwrite"])
@pytest.mark.parametrize("constants", [[], [{"column": "ref", "value": "x"}]])
def test_qobra_without_its_id_column(policy: str, mode: Any, constants: Any) -> None:
    """Nothing in a row is at fault, so no policy rejects the rows one by one."""
    config = commands.parse_config(
        {
            "provider": {**QOBRA, "id_field": "ref"},
            "rejected_records": {"policy": policy},
            "tables": [{"stream": "deals", "constants": constants}],
        }
    )
    [plan] = plan_streams(catalog_of(mode), config).values()
    with pytest.raises(ConfigError, match="id_field"):
        sync.require_possible([plan], config)


@pytest.mark.parametrize(
    ("provider", "mode", "counts", "stages"),
    [
        (KORE, "append", True, False),
        (KORE, "append_dedup", False, False),
        (KORE, "overwrite", False, True),
        (QOBRA, "append", False, False),
        (QOBRA, "append_dedup", False, False),
        (QOBRA, "overwrite", False, True),
    ],
)
def test_a_lane_has_what_its_mode_needs(
    provider: JsonObject,
    mode: Any,
    counts: bool,  # noqa: FBT001
    stages: bool,  # noqa: FBT001
) -> None:
    """Only an append that can be read back counts the table; only a replace is staged."""
    config = commands.parse_config({"provider": provider})
    [plan] = plan_streams(catalog_of(mode), config).values()
    lane = sync.make_lane(plan, config, DiskBudget("/nowhere", 1))
    assert lane.needs_count is counts
    assert (lane.load is not None) is stages
    assert lane.batcher.max_rows == config.provider.limits.max_rows
    assert lane.batcher.max_bytes == config.provider.limits.max_bytes


def test_batching_settings_win_over_the_defaults() -> None:
    """The user's limits are the batcher's."""
    config = commands.parse_config(
        {"provider": KORE, "batching": {"max_rows": 7, "max_megabytes": 1}}
    )
    [plan] = plan_streams(catalog_of("append"), config).values()
    batcher = sync.make_lane(plan, config, DiskBudget("/nowhere", 1)).batcher
    assert (batcher.max_rows, batcher.max_bytes) == (7, 1_000_000)


# --- what is printed


def printed(*messages: dict[str, object]) -> list[Any]:
    """Return what is written of these messages."""
    read, write_end = os.pipe()
    output = Output(LineWriter(write_end, threading.Event()))
    for message in messages:
        output.message(message)
    os.close(write_end)
    with os.fdopen(read, "rb") as out:
        return [json.loads(line) for line in out]


def test_the_trace_of_a_failure_names_type_and_stream_and_no_secret() -> None:
    """One TRACE ERROR; secrets are masked wherever they stand."""
    read, write_end = os.pipe()
    output = Output(LineWriter(write_end, threading.Event()))
    SECRETS.replace(["the-key"])
    output.error(ConfigError("Key the-key is wrong.", stream=StreamKey("crm", "deals")))
    os.close(write_end)
    with os.fdopen(read, "rb") as out:
        trace = json.loads(out.read())["trace"]
    assert trace["type"] == "ERROR"
    assert trace["error"]["failure_type"] == "config_error"
    assert trace["error"]["stream_descriptor"] == {"name": "deals", "namespace": "crm"}
    assert "the-key" not in json.dumps(trace)


@pytest.mark.parametrize("secret", ["LOG", "INFO", "TRACE", "ERROR", "FAILED", "sales", "system"])
def test_what_the_platform_acts_on_is_never_masked(secret: str) -> None:
    """A header value may be a word of the protocol, or the name of a stream."""
    SECRETS.replace([secret])
    error = {
        "message": f"{secret} is wrong",
        "internal_message": f"InternalError: {secret}",
        "failure_type": "system_error",
        "stream_descriptor": {"name": "sales", "namespace": None},
    }
    messages: list[dict[str, object]] = [
        {"type": "LOG", "log": {"level": "INFO", "message": f"run: {secret}"}},
        {"type": "TRACE", "trace": {"type": "ERROR", "emitted_at": 1, "error": error}},
        {
            "type": "CONNECTION_STATUS",
            "connectionStatus": {"status": "FAILED", "message": f"No {secret}."},
        },
    ]
    log, trace, status_ = printed(*messages)
    assert log == {"type": "LOG", "log": {"level": "INFO", "message": "run: ****"}}
    shown = {"message": "**** is wrong", "internal_message": "InternalError: ****"}
    assert trace == {
        "type": "TRACE",
        "trace": {"type": "ERROR", "emitted_at": 1, "error": {**error, **shown}},
    }
    assert status_["connectionStatus"] == {"status": "FAILED", "message": "No ****."}


def test_a_library_logs_nothing() -> None:
    """Its line may hold a whole URL, or a header of the answer as it came."""
    read, write_end = os.pipe()
    lines = LogLines(Output(LineWriter(write_end, threading.Event())))
    for name in ("urllib3.connectionpool", "urllib3", "requests", "destination_bulk_tables.run"):
        lines.handle(logging.makeLogRecord({"name": name, "msg": name, "levelno": 50}))
    os.close(write_end)
    with os.fdopen(read, "rb") as out:
        assert [json.loads(line)["log"]["message"] for line in out] == [
            "run: destination_bulk_tables.run"
        ]


def test_the_specification_offers_the_three_modes() -> None:
    """As the platform asks for them."""
    found = commands.specification()
    assert found["supported_destination_sync_modes"] == ["append", "overwrite", "append_dedup"]
    assert found["supportsIncremental"] is True


def test_files_that_cannot_be_read(tmp_path: Any) -> None:
    """A missing or broken file is the user's to fix, who is told where it is broken."""
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text('{"a": 1}')
    bad.write_text("{secret")
    odd = tmp_path / "odd.json"
    odd.write_text('{"secret": NaN}')
    assert commands.load_json(str(good), "config") == {"a": 1}
    for path in (bad, odd, tmp_path / "none.json"):
        with pytest.raises(ConfigError) as caught:
            commands.load_json(str(path), "config")
        assert "secret" not in caught.value.message
    with pytest.raises(ConfigError, match=r"not valid JSON \(line 1, column 2\)"):
        commands.load_json(str(bad), "config")


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Any) -> None:
    """Some editors write one, and nothing shows it."""
    path = tmp_path / "config.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert commands.load_json(str(path), "config") == {"a": 1}


def test_a_member_twice_is_an_error(tmp_path: Any) -> None:
    """The first of the two would do nothing; it may be the lock."""
    path = tmp_path / "config.json"
    path.write_text('{"truncate_mode": "never", "tables": [], "truncate_mode": "always"}')
    with pytest.raises(ConfigError, match="config file has the member 'truncate_mode' twice"):
        commands.load_json(str(path), "config")


def test_a_secret_under_an_old_name_is_masked_too() -> None:
    """A config of an older form, also one whose choice is not known."""
    section: JsonObject = {"provider_type": "custom_http", "authentication": {"token": "t0k-en"}}
    commands.keep_secrets({"provider": section})
    assert "t0k-en" not in SECRETS.mask("bad t0k-en")
