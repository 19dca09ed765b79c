"""The newest version of a key wins whatever request it goes out in: what was sent is remembered.

Bounded: the keys of the last so many rows of a table are known, in two generations of which the
older is forgotten when the younger is full.
"""

from __future__ import annotations

from collections.abc import Iterable

from destination_bulk_tables.batcher import is_older
from destination_bulk_tables.model import Batch, Key

MOST_KEYS = 100_000  # of all tables together, in each generation


class SentVersions:
    """The cursors of one table's keys as they were settled. `most`: keys of a generation."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._young: dict[Key, bytes | None] = {}
        self._old: dict[Key, bytes | None] = {}

    def remember(self, versions: Iterable[tuple[Key, bytes | None]]) -> None:
        """These versions of keys are in the table, or were refused."""
        self._young.update(versions)
        if len(self._young) > self._most:
            self._young, self._old = {}, self._young

    def late(self, batch: Batch) -> set[Key]:
        """The keys of which a batch brings an older version than was settled.

        A deletion without a cursor is never older.
        """
        known = (self._young.keys() & batch.keys) | (self._old.keys() & batch.keys)
        block = batch.block
        if not known or block.cursors is None:
            return set()
        pairs = zip(block.keys or (), block.cursors, strict=True)
        late = {key for key, cursor in pairs if key in known and self._is_late(key, cursor)}
        stones = (stone for stone in block.tombstones if stone.key in known and stone.cursor)
        return late | {stone.key for stone in stones if self._is_late(stone.key, stone.cursor)}

    def _is_late(self, key: Key, cursor: bytes | None) -> bool:
        sent = self._young[key] if key in self._young else self._old.get(key)
        return is_older(cursor, sent)
