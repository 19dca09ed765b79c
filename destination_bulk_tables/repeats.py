"""Rows that repeat a key on its way to the table: they replace what is queued or wait.

Invariants: no key is in two queued batches, nor queued while it is under way (sent and not
settled); of the versions that were not sent the newest by cursor, then by arrival, is kept, and the
others are settled when it is. Only rows whose key is under way wait; there is one place for each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain, compress, repeat

from destination_bulk_tables.batcher import Batcher, is_older
from destination_bulk_tables.lines import Lines
from destination_bulk_tables.model import Batch, Cut, Epoch, Key, RowBlock, Tombstone
from destination_bulk_tables.versions import SentVersions

KEY_BYTES = 200  # what a key costs in the sets that know it, beside its row
_VERSION_BYTES = 500  # what a waiting row costs beside its text
# what a replaced row counts for: next to nothing by itself, but where all rows repeat a few keys
# and the vendor stalls, the source must stop as well
_OLDER_BYTES = 500


@dataclass(slots=True)
class Version:
    """A row (None: a tombstone) that waits, and the epochs of the older ones that it replaced."""

    row: bytes | None
    cursor: bytes | None
    epoch: Epoch
    older: list[Epoch]
    since: float
    original: bytes = b""


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
    _free_bytes: int = 0
    _free_since: float = float("inf")
    _queued: dict[int, _Queued] = field(default_factory=dict)
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

    def leave_out_late(self, batch: Batch) -> None:
        """Drop rows that are older than what the table holds of their key; they count as in it."""
        if self.settled is not None:
            late = self.settled.late(batch) - self._known
            if late:
                _keep(batch, late)

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
        for key, version in _take(batch, blocked, now).items():
            self._wait(key, version)

    def leave(self, batch: Batch) -> None:
        """A queued batch is about to be sent: take out the rows that newer ones replaced."""
        queued = self._queued.pop(batch.id, None)
        if queued is not None and queued.gone:
            _keep(batch, queued.gone)
        block = batch.block
        if block.cursors is not None:
            self._sent.update(zip(block.keys or (), block.cursors, strict=True))
            self._sent.update((stone.key, stone.cursor) for stone in block.tombstones)

    def is_spent(self, batch: Batch) -> bool:
        """Whether each row of a queued batch was replaced by a newer one."""
        queued = self._queued.get(batch.id)
        return queued is not None and len(queued.gone) == len(batch.keys)

    def settle(self, keys: AbstractSet[Key]) -> None:
        """The rows of a batch are in the table, or rejected: what waited for them may go."""
        if self._sent:
            cursors = map(self._sent.pop, keys, repeat(None))
            if self.settled is None:
                deque(cursors, maxlen=0)
            else:
                self.settled.remember(zip(keys, cursors, strict=True))
        if self._waiting and not keys.isdisjoint(self._waiting.keys()):
            for key in [key for key in self._waiting if key in keys]:
                version = self._waiting[key]
                self._free[key] = None
                self._free_bytes += _size(version)
                self._free_since = min(self._free_since, version.since)
            keys -= self._waiting.keys()
        self._known -= keys

    def due_at(self, batcher: Batcher, max_wait_s: float) -> float:
        """When (monotonic) rows that need not wait any more are to be sent."""
        room = batcher.max_bytes - batcher.overhead
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
            room -= len(version.row or b"") + 1
            if position and (position >= batcher.max_rows or room < 0):
                break
            del self._waiting[key], self._free[key]
            has_cursor = has_cursor or version.cursor is not None
            self.n_bytes -= _size(version)
            self._free_bytes -= _size(version)
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
            self.n_bytes -= _size(self._waiting[key])
            if key in self._free:
                self._free_bytes += _size(version) - _size(self._waiting[key])
        self.n_bytes += _size(version)
        self._waiting[key] = version

    def _replace_queued(
        self, batch: Batch, repeated: frozenset[Key], queue: Iterable[Batch]
    ) -> set[Key]:
        """Let the newer of a queued row and its repetition stay; the repeated keys found queued."""
        found: set[Key] = set()
        mine: _Queued | None = None
        for other in queue:
            hits = repeated & other.keys
            if not hits:
                continue
            queued = self._queued.get(other.id)
            if queued is None:
                queued = self._queued[other.id] = _Queued(other)
            hits = frozenset(hits - queued.gone)
            mine = mine or _Queued(batch)
            newer = {key for key in hits if not is_older(mine.cursor(key), queued.cursor(key))}
            _hand_over(queued, batch, newer)
            _hand_over(mine, other, hits - newer)
            self.n_older += len(hits)
            found |= hits
        if mine is not None and mine.gone:
            _keep(batch, mine.gone)
        return found

    def _pass_over(
        self, batch: Batch, repeated: frozenset[Key], sent: Iterable[Batch]
    ) -> frozenset[Key]:
        """Leave out rows older than the version under way, which stands for them then."""
        mine = _Queued(batch)
        stale = frozenset(
            key for key in repeated if is_older(mine.cursor(key), self._sent.get(key))
        )
        if stale:
            for other in sent:
                _hand_over(mine, other, stale & other.keys)
            _keep(batch, stale)
            self.n_older += len(stale)
        return stale


def n_older(batch: Batch) -> int:
    """How many replaced rows a batch settles."""
    return sum(map(len, batch.older.values()))


class _Queued:
    """A queued batch by key; `gone` are the keys whose row another batch will bring."""

    def __init__(self, batch: Batch) -> None:
        block = batch.block
        keys = block.keys or ()
        self.batch = batch
        self.gone: set[Key] = set()
        self._indexes = dict(zip(keys, block.indexes, strict=True))
        self._cursors: dict[Key, bytes | None] = {}
        if block.cursors:
            self._cursors.update(zip(keys, block.cursors, strict=True))
        for stone in block.tombstones:
            self._indexes[stone.key] = stone.index
            self._cursors[stone.key] = stone.cursor

    def cursor(self, key: Key) -> bytes | None:
        return self._cursors.get(key)

    def give_up(self, keys: AbstractSet[Key]) -> dict[Key, list[Epoch]]:
        """The epochs of all versions of these keys, which are not settled here any more."""
        self.gone |= keys
        places = {key: self._indexes[key] for key in keys}
        return _epochs_of(self.batch, places)


def _hand_over(source: _Queued, target: Batch, keys: AbstractSet[Key]) -> None:
    """Have another batch settle the versions of these keys."""
    for key, epochs in source.give_up(keys).items():
        target.older.setdefault(key, []).extend(epochs)
        target.moved.update(epochs)


def _epochs_of(batch: Batch, places: dict[Key, int]) -> dict[Key, list[Epoch]]:
    """Take the epochs of each version of these keys out of a batch; `places` are their indexes."""
    found: dict[Key, list[Epoch]] = {}
    runs = iter(batch.epochs)
    epoch, end = next(runs)[0], batch.epochs[0][1]
    for key, index in sorted(places.items(), key=lambda item: item[1]):
        while index >= end:
            epoch, count = next(runs)
            end += count
        found[key] = [epoch, *batch.older.pop(key, ())]
        batch.moved.subtract(found[key])
    return found


def _take(batch: Batch, keys: AbstractSet[Key], now: float) -> dict[Key, Version]:
    """Take rows and tombstones of these keys out of a batch that is not queued yet."""
    if not keys:
        return {}
    block = batch.block
    chosen = list(map(keys.__contains__, block.keys or ()))
    part = block.select(list(compress(range(block.count), chosen)))
    cursors: Sequence[bytes | None] = part.cursors or (None,) * part.count
    texts: dict[Key, tuple[bytes | None, bytes | None]] = dict(
        zip(part.keys or (), zip(part.rows(), cursors, strict=True), strict=True)
    )
    places = dict(zip(part.keys or (), part.indexes, strict=True))
    for stone in block.tombstones:
        if stone.key in keys:
            texts[stone.key], places[stone.key] = (None, stone.cursor), stone.index
    epochs = _epochs_of(batch, places)
    originals = dict(zip(part.keys or (), part.originals or (), strict=False))
    _keep(batch, keys)
    return {
        key: Version(
            *texts[key], epoch=epoch, older=older, since=now, original=originals.get(key, b"")
        )
        for key, (epoch, *older) in epochs.items()
    }


def _keep(batch: Batch, gone: AbstractSet[Key]) -> None:
    """Leave only the rows and tombstones of other keys in a batch."""
    block = batch.block
    stays = [i for i, key in enumerate(block.keys or ()) if key not in gone]
    batch.block = block.select(stays)
    batch.block.tombstones = tuple(t for t in block.tombstones if t.key not in gone)
    batch.keys -= gone


def _size(version: Version) -> int:
    return len(version.row or b"") + len(version.original) + _VERSION_BYTES
