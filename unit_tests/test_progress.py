"""What the log says about a sync under way, and at its end."""

from __future__ import annotations

import logging

import pytest

from destination_bulk_tables.model import StreamKey
from destination_bulk_tables.progress import INTERVAL_S, Progress

USERS, DEALS = StreamKey(None, "users"), StreamKey("crm", "deals")


def line(event: str, stream: str, *counts: int) -> str:
    names = ("read", "delivered", "rejected", "rows_per_s", "requests", "retries")
    pairs = zip(names, counts, strict=True)
    return f"{event} stream={stream} " + " ".join(f"{name}={count}" for name, count in pairs)


@pytest.fixture
def progress(caplog: pytest.LogCaptureFixture) -> Progress:
    caplog.set_level(logging.INFO)
    return Progress([USERS, DEALS], 100.0)


def test_a_line_is_due_every_interval(progress: Progress) -> None:
    """The next line is due an interval after the start, and after each line."""
    assert progress.due_at == 100.0 + INTERVAL_S == 130.0
    progress.report(131.0)
    assert progress.due_at == 131.0 + INTERVAL_S


def test_a_stream_without_rows_is_not_mentioned(
    progress: Progress, caplog: pytest.LogCaptureFixture
) -> None:
    """One line per stream that has read something; its rate is since the line before."""
    progress.counts[DEALS].read = 300
    progress.report(130.0)
    counts = progress.counts[DEALS]
    counts.read, counts.delivered, counts.rejected, counts.requests, counts.retries = (
        900,
        7,
        2,
        5,
        1,
    )
    progress.report(160.0)
    assert [record.getMessage() for record in caplog.records] == [
        line("sync_progress", "crm.deals", 300, 0, 0, 10, 0, 0),
        line("sync_progress", "crm.deals", 900, 7, 2, 20, 5, 1),
    ]


def test_the_summary_names_every_stream_and_counts_from_the_start(
    progress: Progress, caplog: pytest.LogCaptureFixture
) -> None:
    """The last lines are about the whole sync, and say how many states left."""
    progress.counts[USERS].read = 400
    progress.report(130.0)
    caplog.clear()
    progress.acknowledged = 3
    progress.report(140.0, is_final=True)
    assert [record.getMessage() for record in caplog.records] == [
        line("sync_summary", "users", 400, 0, 0, 10, 0, 0),
        line("sync_summary", "crm.deals", 0, 0, 0, 0, 0, 0),
        "sync_ended elapsed_s=40.0 states_acknowledged=3",
    ]


def test_a_sync_of_no_time_has_a_rate(progress: Progress, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is divided by zero."""
    progress.counts[USERS].read = 1
    progress.report(100.0, is_final=True)
    assert "rows_per_s=1000 " in caplog.text
