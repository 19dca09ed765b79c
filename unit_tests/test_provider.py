"""What all providers share: where they are named, and the encoding of names into addresses."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import segment
from destination_bulk_tables.messages import Message
from destination_bulk_tables.model import StreamKey
from destination_bulk_tables.providers import PROVIDERS
from unit_tests.syncs import catalog_of, complete, records, sync

DOTS = ["", ".", ".."]
ROOT = Path(__file__).parents[1]
HOME = ROOT / "destination_bulk_tables/providers"
PACKAGES = [path.parent.name for path in HOME.glob("*/provider.py")]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_of_providers_is_offered_and_layered(package: str) -> None:
    """Its name in a config is that of its folder, and its modules point downwards."""
    offered = [provider.name for provider in PROVIDERS]
    assert package in offered, f"add {package} to PROVIDERS in providers/__init__.py"
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    layered = [
        container
        for contract in contracts["tool"]["importlinter"]["contracts"]
        for container in contract.get("containers", ())
    ]
    name = f"destination_bulk_tables.providers.{package}"
    assert name in layered, f"pyproject.toml has no contract with the layers of {package}"


@pytest.mark.parametrize("name", DOTS)
def test_a_name_that_leaves_its_place_in_an_address_is_refused(name: str) -> None:
    """Whatever is between would make a path to something else of it."""
    with pytest.raises(ConfigError, match="table name"):
        segment(name)
    assert [segment(text) for text in ("...", "a/b", "..a")] == ["...", "a%2Fb", "..a"]


@pytest.mark.parametrize("vendor", ["kore", "qobra"])
@pytest.mark.parametrize("name", [".", ".."])
def test_a_stream_of_such_a_name_sends_nothing(vendor: Any, name: str) -> None:
    """Names come from the source; the message says which, and where to name another."""
    stream = StreamKey(None, name)
    script: list[Message | float] = [records([{"id": "a"}], stream), complete(stream)]
    done = sync(vendor, "append", script, catalog=catalog_of("append", name)).run()
    assert isinstance(done.error, ConfigError)
    assert repr(name) in done.error.message
    assert "tables[].table" in done.error.message
    assert done.transport.sent == []
