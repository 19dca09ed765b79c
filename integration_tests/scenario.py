"""One sync as a test sees it: messages in, the connector as a process on real pipes, what came out.

`Sync` starts the console script, or, given a `Nursery`, the same function in a forked process whose
waits are scaled. Decides nothing about right and wrong: tests do.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from integration_tests.emulator import Emulator
from integration_tests.forked import ForkedProcess, Nursery

COMMAND = Path(sys.executable).with_name("destination-bulk-tables")
TABLE = "deals"
_EXCHANGE = "destination_bulk_tables.exchange:"
QUICK: dict[str, Any] = {
    f"{_EXCHANGE}BACKOFF_BASE_S": 0.02,
    f"{_EXCHANGE}BACKOFF_CAP_S": 0.3,
    f"{_EXCHANGE}SETTLE_S": 0.05,
    f"{_EXCHANGE}SETTLE_SLOW_S": 0.6,
    "destination_bulk_tables.lanes:_FIRST_POLL_S": 0.03,
}
IMPATIENT = QUICK | {f"{_EXCHANGE}MAX_ELAPSED_S": 0.5}  # for a vendor that is gone
# for a vendor that falls silent only: a loaded machine is late with good answers too
SHORT_READS = {
    "destination_bulk_tables.providers.kore:Kore.limits.read_timeout_s": 0.5,
    "destination_bulk_tables.providers.qobra:Qobra.limits.read_timeout_s": 0.5,
}
# to stop while a vendor is silent
SHORT_GRACE = {"destination_bulk_tables.engine:STOP_GRACE_S": 0.3}
Row = dict[str, Any]


def record(data: Row, stream: str = TABLE, namespace: str | None = None) -> bytes:
    """Return a RECORD line."""
    body = {"stream": stream, "data": data, "emitted_at": 1_700_000_000_000}
    if namespace is not None:
        body["namespace"] = namespace
    return json.dumps({"type": "RECORD", "record": body}).encode()


def state(seen: int, stream: str = TABLE) -> bytes:
    """Return a STATE line that says how many rows came before it."""
    descriptor = {"name": stream}
    inner = {"stream_descriptor": descriptor, "stream_state": {"seen": seen}}
    return json.dumps(
        {"type": "STATE", "state": {"type": "STREAM", "stream": inner, "id": seen}}
    ).encode()


def status(word: str = "COMPLETE", stream: str = TABLE) -> bytes:
    """Return a stream status."""
    inner = {"stream_descriptor": {"name": stream}, "status": word}
    trace = {"type": "STREAM_STATUS", "emitted_at": 1.0, "stream_status": inner}
    return json.dumps({"type": "TRACE", "trace": trace}).encode()


def catalog(
    mode: str,
    properties: Mapping[str, Any],
    *,
    key: Sequence[str] = (),
    cursor: str | None = None,
    generations: tuple[int, int, int] | None = None,
    stream: str = TABLE,
) -> dict[str, Any]:
    """Return a catalog of one stream; `generations` are generation, minimum and sync id."""
    configured: dict[str, Any] = {
        "stream": {
            "name": stream,
            "json_schema": {"type": "object", "properties": dict(properties)},
            "supported_sync_modes": ["full_refresh", "incremental"],
        },
        "sync_mode": "incremental" if mode != "overwrite" else "full_refresh",
        "destination_sync_mode": mode,
    }
    if key:
        configured["primary_key"] = [[name] for name in key]
    if cursor:
        configured["cursor_field"] = [cursor]
    if generations is not None:
        names = ("generation_id", "minimum_generation_id", "sync_id")
        configured |= dict(zip(names, generations, strict=True))
    return {"streams": [configured]}


@dataclass
class Ended:
    """What a run of the connector left behind."""

    code: int
    lines: list[dict[str, Any]]
    stderr: str
    seconds: float

    @property
    def states(self) -> list[dict[str, Any]]:
        """The STATE objects, as printed."""
        return [line["state"] for line in self.lines if line["type"] == "STATE"]

    @property
    def seen(self) -> list[int]:
        """The row counts of the states, as printed."""
        return [state["stream"]["stream_state"]["seen"] for state in self.states]

    @property
    def acknowledged(self) -> int:
        """How many rows the last state covers."""
        return max(self.seen, default=0)

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The TRACE errors."""
        traces = [line["trace"] for line in self.lines if line["type"] == "TRACE"]
        return [trace["error"] for trace in traces if trace["type"] == "ERROR"]

    @property
    def failure(self) -> str | None:
        """The type of its error."""
        return self.errors[0]["failure_type"] if self.errors else None

    @property
    def message(self) -> str:
        """What its error says."""
        return self.errors[0]["message"] if self.errors else ""

    @property
    def logs(self) -> list[str]:
        """The texts of its log."""
        return [line["log"]["message"] for line in self.lines if line["type"] == "LOG"]

    def total(self, name: str) -> float:
        """Add up one count of the states."""
        return float(sum(state["destinationStats"].get(name, 0) for state in self.states))


class Sync:
    """One `write` under way; leaving the block kills what is left of it."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        catalog: Mapping[str, Any],
        *,
        nursery: Nursery | None = None,
        scaled: Mapping[str, Any] | None = None,
        on_state: Callable[[dict[str, Any]], None] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "catalog.json").write_text(json.dumps(catalog))
        files = [f"--config={folder / 'config.json'}", f"--catalog={folder / 'catalog.json'}"]
        self._on_state = on_state
        self._lines: list[dict[str, Any]] = []
        self._stderr = b""
        self._started = time.monotonic()
        self.process: ForkedProcess | subprocess.Popen[bytes]
        child_in, self.stdin = os.pipe()
        stdout, child_out = os.pipe()
        stderr, child_err = os.pipe()
        environment = {"TMPDIR": str(self.temporary), **(environment or {})}
        if nursery is not None:
            self.process = nursery.start(
                ["write", *files],
                (child_in, child_out, child_err),
                scaled=QUICK if scaled is None else scaled,
                environment=environment,
            )
        else:
            self.process = subprocess.Popen(
                [COMMAND, "write", *files],
                stdin=child_in,
                stdout=child_out,
                stderr=child_err,
                env={**os.environ, **environment},
            )
        for descriptor in (child_in, child_out, child_err):
            os.close(descriptor)
        self._readers = [
            threading.Thread(target=self._read_stdout, args=(stdout,), daemon=True),
            threading.Thread(target=self._read_stderr, args=(stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_input()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)

    def _read_stdout(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as stdout:
            for text in stdout:
                line = json.loads(text)
                if line["type"] == "STATE" and self._on_state is not None:
                    self._on_state(line["state"])
                self._lines.append(line)

    def _read_stderr(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as stderr:
            self._stderr = stderr.read()

    def feed(self, lines: Iterable[bytes]) -> bool:
        """Write lines to its stdin; False when it does not read any more."""
        try:
            for line in lines:
                view = memoryview(line + b"\n")
                while view:
                    view = view[os.write(self.stdin, view) :]
        except BrokenPipeError:
            return False
        return True

    def close_input(self) -> None:
        """End its input."""
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def kill(self) -> None:
        """End it as a full machine does."""
        self.process.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = 120.0) -> Ended:
        """Wait for its end; `TimeoutError` or `TimeoutExpired` when it does not come."""
        code = self.process.wait(timeout)
        for reader in self._readers:
            reader.join(60)
        self.close_input()
        errors = self._stderr.decode()
        return Ended(code, list(self._lines), errors, time.monotonic() - self._started)

    def finish(self, lines: Iterable[bytes], timeout: float = 120.0) -> Ended:
        """Write all of its input and wait for its end."""
        self.feed(lines)
        self.close_input()
        return self.wait(timeout)

    @property
    def has_ended(self) -> bool:
        """Whether it has closed its output."""
        return not self._readers[0].is_alive()

    @property
    def states(self) -> int:
        """How many states it has printed so far."""
        return sum(line["type"] == "STATE" for line in self._lines)

    @property
    def peak_megabytes(self) -> float:
        """The most memory it has held so far, 0 when it is gone."""
        try:
            text = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0.0
        found = [line.split()[1] for line in text.splitlines() if line.startswith("VmHWM")]
        return int(found[0]) / 1000 if found else 0.0


class WatchedEmulator(Emulator):
    """An emulator that calls `watch` as each request arrives, before it is applied."""

    watch: Callable[[], None] | None = None

    def note(self, request: Any) -> None:
        """Log a request and tell the watcher."""
        super().note(request)
        if self.watch is not None:
            self.watch()

    def settle(self, timeout: float = 60.0) -> None:
        """Wait until no import is under way."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with self.lock:
                self.qobra.run_due()
                if not self.qobra._unfinished:
                    return
            threading.Event().wait(0.02)
        raise TimeoutError

    def fill(self, vendor: str, rows: Sequence[Row], table: str = TABLE) -> None:
        """Put rows into a table, as if they had always been there."""
        texts = [json.dumps(row).encode() for row in rows]
        with self.lock:
            if vendor == "kore":
                self.kore.post_bulk(self.kore.tables[table], b'{"data":[%b]}' % b",".join(texts))
            else:
                keyed = [(str(row["id"]), text) for row, text in zip(rows, texts, strict=True)]
                self._storage.insert(self.qobra.tables[table].store, keyed, self.clock.now())
