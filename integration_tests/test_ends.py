"""Every wait ends: with the rows delivered, or with an error of the right type and no wrong state.

`test_process.py` has signals and closed pipes; here it is the vendor that is away, silent or slow.
Budgets of minutes are scaled to seconds where a test has to see their end.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from integration_tests.cases import CASES, Case, Stand
from integration_tests.connector import wait_until
from integration_tests.scenario import (
    QUICK,
    SHORT_READS,
    TABLE,
    Sync,
    WatchedEmulator,
    record,
    state,
)

_BUDGET = {
    "destination_bulk_tables.exchange:MAX_ELAPSED_S": 1.5,
    "destination_bulk_tables.lanes:_FIRST_POLL_S": 0.1,
}


def test_a_vendor_that_is_away_for_some_seconds(stand: Stand, tmp_path: Path) -> None:
    """Unreachable in the middle of a sync, with the real waits: nothing is lost and it succeeds."""

    def trial(emulator: WatchedEmulator, folder: Path, name: str) -> str:
        case = CASES[name]
        if "debounce_seconds" in case.provider:  # the window must hold the outage and a backoff
            case = Case("qobra", "overwrite", {"debounce_seconds": 30}, {"time_scale": 1.5})
        case.prepare(emulator)
        emulator.faults([{"kind": "down", "seconds": 3.0, "at": 2}])
        with Sync(folder, case.config(emulator.url), case.catalog()) as sync:
            ended = sync.finish(case.lines(0))
        emulator.settle()
        rows = emulator.rows(case.vendor, TABLE)
        lost, doubled = case.missing(rows, case.rows), case.doubled(rows)
        good = (ended.code, ended.seen, lost, doubled) == (0, [3, 6, 9, 12], [], {})
        good = good and any("attempt_failed" in text for text in ended.logs)
        return "" if good else f"{name}: {ended.message} {ended.seen} {lost} {doubled}"

    assert [text for text in stand.run(trial, list(CASES), tmp_path) if text] == []


@pytest.mark.parametrize("kind", ["refuse", "stall_before", "stall_after", "cut_before", "503"])
def test_a_vendor_that_stays_away(kind: str, stand: Stand, tmp_path: Path) -> None:
    """The retry budget ends the sync as transient_error; states are for what is in the table."""
    fault: dict[str, Any] = {"kind": kind, "count": None, "at": 3}
    if kind == "503":
        fault |= {"kind": "status", "status": 503}

    def trial(emulator: WatchedEmulator, folder: Path, name: str) -> str:
        case = CASES[name]
        case.prepare(emulator)
        emulator.faults([fault])
        config, configured = case.config(emulator.url), case.catalog()
        scaled = QUICK | _BUDGET | (SHORT_READS if kind.startswith("stall") else {})
        with Sync(folder, config, configured, nursery=stand.nursery, scaled=scaled) as sync:
            ended = sync.finish(case.lines(0))
        emulator.faults([])
        emulator.settle()
        rows = emulator.rows(case.vendor, TABLE)
        good = ended.failure == "transient_error" and not case.missing(rows, ended.acknowledged)
        if len(emulator.requests) < 3:  # all was done in two requests
            good = ended.code == 0
        return "" if good else f"{name}: {ended.failure} {ended.message} {ended.seen}"

    assert [text for text in stand.run(trial, list(CASES), tmp_path) if text] == []


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("qobra")])
def test_an_import_that_never_finishes(name: str, stand: Stand, tmp_path: Path) -> None:
    """import_timeout_minutes ends the wait: transient_error, and no state of its rows."""
    base = CASES[name]
    provider = {**base.provider, "import_timeout_minutes": 0.02}
    switches = {"qobra_never_finish": True}
    case = Case("qobra", base.mode, provider, switches, ids=base.ids, max_rows=base.max_rows)

    def trial(emulator: WatchedEmulator, folder: Path, _: int) -> None:
        case.prepare(emulator)
        config, configured = case.config(emulator.url), case.catalog()
        with Sync(folder, config, configured, nursery=stand.nursery) as sync:
            ended = sync.finish(case.lines(0))
        assert (ended.failure, ended.seen) == ("transient_error", []), ended.message
        assert "import_timeout_minutes" in ended.message

    stand.run(trial, [0], tmp_path)


def test_a_stop_while_the_vendor_is_silent(stand: Stand, tmp_path: Path) -> None:
    """SIGTERM during a request that is never answered: gone long before its time is up."""

    def trial(emulator: WatchedEmulator, folder: Path, name: str) -> str:
        case = CASES[name]
        case.prepare(emulator)
        emulator.faults([{"kind": "stall_after", "count": None, "match": "/bulk"}])
        with Sync(folder, case.config(emulator.url), case.catalog()) as sync:
            sync.feed(case.lines(0))
            sync.close_input()
            wait_until(lambda: any(request.kind == "bulk" for request in emulator.requests))
            asked = time.monotonic()
            sync.process.send_signal(signal.SIGTERM)
            ended = sync.wait()
        took = time.monotonic() - asked
        left = list(sync.temporary.iterdir())
        good = took < 60 and ended.code != 0
        good = good and (ended.seen, ended.stderr, left) == ([], "", [])
        return "" if good else f"{name}: {took} {ended.code} {ended.seen} {ended.stderr} {left}"

    assert [text for text in stand.run(trial, list(CASES), tmp_path) if text] == []


def test_stdin_that_stays_open_is_read_on(stand: Stand, tmp_path: Path) -> None:
    """While a retry waits for its vendor, stdin is still read: the platform must not be blocked."""
    case = CASES["qobra append"]

    def trial(emulator: WatchedEmulator, folder: Path, _: int) -> None:
        case.prepare(emulator)
        emulator.faults([{"kind": "status", "status": 503, "retry_after": 4, "match": "/bulk"}])
        config = case.config(emulator.url)
        config["batching"]["max_rows"] = 50
        with Sync(folder, config, case.catalog()) as sync:
            text = b"\n".join(record({"id": n, "seq": n, "name": "x" * 100}) for n in range(50))
            sync.feed([text])
            wait_until(lambda: any(request.kind == "bulk" for request in emulator.requests))
            sync.feed([record({"id": n, "seq": n, "name": "y" * 100}) for n in range(50, 95)])
            sync.feed([state(95)])
            assert sum(request.kind == "bulk" for request in emulator.requests) == 1
            assert os.fstat(sync.stdin)
            ended = sync.finish([])
        # without a status the sync fails, but everything that came is in and acknowledged
        assert (ended.failure, ended.seen) == ("transient_error", [95])
        emulator.settle()
        assert len(emulator.rows("qobra", TABLE)) == 95

    stand.run(trial, [0], tmp_path)
