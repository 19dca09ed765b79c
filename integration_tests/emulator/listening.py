"""One listening port of an event loop, which may be closed while a connection is being accepted.

An asyncio server that is closed then leaves that connection open, with nobody to own it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable


class Port:
    """Listens on 127.0.0.1 from when it is made; `protocol` is called for each connection."""

    def __init__(self, protocol: Callable[[], asyncio.BaseProtocol], number: int = 0) -> None:
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._socket = socket.create_server(("127.0.0.1", number), backlog=256)
        self._socket.settimeout(0)
        self._tasks: set[asyncio.Task[None]] = set()
        self.number: int = self._socket.getsockname()[1]
        self.is_open = True
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            connection, _ = self._socket.accept()
            task = self._loop.create_task(self._connect(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self, connection: socket.socket) -> None:
        if self.is_open:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        else:
            connection.close()

    def close(self) -> None:
        """Accept nothing more."""
        if self.is_open:
            self.is_open = False
            self._loop.remove_reader(self._socket)
            self._socket.close()


def held(number: int) -> socket.socket:
    """Keep a closed port from being given to anybody else; who connects is refused.

    Another `Port` may be opened on it meanwhile, as nothing listens here.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", number))
    return holder
