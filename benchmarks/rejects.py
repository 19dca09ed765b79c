"""What a report of rejected rows in an object store costs: a sync with it beside one without.

    python -m benchmarks.rejects                  three rounds of a million rows, 10,000 rejected
    python -m benchmarks.rejects --rows 100000 --rounds 1

The store is moto's server. At Kore.ai the vendor's limit of requests sets the pace, as for people;
`--provider custom_http` has no limit, so it shows what a report costs of CPU. Both syncs reject the
same rows; each rejected row must be in the store, and once. The targets: 20 MB more memory, 1.1
times the wall, each the median of the rounds.
"""

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import measure
from integration_tests.servers.object_stores import Moto

_MOST_MB, _MOST_WALL = 20.0, 1.1


@dataclass(frozen=True, slots=True)
class Round:
    """One sync without a report and one with it."""

    plain: dict[str, float]
    reported: dict[str, float]

    @property
    def more_mb(self) -> float:
        return self.reported["rss_mb"] - self.plain["rss_mb"]

    @property
    def more_wall(self) -> float:
        return self.reported["wall_s"] / self.plain["wall_s"]


def main() -> int:
    """Measure and print; 1 where a row is missing or a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rejects")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--provider", default="kore", choices=["kore", "qobra", "custom_http"])
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(measure.sink())
        store = Moto()
        store.install()
        store.start()
        stack.callback(store.stop)
        case = measure.Case("ours", provider=options.provider, shape="rejected", rows=options.rows)
        rounds = [_round(case, folder, url, store, number) for number in range(options.rounds)]
    more_mb = median(found.more_mb for found in rounds)
    more_wall = median(found.more_wall for found in rounds)
    is_met = more_mb <= _MOST_MB and more_wall <= _MOST_WALL
    sys.stdout.write(
        f"{options.rows} rows, {options.rows // 100} rejected, all in the store: "
        f"{more_mb:+.1f} MB (at most {_MOST_MB:g}), wall {more_wall:.3f} (at most {_MOST_WALL:g})\n"
    )
    return 0 if is_met else 1


def _round(case: measure.Case, folder: Path, url: str, store: Moto, number: int) -> Round:
    address = f"{store.address}/round-{number}"
    pair = [
        _spend(case, folder, url, {}),
        _spend(case, folder, url, {"report_path": address}, object_store=store.settings),
    ]
    found = Round(*pair)
    kept = {
        key: data for key, data in store.objects().items() if key.startswith(f"round-{number}/")
    }
    _require_all(case, kept)
    sys.stderr.write(
        f"round {number + 1}: {found.plain} without, {found.reported} with, {len(kept)} objects, "
        f"{found.more_mb:+.1f} MB, wall {found.more_wall:.3f}\n"
    )
    return found


def _spend(
    case: measure.Case, folder: Path, url: str, report: dict[str, str], **more: Any
) -> dict[str, float]:
    measure.ask(f"{url}/-/reset/0")
    config: dict[str, Any] = {
        **measure.our_config(case, url),
        "nested_values": "reject",
        "rejected_records": {"policy": "skip", "max_rejected": case.rows, **report},
        **more,
    }
    spent = measure.spend(case, folder, url, config)
    stored = json.loads(measure.ask(f"{url}/-/stats"))["rows"]
    if stored != case.rows - case.rows // 100:
        raise measure.Failure(f"{stored} rows in the table of {case.rows}")
    return spent


def _require_all(case: measure.Case, objects: dict[str, bytes]) -> None:
    lines = b"".join(objects.values()).splitlines()
    ids = {json.loads(line)["record"]["data"]["id"] for line in lines}
    expected = case.rows // 100
    if not len(ids) == len(lines) == expected:
        raise measure.Failure(f"{len(lines)} lines of {len(ids)} rows, {expected} expected")


if __name__ == "__main__":
    sys.exit(main())
