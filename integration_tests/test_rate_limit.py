"""Kore.ai's rate windows: never exceeded, used well, and survived when others use them up.

The vendor's windows are 600 requests in 60 s and 18,000 in 3,600 s. Here both sides have shorter
ones, so that a run is over in seconds; the code that keeps them is the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest

from integration_tests.cases import Case, Stand
from integration_tests.scenario import QUICK, TABLE, Ended, Sync, WatchedEmulator

_KORE = "destination_bulk_tables.providers.kore:"
_KORE_ANSWERS = "destination_bulk_tables.providers.kore.answers:"
Windows = Sequence[tuple[int, float]]


@pytest.fixture
def emulator() -> Iterator[WatchedEmulator]:
    with WatchedEmulator() as emulator:
        yield emulator


def sync(
    stand: Stand, emulator: WatchedEmulator, folder: Path, case: Case, scaled: dict[str, Any]
) -> Ended:
    """Sync with scaled limits."""
    config, configured = case.config(emulator.url), case.catalog()
    with Sync(folder, config, configured, nursery=stand.nursery, scaled=QUICK | scaled) as running:
        return running.finish(case.lines(0))


def lateness(times: Sequence[float], windows: Windows) -> list[float]:
    """How long after the first moment that the windows allow each request came that they held."""
    return [
        times[number] - max(times[number - n] + s for n, s in windows if number >= n)
        for number in range(min(n for n, _ in windows), len(times))
    ]


@pytest.mark.parametrize(
    ("windows", "parallel"),
    [
        (((100, 3.0), (100_000, 60.0)), 1),
        (((1_000, 1.0), (100, 3.0)), 4),
        (((60, 2.0), (120, 5.0)), 4),
    ],
    ids=["the short one", "the long one", "both"],
)
def test_windows_are_kept_and_used(
    stand: Stand, emulator: WatchedEmulator, tmp_path: Path, windows: Windows, parallel: int
) -> None:
    """No request comes before its window allows it, and they come when the windows allow it.

    To the moment `unit_tests/test_ratelimit.py` has both. Here a busy machine delays requests on
    their way, which moves the next ones nearer: by less than a second, and not most of them.
    """
    case = Case("kore", "append", rows=240, max_rows=1)
    case.prepare(emulator)
    config = case.config(emulator.url)
    config["batching"]["max_parallel_requests"] = parallel
    scaled = QUICK | {f"{_KORE}Kore.limits.windows": windows}
    with Sync(tmp_path, config, case.catalog(), nursery=stand.nursery, scaled=scaled) as running:
        ended = running.finish(case.lines(0))
    assert ended.code == 0, ended.message
    assert len(emulator.rows("kore", TABLE)) == case.rows
    late = lateness([request.time for request in emulator.requests], windows)
    print(f"{len(late)} of 240 requests were held, {min(late):.3f} to {max(late):.3f} s too long")
    assert min(late) > -1
    assert quantiles(late, n=4)[0] < 0.5


@pytest.mark.parametrize("mode", ["append", "append_dedup"])
@pytest.mark.parametrize("names_its_wait", [True, False])
@pytest.mark.parametrize("code", [429, 400])
def test_a_refusal_for_the_rate_is_waited_out(
    stand: Stand,
    emulator: WatchedEmulator,
    tmp_path: Path,
    code: int,
    names_its_wait: bool,  # noqa: FBT001 - a column of the table
    mode: str,
) -> None:
    """Whatever its status, and whether it says how long: no row is lost, doubled or rejected."""
    switches = {
        "kore_rate_limit": "refuse",
        "kore_rate_status": code,
        "kore_rate_retry_after": names_its_wait,
        "kore_rate_windows": ((10, 1.0), (100_000, 60.0)),
        "manual_clock": True,
    }
    case = Case("kore", mode, switches=switches, rows=15, max_rows=1)
    case.prepare(emulator)
    refused = 0

    def pass_time() -> None:
        """Have a second pass after each refusal; else none, however slow the machine is."""
        nonlocal refused
        found = sum(request.status == code for request in emulator.requests)
        if found > refused:
            refused = found
            emulator.advance(1.0)

    emulator.watch = pass_time
    ended = sync(stand, emulator, tmp_path, case, {f"{_KORE_ANSWERS}RATE_PAUSE_S": 0.1})
    assert (ended.code, ended.seen) == (0, [3, 6, 9, 12, 15]), ended.message
    assert any(request.status == code for request in emulator.requests)
    rows = emulator.rows("kore", TABLE)
    assert (len(rows), case.missing(rows, case.rows)) == (15, [])


@pytest.mark.parametrize("code", [429, 400])
@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_the_hourly_limit_ends_the_sync(
    stand: Stand, emulator: WatchedEmulator, tmp_path: Path, code: int, mode: str
) -> None:
    """An hour is not slept through: a transient_error names it, and a later attempt goes on."""
    switches = {
        "kore_rate_limit": "refuse",
        "kore_rate_status": code,
        "kore_rate_windows": ((1_000, 1.0), (5, 3_600.0)),
    }
    case = Case("kore", mode, switches=switches)
    case.prepare(emulator)
    emulator.set(kore_rate_windows=((1_000, 1.0), (3, 3_600.0)))
    ended = sync(stand, emulator, tmp_path, case, {})
    assert ended.failure == "transient_error"
    assert re.search(r"\bhour", ended.message)
    assert ended.seconds < 100
    found = emulator.rows("kore", TABLE)
    assert case.missing(found, ended.acknowledged) == []
    if case.replaces:
        assert case.content(found) == "old"


@pytest.mark.parametrize("retry_after", [1, "date:2"])
def test_all_senders_of_a_table_pause(
    stand: Stand, emulator: WatchedEmulator, tmp_path: Path, retry_after: str | int
) -> None:
    """After a 429 nothing leaves before its Retry-After, in seconds or as a date, is over."""
    case = Case("kore", "append", rows=60, max_rows=1)
    case.prepare(emulator)
    emulator.set(latency_s=0.01)
    emulator.faults([{"kind": "status", "status": 429, "retry_after": retry_after, "at": 20}])
    ended = sync(stand, emulator, tmp_path, case, {})
    assert (ended.code, len(emulator.rows("kore", TABLE))) == (0, 60)
    refused = next(request.time for request in emulator.requests if request.status == 429)
    # what was under way when the refusal came may still arrive: a few of the forty that are left
    early = [r for r in emulator.requests if refused < r.time < refused + 0.9]
    assert len(early) <= 8
    assert any(request.time > refused + 0.9 for request in emulator.requests)
