"""Lines of the input that travel beside their rows, as places in the blocks that were read.

Nothing is done per line: a block is taken apart when one of its lines is asked for, which most
syncs never do, or when few of its lines are left, as the others would stay in memory with them. A
line that cannot be told is empty.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

_FEW = 4  # of a block: less than one in so many


class _Block:
    """Text of so many messages, one a line; `lines`: where it is taken apart already."""

    __slots__ = ("_lines", "count", "size", "text")

    def __init__(self, text: bytes, count: int, lines: Sequence[bytes] | None = None) -> None:
        self.text = text
        self._lines = lines
        self.count = count
        self.size = len(text) if lines is None else sum(map(len, lines))

    def lines(self) -> Sequence[bytes]:
        """All of them; not kept, as they would take the same memory once more."""
        if self._lines is not None:
            return self._lines
        lines = self.text.removesuffix(b"\n").split(b"\n")
        if len(lines) != self.count:
            lines = [line for line in lines if line and not line.isspace()]
        # two messages in one line, or one in two: which is which is not known
        return lines if len(lines) == self.count else [b""] * self.count


class Lines:
    """Some lines, in the order of their rows."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[tuple[_Block, Sequence[int]]] = ()) -> None:
        self.parts = parts

    @classmethod
    def of_text(cls, text: bytes, count: int) -> Lines:
        """All lines of a text that holds so many messages."""
        return cls([(_Block(text, count), range(count))])

    @classmethod
    def of_list(cls, lines: Sequence[bytes]) -> Lines:
        return cls([(_Block(b"", len(lines), lines), range(len(lines)))])

    @classmethod
    def joined(cls, several: Iterable[Lines]) -> Lines:
        return cls([part for lines in several for part in lines.parts])

    def __len__(self) -> int:
        return sum(len(numbers) for _, numbers in self.parts)

    def __iter__(self) -> Iterator[bytes]:
        for block, numbers in self.parts:
            yield from map(block.lines().__getitem__, numbers)

    def at(self, positions: Sequence[int]) -> list[bytes]:
        return list(self.pick(positions))

    def part(self, start: int, end: int | None = None) -> Lines:
        """Those from one position to before another."""
        found: list[tuple[_Block, Sequence[int]]] = []
        for block, numbers in self.parts:
            kept = numbers[max(0, start) : None if end is None else max(0, end)]
            start -= len(numbers)
            end = None if end is None else end - len(numbers)
            if kept:
                found.append((block, kept))
        return Lines(found)

    def pick(self, positions: Sequence[int]) -> Lines:
        """Those at these positions, in their order."""
        if positions == range(len(self)):
            return self
        if len(self.parts) == 1:
            ((block, numbers),) = self.parts
            return Lines([_without_others(block, list(map(numbers.__getitem__, positions)))])
        ends = list(accumulate(len(numbers) for _, numbers in self.parts))
        found: list[tuple[_Block, list[int]]] = []
        for position in positions:
            at = bisect_right(ends, position)
            block, numbers = self.parts[at]
            if not found or found[-1][0] is not block:
                found.append((block, []))
            found[-1][1].append(numbers[position - ends[at]])
        return Lines([_without_others(*part) for part in found])

    @property
    def n_bytes(self) -> int:
        """About what they take of memory: their share of their blocks."""
        return sum(
            block.size * len(numbers) // block.count for block, numbers in self.parts if numbers
        )


def _without_others(block: _Block, numbers: Sequence[int]) -> tuple[_Block, Sequence[int]]:
    """Lines of a block; few of them as a block of their own."""
    if len(numbers) * _FEW >= block.count:
        return block, numbers
    lines = list(map(block.lines().__getitem__, numbers))
    return _Block(b"", len(lines), lines), range(len(lines))
