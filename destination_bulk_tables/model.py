"""The values that travel through a sync: streams, tables, rows on their way, what became of them.

Rows travel encoded. A `RowBlock` holds many of them as a few pieces of JSON text, which become one
in the request's body: nothing on the way from stdin may cost an object per row, or a second copy.
`split` and `rows` take them apart only where a limit, a refusal or a repeated key demands it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from destination_bulk_tables.lines import Lines

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
JsonObject = dict[str, Any]  # whose members are known: a form, what it has validated

Key = str | bytes  # the text of a key of one column, else the JSON tokens joined by commas (`keys`)
Cut = Literal["rows", "bytes", "age", "end", "memory"]
Mode = Literal["append", "dedup"]
T = TypeVar("T")

# what a text raises that is no JSON of the kind it is read as
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ROWS = msgspec.json.Decoder(list[msgspec.Raw])


def _joined(rows: Sequence[msgspec.Raw]) -> Sequence[bytes]:
    return (b",".join(rows),) if rows else ()


def _pick(items: Sequence[T], positions: Sequence[int]) -> list[T]:
    return list(map(items.__getitem__, positions))


class StreamKey(NamedTuple):
    """A stream's identity for look-up: an absent, null or empty namespace is None."""

    namespace: str | None
    name: str

    @classmethod
    def of(cls, namespace: str | None, name: str) -> StreamKey:
        """Fold the three spellings of "no namespace" into one."""
        return cls(namespace or None, name)

    def __str__(self) -> str:
        return f"{self.namespace}.{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class Table:
    """The remote table of one stream, and how it is written.

    `id_column`: the one by which the vendor identifies rows in each of its modes, if it does.
    `job`: what the attempts of a job have in common and no other sync has; empty: not known.
    """

    name: str
    stream: StreamKey
    mode: Mode
    replace: bool = False
    columns: tuple[str, ...] = ()
    key_columns: tuple[str, ...] = ()
    text_columns: tuple[str, ...] = ()
    id_column: str | None = None
    job: str = ""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A key to delete: a CDC record whose row is gone at the source."""

    index: int
    key: Key
    cursor: bytes | None = None


@dataclass(slots=True)
class RowBlock:
    """Encoded rows: a piece is `row,row,...`; `indexes` are their positions in the batch or load.

    `keys` and `cursors` run parallel to the rows where the stream is keyed, `originals` where the
    lines that brought them are wanted (empty: not known). Tombstones have a position and no row.
    `repetition`: what a provider tells this block by from others of equal rows, when it is sent.
    """

    pieces: Sequence[bytes]
    count: int
    indexes: Sequence[int]
    keys: Sequence[Key] | None = None
    cursors: list[bytes] | None = None
    tombstones: tuple[Tombstone, ...] = ()
    originals: Lines | None = None
    repetition: str | None = None

    def __len__(self) -> int:
        return self.count + len(self.tombstones)

    @property
    def n_bytes(self) -> int:
        """Size of the rows and the commas between them."""
        return sum(map(len, self.pieces)) + max(0, len(self.pieces) - 1)

    @property
    def held_bytes(self) -> int:
        """What it takes of memory, with the lines that brought it."""
        return self.n_bytes + (self.originals.n_bytes if self.originals is not None else 0)

    def enclosed(self, before: bytes, after: bytes) -> bytes:
        """All rows joined by commas, between two texts; for a large one this is the only copy."""
        parts = [before, *self.pieces[:1]]
        for piece in self.pieces[1:]:
            parts += (b",", piece)
        return b"".join([*parts, after])

    def rows(self) -> list[bytes]:
        """Take the pieces apart; costs an object per row."""
        return list(map(bytes, self._raws()))

    def _raws(self) -> list[msgspec.Raw]:
        return _ROWS.decode(self.enclosed(b"[", b"]"))

    def select(self, positions: Sequence[int]) -> RowBlock:
        """Keep the rows at these positions of the block, and all tombstones."""
        rows = self._raws()
        return RowBlock(
            pieces=_joined(_pick(rows, positions)),
            count=len(positions),
            indexes=_pick(self.indexes, positions),
            keys=self.keys and _pick(self.keys, positions),
            cursors=self.cursors and _pick(self.cursors, positions),
            tombstones=self.tombstones,
            originals=self.originals and self.originals.pick(positions),
        )

    def split(self, sizes: Sequence[int]) -> list[RowBlock]:
        """Cut into consecutive blocks of these row counts; tombstones keep their place."""
        rows = self._raws()
        ends = list(accumulate(sizes))
        blocks: list[RowBlock] = []
        start = 0
        for size, end in zip(sizes, ends, strict=True):
            part = slice(end - size, end)
            stop = self.indexes[end] if end < self.count else sys.maxsize
            tombstones = tuple(t for t in self.tombstones if start <= t.index < stop)
            start = stop
            blocks.append(
                RowBlock(
                    pieces=_joined(rows[part]),
                    count=size,
                    indexes=self.indexes[part],
                    keys=self.keys and self.keys[part],
                    cursors=self.cursors and self.cursors[part],
                    tombstones=tombstones,
                    originals=self.originals and self.originals.part(part.start, part.stop),
                )
            )
        return blocks

    def halves(self) -> list[RowBlock]:
        """Two blocks of (nearly) equal row counts; a block of one row cannot be halved."""
        middle = self.count // 2
        return self.split([middle, self.count - middle])


@dataclass(eq=False, slots=True)
class Epoch:
    """The rows of one stream between two of its checkpoints."""

    read: int = 0
    delivered: int = 0
    rejected: int = 0
    stream: StreamKey | None = None

    @property
    def is_settled(self) -> bool:
        return self.read == self.delivered + self.rejected


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that can never be delivered. `reason` may quote it: report only, never a log.

    `original`: the line that brought it, empty where that is not known.
    """

    stream: StreamKey
    stage: Literal["shape", "vendor"]
    code: str
    reason: str
    row: bytes
    index: int = 0
    original: bytes = b""


@dataclass(eq=False, slots=True)
class Batch:
    """Rows that go out in one request; `epochs` counts them in order of position.

    A keyed batch holds one version of each key; `older`: the epochs of those it stands for, in or
    out of `epochs`. `moved`: rows it settles beyond its `epochs`, or leaves to another batch.
    """

    id: int
    table: Table
    block: RowBlock
    cut: Cut
    epochs: Sequence[tuple[Epoch, int]] = ()
    keys: frozenset[Key] = frozenset()
    older: dict[Key, list[Epoch]] = field(default_factory=dict)
    moved: Counter[Epoch] = field(default_factory=Counter)

    def epoch_of(self, index: int) -> Epoch | None:
        """The epoch of the row at this position; None where a load keeps count itself."""
        for epoch, count in self.epochs:
            index -= count
            if index < 0:
                return epoch
        return None

    def counts(self) -> Counter[Epoch]:
        """How many rows of each epoch are settled when this batch is."""
        counts: Counter[Epoch] = Counter()
        for epoch, count in self.epochs:
            counts[epoch] += count
        for epoch, count in self.moved.items():
            counts[epoch] += count
        return counts


@dataclass(frozen=True, slots=True)
class Receipt:
    """Accepted, not yet delivered: the id tells when the vendor's background work is done.

    `block`: the rows, where each request is a job of its own and they may be needed again.
    """

    id: str
    rows: int
    resent: int = 0
    block: RowBlock | None = None


@dataclass(slots=True)
class Doubtful:
    """Rows, and what was thrown in place of an account of them; None: they are to be sent again.

    `stored`: the positions that are in, None where the table was asked and cannot tell.
    `is_none`: proven to have stored nothing; of equal rows in several writes one may be in.
    """

    block: RowBlock
    fate: Exception | None = None
    is_read: bool = False
    stored: set[int] | None = None
    is_none: bool = False


@dataclass(slots=True)
class BatchResult:
    """What became of a batch. `doubt`: rows to look at with nothing else under way on the table."""

    batch: Batch
    delivered: int = 0
    rejected: list[RejectedRow] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    doubt: list[Doubtful] = field(default_factory=list)
    is_recounted: bool = False  # `stored` is what the table held at a read-back and took since
    stored: int | None = None
    requests: int = 0
    retries: int = 0
    elapsed_s: float = 0.0
    started_at: float = 0.0
    error: Exception | None = None
