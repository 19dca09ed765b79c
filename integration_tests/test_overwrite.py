"""A table to replace is never emptied by accident: crashes, failed sources, full disks.

What a vendor's own replace allows bounds what can be promised. Kore.ai, insert_then_delete: all old
or all new rows at every moment. Kore.ai, delete_then_insert: not, which is why it must be chosen.
Qobra, a load that fits one request: all old or all new rows. Qobra, a load of several requests: all
old rows until the first request; then Qobra itself will empty the table when the debounce ends and
import what it was given by then, so a crash in between can leave a part until the next attempt.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from integration_tests.cases import CASES, OLD, TYPES, Case, Stand, positions, within_its_window
from integration_tests.connector import Connector, complete, configured
from integration_tests.connector import catalog as stream_catalog
from integration_tests.connector import record as connected_record
from integration_tests.connector import state as connected_state
from integration_tests.emulator import Emulator
from integration_tests.scenario import (
    IMPATIENT,
    QUICK,
    SHORT_GRACE,
    TABLE,
    Ended,
    Sync,
    WatchedEmulator,
    catalog,
    record,
    state,
    status,
)
from integration_tests.vendor_configs import config_for

pytestmark = pytest.mark.timeout(600)

REPLACES = [name for name, case in CASES.items() if case.replaces]
DATES = ["work", "refused", "ignored", "ignored_by_deletes", "as_text", "seconds", "other_zone"]
BY_DATE = {
    f"kore overwrite, dates {dates}": Case(
        "kore", "overwrite", switches={"kore_dates": dates}, age_s=5.0
    )
    for dates in DATES
} | {
    "kore overwrite, all dates alike": Case(
        "kore", "overwrite", switches={"kore_dates": "seconds", "manual_clock": True}
    )
}
EVERY_CASE = CASES | BY_DATE
# a table of any size is one that is not listed where its dates tell old rows from new
BY_DATE_ONLY = {"destination_bulk_tables.providers.kore.replacing:FEW_ROWS": 0}
KILLS = ("killed before", "killed after")
ENDS = (*KILLS, "terminated", "vendor gone")
# how dates are read decides what a kill can leave; how a stop ends a sync is the same for all
ENDS_OF = {name: KILLS for name in BY_DATE if name != "kore overwrite, dates work"}


@pytest.fixture
def emulator() -> Iterator[WatchedEmulator]:
    with WatchedEmulator(qobra_import_s=0.02) as emulator:
        yield emulator


@dataclass
class Crash:
    """What a table held after an attempt ended at one request, and what repeating it did."""

    content: str
    was_ended: bool  # polls come as often as an import takes: the request may not have been made
    code: int
    states: int
    problems: list[str] = field(default_factory=list)


def crash(
    case: Case, stand: Stand, emulator: WatchedEmulator, folder: Path, end: str, position: int
) -> Crash:
    """End an attempt at a request, look at the table, and repeat the attempt."""
    case.prepare(emulator)
    kind = {"killed after": "stall_after", "vendor gone": "refuse"}.get(end, "stall_before")
    fault = {"kind": kind, "at": position, "count": None if end == "vendor gone" else 1}
    emulator.faults([fault])
    config, configured = case.config(emulator.url), case.catalog()
    scaled = (IMPATIENT if end == "vendor gone" else QUICK | SHORT_GRACE) | _scale(case)
    with Sync(folder, config, configured, nursery=stand.nursery, scaled=scaled) as sync:
        sync.feed(case.lines(0))
        sync.close_input()
        is_met = end != "vendor gone" and _await_request(
            sync, emulator, position, applied=end == "killed after"
        )
        if is_met:
            sync.process.send_signal(signal.SIGTERM if end == "terminated" else signal.SIGKILL)
        ended = sync.wait()
    was_ended = is_met or len(emulator.requests) >= position
    emulator.faults([])
    emulator.settle()
    found = Crash(
        case.content(emulator.rows(case.vendor, TABLE)), was_ended, ended.code, len(ended.seen)
    )
    scaled = QUICK | _scale(case)

    def attempt() -> Ended:
        with Sync(folder, config, configured, nursery=stand.nursery, scaled=scaled) as sync:
            return sync.finish(case.lines(0))

    again = within_its_window(emulator, attempt)
    rows = emulator.rows(case.vendor, TABLE)
    if again.code != 0 or case.missing(rows, case.rows) or len(rows) != case.rows:
        found.problems.append(f"does not converge: {again.message} {rows}")
    return found


def _await_request(sync: Sync, emulator: WatchedEmulator, position: int, *, applied: bool) -> bool:
    """Wait until a request is there, and applied where it will be; what is refused never is.

    False when the connector has ended without it.
    """
    deadline, seen = time.monotonic() + 60, float("inf")
    while time.monotonic() < deadline:
        requests = emulator.requests
        if len(requests) >= position:
            seen = min(seen, time.monotonic())
            if requests[position - 1].applied or not applied or time.monotonic() > seen + 1:
                return True
        elif sync.has_ended:
            return False
        threading.Event().wait(0.005)
    raise TimeoutError


def test_a_later_attempt_of_a_refresh_replaces_nothing_by_a_rest(
    connector: Connector, emulate: Callable[..., Emulator]
) -> None:
    """What the first attempt loaded stays when the source goes on from its acknowledged state."""
    stream = configured("deals", ["id"], generation_id=7, minimum_generation_id=7, sync_id=41)
    emulator = emulate(auto_create_tables=True)
    config = config_for("kore", emulator.url)
    rows = [connected_record("deals", {"id": str(i)}) for i in range(50)]
    end = [connected_state("deals", 1), complete("deals")]
    first = connector.write(config, stream_catalog(stream), [*rows, *end])
    assert len(first.delivered().states) == 1
    for rest in ([], rows[:1]):
        again = connector.write(
            config, stream_catalog(stream), [*rest, *end], env={"WORKER_JOB_ATTEMPT": "1"}
        )
        assert again.code == 1
        kind, message = again.error
        assert (kind, "Start the refresh again" in message) == ("config_error", True)
        assert again.states == []
        assert len(emulator.rows("kore", "deals")) == 50


def _scale(case: Case) -> dict[str, Any]:
    return BY_DATE_ONLY if "kore_dates" in case.switches else {}


@pytest.mark.parametrize("name", [*REPLACES, *BY_DATE])
def test_ended_at_each_request(name: str, stand: Stand, tmp_path: Path) -> None:
    """Killed, terminated or cut off at any request: old or new rows, no state; repeating converges.

    For the two ways to replace that cannot promise this, the number of times a part was left is
    printed; the repetition must converge there as well.
    """
    case = EVERY_CASE[name]

    def clean(emulator: WatchedEmulator, folder: Path, _: int) -> list[str]:
        def attempt() -> Ended:
            case.prepare(emulator)
            config, scaled = case.config(emulator.url), QUICK | _scale(case)
            with Sync(folder, config, case.catalog(), nursery=stand.nursery, scaled=scaled) as sync:
                return sync.finish(case.lines(0))

        assert within_its_window(emulator, attempt).code == 0
        return [request.kind for request in emulator.requests]

    def trial(emulator: WatchedEmulator, folder: Path, item: tuple[str, int]) -> Crash:
        return crash(case, stand, emulator, folder, *item)

    started = time.monotonic()
    (kinds,) = stand.run(clean, [0], tmp_path / "clean")
    places, ends = positions(kinds), ENDS_OF.get(name, ENDS)
    plan = [(end, position) for end in ends for position in places]
    crashes = stand.run(trial, plan, tmp_path)
    found = Counter(crash.content for crash in crashes)
    print(
        f"{name}: {len(ends)} ends x {len(places)} requests = {len(plan)} in "
        f"{time.monotonic() - started:.0f} s; the table then held: {dict(found)}"
    )
    for item, crash_ in zip(plan, crashes, strict=True):
        assert not crash_.problems, (item, crash_)
        if crash_.was_ended:
            assert crash_.code != 0, item
            assert crash_.states == 0, item
        else:
            assert crash_.code == 0, (item, crash_)
        assert not case.keeps_old_or_new or crash_.content != "part", (item, crash_)
    # how often an import is asked for differs
    certain = len(kinds) - kinds.count("import")
    assert sum(crash.was_ended for crash in crashes) >= len(ends) * certain
    assert case.keeps_old_or_new or found["part"]


ROWS = [{"id": n, "seq": n, "name": f"new-{n}"} for n in range(1, 11)]
COLUMNS = {"id": {"type": "integer"}, "seq": {"type": "integer"}, "name": {"type": "string"}}
RECORDS = [record(row) for row in ROWS]
ENDINGS: dict[str, tuple[list[bytes], str]] = {
    "no status": ([*RECORDS, state(10)], "transient_error"),
    "INCOMPLETE": ([*RECORDS, state(10), status("INCOMPLETE")], "transient_error"),
    "COMPLETE and then INCOMPLETE": (
        [*RECORDS, state(10), status(), status("INCOMPLETE")],
        "transient_error",
    ),
    "only the status of another stream": (
        [*RECORDS, state(10), status(stream="other")],
        "transient_error",
    ),
    "half a line": ([*RECORDS, state(10), status(), b'{"type": "RECO'], "system_error"),
    "nothing at all": ([], "transient_error"),
}


@pytest.mark.parametrize("vendor", ["qobra", "kore"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_failed_source_leaves_the_old_content(
    emulator: WatchedEmulator, tmp_path: Path, vendor: Any, ending: str, stand: Stand
) -> None:
    """Without a COMPLETE of the stream nothing is sent, nothing acknowledged, nothing touched."""
    lines, failure = ENDINGS[ending]
    ended = _replace(emulator, stand, tmp_path, vendor, lines)
    assert ended.code != 0
    assert ended.failure == failure, ended.message
    assert ended.seen == []
    assert emulator.rows(vendor, TABLE) == OLD
    assert not [request for request in emulator.requests if request.kind in {"bulk", "delete"}]


@pytest.mark.parametrize("vendor", ["qobra", "kore"])
def test_without_generations_the_end_of_input_completes(
    emulator: WatchedEmulator, tmp_path: Path, vendor: Any, stand: Stand
) -> None:
    """A platform that sends no generation ids sends no status either: a clean end is enough."""
    lines = [*RECORDS, state(10)]
    ended = _replace(emulator, stand, tmp_path, vendor, lines, generations=None)
    assert (ended.code, ended.seen) == (0, [10])
    assert emulator.rows(vendor, TABLE) == ROWS


@pytest.mark.parametrize(
    ("mode", "generations", "truncate_mode", "replaces"),
    [
        ("overwrite", None, "sync_mode", True),
        ("overwrite", (1, 1, 1), "sync_mode", True),
        ("append", (1, 1, 1), "sync_mode", False),
        ("append_dedup", (1, 1, 1), "sync_mode", False),
        ("append", (1, 1, 2), "sync_mode", True),
        ("append", (3, 3, 9), "sync_mode", True),
        ("append_dedup", (3, 3, 9), "sync_mode", True),
        ("append", (3, 0, 9), "sync_mode", False),
        ("append", None, "sync_mode", False),
        ("append", (3, 0, 9), "always", True),
        ("append", None, "always", True),
        ("append_dedup", None, "always", True),
    ],
)
@pytest.mark.parametrize("vendor", ["qobra", "kore"])
def test_what_replaces_and_what_does_not(
    emulator: WatchedEmulator,
    tmp_path: Path,
    stand: Stand,
    vendor: Any,
    mode: str,
    generations: tuple[int, int, int] | None,
    truncate_mode: str,
    replaces: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Sync mode, generations and truncate_mode decide; PyAirbyte's 1/1/1 empties no append."""
    ended = _replace(
        emulator,
        stand,
        tmp_path,
        vendor,
        [*RECORDS, state(10), status()],
        generations=generations,
        mode=mode,
        truncate_mode=truncate_mode,
    )
    assert (ended.code, ended.seen) == (0, [10]), ended.message
    assert emulator.rows(vendor, TABLE) == (ROWS if replaces else [*OLD, *ROWS])


@pytest.mark.parametrize("vendor", ["qobra", "kore"])
@pytest.mark.parametrize(
    ("mode", "generations"), [("overwrite", None), ("append", (3, 3, 9)), ("append", (4, 2, 9))]
)
def test_a_locked_table_is_not_replaced(
    emulator: WatchedEmulator,
    tmp_path: Path,
    stand: Stand,
    vendor: Any,
    mode: str,
    generations: tuple[int, int, int] | None,
) -> None:
    """With truncate_mode never, or generations that make no sense, nothing is requested."""
    lines = [*RECORDS, state(10), status()]
    more: dict[str, Any] = {"truncate_mode": "never", "generations": generations, "mode": mode}
    ended = _replace(emulator, stand, tmp_path, vendor, lines, **more)
    assert (ended.code, ended.failure, ended.seen) == (1, "config_error", [])
    assert [request for request in emulator.requests if request.kind != "query"] == []


@pytest.mark.parametrize("vendor", ["qobra", "kore"])
@pytest.mark.parametrize("mode", ["overwrite", "append_dedup"])
def test_zero_records_empty_the_table(
    emulator: WatchedEmulator, tmp_path: Path, stand: Stand, vendor: Any, mode: str
) -> None:
    """A completed source without rows means an empty table; at Qobra that is one request."""
    lines = [state(0), status()]
    ended = _replace(emulator, stand, tmp_path, vendor, lines, mode=mode, generations=(3, 3, 9))
    assert (ended.code, ended.seen) == (0, [0]), ended.message
    assert emulator.rows(vendor, TABLE) == []
    writes = [request for request in emulator.requests if request.kind == "bulk"]
    if vendor == "qobra":
        (write,) = writes
        assert (write.query, write.rows, write.bytes) == ("all=true", 0, len(b'{"items":[]}'))
    else:
        assert writes == []


def _replace(
    emulator: WatchedEmulator,
    stand: Stand,
    folder: Path,
    vendor: Any,
    lines: list[bytes],
    *,
    generations: tuple[int, int, int] | None = (3, 3, 9),
    mode: str = "overwrite",
    **more: Any,
) -> Ended:
    """Sync these lines into a table that holds the old rows."""
    emulator.create_table(vendor, TABLE, TYPES)
    emulator.fill(vendor, OLD)
    config = Case(vendor, mode, max_rows=100).config(emulator.url) | more
    configured = catalog(
        mode,
        COLUMNS,
        key=["id"] if mode == "append_dedup" else [],
        generations=generations,
    )
    with Sync(folder, config, configured, nursery=stand.nursery) as sync:
        ended = sync.finish(lines)
    assert list(sync.temporary.iterdir()) == []
    emulator.settle()
    return ended


@pytest.mark.parametrize("vendor", ["qobra", "kore"])
def test_a_staging_budget_that_is_used_up(
    emulator: WatchedEmulator, tmp_path: Path, stand: Stand, vendor: Any
) -> None:
    """Rows beyond staging.max_gigabytes end the sync before anything is sent."""
    lines = [record({"id": n, "seq": n, "name": "x" * 1000}) for n in range(1200)]
    ended = _replace(
        emulator, stand, tmp_path, vendor, [*lines, status()], staging={"max_gigabytes": 0.001}
    )
    assert (ended.code, ended.failure) == (1, "config_error")
    assert "staging.max_gigabytes" in ended.message
    assert [request for request in emulator.requests if request.kind != "query"] == []


@pytest.mark.parametrize("vendor", ["qobra", "kore"])
def test_a_full_disk(emulator: WatchedEmulator, tmp_path: Path, stand: Stand, vendor: Any) -> None:
    """A disk that is full ends the sync before anything is sent."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs more rights than this machine gives")
    try:
        lines = [record({"id": n, "seq": n, "name": "x" * 1000}) for n in range(1200)]
        staging = {"directory": str(disk)}
        ended = _replace(emulator, stand, tmp_path, vendor, [*lines, status()], staging=staging)
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)
    assert (ended.code, ended.failure) == (1, "transient_error")
    assert "is full" in ended.message
    assert [request for request in emulator.requests if request.kind != "query"] == []
