"""Delivers batches: each row is delivered, rejected, receipted or in doubt.

Runs on sender threads and owns no state but a batch in hand, which is a `Passage`. One request is
`exchange`'s.
"""

from __future__ import annotations

from destination_bulk_tables.doubt import Doubt
from destination_bulk_tables.exchange import Exchange
from destination_bulk_tables.model import BatchResult
from destination_bulk_tables.passage import Delivery, Passage


class Sender:
    """Shared by all sender threads.

    `narrows`: a refused batch is taken apart (policy skip); one that deletes first always is.
    """

    def __init__(self, exchange: Exchange, *, narrows: bool) -> None:
        self.exchange = exchange
        self.doubt = Doubt(exchange)
        self.narrows = narrows

    def deliver(self, delivery: Delivery) -> BatchResult:
        """Deliver a batch; never raises: a failure is the result's `error`."""
        clock, tally = self.exchange.clock, delivery.tally
        result = BatchResult(delivery.batch, started_at=clock.monotonic())
        try:
            Passage(self.exchange, self.doubt, delivery, result, narrows=self.narrows).run()
        except Exception as error:  # noqa: BLE001 - the border of the sender thread
            result.error = error
        result.requests, result.retries = tally.requests, tally.retries
        result.elapsed_s = clock.monotonic() - result.started_at
        return result
