"""Everything one emulator knows, behind one lock: both vendors, clock, fault script, request log.

Both the HTTP side and a test's direct access come through here; nothing here knows about HTTP
libraries or threads' homes. Secrets of a request never enter the log.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import orjson

from .clock import Clock
from .faults import Script
from .kore import Kore
from .kore_auth import App
from .qobra import Qobra
from .settings import Settings
from .storage import Storage
from .values import checksum, exact

Vendor = Literal["qobra", "kore"]
_SECRET_HEADERS = frozenset({"auth", "authorization", "x-api-key", "cookie", "proxy-authorization"})
_LOG_LENGTH = 100_000


@dataclass
class LoggedRequest:
    """One vendor request; status 0 means that no whole answer was sent."""

    number: int
    time: float
    vendor: str
    kind: str
    method: str
    path: str
    query: str
    headers: dict[str, str]
    status: int = 0
    rows: int = 0
    bytes: int = 0
    duration_ms: float = 0.0
    fault: str | None = None
    applied: bool = False


def public_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers without those that carry secrets."""
    shown = {f"{name}": value for name, value in headers.items()}
    return {name: value for name, value in shown.items() if name.lower() not in _SECRET_HEADERS}


class World:
    """State of the emulator and the ways to look at it and change it."""

    def __init__(self, storage: str = ":memory:", **switches: Any) -> None:
        self.lock = threading.RLock()
        self.clock = Clock()
        self.script = Script()
        self._log: deque[LoggedRequest] = deque(maxlen=_LOG_LENGTH)
        self._number = 0
        self._storage = Storage(storage)
        self._first_settings = Settings().changed(**switches)
        self.qobra = Qobra(self._storage, self.clock)
        self.kore = Kore(self._storage, self.clock)
        self._use(self._first_settings)

    @property
    def settings(self) -> Settings:
        """Return the switches in force."""
        return self.qobra.settings

    def set(self, **switches: Any) -> None:
        """Change switches."""
        with self.lock:
            self._use(self.settings.changed(**switches))

    def _use(self, settings: Settings) -> None:
        self.qobra.settings = self.kore.settings = settings
        self.clock.freeze(frozen=settings.manual_clock)

    def advance(self, seconds: float) -> None:
        """Move the emulated time ahead and finish the imports that are then due."""
        with self.lock:
            self.clock.advance(seconds)
            self.qobra.run_due()

    def faults(self, script: list[dict[str, Any]]) -> None:
        """Replace the script; `faults.Fault` has an entry's members. Numbers count from now."""
        with self.lock:
            self.script.load(script)

    def add_fault(self, entry: dict[str, Any]) -> None:
        """Append a fault to the script; the counting of the others goes on."""
        with self.lock:
            self.script.add(entry)

    def reset(self) -> None:
        """Empty all tables, and forget requests, imports, faults, apps and changed switches."""
        with self.lock:
            qobra, kore = self.qobra.tables.values(), self.kore.tables.values()
            self.clock = Clock()
            self.script.load([])
            self._log.clear()
            self._number = 0
            self.qobra = Qobra(self._storage, self.clock)
            self.kore = Kore(self._storage, self.clock)
            for table in qobra:
                self.qobra.create_table(table.key, table.columns, table.id_field)
            for kore_table in kore:
                self.kore.restore_table(kore_table)
            self._use(self._first_settings)

    def close(self) -> None:
        """Release the storage."""
        with self.lock:
            self._storage.close()

    def create_table(
        self,
        vendor: Vendor,
        name: str,
        columns: Mapping[str, str] | None = None,
        *,
        id_field: str = "id",
        definition: Mapping[str, Any] | None = None,
    ) -> None:
        """Make an empty table; `columns` maps names to types, Kore.ai also takes a definition."""
        with self.lock:
            if vendor == "qobra":
                self.qobra.create_table(name, columns, id_field)
            else:
                schema = [
                    {"name": column, "type": kind} for column, kind in (columns or {}).items()
                ]
                self.kore.create_table({"schemaDef": schema, **(definition or {}), "name": name})

    def add_app(
        self,
        client_id: str,
        secret: str,
        algorithm: str | None = None,
        rights: Mapping[str, str] | None = None,
        other_rights: str = "rwd",
    ) -> None:
        """Register a Kore.ai app; rights are letters of `rwd`, per table and for all others."""
        with self.lock:
            self.kore.doorkeeper.add(
                App(client_id, secret, algorithm, dict(rights or {}), other_rights)
            )

    def tables(self) -> list[tuple[Vendor, str]]:
        """Name all tables."""
        with self.lock:
            return [("qobra", key) for key in self.qobra.tables] + [
                ("kore", name) for name in self.kore.tables
            ]

    def raw_rows(self, vendor: Vendor, table: str) -> list[bytes]:
        """Return the rows as the JSON texts that were received, in the order of first insertion."""
        with self.lock:
            self.qobra.run_due()
            texts = [row.text for row in self._storage.page(self._store(vendor, table), -1)]
            return (
                [self.qobra.project(table, text) for text in texts] if vendor == "qobra" else texts
            )

    def rows(self, vendor: Vendor, table: str) -> list[dict[str, Any]]:
        """Return the rows with integers as int and all other numbers as Decimal."""
        return [exact(text) for text in self.raw_rows(vendor, table)]

    def latest_rows(self, vendor: Vendor, table: str, limit: int) -> list[dict[str, Any]]:
        """Return the rows that came in last, the newest first."""
        with self.lock:
            page = self._storage.page(self._store(vendor, table), limit, newest_first=True)
            texts = [
                self.qobra.project(table, row.text) if vendor == "qobra" else row.text
                for row in page
            ]
            return [exact(text) for text in texts]

    def count(self, vendor: Vendor, table: str) -> int:
        """Count the rows."""
        with self.lock:
            self.qobra.run_due()
            return self._storage.count(self._store(vendor, table))

    def checksum(self, vendor: Vendor, table: str) -> str:
        """Return `values.checksum` of the table's rows."""
        return checksum(self.rows(vendor, table))

    def imports(self, latest: int = 0) -> list[dict[str, Any]]:
        """Return all (or the latest) Qobra imports as GET shows them, the newest last."""
        with self.lock:
            # through text, because bad rows are held as texts
            return list(exact(orjson.dumps(self.qobra.imports(latest))))

    @property
    def requests(self) -> list[LoggedRequest]:
        """Return the log of vendor requests."""
        with self.lock:
            return list(self._log)

    @property
    def rate_violations(self) -> int:
        """Count the requests that broke a Kore.ai rate window."""
        return self.kore.windows.violations

    def note(self, request: LoggedRequest) -> None:
        """Append to the log; called when a request arrives, its entry is completed later."""
        with self.lock:
            self._number += 1
            request.number = self._number
            self._log.append(request)

    def summary(self) -> dict[str, Any]:
        """Return the whole state but the rows, for the admin API."""
        with self.lock:
            return {
                "settings": asdict(self.settings),
                "now": self.clock.now(),
                "tables": [
                    {"vendor": vendor, "table": table, "count": self.count(vendor, table)}
                    for vendor, table in self.tables()
                ],
                "requests": self._number,
                "imports": len(self.qobra.loads),
                "rate_violations": self.rate_violations,
            }

    def _store(self, vendor: Vendor, table: str) -> str:
        return (
            self.qobra.tables[table].store if vendor == "qobra" else self.kore.tables[table].store
        )
