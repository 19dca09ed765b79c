"""A server that costs little: HTTP over asyncio protocols, `vendors.py` behind it.

Each POST is answered after a settable delay, requests of several connections side by side. The
harness steers it through `/-/reset/MILLISECONDS?import_s=0&most=8&slow_above=8` and `/-/stats`,
which are not counted: how long a Qobra import takes, above how many POSTs at a time it answers 429,
and above how many each takes longer. It prints its port on a line of its own, and ends when its
parent does.
"""

import asyncio
import gzip
import os
import re
import sys
from urllib.parse import parse_qsl, urlsplit

from benchmarks.vendors import Vendor

_ZIPPED = re.compile(rb"\r\ncontent-encoding: *gzip", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """One keep-alive connection: HTTP/1.1 with Content-Length and nothing more."""

    def __init__(self, vendor: Vendor) -> None:
        """Answer from `vendor`, which all connections share."""
        self._vendor = vendor
        self._buffer = bytearray()
        self._body_at = self._end = 0
        self._is_zipped = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to answer on."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect one request and answer it when its last byte is there."""
        self._buffer += data
        if not self._end:
            at = self._buffer.find(b"\r\n\r\n")
            if at < 0:
                return
            length = _LENGTH.search(self._buffer, 0, at + 2)
            self._is_zipped = _ZIPPED.search(self._buffer, 0, at + 2) is not None
            self._body_at = at + 4
            self._end = self._body_at + (int(length[1]) if length else 0)
        if len(self._buffer) < self._end:
            return
        method, target, _ = self._buffer.split(b" ", 2)
        body = self._buffer[self._body_at : self._end]
        del self._buffer[: self._end]
        self._end = 0
        if self._is_zipped:
            body = bytearray(gzip.decompress(body))
        self._serve(method.decode(), target.decode(), body)

    def _serve(self, method: str, target: str, body: bytearray) -> None:
        vendor = self._vendor
        if target == "/-/stats":
            self._write(vendor.stats())
        elif target.startswith("/-/reset/"):
            url = urlsplit(target)
            options = {name: float(value) for name, value in parse_qsl(url.query)}
            vendor.reset(int(url.path.rpartition("/")[2]) / 1000, **options)
            self._write(b"{}")
        else:
            vendor.requests += 1
            if method == "POST" and vendor.in_flight >= vendor.most:
                vendor.refused += 1
                self._write(b"{}", b"429 Too Many Requests")
                return
            answer = vendor.answer(method, target, body)
            if method != "POST":
                self._write(answer)
                return
            vendor.in_flight += 1
            vendor.most_in_flight = max(vendor.most_in_flight, vendor.in_flight)
            if vendor.delay_s:
                load = max(1.0, vendor.in_flight / vendor.slow_above)
                delay_s = vendor.delay_s * load**2
                asyncio.get_running_loop().call_later(delay_s, self._finish, answer)
            else:
                self._finish(answer)

    def _finish(self, answer: bytes | None) -> None:
        self._vendor.in_flight -= 1
        self._write(answer)

    def _write(self, answer: bytes | None, status: bytes = b"200 OK") -> None:
        assert self._transport is not None
        status = status if answer is not None else b"404 Not Found"
        body = answer or b"{}"
        self._transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (status, len(body), body)
        )


async def _serve_until_parent_ends() -> None:
    vendor = Vendor()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(vendor), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    parent = os.getppid()
    # the harness ends it; this is for a harness that was killed
    while os.getppid() == parent:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(_serve_until_parent_ends())
