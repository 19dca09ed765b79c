"""One contender, one input: run it over real pipes and say what it cost.

Invariant: a `Sample` exists only for a run that ended with status 0, whose rows all reached the
sink and whose STATEs all came back; anything else is a `Failure`. CPU is user and system time of
the whole process, from `wait4` (`spent`); what feeds the pipe and the sink are not in it.
"""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import inputs
from benchmarks.loads import Load
from integration_tests.emulator import EmulatorProcess

PEERS = ("drt", "dlt", "dlt_files")


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the plan."""

    contender: str  # ours | base | ordinary | rival | floor | one of PEERS
    provider: str = "qobra"  # qobra | kore | custom_http
    mode: str = "append"
    shape: str = "mixed"
    rows: int = 300_000  # 0 is the empty sync that start-up is measured with
    state_every: int = 10_000
    delay_ms: int = 0
    max_rows: int | None = None  # None is the provider's default
    slots: int | None = None  # None is the connector's default
    is_spec: bool = False
    import_s: float = 0.0
    most: int | None = None  # the vendor answers 429 above so many POSTs at a time
    slow_above: int | None = None  # above so many each takes longer
    link_mbit: int | None = None  # all requests go through a link of so many Mbit/s
    is_zipped: bool = False
    load: Load | None = None  # in place of shape, rows and state_every
    old_rows: int = 0  # of the table to replace, in the emulator: the sink knows no system columns

    @property
    def table_rows(self) -> int:
        """How many rows the tables hold in the end."""
        if self.load is not None:
            return self.load.rows
        is_upsert = self.provider == "qobra" or self.mode == "append_dedup"
        return int(self.rows * (inputs.SHAPES[self.shape].distinct if is_upsert else 1))

    @property
    def states(self) -> int:
        """How many states are to be acknowledged."""
        return self.rows // self.state_every if self.load is None else self.load.states


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run cost."""

    wall_s: float
    cpu_s: float
    rss_mb: float
    requests: int
    most_in_flight: int
    sink_cpu_s: float
    refused: int = 0


class Failure(Exception):
    """The run did not deliver what it was given."""


@contextmanager
def sink() -> Iterator[str]:
    """Run the sink; its address."""
    with _server("sink") as url:
        yield url


@contextmanager
def relay(url: str, mbit: int) -> Iterator[str]:
    """Run a slow link to the sink; its address."""
    with _server("relay", url.rpartition(":")[2], str(mbit * 1_000_000)) as slow_url:
        yield slow_url


@contextmanager
def _server(module: str, *arguments: str) -> Iterator[str]:
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield f"http://localhost:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


def arguments(case: Case, folder: Path, url: str) -> list[str]:
    """Write the config and catalog of one case to `folder`; the command."""
    if case.contender == "floor":
        return [sys.executable, "-m", "benchmarks.floor"]
    console_script = str(Path(sys.executable).with_name("destination-bulk-tables"))
    command = {
        "ours": [console_script],
        "base": [sys.executable, str(folder / "base" / "main.py")],
    }.get(case.contender, [sys.executable, "-m", f"benchmarks.{case.contender}"])
    if case.is_spec:
        return [*command, "spec"]
    config = folder / "config.json"
    if case.contender in PEERS:
        config.write_text(json.dumps(_peer_config(case, folder, url)), encoding="utf-8")
        program = str(Path(__file__).with_name("peers.py"))
        return [str(folder / "peers/bin/python"), program, case.contender, str(config)]
    is_ours = case.contender in {"ours", "base"}
    content = our_config(case, url) if is_ours else _their_config(case, url)
    config.write_text(json.dumps(content), encoding="utf-8")
    catalog = (
        inputs.catalog(folder, case.shape, case.mode)
        if case.load is None
        else case.load.catalog(folder, case.mode)
    )
    return [*command, "write", "--config", str(config), "--catalog", str(catalog)]


def run(case: Case, folder: Path, url: str) -> Sample:
    """Run one case once and verify that it delivered."""
    if case.old_rows:
        return _replace(case, folder)
    if case.link_mbit is not None:
        with relay(url, case.link_mbit) as slow_url:
            return _run(case, folder, url, slow_url)
    return _run(case, folder, url, url)


def _replace(case: Case, folder: Path) -> Sample:
    """Replace a table of old rows in an emulator, which has the limits of the vendor."""
    table = inputs.SHAPES[case.shape].stream
    before = replace(case, contender="ours", mode="append", rows=case.old_rows)
    with EmulatorProcess(auto_create_tables=True) as emulator:
        spend(before, folder, emulator.url)
        emulator.advance(100.0)  # they are old, and their requests in no minute
        counted = emulator.summary()["requests"]
        spent = spend(case, folder, emulator.url)
        if (found := emulator.count("kore", table)) != case.rows:
            raise Failure(f"{found} rows in the table, {case.rows} expected")
        requests = emulator.summary()["requests"] - counted
    return _sample(spent, {"requests": requests})


def _sample(spent: dict[str, float], stats: Mapping[str, Any]) -> Sample:
    return Sample(
        **spent,
        requests=int(stats["requests"]),
        most_in_flight=int(stats.get("most_in_flight", 0)),
        sink_cpu_s=float(stats.get("cpu_s", 0.0)),
        refused=int(stats.get("refused", 0)),
    )


def _run(case: Case, folder: Path, url: str, vendor_url: str) -> Sample:
    options = {"import_s": case.import_s, "most": case.most, "slow_above": case.slow_above}
    query = "&".join(f"{name}={value}" for name, value in options.items() if value)
    ask(f"{url}/-/reset/{case.delay_ms}?{query}")
    spent = spend(case, folder, vendor_url)
    stats = json.loads(ask(f"{url}/-/stats"))
    if case.contender != "floor" and not case.is_spec:
        with (folder / "stdout").open("rb") as lines:  # which may be larger than what is measured
            states = sum(b'"STATE"' in line for line in lines)
        _verify(case, int(stats["rows"]), states, folder / "scratch")
    return _sample(spent, stats)


def spend(
    case: Case, folder: Path, url: str, config: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Run the command of a case to its end: `wall_s`, `cpu_s` and `rss_mb`.

    `config`: in place of the one for the sink.
    """
    feed = (
        ["/bin/cat", str(inputs.messages(folder, case.shape, case.rows, case.state_every))]
        if case.load is None
        else case.load.command()
    )
    command = arguments(case, folder, url)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if not Path(command[0]).exists():
        raise Failure("the console script is not installed beside this interpreter")
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    out, err, cost = folder / "stdout", folder / "stderr", folder / "cost.json"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        feeder = subprocess.Popen(feed, stdout=subprocess.PIPE)
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.spent", str(cost), *command],
            stdin=feeder.stdout,
            stdout=stdout,
            stderr=stderr,
            env=os.environ | {"TMPDIR": str(scratch)},
        )
        assert feeder.stdout is not None
        feeder.stdout.close()
        process.wait()
        feeder.wait()
    if process.returncode:
        tail = (out.read_bytes()[-1500:] + err.read_bytes()[-1500:]).decode(errors="replace")
        raise Failure(f"exit {process.returncode}: {tail}")
    found: dict[str, float] = json.loads(cost.read_text())
    return found


def _verify(case: Case, rows: int, states: int, scratch: Path) -> None:
    if rows != case.table_rows:
        raise Failure(f"{rows} rows in the table, {case.table_rows} expected")
    if case.contender in PEERS:  # they know no states, and keep what they like
        shutil.rmtree(scratch)
        return
    if states != case.states:
        raise Failure(f"{states} states acknowledged, {case.states} expected")
    if left := list(scratch.iterdir()):
        raise Failure(f"{len(left)} files left in the temporary folder")


def our_config(case: Case, url: str) -> dict[str, object]:
    jwt_app = {"auth_type": "jwt_app", "client_id": "cs-demo", "client_secret": "kore-secret-1"}
    custom_http = {
        "provider_type": "custom_http",
        "base_url": url,
        "authentication": {"auth_type": "none"},
        "write_path": "/custom/{table}",
        "body": {"body_type": "object"},
        "check_path": "/v2/data-structures",
        "max_rows_per_request": case.max_rows or 5_000,
        "max_megabytes_per_request": 10,
    }
    if case.is_zipped:
        custom_http["request_compression"] = "gzip"
    provider = {
        "qobra": {"provider_type": "qobra", "api_key": "benchmark", "base_url": url},
        "kore": {"provider_type": "kore", "host": url, "authentication": jwt_app},
        "custom_http": custom_http,
    }[case.provider]
    batching = {"max_rows": case.max_rows, "max_parallel_requests": case.slots}
    return {
        "provider": provider,
        "batching": {name: value for name, value in batching.items() if value is not None},
    }


def _peer_config(case: Case, folder: Path, url: str) -> dict[str, object]:
    source = inputs.messages(folder, case.shape, case.rows, case.state_every)
    return {
        "url": url,
        "max_rows": case.max_rows,
        "input": str(source),
        "database": str(inputs.database(source)),
    }


def _their_config(case: Case, url: str) -> dict[str, object]:
    default = 5_000 if case.provider == "qobra" else 1_000
    return {"provider": case.provider, "url": url, "max_rows": case.max_rows or default}


def ask(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - the sink
        body: bytes = response.read()
    return body
