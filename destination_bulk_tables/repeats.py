"""Rows that repeat a key on its way to the table: they replace what is queued or wait.

Invariants: no key is in two queued batches, nor queued while it is under way (sent and not
settled); of the versions that were not sent the newest by cursor, then by arrival, is kept, and the
others are settled when it is. Only rows whose key is under way wait; there is one place for each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain, repeat

from destination_bulk_tables.batcher import Batcher, is_older
from destination_bulk_tables.keyed_rows import (
    Queued,
    Version,
    body_size_of,
    hand_over,
    keep,
    n_older,
    size_of,
    take,
)
from destination_bulk_tables.lines import Lines
from destination_bulk_tables.model import Batch, Cut, Epoch, Key, RowBlock, Tombstone
from destination_bulk_tables.versions import SentVersions

KEY_BYTES = 200  # what a key costs in the sets that know it, beside its row
# what a replaced row counts for: next to nothing by itself, but where all rows repeat a few keys
# and the vendor stalls, the source must stop as well
_OLDER_BYTES = 500


@dataclass(slots=True)
class Repeats:
    """What one lane knows of its keys. Streams without keys cost nothing."""

    n_bytes: int = 0
    are_seen: bool = False
    n_older: int = 0  # replaced rows that are settled with the one that stays
    settled: SentVersions | None = None  # where rows have a cursor
    _known: set[Key] = field(default_factory=set)  # queued, under way or waiting
    _waiting: dict[Key, Version] = field(default_factory=dict)
    _free: dict[Key, None] = field(default_factory=dict)  # waiting, and nothing is under way
    _free_bytes: int = 0  # of the request's body that they would make
    _free_since: float = float("inf")
    _lingering: set[Key] = field(default_factory=set)  # settled, and known for a while
    _queued: dict[int, Queued] = field(default_factory=dict)
    _sent: dict[Key, bytes | None] = field(default_factory=dict)  # cursors of what is under way

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def held_bytes(self) -> int:
        """What waiting rows and replaced ones count for."""
        return self.n_bytes + _OLDER_BYTES * self.n_older

    @property
    def n_free(self) -> int:
        """Waiting rows that need not wait any more."""
        return len(self._free)

    def take_late(self, batch: Batch) -> Batch | None:
        """Leave out rows that are older than what the table holds of their key.

        They go to a batch without rows, which is settled.
        """
        found = set() if self.settled is None else self.settled.late(batch)
        late = {key for key in found if not self._is_on_its_way(key)}
        if not late:
            return None
        left = Batch(batch.id, batch.table, RowBlock((), 0, range(0)), batch.cut)
        hand_over(Queued(batch), left, late)
        keep(batch, late)
        self.n_older += n_older(left)
        return left

    def _is_on_its_way(self, key: Key) -> bool:
        return key in self._waiting or (key in self._known and key not in self._lingering)

    def admit(
        self, batch: Batch, queue: Iterable[Batch], sent: Callable[[], Iterable[Batch]], now: float
    ) -> None:
        """Settle what a new batch repeats: it keeps the rows that may be queued behind `queue`.

        `sent`: the batches under way.
        """
        self.n_older += n_older(batch)
        if not batch.keys or batch.keys.isdisjoint(self._known):
            self._known |= batch.keys
            return
        self.are_seen = True
        repeated = batch.keys & self._known
        self._known |= batch.keys
        blocked = repeated - self._replace_queued(batch, repeated, queue)
        if self._sent and blocked:
            blocked -= self._pass_over(batch, blocked, sent())
        for key, version in take(batch, blocked, now).items():
            self._wait(key, version)

    def leave(self, batch: Batch) -> None:
        """A queued batch is about to be sent: take out the rows that newer ones replaced."""
        queued = self._queued.pop(batch.id, None)
        if queued is not None and queued.gone:
            keep(batch, queued.gone)
        block = batch.block
        if block.cursors is not None:
            self._sent.update(zip(block.keys or (), block.cursors, strict=True))
            self._sent.update((stone.key, stone.cursor) for stone in block.tombstones)

    def is_spent(self, batch: Batch) -> bool:
        """Whether each row of a queued batch was replaced by a newer one."""
        queued = self._queued.get(batch.id)
        return queued is not None and len(queued.gone) == len(batch.keys)

    def linger(self, keys: AbstractSet[Key]) -> None:
        """The rows of a batch are in the table, but newer versions of them may not go yet."""
        self._remember(keys)
        self._lingering |= keys

    def settle(self, keys: AbstractSet[Key]) -> None:
        """The rows of a batch are in the table, or rejected: what waited for them may go."""
        if self._lingering.isdisjoint(keys):
            self._remember(keys)
        self._lingering -= keys
        if self._waiting and not keys.isdisjoint(self._waiting.keys()):
            for key in [key for key in self._waiting if key in keys]:
                version = self._waiting[key]
                self._free[key] = None
                self._free_bytes += body_size_of(version)
                self._free_since = min(self._free_since, version.since)
            keys -= self._waiting.keys()
        self._known -= keys

    def _remember(self, keys: AbstractSet[Key]) -> None:
        if self._sent:
            cursors = map(self._sent.pop, keys, repeat(None))
            if self.settled is None:
                deque(cursors, maxlen=0)
            else:
                self.settled.remember(zip(keys, cursors, strict=True))

    def due_at(self, batcher: Batcher, max_wait_s: float) -> float:
        """When (monotonic) rows that need not wait any more are to be sent."""
        room = batcher.max_bytes - batcher.overhead + 1
        if len(self._free) >= batcher.max_rows or self._free_bytes >= room:
            return float("-inf")
        return self._free_since + max_wait_s

    def cut(self, batcher: Batcher, reason: Cut) -> Batch:
        """Take what may go, as far as a request holds it. Something must be free."""
        rows: list[bytes] = []
        keys: list[Key] = []
        cursors: list[bytes] = []
        originals: list[bytes] = []
        indexes: list[int] = []
        tombstones: list[Tombstone] = []
        epochs: list[tuple[Epoch, int]] = []
        older: dict[Key, list[Epoch]] = {}
        has_cursor = False
        room = batcher.max_bytes - batcher.overhead + 1
        for position, key in enumerate(list(self._free)):
            version = self._waiting[key]
            room -= body_size_of(version)
            if position and (position >= batcher.max_rows or room < 0):
                break
            del self._waiting[key], self._free[key]
            has_cursor = has_cursor or version.cursor is not None
            self.n_bytes -= size_of(version)
            self._free_bytes -= body_size_of(version)
            if version.row is None:
                tombstones.append(Tombstone(position, key, version.cursor))
            else:
                rows.append(version.row)
                keys.append(key)
                cursors.append(version.cursor or b"null")
                originals.append(version.original)
                indexes.append(position)
            epochs.append((version.epoch, 1))
            if version.older:
                older[key] = version.older
        if not self._free:
            self._free_since = float("inf")
        block = RowBlock(
            pieces=[b",".join(rows)] if rows else (),
            count=len(rows),
            indexes=indexes,
            keys=keys,
            cursors=cursors if has_cursor else None,
            tombstones=tuple(tombstones),
            originals=Lines.of_list(originals) if any(originals) else None,
        )
        stones = (stone.key for stone in tombstones)
        batch = batcher.close(block, frozenset(chain(keys, stones)), reason, epochs)
        batch.older = older
        for left in older.values():
            batch.moved.update(left)
        return batch

    def _wait(self, key: Key, version: Version) -> None:
        rival = self._waiting.get(key)
        if rival is not None:
            version.since = rival.since
            if is_older(version.cursor, rival.cursor):
                version, rival = rival, version
            version.older += [rival.epoch, *rival.older]
            self.n_older += 1
            self.n_bytes -= size_of(self._waiting[key])
            if key in self._free:
                self._free_bytes += body_size_of(version) - body_size_of(self._waiting[key])
        self.n_bytes += size_of(version)
        self._waiting[key] = version

    def _replace_queued(
        self, batch: Batch, repeated: frozenset[Key], queue: Iterable[Batch]
    ) -> set[Key]:
        """Let the newer of a queued row and its repetition stay; the repeated keys found queued."""
        found: set[Key] = set()
        mine: Queued | None = None
        for other in queue:
            hits = repeated & other.keys
            if not hits:
                continue
            queued = self._queued.get(other.id)
            if queued is None:
                queued = self._queued[other.id] = Queued(other)
            hits = frozenset(hits - queued.gone)
            mine = mine or Queued(batch)
            newer = {key for key in hits if not is_older(mine.cursor(key), queued.cursor(key))}
            hand_over(queued, batch, newer)
            hand_over(mine, other, hits - newer)
            self.n_older += len(hits)
            found |= hits
        if mine is not None and mine.gone:
            keep(batch, mine.gone)
        return found

    def _pass_over(
        self, batch: Batch, repeated: frozenset[Key], sent: Iterable[Batch]
    ) -> frozenset[Key]:
        """Leave out rows older than the version under way, which stands for them then."""
        mine = Queued(batch)
        stale = frozenset(
            key for key in repeated if is_older(mine.cursor(key), self._sent.get(key))
        )
        if stale:
            for other in sent:
                hand_over(mine, other, stale & other.keys)
            keep(batch, stale)
            self.n_older += len(stale)
        return stale
