"""A job as a platform runs it: attempts, generations, saved states, a source that resumes.

Three streams are refreshed with removal. Each of the first four attempts fails at the same request,
each in another way; the fifth is left alone. Whatever happened, every table holds a whole old or a
whole new generation at the end of each attempt, and the job converges. With PLATFORM_TURNS=5 every
attempt meets every way to fail at every request.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from integration_tests.cases import COLUMNS, TYPES, Stand, positions, within_its_window
from integration_tests.scenario import (
    IMPATIENT,
    QUICK,
    SHORT_GRACE,
    Ended,
    Row,
    Sync,
    WatchedEmulator,
    catalog,
    record,
    state,
    status,
)
from integration_tests.vendor_configs import Vendor, config_for

STREAMS = ("one", "two", "three")
ROWS = 6
ATTEMPTS = 5
TURNS = int(os.environ.get("PLATFORM_TURNS", "1"))
pytestmark = pytest.mark.timeout(600 * TURNS)
WAYS = ("refused", "vendor gone", "killed before", "killed after", "terminated")
SIGNALS = {
    "killed before": signal.SIGKILL,
    "killed after": signal.SIGKILL,
    "terminated": signal.SIGTERM,
}
OLD = [{"id": 900 + n, "seq": 900 + n, "name": f"old-{n}"} for n in range(4)]


@dataclass(frozen=True)
class Setting:
    """A vendor and its way to replace."""

    vendor: Vendor
    provider: dict[str, Any] = field(default_factory=dict)
    max_rows: int = 4
    keeps_old_or_new: bool = True

    def config(self, url: str) -> dict[str, Any]:
        config = config_for(self.vendor, url, batching={"max_rows": self.max_rows})
        config["provider"] |= self.provider
        return config


SETTINGS = {
    "kore insert_then_delete": Setting("kore"),
    "kore delete_then_insert": Setting(
        "kore", {"replace_strategy": "delete_then_insert"}, keeps_old_or_new=False
    ),
    "qobra in one request": Setting("qobra", max_rows=100),
    "qobra debounced": Setting("qobra", {"debounce_seconds": 2}, keeps_old_or_new=False),
}


@dataclass
class Job:
    """One job against one emulator. `saved`: per stream how many rows were acknowledged."""

    setting: Setting
    stand: Stand
    emulator: WatchedEmulator
    folder: Path
    is_global: bool = False
    generation: int = 7
    runs: int = 0
    grown: int = 0  # rows that the source has got since
    saved: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STREAMS, 0))
    contents: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        """Make the tables as they were before the job."""
        self.emulator.reset()
        self.emulator.set(qobra_import_s=0.02)
        for stream in STREAMS:
            self.emulator.create_table(self.setting.vendor, stream, TYPES)
            self.emulator.fill(self.setting.vendor, OLD, stream)

    def source(self) -> list[Row]:
        return [
            {"id": n, "seq": n, "name": f"generation {self.generation}, row {n}"}
            for n in range(1, ROWS + self.grown + 1)
        ]

    def lines(self) -> Iterator[bytes]:
        """What the source says: it goes on from the saved states."""
        rows = self.source()
        at = dict(self.saved)
        for stream in STREAMS:
            for row in rows[self.saved[stream] :]:
                yield record(row, stream)
                at[stream] = row["seq"]
                if row["seq"] % 3 == 0:
                    yield self._state(stream, at)
            yield self._state(stream, at)
        yield from (status(stream=stream) for stream in STREAMS)

    def _state(self, stream: str, at: dict[str, int]) -> bytes:
        if not self.is_global:
            return state(at[stream], stream)
        streams = [
            {"stream_descriptor": {"name": name}, "stream_state": {"seen": seen}}
            for name, seen in at.items()
        ]
        body = {"type": "GLOBAL", "global": {"stream_states": streams}}
        return json.dumps({"type": "STATE", "state": body}).encode()

    def save(self, found: dict[str, Any]) -> None:
        """Keep a state that was acknowledged, as a platform does at once."""
        streams = found["global"]["stream_states"] if self.is_global else [found["stream"]]
        for entry in streams:
            self.saved[entry["stream_descriptor"]["name"]] = entry["stream_state"]["seen"]

    def attempt(self, number: int, way: str = "", position: int = 0) -> Ended:
        """Run one attempt, which fails in a way at a request; look at every table afterwards."""
        self.runs += 1
        before = len(self.emulator.requests)
        self.emulator.faults(_fault(way, position))
        streams = [
            catalog("append", COLUMNS, generations=(self.generation,) * 2 + (70,), stream=stream)
            for stream in STREAMS
        ]
        configured = {"streams": [entry for one in streams for entry in one["streams"]]}
        with Sync(
            self.folder / str(self.runs),
            self.setting.config(self.emulator.url),
            configured,
            nursery=self.stand.nursery,
            scaled=IMPATIENT if way == "vendor gone" else QUICK | SHORT_GRACE,
            on_state=self.save,
            environment={"WORKER_JOB_ATTEMPT": str(number)},
        ) as sync:
            sync.feed(self.lines())
            sync.close_input()
            if way in SIGNALS and self._arrived(sync, before + position, way == "killed after"):
                sync.process.send_signal(SIGNALS[way])
            ended = sync.wait()
        self.emulator.faults([])
        self.emulator.settle()
        self._look(f"attempt {number}, {way or 'left alone'} at request {position}", ended)
        return ended

    def _arrived(self, sync: Sync, number: int, applied: bool) -> bool:  # noqa: FBT001
        """Wait until the request is there; False when the connector has ended without it."""
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline:
            requests = self.emulator.requests
            if len(requests) >= number and (requests[number - 1].applied or not applied):
                return True
            if sync.has_ended:
                return False
            threading.Event().wait(0.005)
        raise TimeoutError

    def _look(self, when: str, ended: Ended) -> None:
        for stream in STREAMS:
            content = self.content(stream)
            self.contents[content] += 1
            if self.setting.keeps_old_or_new and content == "part":
                self.problems.append(f"{when}: {stream} holds a part: {self.names(stream)}")
            if self.saved[stream] and content not in {"new", "new and more"}:
                self.problems.append(f"{when}: {stream} was acknowledged and holds {content}")
        if ended.code == 0 and any(self.content(stream) != "new" for stream in STREAMS):
            tables = {stream: self.content(stream) for stream in STREAMS}
            self.problems.append(f"{when}: succeeded with {tables}")
        if ended.code != 0 and ended.states:
            self.problems.append(f"{when}: states left and then it failed: {ended.message}")

    def names(self, stream: str) -> list[str]:
        """What a table holds."""
        return sorted(row["name"] for row in self.emulator.rows(self.setting.vendor, stream))

    def content(self, stream: str) -> str:
        """Tell which whole generation a table holds."""
        names = self.names(stream)
        new = sorted(row["name"] for row in self.source())
        if names == new:
            return "new"
        if set(new) <= set(names):
            return "new and more"
        return "old" if {row["name"] for row in OLD} <= set(names) else "part"


def _fault(way: str, position: int) -> list[dict[str, Any]]:
    match way:
        case "":
            return []
        case "refused":
            return [{"kind": "status", "status": 403, "at": position}]
        case "vendor gone":
            return [{"kind": "refuse", "at": position, "count": None}]
        case "killed after":
            return [{"kind": "stall_after", "at": position}]
        case _:
            return [{"kind": "stall_before", "at": position}]


def play(job: Job, position: int, turn: int) -> None:
    """Four attempts that fail at a request, and one that is left alone."""
    job.prepare()
    for number in range(ATTEMPTS - 1):
        if job.attempt(number, WAYS[(number + turn) % len(WAYS)], position).code == 0:
            return  # it needed fewer requests
    last = within_its_window(job.emulator, lambda: job.attempt(ATTEMPTS - 1))
    if last.code != 0:
        job.problems.append(f"the last attempt fails: {last.message}")


@pytest.mark.parametrize("name", SETTINGS)
def test_every_attempt_fails_but_the_last(name: str, stand: Stand, tmp_path: Path) -> None:
    """At each end the tables hold a whole generation, and the last attempt converges."""
    setting = SETTINGS[name]

    def clean(emulator: WatchedEmulator, folder: Path, _: int) -> list[int]:
        job = Job(setting, stand, emulator, folder)

        def attempt() -> Ended:
            job.prepare()
            return job.attempt(0)

        assert within_its_window(emulator, attempt).code == 0
        return positions([request.kind for request in emulator.requests])

    def trial(emulator: WatchedEmulator, folder: Path, item: tuple[int, int]) -> Job:
        position, turn = item
        job = Job(setting, stand, emulator, folder, is_global=position % 2 == 0)
        play(job, position, turn)
        return job

    (places,) = stand.run(clean, [0], tmp_path / "clean")
    plan = [(at, at + turn) for at in places for turn in range(TURNS)]
    jobs = stand.run(trial, plan, tmp_path)
    contents = sum((job.contents for job in jobs), Counter[str]())
    print(
        f"{name}: {len(jobs)} jobs of {sum(job.runs for job in jobs)} attempts, "
        f"{len(places)} requests each; the tables then held {dict(contents)}"
    )
    wrong = {item: job.problems for item, job in zip(plan, jobs, strict=True) if job.problems}
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("name", "grown"),
    [
        ("kore insert_then_delete", 0),
        ("kore insert_then_delete", 1),
        ("kore insert_then_delete", 2),
        ("qobra in one request", 0),
    ],
)
def test_an_attempt_that_only_the_platform_calls_failed(
    name: str, grown: int, stand: Stand, tmp_path: Path
) -> None:
    """The next one brings the rest: it touches no table, says what to do, and that works."""

    def trial(emulator: WatchedEmulator, folder: Path, is_global: bool) -> Job:  # noqa: FBT001
        job = Job(SETTINGS[name], stand, emulator, folder, is_global=is_global)
        job.prepare()
        assert job.attempt(0).code == 0
        assert job.saved == dict.fromkeys(STREAMS, ROWS)
        held = {stream: job.names(stream) for stream in STREAMS}
        job.grown = grown
        for number in range(1, ATTEMPTS):
            ended = job.attempt(number)
            assert (ended.failure, ended.seen if not is_global else []) == ("config_error", [])
            assert "Start the refresh again" in ended.message
            assert {stream: job.names(stream) for stream in STREAMS} == held
        job.problems.clear()
        job.generation += 1
        job.saved = dict.fromkeys(STREAMS, 0)
        assert job.attempt(0).code == 0
        return job

    for job in stand.run(trial, [False, True], tmp_path):
        assert not job.problems
        assert {job.content(stream) for stream in STREAMS} == {"new"}
