"""The tables: what was measured, the verdict on each target, and on which machine."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.measure import Case
from benchmarks.plan import Round, net_cpu_s, start_up, targets

_COLUMNS = (
    "contender",
    "input",
    "rows",
    "wall s",
    "CPU s",
    "net CPU s",
    "µs/row",
    "rows/s",
    "RSS MB",
    "requests",
    "in flight",
    "sink CPU s",
)


def machine() -> str:
    """Give CPU model, cores and Python version; nothing that names the machine."""
    cpu = platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        models = [s for s in cpu_info.read_text().splitlines() if s.startswith("model name")]
        cpu = models[0].partition(": ")[2] if models else cpu
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()}, {python}"


def render(rounds: list[Round], failures: dict[Case, str], profile: str) -> str:
    """Write the whole report as Markdown."""
    lines = [
        "# Benchmark results",
        "",
        f"Written by `python -m benchmarks` on: {machine()}.",
        f"Medians of {len(rounds)} interleaved rounds. CPU is user and system time of the whole",
        "process; net CPU is without that of the same command's empty sync in the same round; sink",
        "CPU is another process's and in none of the others. Ratios are taken within a round, then",
        "the median of them. MB is 10^6 bytes.",
        "",
        "## Targets",
        "",
        "| target | limit | measured | verdict |",
        "| --- | ---: | ---: | --- |",
        *_verdicts(rounds),
        "",
        "## Measurements",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{' --- |' * 2}{' ---: |' * (len(_COLUMNS) - 2)}",
        *_measurements(rounds),
    ]
    if failures:
        lines += ["", "## Failures", ""]
        lines += [f"- {describe(case)}: {failure}" for case, failure in failures.items()]
    if profile:
        lines += ["", "## Where the time goes", "", profile]
    return "\n".join(lines) + "\n"


def describe(case: Case) -> str:
    """Name a case in one line."""
    return f"{_contender(case)}, {_input(case)}, {case.rows:,} rows"


def _verdicts(rounds: list[Round]) -> Iterator[str]:
    for target in targets():
        value = target.measured(rounds)
        limit = f"{target.limit:.3g}{target.unit}"
        if value is None:
            yield f"| {target.name} | {limit} | - | not measured |"
            continue
        is_met = value <= target.limit
        verdict = "met" if is_met else f"**missed** by {_excess(value, target.limit)}"
        yield f"| {target.name} | {limit} | {value:.3g}{target.unit} | {verdict} |"


def _excess(value: float, limit: float) -> str:
    return f"{value / limit - 1:.0%}" if limit else f"{value:g}"


def _measurements(rounds: list[Round]) -> Iterator[str]:
    for case in dict.fromkeys(case for round_ in rounds for case in round_):
        having = [round_ for round_ in rounds if case in round_]
        samples = [round_[case] for round_ in having]
        wall_s, cpu_s = (median(s.wall_s for s in samples), median(s.cpu_s for s in samples))
        cells = [_contender(case), _input(case), f"{case.rows:,}", f"{wall_s:.2f}", f"{cpu_s:.2f}"]
        pairs = [net_cpu_s(r, case) for r in having if start_up(case) in r]
        if case.rows and pairs:
            net_s = median(pairs)
            cells += [f"{net_s:.2f}", f"{net_s / case.rows * 1e6:.2f}"]
            cells.append(f"{case.rows / wall_s:,.0f}")
        else:
            cells += ["", "", ""]
        cells += [
            f"{median(s.rss_mb for s in samples):.0f}",
            f"{median(s.requests for s in samples):.0f}",
            f"{median(s.most_in_flight for s in samples):.0f}",
            f"{median(s.sink_cpu_s for s in samples):.2f}",
        ]
        yield f"| {' | '.join(cells)} |"


def _contender(case: Case) -> str:
    if case.contender == "floor":
        return "floor"
    if case.is_spec:
        return f"{case.contender} spec"
    batching = [f"{case.max_rows:,} a batch"] if case.max_rows else []
    batching += [f"{case.slots} slots"] if case.slots else []
    return ", ".join([f"{case.contender} {case.provider} {case.mode}", *batching])


def _input(case: Case) -> str:
    if not case.rows:
        return "none"
    words = [case.shape]
    if case.state_every != 10_000:
        words.append(f"STATE/{case.state_every}")
    words += [f"{case.delay_ms} ms"] if case.delay_ms else []
    return ", ".join(words)
