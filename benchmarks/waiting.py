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
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median

from benchmarks import measure
from benchmarks.loads import Load
from benchmarks.measure import Case, Sample
from benchmarks.plan import Round
from benchmarks.report import machine

BASE = "09ff211"
_UNITS = {"wall_s": "s", "requests": "requests", "rss_mb": "MB", "cpu_s": "s of CPU"}


@dataclass(frozen=True, slots=True)
class Target:
    """`value` of a round is at most `limit`."""

    name: str
    cases: tuple[Case, ...]
    value: Callable[[list[Sample]], float]
    limit: float
    shown: str = "wall_s"  # what is told of each case


def _wall(samples: list[Sample]) -> float:
    return samples[0].wall_s / samples[1].wall_s


def _cpu(samples: list[Sample]) -> float:
    return (samples[0].cpu_s - samples[2].cpu_s) / (samples[1].cpu_s - samples[3].cpu_s)


def _start_up(samples: list[Sample]) -> float:
    return samples[0].cpu_s / samples[1].cpu_s


def _refused(samples: list[Sample]) -> float:
    return samples[0].refused / samples[0].requests


def _requests(samples: list[Sample]) -> float:
    return samples[0].requests / samples[1].requests


def _rss(samples: list[Sample]) -> float:
    return samples[0].rss_mb


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
    found += _of_replaces_and_memory()
    for provider in ("qobra", "kore"):
        case = replace(ours, provider=provider)
        empty = replace(case, rows=0)
        cases = [replace(c, contender=name) for c in (case, empty) for name in ("ours", "base")]
        name = f"9 cpu {provider}: per record, 10 columns / {BASE}"
        found.append(Target(name, tuple(cases), _cpu, 1.0))
    found += _of_peers()
    plain = replace(ours, provider="custom_http", link_mbit=20, max_rows=5_000)
    pair = (replace(plain, is_zipped=True), plain)
    found.append(Target("10 gzip: 20 Mbit/s, custom_http, wall / uncompressed", pair, _wall, 0.35))
    spec = replace(ours, rows=0, is_spec=True)
    pair = (spec, replace(spec, contender="base"))
    found.append(Target(f"9 cpu spec: start-up / {BASE}", pair, _start_up, 1.0))
    return found


def _of_replaces_and_memory() -> Iterator[Target]:
    """Targets 5, 6 and 7: counts and peaks, which a loaded machine does not change."""
    table = Case("ours", provider="kore", mode="overwrite", rows=100_000, old_rows=100_000)
    pair = (table, replace(table, contender="base"))
    name = f"5 kore: 100,000 rows by 100,000, requests / {BASE}"
    yield Target(name, pair, _requests, 1 / 4, "requests")
    large_states = Load(400, states=400, state_bytes=1_000_000)
    for name, mode, load, limit in (
        ("6 RSS in MB: 60 replaced tables of 3 rows", "overwrite", Load(180, streams=60), 80),
        ("6 RSS in MB: 400 states of 1 MB, append", "append", large_states, 120),
        ("6 RSS in MB: 400 states of 1 MB, overwrite", "overwrite", large_states, 120),
        (
            "6 RSS in MB: 1,500 growing states, overwrite",
            "overwrite",
            Load(1_500, states=1_500, lists_partitions=1),
            100,
        ),
        (
            "7 RSS in MB: 400 MB in rows of 200 KB, overwrite",
            "overwrite",
            Load(2_000, row_bytes=200_000),
            150,
        ),
        ("7 RSS in MB: 4,000,000 unique keys, overwrite", "overwrite", Load(4_000_000), 150),
    ):
        case = Case("ours", mode=mode, load=load)
        yield Target(name, (case, replace(case, contender="base")), _rss, limit, "rss_mb")
    sealed = Case("ours", mode="overwrite", load=Load(4_000_000))
    # an upper bound of what sealing costs
    name = "7 CPU in s: 4,000,000 unique keys, overwrite, the whole sync"
    pair = (sealed, replace(sealed, contender="base"))
    yield Target(name, pair, lambda samples: samples[0].cpu_s, 10, "cpu_s")


def _of_peers() -> Iterator[Target]:
    """Target 8: the defaults against the fastest of the peers, in equal batches."""
    for max_rows, delay_ms in ((1_000, 100), (5_000, 100), (5_000, 500)):
        case = Case("ours", provider="custom_http", max_rows=max_rows, delay_ms=delay_ms)
        peers = tuple(replace(case, contender=name) for name in ("ordinary", *measure.PEERS))
        for provider in ("custom_http", "qobra"):
            name = f"8 {provider}: {max_rows:,} rows at {delay_ms} ms, wall / fastest peer"
            yield Target(name, (replace(case, provider=provider), *peers), _best, 0.25)


def install_peers(folder: Path) -> None:
    """Install the newest drt-core and dlt into an environment of their own, unless it is there."""
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "-q", "drt-core", "dlt"]
        subprocess.run(pip, check=True)


def named(case: Case) -> str:
    """Name what a case has beyond the defaults."""
    differing = [f for f in fields(case) if getattr(case, f.name) != f.default]
    return ", ".join(f"{f.name}={getattr(case, f.name)}" for f in differing)


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
        if any(case.contender in measure.PEERS for case in cases):
            install_peers(folder / "peers")
        url = stack.enter_context(measure.sink())
        for number in range(options.rounds):
            rounds.append({})
            for case in cases:
                sample = rounds[-1][case] = measure.run(case, folder, url)
                sys.stderr.write(f"round {number + 1}: {named(case)}: {sample}\n")
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
        "| target | limit | measured | verdict | of each |",
        "| --- | ---: | ---: | --- | --- |",
    ]
    for target in chosen:
        value = median(target.value([r[case] for case in target.cases]) for r in rounds)
        excess = value / target.limit - 1
        verdict = f"**missed** by {excess:.0%}" if excess > 0 else "met"
        shown = [
            f"{median(getattr(r[c], target.shown) for r in rounds):,.4g}" for c in target.cases
        ]
        each = f"{', '.join(shown)} {_UNITS[target.shown]}"
        cells = (target.name, f"{target.limit:.3g}", f"{value:.3g}", verdict, each)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
