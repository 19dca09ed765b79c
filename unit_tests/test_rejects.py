"""What becomes of rejected rows: counted, reported, and an error where the policy says so."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import pytest

from destination_bulk_tables.config import RejectedRecords
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.model import RejectedRow, StreamKey
from destination_bulk_tables.rejects import FEW, JUDGED_ROWS, Rejects
from destination_bulk_tables.report_lines import Circumstances
from destination_bulk_tables.reports import FileReport
from unit_tests.fakes import FakeClock

STREAM = StreamKey("crm", "deals")
ROW = b'{"id":12345678901234567890123,"name":"Jane"}'
FIELDS = {"id": "Id", "name": "Name", "name_2": "Name2"}


def rejects_for(
    policy: Literal["fail", "skip"] = "skip",
    max_rejected: int = 1000,
    percent: float | None = None,
    report: FileReport | None = None,
) -> Rejects:
    settings = RejectedRecords(policy, max_rejected, max_rejected_percent=percent)
    streams = {STREAM: Circumstances("table", 0, FIELDS)}
    return Rejects(settings, report, FakeClock(), streams)


def reject(
    code: str = "bad_key",
    stage: Literal["shape", "vendor"] = "shape",
    row: bytes = ROW,
    reason: str | None = None,
) -> RejectedRow:
    return RejectedRow(STREAM, stage, code, reason or f"why {code}", row)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_no_rejected_row_is_no_event(caplog: pytest.LogCaptureFixture) -> None:
    """An empty list counts nothing, also under policy fail."""
    rejects = rejects_for("fail", 0)
    rejects.add([], 10)
    assert rejects.total == 0
    rejects.close()
    assert not caplog.records


def test_policy_fail_ends_the_sync_and_reports_first(tmp_path: Path) -> None:
    """The row is in the report when the error is raised; the message has no value of the row."""
    path = tmp_path / "report.jsonl"
    rejects = rejects_for("fail", report=FileReport(path))
    with pytest.raises(ConfigError) as caught:
        rejects.add([reject()], 1)
    rejects.close()
    assert len(path.read_bytes().splitlines()) == 1
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
        rejects_for("fail", 0).add([reject("bad_key", stage, row, "Jane is bad")], 1)
    assert shown in caught.value.message
    assert "report_path" in caught.value.message


def test_policy_skip_goes_on_to_the_limit_and_no_further() -> None:
    """`max_rejected` rows pass, one more is a config error that names the setting."""
    rejects = rejects_for(max_rejected=3)
    rejects.add([reject(), reject()], 2)
    rejects.add([reject()], 3)
    assert rejects.total == 3
    with pytest.raises(ConfigError, match=r"4 rows .*max_rejected allows \(3\)"):
        rejects.add([reject()], 4)


@pytest.mark.parametrize(
    ("percent", "rejected", "n_read", "ends"),
    [
        (5, FEW, JUDGED_ROWS - 1, False),
        (5, 50, JUDGED_ROWS, False),
        (5, 51, JUDGED_ROWS, True),
        (0, FEW - 1, JUDGED_ROWS, False),
        (0, FEW, JUDGED_ROWS, True),
        (0.1, 100, 100_000, False),
        (0.1, 101, 100_000, True),
        (None, 900, JUDGED_ROWS, False),
    ],
)
def test_a_percentage_is_judged_from_a_thousand_rows_on(
    percent: float | None, rejected: int, n_read: int, *, ends: bool
) -> None:
    """And a few rejected rows are never too many, whatever part they are of those read so far."""
    rejects = rejects_for(percent=percent)
    if not ends:
        rejects.add([reject()] * rejected, n_read)
        return
    with pytest.raises(ConfigError, match=rf"{rejected} of {n_read} rows .*max_rejected_percent"):
        rejects.add([reject()] * rejected, n_read)


def test_a_percentage_is_judged_at_the_end_whatever_was_read() -> None:
    """Ten bad rows of a hundred end a small sync that allows five percent; of a thousand not."""
    rejects = rejects_for(percent=5)
    rejects.add([reject()] * FEW, 100)
    rejects.judge_share(1000)
    with pytest.raises(ConfigError, match=r"10 of 100 rows .*allows \(5 %\)"):
        rejects.judge_share(100)


def test_each_kind_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log names stream, stage and code; never the row or the reason."""
    rejects = rejects_for()
    with caplog.at_level(logging.DEBUG):
        rejects.add([reject(), reject(), reject("refused", "vendor")], 3)
        rejects.add([reject()], 4)
    assert messages(caplog) == [
        "row_rejected stream=crm.deals stage=shape code=bad_key",
        "row_rejected stream=crm.deals stage=vendor code=refused",
    ]


def test_the_end_names_codes_columns_and_counts(caplog: pytest.LogCaptureFixture) -> None:
    """A column is what a reason names of the catalog's, by either name; no value is told."""
    rejects = rejects_for()
    reasons = ["'name_2' is too long: Jane", "Name2 is too long", "name: no", "surname: Jane"]
    rejects.add([reject("http_400", "vendor", reason=reason) for reason in reasons * 2], 9)
    caplog.clear()
    rejects.close()
    rejects.close()
    assert messages(caplog) == [
        "rejected_rows stream=crm.deals code=http_400 column=name_2 rows=2",
        "rejected_rows stream=crm.deals code=http_400 column=Name2 rows=2",
        "rejected_rows stream=crm.deals code=http_400 column=name rows=2",
        "rejected_rows stream=crm.deals code=http_400 column=- rows=2",
    ]


def test_many_kinds_are_told_in_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    """A vendor whose code differs for each row fills neither the log nor the memory."""
    rejects = rejects_for(max_rejected=5000)
    rejects.add([reject(f"code-{number}") for number in range(3000)], 3000)
    caplog.clear()
    rejects.close()
    told = messages(caplog)
    assert told[0] == "rejected_rows stream=crm.deals code=others column=- rows=2000"
    assert told[-1] == "rejected_rows_of_other_kinds kinds=981 rows=981"
    assert len(told) == 21
