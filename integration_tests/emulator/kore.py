"""Kore.ai's data tables: bulk insert, insert, update, delete and query.

Source: https://koreai.mintlify.app/ai-for-service/apis/automation/bulk-data-insert
(read 2026-11-22)
Source: https://koreai.mintlify.app/ai-for-service/apis/automation/data-delete (read 2026-11-22)
Every insert adds rows: there is no upsert. System fields are added when a row is shown, the stored
text stays as it was sent. Error texts, and what one bad row does to a bulk call, are choices of the
emulator.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from .clock import Clock, iso
from .kore_auth import App, Doorkeeper
from .kore_query import DATES, BadQueryError, Dates, Indexes, object_id, parse_query, select
from .kore_rows import KoreTable, row_errors, table_of
from .ratelimit import RollingWindows
from .reply import Refused, Reply, as_json
from .settings import Settings
from .storage import Storage, StoredRow
from .values import MalformedError, cells, exact, joined, member_text, rows_of

_PER_MINUTE = "You've exceeded the per-minute rate limit. Please wait for sometime before retrying."
_HOURLY = "You've exceeded the hourly rate limit. Please wait for sometime before retrying."
_USER = "st-00000000-0000-4000-8000-000000000000"
_MOST = 100
_AHEAD_S = 19_800  # of UTC, in one of the zones
_SYSTEM_TYPES = {
    "sys_Id": "string",
    "Created_On": "date",
    "Updated_On": "date",
    "Created_By": "string",
    "Updated_By": "string",
}


def refusal(status: int, message: str, code: int | None = None, rows: int = 0) -> Refused:
    """Build a refusal in the documented envelope."""
    return Refused(as_json(status, {"errors": [{"msg": message, "code": code or status}]}, rows))


class Kore:
    """Tables, apps and rate windows of one account."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self.settings = Settings()
        self.tables: dict[str, KoreTable] = {}
        self.doorkeeper = Doorkeeper()
        self.windows = RollingWindows()
        self._storage = storage
        self._clock = clock
        self._indexes = Indexes(storage)
        self._numbers = itertools.count(1)
        self._last_stamp = (-1.0, "")

    def create_table(self, definition: Mapping[str, Any]) -> None:
        """Set up a table (again: emptied) from an exported definition; only `name` is needed."""
        self.restore_table(table_of(definition))

    def restore_table(self, table: KoreTable) -> None:
        """Set up a table that was known before."""
        self.tables[table.name] = table
        self._storage.create(table.store)
        self._indexes.forget(table.store)

    def admit(self, token: str | None, table: str, rights: str) -> KoreTable:
        """Let a request pass, or refuse it for its token, the rate, the table or a right."""
        settings = self.settings
        app = self.doorkeeper.admit(token, self._clock.now(), enforce_jti=settings.kore_enforce_jti)
        self._limit_rate(table)
        if table not in self.tables:
            if not settings.auto_create_tables:
                raise refusal(settings.kore_unknown_table_status, f"Table {table} does not exist")
            self.create_table({"name": table})
        self._check_rights(app, table, rights)
        return self.tables[table]

    def _check_rights(self, app: App, table: str, rights: str) -> None:
        if not all(app.may(right, table) for right in rights):
            status = self.settings.kore_missing_right_status
            if status == 401:
                raise refusal(401, "Invalid SDK credentials", 4002)
            raise refusal(
                403, "Access denied: the app is not assigned to the table with this permission"
            )

    def _limit_rate(self, table: str) -> None:
        settings, now = self.settings, self._clock.now()
        if settings.kore_rate_limit == "off":
            return
        window = self.windows.breached(table, now, settings.kore_rate_windows)
        if window is None:
            return
        if settings.kore_rate_limit == "record":
            self.windows.record(table, now)
            return
        shortest = min(seconds for _, seconds in settings.kore_rate_windows)
        refused = refusal(settings.kore_rate_status, _PER_MINUTE if window == shortest else _HOURLY)
        if settings.kore_rate_retry_after:
            refused.reply.headers["Retry-After"] = str(max(1, round(window)))
        raise refused

    def post_bulk(self, table: KoreTable, body: bytes) -> Reply:
        """Insert many rows."""
        try:
            texts, rows = rows_of(body, "data")
        except MalformedError as error:
            raise refusal(400, f"Invalid request body: {error}") from error
        stored, message = self._insert(table, texts, rows)
        if message:
            raise refusal(400, message, rows=len(rows))
        shown = [self._shown(row) for row in stored]
        if self.settings.kore_echo == "no_records":
            return as_json(200, {}, len(rows))
        if self.settings.kore_echo == "one_less":
            shown = shown[:-1]
        if self.settings.kore_echo == "one_more":
            shown += shown[-1:]
        return Reply(200, b'{"records":[' + b",".join(shown) + b"]}", len(rows))

    def post_row(self, table: KoreTable, body: bytes) -> Reply:
        """Insert one row; the answer is the row itself."""
        payload = self._payload(body)
        if not isinstance(payload.get("data"), dict):
            raise refusal(400, "Invalid request body: an object 'data' is expected")
        stored, error = self._insert(table, [member_text(body, "data")], [payload["data"]])
        if error or not stored:
            raise refusal(400, error or "Invalid row", rows=1)
        return Reply(200, self._shown(stored[0]), 1)

    def put(self, table: KoreTable, body: bytes) -> Reply:
        """Lay the given columns over all matching rows."""
        payload = self._payload(body)
        if not isinstance(payload.get("data"), dict):
            raise refusal(400, "Invalid request body: an object 'data' is expected")
        if errors := row_errors(table, [payload["data"]], self.settings):
            raise refusal(400, errors[0])
        change = cells(member_text(body, "data"))
        matching = self._select(table, payload)
        texts = [(row.key, joined({**cells(row.text), **change})) for row in matching]
        self._indexes.remove(matching, table.store)
        self._storage.insert(table.store, texts, self._clock.now())
        self._indexes.add(table.store, texts)
        if self.settings.kore_put_reply == "nModified":
            return as_json(200, {"nModified": len(texts)})
        rows = self._storage.get(table.store, [key for key, _ in texts])
        return Reply(200, b'{"records":[' + b",".join(self._shown(row) for row in rows) + b"]}")

    def delete(self, table: KoreTable, body: bytes) -> Reply:
        """Remove all matching rows."""
        payload = self._payload(body)
        if (
            not payload.get("query", {}).get("expressions")
            and self.settings.kore_empty_delete == "reject"
        ):
            raise refusal(400, "query is required")
        matching = self._select(table, payload, is_delete=True)
        if self.settings.kore_delete_max:
            matching = matching[: self.settings.kore_delete_max]
        if len(matching) == self._storage.count(table.store):
            self._storage.clear(table.store)
            self._indexes.forget(table.store)
        else:
            self._indexes.remove(matching, table.store)
            self._storage.delete(table.store, [row.key for row in matching])
        return as_json(200, {"nDeleted": len(matching)})

    def query(self, table: KoreTable, query: Mapping[str, str], body: bytes) -> Reply:
        """Show one page of the matching rows."""
        limit, offset = _number(query.get("sys_limit", "10")), _number(query.get("sys_offset", "0"))
        if limit > _MOST and self.settings.kore_sys_limit == "reject":
            raise refusal(400, f"sys_limit must not exceed {_MOST}")
        payload = self._payload(body or b"{}")
        # the filter matches everything far more often than not: then only the page is read
        everything = (
            not payload.get("query", {}).get("expressions")
            and self.settings.kore_row_order == "insertion"
        )
        if everything:
            total = self._storage.count(table.store)
            page = self._storage.page(table.store, min(limit, _MOST), offset)
        else:
            rows = self._select(table, payload)
            total = len(rows)
            if self.settings.kore_row_order == "reverse":
                rows.reverse()
            elif self.settings.kore_row_order == "random":
                rows.sort(key=lambda row: hashlib.blake2b(row.key.encode()).digest())
            page = rows[offset : offset + min(limit, _MOST)]
        kinds = {**{name: column.kind for name, column in table.columns.items()}, **_SYSTEM_TYPES}
        head = {"metaInfo": [{"name": name, "type": kind} for name, kind in kinds.items()]}
        if self.settings.kore_query_totals:
            head |= {"hasMore": offset + len(page) < total, "total": total}  # type: ignore[dict-item]
        shown = b",".join(self._shown(row) for row in page)
        return Reply(200, orjson.dumps(head)[:-1] + b',"queryResult":[' + shown + b"]}")

    def _insert(
        self, table: KoreTable, texts: list[bytes], rows: list[dict[str, Any]]
    ) -> tuple[list[StoredRow], str | None]:
        """Store what the bulk mode lets in; return it with the first error that is to be told."""
        errors = row_errors(table, rows, self.settings)
        texts = self._completed(table, texts, rows)
        for index in self._clashes(table, texts):
            errors.setdefault(index, "Duplicate value for a unique index")
        mode = self.settings.kore_bulk_mode
        stops = (
            {"atomic": 0, "ordered_partial": min(errors, default=0)}.get(mode, len(texts))
            if errors
            else len(texts)
        )
        good = [text for index, text in enumerate(texts[:stops]) if index not in errors]
        now, keys = self._clock.now(), self._new_keys(len(good))
        keyed = list(zip(keys, good, strict=True))
        self._storage.insert(table.store, keyed, now)
        self._indexes.add(table.store, keyed)
        stored = [StoredRow(0, key, text, now, now) for key, text in keyed]
        return stored, errors[min(errors)] if errors and mode != "skip_bad" else None

    def _completed(
        self, table: KoreTable, texts: list[bytes], rows: list[dict[str, Any]]
    ) -> list[bytes]:
        """Fill in defaults and leave out unknown columns, where a table has such."""
        defaults = {name: c.default for name, c in table.columns.items() if c.default is not None}
        ignores = table.columns and self.settings.kore_unknown_column == "ignore"
        if ignores and not set().union(*rows) <= table.columns.keys():
            texts = [
                joined({k: v for k, v in cells(text).items() if k in table.columns})
                for text in texts
            ]
        if not defaults:
            return texts
        return [
            text
            if defaults.keys() <= row.keys()
            else orjson.dumps(
                {**defaults, **{k: orjson.Fragment(bytes(v)) for k, v in cells(text).items()}}
            )
            for text, row in zip(texts, rows, strict=True)
        ]

    def _clashes(self, table: KoreTable, texts: list[bytes]) -> list[int]:
        """Find rows whose unique columns are taken, in the table or earlier in the call."""
        clashes = []
        taken: set[tuple[object, ...]] = set()
        for index, text in enumerate(texts if table.unique else ()):
            row = exact(text)
            for columns in table.unique:
                values = tuple(row.get(column) for column in columns)
                name = (columns, *map(repr, values))
                if name in taken or self._indexes.keys(table.store, columns, values):
                    clashes.append(index)
                taken.add(name)
        return clashes

    def _select(
        self, table: KoreTable, payload: Any, *, is_delete: bool = False
    ) -> list[StoredRow]:
        try:
            query = parse_query(payload)
        except BadQueryError as error:
            raise refusal(400, str(error)) from error
        most = self.settings.kore_max_expressions
        if most and len(query.expressions) > most:
            kept = {"ignore": most, "match_all": 0}.get(self.settings.kore_more_expressions)
            if kept is None:
                raise refusal(400, f"A query must not have more than {most} expressions")
            query = replace(query, expressions=query.expressions[:kept])
        by_date = [e for e in query.expressions if e.field in DATES]
        mode = self.settings.kore_dates
        if by_date and mode == "refused":
            raise refusal(400, f"Invalid field {by_date[0].field}")
        if mode == "ignored" or (is_delete and mode == "ignored_by_deletes"):
            others = tuple(e for e in query.expressions if e not in by_date)
            query = replace(query, expressions=others)
        return select(self._storage, self._indexes, table.store, query, self._dates)

    @property
    def _dates(self) -> Dates:
        mode = self.settings.kore_dates
        return Dates(
            as_text=mode == "as_text",
            whole_seconds=mode == "seconds",
            shown_ahead_s=_AHEAD_S if mode == "other_zone" else 0,
        )

    def _payload(self, body: bytes) -> dict[str, Any]:
        """Read a request body that is an object, numbers exact."""
        try:
            payload = exact(body)
        except MalformedError as error:
            raise refusal(400, f"Invalid request body: {error}") from error
        if not isinstance(payload, dict) or not isinstance(payload.get("query", {}), dict):
            raise refusal(400, "Invalid request body")
        return payload

    def _new_keys(self, number: int) -> list[str]:
        tail = secrets.token_hex(8)
        tail = f"{tail[:4]}-{tail[4:]}"
        return [
            f"sys-{n:08x}-0000-4000-8{tail[1:4]}-{tail[5:]}"
            for n in itertools.islice(self._numbers, number)
        ]

    def _shown(self, row: StoredRow) -> bytes:
        """Append the system fields to a row's text."""
        dates = self._dates
        created, updated = (
            self._stamp(dates.kept(moment) + dates.shown_ahead_s)
            for moment in (row.created, row.updated)
        )
        system = (
            f'"Updated_On":{updated},"Created_On":{created},"Updated_By":"{_USER}","Created_By":"{_USER}"'
            f',"sys_Id":"{row.key}","_id":"{object_id(row.key)}"}}'
        )
        head = row.text.rstrip()[:-1].rstrip()
        return head + (b"" if head == b"{" else b",") + system.encode()

    def _stamp(self, seconds: float) -> str:
        """Write a time as the switch says; the last is kept: rows of one call share theirs."""
        if self.settings.kore_timestamps == "epoch":
            return str(int(seconds * 1000))
        if self._last_stamp[0] != seconds:
            self._last_stamp = (seconds, f'"{iso(seconds)}"')
        return self._last_stamp[1]


def _number(text: str) -> int:
    if not text.isdecimal():
        raise refusal(400, "sys_limit and sys_offset must be integers")
    return int(text)
