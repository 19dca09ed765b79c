"""Stdin to messages, with a tick while silent; lines to stdout, not blocking past a stop.

A line that is not an Airbyte message ends the input with `BadInput`; the messages before it are
handed out first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence

from destination_bulk_tables.errors import Stopped, TransientError
from destination_bulk_tables.messages import Message
from destination_bulk_tables.model import UNDECODABLE, StreamKey
from destination_bulk_tables.typed_lines import Blocks

BLOCK_BYTES = 1 << 17  # larger blocks leave a core's cache, smaller ones cost more calls
_PIPE_BYTES = 1 << 20
_PIPE_BUF = 4096  # a pipe that select calls writable takes this much without blocking
_WRITE_WAIT_S = 0.5
_LONGEST_WRITE_S = 3600.0


class MessageReader:
    """Reads messages from a file descriptor; a byte written to the pipe behind `wake` ends a wait.

    `row_types`: how each stream's data may be read where it stands, the fastest first. A block of
    one stream's records is read that way after another such block; everything else keeps its data
    as text. A type that a stream's values keep failing gives way to the next. `timed`: streams
    whose records' times of emission are wanted. `keeps_lines`: each record's line goes with it.
    """

    def __init__(
        self,
        fd: int,
        wake: int,
        row_types: Mapping[StreamKey, Sequence[type]] | None = None,
        timed: Collection[StreamKey] = (),
        *,
        keeps_lines: bool = False,
    ) -> None:
        self._blocks = Blocks(row_types or {}, timed, keeps_lines=keeps_lines)
        self._fd = fd
        self._wake = wake
        self._parts: list[bytes] = []  # a line whose end has not come yet
        # blank lines are not counted: counting them costs as much as a fifth of decoding
        self._line = 0
        self.ended = False
        with contextlib.suppress(OSError):  # not a pipe, or not allowed
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def read(self, timeout_s: float, *, wants_input: bool) -> Iterator[Message]:
        """Wait for input (where wanted), a wake-up or the timeout; yield what came, if any."""
        watched = [self._wake, self._fd] if wants_input and not self.ended else [self._wake]
        readable, _, _ = select.select(watched, [], [], max(0.0, timeout_s))
        if self._wake in readable:
            os.read(self._wake, 4096)
        if self._fd in readable:
            yield from self._take(os.read(self._fd, BLOCK_BYTES))

    def _take(self, block: bytes) -> Iterator[Message]:
        end = block.rfind(b"\n") + 1
        self.ended = not block
        if not end and block:
            self._parts.append(block)
            return
        text = b"".join((*self._parts, memoryview(block)[:end]))
        self._parts = [block[end:]]
        if text:
            yield from self._messages(text)

    def _messages(self, text: bytes) -> Iterator[Message]:
        """Decode whole lines at once, or one by one where that fails."""
        try:
            if not text.isascii():
                text.decode()  # msgspec does not look into strings it skips
            n_lines, messages = self._blocks.messages(text)
        except UNDECODABLE:
            yield from self._singly(text)
            return
        self._line += n_lines
        yield from messages

    def _singly(self, text: bytes) -> Iterator[Message]:
        for line in text.split(b"\n"):
            if line.strip():
                self._line += 1
                yield from self._blocks.plain.one(line, self._line)


class LineWriter:
    """Writes whole lines from any thread; gives up at a stop, or after an hour, if nobody reads."""

    def __init__(self, fd: int, stop: threading.Event) -> None:
        self._fd = fd
        self._stop = stop
        self._lock = threading.Lock()

    def write(self, lines: Sequence[bytes]) -> None:
        """Write, flush. Raises `TransientError` when nobody reads, `Stopped` if full at a stop."""
        data = memoryview(b"".join([line + b"\n" for line in lines]))
        with self._lock:
            waits = 0
            while data:
                _, writable, _ = select.select([], [self._fd], [], _WRITE_WAIT_S)
                if writable:
                    waits = 0
                    try:
                        data = data[os.write(self._fd, data[:_PIPE_BUF]) :]
                    except BrokenPipeError as error:
                        message = "Nobody reads this connector's output any more."
                        raise TransientError(message) from error
                elif self._stop.is_set():
                    raise Stopped("The sync was asked to stop and nobody reads its output.")
                elif (waits := waits + 1) > _LONGEST_WRITE_S / _WRITE_WAIT_S:
                    raise TransientError("Nobody has read this connector's output for an hour.")
