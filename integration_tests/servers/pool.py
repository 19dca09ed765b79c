"""The real server that tests share, started when the first of them asks for it."""

import pytest

from integration_tests.servers.base import BulkServer
from integration_tests.servers.nginx import Nginx

NEVER_SKIPPED = ("datasette", "pocketbase", "nginx")


class Pool:
    """One running server: tests are in the order of their servers, and ten would fill a machine."""

    def __init__(self) -> None:
        self.running: BulkServer | None = None

    def get(self, kind: type[BulkServer]) -> BulkServer:
        """Return the running server of this kind, or skip the test with the reason."""
        # not isinstance: a server on PostgreSQL is not that on SQLite
        if self.running is None or type(self.running) is not kind:
            self.stop()
            server = kind()
            start(server)
            self.running = server
        return self.running

    def stop(self) -> None:
        """End the server."""
        if self.running is not None:
            self.running.stop()
            self.running = None


def start(server: BulkServer | Nginx) -> None:
    """Install and start a server; only a slow one may be missing."""
    server.install()
    if server.unavailable is not None:
        if server.name in NEVER_SKIPPED:
            pytest.fail(f"{server.name} must be installable: {server.unavailable}")
        pytest.skip(f"{server.name} cannot be installed: {server.unavailable}")
    server.start()
