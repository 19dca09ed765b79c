"""What a trace adds up to: per span of time and status, per table, and what was waited for."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from heapq import nlargest
from statistics import median, quantiles

from destination_bulk_tables.trace import Line

KINDS = ("2xx", "429", "other 3xx, 4xx", "5xx", "no answer")
_SPANS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600)
_MOST_SPANS = 60
_SHOWN = 15
_OK = range(200, 300)


@dataclass(slots=True)
class TableFigures:
    requests: int = 0
    repeated: int = 0
    not_ok: int = 0
    rows: int = 0
    n_bytes: int = 0
    ms: list[float] = field(default_factory=list)

    @property
    def median_ms(self) -> float:
        return median(self.ms)

    @property
    def p95_ms(self) -> float:
        return quantiles(self.ms, n=20)[-1] if len(self.ms) > 1 else self.ms[0]


@dataclass(frozen=True, slots=True)
class Figures:
    """`spans`: requests by kind of status in each `span_s` from `start` on."""

    start: datetime
    elapsed_s: float
    span_s: float
    spans: list[Counter[str]]
    kinds: Counter[str]
    tables: dict[str, TableFigures]
    waits_s: dict[str, float]  # longest first
    slowest: list[Line]
    wrong: list[Line]  # the last ones that were not answered with success


def kind_of(line: Line) -> str:
    """The kind of a status, one of `KINDS`."""
    status = line.status
    if status in _OK:
        return KINDS[0]
    if not status:
        return KINDS[4]
    return KINDS[1] if status == 429 else KINDS[3] if status >= 500 else KINDS[2]  # noqa: PLR2004


def figures_of(lines: list[Line]) -> Figures:
    """Add up the lines of one or more syncs; there is at least one."""
    start = min(line.time for line in lines)
    elapsed_s = max(_end_s(line, start) for line in lines)
    span_s = next((s for s in _SPANS_S if elapsed_s / s <= _MOST_SPANS), _SPANS_S[-1])
    spans: list[Counter[str]] = [Counter() for _ in range(int(elapsed_s / span_s) + 1)]
    tables: defaultdict[str, TableFigures] = defaultdict(TableFigures)
    for line in lines:
        spans[int((line.time - start).total_seconds() / span_s)][kind_of(line)] += 1
        table = tables[line.table]
        table.requests += 1
        table.repeated += line.cause is not None
        table.not_ok += line.status not in _OK
        table.rows += (line.rows or 0) if line.status in _OK else 0
        table.n_bytes += line.bytes
        table.ms.append(line.ms)
    wrong = [line for line in lines if line.status not in _OK]
    return Figures(
        start=start,
        elapsed_s=elapsed_s,
        span_s=span_s,
        spans=spans,
        kinds=Counter(kind_of(line) for line in lines),
        tables=dict(sorted(tables.items())),
        waits_s=_waits(lines, start),
        slowest=nlargest(_SHOWN, lines, key=lambda line: line.ms),
        wrong=wrong[-_SHOWN:],
    )


def _waits(lines: list[Line], start: datetime) -> dict[str, float]:
    waits: defaultdict[str, float] = defaultdict(float)
    imports: dict[str, tuple[float, float]] = {}
    for line in lines:
        waits["answers"] += line.ms / 1000
        waits["the rate limit"] += line.limited_ms / 1000
        if line.cause is not None:
            waits[f"after: {line.cause}"] += line.waited_ms / 1000
        if line.import_id is not None:
            end_s = _end_s(line, start)
            first, last = imports.get(line.import_id, (end_s, end_s))
            imports[line.import_id] = min(first, end_s), max(last, end_s)
    waits["imports, from accepted to the last look"] = sum(b - a for a, b in imports.values())
    longest = sorted(waits.items(), key=lambda wait: -wait[1])
    return {cause: seconds for cause, seconds in longest if seconds > 0}


def _end_s(line: Line, start: datetime) -> float:
    return (line.time - start).total_seconds() + line.ms / 1000
