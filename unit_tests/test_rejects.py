"""What becomes of rejected rows: counted, reported, and an error where the policy says so."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path
from typing import Any, Literal

import pytest

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.model import RejectedRow, StreamKey
from destination_bulk_tables.rejects import Rejects
from destination_bulk_tables.secrecy import SECRETS

STREAM = StreamKey("crm", "deals")
NOW = 1_760_000_000.25
ROW = b'{"id":12345678901234567890123,"name":"Jane"}'


def reject(
    code: str = "bad_key", stage: Literal["shape", "vendor"] = "shape", row: bytes = ROW
) -> RejectedRow:
    return RejectedRow(STREAM, stage, code, f"why {code}", row)


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def test_no_rejected_row_is_no_event() -> None:
    """An empty list counts nothing, also under policy fail."""
    rejects = Rejects("fail", 0, None, NOW)
    rejects.add([])
    assert rejects.total == 0
    rejects.close()


def test_the_report_holds_no_secret(tmp_path: Path) -> None:
    """A vendor may quote the credential in its reason."""
    path = tmp_path / "report.jsonl"
    SECRETS.replace(["bad_key"])
    rejects = Rejects("skip", 1000, str(path), NOW)
    rejects.add([reject()])
    rejects.close()
    assert json.loads(lines_of(path)[0])["reason"] == "why ****"


def test_policy_fail_ends_the_sync_and_reports_first(tmp_path: Path) -> None:
    """The row is in the report when the error is raised; the message has no value of the row."""
    path = tmp_path / "report.jsonl"
    rejects = Rejects("fail", 1000, str(path), NOW)
    with pytest.raises(ConfigError) as caught:
        rejects.add([reject()])
    rejects.close()
    assert len(lines_of(path)) == 1
    assert caught.value.stream == STREAM
    message = caught.value.message
    assert all(word in message for word in ["bad_key", "crm.deals", str(path), "policy", "'skip'"])
    assert "Jane" not in message


@pytest.mark.parametrize(
    ("stage", "row", "shown"),
    [
        ("shape", ROW, "bad_key: Jane is bad)"),
        ("vendor", ROW, "bad_key: **** is bad)"),
        ("vendor", b"null", "bad_key: ****)"),
    ],
)
def test_the_message_says_why(stage: Any, row: bytes, shown: str) -> None:
    """A vendor's text without what it quotes of the row; ours is safe to show as it is."""
    with pytest.raises(ConfigError) as caught:
        Rejects("fail", 0, None, NOW).add(
            [RejectedRow(STREAM, stage, "bad_key", "Jane is bad", row)]
        )
    assert shown in caught.value.message
    assert "report_path" in caught.value.message


def test_policy_skip_goes_on_to_the_limit_and_no_further() -> None:
    """`max_rejected` rows pass, one more is a config error that names the setting."""
    rejects = Rejects("skip", 3, None, NOW)
    rejects.add([reject(), reject()])
    rejects.add([reject()])
    assert rejects.total == 3
    with pytest.raises(ConfigError, match=r"4 rows .*max_rejected allows \(3\)"):
        rejects.add([reject()])


def test_a_report_line_names_stream_stage_code_reason_and_row(tmp_path: Path) -> None:
    """One JSON object a line; the row stands in it byte for byte."""
    path = tmp_path / "new" / "report.jsonl"
    rejects = Rejects("skip", 10, str(path), NOW)
    rejects.add([reject(), reject("refused", "vendor", b"\xff{not json")])
    rejects.add([reject("nan", row=b'{"a":NaN}')])
    rejects.close()
    first, second, third = lines_of(path)
    assert ROW in first
    assert json.loads(first) == {
        "stream": "deals",
        "namespace": "crm",
        "stage": "shape",
        "code": "bad_key",
        "reason": "why bad_key",
        "row": {"id": 12345678901234567890123, "name": "Jane"},
    }
    assert json.loads(second)["row"] == "\ufffd{not json"
    assert json.loads(second)["stage"] == "vendor"
    assert json.loads(third)["row"] == '{"a":NaN}'


def test_a_folder_gets_one_file_per_sync(tmp_path: Path) -> None:
    """The name tells when; a folder need not exist when its path ends with a slash."""
    for folder in (str(tmp_path), f"{tmp_path}/new/"):
        for now in (NOW, NOW + 1):
            rejects = Rejects("skip", 10, folder, now)
            rejects.add([reject()])
            rejects.close()
        names = sorted(path.name for path in Path(folder).iterdir() if path.is_file())
        assert names == [
            "rejected-20251009T085320.250000Z.jsonl",
            "rejected-20251009T085321.250000Z.jsonl",
        ]


def test_an_empty_report_is_removed_and_an_older_one_kept(tmp_path: Path) -> None:
    """A sync without rejected rows leaves no file; a file that is there is appended to."""
    path = tmp_path / "report.jsonl"
    Rejects("skip", 10, str(path), NOW).close()
    assert not path.exists()
    for expected in (1, 2):
        rejects = Rejects("skip", 10, str(path), NOW)
        rejects.add([reject()])
        rejects.close()
        assert len(lines_of(path)) == expected
    Rejects("skip", 10, str(path), NOW).close()
    assert len(lines_of(path)) == 2


def test_each_line_is_on_disk_when_add_returns(tmp_path: Path) -> None:
    """A state after the row may leave at once, so the report does not wait in a buffer."""
    path = tmp_path / "report.jsonl"
    rejects = Rejects("skip", 10, str(path), NOW)
    rejects.add([reject()])
    assert len(lines_of(path)) == 1
    rejects.close()
    rejects.close()


def test_a_report_that_cannot_be_written_is_a_config_error(tmp_path: Path) -> None:
    """It is found out before the first row, and names the setting."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"rejected_records\.report_path cannot be written"):
        Rejects("skip", 10, str(tmp_path / "file" / "report.jsonl"), NOW)


def mode_of(path: Path) -> int:
    """Return who may do what with a file."""
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_report_is_for_its_owner_alone(tmp_path: Path) -> None:
    """It holds the values of rows, and so are the folders that are made for it."""
    tmp_path.chmod(0o755)
    rejects = Rejects("skip", 10, str(tmp_path / "a" / "b") + "/", NOW)
    rejects.add([reject()])
    rejects.close()
    [report] = (tmp_path / "a" / "b").iterdir()
    assert [mode_of(path) for path in (report, tmp_path / "a" / "b", tmp_path / "a", tmp_path)] == [
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
    with pytest.raises(ConfigError, match=r"rejected_records\.report_path cannot be written"):
        Rejects("skip", 10, str(tmp_path / "report.jsonl"), NOW)
    assert (tmp_path / "there").read_text() == "precious"
    assert not (tmp_path / "missing").exists()


def test_a_report_that_was_there_is_added_to_and_stays(tmp_path: Path) -> None:
    """Also an empty one, with the rights that its owner gave it."""
    path = tmp_path / "report.jsonl"
    path.touch(0o640)
    path.chmod(0o640)
    Rejects("skip", 10, str(path), NOW).close()
    assert (path.read_bytes(), mode_of(path)) == (b"", 0o640)
    rejects = Rejects("skip", 10, str(path), NOW)
    rejects.add([reject()])
    rejects.close()
    assert path.read_bytes().count(b"\n") == 1


def test_only_the_report_of_this_run_is_removed(tmp_path: Path) -> None:
    """Something else may be under its name by now."""
    path = tmp_path / "report.jsonl"
    rejects = Rejects("skip", 10, str(path), NOW)
    path.unlink()
    path.write_bytes(b"")
    rejects.close()
    assert path.exists()


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    """Opening it would hang before the first row."""
    os.mkfifo(tmp_path / "report.jsonl")
    with pytest.raises(ConfigError, match=r"rejected_records\.report_path cannot be written"):
        Rejects("skip", 10, str(tmp_path / "report.jsonl"), NOW)


def test_a_full_disk_under_the_report_is_a_config_error(caplog: pytest.LogCaptureFixture) -> None:
    """It names the setting, and closing the report afterwards hides no other error."""
    rejects = Rejects("skip", 10, "/dev/full", NOW)
    with pytest.raises(ConfigError, match=r"report_path cannot be written: /dev/full \(No space"):
        rejects.add([reject()])
    rejects.close()
    assert "report_not_closed path=/dev/full" in caplog.text
    Rejects("skip", 10, "/dev/null", NOW).close()
    assert Path("/dev/null").exists()


def test_each_kind_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log names stream, stage and code; never the row or the reason."""
    rejects = Rejects("skip", 10, None, NOW)
    with caplog.at_level(logging.DEBUG):
        rejects.add([reject(), reject(), reject("refused", "vendor")])
        rejects.add([reject()])
    assert [record.getMessage() for record in caplog.records] == [
        "row_rejected stream=crm.deals stage=shape code=bad_key",
        "row_rejected stream=crm.deals stage=vendor code=refused",
    ]
