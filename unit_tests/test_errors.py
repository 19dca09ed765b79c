"""The tree of errors: what the platform is told, and what an error carries."""

from __future__ import annotations

import pytest

from destination_bulk_tables import errors
from destination_bulk_tables.model import StreamKey


@pytest.mark.parametrize(
    ("kind", "failure_type"),
    [
        (errors.DestinationError, "system_error"),
        (errors.ConfigError, "config_error"),
        (errors.TransientError, "transient_error"),
        (errors.Stopped, "transient_error"),
        (errors.InternalError, "system_error"),
        (errors.BadInput, "system_error"),
        (errors.UnaccountedRows, "system_error"),
    ],
)
def test_each_error_has_its_failure_type(
    kind: type[errors.DestinationError], failure_type: str
) -> None:
    """The platform retries a transient error and shows a config error to the user."""
    assert kind.failure_type == failure_type


def test_every_error_of_the_package_is_in_the_drawing() -> None:
    """The docstring draws the whole tree."""
    names = {
        value.__name__
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.DestinationError)
    }
    assert {name for name in names if name not in (errors.__doc__ or "")} == set()


def test_an_error_carries_message_detail_and_stream() -> None:
    """The message is what `str` shows; the rest travels beside it."""
    stream = StreamKey("crm", "deals")
    error = errors.ConfigError("Do this.", detail="why", stream=stream)
    assert (str(error), error.message, error.detail, error.stream) == (
        "Do this.",
        "Do this.",
        "why",
        stream,
    )
    bare = errors.InternalError("Broken.")
    assert (bare.detail, bare.stream) == (None, None)
