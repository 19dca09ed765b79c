"""The HTTP side: reads requests, asks the models, carries out faults, keeps the log.

aiohttp, because faults need its public handle on the connection. One event loop; the models run on
it, one request at a time. Binds to 127.0.0.1 only.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
from aiohttp import web

from .admin import admin_answer
from .broken import Refusal, half, miscounted, reset, scripted, silence, trickle
from .faults import Fault
from .listening import Port, held
from .page import page_html
from .reply import Reply, as_json
from .routes import Route, answer, route_of
from .world import LoggedRequest, World, public_headers

_TICK_S = 0.02


class Server:
    """One listening port in front of a world; lives on one event loop."""

    def __init__(self, world: World, port: int = 0) -> None:
        self._world = world
        self._wanted_port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: Port | None = None
        self.port = 0
        self.admin_port = 0

    async def start(self) -> None:
        """Listen; from then on the ports are known."""
        app = web.Application(client_max_size=1 << 40)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, lingering_time=0)
        await self._runner.setup()
        self._listen(self._wanted_port)
        self._always = Port(self._serving)
        self.admin_port = self._always.number
        self._spawn(self._tick())

    async def stop(self) -> None:
        """Close the port and all connections."""
        for task in list(self._tasks):
            task.cancel()
        self._always.close()
        if self._listening:
            self._listening.close()
        await asyncio.sleep(_TICK_S)  # a connection accepted just now gets its protocol, to be cut
        self._cut_all()
        await self._runner.cleanup()
        await asyncio.sleep(0)  # and its transport closed

    async def down(self, seconds: float) -> None:
        """Cut all connections and do not listen for some seconds; then the same port again."""
        if self._listening:
            self._listening.close()
            self._listening = None
        self._cut_all()
        self._spawn(self._up_after(seconds))

    async def _up_after(self, seconds: float) -> None:
        with held(self.port):
            await asyncio.sleep(seconds)
            if self._listening is None:
                self._listen(self.port)

    def _listen(self, port: int) -> None:
        self._listening = Port(self._protocol, port)
        self.port = self._listening.number

    def _protocol(self) -> asyncio.BaseProtocol:
        """Decide the fate of an accepted connection."""
        with self._world.lock:
            refuses = self._world.script.refuses_next_connection()
        if refuses:
            self._note_refusal()
            return Refusal()
        return self._serving()

    def _serving(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        assert server is not None
        return server()

    def _note_refusal(self) -> None:
        now = self._world.clock.now()
        entry = LoggedRequest(0, now, "none", "connection", "", "", "", {}, fault="refuse")
        self._world.note(entry)

    async def _tick(self) -> None:
        """Keep background imports going while nobody asks."""
        while True:
            await asyncio.sleep(_TICK_S)
            with self._world.lock:
                self._world.qobra.run_due()

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _cut_all(self) -> None:
        server = self._runner.server
        for connection in list(server.connections) if server else ():
            reset(connection.transport)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request: the page, the admin API, or a vendor."""
        path = request.rel_url.raw_path
        if path in ("/", "/_page"):
            return web.Response(
                text=page_html(self._world, request.query, whole=path == "/"),
                content_type="text/html",
            )
        if path == "/favicon.ico":
            return web.Response(status=204)
        if path.startswith("/_admin/"):
            return await self._admin(request, path.removeprefix("/_admin/"))
        started = time.perf_counter()
        route = route_of(request.method, path)
        entry = LoggedRequest(
            number=0,
            time=self._world.clock.now(),
            vendor=route.vendor,
            kind=route.kind,
            method=request.method,
            path=path,
            query=request.rel_url.raw_query_string,
            headers=public_headers(request.headers),
        )
        with self._world.lock:
            self._world.note(entry)
            fault = self._world.script.take(f"{request.method} {request.path_qs}")
        entry.fault = fault.kind if fault else None
        try:
            return await self._vendor(request, route, entry, fault)
        finally:
            entry.duration_ms = round((time.perf_counter() - started) * 1000, 3)

    async def _admin(self, request: web.Request, name: str) -> web.Response:
        body = await request.read()
        if name == "down":
            await self.down(float(orjson.loads(body)["seconds"]))
            return web.json_response({"ok": True})
        status, text = admin_answer(self._world, request.method, name, request.query, body)
        return web.Response(status=status, body=text, content_type="application/json")

    async def _vendor(
        self, request: web.Request, route: Route, entry: LoggedRequest, fault: Fault | None
    ) -> web.StreamResponse:
        """Answer one vendor request, with its fault."""
        if fault and fault.kind in ("refuse", "down"):
            if fault.kind == "down":
                await self.down(fault.seconds or 1.0)
            return self._cut(request)
        cap = self._cap(route)
        if (
            cap
            and self._world.settings.too_large == "early"
            and (request.content_length or 0) > cap
        ):
            entry.status = 413
            return self._response(_too_large(route), closing=True)
        try:
            body = await request.read()
        except (ConnectionError, web.HTTPException):
            return self._cut(request)
        entry.bytes = len(body)
        if self._world.settings.latency_s:
            await asyncio.sleep(self._world.settings.latency_s)
        if fault:
            refused = await self._before(request, entry, fault)
            if refused is not None:
                return refused
        if cap and len(body) > cap:
            reply = _too_large(route)
        else:
            reply = answer(self._world, route, request.headers, request.query, body)
        entry.rows = reply.rows
        entry.applied = reply.status < 400
        if fault:
            return await self._after(request, entry, fault, reply)
        entry.status = reply.status
        return self._response(reply, closing=self._world.script.closes_after_answer())

    async def _before(
        self, request: web.Request, entry: LoggedRequest, fault: Fault
    ) -> web.StreamResponse | None:
        """Carry out a fault that keeps the model from seeing the request; None lets it through."""
        if fault.kind == "cut_before":
            return self._cut(request)
        if fault.kind == "stall_before":
            await silence(request, fault)
            return self._cut(request) if fault.seconds is None else None
        if fault.kind == "redirect":
            entry.status = fault.status if fault.status in (301, 302, 303, 307, 308) else 307
            return web.Response(status=entry.status, headers={"Location": fault.location})
        if fault.kind == "status" and not fault.applied:
            entry.status = fault.status
            return scripted(fault)
        return None

    async def _after(
        self, request: web.Request, entry: LoggedRequest, fault: Fault, reply: Reply
    ) -> web.StreamResponse:
        """Carry out a fault that spoils the answer to a request that was applied."""
        if fault.kind == "cut_after":
            return self._cut(request)
        if fault.kind == "stall_after":
            await silence(request, fault)
            if fault.seconds is None:
                return self._cut(request)
        if fault.kind == "half_body":
            return await half(request, reply)
        entry.status = reply.status
        if fault.kind == "trickle":
            return await trickle(request, reply, fault.seconds or 1.0)
        if fault.kind == "status":
            entry.status = fault.status
            return scripted(fault)
        if fault.kind == "invalid_json":
            reply = Reply(200, b'{"records":[{"id":')
        if fault.kind == "wrong_count":
            reply = Reply(
                reply.status, orjson.dumps(miscounted(orjson.loads(reply.body), fault.offset))
            )
        return self._response(reply)

    def _cap(self, route: Route) -> int:
        settings = self._world.settings
        return (
            settings.qobra_max_body_bytes
            if route.vendor == "qobra"
            else settings.kore_max_body_bytes
        )

    def _response(self, reply: Reply, *, closing: bool = False) -> web.Response:
        response = web.Response(
            status=reply.status,
            body=reply.body,
            headers=reply.headers,
            content_type="application/json",
        )
        if closing:
            response.force_close()
        return response

    def _cut(self, request: web.Request) -> web.Response:
        reset(request.transport)
        return web.Response(status=500)  # never leaves: the connection is gone


def _too_large(route: Route) -> Reply:
    if route.vendor == "kore":
        return as_json(413, {"errors": [{"msg": "Payload too large", "code": 413}]})
    return as_json(413, {"message": "Payload too large"})
