"""Whole syncs in memory: the real engine and sender between a scripted source and a fake vendor."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

import msgspec

from destination_bulk_tables.catalog import StreamPlan, plan_streams
from destination_bulk_tables.config import Batching, Config, RejectedRecords, Staging
from destination_bulk_tables.engine import Engine
from destination_bulk_tables.errors import DestinationError
from destination_bulk_tables.exchange import Exchange
from destination_bulk_tables.guard import Guard
from destination_bulk_tables.lanes import Lane
from destination_bulk_tables.ledger import Ledger
from destination_bulk_tables.lines import Lines
from destination_bulk_tables.mapping import TableEntry
from destination_bulk_tables.messages import Message, RecordRun, StateMessage, StatusMessage
from destination_bulk_tables.model import JsonObject, RejectedRow, StreamKey
from destination_bulk_tables.pace import MOST
from destination_bulk_tables.progress import Progress
from destination_bulk_tables.provider import Provider
from destination_bulk_tables.providers.kore import Kore
from destination_bulk_tables.providers.qobra import Qobra
from destination_bulk_tables.rejects import Rejects
from destination_bulk_tables.sender import Sender
from destination_bulk_tables.spool import DiskBudget
from destination_bulk_tables.sync import circumstances, make_lanes
from destination_bulk_tables.tasks import Tools
from unit_tests.fakes import (
    AnyWorkers,
    FakeClock,
    FakeTransport,
    Fault,
    InlineWorkers,
    ScriptedSource,
    SteppedWorkers,
    nothing,
)
from unit_tests.vendors import API_KEY, SECRET, KoreVendor, QobraVendor, Row, Vendor

DEALS = StreamKey(None, "deals")
SyncMode = Literal["append", "append_dedup", "overwrite"]
VendorName = Literal["kore", "qobra"]


def kore(**settings: Any) -> Kore:
    """A Kore.ai provider whose app the fake vendor knows."""
    app: JsonObject = {"auth_type": "jwt_app", "client_id": "cs-1", "client_secret": SECRET}
    return Kore.from_config({"host": "http://127.0.0.1", "authentication": app, **settings})


def qobra(**settings: Any) -> Qobra:
    """A Qobra provider with the fake vendor's key."""
    return Qobra.from_config({"api_key": API_KEY, **settings})


def records(rows: Iterable[Row], stream: StreamKey = DEALS, line: bytes = b"") -> RecordRun:
    """A run of records; `line`: what each stood in."""
    data = [msgspec.Raw(json.dumps(row).encode()) for row in rows]
    return RecordRun(stream, data, lines=Lines.of_list([line] * len(data)) if line else None)


def state(number: int, stream: StreamKey = DEALS) -> StateMessage:
    """A STREAM state that carries a number."""
    descriptor = {"name": stream.name}
    body = {
        "type": "STREAM",
        "stream": {"stream_descriptor": descriptor, "stream_state": {"number": number}},
    }
    return StateMessage(json.dumps(body).encode(), stream)


def complete(stream: StreamKey = DEALS) -> StatusMessage:
    """The source is done with a stream."""
    return StatusMessage(stream, "COMPLETE", is_qualified=True)


def catalog_of(mode: SyncMode, *names: str, **more: Any) -> JsonObject:
    """A configured catalog of streams with the columns id, name, amount and version."""
    schema = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "name": {"type": ["null", "string"]},
            "amount": {"type": ["null", "number"]},
            "version": {"type": ["null", "integer"]},
        },
    }
    streams: list[Any] = [
        {
            "stream": {"name": name, "json_schema": schema},
            "sync_mode": "incremental",
            "destination_sync_mode": mode,
            "primary_key": [["id"]],
            "cursor_field": ["version"] if mode == "append_dedup" else [],
            "generation_id": 2,
            "minimum_generation_id": 2 if mode == "overwrite" else 0,
            "sync_id": 7,
            **more,
        }
        for name in names or ("deals",)
    ]
    return {"streams": streams}


class RecordedRejects(Rejects):
    """Rejects that can be looked at."""

    def __init__(
        self, settings: RejectedRecords, clock: FakeClock, plans: Iterable[StreamPlan]
    ) -> None:
        super().__init__(settings, None, clock, circumstances(plans))
        self.rows: list[RejectedRow] = []

    def add(self, rejected: Sequence[RejectedRow], n_read: int) -> None:
        self.rows += rejected
        super().add(rejected, n_read)


@dataclass
class Sync:
    """One sync. Set it up, `run` it, look at it."""

    provider: Provider
    vendor: Vendor
    clock: FakeClock
    catalog: JsonObject
    script: Sequence[Message | float]
    faults: Mapping[int, Fault] = field(default_factory=dict)
    slots: int = 1  # 0: as many as are found
    seed: int | None = None
    policy: Literal["fail", "skip"] = "skip"
    max_rejected: int = 1000
    max_rows: int = 4
    max_bytes: int | None = None
    max_wait_s: float = 30.0
    tables: tuple[TableEntry, ...] = ()
    guard: Guard = field(default_factory=Guard)
    on_state: Callable[[int, Sync], None] = nothing
    on_request: Callable[[Sync], None] = nothing
    on_read: Callable[[int], None] = nothing

    error: DestinationError | None = None
    states: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stop, self.halt = threading.Event(), threading.Event()
        self.workers: AnyWorkers = (
            InlineWorkers() if self.seed is None else SteppedWorkers(self.seed)
        )
        self.transport = FakeTransport(self.clock, self.vendor.answer, self.faults)
        self.transport.pause = self.workers.pause
        self.transport.watch = lambda: self.on_request(self)
        config = self._config()
        plans = plan_streams(self.catalog, config)
        self.rejects = RecordedRejects(config.rejected_records, self.clock, plans.values())
        budget = DiskBudget(tempfile.gettempdir(), 10_000_000)
        self.lanes: dict[StreamKey, Lane] = make_lanes(plans, config, budget)
        self.progress = Progress(list(plans), 0.0)
        jitter = Random(1).random
        exchange = Exchange(self.provider, self.transport, self.clock, self.halt, jitter=jitter)
        self.sender = Sender(exchange, narrows=self.policy == "skip")
        self.ledger = Ledger()

    def _config(self) -> Config:
        return Config(
            provider=self.provider,
            tables=self.tables,
            truncate_mode="sync_mode",
            nested_values="json_string",
            batching=Batching(self.max_rows, self.max_bytes, self.max_wait_s, self.slots or None),
            rejected_records=RejectedRecords(self.policy, self.max_rejected, None),
            staging=Staging(tempfile.gettempdir(), 10_000_000),
        )

    def engine(self) -> Engine:
        """An engine that has read nothing yet."""
        tools = Tools(
            provider=self.provider,
            sender=self.sender,
            workers=self.workers,
            ledger=self.ledger,
            rejects=self.rejects,
            progress=self.progress,
            clock=self.clock,
            emit=self._emit,
            stop=self.stop,
            halt=self.halt,
            guard=self.guard,
        )
        return Engine(self.lanes, tools, slots=self.slots or MOST, max_wait_s=self.max_wait_s)

    def run(self) -> Sync:
        """Run to the end; a failure is kept in `error`."""
        source = ScriptedSource.of(self.script, self.clock, self.workers)
        source.on_read = self.on_read
        engine = self.ran = self.engine()
        try:
            engine.run(source)
            self._check_that_nothing_is_held(engine)
        except DestinationError as error:
            self.error = error
        finally:
            self.workers.finish()
            engine.bounds.report()
        return self

    @staticmethod
    def _check_that_nothing_is_held(engine: Engine) -> None:
        """What bounds memory comes down to nothing when all is settled, or would stop a sync."""
        assert engine._dispatch.settling._kept_bytes == 0
        for lane in engine._all:
            repeats = lane.repeats
            assert (lane.queued_bytes, lane.tracked, lane.jobs) == (0, {}, {})
            assert (repeats.n_bytes, repeats.n_older, repeats.n_free, len(repeats)) == (0, 0, 0, 0)

    def _emit(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            message = json.loads(line)
            assert message["type"] == "STATE"
            self.states.append(message["state"])
            self.on_state(self._number(message["state"]), self)

    @staticmethod
    def _number(found: Any) -> int:
        return int(found["stream"]["stream_state"]["number"])

    @property
    def acknowledged(self) -> list[int]:
        """The numbers of the states, in the order they left."""
        return [self._number(found) for found in self.states]

    @property
    def rejected_ids(self) -> list[Any]:
        """The ids of the rejected rows."""
        return [json.loads(row.row)["id"] for row in self.rejects.rows]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Rows read, delivered and rejected."""
        counts = self.progress.counts[DEALS]
        return counts.read, counts.delivered, counts.rejected


MADE: dict[VendorName, tuple[Callable[..., Provider], Callable[[FakeClock], Vendor]]] = {
    "kore": (kore, lambda _: KoreVendor()),
    "qobra": (qobra, QobraVendor),
}


def sync(
    vendor_name: VendorName,
    mode: SyncMode,
    script: Sequence[Message | float],
    **more: Any,
) -> Sync:
    """A sync with a vendor of its own, unless `vendor` brings one."""
    make_provider, make_vendor = MADE[vendor_name]
    clock = more.pop("clock", None) or FakeClock()
    provider = make_provider(**more.pop("settings", {}))
    vendor = more.pop("vendor", None) or make_vendor(clock)
    catalog = more.pop("catalog", None) or catalog_of(mode)
    return Sync(provider, vendor, clock, catalog, script, **more)
