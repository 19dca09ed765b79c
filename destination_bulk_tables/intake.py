"""Takes messages: records to their batch or staged load, states and statuses to their place.

Invariant: a row is counted as read before anything can become of it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from destination_bulk_tables.catalog import find_stream
from destination_bulk_tables.dispatch import Dispatch
from destination_bulk_tables.errors import BadInput, DestinationError, TransientError
from destination_bulk_tables.lanes import Lane
from destination_bulk_tables.lines import Lines
from destination_bulk_tables.messages import (
    BadRecord,
    Message,
    RecordRun,
    StateMessage,
    StatusMessage,
)
from destination_bulk_tables.model import Epoch, RejectedRow, RowBlock, StreamKey
from destination_bulk_tables.tasks import Tools

log = logging.getLogger(__name__)

MAX_OPEN_BYTES = 64_000_000


class UndeliverableRow(Exception):
    """A row that ends the sync; `cause` is what to say. What came before it is still delivered."""

    def __init__(self, cause: DestinationError) -> None:
        super().__init__()
        self.cause = cause


class Intake:
    """What was read of each stream, and whether the source is done with it."""

    def __init__(self, lanes: Mapping[StreamKey, Lane], tools: Tools, dispatch: Dispatch) -> None:
        self._lanes = lanes
        self._all = list(dict.fromkeys(lanes.values()))
        self._tools = tools
        self._dispatch = dispatch
        self._completed: set[StreamKey] = set()
        self._incomplete: set[StreamKey] = set()
        self._said: Counter[tuple[str, str]] = Counter()

    def take(self, message: Message) -> None:
        """Take one message. Raises `BadInput`, and `UndeliverableRow` under policy fail."""
        match message:
            case RecordRun():
                self._take_records(message)
            case StateMessage(state=state, scope=scope):
                known = None if scope is None else find_stream(scope, self._lanes)
                is_known = scope is None or known is not None
                self._tools.ledger.checkpoint(state, known or scope, is_known=is_known)
            case StatusMessage():
                self._take_status(message)
            case BadRecord(stream=stream, code=code, reason=reason, row=row):
                stream = self._known(stream)
                epoch = self._tools.ledger.count_read(stream, 1)
                self._tools.progress.counts[stream].read += 1
                self._shape_rejects(epoch, [RejectedRow(stream, "shape", code, reason, row)])

    def _take_records(self, run: RecordRun) -> None:
        data, times, lines = run.data, run.times, run.lines
        stream = self._known(run.stream)
        lane = self._lanes[stream]
        codec = lane.codec_of(stream)
        encode = codec.encode_rows if run.is_decoded else codec.encode
        epoch = self._tools.ledger.count_read(stream, len(data))
        counts = self._tools.progress.counts[stream]
        counts.read += len(data)
        while data:
            # what is encoded at once fits into the open batch, so it need not be taken apart again
            room = len(data) if lane.load is not None else lane.batcher.room
            block, rejected = encode(data[:room], times[:room])
            data, times = data[room:], times[room:]
            if lines:
                block.originals = lines.part(0, room).pick(block.indexes)
            self._advise(lane, counts.read, block)
            if len(block):
                self._place(lane, block, epoch, rejected)
            if rejected:
                self._shape_rejects(epoch, _of(stream, rejected, lines))
            lines = lines and lines.part(room)

    def _place(
        self, lane: Lane, block: RowBlock, epoch: Epoch, rejected: list[RejectedRow]
    ) -> None:
        """Stage a block or batch it; rows too large for a request go to `rejected`."""
        if lane.load is not None:
            lane.load.stage(lane.batcher.fitting(block, rejected), epoch)
            return
        for batch in lane.batcher.extend(block, epoch, self._tools.clock.monotonic(), rejected):
            self._dispatch.queue(lane, batch)
        if (
            lane.batcher.held_bytes > MAX_OPEN_BYTES / len(self._all)
            and sum(other.batcher.held_bytes for other in self._all) > MAX_OPEN_BYTES
        ):
            largest = max(self._all, key=lambda other: other.batcher.held_bytes)
            self._dispatch.queue(largest, largest.batcher.cut("memory"))

    def _shape_rejects(self, epoch: Epoch, rejected: Sequence[RejectedRow]) -> None:
        self._tools.progress.counts[rejected[0].stream].rejected += len(rejected)
        try:
            self._tools.rejects.add(rejected, self._tools.progress.rows_read)
        except DestinationError as error:
            raise UndeliverableRow(error) from error
        epoch.rejected += len(rejected)  # only now: a row that ends the sync settles no epoch

    def _advise(self, lane: Lane, rows: int, block: RowBlock) -> None:
        limits = self._tools.provider.limits
        if lane.is_advised or limits.advised_rows is None or limits.advised_row_bytes is None:
            return
        table, largest = lane.plan.table.name, limits.advised_row_bytes
        if rows > limits.advised_rows:
            log.warning("many_rows table=%s advised=%d", table, limits.advised_rows)
        elif block.n_bytes > largest and max(map(len, block.rows())) > largest:
            log.warning("large_row table=%s advised_bytes=%d", table, largest)
        else:
            return
        lane.is_advised = True

    def _known(self, stream: StreamKey) -> StreamKey:
        """As `find_stream`; raises `BadInput` that names the streams of the same name."""
        found = find_stream(stream, self._lanes)
        if found is None:
            message = f"The input holds a record of stream {stream}, which is not in the catalog"
            named = sorted(str(key) for key in self._lanes if key.name == stream.name)
            message += f"; the catalog has {', '.join(named)}." if named else "."
            raise BadInput(message)
        return found

    def _take_status(self, message: StatusMessage) -> None:
        found = find_stream(message.stream, self._lanes)
        streams = [message.stream if found is None else found]
        if found is None and not message.is_qualified:
            # each of several streams of one name says so once
            streams = [key for key in self._lanes if key.name == message.stream.name]
            self._said[message.stream.name, message.status] += 1
            if message.status == "COMPLETE" and (
                self._said[message.stream.name, message.status] < len(streams)
            ):
                return
        if message.status == "COMPLETE":
            self._completed.update(streams)
        elif message.status == "INCOMPLETE":
            self._incomplete.update(streams)

    def require_completion(self) -> None:
        """Raise unless the source said of each stream that it is complete, where it must."""
        missing = [
            str(key)
            for key, lane in self._lanes.items()
            if key in self._incomplete or (lane.plan.expects_status and key not in self._completed)
        ]
        if missing:
            raise TransientError(
                "The input ended, but the source did not complete these streams: "
                f"{', '.join(sorted(missing)[:20])}. Rows that arrived are delivered where streams "
                "are appended to; no table was replaced. Look for the error in the source."
            )


def _of(
    stream: StreamKey, rejected: Sequence[RejectedRow], lines: Lines | None
) -> list[RejectedRow]:
    """The rows with what the codec and the batch of several streams do not know of them."""
    indexes = [row.index for row in rejected]
    brought = lines.at(indexes) if lines else [b""] * len(indexes)
    return [
        replace(row, stream=stream, original=line)
        for row, line in zip(rejected, brought, strict=True)
    ]
