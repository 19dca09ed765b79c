"""How faults look on the wire: resets, silence, broken and falsified answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from email.utils import formatdate
from typing import Any

import orjson
from aiohttp import web

from .faults import Fault
from .reply import Reply

_COUNTS = ("objects_imported", "number_of_records", "nDeleted", "nModified", "total")


async def half(request: web.Request, reply: Reply) -> web.StreamResponse:
    """Send half of the body that was announced, then close."""
    response = web.StreamResponse(status=reply.status)
    response.content_type, response.content_length = "application/json", len(reply.body)
    await response.prepare(request)
    await response.write(reply.body[: len(reply.body) // 2])
    if request.transport:
        request.transport.close()
    return response


async def trickle(request: web.Request, reply: Reply, seconds: float) -> web.StreamResponse:
    """Send the body in ten pieces."""
    response = web.StreamResponse(status=reply.status)
    response.content_type, response.content_length = "application/json", len(reply.body)
    await response.prepare(request)
    step = -(-len(reply.body) // 10)
    with contextlib.suppress(ConnectionError):
        for start in range(0, len(reply.body), step):
            await asyncio.sleep(seconds / 10)
            await response.write(reply.body[start : start + step])
    return response


class Refusal(asyncio.Protocol):
    """A connection that is reset as soon as it is accepted."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Reset it."""
        assert isinstance(transport, asyncio.Transport)
        reset(transport)


def reset(transport: asyncio.Transport | None) -> None:
    """End a connection with RST instead of FIN."""
    if transport is None or transport.is_closing():
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def silence(request: web.Request, fault: Fault) -> None:
    """Wait for its seconds, which a test may change meanwhile, or until the client has given up."""
    began = time.monotonic()
    # polled: aiohttp tells nobody that a client went away
    while request.transport and not request.transport.is_closing():
        if fault.seconds is not None and time.monotonic() >= began + fault.seconds:
            return
        await asyncio.sleep(0.02)


def scripted(fault: Fault) -> web.Response:
    """Build the answer a `status` fault asks for."""
    headers = dict(fault.headers)
    if isinstance(fault.retry_after, str):  # "date:SECONDS" is an HTTP date that many seconds ahead
        ahead = float(fault.retry_after.removeprefix("date:"))
        headers["Retry-After"] = formatdate(time.time() + ahead, usegmt=True)  # noqa: TID251
    elif fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    if isinstance(fault.body, str):
        return web.Response(
            status=fault.status, text=fault.body, headers=headers, content_type="text/html"
        )
    body = fault.body if fault.body is not None else {"message": f"scripted {fault.status}"}
    return web.Response(
        status=fault.status,
        body=orjson.dumps(body),
        headers=headers,
        content_type="application/json",
    )


def miscounted(payload: Any, offset: int) -> Any:
    """Falsify each count of an answer."""
    if isinstance(payload, list):
        return [miscounted(member, offset) for member in payload]
    if not isinstance(payload, dict):
        return payload
    changed: dict[str, Any] = {}
    for key, value in payload.items():
        if key in _COUNTS and isinstance(value, int):
            changed[key] = value + offset
        elif key == "records" and isinstance(value, list):
            changed[key] = value[:offset] if offset < 0 else value + value[-1:] * offset
        else:
            changed[key] = miscounted(value, offset)
    return changed
