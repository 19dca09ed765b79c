"""Fault enumeration: each way to write x each fault of the emulator x each request position.

A sync that the fault ended is run again from its last acknowledged state, without the fault.
Checked after each: states in order and never ahead of the table; nothing lost; nothing doubled
where a write is keyed or can be read back; of a table to replace the old content intact, or all of
the new; one error of a known type, no row in any output, an empty temporary folder.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from integration_tests.forked import Nursery
from integration_tests.scenario import (
    TABLE,
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

pytestmark = pytest.mark.timeout(300)

PARALLEL = 12
COLUMNS = {"id": {"type": "integer"}, "seq": {"type": "integer"}, "name": {"type": "string"}}
TYPES = {"id": "number", "seq": "number", "name": "string"}
CANARY = "canary-value"
OLD = [{"id": 900 + n, "seq": 900 + n, "name": "old"} for n in range(5)]


@dataclass(frozen=True)
class Case:
    """One way to write; `ids`: the keys repeat after so many rows, 0: each row has its own."""

    vendor: Vendor
    mode: str
    provider: dict[str, Any] = field(default_factory=dict)
    switches: dict[str, Any] = field(default_factory=dict)
    rows: int = 12
    ids: int = 0
    max_rows: int = 4

    @property
    def replaces(self) -> bool:
        return self.mode == "overwrite"

    @property
    def is_keyed(self) -> bool:
        return self.vendor == "qobra" or self.mode == "append_dedup"

    @property
    def keeps_old_or_new(self) -> bool:
        """Whether the table holds all old or all new rows whatever happens."""
        is_debounced = "debounce_seconds" in self.provider
        return not is_debounced and self.provider.get("replace_strategy") != "delete_then_insert"

    def source(self) -> list[Row]:
        ids = self.ids or self.rows
        return [{"id": n % ids, "seq": n, "name": f"{CANARY}-{n}"} for n in range(1, self.rows + 1)]

    def lines(self, start: int) -> Iterator[bytes]:
        """The input after so many rows were acknowledged, a state after each third row."""
        for row in self.source()[start:]:
            yield record(row)
            if row["seq"] % 3 == 0:
                yield state(row["seq"])
        yield status()

    def config(self, url: str) -> dict[str, Any]:
        config = config_for(self.vendor, url, batching={"max_rows": self.max_rows})
        config["provider"] |= self.provider
        return config

    def catalog(self) -> dict[str, Any]:
        key = ["id"] if self.mode == "append_dedup" else []
        generations = (7, 7, 70) if self.replaces else (0, 0, 70)
        # the platform rewrites overwrite to append
        return catalog(
            "append" if self.replaces else self.mode, COLUMNS, key=key, generations=generations
        )


CASES = {
    "qobra append": Case("qobra", "append"),
    "qobra append_dedup": Case("qobra", "append_dedup", ids=5),
    "qobra overwrite in one request": Case("qobra", "overwrite", max_rows=100),
    "qobra overwrite debounced": Case("qobra", "overwrite", {"debounce_seconds": 2}),
    "kore append": Case("kore", "append"),
    "kore append_dedup": Case("kore", "append_dedup", ids=5),
    "kore overwrite insert_then_delete": Case("kore", "overwrite"),
    "kore overwrite delete_then_insert": Case(
        "kore", "overwrite", {"replace_strategy": "delete_then_insert"}
    ),
}
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
    "redirect": {"kind": "redirect"},
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


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@pytest.fixture(scope="module")
def emulators(nursery: Nursery) -> Iterator[list[WatchedEmulator]]:
    """Several, because an enumeration mostly waits. The nursery starts before their threads do."""
    assert nursery is not None
    running = [WatchedEmulator().__enter__() for _ in range(PARALLEL)]
    yield running
    for emulator in running:
        emulator.__exit__()


class Trial:
    """One sync with a fault, its repetition, and what was wrong."""

    def __init__(
        self, case: Case, emulator: WatchedEmulator, nursery: Nursery, folder: Path
    ) -> None:
        self.case, self.emulator, self.nursery, self.folder = case, emulator, nursery, folder
        self.problems: list[str] = []
        self.requests = 0
        self.outcome = ""
        self.doubled = 0

    def run(self, fault: dict[str, Any] | None, position: int) -> Trial:
        """Sync with the fault, again without it if that failed, and look at the table."""
        emulator, case = self.emulator, self.case
        emulator.reset()
        emulator.set(**{"qobra_import_s": 0.02, **case.switches})
        emulator.create_table(case.vendor, TABLE, TYPES)
        if case.replaces:
            emulator.fill(case.vendor, OLD)
        emulator.faults([{**fault, "at": position}] if fault else [])
        emulator.watch = self._watch if case.replaces and case.keeps_old_or_new else None
        ended = self._sync(0)
        emulator.watch = None
        emulator.faults([])
        self.requests = len(emulator.requests)
        self.outcome = ended.failure or "ok"
        emulator.settle()
        if ended.code == 0:
            self._check_whole(ended, 0)
            return self
        self._check_ended(ended)
        start = 0 if case.replaces else ended.acknowledged
        again = self._sync(start)
        emulator.settle()
        if again.code != 0:
            self.problems.append(f"the repetition failed: {again.message}")
        self._check_whole(again, start, before=ended)
        return self

    def _sync(self, start: int) -> Ended:
        config = self.case.config(self.emulator.url)
        with Sync(
            self.folder, config, self.case.catalog(), nursery=self.nursery, on_state=self._on_state
        ) as sync:
            ended = sync.finish(self.case.lines(start), timeout=60)
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
        found = {row["seq"] for row in self._rows()}
        old, new = {row["seq"] for row in OLD}, {row["seq"] for row in self.case.source()}
        if not (old <= found or new <= found):
            self.problems.append(f"neither all old nor all new rows: {sorted(found)}")

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
        counts = Counter(row["id"] if case.is_keyed else row["seq"] for row in self._rows())
        self.doubled = sum(count - 1 for count in counts.values())
        acknowledged = before.acknowledged if before else case.rows
        may_double = set() if case.is_keyed or case.replaces else {*range(acknowledged + 1, 99)}
        if doubled := [key for key, count in counts.items() if count > 1 and key not in may_double]:
            self.problems.append(f"doubled: {doubled}")
        if case.replaces and any(row["name"] == "old" for row in self._rows()):
            self.problems.append("old rows survived a replace")
        if ended.seen != [*range(start + 3, case.rows + 1, 3)]:
            self.problems.append(f"states {ended.seen}")
        if ended.total("recordCount") != case.rows - start:
            self.problems.append(f"counted {ended.total('recordCount')} rows")

    def _rows(self) -> list[Row]:
        return self.emulator.rows(self.case.vendor, TABLE)

    def _missing(self, count: int) -> list[int]:
        """Which of the first rows are not in the table, in this or a later version of their key."""
        source = self.case.source()
        if not self.case.is_keyed:
            return sorted({row["seq"] for row in source[:count]} - {r["seq"] for r in self._rows()})
        last = {row["id"]: row["seq"] for row in source}
        stored: dict[int, int] = {}
        for row in self._rows():
            stored[row["id"]] = max(row["seq"], stored.get(row["id"], 0))
        # a key that comes again may be between its delete and its insert
        once = [row for row in source[:count] if last[row["id"]] == row["seq"]]
        return [row["seq"] for row in once if stored.get(row["id"], 0) < row["seq"]]


def enumerate_trials(
    case: Case,
    plan: Sequence[tuple[dict[str, Any], int]],
    emulators: list[WatchedEmulator],
    nursery: Nursery,
    folder: Path,
) -> list[Trial]:
    """Run all trials, one at a time per emulator; the order of results is that of the plan."""
    free = list(emulators)
    lock = threading.Lock()

    def one(number: int) -> Trial:
        with lock:
            emulator = free.pop()
        try:
            trial = Trial(case, emulator, nursery, folder / str(number))
            return trial.run(*plan[number])
        finally:
            with lock:
                free.append(emulator)

    with ThreadPoolExecutor(len(emulators)) as pool:
        return list(pool.map(one, range(len(plan))))


@pytest.mark.parametrize("name", CASES)
def test_each_fault_at_each_request(
    name: str, nursery: Nursery, emulators: list[WatchedEmulator], tmp_path: Path
) -> None:
    """Whatever one request meets: nothing lost, nothing doubled, no state ahead of the table."""
    case, started = CASES[name], time.monotonic()
    clean = Trial(case, emulators[0], nursery, tmp_path / "clean").run(None, 0)
    assert (clean.problems, clean.outcome, clean.doubled) == ([], "ok", 0)
    names = [(fault, at) for fault in FAULTS for at in range(1, clean.requests + 1)]
    plan = [(FAULTS[fault], at) for fault, at in names]
    trials = enumerate_trials(case, plan, emulators, nursery, tmp_path)
    outcomes = Counter(trial.outcome for trial in trials)
    doubled = sum(trial.doubled for trial in trials)
    print(
        f"{name}: {len(FAULTS)} faults x {clean.requests} requests = {len(plan)} syncs in "
        f"{time.monotonic() - started:.0f} s: {dict(outcomes)}; rows doubled: {doubled}"
    )
    wrong = [
        f"{fault} at {at} ({trial.outcome}): {trial.problems}"
        for (fault, at), trial in zip(names, trials, strict=True)
        if trial.problems
    ]
    assert not wrong, "\n".join(wrong)
