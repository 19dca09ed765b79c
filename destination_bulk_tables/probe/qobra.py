"""Qobra: rows, repeated ids, numeric ids, bad rows, the debounce window."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from destination_bulk_tables.http import segment
from destination_bulk_tables.probe.session import OK, ROW_PREFIX, Probe, say


def probe_qobra(probe: Probe, id_field: str, window_s: int) -> None:
    """Rows, repeated ids, numeric ids, bad rows, the debounce window; leaves the table empty."""

    def row(number: int, **members: object) -> dict[str, object]:
        return {
            id_field: f"{ROW_PREFIX}-{number}",
            probe.text_column: "probe",
            probe.number_column: number,
            **members,
        }

    def post(rows: list[dict[str, object]], query: str = "") -> str | None:
        path = f"/v1/tables/{segment(probe.table)}/records/bulk{query}"
        status, answer = probe.send("POST", path, {"items": rows})
        return answer.get("import_id") if status == OK and isinstance(answer, dict) else None

    def finish(import_id: str | None) -> dict[str, Any] | None:
        """Poll until the import is finished; its own entry, with the import's times."""
        deadline = probe.clock.monotonic() + 3600
        while import_id and probe.clock.monotonic() < deadline:
            status, answer = probe.send("GET", f"/v1/imports/{segment(import_id)}")
            found = answer.get("data_import", {}) if status == OK else {}
            if found.get("status") == "finished":
                details = found.get("data_tables_details") or []
                own = [e for e in details if e.get("data_table_key") == probe.table]
                return {**found, "own": own}
            probe.clock.wait(probe.poll_s, threading.Event())
        return None

    def count(found: dict[str, Any] | None) -> str:
        if not found or not found["own"]:
            return "not told"
        numbers = [entry.get("number_of_records") for entry in found["own"]]
        rows = ["unknown" if number is None else f"{number}" for number in numbers]
        return " and ".join(rows) + (" row" if numbers == [1] else " rows")

    probe.warn(
        f"This run DELETES EVERY ROW of Qobra table {probe.table}: two of its steps replace the "
        "table's content, as the real syncs do that it is here to examine."
    )
    probe.step("Two rows, imported in the background", writes=True)
    found = finish(post([row(1), row(2)]))
    probe.learn("two rows are counted as", count(found))
    if not found or any(entry.get("error") for entry in found["own"]):
        say("   The rows were not imported: check the columns' API names, then run again.")
        return
    probe.step("The same id twice in one request", writes=True)
    found = finish(post([row(3), row(3)]))
    probe.learn("a repeated id is counted as", count(found))
    probe.step("A number as id", writes=True)
    found = finish(post([row(4, **{id_field: 990004})]))
    bad = not found or any(entry.get("error") for entry in found["own"])
    probe.learn("a number as id is", "refused" if bad else "taken")
    if bad:
        probe.settings.append(
            f"The field that goes to id_field ({id_field}) must be text: cast it at the source."
        )
    probe.step("One good and one bad row", writes=True)
    found = finish(post([row(5), row(6, **{probe.number_column: "not a number"})]))
    _judge_bad_row(probe, found["own"] if found else [])
    first, second, imports = _load_in_two(probe, window_s, row, post, finish)
    _judge_window(probe, window_s, is_shared=first == second, imports=imports)
    probe.learn("the load of two requests is counted as", ", then ".join(map(count, imports)))
    probe.step("Empty the table", writes=True)
    probe.learn("an empty load is counted as", count(finish(post([], "?all=true"))))


def _judge_bad_row(probe: Probe, entries: list[dict[str, Any]]) -> None:
    """What became of a good row beside a bad one."""
    if entries and not any(entry.get("error") for entry in entries):
        probe.learn("a text in a number column is", "taken: no row was refused")
        probe.ask_for_number_column()
    elif entries:
        stored = any(entry.get("number_of_records") for entry in entries)
        probe.learn("beside a bad row the good one is", "stored" if stored else "not stored")
        probe.settings.append(
            "rejected_records.policy 'skip' delivers the good rows of a batch."
            if stored
            else "rejected_records.policy 'skip' cannot help: one bad row fails its whole import."
        )


def _load_in_two(
    probe: Probe,
    window_s: int,
    row: Callable[[int], object],
    post: Callable[[list[Any], str], str | None],
    finish: Callable[[str | None], dict[str, Any] | None],
) -> tuple[str | None, str | None, list[dict[str, Any] | None]]:
    title = f"The debounce window ({window_s} s, two requests half of it apart)"
    probe.step(title, writes=True)
    query = f"?all=true&debounce={window_s}"
    first = post([row(7)], query)
    probe.clock.wait(window_s / 2, threading.Event())
    second = post([row(8)], query)
    return first, second, [finish(i) for i in dict.fromkeys([first, second])]


def _judge_window(
    probe: Probe, window_s: int, *, is_shared: bool, imports: list[dict[str, Any] | None]
) -> None:
    probe.learn("requests of one load have", "one import id" if is_shared else "an id each")
    waits = [_seconds(f["created_at"], f["launched_at"]) for f in imports if f]
    known = [wait for wait in waits if wait is not None]
    if known:
        sliding = max(known) > window_s * 1.25
        first_or_last = "the last request" if sliding else "the first request"
        probe.learn("the window counts from", first_or_last)
        probe.settings.append(
            "Leave debounce_seconds empty: loads are sent within the window either way."
        )


def _seconds(start: str | None, end: str | None) -> float | None:
    if not start or not end:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
