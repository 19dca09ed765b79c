"""What the process-level tests share: the connector, emulators, rows of a real source, the order.

Tests run in several worker processes, because most of them wait. What is dear to make is made once
in a run, and the tests of one real server stay with one worker.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome

from integration_tests.browsing import start_browser
from integration_tests.cases import Stand
from integration_tests.connector import Connector, echoed
from integration_tests.demo_source import Faker
from integration_tests.emulator import Emulator
from integration_tests.forked import Nursery
from integration_tests.servers.object_stores import Moto
from integration_tests.servers.pool import Pool


@dataclass(frozen=True)
class FakerInput:
    """What source-faker wrote: the messages, the catalog, and each stream's records and states."""

    messages: Path
    catalog: dict[str, Any]
    records: dict[str, list[dict[str, Any]]]
    states: dict[str, list[bytes]]


# what takes longest begins first, or a run ends with one worker at work
LONGEST = (
    "test_smoke",
    "test_a_replace_of_a_million_rows",
    "test_100_000_records_arrive",
    "test_faker",
    "test_each_fault_at_each_request",
    "test_ended_at_each_request",
)
# tests that share a server, or what is dear to read, by a fixture and name it by no parameter
SHARED = {
    "datasette": "datasette",
    "nginx": "datasette",
    "proxied": "datasette",
    "large": "large",
    "moto": "moto",
    "browser": "browser",
}


def _shared_by(item: pytest.Item) -> str | None:
    """What a test shares with others: as it says, its parameter's server, or by its fixtures."""
    marker = item.get_closest_marker("xdist_group")
    if marker is not None:
        return str(marker.args[0])
    call = getattr(item, "callspec", None)
    for value in call.params.values() if call is not None else ():
        kind = getattr(value, "kind", value)
        if isinstance(kind, type) and isinstance(name := getattr(kind, "name", None), str):
            return name
    names = getattr(item, "fixturenames", ())
    found = [server for fixture, server in SHARED.items() if fixture in names]
    return found[0] if found else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what shares something together, and put what takes longest first."""
    shared = {item: _shared_by(item) or "" for item in items}
    for item, group in shared.items():
        if group:
            item.add_marker(pytest.mark.xdist_group(group))

    def place(item: pytest.Item) -> tuple[bool, str]:
        return not item.nodeid.rpartition("::")[2].startswith(LONGEST), shared[item]

    items.sort(key=place)


def generated(users: int, factory: pytest.TempPathFactory) -> FakerInput:
    """Run source-faker, once for all workers of a run, and read what it wrote."""
    run = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent
    folder = run / f"faker-{users}"
    folder.mkdir(exist_ok=True)
    source = Faker(folder, users)
    messages = folder / "messages.jsonl"
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not messages.exists():
            (folder / "catalog.json").write_text(json.dumps(source.catalog()))
            part = folder / "part.jsonl"
            with part.open("wb") as file:
                assert source.read(folder / "catalog.json", file).wait() == 0
            part.rename(messages)
    catalog = json.loads((folder / "catalog.json").read_text())
    streams = list(source.rows)
    found = FakerInput(messages, catalog, {s: [] for s in streams}, {s: [] for s in streams})
    for line in messages.read_bytes().splitlines():
        match json.loads(line):
            case {"type": "RECORD", "record": {"stream": stream, "data": data}}:
                found.records[stream].append(data)
            case {"type": "STATE", "state": {"stream": {"stream_descriptor": {"name": stream}}}}:
                found.states[stream].append(echoed(line))
            case _:
                pass
    assert {name: len(rows) for name, rows in found.records.items()} == source.rows
    return found


@pytest.fixture(scope="module")
def stand(nursery: Nursery) -> Iterator[Stand]:
    with Stand(nursery) as stand:
        yield stand


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    pool = Pool()
    yield pool
    pool.stop()


@pytest.fixture(scope="session")
def faker_input(tmp_path_factory: pytest.TempPathFactory) -> FakerInput:
    """100,000 records in three streams."""
    return generated(49_950, tmp_path_factory)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Give what forks connectors, which takes a tenth of what starting the command does."""
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
def connector(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Connector]:
    """Give the connector, in a folder of its own; `starts_the_command` marks the real command."""
    is_forked = request.node.get_closest_marker("starts_the_command") is None
    connector = Connector(tmp_path, request.getfixturevalue("nursery") if is_forked else None)
    yield connector
    connector.close()
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def emulate() -> Iterator[Callable[..., Emulator]]:
    """Give a way to start emulators that end with the test."""
    with ExitStack() as stack:
        yield lambda **switches: stack.enter_context(Emulator(**switches))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Give a browser without a screen."""
    chrome = start_browser(tmp_path_factory.mktemp("profile"))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    """Give S3."""
    store = Moto()
    store.install()
    store.start()
    yield store
    store.stop()
