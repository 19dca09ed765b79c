"""Looks whether a stream's first records hold the fields that its schema declares.

What it says names fields and never values. It costs nothing once it has seen enough.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from destination_bulk_tables.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from destination_bulk_tables.model import StreamKey

log = logging.getLogger(__name__)

_RECORDS = 100
_MOST_NAMES = 20
_LONGEST_NAME = 60
_CACHE_FIELD = "_airbyte_raw_id"
_decode = msgspec.json.Decoder(dict[str, Raw]).decode


class FieldSample:
    """One stream's. `sent`: fields with a column; `known`: others that are no surprise."""

    def __init__(
        self, stream: StreamKey, sent: Collection[str], known: Collection[str], *, is_open: bool
    ) -> None:
        self._stream = stream
        self._sent = frozenset(sent)
        self._known = self._sent | frozenset(known)
        self._is_open = is_open  # the schema declares nothing, so nothing is undeclared
        self._left = _RECORDS
        self._seen: set[str] = set()

    @property
    def is_done(self) -> bool:
        """Whether enough records were seen."""
        return self._left == 0

    def look(self, data: Sequence[Raw]) -> None:
        """Look at records before they are encoded. Raises `ConfigError` for another stream's."""
        fresh: set[str] = set()
        for raw in data[: self._left]:
            try:
                names = _decode(raw).keys()
            except (msgspec.DecodeError, RecursionError):
                continue  # the codec says what is wrong with it
            self._left -= bool(names)  # of an empty record nothing can be told
            fresh |= names - self._seen
        if not fresh:
            return
        self._seen |= fresh
        if _CACHE_FIELD in fresh - self._known:
            message = (
                f"Stream {self._stream}: its records come from PyAirbyte's cache, which renames "
                "columns, drops time zones, makes numbers text and sends the whole table again in "
                "each sync. Write with cache=False."
            )
            raise ConfigError(message, stream=self._stream)
        if self._sent.isdisjoint(self._seen):
            message = (
                f"Stream {self._stream}: its records hold none of the fields that are sent. They "
                f"hold: {_listed(self._seen)}. Sent are: {_listed(self._sent)}. Refresh the "
                "stream's schema, or correct tables[].columns."
            )
            raise ConfigError(message, stream=self._stream)
        undeclared = fresh - self._known
        if undeclared and not self._is_open:
            log.warning(
                "undeclared_fields stream=%s fields=%s effect=not_sent",
                self._stream,
                _listed(undeclared),
            )


def _listed(names: Iterable[str]) -> str:
    found = sorted(names)
    shown = ", ".join(name[:_LONGEST_NAME] for name in found[:_MOST_NAMES])
    return shown + (f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else "")
