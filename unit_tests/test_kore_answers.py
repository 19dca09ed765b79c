"""Kore.ai: what an answer means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from destination_bulk_tables.dispositions import Renew, Retry, Stop, Throw
from destination_bulk_tables.errors import TransientError
from destination_bulk_tables.http import Refused
from unit_tests.fakes import status
from unit_tests.kore_flows import DELETE, INSERT, QUERY
from unit_tests.syncs import kore


@pytest.mark.parametrize("code", [400, 403, 429, 500])
@pytest.mark.parametrize(
    "text",
    ["You've exceeded the per-minute rate limit.", "Rate limit for this API has been reached"],
)
def test_the_minute_limit_is_known_by_its_text(code: int, text: str) -> None:
    """Whatever the status, it holds the table for a minute, or for as long as the vendor says."""
    found = kore().classify(INSERT, status(code, text.encode()))
    assert found == Retry(after_s=60.0, pause=True)
    found = kore().classify(INSERT, status(code, text.encode(), retry_after="5"))
    assert found == Retry(after_s=None, pause=True)


@pytest.mark.parametrize("code", [400, 429])
def test_the_hourly_limit_ends_the_sync(code: int) -> None:
    """Nobody sleeps for an hour: the error is one that may pass."""
    found = kore().classify(INSERT, status(code, b"You've exceeded the Hourly Rate Limit."))
    assert isinstance(found, Stop)
    assert isinstance(found.error, TransientError)


def test_a_good_answer_that_mentions_a_rate_limit_is_good() -> None:
    """A row may hold the words."""
    assert type(kore().classify(INSERT, status(200, b"rate limit"))).__name__ == "Accept"


def test_a_refusal_that_quotes_a_rate_limit_is_a_refusal() -> None:
    """A row may hold the words, and so may the text about it; the vendor's own are known."""
    insert = replace(INSERT, body=b'{"data":[{"note":"Interest Rate Limit per hour"}]}')
    quoted = status(400, b"Invalid value 'interest rate limit per hour'")
    assert isinstance(kore().classify(insert, quoted), Throw)
    assert isinstance(kore().classify(INSERT, quoted), Stop)
    told = status(400, b"You've exceeded the per-minute rate limit.")
    assert isinstance(kore().classify(insert, told), Retry)


def test_a_missing_right_names_it() -> None:
    """401 and 403 are read alike; a delete needs Read and Delete."""
    for request, right in [(INSERT, "Write"), (DELETE, "Read and Delete")]:
        renew, stop = (kore().classify(request, status(code)) for code in (401, 403))
        assert isinstance(renew, Renew)
        assert isinstance(stop, Stop)
        assert all(right in str(found.error) for found in (renew, stop))


def test_a_refused_query_is_for_the_flow_to_judge() -> None:
    """Without the right to read, a sync that only appends goes on."""
    for code in (400, 403, 404):
        found = kore().classify(QUERY, status(code))
        assert isinstance(found, Throw)
        assert isinstance(found.error, Refused)
    assert isinstance(kore().classify(QUERY, status(401)), Renew)
