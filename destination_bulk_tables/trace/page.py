"""One page of a trace's figures: HTML and inline SVG, without a script, a server or another file.

Places are percentages of the page's width and texts have a size of their own, so that a picture is
read on a telephone as on a wide screen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from destination_bulk_tables.trace import Line
from destination_bulk_tables.trace.figures import KINDS, Figures, kind_of

_COLOURS = dict(zip(KINDS, ("#2a7f62", "#e08e0b", "#7a4fb5", "#c0342b", "#4a4a4a"), strict=True))
_HEIGHT = 220
_ROW = 44
_STEPS = (1, 2, 5)
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.45 system-ui, sans-serif; color: #1c1c1c; background: #fff;
  max-width: 1100px; margin: 0 auto; padding: 16px; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
p, .unit { color: #444; margin: .2rem 0; } .unit { font-size: 13px; }
svg { display: block; width: 100%; overflow: visible; }
svg text { font: 13px system-ui, sans-serif; fill: #333; }
.plot { padding: 12px 16px 44px 52px; } .key { display: flex; flex-wrap: wrap; gap: 4px 16px; }
.key i { display: inline-block; width: 12px; height: 12px; margin-right: 6px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 14px; }
th, td { padding: 3px 10px; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
"""


def page(figures: Figures, title: str, skipped: int) -> str:
    """The whole page. `skipped`: lines of the file that are none of a trace."""
    total = sum(figures.kinds.values())
    start = figures.start.strftime("%Y-%m-%d %H:%M:%S UTC")
    lead = f"{total:,} requests from {start}, {_duration(figures.elapsed_s)}."
    if skipped:
        lead += f" {skipped:,} lines are no lines of a trace and left out."
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Requests of {escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>Requests of {escape(title)}</h1><p>{escape(lead)}</p>"
        f"<h2>Requests over time, by status</h2>{_over_time(figures)}"
        f"<h2>What was waited for</h2>{_waits(figures)}"
        f"<h2>Tables</h2>{_tables(figures)}"
        f"<h2>Slowest answers</h2>{_requests(figures.slowest)}"
        f"<h2>Last requests without success</h2>{_requests(figures.wrong)}"
        "</main></body></html>\n"
    )


def _over_time(figures: Figures) -> str:
    """Stacked bars, one for each span of time."""
    most = max(span.total() for span in figures.spans)
    top = _nice(most)
    width = 100 / len(figures.spans)
    bars = []
    for number, span in enumerate(figures.spans):
        base = float(_HEIGHT)
        for kind in KINDS:
            height = span[kind] / top * _HEIGHT
            base -= height
            if height:
                at = _duration(number * figures.span_s)
                bars.append(
                    f'<rect x="{number * width:.3f}%" y="{base:.1f}" width="{width * 0.9:.3f}%" '
                    f'height="{height:.1f}" fill="{_COLOURS[kind]}">'
                    f"<title>{span[kind]:,} x {kind} from {at} on</title></rect>"
                )
    covered_s = len(figures.spans) * figures.span_s
    unit, unit_s = _unit(covered_s)
    axes = [
        f'<line x1="0" x2="100%" y1="{y}" y2="{y}" stroke="#ddd"/>'
        f'<text x="-8" y="{y + 4}" text-anchor="end">{_short(top * (1 - y / _HEIGHT))}</text>'
        for y in (0, _HEIGHT // 2, _HEIGHT)
    ]
    axes += [
        f'<text x="{share * 100:g}%" y="{_HEIGHT + 18}" text-anchor="middle">'
        f"{covered_s * share / unit_s:.3g}</text>"
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    axes.append(
        f'<text x="50%" y="{_HEIGHT + 38}" text-anchor="middle">'
        f"time since the first request ({unit})</text>"
    )
    key = "".join(
        f'<span><i style="background:{_COLOURS[kind]}"></i>{kind}: {figures.kinds[kind]:,}</span>'
        for kind in KINDS
        if figures.kinds[kind]
    )
    return (
        f'<div class="key">{key}</div>'
        f'<p class="unit">requests sent in each {_duration(figures.span_s)}</p>'
        f'<div class="plot"><svg id="over-time" role="img" height="{_HEIGHT}" '
        f'aria-label="Requests over time, by status">{"".join(axes)}{"".join(bars)}</svg></div>'
    )


def _waits(figures: Figures) -> str:
    """A bar for each cause, its name and seconds above it."""
    waits = figures.waits_s
    most = max(waits.values(), default=0.0)
    parts = []
    for number, (cause, seconds) in enumerate(waits.items()):
        y = number * _ROW
        parts.append(
            f'<text x="0" y="{y + 16}">{escape(cause)}</text>'
            f'<text x="100%" y="{y + 16}" text-anchor="end">{seconds:,.1f} s</text>'
            f'<rect x="0" y="{y + 22}" width="100%" height="12" fill="#eee"/>'
            f'<rect x="0" y="{y + 22}" width="{seconds / most * 100:.2f}%" height="12" '
            f'fill="#2f6db3"><title>{escape(cause)}: {seconds:,.1f} s</title></rect>'
        )
    return (
        '<p class="unit">seconds, added up over requests under way at the same time, so that the '
        "sum may be longer than the sync</p>"
        f'<svg id="waits" role="img" height="{len(waits) * _ROW}" '
        f'aria-label="Seconds waited, by cause">{"".join(parts)}</svg>'
    )


def _tables(figures: Figures) -> str:
    return _grid(
        (
            "table",
            "requests",
            "after trouble",
            "no success",
            "rows",
            "MB sent",
            "median ms",
            "95 % within ms",
        ),
        (
            (
                name,
                f"{table.requests:,}",
                f"{table.repeated:,}",
                f"{table.not_ok:,}",
                f"{table.rows:,}",
                f"{table.n_bytes / 1e6:,.1f}",
                f"{table.median_ms:,.0f}",
                f"{table.p95_ms:,.0f}",
            )
            for name, table in figures.tables.items()
        ),
        numbers=range(1, 8),
    )


def _requests(lines: Sequence[Line]) -> str:
    if not lines:
        return "<p>None.</p>"
    heads = (
        "time",
        "ms",
        "status",
        "rows",
        "attempt",
        "table",
        "request",
        "trouble, cause, import",
    )
    return _grid(
        heads,
        (
            (
                line.time.strftime("%H:%M:%S.%f")[:-3],
                f"{line.ms:,.0f}",
                str(line.status) if line.status else kind_of(line),
                "" if line.rows is None else f"{line.rows:,}",
                str(line.attempt),
                line.table,
                f"{line.method} {line.path}",
                "; ".join(
                    filter(
                        None,
                        (
                            line.trouble,
                            line.cause and f"after: {line.cause}",
                            line.import_id and f"import {line.import_id}",
                        ),
                    )
                ),
            )
            for line in lines
        ),
        numbers=(1, 2, 3, 4),
    )


def _grid(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int]) -> str:
    right = dict.fromkeys(numbers, ' class="n"')
    head = "".join(f"<th{right.get(n, '')}>{escape(text)}</th>" for n, text in enumerate(heads))
    body = "".join(
        "<tr>"
        + "".join(f"<td{right.get(n, '')}>{escape(text)}</td>" for n, text in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _nice(most: int) -> int:
    """The next number of 1, 2 or 5 and zeros, and even: half of it is written at the axis."""
    size = 1
    while True:
        for step in _STEPS:
            if step * size >= max(most, 2) and step * size % 2 == 0:
                return step * size
        size *= 10


def _unit(seconds: float) -> tuple[str, float]:
    if seconds < 180:  # noqa: PLR2004 - as people say it
        return "seconds", 1
    return ("minutes", 60) if seconds < 10_800 else ("hours", 3600)  # noqa: PLR2004


def _duration(seconds: float) -> str:
    unit, unit_s = _unit(seconds)
    return f"{seconds / unit_s:.3g} {unit.removesuffix('s') if seconds == unit_s else unit}"


def _short(number: float) -> str:
    return f"{number / 1000:g}k" if number >= 10_000 else f"{number:g}"  # noqa: PLR2004
