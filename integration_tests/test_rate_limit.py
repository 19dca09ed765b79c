"""Kore.ai's rate windows: never exceeded, used well, and survived when others use them up.

The vendor's windows are 600 requests in 60 s and 18,000 in 3,600 s. Here both sides have shorter
ones, so that a run is over in seconds; the code that keeps them is the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from integration_tests.cases import Case, Stand
from integration_tests.scenario import QUICK, TABLE, Ended, Sync, WatchedEmulator

pytestmark = pytest.mark.timeout(120)

_KORE = "destination_bulk_tables.providers.kore:"
_KORE_ANSWERS = "destination_bulk_tables.providers.kore.answers:"
Windows = Sequence[tuple[int, float]]
TRIES = 3


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with Stand() as stand:
        yield stand


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


def shortest(requests: int, windows: Windows) -> float:
    """Return the least seconds between first and last of so many requests."""
    times: list[float] = []
    for number in range(requests):
        earliest = [times[number - n] + s for n, s in windows if number >= n]
        times.append(max([*earliest, times[-1] if times else 0.0]))
    return times[-1]


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
    """No window is exceeded, and requests come at 90 % or more of what the windows allow.

    A busy machine delays a request on its way, so that the next seem too early or the last too
    late: one run of a few must show it.
    """
    runs = []
    for number in range(TRIES):
        folder = tmp_path / str(number)
        violations, use = measured(stand, emulator, folder, windows, parallel)
        runs.append((violations, f"{use:.1%}"))
        if not violations and use >= 0.9:
            break
    else:
        pytest.fail(f"violations and use of what {windows} allow: {runs}")


def measured(
    stand: Stand, emulator: WatchedEmulator, folder: Path, windows: Windows, parallel: int
) -> tuple[int, float]:
    """Sync 240 requests: how many broke a window, and the part of what the windows allow."""
    case = Case("kore", "append", switches={"kore_rate_limit": "record"}, rows=240, max_rows=1)
    case.prepare(emulator)
    emulator.set(kore_rate_windows=windows)
    config = case.config(emulator.url)
    config["batching"]["max_parallel_requests"] = parallel
    # 2 % of a minute is more than a second, of a short window less than a busy machine hesitates
    margin = {"destination_bulk_tables.ratelimit:MARGIN": 1.04}
    scaled = QUICK | margin | {f"{_KORE}Kore.limits.windows": windows}
    with Sync(folder, config, case.catalog(), nursery=stand.nursery, scaled=scaled) as running:
        ended = running.finish(case.lines(0))
    assert ended.code == 0, ended.message
    assert len(emulator.rows("kore", TABLE)) == case.rows
    times = [request.time for request in emulator.requests]
    took, best = times[-1] - times[0], shortest(len(times), windows)
    print(f"{len(times)} requests in {took:.2f} s, {best / took:.1%} of what {windows} allow")
    return emulator.rate_violations, best / took


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
    }
    case = Case("kore", mode, switches=switches, rows=15, max_rows=1)
    case.prepare(emulator)
    ended = sync(stand, emulator, tmp_path, case, {f"{_KORE_ANSWERS}RATE_PAUSE_S": 1.0})
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
    assert ended.seconds < 10
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
    # what was under way when the refusal came may still arrive
    early = [r for r in emulator.requests if refused + 0.2 < r.time < refused + 0.9]
    assert early == []
    assert any(request.time > refused + 0.9 for request in emulator.requests)
