"""The connector as the platform sees it: a command, two files, three pipes and an exit code.

Reading waits for an event with a deadline and never sleeps. Nothing of the package is imported:
what it prints is looked at as text, or as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from integration_tests.forked import ForkedProcess, Nursery

COMMAND = str(Path(sys.executable).with_name("destination-bulk-tables"))
_PATIENCE_S = 120.0  # ends what hangs; nothing here takes so long
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True)
class Outcome:
    """What a run of the connector left behind."""

    code: int
    lines: list[bytes]
    stderr: bytes
    left_over: list[str]  # in its temporary directory

    @property
    def text(self) -> str:
        """Return everything that was printed."""
        return b"\n".join([*self.lines, self.stderr]).decode()

    def messages(self, kind: str) -> list[dict[str, Any]]:
        """Return the messages of one type."""
        messages = [json.loads(line) for line in self.lines]
        return [message for message in messages if message["type"] == kind]

    @property
    def states(self) -> list[dict[str, Any]]:
        """Return the state objects."""
        return [message["state"] for message in self.messages("STATE")]

    @property
    def state_texts(self) -> list[bytes]:
        """Return the state objects as texts, without the destinationStats."""
        return [echoed(line) for line in self.lines if line.startswith(b'{"type":"STATE"')]

    @property
    def logs(self) -> list[str]:
        """Return the log lines as `LEVEL text`."""
        logs = [message["log"] for message in self.messages("LOG")]
        return [f"{log['level']} {log['message']}" for log in logs]

    @property
    def errors(self) -> list[dict[str, Any]]:
        """Return the TRACE errors."""
        traces = [message["trace"] for message in self.messages("TRACE")]
        return [trace["error"] for trace in traces if trace["type"] == "ERROR"]

    @property
    def error(self) -> tuple[str, str]:
        """Return type and message of the one error there must be."""
        (error,) = self.errors
        return error["failure_type"], error["message"]

    @property
    def check(self) -> tuple[str, str]:
        """Return status and message of a `check`, which exits with 0 and says nothing else."""
        assert self.code == 0, self.text
        assert self.stderr == b""
        (status,) = self.messages("CONNECTION_STATUS")
        assert {json.loads(line)["type"] for line in self.lines} <= {"CONNECTION_STATUS", "LOG"}
        body = status["connectionStatus"]
        return body["status"], body.get("message", "")

    def delivered(self) -> Outcome:
        """Assert that the sync succeeded and left nothing behind."""
        assert self.code == 0, self.text
        assert self.errors == []
        assert self.stderr == b""
        assert self.left_over == []
        return self


def wait_until(is_so: Callable[[], bool], within_s: float = _PATIENCE_S) -> None:
    """Look again and again until something is so; fails at the deadline."""
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        threading.Event().wait(0.02)


def echoed(line: bytes) -> bytes:
    """Return the state object of a STATE line as text, without the destinationStats."""
    state = _members(_members(line)["state"])
    state.pop("destinationStats", None)
    return msgspec.json.encode(state)


class Running:
    """A started connector; a thread collects what it prints."""

    def __init__(self, process: subprocess.Popen[bytes] | ForkedProcess, folder: Path) -> None:
        self.process = process
        self._folder = folder
        self._lines: list[bytes] = []
        self._news: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def _collect(self) -> None:
        for line in self.process.stdout or ():
            self._news.put(line.rstrip(b"\n"))
        self._news.put(None)

    def send(self, *lines: bytes) -> None:
        """Write lines to its stdin, at once."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(line + b"\n" for line in lines))
        self.process.stdin.flush()

    def wait_for(self, wanted: Callable[[bytes], bool], within_s: float = _PATIENCE_S) -> bytes:
        """Return the first line from now on that is wanted; fails at the deadline."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                line = self._news.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                printed = b"\n".join(self._lines).decode()
                raise AssertionError(f"not within {within_s} s; printed:\n{printed}") from None
            assert line is not None, b"\n".join(self._lines).decode()
            self._lines.append(line)
            if wanted(line):
                return line

    def wait_for_state(self, within_s: float = _PATIENCE_S) -> bytes:
        """Return the next STATE line."""
        return self.wait_for(lambda line: line.startswith(b'{"type":"STATE"'), within_s)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def finish(self, within_s: float = _PATIENCE_S) -> Outcome:
        """Close its stdin and wait for its end."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it has ended before it read everything
                self.process.stdin.close()
        return self.ended(within_s)

    def ended(self, within_s: float = _PATIENCE_S) -> Outcome:
        """Wait for its end, its stdin left as it is."""
        code = self.process.wait(within_s)
        self._reader.join(60)
        while not self._news.empty():
            line = self._news.get()
            if line is not None:
                self._lines.append(line)
        stderr = (self._folder / "stderr").read_bytes()
        left_over = sorted(path.name for path in (self._folder / "tmp").iterdir())
        return Outcome(code, self._lines, stderr, left_over)

    def close(self) -> None:
        """Make sure that it is gone."""
        self.process.kill()
        self.process.wait()
        self._reader.join(60)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Connector:
    """Starts the command with files in a folder, and makes sure that no process stays.

    `nursery`: fork its function instead, for tests that are not about the command itself.
    """

    def __init__(self, folder: Path, nursery: Nursery | None = None) -> None:
        self.folder = folder
        self._nursery = nursery
        self._started: list[Running] = []

    def start(
        self,
        *arguments: str,
        stdin: Any = subprocess.PIPE,
        stdout: int = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
    ) -> Running:
        """Start a verb; what goes to another stdout than a pipe is not collected."""
        folder = self.folder / f"run-{len(self._started)}"
        (folder / "tmp").mkdir(parents=True)
        env = {**os.environ, "TMPDIR": str(folder / "tmp"), **(env or {})}
        process: subprocess.Popen[bytes] | ForkedProcess
        with (folder / "stderr").open("wb") as stderr:
            if self._nursery is not None:
                process = self._nursery.open(arguments, stdin, stdout, stderr.fileno(), env)
            else:
                process = subprocess.Popen(
                    [COMMAND, *arguments], stdin=stdin, stdout=stdout, stderr=stderr, env=env
                )
        running = Running(process, folder)
        self._started.append(running)
        return running

    def file(self, name: str, content: object) -> str:
        """Write a file, as JSON unless it is text; its path."""
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    def check(self, config: object, env: Mapping[str, str] | None = None) -> Outcome:
        """Run check to its end."""
        path = self.file("config.json", config)
        return self.start("check", "--config", path, stdin=subprocess.DEVNULL, env=env).ended()

    def writing(
        self,
        config: object,
        catalog: object,
        stdin: Any = subprocess.PIPE,
        stdout: int = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
    ) -> Running:
        """Start a sync."""
        files = (self.file("config.json", config), self.file("catalog.json", catalog))
        arguments = ("write", "--config", files[0], "--catalog", files[1])
        return self.start(*arguments, stdin=stdin, stdout=stdout, env=env)

    def write(
        self,
        config: object,
        catalog: object,
        lines: Iterable[bytes],
        env: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run a whole sync."""
        running = self.writing(config, catalog, env=env)
        with contextlib.suppress(BrokenPipeError):  # it ended early; the outcome says why
            running.send(*lines)
        return running.finish()

    def close(self) -> None:
        """End what is still running."""
        for running in self._started:
            running.close()


def record(stream: str, data: object, **more: Any) -> bytes:
    """Build a RECORD line; `data` may be a JSON text."""
    text = data if isinstance(data, str) else json.dumps(data)
    head = json.dumps({"stream": stream, "emitted_at": 1_795_322_536_108, **more})
    return f'{{"type":"RECORD","record":{head[:-1]},"data":{text}}}}}'.encode()


def state(stream: str, cursor: object, **more: Any) -> bytes:
    """Build the line of a STREAM state."""
    body = {"stream_descriptor": {"name": stream}, "stream_state": {"cursor": cursor}}
    return json.dumps(
        {"type": "STATE", "state": {"type": "STREAM", "stream": body, **more}}
    ).encode()


def complete(stream: str, **descriptor: Any) -> bytes:
    """Build the line that says that the source is done with a stream."""
    status = {"stream_descriptor": {"name": stream, **descriptor}, "status": "COMPLETE"}
    trace = {"type": "STREAM_STATUS", "emitted_at": 1_795_322_536_108.5, "stream_status": status}
    return json.dumps({"type": "TRACE", "trace": trace}).encode()


def configured(
    stream: str,
    columns: Mapping[str, object] | Sequence[str],
    mode: str = "append",
    namespace: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Build one stream of a configured catalog; columns given by name only are text."""
    if not isinstance(columns, Mapping):
        columns = {name: {"type": ["null", "string"]} for name in columns}
    schema = {"type": "object", "properties": columns}
    about: dict[str, Any] = {"name": stream, "json_schema": schema}
    if namespace is not None:
        about["namespace"] = namespace
    return {"stream": about, "destination_sync_mode": mode, "sync_mode": "incremental", **more}


def catalog(*streams: Mapping[str, Any]) -> dict[str, Any]:
    """Build a configured catalog."""
    return {"streams": list(streams)}
