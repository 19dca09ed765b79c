"""Airbyte messages on stdout: log lines and the one error, without secrets in what people read."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import ClassVar

import msgspec

from destination_bulk_tables.clock import Clock
from destination_bulk_tables.errors import DestinationError
from destination_bulk_tables.secrecy import SECRETS
from destination_bulk_tables.stdio import LineWriter

# what the platform acts on is left as it is, also where a secret has the same text
_FOR_PEOPLE = frozenset({"message", "internal_message", "stack_trace"})
_OUR_LOGGERS = frozenset({__name__.partition(".")[0], "__main__"})


class Output:
    def __init__(self, writer: LineWriter) -> None:
        self.writer = writer

    def message(self, message: dict[str, object]) -> None:
        """Write one message; secrets are masked in what people read of it."""
        self.writer.write([msgspec.json.encode(_masked(message))])

    def error(self, error: DestinationError) -> None:
        """The one TRACE ERROR of a failed sync."""
        body: dict[str, object] = {
            "message": error.message,
            "internal_message": error.detail or f"{type(error).__name__}: {error.message}",
            "failure_type": error.failure_type,
        }
        if error.stream is not None:
            body["stream_descriptor"] = {
                "name": error.stream.name,
                "namespace": error.stream.namespace,
            }
        emitted_at = Clock().now() * 1000
        self.message(
            {"type": "TRACE", "trace": {"type": "ERROR", "emitted_at": emitted_at, "error": body}}
        )


class LogLines(logging.Handler):
    """Log records as Airbyte LOG messages.

    Only those of this package: a library may log what it sends and receives.
    """

    _LEVELS: ClassVar = {"CRITICAL": "FATAL", "WARNING": "WARN"}  # Airbyte's words for Python's

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] not in _OUR_LOGGERS:
            return
        log_message = {
            "level": self._LEVELS.get(record.levelname, record.levelname),
            "message": f"{record.name.rpartition('.')[2]}: {record.getMessage()}",
        }
        if record.exc_info and record.exc_info[0]:
            # the type and place of an unexpected error, never its text: that may hold a value
            frames = traceback.extract_tb(record.exc_info[2])
            log_message["stack_trace"] = "\n".join(
                f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames
            )
        try:
            self._output.message({"type": "LOG", "log": log_message})
        except (DestinationError, OSError):
            return  # nobody reads; the engine finds out by itself


class TerminalLines(logging.Handler):
    """Log records of this package as lines on stderr, for a person at a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] in _OUR_LOGGERS:
            sys.stderr.write(f"{record.levelname}: {SECRETS.mask(record.getMessage())}\n")


def _masked(message: dict[str, object]) -> dict[str, object]:
    masked = dict(message)
    for name, member in message.items():
        if isinstance(member, dict):
            masked[name] = _masked(member)
        elif name in _FOR_PEOPLE and isinstance(member, str):
            masked[name] = SECRETS.mask(member)
    return masked
