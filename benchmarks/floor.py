"""The floor: decode the lines, take the rows as raw JSON, join them into bodies, send nothing.

No destination can do less in Python and still know which bytes are a row. It checks nothing,
delivers nothing and acknowledges nothing.
"""

import fcntl
import os

import msgspec

_BLOCK_BYTES = 1 << 17
_PIPE_BYTES = 1 << 20
_BATCH_ROWS = 5_000


class Record(msgspec.Struct, gc=False):
    """The two members of a RECORD that a destination needs."""

    stream: str
    data: msgspec.Raw


class Envelope(msgspec.Struct, gc=False):
    """One line of input."""

    type: str
    record: Record | None = None
    state: msgspec.Raw = msgspec.Raw()


def main() -> None:
    """Read standard input to its end and build every body."""
    fcntl.fcntl(0, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    decode_lines = msgspec.json.Decoder(Envelope).decode_lines
    rows: list[msgspec.Raw] = []
    tail = b""
    while block := os.read(0, _BLOCK_BYTES):
        head, newline, rest = block.rpartition(b"\n")
        if not newline:
            tail += block
            continue
        messages = decode_lines(tail + head)
        tail = rest
        rows += [message.record.data for message in messages if message.record is not None]
        if len(rows) >= _BATCH_ROWS:
            _body(rows)
            rows = []
    _body(rows)


def _body(rows: list[msgspec.Raw]) -> bytes:
    return b'{"items":[%b]}' % b",".join(rows)


if __name__ == "__main__":
    main()
