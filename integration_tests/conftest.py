"""What the process-level tests share: the connector, emulators, 100,000 rows of a real source."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from integration_tests.connector import Connector, echoed
from integration_tests.demo_source import Faker
from integration_tests.emulator import Emulator


@dataclass(frozen=True)
class FakerInput:
    """What source-faker wrote: the messages, the catalog, and each stream's records and states."""

    messages: Path
    catalog: dict[str, Any]
    records: dict[str, list[dict[str, Any]]]
    states: dict[str, list[bytes]]


def generated(folder: Path, users: int) -> FakerInput:
    """Run source-faker into a folder."""
    source = Faker(folder, users)
    catalog = source.catalog()
    (folder / "catalog.json").write_text(json.dumps(catalog))
    messages = folder / "messages.jsonl"
    with messages.open("wb") as file:
        assert source.read(folder / "catalog.json", file).wait() == 0
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


@pytest.fixture(scope="session")
def faker_input(tmp_path_factory: pytest.TempPathFactory) -> FakerInput:
    """100,000 records in three streams."""
    return generated(tmp_path_factory.mktemp("faker"), 49_950)


@pytest.fixture
def connector(tmp_path: Path) -> Iterator[Connector]:
    """Give the command, in a folder of its own."""
    connector = Connector(tmp_path)
    yield connector
    connector.close()
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def emulate() -> Iterator[Callable[..., Emulator]]:
    """Give a way to start emulators that end with the test."""
    with ExitStack() as stack:
        yield lambda **switches: stack.enter_context(Emulator(**switches))
