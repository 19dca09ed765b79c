"""The rows of a stream that replaces its table, staged on disk until the source has completed.

States: staging -> sealed -> batches. Nothing here touches the remote table: the engine does, after
`seal`. Where rows are kept by key, `seal` finds the versions that a later one supersedes, so that
no key is sent twice in a load.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from itertools import chain, compress, islice

import msgspec

from destination_bulk_tables.batcher import Batcher, last_versions
from destination_bulk_tables.keys import key_of, key_tokens, text_of
from destination_bulk_tables.lines import Lines
from destination_bulk_tables.model import Batch, Epoch, Key, RowBlock
from destination_bulk_tables.outcomes import Load
from destination_bulk_tables.spool import DiskBudget, KeyFilter, Spool

_TOMBSTONE = b"["  # a row starts with a brace
_tokens = msgspec.json.Decoder(list[msgspec.Raw]).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class StagedLoad:
    """One stream's rows; `key_columns` are the columns of their key, if they are kept by key.

    No row is larger than a request may be: that is judged before anything is staged.
    `keeps_originals`: the lines that brought the rows are staged beside them.
    """

    def __init__(
        self,
        budget: DiskBudget,
        key_columns: tuple[str, ...],
        *,
        keeps_originals: bool = False,
    ) -> None:
        self._rows = Spool(budget)
        self._cursors = Spool(budget)
        self._originals = Spool(budget) if keeps_originals else None
        self._key_columns = key_columns
        self._filter = KeyFilter() if key_columns else None
        self._epochs: list[tuple[Epoch, int]] = []
        self._dropped: set[int] = set()
        self._is_read = False

    def stage(self, block: RowBlock, epoch: Epoch) -> None:
        """Append a block. Raises `TransientError` when the disk or its budget is used up."""
        lines: list[bytes] = block.rows()
        originals = list(block.originals or [b""] * block.count)
        if self._filter is not None:
            keys: list[Key] = list(block.keys or ())
            cursors = list(block.cursors or ())
            for tombstone in block.tombstones:
                lines.append(b"[%b]" % key_tokens(tombstone.key))
                keys.append(tombstone.key)
                cursors.append(tombstone.cursor or b"null")
                self._filter.suspect(hash(tombstone.key))
            if block.tombstones:
                order = sorted(
                    range(len(lines)),
                    key=[*block.indexes, *(t.index for t in block.tombstones)].__getitem__,
                )
                lines, keys = [lines[i] for i in order], [keys[i] for i in order]
                originals += [b""] * len(block.tombstones)
                originals = [originals[i] for i in order]
                cursors = [cursors[i] for i in order] if block.cursors is not None else []
            self._filter.add([hash(key) for key in keys])
            self._cursors.append(cursors)
        self._rows.append(lines)
        if self._originals is not None:
            self._originals.append(originals)
        self._epochs.append((epoch, len(lines)))

    def seal(self, max_rows: int, max_bytes: int) -> Load:
        """No more rows will come: settle which are sent, and tell how large the load is at most."""
        if self._filter is not None:
            self._dropped = self._superseded(self._filter)
            self._filter = None
        rows = self._rows.lines - len(self._dropped)
        n_bytes = self._rows.n_bytes
        if not rows or (rows <= max_rows and n_bytes + rows - 1 <= max_bytes):
            return Load(rows, n_bytes, min(1, rows))
        requests = math.ceil(rows / max_rows)
        size, longest = n_bytes + rows, self._rows.longest + 1
        if max_rows * longest > max_bytes:
            # a batch cut by bytes has no room for one more row, nor for the next batch's first
            requests += min(size // max(1, max_bytes - longest), 2 * size // max_bytes)
        return Load(rows, n_bytes, requests)

    def _superseded(self, key_filter: KeyFilter) -> set[int]:
        suspects = key_filter.suspects()
        wanted = next(suspects, None)
        if wanted is None:
            return set()
        versions: list[tuple[int, Key, bytes | None]] = []
        tombstones: set[int] = set()
        cursors = chain.from_iterable(self._cursors.read())
        for number, line in enumerate(chain.from_iterable(self._rows.read())):
            cursor = next(cursors, None)
            if number == wanted:
                if line.startswith(_TOMBSTONE):
                    tombstones.add(number)
                versions.append((number, self._key_of(line), cursor))
                wanted = next(suspects, None)
        winners = set(last_versions(versions).values())
        return {
            number for number, _, _ in versions if number not in winners or number in tombstones
        }

    def _key_of(self, line: bytes) -> Key:
        if line.startswith(_TOMBSTONE):
            return key_of([bytes(token) for token in _tokens(line)])
        members = _members(line)
        return key_of([bytes(members.get(column, b"null")) for column in self._key_columns])

    def batches(self, batcher: Batcher) -> Iterator[Batch]:
        """Read the load back as batches; the first time the superseded rows are settled as well."""
        epochs = iter(self._epochs)
        originals = chain.from_iterable(self._originals.read() if self._originals else ())
        epoch, left = Epoch(), 0
        number = 0
        is_first, self._is_read = not self._is_read, True
        for lines in self._rows.read():
            start = 0
            while start < len(lines):
                while not left:
                    epoch, left = next(epochs)
                part = lines[start : start + left]
                start += len(part)
                left -= len(part)
                kept, brought = part, list(islice(originals, len(part)))
                if self._dropped:
                    stays = [i not in self._dropped for i in range(number, number + len(part))]
                    kept, brought = list(compress(part, stays)), list(compress(brought, stays))
                number += len(part)
                if is_first:
                    epoch.delivered += len(part) - len(kept)
                if kept:
                    block = RowBlock([b",".join(kept)], len(kept), range(len(kept)))
                    block.originals = Lines.of_list(brought) if brought else None
                    yield from batcher.extend(block, epoch, 0.0, [])
        if batcher.opened_at is not None:
            yield batcher.cut("end")

    def sample(self, count: int) -> dict[bytes, int]:
        """Rows from all over the sealed load, so many at least; how often each is in it."""
        step = max(1, (self._rows.lines - len(self._dropped)) // count)
        sample = dict.fromkeys(islice(self._kept(), 0, None, step), 0)
        for line in self._kept():
            if line in sample:
                sample[line] += 1
        return sample

    def _kept(self) -> Iterator[bytes]:
        lines = chain.from_iterable(self._rows.read())
        return (line for number, line in enumerate(lines) if number not in self._dropped)

    @property
    def superseded(self) -> int:
        """Rows not sent because a later version of their key is, or because it was deleted."""
        return len(self._dropped)

    def originals_of(self, keys: Collection[str]) -> dict[str, bytes]:
        """The lines that brought the rows sent of these keys, where they are staged: reads all."""
        found: dict[str, bytes] = {}
        if self._originals is None or not self._key_columns:
            return found
        rows = chain.from_iterable(self._rows.read())
        lines = chain.from_iterable(self._originals.read())
        for number, (row, line) in enumerate(zip(rows, lines, strict=True)):
            if number not in self._dropped:
                key = text_of(self._key_of(row))
                if key in keys:
                    found[key] = line
        return found

    def close(self) -> None:
        for spool in (self._rows, self._cursors, self._originals):
            if spool is not None:
                spool.close()
