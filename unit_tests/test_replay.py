"""What a replay makes of a catalog, of a report's bytes and of the place for the next report."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from destination_bulk_tables import replay
from destination_bulk_tables.errors import ConfigError, TransientError
from destination_bulk_tables.model import StreamKey
from destination_bulk_tables.replay import Replayed, as_json, as_text

DEALS = StreamKey("crm", "deals")


@pytest.mark.parametrize(
    ("mode", "made"),
    [
        ("overwrite", "append"),
        ("overwrite_dedup", "append_dedup"),
        ("append", "append"),
        ("append_dedup", "append_dedup"),
    ],
)
def test_no_mode_and_no_generation_replaces(mode: str, made: str) -> None:
    """A refresh asks for a replace by its generations, whatever its mode."""
    generations = {"generation_id": 3, "minimum_generation_id": 3, "sync_id": 7}
    stream: Any = {"stream": {"name": "deals"}, "destination_sync_mode": mode, **generations}
    found = replay._without_replacing({"streams": [stream, 5], "more": 1})
    kept = {"stream": {"name": "deals"}, "destination_sync_mode": made}
    assert found == {"streams": [kept, 5], "more": 1}
    assert replay._without_replacing([]) == []


def test_lines_are_whole_wherever_a_chunk_ends() -> None:
    """A store hands out bytes as they come; blank lines are none."""
    text = b"one\ntwo\n\nthree"
    for size in range(1, len(text)):
        chunks = [text[at : at + size] for at in range(0, len(text), size)]
        assert list(replay._lines(chunks)) == [b"one", b"two", b"three"]


def test_only_records_of_the_catalogs_streams_are_sent() -> None:
    """The others are counted by their streams; what is no record is counted as such."""
    done = Replayed()
    lines = [
        b'{"type":"RECORD","record":{"stream":"deals","namespace":"crm","data":{}}}',
        b'{"type":"RECORD","record":{"stream":"deals","data":{}}}',
        b'{"type":"RECORD","record":{"stream":"gone","namespace":"x","data":{}}}',
        b'{"type":"STATE","state":{}}',
        b'{"stream":"deals","row":{}}',
        b"\xff",
    ]
    assert list(replay._selected(lines, {DEALS}, done)) == lines[:2]
    assert (done.left_out, done.unreadable) == (Counter({"x.gone": 1}), 3)


def test_a_report_that_breaks_off_fails_the_replay() -> None:
    """The sync saw a clean end of its input, and must not be taken for all of the report."""

    def lines() -> Any:
        yield b"one"
        message = "away"
        raise TransientError(message)

    read: list[bytes] = []

    def run(stdin: int) -> Any:
        while data := os.read(stdin, 100):
            read.append(data)
        return {}

    with pytest.raises(TransientError, match="away"):
        replay._fed(lines(), run)
    assert b"".join(read) == b"one\n"


def test_a_sync_that_ends_early_is_what_the_user_reads() -> None:
    """Nobody reads the rest of the lines then."""

    def run(_: int) -> Any:
        message = "refused"
        raise ConfigError(message)

    with pytest.raises(ConfigError, match="refused"):
        replay._fed((b"x" * 1000 for _ in range(1000)), run)


def test_a_report_that_cannot_be_read_names_the_option(tmp_path: Path) -> None:
    """With its cause and without a traceback."""
    config: Any = None
    with pytest.raises(ConfigError, match=r"--report cannot be read: .* \(No such file"):
        list(replay._chunks(str(tmp_path / "gone.jsonl"), config, config))


def test_the_new_report_is_not_read_in_the_folder_of_the_old(tmp_path: Path) -> None:
    """Its rows would be rejected again, into the file they are read from, without an end."""
    (tmp_path / "rejected-1.jsonl").write_bytes(b"old")
    config: Any = None
    chunks = replay._chunks(str(tmp_path), config, config)
    (tmp_path / "rejected-2.jsonl").write_bytes(b"new")
    assert b"".join(chunks) == b"old\n"


def test_whatever_ends_the_feeding_fails_the_replay() -> None:
    """Also what nobody thought of: the sync sees a clean end of its input."""

    def lines() -> Any:
        yield b"one"
        raise MemoryError

    def run(stdin: int) -> Any:
        assert os.read(stdin, 100) == b"one\n"
        return {}

    with pytest.raises(MemoryError):
        replay._fed(lines(), run)


def test_a_problem_is_a_sentence() -> None:
    """And no counts, which would look like an end."""
    assert as_text({"problem": "P."}) == "The replay did not get to its end: P.\n"
    assert as_json(Replayed(rejects="/r"))["rejects"] is None
