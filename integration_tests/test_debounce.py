"""Qobra: a table replaced by several requests, whatever the vendor means by debounce and import id.

The docs leave open when the window starts, what ids the requests get and what each import shows.
Every combination of the emulator's readings must end with the new rows and nothing else, or with an
error and no state. The windows are real here, and as short as the connector lets them be.
"""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path
from typing import Any

import pytest

from integration_tests.cases import CASES, Case, Stand, within_its_window
from integration_tests.connector import wait_until
from integration_tests.scenario import TABLE, Ended, Sync, WatchedEmulator, record, status

CASE = CASES["qobra overwrite debounced"]
READINGS = [
    dict(
        zip(
            ("qobra_window", "qobra_same_import_id", "qobra_part_count", "qobra_entries"),
            values,
            strict=True,
        )
    )
    for values in itertools.product(
        ("from_first", "sliding"), (True, False), ("part", "whole"), ("per_table", "per_request")
    )
]
ODDITIES: list[dict[str, Any]] = [
    {"qobra_count": "unique_ids"},
    {"qobra_foreign_entry": "ok"},
    {"qobra_foreign_entry": "failed", "qobra_error_flag": "has_error"},
    {"qobra_foreign_entry": "failed", "qobra_same_import_id": False},
    {"qobra_order": "reversed"},
    {"qobra_hidden_s": 0.5},
    {"qobra_hidden_s": 3.0},
    {"qobra_stack": True},
    {"qobra_missing_field": "emptied"},
    {"qobra_queue_s": 1.0},
    {"qobra_import_s": 1.0},
]


def replace(stand: Stand, emulator: WatchedEmulator, folder: Path, case: Case) -> Ended:
    """Replace the table once."""
    with Sync(folder, case.config(emulator.url), case.catalog(), nursery=stand.nursery) as sync:
        return sync.finish(case.lines(0))


def replaced(stand: Stand, emulator: WatchedEmulator, folder: Path, case: Case) -> Ended:
    """Replace the table, within the window if need be at the next attempt."""
    return within_its_window(emulator, lambda: replace(stand, emulator, folder, case))


def is_new(emulator: WatchedEmulator, case: Case) -> bool:
    """Whether the table holds the new rows and no others."""
    rows = emulator.rows("qobra", TABLE)
    return len(rows) == case.rows and not case.missing(rows, case.rows)


def test_every_reading(stand: Stand, tmp_path: Path) -> None:
    """All combinations of window, import ids, counts and entries replace the table in one go."""
    plan = [*READINGS, *ODDITIES]

    def trial(emulator: WatchedEmulator, folder: Path, switches: dict[str, Any]) -> str:
        case = Case("qobra", "overwrite", {"debounce_seconds": 2}, switches)
        case.prepare(emulator)
        ended = replaced(stand, emulator, folder, case)
        if ended.code == 0 and ended.seen == [3, 6, 9, 12] and is_new(emulator, case):
            return ""
        return f"{switches}: {ended.message or emulator.rows('qobra', TABLE)}"

    started = time.monotonic()
    wrong = [found for found in stand.run(trial, plan, tmp_path) if found]
    print(f"{len(plan)} readings of a debounced load in {time.monotonic() - started:.0f} s")
    assert wrong == []


def test_failed_loads_acknowledge_nothing(stand: Stand, tmp_path: Path) -> None:
    """An import that fails, lies or never ends gives an error of its type; repeating converges."""
    plan: list[tuple[str, dict[str, Any]]] = [
        ("config_error", {"qobra_fail_imports": True}),
        ("config_error", {"qobra_fail_imports": True, "qobra_failed_replace": "keep"}),
        ("config_error", {"qobra_fail_imports": True, "qobra_same_import_id": False}),
        ("transient_error", {"qobra_count_offset": 1}),
        ("system_error", {"qobra_count_offset": -1}),
        ("transient_error", {"qobra_never_finish": True}),
    ]

    def trial(
        emulator: WatchedEmulator, folder: Path, item: tuple[str, dict[str, Any]]
    ) -> list[object]:
        failure, switches = item
        case = Case("qobra", "overwrite", {"debounce_seconds": 2}, switches)
        short = Case("qobra", "overwrite", {**case.provider, "import_timeout_minutes": 0.01})
        case.prepare(emulator)
        if failure == "transient_error":
            never_ends = "qobra_never_finish" in switches
            ended = replace(stand, emulator, folder, short if never_ends else case)
        else:
            ended = replaced(stand, emulator, folder, case)
        emulator.set(qobra_fail_imports=False, qobra_count_offset=0, qobra_never_finish=False)
        emulator.settle()
        again = replaced(stand, emulator, folder, case)
        found = (ended.failure, ended.seen, again.code, is_new(emulator, case))
        return [] if found == (failure, [], 0, True) else [item, found, again.message]

    assert [found for found in stand.run(trial, plan, tmp_path) if found] == []


@pytest.mark.parametrize(("debounce", "fits"), [(0, False), (1, False), (2, True), (3600, True)])
def test_a_window_is_judged_before_the_first_request(
    stand: Stand,
    tmp_path: Path,
    debounce: int,
    fits: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """A debounce too short for the load is refused with the number it needs; a small one works."""

    def trial(emulator: WatchedEmulator, folder: Path, _: int) -> None:
        switches = {"time_scale": max(1.0, debounce / 2)}
        case = Case("qobra", "overwrite", {"debounce_seconds": debounce}, switches)
        case.prepare(emulator)
        ended = replaced(stand, emulator, folder, case)
        if fits:
            assert (ended.code, is_new(emulator, case)) == (0, True), ended.message
            queries = {r.query for r in emulator.requests if r.kind == "bulk"}
            assert queries == {f"all=true&debounce={debounce}"}
        else:
            assert (ended.failure, emulator.requests) == ("config_error", [])
            assert re.search(r"at least 2 s.* gives [01] s", ended.message)

    stand.run(trial, [0], tmp_path)


def test_a_load_that_fits_one_request_needs_no_window(stand: Stand, tmp_path: Path) -> None:
    """debounce_seconds of a load in one request is not used: it is replaced at once."""

    def trial(emulator: WatchedEmulator, folder: Path, _: int) -> None:
        case = Case("qobra", "overwrite", {"debounce_seconds": 0}, max_rows=100)
        case.prepare(emulator)
        ended = replace(stand, emulator, folder, case)
        assert (ended.code, is_new(emulator, case)) == (0, True)
        assert [r.query for r in emulator.requests if r.kind == "bulk"] == ["all=true"]

    stand.run(trial, [0], tmp_path)


def test_a_push_that_outlasts_its_window_stops(stand: Stand, tmp_path: Path) -> None:
    """When the window may be over before all is sent, the rest is not sent and the sync fails."""

    def trial(emulator: WatchedEmulator, folder: Path, window: str) -> None:
        case = Case("qobra", "overwrite", {"debounce_seconds": 2}, {"qobra_window": window})
        case.prepare(emulator)
        slow = {"kind": "status", "status": 429, "retry_after": 2, "match": "POST", "at": 3}
        emulator.faults([slow])
        ended = replace(stand, emulator, folder, case)
        assert (ended.failure, ended.seen) == ("transient_error", [])
        assert "debounce_seconds" in ended.message
        emulator.faults([])
        emulator.settle()
        again = replaced(stand, emulator, folder, case)
        assert (again.code, is_new(emulator, case)) == (0, True)

    stand.run(trial, ["from_first", "sliding"], tmp_path)


def test_an_attempt_inside_the_window_of_a_killed_one(stand: Stand, tmp_path: Path) -> None:
    """The vendor keeps what a killed attempt pushed, and the next attempt may join it.

    Where the count or the times show that, the load is sent again, alone. Where each request has
    an import of its own that counts only its own rows, nothing shows it: the new rows are in,
    but rows that vanished from the source between the two attempts stay until the next replace.
    """
    plan = [
        {"qobra_window": window, "qobra_same_import_id": same, "qobra_part_count": count}
        for window, same, count in itertools.product(
            ("from_first", "sliding"), (True, False), ("part", "whole")
        )
    ]

    def trial(emulator: WatchedEmulator, folder: Path, switches: dict[str, Any]) -> str:
        case = Case("qobra", "overwrite", {"debounce_seconds": 3}, switches)
        case.prepare(emulator)
        config, configured = case.config(emulator.url), case.catalog()
        with Sync(folder, config, configured, nursery=stand.nursery) as sync:
            gone = [record({"id": 500 + n, "seq": 500 + n, "name": "gone"}) for n in range(4)]
            emulator.faults([{"kind": "stall_before", "at": 3}])
            sync.feed([*gone, *case.lines(0), status()])
            sync.close_input()
            wait_until(lambda: len(emulator.requests) >= 3)
            sync.kill()
        emulator.faults([])
        ended = replaced(stand, emulator, folder, case)
        shows_nothing = (
            not switches["qobra_same_import_id"] and switches["qobra_part_count"] == "part"
        )
        rows = emulator.rows("qobra", TABLE)
        good = ended.code == 0 and not case.missing(rows, case.rows)
        good = good and (shows_nothing or len(rows) == case.rows)
        told = f"{ended.failure or 'ok'} {len(rows) - case.rows} left"
        return f"{switches}: {told}{'' if good else ' WRONG'}"

    found = stand.run(trial, plan, tmp_path)
    print("\n".join(found))
    assert not [text for text in found if text.endswith("WRONG")]
