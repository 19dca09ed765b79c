"""The rows of a batch by their keys: which leave it for another, and whose epochs go with them.

Invariant: each version of a key is settled by one batch, or waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import compress

from destination_bulk_tables.model import Batch, Epoch, Key

_VERSION_BYTES = 500  # what a waiting row costs beside its text


@dataclass(slots=True)
class Version:
    """A row (None: a tombstone) that waits, and the epochs of the older ones that it replaced."""

    row: bytes | None
    cursor: bytes | None
    epoch: Epoch
    older: list[Epoch]
    since: float
    original: bytes = b""


def n_older(batch: Batch) -> int:
    """How many replaced rows a batch settles."""
    return sum(map(len, batch.older.values()))


class Queued:
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


def hand_over(source: Queued, target: Batch, keys: AbstractSet[Key]) -> None:
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


def take(batch: Batch, keys: AbstractSet[Key], now: float) -> dict[Key, Version]:
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
    keep(batch, keys)
    return {
        key: Version(
            *texts[key], epoch=epoch, older=older, since=now, original=originals.get(key, b"")
        )
        for key, (epoch, *older) in epochs.items()
    }


def keep(batch: Batch, gone: AbstractSet[Key]) -> None:
    """Leave only the rows and tombstones of other keys in a batch."""
    block = batch.block
    stays = [i for i, key in enumerate(block.keys or ()) if key not in gone]
    batch.block = block.select(stays)
    batch.block.tombstones = tuple(t for t in block.tombstones if t.key not in gone)
    batch.keys -= gone


def body_size_of(version: Version) -> int:
    """What it takes of a request's body, with a comma."""
    return len(version.row) + 1 if version.row is not None else 0


def size_of(version: Version) -> int:
    """What it takes of memory."""
    return len(version.row or b"") + len(version.original) + _VERSION_BYTES
