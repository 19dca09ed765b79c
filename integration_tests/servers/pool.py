"""The real servers that the tests of one module share, each started when a test asks for it."""

import pytest

from integration_tests.servers.base import BulkServer
from integration_tests.servers.nginx import Nginx

NEVER_SKIPPED = ("datasette", "pocketbase", "nginx")


class Pool:
    """Servers started once and shared by the tests of one run."""

    def __init__(self) -> None:
        self.running: dict[type[BulkServer], BulkServer] = {}

    def get(self, kind: type[BulkServer]) -> BulkServer:
        """Return the running server of this kind, or skip the test with the reason."""
        if kind not in self.running:
            server = kind()
            start(server)
            self.running[kind] = server
        return self.running[kind]


def start(server: BulkServer | Nginx) -> None:
    """Install and start a server; only a slow one may be missing."""
    server.install()
    if server.unavailable is not None:
        if server.name in NEVER_SKIPPED:
            pytest.fail(f"{server.name} must be installable: {server.unavailable}")
        pytest.skip(f"{server.name} cannot be installed: {server.unavailable}")
    server.start()
