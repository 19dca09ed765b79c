"""`preview` shows what `write` sends, byte for byte, and sends nothing that writes."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from destination_bulk_tables.providers.presets import PRESETS, Preset
from integration_tests.connector import COMMAND
from integration_tests.emulator import Emulator
from integration_tests.vendor_configs import config_for

DOCS = (Path(__file__).parents[1] / "docs/custom_http.md").read_text("utf-8")
DATASETTE = re.search(r"config.json <<END\n(.*?)END", DOCS, re.DOTALL)
assert DATASETTE
READY: list[dict[str, Any]] = [
    *map(json.loads, re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)),
    json.loads(DATASETTE[1])["provider"],
]
SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "amount": {"type": "number"},
        "at": {"type": "string", "format": "date-time"},
        "tags": {"type": "array"},
    },
}


_ANSWER = b'{"queryResult":[],"total":0,"hasMore":false}'


class Recorder(ThreadingHTTPServer):
    """Answers everything as Kore.ai would an empty table; keeps (method, path, body) of each.

    `headers` are those of the request that was `awaited`.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.awaited: tuple[str, str, bytes] | None = None
        self.headers: dict[str, str] = {}
        self.seen = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        recorder = self.server
        assert isinstance(recorder, Recorder)
        recorder.requests.append((self.command, self.path, body))
        if recorder.requests[-1] == recorder.awaited:
            recorder.headers = {name.lower(): value for name, value in self.headers.items()}
            recorder.seen.set()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(_ANSWER)))
        self.end_headers()
        self.wfile.write(_ANSWER)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 - names it looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has there
        """Keep quiet."""


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """A recording server."""
    with Recorder() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def _catalog(mode: str, schema: Any = SCHEMA) -> dict[str, Any]:
    stream = {"name": "deals", "json_schema": schema}
    configured = {
        "stream": stream,
        "sync_mode": "full_refresh",
        "destination_sync_mode": mode,
        "primary_key": [["id"]],
        "cursor_field": ["at"],
    }
    return {"streams": [configured]}


def _messages(rows: Sequence[dict[str, Any]]) -> str:
    records = [
        {"type": "RECORD", "record": {"stream": "deals", "emitted_at": 1, "data": row}}
        for row in rows
    ]
    return "".join(json.dumps(record) + "\n" for record in records)


def _state() -> str:
    stream = {"stream_descriptor": {"name": "deals"}, "stream_state": {}}
    return json.dumps({"type": "STATE", "state": {"type": "STREAM", "stream": stream}}) + "\n"


ROWS = [
    {
        "id": f"r{n}",
        "amount": n / 4,
        "at": f"2026-01-{n % 28 + 1:02}T01:02:03.123456+02:00",
        "tags": ["ä", n] if n % 3 else None,
        "extra": True,
    }
    for n in range(250)
]


def _run(
    verb: str,
    folder: Path,
    config: dict[str, Any],
    mode: str,
    text: str,
    *more: str,
    schema: Any = SCHEMA,
) -> subprocess.CompletedProcess[str]:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "catalog.json").write_text(json.dumps(_catalog(mode, schema)))
    return subprocess.run(
        [COMMAND, verb, *_files(folder), *more],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


def _files(folder: Path) -> list[str]:
    return ["--config", str(folder / "config.json"), "--catalog", str(folder / "catalog.json")]


def _spelled_out(preset: Preset, url: str) -> dict[str, Any]:
    """A preset as custom_http, at another address, and without counts that nobody would answer."""
    fields: dict[str, Any] = {
        name: field.example or "something"
        for name, field in preset.fields.items()
        if field.default is None
    }
    settings = preset.expanded({"provider_type": preset.name, preset.name: fields})
    counted = {name: v for name, v in settings.items() if not name.startswith("table_count")}
    emptying = counted.get("replace")
    if isinstance(emptying, dict):  # the same of a text that nobody would answer
        counted["replace"] = {k: v for k, v in emptying.items() if k != "success_text"}
    return {**counted, "api_address": url}


def _must_be_what_is_sent(
    recorder: Recorder, folder: Path, config: dict[str, Any], mode: str
) -> bool:
    """Compare; False where the configuration cannot do this mode, which both then say."""
    seen = _run("preview", folder, config, mode, _messages(ROWS), "--json", "--offline", "--whole")
    assert recorder.requests == []
    assert seen.stderr == ""
    report = json.loads(seen.stdout)
    if report["would_fail"]:
        _run("write", folder, config, mode, _messages(ROWS))
        assert recorder.requests == []
        return False
    [stream] = report["streams"]
    first = stream["first_request"]
    assert first["body_bytes"] == len(first["body"].encode())
    path = first["url"].removeprefix(recorder.url)
    recorder.awaited = (first["method"], path, first["body"].encode())
    command = [COMMAND, "write", *_files(folder)]
    writing = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert writing.stdin
    writing.stdin.write(_messages(ROWS).encode())
    writing.stdin.close()
    was_seen = recorder.seen.wait(120)
    writing.kill()  # the answers are not this vendor's, which would take the sync some time to say
    writing.wait()
    assert was_seen, (recorder.awaited[:2], [r[:2] for r in recorder.requests])
    for name, value in first["headers"].items():
        assert recorder.headers[name.lower()] == value or value == "****"
    before = stream["before_it"]
    if before is not None:
        sent = (before["method"], before["url"].removeprefix(recorder.url), before["body"].encode())
        assert recorder.requests.index(sent) < recorder.requests.index(recorder.awaited)
    return True


@pytest.mark.parametrize("mode", ["append", "append_dedup", "overwrite"])
@pytest.mark.parametrize("vendor", ["qobra", "kore"])
def test_vendors(recorder: Recorder, tmp_path: Path, vendor: Any, mode: str) -> None:
    """Both vendors, each mode: the request shown is the one that `write` sends."""
    config = config_for(vendor, recorder.url, batching={"max_rows": 100})
    assert _must_be_what_is_sent(recorder, tmp_path, config, mode)


@pytest.mark.parametrize("mode", ["append", "append_dedup", "overwrite"])
@pytest.mark.parametrize("preset", PRESETS, ids=[preset.name for preset in PRESETS])
def test_presets(recorder: Recorder, tmp_path: Path, preset: Preset, mode: str) -> None:
    """Each preset: the requests shown are those that `write` sends."""
    config = {"provider": _spelled_out(preset, recorder.url)}
    is_possible = _must_be_what_is_sent(recorder, tmp_path, config, mode)
    needed = {"append_dedup": "upsert", "overwrite": "replace"}.get(mode)
    assert is_possible is (needed is None or needed in preset.settings)


@pytest.mark.parametrize("form", READY, ids=lambda form: form["write_path"])
def test_configurations_of_the_docs(
    recorder: Recorder, tmp_path: Path, form: dict[str, Any]
) -> None:
    """Each one that can be copied: the request shown is the one that `write` sends."""
    config = {"provider": {**form, "api_address": recorder.url}}
    assert _must_be_what_is_sent(recorder, tmp_path, config, "append")


def test_what_a_person_reads(tmp_path: Path) -> None:
    """Rows, rejects, undeclared fields, the table's count and the replacement are told."""
    with Emulator(auto_create_tables=True) as emulator:
        columns = {"id": "string", "amount": "number", "at": "string", "tags": "string"}
        emulator.create_table("kore", "deals", columns)
        config = config_for("kore", emulator.url, nested_values="reject")
        done = _run("preview", tmp_path, config, "overwrite", _messages(ROWS))
        assert done.returncode == 1
        for text in (
            "Stream deals replaces table deals",
            "the table holds now: 0 rows",
            "not in the schema, not sent: extra",
            "250 read, 84 to send, 166 rejected",
            "nested_value: field 'tags'",
            "amount -> amount (number: as it comes, objects and arrays: reject, booleans",
            "-> at (string (date-time): date-time",
            "-> tags (array: as it comes, objects and arrays: reject, booleans",
            "0 rows would be replaced by 84",
            "A sync would fail: 166 row(s) would be rejected, and rejected_records.policy",
        ):
            assert text in done.stdout
        assert "kore-secret-1" not in done.stdout
        assert {r.path.rpartition("/")[2] for r in emulator.requests} == {"query"}


@pytest.mark.parametrize(
    ("percent", "sent", "given", "says"),
    [
        (0, 4, (), "10 rows would be replaced by 4"),
        (40, 4, (), "10 rows would be replaced by 4"),
        (50, 4, (), "refused; the table keeps 10 rows"),
        (50, 0, (), "refused; the table keeps 10 rows"),
        (50, 9, ("--rows", "2"), "10 rows would be replaced by 2"),
        (50, None, (), None),
    ],
    ids=["off", "enough", "too few", "empty", "a part is taken", "no messages"],
)
def test_a_guarded_replace(
    tmp_path: Path, percent: int, sent: int | None, given: tuple[str, ...], says: str | None
) -> None:
    """`replace_guard` is judged as a sync would, where the input tells how large a load will be."""
    lines = "" if sent is None else _messages(ROWS[:sent]) + _state()
    with Emulator(auto_create_tables=True) as emulator:
        columns = {"id": "string", "amount": "number", "at": "string", "tags": "string"}
        emulator.create_table("kore", "deals", columns)
        config = config_for("kore", emulator.url, replace_guard=percent)
        assert _run("write", tmp_path, config, "append", _messages(ROWS[:10])).returncode == 0
        done = _run("preview", tmp_path, config, "overwrite", lines, "--json", *given)
        report = json.loads(done.stdout)
        [stream] = report["streams"]
        assert (stream["rows_held_now"], stream.get("replace")) == (10, says)
        is_refused = says is not None and says.startswith("refused")
        assert report["would_fail"] is is_refused
        assert ("replace_guard" in (report["problem"] or "")) is is_refused
        assert done.returncode == int(is_refused)
        assert len(emulator.rows("kore", "deals")) == 10
        if sent is not None and not given:
            done = _run("write", tmp_path, config, "overwrite", lines)
            assert (done.returncode, len(emulator.rows("kore", "deals"))) == (
                (1, 10) if is_refused else (0, sent)
            )


def test_what_the_rate_limit_makes_of_the_requests(tmp_path: Path) -> None:
    """Ten at once and ten more every five seconds: the last five of 25 go after ten seconds."""
    limits = [{"requests": 10, "seconds": 5}]
    config = {"provider": {**READY[0], "rate_limits": limits}, "batching": {"max_rows": 10}}
    done = _run("preview", tmp_path, config, "append", _messages(ROWS), "--offline")
    told = "requests: at least 25, for which the rate limit wants at least 10 s"
    assert told in done.stdout


def test_part_of_the_input(tmp_path: Path) -> None:
    """`--rows` takes the first records only and still counts all that came; warnings are told."""
    with Emulator(auto_create_tables=True) as emulator:
        config = config_for("qobra", emulator.url, tables=[{"stream": "deal", "table": "x"}])
        given = ("--json", "--rows", "10")
        done = _run("preview", tmp_path, config, "append", _messages(ROWS), *given)
        [stream] = json.loads(done.stdout)["streams"]
        warnings = json.loads(done.stdout)["warnings"]
        assert warnings[0] == "tables_entry_of_no_stream stream='deal' did_you_mean='deals'"
        assert (stream["rows_read"], stream["rows_to_send"], stream["requests"]) == (250, 10, 1)
        assert done.returncode == 0
        assert {(r.method, r.path) for r in emulator.requests} == {("GET", "/v2/data-structures")}


@pytest.mark.parametrize(
    ("config", "schema", "words"),
    [
        ({"truncate_mode": "never"}, SCHEMA, "truncate_mode"),
        ({}, {"type": "object"}, "tables[].columns"),
        ({"truncat_mode": "never"}, SCHEMA, "truncate_mode"),
    ],
    ids=["locked", "no columns", "misspelt"],
)
def test_without_messages(tmp_path: Path, config: Any, schema: Any, words: str) -> None:
    """An empty input judges config and catalog; what would end a sync is exit code 1."""
    given = config_for("qobra", "http://127.0.0.1:9", **config)
    done = _run("preview", tmp_path, given, "overwrite", "", "--offline", schema=schema)
    assert done.returncode == 1
    assert "A sync would fail: " in done.stdout
    assert words in done.stdout
    good = config_for("qobra", "http://127.0.0.1:9")
    done = _run("preview", tmp_path, good, "overwrite", "", "--offline")
    assert (done.returncode, "rows:" in done.stdout) == (0, False)


WRONG: dict[str, Any] = {"auth_type": "jwt_app", "client_id": "cs-demo", "client_secret": "zz" * 20}


@pytest.mark.parametrize("is_empty", [False, True])
@pytest.mark.parametrize(
    ("vendor", "given", "more", "words"),
    [
        ("kore", {}, {"tables": [{"stream": "deals", "table": "nope"}]}, "refuses to read table"),
        ("kore", {"authentication": WRONG}, {}, "does not accept the token"),
        ("kore", {"host": "http://127.0.0.1:9"}, {}, "the connection was refused"),
        ("qobra", {"api_key": "zz"}, {}, "401"),
    ],
    ids=["no table", "wrong secret", "nobody there", "wrong key"],
)
def test_what_a_question_finds(
    tmp_path: Path, vendor: Any, given: Any, more: Any, words: str, *, is_empty: bool
) -> None:
    """A sync would fail of it, so the preview does, with messages and without."""
    with Emulator() as emulator:
        emulator.create_table("kore", "deals", dict.fromkeys(SCHEMA["properties"], "string"))
        config = config_for(vendor, emulator.url, **more)
        config["provider"] |= given
        lines = "" if is_empty else _messages(ROWS[:3])
        done = _run("preview", tmp_path, config, "append", lines)
        assert (done.returncode, words in done.stdout) == (1, True), done.stdout
        assert "A sync would fail: " in done.stdout
        assert emulator.rows("kore", "deals") == []
