"""Delivers batches: each row is delivered, rejected, receipted or in doubt.

Runs on sender threads and owns no state but a batch in hand, which is a `Passage`. One request is
`exchange`'s.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from destination_bulk_tables.clock import Clock
from destination_bulk_tables.doubt import Doubt
from destination_bulk_tables.exchange import Exchange, Tally
from destination_bulk_tables.http import Flow
from destination_bulk_tables.model import BatchResult, Table
from destination_bulk_tables.passage import Delivery, Passage
from destination_bulk_tables.provider import Provider
from destination_bulk_tables.trace import Trace
from destination_bulk_tables.transport import Transport

T = TypeVar("T")


class Sender:
    """Shared by all sender threads.

    `narrows`: a refused batch is taken apart (policy skip); one that deletes first always is.
    """

    def __init__(
        self,
        provider: Provider,
        transport: Transport,
        clock: Clock,
        halt: threading.Event,
        *,
        narrows: bool,
        max_elapsed_s: float | None = None,
        jitter: Callable[[], float] = random.random,
        trace: Trace | None = None,
    ) -> None:
        self.provider = provider
        self.clock = clock
        self.narrows = narrows
        self.exchange = Exchange(
            provider,
            transport,
            clock,
            halt,
            max_elapsed_s=max_elapsed_s,
            jitter=jitter,
            trace=trace,
        )
        self.doubt = Doubt(provider, self.exchange)

    def run(self, table: Table | None, flow: Flow[T], tally: Tally | None = None) -> T:
        """Drive a flow to its end. Raises what the flow lets pass, and `DestinationError`s."""
        return self.exchange.run(table, flow, tally)

    def deliver(self, delivery: Delivery) -> BatchResult:
        """Deliver a batch; never raises: a failure is the result's `error`."""
        result = BatchResult(delivery.batch, started_at=self.clock.monotonic())
        tally = delivery.tally
        try:
            Passage(
                self.provider,
                self.exchange,
                self.doubt,
                self.clock,
                delivery,
                result,
                narrows=self.narrows,
            ).run()
        except Exception as error:  # noqa: BLE001 - the border of the sender thread
            result.error = error
        result.requests, result.retries = tally.requests, tally.retries
        result.elapsed_s = self.clock.monotonic() - result.started_at
        return result
