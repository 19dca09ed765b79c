"""Real servers with a bulk-row API, installed, started and stopped for tests.

FAST are pure pip installs and run in every test run; SLOW need npm or apt, or are slow, and run in
a second step. Each module's Facts say what its server answers; test_servers.py measures it again.
"""

from integration_tests.servers.arcadedb import ArcadeDB
from integration_tests.servers.base import BulkServer, Column, Facts
from integration_tests.servers.clickhouse import ClickHouse
from integration_tests.servers.datasette import Datasette
from integration_tests.servers.eve import Eve
from integration_tests.servers.groonga import Groonga
from integration_tests.servers.kinto import Kinto
from integration_tests.servers.nginx import Nginx
from integration_tests.servers.parse import ParseServer
from integration_tests.servers.pocketbase import PocketBase
from integration_tests.servers.pouchdb import PouchDB
from integration_tests.servers.pygeoapi import PyGeoApi
from integration_tests.servers.relay import Relay
from integration_tests.servers.rqlite import Rqlite
from integration_tests.servers.supabase_lite import SupabaseLite, SupabaseOnPostgres

FAST: tuple[type[BulkServer], ...] = (Datasette, PocketBase)
SLOW: tuple[type[BulkServer], ...] = (
    ArcadeDB,
    PouchDB,
    Rqlite,
    ClickHouse,
    Eve,
    Groonga,
    Kinto,
    ParseServer,
    SupabaseLite,
)

__all__ = [
    "FAST",
    "SLOW",
    "ArcadeDB",
    "BulkServer",
    "ClickHouse",
    "Column",
    "Datasette",
    "Eve",
    "Facts",
    "Groonga",
    "Kinto",
    "Nginx",
    "ParseServer",
    "PocketBase",
    "PouchDB",
    "PyGeoApi",
    "Relay",
    "Rqlite",
    "SupabaseLite",
    "SupabaseOnPostgres",
]
