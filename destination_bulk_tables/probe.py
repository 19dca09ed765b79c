"""Settle with real credentials and a scratch table what the vendors do not document.

    python -m destination_bulk_tables.probe --config config.json --table scratch

Before its first write it says what it will do to the table and asks for the table's name; each step
that writes is announced and confirmed. It uses a handful of rows marked `airbyte-probe`. **Qobra's
table ends empty**, whatever it held: use a scratch table. What is found, also by a run that stops
early, is printed with the settings that follow from it. Not part of a sync.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from destination_bulk_tables import commands
from destination_bulk_tables.clock import Clock, SystemClock
from destination_bulk_tables.errors import ConfigError, DestinationError
from destination_bulk_tables.http import HttpRequest, segment
from destination_bulk_tables.transport import Transport, TransportError

_TIMEOUT_S = 120.0
_PREFIX = "airbyte-probe"
_OK = 200
_SENT_BESIDE_BAD = 3
_LONG_FILTER = 1000  # as long as a sync's longest delete


class _Declined(Exception):
    """The person said no; its text says to what."""


@dataclass(slots=True)
class Probe:
    """One run: asks, sends single requests, and collects what it learns."""

    transport: Transport
    headers: Callable[[float], Any]
    table: str
    text_column: str
    number_column: str
    clock: Clock
    confirm: Callable[[str], bool]
    ask: Callable[[str], bool]
    say: Callable[[str], None]
    poll_s: float
    findings: list[tuple[str, str]] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)

    def warn(self, what: str) -> None:
        """Say what will happen to the table and ask for its name. Raises `_Declined`."""
        self.say(f"\n{what}")
        if not self.confirm(f"Type the table's name ({self.table}) to go on: "):
            message = "the name was not repeated, so nothing was written"
            raise _Declined(message)

    def step(self, title: str, *, writes: bool) -> None:
        """Announce a step; a writing one must be confirmed. Raises `_Declined`."""
        self.say(f"\n== {title}")
        if writes and not self.ask(f"   This writes to table {self.table}. Go on? [y/N] "):
            message = f"before the step '{title}'"
            raise _Declined(message)

    def send(
        self, method: str, path: str, body: object = None, *, now: float | None = None
    ) -> tuple[int, Any]:
        """Send one request; the status and the decoded answer (text where it is not JSON)."""
        data = None if body is None else json.dumps(body).encode()
        headers = self.headers(self.clock.now() if now is None else now)
        response = self.transport.send(HttpRequest(method, path, data), headers, _TIMEOUT_S)
        self.say(f"   {method} {path} -> {response.status}")
        try:
            return response.status, json.loads(response.body)
        except ValueError:
            return response.status, response.text[:200]

    def learn(self, question: str, answer: str) -> None:
        """Note a finding."""
        self.findings.append((question, answer))
        self.say(f"   {question}: {answer}")

    def ask_for_number_column(self) -> None:
        """Note that the row meant to be bad was good."""
        self.settings.append(
            f"Column {self.number_column} takes texts, so nothing is known about refused rows: run "
            "again with --number-column set to a column of type number."
        )

    def conclude(self) -> None:
        """Print what was found so far and the settings that follow."""
        if self.findings:
            self.say("\nFound:")
        for question, answer in self.findings:
            self.say(f"  {question}: {answer}")
        if self.settings:
            self.say("What follows for the configuration:")
        for setting in self.settings:
            self.say(f"  - {setting}")


# --- Qobra


def probe_qobra(probe: Probe, id_field: str, window_s: int) -> None:
    """Rows, repeated ids, numeric ids, bad rows, the debounce window; leaves the table empty."""

    def row(number: int, **members: object) -> dict[str, object]:
        return {
            id_field: f"{_PREFIX}-{number}",
            probe.text_column: "probe",
            probe.number_column: number,
            **members,
        }

    def post(rows: list[dict[str, object]], query: str = "") -> str | None:
        path = f"/v1/tables/{segment(probe.table)}/records/bulk{query}"
        status, answer = probe.send("POST", path, {"items": rows})
        return answer.get("import_id") if status == _OK and isinstance(answer, dict) else None

    def finish(import_id: str | None) -> dict[str, Any] | None:
        """Poll until the import is finished; its own entry, with the import's times."""
        deadline = probe.clock.monotonic() + 3600
        while import_id and probe.clock.monotonic() < deadline:
            status, answer = probe.send("GET", f"/v1/imports/{segment(import_id)}")
            found = answer.get("data_import", {}) if status == _OK else {}
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
        probe.say("   The rows were not imported: check the columns' API names, then run again.")
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


# --- Kore.ai


def probe_kore(probe: Probe, prefix: str) -> None:
    """Rights, filters, partial refusals, unknown columns, limits; deletes the rows it inserted."""
    path = f"/{prefix.strip('/')}/tables/{segment(probe.table)}"
    mine = {"field": probe.text_column, "operand": "=", "value": _PREFIX}
    every = {"field": "sys_Id", "operand": "!=", "value": ""}

    def row(**members: object) -> dict[str, object]:
        return {probe.text_column: _PREFIX, probe.number_column: 1, **members}

    def total(*expressions: dict[str, str]) -> int | None:
        query = {"query": {"expressions": expressions, "operator": "or"}}
        status, answer = probe.send("POST", f"{path}/query?sys_limit=1&sys_offset=0", query)
        return answer.get("total") if status == _OK and isinstance(answer, dict) else None

    probe.step("Read", writes=False)
    before = total(every)
    probe.learn("rows in the table", "unknown: no Read right?" if before is None else str(before))
    status, _ = probe.send("POST", f"{path}/query?sys_limit=200", {"query": {}})
    probe.learn("a query for 200 rows is answered", str(status))
    status, _ = probe.send("POST", f"{path}/query?sys_limit=1", {"query": {}}, now=1.0)
    probe.learn("an expired token is answered", str(status))
    probe.warn(
        f"This run inserts a handful of rows into Kore.ai table {probe.table} and deletes them by "
        f"a filter on column {probe.text_column}. Should Kore.ai read that filter in another way "
        "than documented, OTHER ROWS of the table are deleted too."
    )
    probe.step("Insert one row", writes=True)
    status, answer = probe.send("POST", f"{path}/bulk", {"data": [row()]})
    records = answer.get("records") if isinstance(answer, dict) else None
    probe.learn("an insert of one row is answered", f"{status}, {len(records or [])} record(s)")
    if status != _OK:
        probe.say("   The row was not inserted: check the Write right and the column names.")
        return
    probe.learn("the row is found by its text", str(total(mine) == 1))
    _judge_long_filters(probe, mine, total)
    probe.step("One good and one bad row", writes=True)
    known = total(every)
    bad = row(**{probe.number_column: "not a number"})
    status, _ = probe.send("POST", f"{path}/bulk", {"data": [row(), bad, row()]})
    after = total(every)
    stored = None if after is None or known is None else after - known
    _judge_partial(probe, stored, status)
    probe.step("An unknown column", writes=True)
    status, _ = probe.send("POST", f"{path}/bulk", {"data": [row(airbyte_no_such_column=1)]})
    probe.learn("an unknown column is answered", str(status))
    if status == _OK:
        probe.settings.append(
            "Unknown columns are dropped here without a word: compare the names in "
            "tables[].columns with the table's."
        )
    probe.step("Delete the rows of this probe", writes=True)
    query = {"query": {"expressions": [mine], "operator": "and"}}
    status, answer = probe.send("DELETE", path, query)
    deleted = answer.get("nDeleted") if isinstance(answer, dict) else None
    probe.learn("a delete by filter is answered", f"{status}, nDeleted {deleted}")
    left = total(every)
    if left is not None and left == before:
        probe.settings.append(
            "Delete works: append + deduped and replace_strategy 'insert_then_delete' can be used."
        )
    else:
        probe.settings.append(
            "Rows are left: give the app the Delete right, or use plain append only."
        )


def _judge_partial(probe: Probe, stored: int | None, status: int) -> None:
    """What of a good, a bad and another good row is in the table."""
    meaning = {
        None: "unknown: the table cannot be counted",
        0: "nothing: a refused batch stores no row",
        1: "the row before the bad one",
        2: "each row but the bad one",
        3: "each of them: a text in a number column is taken",
    }
    told = meaning.get(stored, f"{stored} rows: somebody else writes to the table")
    probe.learn("of good, bad, good is stored", f"{told} (status {status})")
    if stored is None:
        probe.settings.append("Give the app the Read right: without it no write can be verified.")
    elif stored == _SENT_BESIDE_BAD and status == _OK:
        probe.ask_for_number_column()
    elif stored:
        probe.settings.append(
            "Refused batches store rows here: keep the Read right, with it the connector finds out "
            "which, and kore_after_lost_answer 'verify_then_retry' holds."
        )


def _judge_long_filters(
    probe: Probe, mine: dict[str, str], total: Callable[..., int | None]
) -> None:
    """Whether the last of many expressions counts, and none of them matches what it should not."""
    others = [{**mine, "value": f"{_PREFIX}-{i}"} for i in range(_LONG_FILTER)]
    held = total(mine)
    is_read = held is not None and (total(*others), total(*others[1:], mine)) == (0, held) != (0, 0)
    probe.learn(f"a filter of {_LONG_FILTER} expressions is read", "whole" if is_read else "not")
    if not is_read:
        probe.settings.append(
            "append + deduped and replacing delete 100 keys per request here, not 1,000: allow ten "
            "times the requests under the rate limit."
        )


# --- the command


def main(arguments: list[str] | None = None) -> int:
    """Run the probe of the configured provider; 1 when it could not be run to its end."""
    options = _options(arguments)
    out = sys.stdout

    def say(text: str) -> None:
        out.write(text + "\n")
        out.flush()

    def asked(question: str) -> str:
        out.write(question)
        out.flush()
        return sys.stdin.readline().strip()

    def confirm(question: str) -> bool:
        return bool((options.yes or asked(question)) == options.table)

    def ask(question: str) -> bool:
        return bool(options.yes) or asked(question).lower() in {"y", "yes"}

    warnings.simplefilter("ignore")  # PyJWT's about short secrets, which is the vendor's business
    probe: Probe | None = None
    reason = ""
    try:
        raw = commands.load_json(options.config, "config")
        config = commands.parse_config(raw)
        section = cast("dict[str, Any]", cast("dict[str, Any]", raw)["provider"])
        clock = SystemClock()
        probe = Probe(
            Transport(config.provider.base_url, clock),
            config.provider.headers,
            options.table,
            options.text_column,
            options.number_column,
            clock,
            confirm,
            ask,
            say,
            options.poll,
        )
        _run(probe, config.provider.name, section, options.window)
    except _Declined as declined:
        reason = f"Stopped: {declined}."
    except (DestinationError, TransportError) as error:
        reason = f"Ended: {error}"
    if probe is not None:
        probe.conclude()
    if reason:
        say(f"\n{reason}")
    return 1 if reason else 0


def _run(probe: Probe, provider: str, section: dict[str, Any], window_s: int) -> None:
    match provider:
        case "qobra":
            probe_qobra(probe, section.get("id_field") or "id", window_s)
        case "kore":
            probe_kore(probe, section.get("api_path_prefix") or "/api/public")
        case _:
            message = (
                "The probe knows Qobra and Kore.ai; a custom_http API is described by its config."
            )
            raise ConfigError(message)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m destination_bulk_tables.probe")
    parser.add_argument("--config", required=True, help="path of the connector's config")
    parser.add_argument("--table", required=True, help="a scratch table: its rows may be replaced")
    parser.add_argument("--text-column", default="name", help="a text column of it")
    parser.add_argument("--number-column", default="amount", help="a number column of it")
    parser.add_argument("--window", type=int, default=20, help="Qobra: debounce to try (seconds)")
    parser.add_argument("--poll", type=float, default=5.0, help="Qobra: seconds between polls")
    parser.add_argument(
        "--yes", metavar="TABLE", help="do not ask; repeats the name of the scratch table"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
