"""The errors a sync can end with.

    DestinationError(message, *, detail, stream)   for the user: what, where, what to change
    ├── ConfigError      -> config_error     the user can fix it: credential, table, mapping
    │   ├── SettingError                     what is wrong with one setting, by its path
    │   └── BadRows                          rows named as bad, and the others not counted
    ├── TransientError   -> transient_error  it may pass: the vendor is away, retries are used up
    │   └── Stopped                          SIGTERM or SIGINT asked the sync to end
    └── InternalError    -> system_error     our bug, or a vendor contract we did not know
        ├── BadInput                         stdin holds something that is not an Airbyte message
        └── UnaccountedRows                  a response does not account for each row of its request

Invariant: neither message nor detail holds a secret or the content of a row. A rejected row is a
value (`model.RejectedRow`), never an exception. Only `commands.py` turns these into TRACE messages.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from destination_bulk_tables.model import StreamKey

FailureType = Literal["config_error", "transient_error", "system_error"]


class DestinationError(Exception):
    """A failure with a message for the user; `detail` is for whoever reads the log."""

    failure_type: ClassVar[FailureType] = "system_error"

    def __init__(
        self, message: str, *, detail: str | None = None, stream: StreamKey | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.stream = stream


class ConfigError(DestinationError):
    failure_type = "config_error"


class SettingError(ConfigError):
    def __init__(self, setting: str, what: str) -> None:
        super().__init__(f"Config: {setting} {what}.")
        self.setting = setting
        self.what = what


class BadRows(ConfigError):
    """Background work names bad rows, and its count does not prove that the others are in."""


class TransientError(DestinationError):
    failure_type = "transient_error"


class Stopped(TransientError):
    """The process was asked to end."""


class InternalError(DestinationError):
    """Our bug, or a vendor contract we did not know."""


class BadInput(InternalError):
    """Stdin holds something that is not an Airbyte message, or names a stream nobody configured."""


class UnaccountedRows(InternalError):
    """A response does not account for each row of its request."""
