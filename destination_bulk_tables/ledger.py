"""Decides which checkpoints may be acknowledged.

Invariants: a checkpoint leaves only when each row of its scope that came before it is delivered or
rejected; the checkpoints of a scope leave in the order they came. Streams and global checkpoints do
not mix in one sync. The ledger does no I/O and knows no batch: the engine tells it what was
read and what became of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import msgspec

from destination_bulk_tables.errors import BadInput
from destination_bulk_tables.model import Epoch, StreamKey
from destination_bulk_tables.states import Kept, StateStore

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A STATE message waiting for the epochs before it; `state` is the JSON object as it came."""

    state: bytes
    epochs: tuple[Epoch, ...]

    def acknowledge(self) -> bytes:
        """The STATE message to print: as it came, with true counts in `destinationStats`."""
        stats = {"recordCount": float(sum(epoch.delivered for epoch in self.epochs))}
        rejected = sum(epoch.rejected for epoch in self.epochs)
        if rejected:
            stats["rejectedRecordCount"] = float(rejected)
        fields = _FIELDS.decode(self.state)
        fields["destinationStats"] = msgspec.Raw(msgspec.json.encode(stats))
        return b'{"type":"STATE","state":%b}' % msgspec.json.encode(fields)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A state that is kept. `before`: more rows it waits for; `is_free`: held tables are not."""

    kept: Kept
    epochs: tuple[Epoch, ...]
    before: tuple[Epoch, ...]
    is_free: bool

    def is_due(self, *, is_held: bool) -> bool:
        settled = all(epoch.is_settled for epoch in chain(self.epochs, self.before))
        return settled and (self.is_free or not is_held)


class Ledger:
    """One open epoch a stream, one queue of checkpoints a scope (None: the global scope)."""

    def __init__(self, store: StateStore | None = None) -> None:
        self._open: dict[StreamKey, Epoch] = {}
        # the rows of a stream before a state of no stream of the catalog, still to be checkpointed
        self._passed: dict[StreamKey, list[Epoch]] = {}
        self._queues: dict[StreamKey | None, deque[_Waiting]] = {}
        self._held: set[StreamKey] = set()
        self._store = store or StateStore()
        self.taken_bytes = 0

    def hold(self, stream: StreamKey) -> None:
        """Acknowledge nothing of a stream whose rows wait for the end of the source."""
        self._held.add(stream)

    def release(self, stream: StreamKey) -> None:
        """The rows of a held stream are in their table."""
        self._held.discard(stream)

    def count_read(self, stream: StreamKey, count: int) -> Epoch:
        """Count rows read; they belong to the epoch that their scope's next checkpoint closes."""
        epoch = self._open.get(stream)
        if epoch is None:
            epoch = self._open[stream] = Epoch(stream=stream)
        epoch.read += count
        return epoch

    def checkpoint(self, state: bytes, scope: StreamKey | None, *, is_known: bool = True) -> None:
        """Close the open epochs of the scope and queue behind its earlier checkpoints.

        A state of a stream that is not in the catalog waits for every row read so far: it may be
        about any of them.
        """
        if self._queues and (scope is None) is not (None in self._queues):
            message = "The source sent both STREAM and GLOBAL states; a sync must use one kind."
            raise BadInput(message)
        before: tuple[Epoch, ...] = ()
        epochs: tuple[Epoch, ...] = ()
        if not is_known:
            before = self._pass()
        elif scope is None:
            epochs = tuple(self._open.values())
            self._open.clear()
        else:
            last = self._open.pop(scope, None)
            epochs = (*self._passed.pop(scope, ()), *(() if last is None else (last,)))
        self.taken_bytes += len(state)
        waiting = _Waiting(self._store.keep(state), epochs, before, is_free=is_known)
        self._queues.setdefault(scope, deque()).append(waiting)

    def _pass(self) -> tuple[Epoch, ...]:
        """All epochs read so far that are not settled; later rows open new ones."""
        for stream, epoch in self._open.items():
            self._passed.setdefault(stream, []).append(epoch)
        self._open.clear()
        queued = chain.from_iterable(w.epochs for queue in self._queues.values() for w in queue)
        known = chain(queued, *self._passed.values())
        return tuple(epoch for epoch in known if not epoch.is_settled)

    def ready(self) -> Iterator[Checkpoint]:
        """Take the checkpoints that may be acknowledged now, in order per scope."""
        for scope, queue in self._queues.items():
            if scope in self._held or (scope is None and self._held):
                continue
            while queue and queue[0].is_due(is_held=bool(self._held)):
                waiting = queue.popleft()
                yield Checkpoint(self._store.take(waiting.kept), waiting.epochs)

    @property
    def is_settled(self) -> bool:
        """Whether each row read is delivered or rejected, whatever is held."""
        waiting = chain.from_iterable(c.epochs for queue in self._queues.values() for c in queue)
        read = chain(waiting, *self._passed.values(), self._open.values())
        return all(epoch.is_settled for epoch in read)

    def close(self) -> None:
        self._store.close()
