"""Looks whether a stream's first records hold the fields that its schema declares.

Later ones are looked at where a whole run of them brings no value. What it says names fields and
never values; once it has seen enough, a run that brings one costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, KeysView, Sequence

import msgspec
from msgspec import Raw

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.model import UNDECODABLE, StreamKey

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
        return self._left == 0

    def look(self, data: Sequence[Raw]) -> None:
        """Look at records before they are encoded. Raises `ConfigError` for another stream's."""
        fresh: set[str] = set()
        for names in _names_of(data[: self._left]):
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
            raise self._strange("its records hold", self._seen)
        undeclared = fresh - self._known
        if undeclared and not self._is_open:
            log.warning(
                "undeclared_fields stream=%s fields=%s effect=not_sent",
                self._stream,
                _listed(undeclared),
            )

    def look_at_blank(self, data: Sequence[Raw]) -> None:
        """Look at later records without a value. Raises `ConfigError` where fields were renamed.

        Then fields that nobody has seen come in place of all that are sent; a record may well have
        nothing but fields that are left out.
        """
        held: set[str] = set().union(*_names_of(data[:_RECORDS]))
        if self._sent.isdisjoint(held) and held - self._known - self._seen:
            raise self._strange("from some record on its records hold", held)

    def _strange(self, what: str, held: Collection[str]) -> ConfigError:
        message = (
            f"Stream {self._stream}: {what} none of the fields that are sent. They hold: "
            f"{_listed(held)}. Sent are: {_listed(self._sent)}. Refresh the stream's schema, or "
            "correct tables[].columns."
        )
        return ConfigError(message, stream=self._stream)


def _names_of(data: Iterable[Raw]) -> Iterator[KeysView[str]]:
    """The fields of each record; of one that cannot be read the codec says what is wrong."""
    for raw in data:
        try:
            yield _decode(raw).keys()
        except UNDECODABLE:
            continue


def _listed(names: Iterable[str]) -> str:
    found = sorted(names)
    shown = ", ".join(name[:_LONGEST_NAME] for name in found[:_MOST_NAMES])
    return shown + (f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else "")
