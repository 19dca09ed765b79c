"""How cost grows with rows, streams, states and syncs beside each other, and with real servers.

    python -m benchmarks.growth                   all of it: an hour and a half, alone
    python -m benchmarks.growth --only '^rows'    the lines whose name matches
    python -m benchmarks.growth --results FILE    keep what was measured there, render all of it

Run in pieces with one `--results` file. Requests, CPU seconds and peak memory count on a machine
that does other work as well; rows a second do not. A real server that cannot be installed is left
out; one that would take hours gets fewer rows, which its line tells.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks import measure
from benchmarks.loads import Load
from benchmarks.measure import Case
from benchmarks.report import machine
from integration_tests.servers import BulkServer
from integration_tests.servers.base import Column
from integration_tests.test_custom_http import TARGETS, Target

MILLION = 1_000_000
# a million would take Kinto four hours
FEWER = {"kinto": 10_000}
_SERVER_COLUMNS = (
    Column("id"),
    Column("amount", "number"),
    Column("stage"),
    Column("notes"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table; `rows` are those of all its syncs."""

    name: str
    rows: int
    wall_s: float
    cpu_s: float
    rss_mb: float  # of the largest process
    requests: int | None


def plan() -> Iterator[tuple[str, Callable[[Path, str], Line]]]:
    """Name each line, and what measures it in a folder with a sink."""
    for mode in ("append", "overwrite"):
        for rows in (10_000, 100_000, MILLION, 10 * MILLION):
            load = Load(rows, states=max(1, rows // 10_000))
            yield _of(f"rows: {rows:,}, {mode}", Case("ours", mode=mode, load=load))
    for streams in (1, 10, 100, 1_000):
        load = Load(MILLION, streams=streams, states=100)
        yield _of(f"streams: {streams:,}, {MILLION:,} rows", Case("ours", load=load))
    for states in (10, 100, 1_000, 10_000, 100_000):
        load = Load(MILLION, states=states)
        yield _of(f"states: {states:,}, {MILLION:,} rows", Case("ours", load=load))
    for syncs in (1, 2, 4):
        case = Case("ours", load=Load(MILLION, states=100))
        yield _of(f"syncs: {syncs} at a time, {MILLION:,} rows each", case, syncs)
    for target in TARGETS:
        rows = FEWER.get(target.kind.name, MILLION)
        name = f"server: {target.kind.name}, {rows:,} rows"
        yield name, partial(_into_server, name, target, rows)


def _of(name: str, case: Case, syncs: int = 1) -> tuple[str, Callable[[Path, str], Line]]:
    return name, partial(_into_sink, name, case, syncs)


def _into_sink(name: str, case: Case, syncs: int, folder: Path, url: str) -> Line:
    """Run so many syncs of a case beside each other."""
    assert case.load is not None
    measure.ask(f"{url}/-/reset/0?")
    folders = [folder / f"sync-{number}" for number in range(syncs)]
    for each in folders:
        each.mkdir(exist_ok=True)
    started = time.perf_counter()
    with ThreadPoolExecutor(syncs) as pool:
        spent = list(pool.map(lambda each: measure.spend(case, each, url), folders))
    wall_s = time.perf_counter() - started
    stats = json.loads(measure.ask(f"{url}/-/stats"))
    rows = case.load.rows * syncs
    if stats["rows"] != rows:
        raise measure.Failure(f"{name}: {stats['rows']} rows in the tables, {rows} expected")
    cpu_s, rss_mb = sum(each["cpu_s"] for each in spent), max(each["rss_mb"] for each in spent)
    return Line(name, rows, wall_s, cpu_s, rss_mb, int(stats["requests"]))


def _into_server(name: str, target: Target, rows: int, folder: Path, _: str) -> Line:
    """Fill a table of a real server through its preset."""
    server: BulkServer = target.kind()
    server.install()
    if server.unavailable is not None:
        raise measure.Failure(f"{name}: {server.unavailable}")
    server.start()
    try:
        server.create_table("growth", _SERVER_COLUMNS, "id")
        renamed = [{"field": "id", "column": target.key}] if target.key != "id" else []
        load = Load(rows, states=max(1, rows // 10_000))
        entry = {"stream": load.names()[0], "table": "growth", "rename": renamed}
        config = {"provider": target.provider(server), "tables": [entry]}
        case = Case("ours", load=load)
        spent = measure.spend(case, folder, server.base_url, config)
        if (found := server.count("growth")) != rows:
            raise measure.Failure(f"{name}: {found} rows in the table, {rows} expected")
    finally:
        server.stop()
    return Line(name, rows, **spent, requests=None)


def render(lines: list[Line]) -> str:
    """Write the table as Markdown."""
    head = ("what grows", "rows/s", "wall s", "CPU s", "µs/row", "RSS MB", "requests")
    text = [
        f"On {machine()}. Qobra, append, unless said; batches of 5,000 rows.",
        "",
        f"| {' | '.join(head)} |",
        f"| --- |{' ---: |' * (len(head) - 1)}",
    ]
    for line in lines:
        cells = (
            line.name,
            f"{line.rows / line.wall_s:,.0f}",
            f"{line.wall_s:,.1f}",
            f"{line.cpu_s:,.2f}",
            f"{line.cpu_s / line.rows * 1e6:,.2f}",
            f"{line.rss_mb:,.0f}",
            "" if line.requests is None else f"{line.requests:,}",
        )
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text) + "\n"


def main() -> int:
    """Measure what is chosen; 1 if a line failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth")
    parser.add_argument("--only", default="", help="regular expression on a line's name")
    parser.add_argument("--results", type=Path, help="a JSON file that is added to")
    options = parser.parse_args()
    known: dict[str, Line] = {}
    if options.results and options.results.exists():
        known = {line["name"]: Line(**line) for line in json.loads(options.results.read_text())}
    code = 0
    with tempfile.TemporaryDirectory() as folder, measure.sink() as url:
        for name, measured in plan():
            if not re.search(options.only, name):
                continue
            try:
                known[name] = measured(Path(folder), url)
            except measure.Failure as failure:
                code = 1
                sys.stderr.write(f"{failure}\n")
                continue
            sys.stderr.write(f"{known[name]}\n")
            if options.results:
                options.results.write_text(json.dumps([asdict(line) for line in known.values()]))
    sys.stdout.write(render([known[name] for name, _ in plan() if name in known]))
    return code


if __name__ == "__main__":
    sys.exit(main())
