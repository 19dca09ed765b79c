"""Qobra's data tables: the bulk route, the imports it starts, and the page of imports.

Source: https://docs.qobra.co/api_reference/v1/endpoints/data_tables/ingest_records
(read 2026-11-22)
Source: https://docs.qobra.co/api_reference/v1/endpoints/imports/fetch_import (read 2026-11-22)
A POST only schedules; rows appear when their import finishes, which `run_due` decides from the
clock alone. Each load empties its table once. Status codes other than 200 and all error bodies are
choices of the emulator.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import orjson

from .clock import Clock
from .qobra_imports import Load, Part, QobraTable, shown
from .qobra_rows import RowError, check_types, row_errors
from .reply import Refused, Reply, as_json
from .settings import Settings
from .storage import Storage
from .values import MalformedError, cells, joined, rows_of

_SLOW = 4  # how many times longer the overtaken imports take with qobra_order=reversed


class Qobra:
    """Tables, pending loads and past imports of one account."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self.settings = Settings()
        self.tables: dict[str, QobraTable] = {}
        self.loads: list[Load] = []
        self._storage = storage
        self._clock = clock
        self._by_id: dict[str, Load] = {}
        self._unfinished: list[Load] = []

    def create_table(
        self, key: str, columns: Mapping[str, str] | None = None, id_field: str = "id"
    ) -> None:
        """Set up a table, emptied; types are number, string, date, boolean and any."""
        check_types(columns or {})
        self.tables[key] = QobraTable(key, dict(columns or {}), id_field)
        self._storage.create(self.tables[key].store)

    def authorize(self, api_key: str | None) -> None:
        """Refuse a missing or wrong key."""
        if api_key != self.settings.qobra_api_key:
            raise Refused(as_json(401, {"message": "Unauthorized"}))

    def post_bulk(self, key: str, query: Mapping[str, str], body: bytes) -> Reply:
        """Schedule the rows of one request."""
        replaces = _boolean(query.get("all", "false"))
        debounce = _seconds(query.get("debounce", "0"))
        try:
            texts, rows = rows_of(body, "items")
        except MalformedError as error:
            raise Refused(as_json(422, {"message": str(error)})) from error
        if key not in self.tables:
            if not self.settings.auto_create_tables:
                raise Refused(as_json(404, {"message": "Data table not found"}, len(rows)))
            self.create_table(key)
        self.run_due()
        load = self._load_for(key, debounce, replaces=replaces)
        own = load.parts and not (self.settings.qobra_same_import_id or self.settings.qobra_stack)
        part = Part(
            _object_id() if own or not load.parts else load.parts[0].import_id,
            self.tables[key],
            texts,
            rows,
        )
        load.parts.append(part)
        self._by_id[part.import_id] = load
        return as_json(200, {"import_id": part.import_id, "objects_imported": len(rows)}, len(rows))

    def get_import(self, import_id: str) -> Reply:
        """Show one import."""
        self.run_due()
        load = self._by_id.get(import_id)
        if load is None or self._clock.now() < load.created + self.settings.qobra_hidden_s:
            raise Refused(as_json(404, {"message": "Import not found"}))
        return Reply(
            200,
            orjson.dumps({"data_import": shown(import_id, load, self.settings, self._clock.now())}),
        )

    def data_structures(self) -> Reply:
        """List the reports (not the tables) of the account."""
        report = {
            "id": "record-report-1",
            "name": "Deals report",
            "type": "record_reporting",
            "total_records": 0,
        }
        links = {
            "fields": "/v2/data-structures/record-report-1/fields",
            "records": "/v2/reporting/record-report-1/records",
        }
        return as_json(200, {"data": [{**report, "links": links}]})

    def run_due(self) -> None:
        """Finish every load whose time has come, in the order of their ends."""
        if self.settings.qobra_never_finish or not self._unfinished:
            return
        now = self._clock.now()
        due = sorted(
            (load for load in self._unfinished if load.finish <= now), key=lambda load: load.finish
        )
        for load in due:
            self._apply(load)
        if due:
            self._unfinished = [load for load in self._unfinished if not load.applied]

    def imports(self, latest: int = 0) -> list[dict[str, Any]]:
        """Show all (or the latest) imports as GET would, the newest last."""
        self.run_due()
        return [
            shown(import_id, load, self.settings, self._clock.now())
            for import_id, load in list(self._by_id.items())[-latest:]
        ]

    def _load_for(self, key: str, debounce: float, *, replaces: bool) -> Load:
        """Find the pending load this request joins, or schedule a new one."""
        now, settings = self._clock.now(), self.settings
        for load in self._unfinished:
            if now >= load.launch or load.replaces != replaces:
                continue
            if (
                debounce > 0
                and load.debounced
                and settings.qobra_join
                and load.parts[0].table.key == key
            ):
                if settings.qobra_window == "sliding":
                    load.launch = now + debounce / settings.time_scale + settings.qobra_queue_s
                return load
            if debounce == 0 and not replaces and not load.debounced and settings.qobra_stack:
                return load
        waits = settings.qobra_queue_s
        if debounce > 0:
            waits += debounce / settings.time_scale
        elif settings.qobra_stack:
            waits = max(waits, settings.qobra_import_s)
        slow = settings.qobra_order == "reversed" and len(self.loads) % 2 == 0
        load = Load(
            now,
            now + waits,
            settings.qobra_import_s * (_SLOW if slow else 1),
            replaces,
            debounce > 0,
        )
        self.loads.append(load)
        self._unfinished.append(load)
        return load

    def _apply(self, load: Load) -> None:
        """Bring the rows of a load into their tables."""
        load.applied = True
        settings = self.settings
        found = {
            id(part): row_errors(part.rows, part.table.columns, part.table.id_field)
            for part in load.parts
        }
        rejects = settings.qobra_row_errors == "reject_table"
        failed = {
            part.table.key
            for part in load.parts
            if settings.qobra_fail_imports or (rejects and found[id(part)])
        }
        for key in {part.table.key for part in load.parts} if load.replaces else ():
            if key not in failed or settings.qobra_failed_replace == "empty":
                self._storage.clear(self.tables[key].store)
        lines: dict[str, int] = {}
        for part in load.parts:
            key = part.table.key
            first = lines.get(key, 1) if settings.qobra_entries == "per_table" else 1
            lines[key] = first + len(part.rows)
            self._settle(part, found[id(part)], first, stored=key not in failed)
            part.texts, part.rows = [], []  # applied: the memory goes back

    def _settle(self, part: Part, errors: list[RowError], first_line: int, *, stored: bool) -> None:
        """Store the good rows of a part and note its count and its errors."""
        settings, id_field = self.settings, part.table.id_field
        bad = {error.index for error in errors}
        pairs = enumerate(zip(part.texts, part.rows, strict=True))
        good = [
            (_key(row, text, id_field), text, row)
            for index, (text, row) in pairs
            if index not in bad
        ]
        if stored:
            self._upsert(part.table, good)
        count = (
            len({key for key, _, _ in good}) if settings.qobra_count == "unique_ids" else len(good)
        )
        nameless = errors and settings.qobra_error_count == "null"
        part.count = None if nameless or not stored else count + settings.qobra_count_offset
        part.errors = [
            {
                "line_number": first_line + e.index,
                "row": orjson.Fragment(part.texts[e.index]),
                "details": e.details,
            }
            for e in errors
        ]
        if errors:
            part.description = errors[0].description
        elif not stored:
            part.description = "The import of this table failed"

    def _upsert(self, table: QobraTable, good: list[tuple[str, bytes, dict[str, Any]]]) -> None:
        """Write rows by id; one that lacks columns of the stored row is laid over it."""
        last = {key: text for key, text, _ in good}
        if self.settings.qobra_missing_field == "untouched":
            shapes = {frozenset(row) for _, _, row in good}
            table.seen.update(*shapes)
            if any(not shape >= (table.columns.keys() or table.seen) for shape in shapes):
                merged = {
                    row.key: cells(row.text) for row in self._storage.get(table.store, list(last))
                }
                for key, text, _ in good:
                    merged[key] = {**merged.get(key, {}), **cells(text)}
                last = {key: joined(row) for key, row in merged.items()}
        self._storage.insert(table.store, last.items(), self._clock.now())

    def project(self, key: str, text: bytes) -> bytes:
        """Drop the keys the table does not have, as the vendor does silently."""
        columns = self.tables[key].columns
        if not columns:
            return text
        row = cells(text)
        known = {
            name: value
            for name, value in row.items()
            if name in columns or name == self.tables[key].id_field
        }
        return text if len(known) == len(row) else joined(known)


def _object_id() -> str:
    return secrets.token_hex(12)


def _key(row: Mapping[str, Any], text: bytes, id_field: str) -> str:
    """Return the id as text; a number's own text, for it may be bigger than was read."""
    value = row[id_field]
    return value if isinstance(value, str) else bytes(cells(text)[id_field]).decode()


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise Refused(as_json(422, {"message": "all must be a boolean"}))
    return text.lower() in ("true", "1")


def _seconds(text: str) -> int:
    if not text.isdecimal():
        raise Refused(as_json(422, {"message": "debounce must be an integer >= 0"}))
    return int(text)
