"""Random kills while rows are added: run again from the last acknowledged state until one run ends.

Nothing is lost. Doubled rows: none where a write is keyed (Qobra by its id, Kore.ai append_dedup by
the primary key). Kore.ai append has no key: rows that were stored and not acknowledged when the
process died come again, and no later process can tell. Their number is printed, and every one of
them must lie behind the last acknowledged state of a killed run.
"""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from integration_tests.cases import CASES, Case, Stand
from integration_tests.scenario import TABLE, Sync, WatchedEmulator

ADDS = [name for name, case in CASES.items() if not case.replaces]
CHAINS = 6
ROWS = 90
MOST_KILLS = 60


class Chain:
    """Runs that are killed at random requests, until one ends by itself."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case = case
        self.random = random.Random(seed)
        self.kills = 0
        self.doubled = 0
        self.problems: list[str] = []

    def run(self, stand: Stand, emulator: WatchedEmulator, folder: Path) -> Chain:
        case = self.case
        case.prepare(emulator)
        emulator.set(latency_s=0.003)
        config, configured = case.config(emulator.url), case.catalog()
        start = 0
        may_come_again: set[int] = set()
        is_done = False
        while not is_done and self.kills < MOST_KILLS:
            fatal = len(emulator.requests) + self.random.randint(2, 25)
            moment = self.random.choice(("arrives", "later"))
            with Sync(folder, config, configured, nursery=stand.nursery) as sync:

                def watch(sync: Sync = sync, fatal: int = fatal, moment: str = moment) -> None:
                    if len(emulator.requests) >= fatal:
                        delay = 0 if moment == "arrives" else self.random.random() * 0.02
                        threading.Timer(delay, sync.kill).start()

                emulator.watch = watch
                ended = sync.finish(case.lines(start))
                emulator.watch = None
            emulator.settle()
            start = max(start, ended.acknowledged)
            lost = case.missing(emulator.rows(case.vendor, TABLE), start)
            if lost:
                self.problems.append(f"acknowledged and lost: {lost}")
            is_done = ended.code == 0
            self.kills += not is_done
            if not is_done:
                may_come_again |= {*range(start + 1, ROWS + 1)}
        rows = emulator.rows(case.vendor, TABLE)
        doubled = case.doubled(rows)
        self.doubled = sum(doubled.values())
        if not is_done or case.missing(rows, ROWS):
            self.problems.append(f"not all there after {self.kills} kills")
        if doubled and (case.is_keyed or not doubled.keys() <= may_come_again):
            self.problems.append(f"doubled: {doubled}")
        return self


@pytest.mark.parametrize("name", ADDS)
def test_random_kills(name: str, stand: Stand, tmp_path: Path) -> None:
    """After any number of kills all rows are there, and a keyed row is there once."""
    base = CASES[name]
    case = Case(base.vendor, base.mode, rows=ROWS, ids=base.ids and 50, max_rows=5)

    def trial(emulator: WatchedEmulator, folder: Path, seed: int) -> Chain:
        return Chain(case, seed).run(stand, emulator, folder)

    started = time.monotonic()
    chains = stand.run(trial, list(range(CHAINS)), tmp_path)
    kills = sum(chain.kills for chain in chains)
    print(
        f"{name}: {CHAINS} syncs of {ROWS} rows, {kills} kills in "
        f"{time.monotonic() - started:.0f} s: rows doubled: {sum(c.doubled for c in chains)}"
    )
    assert not [chain.problems for chain in chains if chain.problems]
    assert kills >= CHAINS
