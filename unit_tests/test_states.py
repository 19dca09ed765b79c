"""States that wait: in memory up to a bound, then on disk, and given back as they came."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from random import Random

import pytest

from destination_bulk_tables import states
from destination_bulk_tables.errors import ConfigError, TransientError
from destination_bulk_tables.ledger import Ledger
from destination_bulk_tables.model import StreamKey
from destination_bulk_tables.spool import DiskBudget
from destination_bulk_tables.states import StateStore

A, B, UNKNOWN = (StreamKey(None, name) for name in ("a", "b", "unknown"))


def test_states_come_back_whatever_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some in memory, most on disk; when all are taken the disk is free again."""
    monkeypatch.setattr(states, "MEMORY_BYTES", 100)
    budget = DiskBudget(str(tmp_path), 1_000_000)
    store, random = StateStore(budget), Random(3)
    for _ in range(3):
        kept = [(store.keep(text), text) for text in (b"%d" % i * 20 for i in range(50))]
        assert budget.used > 500
        random.shuffle(kept)
        assert all(store.take(k) == text for k, text in kept)
        assert store._file is not None
        assert (budget.used, os.fstat(store._file.fileno()).st_size) == (0, 0)
    file = store._file
    Ledger(store).close()
    assert file is not None
    assert file.closed


def test_as_much_as_fits_into_memory_touches_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the byte, and again when it was taken; what is beyond needs a directory that is there."""
    monkeypatch.setattr(states, "MEMORY_BYTES", 100)
    budget = DiskBudget("/absent", 1000)
    store = StateStore(budget)
    for _ in range(2):
        kept = [store.keep(b"x" * 60), store.keep(b"y" * 40)]
        assert [store.take(k) for k in kept] == [b"x" * 60, b"y" * 40]
    store.close()
    assert budget.used == 0
    with pytest.raises(ConfigError, match=r"staging\.directory"):
        store.keep(b"x" * 101)


def test_a_state_that_cannot_be_read_back_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is acknowledged without its text."""

    class Unreadable(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(states, "MEMORY_BYTES", 0)
    store = StateStore(DiskBudget(str(tmp_path), 1000))
    kept = store.keep(b"x")
    store.close()
    store._file = Unreadable()
    with pytest.raises(TransientError, match="cannot be staged"):
        store.take(kept)


def test_states_count_in_the_staging_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that they would fill is an error that names the setting."""
    monkeypatch.setattr(states, "MEMORY_BYTES", 0)
    store = StateStore(DiskBudget(str(tmp_path), 1000))
    store.keep(b"x" * 900)
    with pytest.raises(ConfigError, match=r"staging\.max_gigabytes"):
        store.keep(b"x" * 200)
    store.close()


def test_a_state_of_no_stream_of_the_catalog_waits_for_every_row_before_it() -> None:
    """Not for rows that come after it, and held tables hold it as well."""
    ledger = Ledger()
    first, second = ledger.count_read(A, 2), ledger.count_read(B, 1)
    ledger.checkpoint(b'{"id":1}', UNKNOWN, is_known=False)
    later = ledger.count_read(A, 1)
    ledger.checkpoint(b'{"id":2}', A)
    assert list(ledger.ready()) == []
    first.delivered = 2
    assert list(ledger.ready()) == []
    second.delivered = 1
    [only] = ledger.ready()
    assert (
        only.acknowledge()
        == b'{"type":"STATE","state":{"id":1,"destinationStats":{"recordCount":0.0}}}'
    )
    later.delivered = 1
    [own] = ledger.ready()
    assert b'"recordCount":3.0' in own.acknowledge()
    ledger.hold(B)
    ledger.checkpoint(b'{"id":3}', UNKNOWN, is_known=False)
    assert list(ledger.ready()) == []
    ledger.release(B)
    assert len(list(ledger.ready())) == 1
