"""A relay in front of a server, which kills it while a write is under way.

`kill_at` arms it for the next write. At `asked` the server has all of it but the last byte of its
first part, so it cannot have stored anything. At `stored` it has answered, and the answer is not
passed on. Either way the connection breaks then, and nobody listens until `restart`.
"""

import contextlib
import select
import socket
import threading
from typing import Literal, Self
from urllib.parse import urlsplit

from integration_tests.servers.base import BulkServer, free_port

Moment = Literal["asked", "stored"]


class Relay:
    """Passes bytes on, one thread per connection."""

    def __init__(self, server: BulkServer) -> None:
        self.server = server
        self._moment: Moment | None = None
        # other connections break before the server is quite gone, and then it is to be restarted
        self._killing = threading.Lock()
        self._port = free_port()  # listened on again by `restart`
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self.base_url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def kill_at(self, moment: Moment) -> None:
        """Kill the server at this moment of the next write."""
        self._moment = moment

    def restart(self) -> None:
        """Start the server again, on the same port and data."""
        with self._killing:
            self.server.restart()
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._open()

    def _kill(self) -> None:
        with self._killing:
            self._close()
            self.server.kill()

    def _open(self) -> None:
        threading.Thread(target=self._listen, args=(self._listener,), daemon=True).start()

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        address = ("127.0.0.1", urlsplit(self.server.base_url).port or 0)
        with client, contextlib.suppress(OSError), socket.create_connection(address) as upstream:
            self._pass_on(client, upstream)

    def _pass_on(self, client: socket.socket, upstream: socket.socket) -> None:
        moment: Moment | None = None
        while True:
            for ready in select.select((client, upstream), (), ())[0]:
                part = ready.recv(1 << 16)
                if not part:
                    return
                if ready is upstream:
                    if moment == "stored":
                        self._kill()
                        return
                    client.sendall(part)
                    continue
                if part.startswith((b"POST ", b"PUT ", b"PATCH ")):
                    moment, self._moment = self._moment, None
                    if moment == "asked":
                        upstream.sendall(part[:-1])
                        self._kill()
                        return
                upstream.sendall(part)
