"""Fault enumeration: each way to write x each fault of the emulator x each request position.

A sync that the fault ended is run again from its last acknowledged state, without the fault.
Checked after each: states in order and never ahead of the table; nothing lost; nothing doubled
where a write is keyed or can be read back; of a table to replace the old content intact, or all of
the new; one error of a known type, no row in any output, an empty temporary folder.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from integration_tests.cases import CANARY, CASES, Case, Stand, positions, within_its_window
from integration_tests.forked import Nursery
from integration_tests.scenario import (
    QUICK,
    SHORT_READS,
    TABLE,
    Ended,
    Row,
    Sync,
    WatchedEmulator,
)

pytestmark = pytest.mark.timeout(600)

_MINUTE = {"errors": [{"msg": "You've exceeded the per-minute rate limit.", "code": 400}]}
_HOUR = {"errors": [{"msg": "You've exceeded the hourly rate limit.", "code": 400}]}
FAULTS: dict[str, dict[str, Any]] = {
    "refuse": {"kind": "refuse"},
    "refuse twice": {"kind": "refuse", "count": 2},
    "down": {"kind": "down", "seconds": 0.15},
    "cut_before": {"kind": "cut_before"},
    "cut_after": {"kind": "cut_after"},
    "cut_after twice": {"kind": "cut_after", "count": 2},
    "stall_before": {"kind": "stall_before", "seconds": 0.1},
    "stall_before, applied after the client left": {"kind": "stall_before", "seconds": 0.7},
    "stall_before for ever": {"kind": "stall_before"},
    "stall_after": {"kind": "stall_after", "seconds": 0.1},
    "stall_after for ever": {"kind": "stall_after"},
    "trickle": {"kind": "trickle", "seconds": 0.2},
    "half_body": {"kind": "half_body"},
    "redirect to nowhere": {"kind": "redirect", "location": "http://["},  # ignore-https-check
    "invalid_json": {"kind": "invalid_json"},
    "one fewer": {"kind": "wrong_count"},
    "one more": {"kind": "wrong_count", "offset": 1},
    "429": {"kind": "status", "status": 429},
    "429 Retry-After 1": {"kind": "status", "status": 429, "retry_after": 1},
    "429 Retry-After date": {"kind": "status", "status": 429, "retry_after": "date:1"},
    "400 per-minute": {"kind": "status", "status": 400, "body": _MINUTE, "retry_after": 0.1},
    "400 hourly": {"kind": "status", "status": 400, "body": _HOUR},
    **{
        f"{code}": {"kind": "status", "status": code}
        for code in (400, 401, 403, 404, 413, 418, 500, 503, 504)
    },
    "401 twice": {"kind": "status", "status": 401, "count": 2},
    "500 applied": {"kind": "status", "status": 500, "applied": True},
    "504 applied": {"kind": "status", "status": 504, "applied": True},
}


class Trial:
    """One sync with a fault, its repetition, and what was wrong."""

    def __init__(
        self, case: Case, emulator: WatchedEmulator, nursery: Nursery, folder: Path
    ) -> None:
        self.case, self.emulator, self.nursery, self.folder = case, emulator, nursery, folder
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.outcome = ""
        self.doubled = 0

    def run(self, fault: dict[str, Any] | None, position: int) -> Trial:
        """Sync with the fault, again without it if that failed, and look at the table."""
        emulator, case = self.emulator, self.case
        case.prepare(emulator)
        emulator.faults([{**fault, "at": position}] if fault else [])
        emulator.watch = self._watch if case.replaces and case.keeps_old_or_new else None
        is_silent = fault is not None and fault["kind"].startswith("stall")
        ended = self._sync(0, QUICK | SHORT_READS if is_silent else QUICK)
        emulator.watch = None
        emulator.faults([])
        self.requests = [request.kind for request in emulator.requests]
        self.outcome = ended.failure or "ok"
        emulator.settle()
        if ended.code == 0:
            self._check_whole(ended, 0)
            return self
        self._check_ended(ended)
        start = 0 if case.replaces else ended.acknowledged
        again = within_its_window(emulator, lambda: self._sync(start, QUICK))
        if again.code != 0:
            self.problems.append(f"the repetition failed: {again.message}")
        self._check_whole(again, start, before=ended)
        return self

    def _sync(self, start: int, scaled: dict[str, Any]) -> Ended:
        config = self.case.config(self.emulator.url)
        with Sync(
            self.folder,
            config,
            self.case.catalog(),
            nursery=self.nursery,
            scaled=scaled,
            on_state=self._on_state,
        ) as sync:
            ended = sync.finish(self.case.lines(start))
        if left := list(sync.temporary.iterdir()):
            self.problems.append(f"left in the temporary folder: {left}")
        if ended.stderr:
            self.problems.append(f"stderr: {ended.stderr[:200]}")
        if CANARY in repr(ended.lines):
            self.problems.append("a row's value is in the output")
        if ended.seen != sorted(ended.seen):
            self.problems.append("states out of order")
        return ended

    def _on_state(self, state: dict[str, Any]) -> None:
        """A state was printed: everything before it must be there by now."""
        missing = self._missing(state["stream"]["stream_state"]["seen"])
        if missing:
            self.problems.append(f"state printed before rows {missing} were in the table")
        if self.case.replaces and any(row["name"] == "old" for row in self._rows()):
            self.problems.append("state printed before the old rows were gone")

    def _watch(self) -> None:
        """A request arrives: the table to replace holds all old or all new rows."""
        if self.case.content(self._rows()) == "part":
            self.problems.append(f"neither all old nor all new rows: {self._rows()}")

    def _check_ended(self, ended: Ended) -> None:
        if [error["failure_type"] for error in ended.errors] not in (
            ["config_error"],
            ["transient_error"],
            ["system_error"],
        ):
            self.problems.append(f"errors {ended.errors}, exit code {ended.code}")
        if self.case.replaces:
            if ended.seen:
                self.problems.append("a state of a table that was not replaced")
            if self.case.keeps_old_or_new:
                self._watch()
        elif missing := self._missing(ended.acknowledged):
            self.problems.append(f"acknowledged and lost: {missing}")

    def _check_whole(self, ended: Ended, start: int, before: Ended | None = None) -> None:
        """After a success the table is the source, each state was printed, the counts add up."""
        case = self.case
        if missing := self._missing(case.rows):
            self.problems.append(f"lost: {missing}")
        doubled = case.doubled(self._rows())
        self.doubled = sum(doubled.values())
        acknowledged = before.acknowledged if before else case.rows
        # rows that were delivered and not acknowledged come again, and nothing tells them apart
        may_double = not case.is_keyed and not case.replaces
        if wrong := [key for key in doubled if not may_double or key <= acknowledged]:
            self.problems.append(f"doubled: {wrong}")
        if case.replaces and len(self._rows()) != case.rows:
            self.problems.append("other rows survived a replace")
        if ended.seen != [*range(start + 3, case.rows + 1, 3)]:
            self.problems.append(f"states {ended.seen}")
        if ended.total("recordCount") != case.rows - start:
            self.problems.append(f"counted {ended.total('recordCount')} rows")

    def _rows(self) -> list[Row]:
        return self.emulator.rows(self.case.vendor, TABLE)

    def _missing(self, count: int) -> list[int]:
        return self.case.missing(self._rows(), count)


@pytest.mark.parametrize("name", CASES)
def test_each_fault_at_each_request(name: str, stand: Stand, tmp_path: Path) -> None:
    """Whatever one request meets: nothing lost, nothing doubled, no state ahead of the table."""
    case, started = CASES[name], time.monotonic()

    def trial(emulator: WatchedEmulator, folder: Path, item: tuple[str, int]) -> Trial:
        fault, position = item
        return Trial(case, emulator, stand.nursery, folder).run(FAULTS.get(fault), position)

    (clean,) = stand.run(trial, [("none", 0)], tmp_path / "clean")
    assert (clean.problems, clean.doubled) == ([], 0)
    assert clean.outcome == "ok" or "debounce_seconds" in case.provider
    places = positions(clean.requests)
    plan = [(fault, at) for fault in FAULTS for at in places]
    trials = stand.run(trial, plan, tmp_path)
    outcomes = Counter(trial.outcome for trial in trials)
    doubled = sum(trial.doubled for trial in trials)
    print(
        f"{name}: {len(FAULTS)} faults x {len(places)} requests = {len(plan)} syncs in "
        f"{time.monotonic() - started:.0f} s: {dict(outcomes)}; rows doubled: {doubled}"
    )
    wrong = [
        f"{fault} at {at} ({trial.outcome}): {trial.problems}"
        for (fault, at), trial in zip(plan, trials, strict=True)
        if trial.problems
    ]
    assert not wrong, "\n".join(wrong)
