"""The trace: what stands in a line, who may read the file, and the page that is made of it."""

from __future__ import annotations

import json
import logging
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from destination_bulk_tables.errors import ConfigError, TransientError
from destination_bulk_tables.exchange import Exchange, Tally
from destination_bulk_tables.http import HttpRequest, HttpResponse, Refused
from destination_bulk_tables.outcomes import Context, Unverified
from destination_bulk_tables.passage import Delivery
from destination_bulk_tables.private_files import file_in
from destination_bulk_tables.secrecy import SECRETS
from destination_bulk_tables.sender import Sender
from destination_bulk_tables.stores import StoreSettings
from destination_bulk_tables.trace import Line, Trace
from destination_bulk_tables.trace.__main__ import main
from destination_bulk_tables.trace.figures import figures_of
from destination_bulk_tables.trace.page import page
from destination_bulk_tables.trace.places import MOST_BYTES, PART_BYTES, PART_S, StorePlace
from destination_bulk_tables.transport import TransportError
from unit_tests.custom_forms import answer, block, dedup, made, sent_by, table
from unit_tests.fakes import Answer, FakeClock, FakeTransport, scripted, status
from unit_tests.syncs import kore, qobra
from unit_tests.test_sender import TABLE, asked, batch_of, deals

WRITTEN = status(200, b'{"import_id": "imp-7", "objects_imported": 3}')


def traced(path: object, clock: FakeClock | None = None) -> Trace:
    return Trace(str(path), StoreSettings(), clock or FakeClock(), threading.Event())


class Rig:
    """A sender that traces, on a fake clock and network."""

    def __init__(self, path: Path, answer: Answer, provider: Any = None, **limits: Any) -> None:
        self.clock = FakeClock()
        self.path = path
        self.transport = FakeTransport(self.clock, answer)
        self.trace = traced(path, self.clock)
        self.exchange = Exchange(
            provider or qobra(),
            self.transport,
            self.clock,
            threading.Event(),
            jitter=lambda: 1.0,
            trace=self.trace,
            **limits,
        )
        self.sender = Sender(self.exchange, narrows=True)

    def lines(self) -> list[dict[str, Any]]:
        self.trace.close()
        return [json.loads(line) for line in self.path.read_text().splitlines()]


def picked(lines: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(line.get(name) for name in names) for line in lines]


def test_a_line_for_each_attempt(tmp_path: Path) -> None:
    """With size, status, duration, number, and why and how long it was waited before it."""
    broken = TransportError("maybe", "the connection broke")
    rig = Rig(tmp_path / "t.jsonl", scripted(status(429), broken, WRITTEN))
    rig.sender.deliver(Delivery(batch_of(deals(3))))
    rig.sender.exchange.run(TABLE, asked(HttpRequest("GET", "/v1/imports/imp%207")))
    lines = rig.lines()
    assert picked(lines, "method", "rows", "status", "attempt", "cause", "trouble") == [
        ("POST", 3, 429, None, None, None),
        ("POST", 3, 0, 2, "HTTP 429", "the connection broke"),
        ("POST", 3, 200, 3, "the connection broke", None),
        ("GET", None, 200, None, None, None),
    ]
    assert [line.get("waited_ms", 0) / 1000 for line in lines] == [0, *rig.clock.waits, 0]
    assert [line.get("import_id") for line in lines] == [None, None, "imp-7", "imp 7"]
    assert {line["table"] for line in lines} == {"deals"}
    assert {line["bytes"] for line in lines[:3]} == {len(rig.transport.sent[0].request.body or b"")}
    assert [line["ms"] for line in lines] == [10.0] * 4
    assert lines[0]["time"] == "2023-11-14T22:13:20Z"


def test_the_rate_limit_has_a_wait_of_its_own(tmp_path: Path) -> None:
    """It is no fault of a request that came before."""
    provider = kore()
    rig = Rig(tmp_path / "t.jsonl", scripted(status(200, b"{}")), provider)
    for _ in range(min(n for n, _ in provider.limits.windows) + 1):
        rig.sender.exchange.run(TABLE, asked(HttpRequest("GET", "/x")))
    waits = [line.get("limited_ms", 0) for line in rig.lines()]
    assert sum(waits) == pytest.approx(1000 * sum(rig.clock.waits))
    assert waits[0] == 0 < waits[-1]


def test_a_refused_batch_says_why_its_halves_follow(tmp_path: Path) -> None:
    """The cause stands at the request that came of it."""

    def answer(request: HttpRequest) -> HttpResponse:
        return status(400, b"bad d1") if b'"d1"' in (request.body or b"") else WRITTEN

    rig = Rig(tmp_path / "t.jsonl", answer)
    rig.sender.deliver(Delivery(batch_of(deals(2))))
    assert picked(rig.lines(), "rows", "status", "cause")[:2] == [
        (2, 400, None),
        (1, 200, "refused"),
    ]


def test_no_secret_and_no_query_is_in_a_line(tmp_path: Path) -> None:
    """Neither of the path, nor in what a server says, and no body at all."""
    SECRETS.replace(["hush-hush"])
    answer = status(200, b'{"import_id": "hush-hush", "objects_imported": 1}')
    rig = Rig(tmp_path / "t.jsonl", scripted(TransportError("no", "hush-hush is away"), answer))
    request = HttpRequest("POST", "/hook/hush-hush/x?key=hush-hush&id=d1", b'{"id":"d1"}', rows=1)
    rig.sender.exchange.run(TABLE, asked(request))
    lines, text = rig.lines(), rig.path.read_text()
    assert "hush" not in text
    assert "d1" not in text
    assert picked(lines, "path", "import_id") == [
        ("/hook/****/x", None),
        ("/hook/****/x", "****"),
    ]


def test_no_value_of_a_row_and_no_signed_address_is_in_a_line(tmp_path: Path) -> None:
    """A path that holds a row's key, and a job whose address carries what opens it."""
    provider = made(
        max_rows_per_request=1,
        body={"body_type": "lines"},
        upsert={"upsert_type": "request", "method": "PUT", "path": "/t/{table}/{key}/{column:n}"},
        job={"job_type": "poll", "id": "at", "status": "s", "done": "ok"},
    )
    begun = answer(202, {"at": "/jobs/7?sig=abc"})
    rig = Rig(tmp_path / "t.jsonl", scripted(begun, answer(200, {"s": "ok"})), provider)
    row = block(b'{"id":"jane@example.com","n":"doe"}')
    receipt = rig.sender.exchange.run(dedup(), provider.write(dedup(), row, Context())).receipt
    assert receipt is not None
    rig.sender.exchange.run(dedup(), provider.verify(Unverified(dedup(), (receipt,), 1, 0.0)))
    paths = [sent.request.path for sent in rig.transport.sent]
    assert paths == ["/t/deals/jane%40example.com/doe", "/jobs/7?sig=abc"]
    assert picked(rig.lines(), "path", "import_id") == [
        ("/t/deals/*/*", "/jobs/7"),
        ("/jobs/7", "/jobs/7"),
    ]


def test_the_job_of_an_api_is_named() -> None:
    """By the request that began it and by those that ask for it."""
    job = {"job_type": "poll", "id": "id", "path": "/jobs/{job}", "status": "s", "done": "ok"}
    provider = made(job=job)
    begun, asked_for = sent_by(provider), provider._jobs._request(table(), "7")  # type: ignore[union-attr]
    assert provider.job_of(begun, answer(202, {"id": 7})) == "7"
    assert provider.job_of(begun, answer(202, {})) is None
    assert provider.job_of(asked_for, answer(200, {"s": "ok"})) == "7"


def test_a_request_after_a_refused_credential_tells_it(tmp_path: Path) -> None:
    """It is the second attempt."""
    rig = Rig(tmp_path / "t.jsonl", scripted(status(401), status(200, b"{}")), kore())
    tally = Tally()
    rig.sender.exchange.run(TABLE, asked(), tally)
    assert picked(rig.lines(), "status", "attempt", "cause") == [
        (401, None, None),
        (200, 2, "HTTP 401"),
    ]
    assert (tally.requests, tally.retries) == (2, 1)


def test_a_request_that_is_given_up_is_traced(tmp_path: Path) -> None:
    """Also one that ends in an exception."""
    rig = Rig(tmp_path / "t.jsonl", scripted(status(422, b"no")))
    with pytest.raises(Refused):
        rig.sender.exchange.run(None, asked())
    assert picked(rig.lines(), "table", "status") == [("-", 422)]


# --- the file


def test_a_trace_is_for_its_owner_and_one_per_sync_in_a_folder(tmp_path: Path) -> None:
    """It names tables and addresses."""
    traced(f"{tmp_path}/new/").close()
    [file] = (tmp_path / "new").iterdir()
    assert file == file_in(str(tmp_path / "new"), "trace", FakeClock().now())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def _warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


LINE = Line(datetime(2026, 1, 2, tzinfo=UTC), "deals", "POST", "/x", 3, 9, 200, 12.0)


@pytest.mark.parametrize("at", ["link", "file/below", "/dev/full"])
def test_a_trace_that_cannot_be_written_is_a_warning_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, at: str
) -> None:
    """The sync goes on, and nothing is written through a link."""
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    trace = traced(tmp_path / at)
    trace.add(LINE)
    trace.add(LINE)
    trace.close()
    [warning] = _warned(caplog)
    assert "trace_not_written setting=diagnostics.trace_path" in warning
    assert (tmp_path / "file").read_text() == "precious"


def test_a_line_after_the_end_is_dropped(tmp_path: Path) -> None:
    """A sender thread may still be at work."""
    trace = traced(tmp_path / "t")
    trace.close()
    trace.add(LINE)
    trace.close()
    assert (tmp_path / "t").read_bytes() == b""


class Bucket:
    """A store that keeps parts; while `door` is shut, none is taken."""

    def __init__(self) -> None:
        self.parts: dict[int, bytes] = {}
        self.door = threading.Event()
        self.door.set()
        self.fails = False

    def put(self, number: int, data: bytes) -> None:
        assert self.door.wait(30)
        if self.fails:
            message = "the store answered 403"
            raise ConfigError(message)
        self.parts[number] = data


def test_a_store_gets_a_part_when_it_is_due_and_the_rest_at_the_end() -> None:
    """By size or by age; together they are all lines in order."""
    bucket, clock = Bucket(), FakeClock()
    place = StorePlace(bucket.put, clock)
    lines = [b"%7d\n" % n for n in range(6)]
    place.write(lines[0])
    clock.advance(PART_S)
    for text in lines[1:]:
        place.write(text)
    place.close()
    assert b"".join(bucket.parts[n] for n in sorted(bucket.parts)) == b"".join(lines)
    assert bucket.parts[1] == lines[0] + lines[1]
    assert len(bucket.parts) == 2


def test_a_store_that_does_not_answer_is_not_waited_for() -> None:
    """Lines gather in memory up to a limit, at which the trace is given up."""
    bucket = Bucket()
    bucket.door.clear()
    place = StorePlace(bucket.put, FakeClock())
    data = b"x" * PART_BYTES
    for _ in range(1 + MOST_BYTES // PART_BYTES):
        place.write(data)
    with pytest.raises(TransientError, match="slower than they come"):
        place.write(data)
    bucket.door.set()
    place.close()
    assert len(bucket.parts[1]) == PART_BYTES


def test_a_store_that_refuses_is_known_at_the_next_part_and_at_the_end() -> None:
    """Whatever a sync is at, the trace is what ends."""
    bucket = Bucket()
    bucket.fails = True
    place = StorePlace(bucket.put, FakeClock())
    place.write(b"x")
    with pytest.raises(ConfigError, match="403"):
        place.close()


def test_a_store_that_cannot_be_opened_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The sync goes on without a trace."""
    settings = StoreSettings(service_account_key="no key")
    trace = Trace("gs://bucket/x", settings, FakeClock(), threading.Event())
    trace.add(LINE)
    trace.close()
    [warning] = _warned(caplog)
    assert "cause=The object store of diagnostics.trace_path cannot be opened" in warning


# --- the page


def line(second: float = 0.0, **more: Any) -> Line:
    members: dict[str, Any] = {name: getattr(LINE, name) for name in Line.__struct_fields__}
    return Line(**members | {"time": LINE.time + timedelta(seconds=second)} | more)


def test_the_figures_of_a_trace() -> None:
    """Spans, kinds and tables count each request once; waits are told apart by cause."""
    found = figures_of(
        [
            line(0, import_id="i"),
            line(1.5, status=429),
            line(3.0, waited_ms=1400.0, cause="HTTP 429", attempt=2, limited_ms=200.0),
            line(5.0, table="calls", status=0, trouble="broken", rows=None),
            line(9.0, method="GET", import_id="i", rows=None, ms=1000.0),
        ]
    )
    assert found.kinds == {"2xx": 3, "429": 1, "no answer": 1}
    assert sum(span.total() for span in found.spans) == 5
    assert len(found.spans) <= 61
    assert found.elapsed_s == pytest.approx(10.0)
    assert [(t.requests, t.rows, t.not_ok) for t in found.tables.values()] == [
        (1, 0, 1),
        (4, 6, 1),
    ]
    assert found.waits_s == pytest.approx(
        {
            "imports, from accepted to the last look": 9.988,
            "after: HTTP 429": 1.4,
            "answers": 1.048,
            "the rate limit": 0.2,
        }
    )


def test_a_page_needs_nothing_else_and_escapes_what_it_shows() -> None:
    """No script, no address of another file; a name of a table is text."""
    lines = [line(n, table="<b>&", trouble="<i>", status=0) for n in range(3)]
    text = page(figures_of(lines), "<t>", 2)
    assert "<b>" not in text
    assert "<i>" not in text
    assert "&lt;b&gt;&amp;" in text
    assert not [word for word in ("<script", "http:", "https:", "url(", "src=") if word in text]
    assert "2 lines are no lines of a trace" in text


def test_the_command_makes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the trace unless told; the torn end of a killed sync is left out."""
    path = tmp_path / "t.jsonl"
    trace = traced(path)
    trace.add(LINE)
    trace.close()
    path.write_bytes(path.read_bytes() + b'{"time":"2026')
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == f"1 requests: {path}.html\n"
    text = Path(f"{path}.html").read_text()
    assert "1 requests from 2026-01-02 00:00:00 UTC" in text
    assert main([str(path), "-"]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("config", ["{", "{}", '{"object_store": 1}'])
def test_a_config_without_a_store_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: str
) -> None:
    """The command needs it for an address only."""
    path = tmp_path / "config.json"
    path.write_text(config)
    assert main(["s3://bucket/x", f"--config={path}"]) == 1
    assert capsys.readouterr().err == (
        f"{path} is no config of this connector with an object_store.\n"
    )


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), (b"", "no trace"), (b'{"a":1}\n\xff', "no trace")]
)
def test_what_is_no_trace_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, said: str
) -> None:
    """And no page is made of it."""
    path = tmp_path / "t.jsonl"
    if content is not None:
        path.write_bytes(content)
    assert main([str(path)]) == 1
    [told] = capsys.readouterr().err.splitlines()
    assert str(path) in told
    assert said in told
    assert not Path(f"{path}.html").exists()
