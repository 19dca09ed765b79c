"""What Qobra and Kore.ai answer, in the sink's cheap form: rows are counted, none is kept.

Invariant: a row counts once per `MARKER` in a body that was read to its end, so a lost or doubled
row shows. Tables named `keyed_...` also keep the set of keys, for upserts and deletes. Kore.ai's
answer echoes the rows as the vendor's does (without the columns the vendor adds). It does not parse
JSON, verify credentials or inject faults: the emulator does that, and is too slow to time against.
"""

import json
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from math import inf
from urllib.parse import parse_qs, urlsplit

MARKER = b"Zq7-"
_KEY = re.compile(rb"Zq7-(\d{8})")


@dataclass(slots=True)
class Table:
    """What one table holds: a number of rows, and their keys where they matter."""

    rows: int = 0
    keys: set[bytes] = field(default_factory=set)


@dataclass(slots=True)
class Import:
    """One Qobra import: it is finished by the time it is asked for."""

    id: str
    table: str
    created_at: str
    rows: int = 0
    ends_at: float = 0.0


class Vendor:
    """Both vendors' answers and the counters of one measurement."""

    def __init__(self) -> None:
        """Start with no delay and nothing counted."""
        self.reset(0.0)

    def reset(
        self,
        delay_s: float,
        import_s: float = 0.0,
        most: float = inf,
        slow_above: float = inf,
    ) -> None:
        """Forget everything, and delay each later POST by `delay_s`."""
        self.delay_s, self.import_s = delay_s, import_s
        self.most, self.slow_above = most, slow_above
        self.refused = 0
        self.tables: dict[str, Table] = {}
        self.imports: dict[str, Import] = {}
        self.pending: dict[str, Import] = {}
        self.requests = 0
        self.in_flight = self.most_in_flight = 0
        self.cpu_start_s = time.process_time()

    def stats(self) -> bytes:
        """Tell everything counted since the last reset."""
        return _json(
            requests=self.requests,
            rows=sum(table.rows for table in self.tables.values()),
            most_in_flight=self.most_in_flight,
            refused=self.refused,
            cpu_s=time.process_time() - self.cpu_start_s,
        )

    def answer(self, method: str, target: str, body: bytearray) -> bytes | None:
        """Find the body of the 200 to one request; None where nothing has that name."""
        url = urlsplit(target)
        answer: bytes | None = None
        match method, url.path.strip("/").split("/"):
            case "POST", ["v1", "tables", table, "records", "bulk"]:
                answer = self._qobra_write(table, url.query, body)
            case "GET", ["v1", "imports", import_id] if import_id in self.imports:
                answer = self._qobra_import(self.imports[import_id])
            case "GET", ["v2", "data-structures"]:
                answer = _json(data=[])
            case "POST", ["custom", table]:
                answer = _json(stored=self._insert(table, body))
            case "POST", ["api", "public", "tables", table, "bulk"]:
                self._insert(table, body)
                answer = b'{"records":' + body[body.index(b"[") :]
            case "POST", ["api", "public", "tables", table, "query"]:
                answer = self._query(table, url.query, body)
            case "DELETE", ["api", "public", "tables", table]:
                answer = _json(nDeleted=self._delete(table, body))
            case _:
                pass
        return answer

    def _qobra_write(self, name: str, query: str, body: bytearray) -> bytes:
        options = parse_qs(query)
        now = _now()
        entry = Import(f"{len(self.imports) + 1:024x}", name, now)
        if options.get("debounce", ["0"]) != ["0"]:
            entry = self.pending.setdefault(name, entry)
        elif options.get("all") == ["true"]:
            self.tables.pop(name, None)
        self.imports[entry.id] = entry
        n_rows = self._insert(name, body)
        table = self.tables[name]
        table.rows = len(table.keys) or table.rows  # an upsert: one row per key
        entry.rows += n_rows
        entry.ends_at = time.monotonic() + self.import_s
        return _json(import_id=entry.id, objects_imported=n_rows)

    def _qobra_import(self, entry: Import) -> bytes:
        if time.monotonic() < entry.ends_at:
            return _json(data_import={"id": entry.id, "status": "started"})
        self.pending.pop(entry.table, None)
        now = _now()
        detail = {
            "type": "api",
            "status": "finished",
            "data_table_key": entry.table,
            "progress": 100,
            "number_of_records": entry.rows,
            "error": None,
        }
        whole = {
            "id": entry.id,
            "created_at": entry.created_at,
            "launched_at": now,
            "finished_at": now,
            "status": "finished",
            "progress": 100,
            "data_tables_details": [detail],
        }
        return _json(data_import=whole)

    def _insert(self, name: str, body: bytearray) -> int:
        table = self.tables.setdefault(name, Table())
        n_rows = body.count(MARKER)
        table.rows += n_rows
        if name.startswith("keyed"):
            table.keys.update(_KEY.findall(body))
        return n_rows

    def _query(self, name: str, query: str, body: bytearray) -> bytes:
        table = self.tables.setdefault(name, Table())
        found, total = table.keys, table.rows
        if b'"!="' not in body:  # which only the filter for every row has
            found = table.keys.intersection(_KEY.findall(body))
            total = len(found)
        limit = int(parse_qs(query)["sys_limit"][0])
        # a row's sys_Id ends with its key, so that filters by either find it
        keys = [f"{MARKER.decode()}{key.decode()}" for key in islice(found, limit)]
        rows = [{"sys_Id": f"sys-{key}", "id": key} for key in keys]
        return _json(hasMore=total > len(rows), total=total, metaInfo=[], queryResult=rows)

    def _delete(self, name: str, body: bytearray) -> int:
        table = self.tables.setdefault(name, Table())
        gone = table.keys.intersection(_KEY.findall(body))
        table.keys -= gone
        table.rows -= len(gone)
        return len(gone)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(**members: object) -> bytes:
    return json.dumps(members).encode()
