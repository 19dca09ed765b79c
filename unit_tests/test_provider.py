"""What all providers share: dispositions aside, the encoding of names into addresses."""

from __future__ import annotations

from typing import Any

import pytest

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import segment
from destination_bulk_tables.model import Message, StreamKey
from unit_tests.syncs import catalog_of, complete, records, sync

DOTS = ["", ".", ".."]


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
