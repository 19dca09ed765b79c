"""Forms of custom_http for tests: a provider with little more than it must have, and its wire."""

from __future__ import annotations

import json
import threading
from typing import Any, TypeVar

import pytest

from destination_bulk_tables.config import parse
from destination_bulk_tables.dispositions import Accept, Disposition, Renew, Stop, Throw
from destination_bulk_tables.exchange import Exchange
from destination_bulk_tables.http import Flow, HttpRequest, HttpResponse
from destination_bulk_tables.model import Batch, BatchResult, Epoch, RowBlock, StreamKey, Table
from destination_bulk_tables.outcomes import Context, WriteReport
from destination_bulk_tables.passage import Delivery
from destination_bulk_tables.providers import PROVIDERS
from destination_bulk_tables.providers.custom_http import CustomHttp
from destination_bulk_tables.sender import Sender
from unit_tests.fakes import Answer, FakeClock, FakeTransport

T = TypeVar("T")
LEAST: dict[str, Any] = {
    "provider_type": "custom_http",
    "base_url": "https://api.example.com",
    "authentication": {"auth_type": "bearer", "token": "s3cret-token"},
    "write_path": "/t/{table}/rows",
    "body": {"body_type": "object"},
    "check_path": "/me",
}
COUNT = {"table_count_path": "/t/{table}/count", "table_count_value": "n"}
ROWS = (b'{"id":1,"n":"a"}', b'{"id":2,"n":"b"}', b'{"id":3,"n":"c"}')
STREAM = StreamKey(None, "deals")


def made(**form: Any) -> CustomHttp:
    """A provider from a config that holds little more than it must."""
    provider = parse({"provider": LEAST | form}, PROVIDERS, is_cloud=False).provider
    assert isinstance(provider, CustomHttp)
    return provider


def table(name: str = "deals", **more: Any) -> Table:
    columns = {"columns": ("id", "n"), "mode": "append"}
    return Table(name=name, stream=STREAM, **(columns | more))


def dedup(**more: Any) -> Table:
    return table(mode="dedup", key_columns=("id",), **more)


def block(*rows: bytes) -> RowBlock:
    rows = rows or ROWS
    return RowBlock(rows, len(rows), range(len(rows)))


def answer(status: int = 200, body: Any = b"", **headers: str) -> HttpResponse:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, names, text)


def run(
    provider: CustomHttp,
    flow: Flow[T],
    *answers: HttpResponse,
    sent: list[HttpRequest] | None = None,
) -> T:
    """Drive a flow with these answers, each judged by the provider as the sender would have it."""
    sent = [] if sent is None else sent
    left = list(answers)
    try:
        request = next(flow)
        while True:
            sent.append(request)
            response = left.pop(0)
            found = provider.classify(request, response)
            if isinstance(found, Accept):
                request = flow.send(response)
            elif isinstance(found, Throw):
                request = flow.throw(found.error)
            elif isinstance(found, Stop | Renew):
                raise found.error
            else:
                pytest.fail(f"not for a flow: {found}")
    except StopIteration as end:
        assert not left
        return end.value  # type: ignore[no-any-return]  # StopIteration.value is untyped


def write(provider: CustomHttp, response: HttpResponse, **context: Any) -> WriteReport:
    return run(provider, provider.write(table(), block(), Context(**context)), response)


def sent_by(provider: CustomHttp, where: Table | None = None, **context: Any) -> HttpRequest:
    """The request of a write."""
    return next(provider.write(where or table(), block(), Context(**context)))


def judged(provider: CustomHttp, response: HttpResponse) -> Disposition:
    return provider.classify(sent_by(provider), response)


class Wire:
    """A sender on a fake network; `bodies` are the ids in each write that left."""

    def __init__(self, provider: CustomHttp, answer_to: Answer, *, narrows: bool = True) -> None:
        self.clock = FakeClock()
        self.transport = FakeTransport(self.clock, answer_to)
        halt = threading.Event()
        exchange = Exchange(provider, self.transport, self.clock, halt, jitter=lambda: 0.1)
        self.sender = Sender(exchange, narrows=narrows)

    def deliver(self, count: int, **context: Any) -> BatchResult:
        """Deliver so many rows, `{"id": 0}` and on."""
        rows = block(*[b'{"id":%d}' % i for i in range(count)])
        batch = Batch(1, table(), rows, "end", [(Epoch(count), count)])
        return self.sender.deliver(Delivery(batch, Context(**context)))

    @property
    def bodies(self) -> list[list[int]]:
        bodies = [json.loads(sent.request.body or b"{}") for sent in self.transport.sent]
        return [[row["id"] for row in body["rows"]] for body in bodies]
