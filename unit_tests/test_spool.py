"""Lines on disk come out as they went in, within a budget; the filter finds repeated keys."""

from __future__ import annotations

import errno
import io
import os
import stat
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from destination_bulk_tables import spool as module
from destination_bulk_tables.errors import ConfigError, TransientError
from destination_bulk_tables.spool import DiskBudget, KeyFilter, Spool

GENEROUS = 10**9
lines_of = st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")), max_size=40)


@given(appends=st.lists(lines_of, max_size=6))
def test_lines_come_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, appends: list[list[bytes]]
) -> None:
    """Reading gives every line that was appended, in order, as often as it is read."""
    spool = Spool(DiskBudget(str(tmp_path_factory.getbasetemp()), GENEROUS))
    for lines in appends:
        spool.append(lines)
    expected = [line for lines in appends for line in lines]
    assert [line for lines in spool.read() for line in lines] == expected
    assert [line for lines in spool.read() for line in lines] == expected
    assert (spool.lines, spool.n_bytes) == (len(expected), sum(map(len, expected)))
    assert spool.longest == max(map(len, expected), default=0)
    spool.close()


def test_reading_goes_in_pieces(tmp_path: Path) -> None:
    """A long spool is read in lists of bounded size, however long its lines are."""
    spool = Spool(DiskBudget(str(tmp_path), GENEROUS))
    long = module._READ_BYTES // 3
    lines = [bytes([65 + i]) * (long if i % 2 else 10) for i in range(20)]
    spool.append(lines)
    pieces = list(spool.read())
    assert [line for piece in pieces for line in piece] == lines
    assert len(pieces) > 2
    assert max(sum(map(len, piece)) for piece in pieces) <= 2 * module._READ_BYTES
    spool.close()


def test_a_line_may_be_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    """It is put together again."""
    spool = Spool(DiskBudget(str(tmp_path), GENEROUS))
    lines = [b"short", b"x" * (2 * module._READ_BYTES + 5), b"last"]
    spool.append(lines)
    assert [line for piece in spool.read() for line in piece] == lines
    spool.close()


def test_the_file_has_no_name(tmp_path: Path) -> None:
    """Nothing is listed in the directory, so nothing is left behind whatever ends the process."""
    spool = Spool(DiskBudget(str(tmp_path), GENEROUS))
    spool.append([b"{}"])
    assert list(tmp_path.iterdir()) == []
    file = spool._file
    assert file is not None
    about = os.fstat(file.fileno())
    assert (about.st_nlink, stat.S_IMODE(about.st_mode)) == (0, 0o600)  # its owner's alone
    spool.close()
    assert file.closed
    spool.close()
    assert list(spool.read()) == []


def test_spools_share_one_budget(tmp_path: Path) -> None:
    """Two spools together may use what the budget says, newlines included, and no byte more."""
    budget = DiskBudget(str(tmp_path), 10)
    first, second = Spool(budget), Spool(budget)
    first.append([b"1234"])
    second.append([b"1", b"2", b""])
    with pytest.raises(ConfigError, match=r"staging\.max_gigabytes"):
        second.append([b""])
    assert second.lines == 3
    first.close()
    second.close()


def test_nothing_to_append_makes_no_file(tmp_path: Path) -> None:
    """An empty append spends nothing."""
    spool = Spool(DiskBudget(str(tmp_path / "absent"), 0))
    spool.append([])
    assert list(spool.read()) == []


def test_a_missing_directory_names_the_setting(tmp_path: Path) -> None:
    """A folder that cannot be written to is an error about `staging.directory`."""
    spool = Spool(DiskBudget(str(tmp_path / "absent"), GENEROUS))
    with pytest.raises(ConfigError, match=r"cannot be staged .* Set staging\.directory"):
        spool.append([b"{}"])


class FullDisk(io.BytesIO):
    """A file on a disk that has no room left."""

    def write(self, _: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_names_the_setting(tmp_path: Path) -> None:
    """A disk that fills up is a transient error, and closing the file afterwards raises nothing."""
    spool = Spool(DiskBudget(str(tmp_path), GENEROUS))
    spool._file = FullDisk()
    with pytest.raises(TransientError, match="is full"):
        spool.append([b"{}"])
    spool.close()


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A failure while reading back does not pass for the end of the rows."""

    class Unreadable(io.BytesIO):
        def seek(self, *_: object) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    spool = Spool(DiskBudget(str(tmp_path), GENEROUS))
    spool._file = Unreadable()
    with pytest.raises(TransientError, match="cannot be staged"):
        list(spool.read())


# --- the key filter


class SmallFilter(KeyFilter):
    """As one for many rows: taken apart before it is looked through."""

    _PARTS = 2


@given(
    blocks=st.lists(st.lists(st.integers(-20, 20), max_size=8), max_size=6),
    marked=st.lists(st.integers(-20, 20), max_size=2),
)
def test_no_repeated_key_escapes_the_filter(blocks: list[list[int]], marked: list[int]) -> None:
    """All rows of a repeated or marked key are suspects, the first ones included."""
    key_filter = SmallFilter()
    for block in blocks:
        key_filter.add(block)
    for value in marked:
        key_filter.suspect(value)
    hashes = [value for block in blocks for value in block]
    found = Counter(hashes)
    suspects = list(key_filter.suspects())
    expected = [
        number for number, value in enumerate(hashes) if found[value] > 1 or value in marked
    ]
    assert suspects == expected


def test_keys_of_different_slots_are_no_suspects() -> None:
    """A load without repeated keys is not read twice."""
    key_filter = KeyFilter()
    key_filter.add(list(range(1000)))
    assert list(key_filter.suspects()) == []


@pytest.mark.parametrize(
    ("filters", "keys", "most_bytes"), [(1000, 3, 2_000_000), (1, 100_000, 4_000_000)]
)
def test_a_filter_costs_what_its_keys_cost(filters: int, keys: int, most_bytes: int) -> None:
    """Many small tables to replace are no more than one large one, and no key is held whole."""
    hashes = [hash(f"key {number}") for number in range(keys)]
    tracemalloc.start()
    try:
        made = [KeyFilter() for _ in range(filters)]
        for key_filter in made:
            key_filter.add(hashes)
        assert not any(list(key_filter.suspects()) for key_filter in made)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most_bytes
