"""Measure every contender in interleaved rounds, print the tables, write `RESULTS.md`.

    python -m benchmarks            five rounds, writes benchmarks/RESULTS.md
    python -m benchmarks --quick    one round of the main cases, only printed

The inputs (about 2.5 GB) are written to a temporary folder and removed with it; `--folder` keeps
them for the next run. A case that fails is reported, nothing is written and the exit status is 1.
"""

import argparse
import re
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks import hotspots, measure, plan, report


def main() -> int:
    """Run the plan; 1 if a case failed."""
    options = _options()
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        url = stack.enter_context(measure.sink())
        cases = [
            case
            for case in plan.cases(is_quick=options.quick)
            if not case.rows or re.search(options.only, repr(case))
        ]
        rounds: list[plan.Round] = []
        failures: dict[measure.Case, str] = {}
        n_rounds = options.rounds or (1 if options.quick else 5)
        for number in range(n_rounds):
            rounds.append({})
            for case in cases:
                if case in failures:
                    continue
                try:
                    rounds[-1][case] = measure.run(case, folder, url)
                except measure.Failure as failure:
                    failures[case] = str(failure)
                _progress(number, case, rounds[-1].get(case), failures.get(case))
        text = report.render(rounds, failures, hotspots.table(folder, url))
    sys.stdout.write(text)
    if options.output and not failures:
        options.output.write_text(text, encoding="utf-8")
    return 1 if failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="one round of the main cases")
    parser.add_argument("--rounds", type=int, help="default: 5, or 1 with --quick")
    parser.add_argument("--only", default="", help="regular expression on a case's repr")
    parser.add_argument("--folder", type=Path, help="keep the inputs here")
    parser.add_argument("--output", type=Path, help="default: RESULTS.md of a full run")
    options = parser.parse_args()
    is_full = not (options.quick or options.only or options.rounds)
    if is_full and not options.output:
        options.output = Path(__file__).with_name("RESULTS.md")
    return options


def _progress(
    number: int, case: measure.Case, sample: measure.Sample | None, failure: str | None
) -> None:
    outcome = f"{sample.wall_s:.2f} s, CPU {sample.cpu_s:.2f} s" if sample else f"FAILED {failure}"
    sys.stderr.write(f"round {number + 1}: {report.describe(case)}: {outcome}\n")


if __name__ == "__main__":
    sys.exit(main())
