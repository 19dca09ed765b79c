"""Inputs that are made while they are read: too large, or too many of them, to keep in a folder.

    python -m benchmarks.loads ROWS STREAMS STATES STATE_BYTES ROW_BYTES PARTITIONS

writes one sync's messages to standard output. Streams take turns, a hundred rows at a time; states
are spread evenly over the rows, each of the stream that has just been read. A row's id is its
number and starts with the sink's `MARKER`. With partitions a state lists all that were read so far.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from benchmarks.vendors import MARKER

_TURN = 100
_ID = MARKER.decode()


@dataclass(frozen=True, slots=True)
class Load:
    """How many rows, streams and states, and how large; 0 bytes: as small as they are."""

    rows: int
    streams: int = 1
    states: int = 1
    state_bytes: int = 0
    row_bytes: int = 0
    lists_partitions: int = 0  # 1: each state names one partition more than the one before

    def command(self) -> list[str]:
        """Name the process that writes this load."""
        numbers = [str(getattr(self, field.name)) for field in fields(self)]
        return [sys.executable, "-m", "benchmarks.loads", *numbers]

    def catalog(self, folder: Path, mode: str) -> Path:
        """Write the configured catalog; the file."""
        path = folder / "catalog-load.json"
        columns = {"id": "string", "amount": "number", "stage": "string", "notes": "string"}
        schema = {"properties": {name: {"type": ["null", kind]} for name, kind in columns.items()}}
        streams = [
            {
                "stream": {"name": name, "json_schema": {"type": "object", **schema}},
                "sync_mode": "full_refresh" if mode == "overwrite" else "incremental",
                "destination_sync_mode": mode,
                "primary_key": [["id"]],
                "generation_id": 3,
                "minimum_generation_id": 3 if mode == "overwrite" else 0,
                "sync_id": 7,
            }
            for name in self.names()
        ]
        path.write_text(json.dumps({"streams": streams}), encoding="utf-8")
        return path

    def names(self) -> list[str]:
        """Name the streams."""
        return [f"load_{number:04d}" for number in range(self.streams)]

    def messages(self) -> Iterator[str]:
        """Make the messages, each with its newline; a turn of rows is one text."""
        names, notes = self.names(), "n" * self.row_bytes
        states = done = 0
        states_by = self.rows / self.states if self.states else 0
        turn = max(1, min(_TURN, int(states_by) or 1, self.rows // self.streams or 1))
        partitions: list[str] = []
        while done < self.rows:
            name = names[done // turn % self.streams]
            n_rows = min(turn, self.rows - done)
            yield "".join(
                f'{{"type":"RECORD","record":{{"stream":"{name}","data":{{"id":"{_ID}{i:08d}",'
                f'"amount":{i % 99991 / 100},"stage":"won","notes":"{notes}"}},'
                '"emitted_at":1792600000000}}\n'
                for i in range(done, done + n_rows)
            )
            done += n_rows
            while states < self.states and done >= (states + 1) * states_by - 1e-6:
                states += 1
                if self.lists_partitions:
                    partitions.append(
                        f'{{"partition":{{"id":{states}}},"cursor":{{"at":"2026-01-01T00:00:00Z"}}}}'
                    )
                yield self._state(name, states, ",".join(partitions))
        for name in names:
            yield (
                '{"type":"TRACE","trace":{"type":"STREAM_STATUS","emitted_at":1792600000000,'
                f'"stream_status":{{"stream_descriptor":{{"name":"{name}"}},'
                '"status":"COMPLETE"}}}\n'
            )

    def _state(self, name: str, number: int, partitions: str) -> str:
        return (
            f'{{"type":"STATE","state":{{"type":"STREAM","stream":{{"stream_descriptor":'
            f'{{"name":"{name}"}},"stream_state":{{"cursor":{number},"states":[{partitions}],'
            f'"filler":"{"x" * self.state_bytes}"}}}},"id":{number}}}}}\n'
        )


def main() -> None:
    """Write the load that the arguments name."""
    for text in Load(*map(int, sys.argv[1:])).messages():
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
