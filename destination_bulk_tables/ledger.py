"""Decides which checkpoints may be acknowledged.

Invariants: a checkpoint leaves only when each row of its scope that came before it is delivered or
rejected; the checkpoints of a scope leave in the order they came. Streams and global checkpoints do
not mix in one sync. The ledger does no I/O and knows no batch: the engine tells it what was
accepted and what became of it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from destination_bulk_tables.errors import BadInput
from destination_bulk_tables.model import Epoch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from destination_bulk_tables.model import StreamKey

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


class Ledger:
    """One open epoch a stream, one queue of checkpoints a scope (None: the global scope)."""

    def __init__(self) -> None:
        self._open: dict[StreamKey, Epoch] = {}
        self._queues: dict[StreamKey | None, deque[Checkpoint]] = {}
        self._held: set[StreamKey] = set()

    def hold(self, stream: StreamKey) -> None:
        """Acknowledge nothing of a stream whose rows wait for the end of the source."""
        self._held.add(stream)

    def release(self, stream: StreamKey) -> None:
        """The rows of a held stream are in their table."""
        self._held.discard(stream)

    def accept(self, stream: StreamKey, count: int) -> Epoch:
        """Count rows read; they belong to the epoch that their scope's next checkpoint closes."""
        epoch = self._open.get(stream)
        if epoch is None:
            epoch = self._open[stream] = Epoch(stream=stream)
        epoch.accepted += count
        return epoch

    def checkpoint(self, state: bytes, scope: StreamKey | None) -> None:
        """Close the open epochs of the scope and queue behind its earlier checkpoints."""
        if self._queues and (scope is None) is not (None in self._queues):
            message = "The source sent both STREAM and GLOBAL states; a sync must use one kind."
            raise BadInput(message)
        if scope is None:
            epochs = tuple(self._open.values())
            self._open.clear()
        else:
            epoch = self._open.pop(scope, None)
            epochs = () if epoch is None else (epoch,)
        self._queues.setdefault(scope, deque()).append(Checkpoint(state, epochs))

    def ready(self) -> Iterator[Checkpoint]:
        """Take the checkpoints that may be acknowledged now, in order per scope."""
        for scope, queue in self._queues.items():
            if scope in self._held or (scope is None and self._held):
                continue
            while queue and all(epoch.is_settled for epoch in queue[0].epochs):
                yield queue.popleft()

    @property
    def is_settled(self) -> bool:
        """Whether each row read is delivered or rejected, whatever is held."""
        waiting = chain.from_iterable(c.epochs for queue in self._queues.values() for c in queue)
        return all(epoch.is_settled for epoch in chain(waiting, self._open.values()))

    @property
    def pending(self) -> int:
        """How many checkpoints still wait."""
        return sum(map(len, self._queues.values()))
