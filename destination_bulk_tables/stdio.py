"""Stdin bytes to messages, with a tick while silent; lines to stdout, not blocking past a stop.

A block of lines is decoded at once; the records of one stream that follow each other travel as one
run. A line that is not an Airbyte message ends the input with `BadInput`, which gives its number
and never its content; the messages before it are handed out first. Unknown message types, LOG,
CONTROL and other TRACE messages are ignored.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import threading
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from destination_bulk_tables.errors import BadInput, Stopped, TransientError
from destination_bulk_tables.model import (
    BadRecord,
    RecordRun,
    StateMessage,
    StatusMessage,
    StreamKey,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from destination_bulk_tables.model import Message

BLOCK_BYTES = 1 << 17  # larger blocks leave a core's cache, smaller ones cost more calls
_PIPE_BYTES = 1 << 20
_PIPE_BUF = 4096  # a pipe that select calls writable takes this much without blocking
_WRITE_WAIT_S = 0.5
_LONGEST_WRITE_S = 3600.0
_MOST_MISSES = 3
_TYPED = {"RECORD", "STATE", "TRACE"}  # what a block that is read in place may hold
_NOT_DELIVERED = "Nothing after that line was delivered."
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Record(Struct, gc=False):
    stream: str
    data: Raw
    namespace: str | None = None


class _Line(Struct, gc=False):
    type: str
    record: _Record | None = None
    state: Raw = Raw()
    trace: Raw = Raw()


class _TimedRecord(_Record, gc=False):
    emitted_at: Raw = Raw(b"null")


class _TimedLine(_Line, gc=False):
    record: _TimedRecord | None = None


class _StateLine(Struct, tag_field="type", tag="STATE", gc=False):
    state: Raw


class _TraceLine(Struct, tag_field="type", tag="TRACE", gc=False):
    trace: Raw


class _TypedLines:
    """Reads lines whose records are all of one stream, their data as `row_type`; nothing else."""

    def __init__(self, stream: StreamKey, row_type: Any, *, is_timed: bool) -> None:
        self.stream = stream
        self._is_timed = is_timed
        name: Any = Literal[stream.name]
        namespace: Any = Literal[stream.namespace] if stream.namespace else Literal[""] | None
        default = () if stream.namespace else (None,)
        fields = [("stream", name), ("data", row_type), ("namespace", namespace, *default)]
        fields += [("emitted_at", Raw, Raw(b"null"))] if is_timed else []
        record: Any = msgspec.defstruct("Record", fields, gc=False)
        self._record_line: Any = msgspec.defstruct(
            "RecordLine", [("record", record)], tag_field="type", tag="RECORD", gc=False
        )
        self._lines = msgspec.json.Decoder(self._record_line | _StateLine | _TraceLine)

    def messages(self, text: bytes) -> tuple[int, list[Message]]:
        """The number of lines and what they hold; raises when a line is not as expected."""
        lines: list[Any] = self._lines.decode_lines(text)
        try:
            return len(lines), [self._run(lines)]
        except AttributeError:  # most blocks hold nothing but records
            pass
        kind = self._record_line
        messages: list[Message] = []
        start = 0
        for i in [i for i, line in enumerate(lines) if line.__class__ is not kind]:
            if i > start:
                messages.append(self._run(lines[start:i]))
            line = lines[i]
            is_state = line.__class__ is _StateLine
            message = _state_of(line.state) if is_state else _status_of(line.trace)
            if message is not None:
                messages.append(message)
            start = i + 1
        if start < len(lines):
            messages.append(self._run(lines[start:]))
        return len(lines), messages

    def _run(self, lines: list[Any]) -> RecordRun:
        times = [line.record.emitted_at for line in lines] if self._is_timed else ()
        data = [line.record.data for line in lines]
        return RecordRun(self.stream, data, is_decoded=True, times=times)


class _Descriptor(Struct, gc=False):
    name: str
    namespace: str | UnsetType | None = UNSET

    def key(self) -> StreamKey:
        return StreamKey.of(self.namespace or None, self.name)


class _StreamState(Struct, gc=False):
    stream_descriptor: _Descriptor


class _State(Struct, gc=False):
    type: str | None = None
    stream: _StreamState | None = None


class _Status(Struct, gc=False):
    stream_descriptor: _Descriptor
    status: str


class _Trace(Struct, gc=False):
    type: str | None = None
    stream_status: _Status | None = None


_plain_lines = msgspec.json.Decoder(_Line)
_timed_lines = msgspec.json.Decoder(_TimedLine)
_state = msgspec.json.Decoder(_State)
_trace = msgspec.json.Decoder(_Trace)


class MessageReader:
    """Reads messages from a file descriptor; a byte written to the pipe behind `wake` ends a wait.

    `row_types`: how each stream's data may be read where it stands, the fastest first. A block of
    one stream's records is read that way after another such block; everything else keeps its data
    as text. A type that a stream's values keep failing gives way to the next. `timed`: streams
    whose records' times of emission are wanted.
    """

    def __init__(
        self,
        fd: int,
        wake: int,
        row_types: Mapping[StreamKey, Sequence[type]] | None = None,
        timed: Collection[StreamKey] = (),
    ) -> None:
        self._timed = timed
        self._lines: msgspec.json.Decoder[Any] = _timed_lines if timed else _plain_lines
        self._row_types = {key: list(types) for key, types in (row_types or {}).items()}
        self._typed: dict[StreamKey, _TypedLines] = {}
        self._misses: dict[StreamKey, int] = {}
        self._current: _TypedLines | None = None
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
            n_lines, messages = self._decode(text)
        except _UNDECODABLE:
            self._current = None
            yield from self._singly(text)
            return
        self._line += n_lines
        yield from messages

    def _decode(self, text: bytes) -> tuple[int, list[Message]]:
        """Decode a block, as the current stream's rows where that is possible."""
        missed = None
        if self._current is not None:
            try:
                return self._current.messages(text)
            except _UNDECODABLE:  # another stream, or something that the plain way explains
                missed = self._current.stream
                self._current = None
        lines = self._lines.decode_lines(text)
        if missed is not None and not {line.type for line in lines} <= _TYPED:
            missed = None
        messages = _plain_messages(lines, self._timed)
        keys = {message.stream for message in messages if isinstance(message, RecordRun)}
        key = keys.pop() if len(keys) == 1 else None
        if key is not None and self._row_types.get(key):
            self._choose(key, missed)
        return len(lines), messages

    def _choose(self, key: StreamKey, missed: StreamKey | None) -> None:
        """Read the next block as this stream's; `missed`: the stream whose type has just failed."""
        types = self._row_types[key]
        if key == missed:
            self._misses[key] = self._misses.get(key, 0) + 1
            if self._misses[key] >= _MOST_MISSES and len(types) > 1:
                self._misses[key] = 0
                del types[0], self._typed[key]
        if key not in self._typed:
            self._typed[key] = _TypedLines(key, types[0], is_timed=key in self._timed)
        self._current = self._typed[key]

    def _singly(self, text: bytes) -> Iterator[Message]:
        for line in text.split(b"\n"):
            if line.strip():
                self._line += 1
                yield from self._one(line, self._line)

    def _one(self, text: bytes, number: int) -> Iterator[Message]:
        try:
            text.decode()
            line = self._lines.decode(text)
            if line.type == "RECORD" and line.record is not None:
                yield from _runs([line], self._timed)
            else:
                message = _other(line)
                if message is not None:
                    yield message
        except _UNDECODABLE:
            yield from _lenient(text, number)


def _other(line: _Line) -> Message | None:
    """A message that is no record; raises `msgspec.ValidationError` when it lacks a member."""
    match line.type:
        case "STATE":
            return _state_of(line.state)
        case "TRACE":
            return _status_of(line.trace)
        case "RECORD":
            raise msgspec.ValidationError
        case _:
            return None


def _state_of(text: Raw) -> StateMessage:
    state = _state.decode(text)
    if state.type == "STREAM" or (state.type is None and state.stream is not None):
        if state.stream is None:
            raise msgspec.ValidationError
        return StateMessage(bytes(text), state.stream.stream_descriptor.key())
    return StateMessage(bytes(text), None)


def _status_of(text: Raw) -> StatusMessage | None:
    trace = _trace.decode(text)
    if trace.stream_status is None or trace.type not in {None, "STREAM_STATUS"}:
        return None
    descriptor = trace.stream_status.stream_descriptor
    return StatusMessage(
        descriptor.key(), trace.stream_status.status, descriptor.namespace is not UNSET
    )


def _lenient(text: bytes, number: int) -> Iterator[Message]:
    """A line that is not strict JSON: a record with NaN or a lone surrogate is data."""
    message = (
        f"Line {number} of the input is not an Airbyte message. The source or whatever feeds this "
        f"connector wrote something else to the pipe. {_NOT_DELIVERED}"
    )
    try:
        line = json.loads(text)
    except RecursionError as error:
        message = f"Line {number} of the input is nested too deeply to be read. {_NOT_DELIVERED}"
        raise BadInput(message) from error
    except ValueError as error:
        raise BadInput(message) from error
    kind = line.get("type") if isinstance(line, dict) else None
    if kind == "RECORD":
        record = line.get("record")
        if isinstance(record, dict) and isinstance(record.get("stream"), str) and "data" in record:
            namespace = record.get("namespace")
            key = StreamKey.of(namespace if isinstance(namespace, str) else None, record["stream"])
            reason = "the record holds NaN, Infinity or half a surrogate pair, which is not JSON"
            yield BadRecord(key, "not_json", reason, json.dumps(record["data"]).encode())
            return
    elif isinstance(kind, str) and kind not in {"STATE", "TRACE"}:
        return
    raise BadInput(message)


def _plain_messages(lines: Sequence[_Line], timed: Collection[StreamKey]) -> list[Message]:
    """Records as runs, whatever stands between them in its place."""
    messages: list[Message] = []
    start = 0
    odd = [i for i, line in enumerate(lines) if line.type != "RECORD" or not line.record]
    for i in [*odd, len(lines)]:
        messages += _runs(lines[start:i], timed)
        message = _other(lines[i]) if i < len(lines) else None
        if message is not None:
            messages.append(message)
        start = i + 1
    return messages


def _runs(lines: Sequence[_Line], timed: Collection[StreamKey]) -> list[Message]:
    """One run for each stream: between two checkpoints the order of streams means nothing."""
    runs: dict[tuple[str | None, str], list[Any]] = {}
    for line in lines:
        if (record := line.record) is not None:
            name = (record.namespace or None, record.stream)
            found = runs.get(name)
            if found is None:
                found = runs[name] = []
            found.append(record)
    return [_run(StreamKey.of(*name), found, timed) for name, found in runs.items()]


def _run(key: StreamKey, records: list[Any], timed: Collection[StreamKey]) -> RecordRun:
    times = [record.emitted_at for record in records] if key in timed else ()
    return RecordRun(key, [record.data for record in records], times=times)


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
                    message = "The sync was asked to stop and nobody reads its output."
                    raise Stopped(message)
                elif (waits := waits + 1) > _LONGEST_WRITE_S / _WRITE_WAIT_S:
                    message = "Nobody has read this connector's output for an hour."
                    raise TransientError(message)
