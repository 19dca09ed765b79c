"""Rows of one table to batches, cut by rows, by exact bytes of the request body, and by age.

Invariants: no body is larger than `max_bytes`, no batch longer than `max_rows`; the rows of a batch
are in the order they came; each row goes into exactly one batch or is handed back as too large. In
a keyed batch each key occurs once: the last version by cursor, then by arrival.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from itertools import chain, compress, count
from operator import ne

import msgspec

from destination_bulk_tables.lines import Lines
from destination_bulk_tables.model import (
    Batch,
    Cut,
    Epoch,
    Key,
    RejectedRow,
    RowBlock,
    Table,
    Tombstone,
)
from destination_bulk_tables.timestamps import instant

_ids = count(1)
_NULL = b"null"


@dataclass(slots=True)
class Batcher:
    """The open batch of one table. `overhead`: bytes of a body beyond its rows and commas."""

    table: Table
    max_rows: int
    max_bytes: int
    overhead: int
    opened_at: float | None = None
    _blocks: list[RowBlock] = field(default_factory=list)
    _epochs: list[tuple[Epoch, int]] = field(default_factory=list)
    _rows: int = 0
    _bytes: int = 0
    _original_bytes: int = 0
    _length: int = 0

    @property
    def n_bytes(self) -> int:
        """Size of the body that the open batch would make now."""
        return self._bytes

    @property
    def held_bytes(self) -> int:
        """What the open batch takes of memory, with the lines that brought its rows."""
        return self._bytes + self._original_bytes

    @property
    def room(self) -> int:
        """Rows that the open batch still takes: no larger block needs to be taken apart."""
        return self.max_rows - self._rows

    def extend(
        self, block: RowBlock, epoch: Epoch | None, now: float, rejected: list[RejectedRow]
    ) -> Iterator[Batch]:
        """Add a block; yield the batches this fills. Rows too large for a body go to `rejected`."""
        for part in self._parts(block, rejected):
            # a batch full of rows was cut at once, so only bytes can be exceeded here
            if self._length and self._grown(part) > self.max_bytes:
                yield self.cut("bytes")
            if self.opened_at is None:
                self.opened_at = now
            self._bytes = self._grown(part)
            self._rows += part.count
            self._length += len(part)
            if part.originals:
                self._original_bytes += part.originals.n_bytes
            self._blocks.append(part)
            if epoch is not None:
                self._count(epoch, len(part))
            if self._length >= self.max_rows:
                yield self.cut("rows")

    def _count(self, epoch: Epoch, rows: int) -> None:
        if self._epochs and self._epochs[-1][0] is epoch:
            rows += self._epochs.pop()[1]
        self._epochs.append((epoch, rows))

    def _grown(self, part: RowBlock) -> int:
        commas = 1 if self._rows and part.count else 0
        return (self._bytes or self.overhead) + part.n_bytes + commas

    def _parts(self, block: RowBlock, rejected: list[RejectedRow]) -> Iterator[RowBlock]:
        """The block as it is when it fits into the open batch, else in pieces that fit."""
        fits = self._rows + block.count <= self.max_rows and self._grown(block) <= self.max_bytes
        if fits or not block.count:
            yield block
            return
        block = self.fitting(block, rejected)
        sizes: list[int] = []
        rows, n_bytes = self._rows, self._bytes or self.overhead
        for row in block.rows():
            grown = n_bytes + len(row) + (1 if rows else 0)
            if not sizes or rows >= self.max_rows or grown > self.max_bytes:
                if sizes or rows >= self.max_rows or grown > self.max_bytes:
                    rows, grown = 0, self.overhead + len(row)
                sizes.append(0)
            sizes[-1] += 1
            rows, n_bytes = rows + 1, grown
        if block.count:
            yield from block.split(sizes)
        elif block.tombstones:
            yield block

    def fitting(self, block: RowBlock, rejected: list[RejectedRow]) -> RowBlock:
        """The block without the rows that no request can hold; these go to `rejected`."""
        room = self.max_bytes - self.overhead
        if block.n_bytes <= room:
            return block
        keep: list[int] = []
        for position, row in enumerate(block.rows()):
            if len(row) <= room:
                keep.append(position)
                continue
            reason = (
                f"the row takes {len(row)} bytes and batching.max_megabytes allows "
                f"{self.max_bytes} in a request"
            )
            index = block.indexes[position]
            stream = self.table.stream
            rejected.append(RejectedRow(stream, "shape", "too_large", reason, row, index))
        return block if len(keep) == block.count else block.select(keep)

    def cut(self, reason: Cut) -> Batch:
        """Close the open batch, which must not be empty."""
        block = _concatenate(self._blocks)
        keys = frozenset(_all_keys(block))
        losers: dict[Key, list[int]] = {}
        if len(keys) < len(block) and block.keys is not None:
            block, losers = reduce(block)
        batch = self.close(block, keys, reason, self._epochs)
        for key, indexes in losers.items():
            batch.older[key] = [epoch for i in indexes if (epoch := batch.epoch_of(i)) is not None]
        self._blocks, self._epochs = [], []
        self._rows = self._bytes = self._original_bytes = self._length = 0
        self.opened_at = None
        return batch

    def close(
        self,
        block: RowBlock,
        keys: frozenset[Key],
        reason: Cut,
        epochs: Sequence[tuple[Epoch, int]],
    ) -> Batch:
        """Make a batch of rows of which no key occurs twice."""
        return Batch(next(_ids), self.table, block, reason, tuple(epochs), keys)


def _all_keys(block: RowBlock) -> Sequence[Key]:
    keys = block.keys or ()
    return [*keys, *(tombstone.key for tombstone in block.tombstones)] if block.tombstones else keys


def _concatenate(blocks: Sequence[RowBlock]) -> RowBlock:
    """One block of many; its indexes are positions in the batch, tombstones included."""
    keyed, cursored = blocks[0].keys is not None, blocks[0].cursors is not None
    indexes: list[int] | range = []
    tombstones: list[Tombstone] = []
    originals: Lines | None = None
    offset = 0
    if any(block.tombstones for block in blocks):
        positions: list[int] = []
        for block in blocks:
            order = sorted([*block.indexes, *(t.index for t in block.tombstones)])
            place = {index: offset + i for i, index in enumerate(order)}
            positions += [place[index] for index in block.indexes]
            tombstones += [replace(t, index=place[t.index]) for t in block.tombstones]
            offset += len(block)
        indexes = positions
    else:
        indexes = range(sum(block.count for block in blocks))
    if any(block.originals for block in blocks):
        originals = Lines.joined(b.originals or Lines.of_list([b""] * b.count) for b in blocks)
    return RowBlock(
        pieces=[piece for block in blocks for piece in block.pieces],
        count=sum(block.count for block in blocks),
        indexes=indexes,
        keys=list(chain.from_iterable(block.keys or () for block in blocks)) if keyed else None,
        cursors=list(chain.from_iterable(block.cursors or () for block in blocks))
        if cursored
        else None,
        tombstones=tuple(tombstones),
        originals=originals,
    )


def reduce(block: RowBlock) -> tuple[RowBlock, dict[Key, list[int]]]:
    """Keep the last version of each key, by cursor, then by arrival; a tombstone counts as one.

    Also returns the indexes of the others.
    """
    keys = block.keys or []
    repeated = _repeated(_all_keys(block))
    versions: list[tuple[int, Key, bytes | None]] = [
        (block.indexes[i], keys[i], block.cursors[i] if block.cursors else None)
        for i in compress(count(), map(repeated.__contains__, keys))
    ]
    versions += [(t.index, t.key, t.cursor) for t in block.tombstones]
    versions.sort()
    winners = last_versions(versions)
    lost: dict[Key, list[int]] = {}
    for index, key, _ in versions:
        if winners[key] != index:
            lost.setdefault(key, []).append(index)
    losers = set(chain.from_iterable(lost.values()))
    kept = block.select([i for i, index in enumerate(block.indexes) if index not in losers])
    kept.tombstones = tuple(t for t in block.tombstones if t.index not in losers)
    return kept, lost


def _repeated(keys: Sequence[Key]) -> set[Key]:
    last = dict(zip(keys, count()))
    return set(compress(keys, map(ne, map(last.__getitem__, keys), count())))


def last_versions(versions: Sequence[tuple[int, Key, bytes | None]]) -> dict[Key, int]:
    """The index of the winning version per key; `versions` are (index, key, cursor)."""
    best: dict[Key, tuple[int, bytes | None]] = {}
    for index, key, cursor in versions:
        rival = best.get(key)
        if rival is None or cursor == rival[1] or not is_older(cursor, rival[1]):
            best[key] = (index, cursor)
    return {key: index for key, (index, _) in best.items()}


def is_older(cursor: bytes | None, than: bytes | None) -> bool:
    """Compare two cursor tokens: null is oldest; numbers and timestamps by value, else text."""
    mine, theirs = cursor or _NULL, than or _NULL
    if _NULL in {mine, theirs}:
        return mine == _NULL and theirs != _NULL
    try:
        return Decimal(mine.decode()) < Decimal(theirs.decode())
    except InvalidOperation:
        pass
    instants = instant(mine), instant(theirs)
    if instants[0] is not None and instants[1] is not None:
        return instants[0] < instants[1]
    return _text(mine) < _text(theirs)


def _text(token: bytes) -> str:
    return str(msgspec.json.decode(token)) if token.startswith(b'"') else token.decode()
