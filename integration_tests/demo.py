"""`make demo`: source-faker through a pipe into the connector, for both vendors, emulated.

The source and the connector are the real programs, joined by a real pipe; everything shown comes
from the connector's own messages and from what the emulator holds afterwards. Ends with 0 only when
all these numbers agree. `--faults` has the emulator cut answers, refuse batches and answer 429 and
503 while it runs: the numbers must agree all the same, and no row may stand twice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from integration_tests.demo_source import Faker
from integration_tests.emulator import EmulatorProcess
from integration_tests.vendor_configs import Vendor, config_for

FAULTS: list[dict[str, Any]] = [
    {"kind": "cut_after", "match": "POST .*/bulk", "at": 2, "count": 1},
    {"kind": "status", "status": 429, "retry_after": 1, "match": "POST .*/bulk", "at": 4},
    {"kind": "cut_before", "match": "POST .*/bulk", "at": 6, "count": 1},
    {"kind": "status", "status": 400, "match": "POST .*/bulk", "at": 8, "count": 1},
    {"kind": "half_body", "match": "POST .*/bulk", "at": 10, "count": 1},
    {"kind": "status", "status": 503, "match": "POST .*/bulk", "at": 12, "count": 2},
]
TITLES: dict[Vendor, str] = {"qobra": "Qobra", "kore": "Kore.ai"}
CONNECTOR = str(Path(sys.executable).with_name("destination-bulk-tables"))


@dataclass
class Counts:
    """One stream in one sync: what the connector says of it, and what the vendor has in the end."""

    sent: int = 0  # by the source, as its states say
    read: int = 0
    delivered: int = 0
    states: int = 0
    acknowledged: int = 0  # rows, over all states
    in_table: int = 0
    doubled: int = 0  # rows of an id that stands in the table already

    @property
    def agree(self) -> bool:
        """Tell whether every row went all the way."""
        return (
            self.states > 0
            and not self.doubled
            and self.sent == self.read == self.delivered == self.acknowledged == self.in_table
        )


@dataclass
class Sync:
    """One run of source and connector."""

    vendor: Vendor
    counts: dict[str, Counts]
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # what the vendor did to requests

    @property
    def is_good(self) -> bool:
        """Tell whether the programs succeeded and the counts agree."""
        return not self.failures and all(counts.agree for counts in self.counts.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(prog="demo", description="Sync faker data into both vendors.")
    parser.add_argument("--users", type=int, default=20_000, help="and as many purchases")
    parser.add_argument("--faults", action="store_true", help="cut answers and refuse requests")
    parser.add_argument("--keep", action="store_true", help="leave the emulator open until Ctrl-C")
    given = parser.parse_args(arguments)
    # a shell starts background jobs deaf to Ctrl-C, and SIGTERM must not leave the emulator behind
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    console = Console()
    with (
        tempfile.TemporaryDirectory() as name,
        EmulatorProcess(auto_create_tables=True) as emulator,
    ):
        source = Faker(Path(name), given.users)
        console.print(f"Both vendors are emulated on {emulator.url}")
        console.print(
            f"The source is source-faker ({source.title()!r}), which makes {given.users:,} users; "
            "the seconds below are mostly its own"
        )
        catalog = source.folder / "catalog.json"
        catalog.write_text(json.dumps(source.catalog()))
        syncs = []
        for vendor in get_args(Vendor):
            if given.faults:
                emulator.faults(FAULTS)
            syncs.append(run(vendor, source, catalog, emulator, console))
        console.print(report(syncs))
        for sync in syncs:
            if sync.faults:
                console.print(f"{TITLES[sync.vendor]} met: {', '.join(sync.faults)}")
            for failure in sync.failures:
                console.print(f"[red]{TITLES[sync.vendor]}: {failure}")
        is_good = all(sync.is_good for sync in syncs)
        if given.keep:
            console.print(f"See the tables on {emulator.url}/ ; Ctrl-C ends it.")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
        else:
            console.print(
                f"The tables were on {emulator.url}/ ; `make demo KEEP=1` leaves that page open.",
                soft_wrap=True,
            )
    nothing = " Nothing was lost, nothing was doubled." if given.faults else ""
    console.print(
        f"[green]All counts agree.{nothing}" if is_good else "[red]The counts do not agree."
    )
    return 0 if is_good else 1


def run(
    vendor: Vendor, source: Faker, catalog: Path, emulator: EmulatorProcess, console: Console
) -> Sync:
    """Sync all streams into one vendor and show it live."""
    config = source.folder / f"{vendor}.json"
    # small batches give the faults something to hit; skip: a refused batch is taken apart
    settings = {"rejected_records": {"policy": "skip"}, "batching": {"max_rows": 1000}}
    config.write_text(json.dumps({**config_for(vendor, emulator.url), **settings}))
    sync = Sync(vendor, {stream: Counts() for stream in source.rows})
    already = len(emulator.requests)
    started = time.monotonic()
    reading = source.read(catalog, subprocess.PIPE)
    arguments = ["write", "--config", str(config), "--catalog", str(catalog)]
    writing = subprocess.Popen(
        [CONNECTOR, *arguments], stdin=reading.stdout, stdout=subprocess.PIPE
    )
    assert reading.stdout is not None
    assert writing.stdout is not None
    reading.stdout.close()  # the pipe belongs to the two programs now
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TextColumn("rows, {task.fields[states]} states"), console=console
    ) as bars:
        tasks = {
            stream: bars.add_task(f"{TITLES[vendor]:<8}{stream:<10}", total=rows, states=0)
            for stream, rows in source.rows.items()
        }
        for message in _messages(writing.stdout):
            _take(sync, message, console, bars, tasks)
    for program, process in (("source-faker", reading), ("destination-bulk-tables", writing)):
        if process.wait():
            sync.failures.append(f"{program} ended with exit code {process.returncode}")
    writing.stdout.close()
    sync.seconds = time.monotonic() - started
    existing = {(t["vendor"], t["table"]): t["count"] for t in emulator.summary()["tables"]}
    for stream, counts in sync.counts.items():
        counts.in_table = existing.get((vendor, stream), 0)
        ids = {row["id"] for row in emulator.rows(vendor, stream)} if counts.in_table else set()
        counts.doubled = counts.in_table - len(ids)
    sync.faults = _met(emulator.requests[already:])
    return sync


def _met(requests: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name what was done to requests by a fault, and how often."""
    words = {"cut_before": "request lost", "cut_after": "answer lost", "half_body": "answer cut"}
    met = [
        words.get(request["fault"], f"{request['status']}")
        for request in requests
        if request["fault"]
    ]
    return [f"{count} x {what}" for what, count in Counter(met).items()]


def _messages(lines: Iterator[bytes] | Any) -> Iterator[Mapping[str, Any]]:
    for line in lines:
        yield json.loads(line)


def _take(
    sync: Sync,
    message: Mapping[str, Any],
    console: Console,
    bars: Progress,
    tasks: Mapping[str, TaskID],
) -> None:
    """Count one message of the connector, and show it."""
    match message:
        case {"type": "STATE", "state": state}:
            stream = state["stream"]["stream_descriptor"]["name"]
            counts = sync.counts[stream]
            counts.states += 1
            counts.sent += int(state["sourceStats"]["recordCount"])
            counts.acknowledged += int(state["destinationStats"]["recordCount"])
            bars.update(tasks[stream], completed=counts.acknowledged, states=counts.states)
        case {"type": "LOG", "log": {"level": "INFO", "message": text}}:
            words = dict(word.split("=", 1) for word in text.split() if "=" in word)
            if "sync_summary" in text:
                counts = sync.counts[words["stream"]]
                counts.read, counts.delivered = int(words["read"]), int(words["delivered"])
        case {"type": "LOG", "log": log}:
            console.print(f"  {log['level']} {log['message']}", style="yellow", markup=False)
        case {"type": "TRACE", "trace": {"error": error}}:
            sync.failures.append(error["message"])
        case _:
            pass


def report(syncs: Sequence[Sync]) -> Table:
    """Lay the counts out, a line per vendor and stream."""
    table = Table(title="What was synced, in rows", pad_edge=False)
    table.add_column("vendor")
    table.add_column("stream")
    for title in ("read", "delivered", "states\nacked", "in the\ntable", "there\ntwice"):
        table.add_column(title, justify="right")
    table.add_column("seconds", justify="right")
    for sync in syncs:
        for stream, counts in sync.counts.items():
            numbers = (
                counts.read,
                counts.delivered,
                counts.states,
                counts.in_table,
                counts.doubled,
            )
            is_first = stream == next(iter(sync.counts))
            table.add_row(
                TITLES[sync.vendor] if is_first else "",
                stream,
                *(f"{number:,}" for number in numbers),
                f"{sync.seconds:.1f}" if is_first else "",
                style="" if counts.agree else "red",
            )
        table.add_section()
    return table


if __name__ == "__main__":
    sys.exit(main())
