"""Real servers with a bulk-row API, installed, started and stopped for tests.

FAST are pure pip installs and run in every test run; SLOW need npm or apt and run in a second
step. Each module's Facts say what its server answers, as measured; test_servers.py measures again.
"""

from integration_tests.servers.base import BulkServer, Column, Facts
from integration_tests.servers.datasette import Datasette
from integration_tests.servers.nginx import Nginx
from integration_tests.servers.pocketbase import PocketBase

FAST: tuple[type[Datasette] | type[PocketBase], ...] = (Datasette, PocketBase)

__all__ = ["FAST", "BulkServer", "Column", "Datasette", "Facts", "Nginx", "PocketBase"]
