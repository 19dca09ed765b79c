"""Where people really wait: this commit and an earlier one, side by side in one run.

    python -m benchmarks.waiting                 five rounds against commit 09ff211
    python -m benchmarks.waiting --only repeats  cases whose name matches, `--rounds 1`

The earlier commit is unpacked with `git archive` and run by the same interpreter with the same
libraries. Ratios are taken within a round, then the median of them. `--output` writes the table.
"""

import argparse
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks import measure
from benchmarks.measure import Case, Sample
from benchmarks.plan import Round
from benchmarks.report import machine

BASE = "09ff211"


@dataclass(frozen=True, slots=True)
class Target:
    """`value` of a round is at most `limit`."""

    name: str
    cases: tuple[Case, ...]
    value: Callable[[list[Sample]], float]
    limit: float


def _wall(samples: list[Sample]) -> float:
    return samples[0].wall_s / samples[1].wall_s


def _cpu(samples: list[Sample]) -> float:
    return (samples[0].cpu_s - samples[2].cpu_s) / (samples[1].cpu_s - samples[3].cpu_s)


def _start_up(samples: list[Sample]) -> float:
    return samples[0].cpu_s / samples[1].cpu_s


def _refused(samples: list[Sample]) -> float:
    return samples[0].refused / samples[0].requests


def _best(samples: list[Sample]) -> float:
    return samples[0].wall_s / min(sample.wall_s for sample in samples[1:])


def targets() -> list[Target]:
    """In the order of their numbers."""
    ours = Case("ours")
    imports = replace(ours, shape="keyed", rows=50_000, delay_ms=100, max_rows=5_000, import_s=5.0)
    found = []
    for number, shape, limit in ((1, "keyed", 1.5), (2, "rarely", 1.15)):
        case = replace(imports, shape=shape)
        unique = replace(case, shape="mixed")
        name = f"{number} repeats: {shape} / unique ids, 5 s an import"
        found.append(Target(name, (case, unique), _wall, limit))
        before = replace(case, contender="base")
        limits = (f"{number} repeats: {shape}, wall / {BASE}", (case, before), _wall, 1 / 5)
        found.append(Target(*limits))
    for provider in ("qobra", "kore"):
        slow = replace(ours, provider=provider, delay_ms=500, most=8)
        pair = (slow, replace(slow, contender="base"))
        found.append(Target(f"3 default {provider}: 500 ms, wall / {BASE}", pair, _wall, 0.4))
    for what in ("most", "slow_above"):
        # the smallest batches that a minute's rate limit allows
        case = replace(ours, provider="kore", delay_ms=100, **{what: 3})  # type: ignore[arg-type]  # by name
        fixed = tuple(replace(case, slots=slots) for slots in (2, 3, 4))
        name = f"4 pace: {what} 3, wall / best of 2, 3 and 4 requests that are set"
        found.append(Target(name, (case, *fixed), _best, 1 / 0.9))
        if what == "most":
            found.append(Target("4 pace: share of 429", (case,), _refused, 0.02))
    for provider in ("qobra", "kore"):
        case = replace(ours, provider=provider)
        empty = replace(case, rows=0)
        cases = [replace(c, contender=name) for c in (case, empty) for name in ("ours", "base")]
        name = f"9 cpu {provider}: per record, 10 columns / {BASE}"
        found.append(Target(name, tuple(cases), _cpu, 1.0))
    plain = replace(ours, provider="custom_http", link_mbit=20, max_rows=5_000)
    pair = (replace(plain, is_zipped=True), plain)
    found.append(Target("10 gzip: 20 Mbit/s, custom_http, wall / uncompressed", pair, _wall, 0.35))
    spec = replace(ours, rows=0, is_spec=True)
    pair = (spec, replace(spec, contender="base"))
    found.append(Target(f"9 cpu spec: start-up / {BASE}", pair, _start_up, 1.0))
    return found


def unpack(commit: str, folder: Path) -> None:
    """Put a commit's files into `folder`, unless they are there."""
    if not folder.exists():
        root = Path(__file__).parents[1]
        command = ["git", "-C", str(root), "archive", commit]
        archive = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")


def main() -> int:
    """Run the rounds; 1 if a case failed or a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="regular expression on a target's name")
    parser.add_argument("--folder", type=Path, help="keep the inputs here")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    chosen = [target for target in targets() if re.search(options.only, target.name)]
    cases = list(dict.fromkeys(case for target in chosen for case in target.cases))
    rounds: list[Round] = []
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        unpack(BASE, folder / "base")
        url = stack.enter_context(measure.sink())
        for number in range(options.rounds):
            rounds.append({})
            for case in cases:
                sample = rounds[-1][case] = measure.run(case, folder, url)
                sys.stderr.write(f"round {number + 1}: {case}: {sample}\n")
    text = render(chosen, rounds)
    sys.stdout.write(text)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    return int("missed" in text)


def render(chosen: list[Target], rounds: list[Round]) -> str:
    """Write the verdicts and the walls they come from as Markdown."""
    lines = [
        f"On {machine()}. Medians of {len(rounds)} interleaved rounds.",
        "",
        "| target | limit | measured | verdict | walls in s |",
        "| --- | ---: | ---: | --- | --- |",
    ]
    for target in chosen:
        value = median(target.value([r[case] for case in target.cases]) for r in rounds)
        excess = value / target.limit - 1
        verdict = f"**missed** by {excess:.0%}" if excess > 0 else "met"
        walls = [f"{median(r[case].wall_s for r in rounds):.2f}" for case in target.cases]
        cells = (target.name, f"{target.limit:.3g}", f"{value:.3g}", verdict, ", ".join(walls))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
