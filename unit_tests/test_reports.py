"""Where rejected rows are kept: a file for its owner, or objects that no other sync writes."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from threading import Event

import pytest

from destination_bulk_tables.errors import ConfigError, TransientError
from destination_bulk_tables.model import StreamKey
from destination_bulk_tables.reports import FileReport, StoreReport, open_report
from destination_bulk_tables.stores import PART_BYTES, StoreSettings
from unit_tests.fakes import Bucket, FakeClock

STREAM = StreamKey("crm", "deals")
LINE = b'{"type":"RECORD"}\n'
UNWRITABLE = r"rejected_records\.report_path cannot be written"


def opened(path: object, clock: FakeClock | None = None) -> FileReport | StoreReport:
    return open_report(str(path), StoreSettings(), clock or FakeClock(), Event())


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def test_a_folder_gets_one_file_per_sync(tmp_path: Path) -> None:
    """The name tells when; a folder need not exist when its path ends with a slash."""
    clock = FakeClock()
    for folder in (str(tmp_path), f"{tmp_path}/new/"):
        for _ in range(2):
            report = opened(folder, clock)
            report.add(STREAM, LINE)
            report.close()
            clock.advance(1)
        names = sorted(path.name for path in Path(folder).iterdir() if path.is_file())
        assert len(names) == 2
        assert all(name.startswith("rejected-2") and name.endswith("Z.jsonl") for name in names)


def test_an_empty_report_is_removed_and_an_older_one_kept(tmp_path: Path) -> None:
    """A sync without rejected rows leaves no file; a file that is there is appended to."""
    path = tmp_path / "new" / "report.jsonl"
    opened(path).close()
    assert not path.exists()
    for expected in (1, 2):
        report = opened(path)
        report.add(STREAM, LINE)
        report.close()
        assert len(lines_of(path)) == expected
    opened(path).close()
    assert len(lines_of(path)) == 2


def test_each_line_is_on_disk_when_add_returns(tmp_path: Path) -> None:
    """A state after the row may leave at once, so the report does not wait in a buffer."""
    path = tmp_path / "report.jsonl"
    report = opened(path)
    report.add(STREAM, LINE)
    assert len(lines_of(path)) == 1
    report.finish()
    report.close()


def test_a_report_that_cannot_be_written_is_a_config_error(tmp_path: Path) -> None:
    """It is found out before the first row, and names the setting."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=UNWRITABLE):
        opened(tmp_path / "file" / "report.jsonl")


def mode_of(path: Path) -> int:
    """Return who may do what with a file."""
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_report_is_for_its_owner_alone(tmp_path: Path) -> None:
    """It holds the values of rows, and so are the folders that are made for it."""
    tmp_path.chmod(0o755)
    report = opened(f"{tmp_path}/a/b/")
    report.add(STREAM, LINE)
    report.close()
    [file] = (tmp_path / "a" / "b").iterdir()
    assert [mode_of(path) for path in (file, tmp_path / "a" / "b", tmp_path / "a", tmp_path)] == [
        0o600,
        0o700,
        0o700,
        0o755,
    ]


@pytest.mark.parametrize("target", ["there", "missing"])
def test_a_report_is_never_written_through_a_link(tmp_path: Path, target: str) -> None:
    """Whoever may write to the folder would choose which file it goes to."""
    (tmp_path / "there").write_text("precious")
    (tmp_path / "report.jsonl").symlink_to(tmp_path / target)
    with pytest.raises(ConfigError, match=UNWRITABLE):
        opened(tmp_path / "report.jsonl")
    assert (tmp_path / "there").read_text() == "precious"
    assert not (tmp_path / "missing").exists()


def test_a_report_that_was_there_is_added_to_and_stays(tmp_path: Path) -> None:
    """Also an empty one, with the rights that its owner gave it."""
    path = tmp_path / "report.jsonl"
    path.touch(0o640)
    path.chmod(0o640)
    opened(path).close()
    assert (path.read_bytes(), mode_of(path)) == (b"", 0o640)
    report = opened(path)
    report.add(STREAM, LINE)
    report.close()
    assert lines_of(path) == [LINE.strip()]


def test_only_the_report_of_this_run_is_removed(tmp_path: Path) -> None:
    """Something else may be under its name by now."""
    path = tmp_path / "report.jsonl"
    report = opened(path)
    path.unlink()
    path.write_bytes(b"")
    report.close()
    assert path.exists()


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    """Opening it would hang before the first row."""
    os.mkfifo(tmp_path / "report.jsonl")
    with pytest.raises(ConfigError, match=UNWRITABLE):
        opened(tmp_path / "report.jsonl")


def test_a_full_disk_under_the_report_is_a_config_error(caplog: pytest.LogCaptureFixture) -> None:
    """It names the setting, and closing the report afterwards hides no other error."""
    report = opened("/dev/full")
    with pytest.raises(ConfigError, match=r"report_path cannot be written: /dev/full \(No space"):
        report.add(STREAM, LINE)
    report.close()
    assert "report_not_closed path=/dev/full" in caplog.text
    opened("/dev/null").close()
    assert Path("/dev/null").exists()


def test_what_is_kept_is_in_the_store_under_stream_and_sync() -> None:
    """One object for each stream and part; an object that is there is not written over."""
    bucket = Bucket(taken=1)
    report = bucket.report()
    report.add(STREAM, LINE)
    report.add(StreamKey(None, "a/b"), LINE)
    report.add(STREAM, LINE)
    assert not bucket.objects
    report.keep()
    report.keep()
    report.add(STREAM, LINE)
    report.finish()
    report.close()
    assert bucket.objects == {
        "crm.deals/SYNC/000002.jsonl": LINE * 2,
        "a%2Fb/SYNC/000003.jsonl": LINE,
        "crm.deals/SYNC/000004.jsonl": LINE,
    }


def test_a_store_that_takes_no_name_ends_the_sync() -> None:
    """One that answers each conditional write with 412 is not asked for ever."""
    bucket = Bucket(taken=1000)
    report = bucket.report()
    report.add(STREAM, LINE)
    with pytest.raises(ConfigError, match=r"report_path cannot be written.*name that it is taken"):
        report.keep()
    assert bucket.taken > 900


def test_no_more_than_a_part_waits_in_memory() -> None:
    """A part that is full is written at once, whether or not a state waits for it."""
    bucket = Bucket()
    report = bucket.report()
    report.add(STREAM, b"x" * (PART_BYTES - 1))
    assert not bucket.objects
    report.add(STREAM, b"y")
    report.close()
    assert [len(data) for data in bucket.objects.values()] == [PART_BYTES]


def test_states_gather_for_two_seconds_at_most() -> None:
    """Each is a request to the store otherwise."""
    clock, bucket = FakeClock(), Bucket()
    report = bucket.report(clock)
    report.add(STREAM, LINE)
    assert not report.gathers()
    report.start_keeping()
    assert report.gathers()
    clock.advance(2)
    assert not report.gathers()


def test_rows_go_on_while_a_part_is_uploaded() -> None:
    """A second part waits for the first, so that no more than two are in memory."""
    bucket = Bucket(is_slow=True)
    report = bucket.report()
    report.add(STREAM, LINE)
    report.start_keeping()
    report.add(STREAM, LINE)
    assert (report.is_keeping(), report.has_waiting, bucket.objects) == (True, True, {})
    bucket.arrive()
    assert (report.is_keeping(), len(bucket.objects)) == (False, 1)
    report.start_keeping()
    report.add(STREAM, b"x" * PART_BYTES)
    assert len(bucket.objects) == 2
    report.close()
    assert len(bucket.objects) == 3


def test_what_failed_once_is_never_said_to_be_kept(caplog: pytest.LogCaptureFixture) -> None:
    """A state of those rows would leave after the next success; closing hides no other error."""
    bucket = Bucket()
    report = bucket.report()
    report.add(STREAM, LINE)
    bucket.fails = TransientError("full")
    for _ in range(2):
        with pytest.raises(TransientError, match="full"):
            report.keep()
        bucket.fails = None
    report.close()
    assert not bucket.objects
    late = bucket.report()
    late.add(STREAM, LINE)
    bucket.fails = TransientError("away")
    late.close()
    assert "report_not_closed cause=away" in caplog.text
