"""Reads a block of one stream's records where they stand, each row as a typed struct.

Most blocks of a sync are such blocks, and decoding rows into columns at once costs a fraction of
keeping their text and decoding it later. Everything else is read by `messages.PlainLines`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from destination_bulk_tables.lines import Lines
from destination_bulk_tables.messages import (
    Message,
    PlainLines,
    RecordRun,
    state_of,
    status_of,
)
from destination_bulk_tables.model import UNDECODABLE, StreamKey
from destination_bulk_tables.row_form import are_blank

_MOST_MISSES = 3


class _StateLine(Struct, tag_field="type", tag="STATE", gc=False):
    state: Raw


class _TraceLine(Struct, tag_field="type", tag="TRACE", gc=False):
    trace: Raw


class _TypedLines:
    """Reads lines whose records are all of one stream, their data as `row_type`; nothing else."""

    def __init__(
        self, stream: StreamKey, row_type: Any, *, is_timed: bool, keeps_lines: bool
    ) -> None:
        self.stream = stream
        self._keeps_lines = keeps_lines
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
        texts = Lines.of_text(text, len(lines)) if self._keeps_lines else None
        try:
            return len(lines), [self._run(lines, texts)]
        except AttributeError:  # most blocks hold nothing but records
            pass
        kind = self._record_line
        messages: list[Message] = []
        start = 0
        for i in [i for i, line in enumerate(lines) if line.__class__ is not kind]:
            if i > start:
                messages.append(self._run(lines[start:i], texts and texts.part(start, i)))
            line = lines[i]
            is_state = line.__class__ is _StateLine
            message = state_of(line.state) if is_state else status_of(line.trace)
            if message is not None:
                messages.append(message)
            start = i + 1
        if start < len(lines):
            messages.append(self._run(lines[start:], texts and texts.part(start)))
        return len(lines), messages

    def _run(self, lines: list[Any], texts: Lines | None) -> RecordRun:
        times = [line.record.emitted_at for line in lines] if self._is_timed else ()
        data = [line.record.data for line in lines]
        return RecordRun(self.stream, data, is_decoded=True, times=times, lines=texts)


class Blocks:
    """Decodes blocks of whole lines; the arguments are those of `stdio.MessageReader`."""

    def __init__(
        self,
        row_types: Mapping[StreamKey, Sequence[type]],
        timed: Collection[StreamKey],
        *,
        keeps_lines: bool = False,
    ) -> None:
        self.plain = PlainLines(timed, keeps_lines=keeps_lines)
        self._timed = timed
        self._keeps_lines = keeps_lines
        self._row_types = {key: list(types) for key, types in row_types.items()}
        self._typed: dict[StreamKey, _TypedLines] = {}
        self._misses: dict[StreamKey, int] = {}
        self._current: _TypedLines | None = None

    def messages(self, text: bytes) -> tuple[int, list[Message]]:
        """The number of lines and what they hold; raises where a line cannot be read so."""
        missed = None
        if self._current is not None:
            try:
                n_lines, messages = self._current.messages(text)
                if not any(isinstance(m, RecordRun) and are_blank(m.data) for m in messages):
                    return n_lines, messages
            except UNDECODABLE:  # another stream, or something that the plain way explains
                missed = self._current.stream
            self._current = None
        n_lines, messages, is_typed = self.plain.messages(text)
        keys = {message.stream for message in messages if isinstance(message, RecordRun)}
        key = keys.pop() if len(keys) == 1 else None
        if key is not None and self._row_types.get(key):
            self._choose(key, missed if is_typed else None)
        return n_lines, messages

    def _choose(self, key: StreamKey, missed: StreamKey | None) -> None:
        """Read the next block as this stream's; `missed`: the stream whose type has just failed."""
        types = self._row_types[key]
        if key == missed:
            self._misses[key] = self._misses.get(key, 0) + 1
            if self._misses[key] >= _MOST_MISSES and len(types) > 1:
                self._misses[key] = 0
                del types[0], self._typed[key]
        if key not in self._typed:
            self._typed[key] = _TypedLines(
                key, types[0], is_timed=key in self._timed, keeps_lines=self._keeps_lines
            )
        self._current = self._typed[key]
