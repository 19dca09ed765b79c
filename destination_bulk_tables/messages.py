"""Lines of JSON to Airbyte messages.

The records of one stream that follow each other travel as one run. A line that is not an Airbyte
message is `BadInput`, which gives its number and never its content. Unknown message types, LOG,
CONTROL and other TRACE messages are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from destination_bulk_tables.errors import BadInput
from destination_bulk_tables.lines import Lines
from destination_bulk_tables.model import UNDECODABLE, StreamKey

_TYPED = {"RECORD", "STATE", "TRACE"}  # what a block that is read in place may hold
_NOT_DELIVERED = "Nothing after that line was delivered."


class RecordRun(NamedTuple):
    """Consecutive records of one stream: `data` as JSON text, or read as its `row_type`.

    `times`: when each was emitted, as JSON tokens, where the stream wants that. `lines`: what each
    stood in, where that is wanted and could be told.
    """

    stream: StreamKey
    data: list[Any]
    is_decoded: bool = False
    times: Sequence[Any] = ()
    lines: Lines | None = None


class BadRecord(NamedTuple):
    """A record that is a message but not strict JSON (NaN, a lone surrogate): a rejected row."""

    stream: StreamKey
    code: str
    reason: str
    row: bytes


class StateMessage(NamedTuple):
    """A checkpoint as it came; `scope` None means global."""

    state: bytes
    scope: StreamKey | None


class StatusMessage(NamedTuple):
    """A TRACE STREAM_STATUS; `is_qualified` is False where the sender left the namespace out."""

    stream: StreamKey
    status: str
    is_qualified: bool


Message = RecordRun | BadRecord | StateMessage | StatusMessage


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


class PlainLines:
    """Reads any lines; records keep their data as text. Arguments as of `stdio.MessageReader`."""

    def __init__(self, timed: Collection[StreamKey] = (), *, keeps_lines: bool = False) -> None:
        self._timed = timed
        self._keeps_lines = keeps_lines
        self._lines: msgspec.json.Decoder[Any] = _timed_lines if timed else _plain_lines

    def messages(self, text: bytes) -> tuple[int, list[Message], bool]:
        """The number of lines, what they hold, and whether all could be read in place."""
        lines = self._lines.decode_lines(text)
        is_typed = {line.type for line in lines} <= _TYPED
        texts = Lines.of_text(text, len(lines)) if self._keeps_lines else None
        return len(lines), _plain_messages(lines, self._timed, texts), is_typed

    def one(self, text: bytes, number: int) -> Iterator[Message]:
        """What one line holds, strict JSON or not; raises `BadInput`."""
        try:
            text.decode()
            line = self._lines.decode(text)
            if line.type == "RECORD" and line.record is not None:
                yield from _runs(
                    [line], self._timed, Lines.of_list([text]) if self._keeps_lines else None
                )
            else:
                message = _other(line)
                if message is not None:
                    yield message
        except UNDECODABLE:
            yield from _lenient(text, number)


def _other(line: _Line) -> Message | None:
    """A message that is no record; raises `msgspec.ValidationError` when it lacks a member."""
    match line.type:
        case "STATE":
            return state_of(line.state)
        case "TRACE":
            return status_of(line.trace)
        case "RECORD":
            raise msgspec.ValidationError
        case _:
            return None


def state_of(text: Raw) -> StateMessage:
    state = _state.decode(text)
    if state.type == "STREAM" or (state.type is None and state.stream is not None):
        if state.stream is None:
            raise msgspec.ValidationError
        return StateMessage(bytes(text), state.stream.stream_descriptor.key())
    return StateMessage(bytes(text), None)


def status_of(text: Raw) -> StatusMessage | None:
    trace = _trace.decode(text)
    if trace.stream_status is None or trace.type not in {None, "STREAM_STATUS"}:
        return None
    descriptor = trace.stream_status.stream_descriptor
    return StatusMessage(
        descriptor.key(), trace.stream_status.status, descriptor.namespace is not UNSET
    )


def _plain_messages(
    lines: Sequence[_Line], timed: Collection[StreamKey], texts: Lines | None
) -> list[Message]:
    """Records as runs, whatever stands between them in its place."""
    messages: list[Message] = []
    start = 0
    odd = [i for i, line in enumerate(lines) if line.type != "RECORD" or not line.record]
    for i in [*odd, len(lines)]:
        messages += _runs(lines[start:i], timed, texts and texts.part(start, i))
        message = _other(lines[i]) if i < len(lines) else None
        if message is not None:
            messages.append(message)
        start = i + 1
    return messages


def _runs(
    lines: Sequence[_Line], timed: Collection[StreamKey], texts: Lines | None
) -> list[Message]:
    """One run for each stream: between two checkpoints the order of streams means nothing."""
    runs: dict[tuple[str | None, str], list[Any]] = {}
    numbers: dict[tuple[str | None, str], list[int]] = {}
    for number, line in enumerate(lines if texts else ()):
        if line.record is not None:
            name = (line.record.namespace or None, line.record.stream)
            numbers.setdefault(name, []).append(number)
    for line in lines:
        if (record := line.record) is not None:
            name = (record.namespace or None, record.stream)
            found = runs.get(name)
            if found is None:
                found = runs[name] = []
            found.append(record)
    return [
        RecordRun(
            key := StreamKey.of(*name),
            [record.data for record in found],
            times=[record.emitted_at for record in found] if key in timed else (),
            lines=texts and texts.pick(numbers[name]),
        )
        for name, found in runs.items()
    ]


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
