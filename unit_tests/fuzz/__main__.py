"""Plays many jobs: `python -m unit_tests.fuzz --syncs 20000`; exit code 1 on a finding."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from itertools import count
from typing import Any

from unit_tests.fuzz.job import Report, play, warnings_kept


def run(
    first: int, syncs: int, seconds: float = float("inf"), **narrowed: Any
) -> tuple[Counter[str], list[Report]]:
    """Play seeds from `first` on until so many syncs have run; totals, and jobs that went wrong."""
    totals: Counter[str] = Counter()
    wrong: list[Report] = []
    until = time.monotonic() + seconds
    with warnings_kept() as warnings:
        for seed in count(first):
            report = play(seed, warnings, **narrowed)
            totals["jobs"] += 1
            totals["syncs"] += report.syncs
            totals["faults"] += report.met.total()
            totals["syncs that may double"] += report.may_double
            totals.update({f"ends with {name}": n for name, n in report.ends.items()})
            totals.update({f"error: {text}": n for text, n in report.errors.items()})
            totals.update({f"finding {kind}": 1 for kind in report.kinds})
            if report.problems:
                wrong.append(report)
            if totals["syncs"] >= syncs or time.monotonic() >= until:
                return totals, wrong
    raise AssertionError


def tell(report: Report) -> str:
    """All about one job that went wrong."""
    lines = [f"seed {report.plan.seed}: {report.plan.describe()}", *report.problems, *report.log]
    return "\n    ".join(lines)


def main() -> int:
    """Play, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m unit_tests.fuzz", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--syncs", type=int, default=20_000)
    parser.add_argument("--vendor", choices=["kore", "qobra"])
    parser.add_argument(
        "--kind", choices=["append", "dedup", "replace", "refresh", "refresh_dedup"]
    )
    parser.add_argument("--show", type=int, default=3, help="jobs of each kind to tell about")
    parser.add_argument("--only", default="", help="a kind of finding")
    asked = parser.parse_args()
    started = time.monotonic()
    totals, wrong = run(asked.first, asked.syncs, vendor=asked.vendor, kind=asked.kind)
    shown: Counter[str] = Counter()
    for report in wrong:
        kinds = " ".join(sorted(report.kinds))
        shown[kinds] += 1
        if shown[kinds] <= asked.show and asked.only in kinds:
            print(tell(report), end="\n\n")  # noqa: T201
    for name, number in sorted(totals.items()):
        print(f"{number:8} {name}")  # noqa: T201
    print(f"{len(wrong)} of {totals['jobs']} jobs went wrong, {time.monotonic() - started:.0f} s")  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
