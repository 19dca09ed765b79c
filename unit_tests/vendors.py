"""The vendors in memory, as far as their pages go; what the pages leave open is a switch.

Written from the vendors' documentation and not from the connector's code, so that a misreading
does not hide itself.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any, Literal, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

import jwt

from destination_bulk_tables.http import HttpRequest, HttpResponse
from unit_tests.fakes import FakeClock

Row = dict[str, Any]
SECRET = "a client secret that is long enough"
API_KEY = "a-personal-key"
_OPERANDS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}


class Vendor(Protocol):
    """What a sync in memory needs of a fake. `is_bad`: which rows it refuses."""

    is_bad: Callable[[Row], bool]

    def answer(self, request: HttpRequest) -> HttpResponse: ...

    def rows(self, table: str = "deals") -> list[Row]: ...

    def put(self, rows: list[Row], table: str = "deals") -> None: ...


def answer_of(code: int, value: Any) -> HttpResponse:
    """A JSON response."""
    return HttpResponse(code, {"content-type": "application/json"}, json.dumps(value).encode())


def _error(code: int, text: str) -> HttpResponse:
    return answer_of(code, {"errors": [{"msg": text, "code": code}]})


Dates = Literal[
    "plain",
    "epoch",
    "offset",
    "seconds",
    "absent",
    "words",
    "later",
    "ignored",
    "ignored_by_deletes",
    "refused",
    "refused_by_deletes",
]


class KoreVendor:
    """Kore.ai's data tables.

    `bulk`: what an insert with a bad row does. `delete_max`: rows that one delete removes at most.
    `longest`: expressions of a filter at most, and what becomes of more: a status, or they are
    ignored, or the whole filter is. `limits_queries`: not only deletes. `null`: what a filter for
    null does. `dates`: how a filter by `Created_On` goes wrong, or the date itself: a tick of
    `tick_s` passes with each insert. `columns`: what a query names as the table's.
    """

    def __init__(
        self,
        *,
        reads: bool = True,
        bulk: Literal["atomic", "ordered_partial", "skip_bad"] = "atomic",
        totals: bool = True,
        order: Random | None = None,
        delete_max: int | None = None,
        longest: tuple[int, int | Literal["ignore", "match_all"]] | None = None,
        limits_queries: bool = True,
        null: Literal["found", "unfound", "refused"] = "found",
        dates: Dates = "plain",
        tick_s: float = 1.0,
        columns: Sequence[Row] = (),
        is_bad: Callable[[Row], bool] = lambda row: False,  # noqa: ARG005
    ) -> None:
        self.null, self.columns = null, columns
        self.dates, self.tick_s, self.elapsed = dates, tick_s, 0.0
        self.tables: dict[str, list[Row]] = {"deals": []}
        self.reads = reads
        self.bulk = bulk
        self.totals = totals
        self.order = order
        self.delete_max = delete_max
        self.longest = longest
        self.limits_queries = limits_queries
        self.is_bad = is_bad
        self.tokens: set[str] = set()
        self._next = 0

    def rows(self, table: str = "deals") -> list[Row]:
        """What a reader of the table sees, without the vendor's own columns."""
        return [
            {name: value for name, value in row.items() if name not in {"sys_Id", "Created_On"}}
            for row in self.tables[table]
        ]

    def put(self, rows: list[Row], table: str = "deals") -> None:
        """Store rows as somebody else."""
        self._store(self.tables[table], rows)

    def authorize(self, token: str) -> HttpResponse | None:
        """401 for a token that is not signed by the app, or was used before."""
        claims = jwt.decode(
            token, SECRET, algorithms=["HS256"], options={"verify_exp": False, "verify_iat": False}
        )
        if claims["jti"] in self.tokens:
            return _error(401, "error verifying the jwt: possibly a replay")
        self.tokens.add(claims["jti"])
        return None

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Serve one request."""
        parts = urlsplit(request.path)
        assert parts.path.startswith("/api/public/tables/")
        name, _, verb = parts.path.removeprefix("/api/public/tables/").partition("/")
        table = self.tables.get(unquote(name))
        if table is None:
            return _error(400, "no such table")
        body = json.loads(request.body or b"{}")
        expressions = body.get("query", {}).get("expressions", [])
        by_date = any(e["field"] == "Created_On" for e in expressions)
        is_refused = by_date and self.dates == "refused"
        if is_refused or (by_date and self.dates == "refused_by_deletes" and not verb):
            return _error(400, "no such column")
        if self.null == "refused" and any(e["value"] is None for e in expressions):
            return _error(400, "a value is expected")
        is_limited = self.longest and (self.limits_queries or request.method == "DELETE")
        if is_limited and self.longest and len(expressions) > self.longest[0]:
            kept, more = self.longest
            if isinstance(more, int):
                return _error(more, "too many expressions")
            body["query"] = {
                "expressions": expressions[: kept if more == "ignore" else 0],
                "operator": "or" if more == "ignore" else "and",
            }
        match request.method, verb:
            case "POST", "bulk":
                return self._insert(table, body["data"])
            case "POST", "query":
                return self._query(table, body["query"], parse_qs(parts.query))
            case "DELETE", "":
                query = body["query"]
                doomed = self._matching(table, query, is_delete=True)
                ids = {row["sys_Id"] for row in doomed[: self.delete_max]}
                table[:] = [row for row in table if row["sys_Id"] not in ids]
                return answer_of(200, {"nDeleted": len(ids)})
            case _:
                return _error(405, "Method Not Allowed")

    def _insert(self, table: list[Row], rows: list[Row]) -> HttpResponse:
        bad = [self.is_bad(row) for row in rows]
        if any(bad) and self.bulk != "skip_bad":
            if self.bulk == "ordered_partial":
                self._store(table, rows[: bad.index(True)])
            return _error(400, "a value does not fit its column")
        stored = self._store(
            table, [row for row, is_bad in zip(rows, bad, strict=True) if not is_bad]
        )
        return answer_of(200, {"records": stored})

    def _store(self, table: list[Row], rows: list[Row]) -> list[Row]:
        stored = []
        self.elapsed += self.tick_s
        for row in rows:
            assert "sys_Id" not in row
            self._next += 1
            system = {"sys_Id": f"sys-{self._next}", "Created_On": self._date()}
            stored.append({**row, **{k: v for k, v in system.items() if v is not None}})
        table += stored
        return stored

    def _date(self) -> Any:
        """When a row is made, as a reader sees it."""
        moment = datetime(2026, 11, 28, 9, 59, 50, tzinfo=UTC) + timedelta(seconds=self.elapsed)
        match self.dates:
            case "absent":
                return None
            case "epoch":
                return int(moment.timestamp() * 1000)
            case "seconds":
                return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
            case "words":
                return moment.ctime()
            case "offset":
                zone = timezone(timedelta(hours=5, minutes=30))
                return moment.astimezone(zone).isoformat(timespec="milliseconds")
            case _:
                return moment.isoformat(timespec="milliseconds")[:23] + "Z"

    def _query(self, table: list[Row], query: Row, options: dict[str, list[str]]) -> HttpResponse:
        if not self.reads:
            return _error(401, "Invalid SDK credentials")
        found = self._matching(table, query)
        if self.order is not None:
            self.order.shuffle(found)
        limit = min(100, int(options.get("sys_limit", ["10"])[0]))
        offset = int(options.get("sys_offset", ["0"])[0])
        page = found[offset : offset + limit]
        answer: Row = {"queryResult": page, "metaInfo": list(self.columns)}
        if self.totals:
            answer |= {"total": len(found), "hasMore": offset + limit < len(found)}
        return answer_of(200, answer)

    def _as_read(self, query: Row, *, is_delete: bool) -> Row:
        """The filter without what this vendor does not read."""
        is_ignored = self.dates == "ignored" or (is_delete and self.dates == "ignored_by_deletes")
        return {
            **query,
            "expressions": [
                {**e, "value": f"{e['value'][:11]}~"} if is_early else e
                for e in query["expressions"]
                if not (is_ignored and e["field"] == "Created_On")
                for is_early in [self.dates == "later" and e["field"] == "Created_On"]
            ],
        }

    def _matching(self, table: list[Row], query: Row, *, is_delete: bool = False) -> list[Row]:
        """The rows that a filter finds; of a hundred keys each row's is looked up, not compared."""
        query = self._as_read(query, is_delete=is_delete)
        if query.get("operator") != "or":
            return [row for row in table if all(self._is_met(e, row) for e in query["expressions"])]
        keys, rest = set(), []
        for expression in query["expressions"]:
            field, value = expression["field"], expression["value"]
            if expression["operand"] == "=" and isinstance(value, str):
                keys.add((field, value))
            else:
                rest.append(expression)
        fields = {field for field, _ in keys}
        return [
            row
            for row in table
            if any(isinstance(row.get(f), str) and (f, row[f]) in keys for f in fields)
            or any(self._is_met(expression, row) for expression in rest)
        ]

    def _is_met(self, expression: Row, row: Row) -> bool:
        found, value = row.get(expression["field"]), expression["value"]
        if value is None:
            return self.null == "found" and found is None
        return type(found) is type(value) and bool(_OPERANDS[expression["operand"]](found, value))


@dataclass
class Run:
    """One background import, which one or several ids show."""

    id: str
    table: str
    replace: bool
    created_at: float
    launch_at: float
    finish_at: float
    requests: list[list[Row]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    is_finished: bool = False
    stored: int | None = 0
    error: Row | None = None


class QobraVendor:
    """Qobra's data tables on a clock.

    `shares_id`: the requests of a debounced load get one import id. `counts`: whether each of
    several ids shows the whole load's count or its own request's. `window`: where a debounce
    starts. `rejects`: what one bad row spoils.
    """

    def __init__(
        self,
        clock: FakeClock,
        *,
        shares_id: bool = True,
        counts: Literal["whole", "part"] = "whole",
        window: Literal["first", "last"] = "first",
        rejects: Literal["row", "table"] = "row",
        delay_s: float = 1.0,
        stack_s: float = 0.0,
        jitter: Random | None = None,
        unknown_for_s: float = 0.0,
        foreign: Row | None = None,
        is_bad: Callable[[Row], bool] = lambda row: False,  # noqa: ARG005
    ) -> None:
        self.clock = clock
        self.tables: dict[str, dict[str, Row]] = {"deals": {}}
        self.runs: list[Run] = []
        self.shares_id, self.counts, self.window, self.rejects = shares_id, counts, window, rejects
        self.delay_s, self.jitter, self.unknown_for_s = delay_s, jitter, unknown_for_s
        self.foreign = foreign
        self.stack_s = stack_s  # requests within this time of an import's creation join it
        self.is_bad = is_bad

    def rows(self, table: str = "deals") -> list[Row]:
        """What a reader of the table sees."""
        self.work()
        return list(self.tables[table].values())

    def put(self, rows: list[Row], table: str = "deals") -> None:
        """Store rows as somebody else."""
        self.tables[table].update({row["id"]: row for row in rows})

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Serve one request."""
        self.work()
        parts = urlsplit(request.path)
        options = parse_qs(parts.query)
        match request.method, *parts.path.strip("/").split("/"):
            case "POST", "v1", "tables", name, "records", "bulk":
                if name not in self.tables:
                    return answer_of(404, {"message": "Not found"})
                rows = json.loads(request.body or b"{}")["items"]
                return self._ingest(name, rows, options)
            case "GET", "v1", "imports", found:
                return self._show(found)
            case "GET", "v2", "data-structures":
                return answer_of(200, {"data": []})
            case _:
                return answer_of(404, {"message": "Not found"})

    def _ingest(self, name: str, rows: list[Row], options: dict[str, list[str]]) -> HttpResponse:
        now = self.clock.monotonic()
        replace = options.get("all") == ["true"]
        debounce = int(options.get("debounce", ["0"])[0]) or self.stack_s
        run = next(
            (r for r in self.runs if r.table == name and debounce and r.launch_at > now), None
        )
        delay = self.delay_s * (self.jitter.random() if self.jitter else 1.0)
        if run is None:
            run = Run(
                f"run{len(self.runs)}", name, replace, now, now + debounce, now + debounce + delay
            )
            self.runs.append(run)
        elif self.window == "last":
            run.launch_at, run.finish_at = now + debounce, now + debounce + delay
        run.requests.append(rows)
        shown = run.id if self.shares_id else f"{run.id}-{len(run.requests)}"
        run.ids.append(shown)
        return answer_of(200, {"import_id": shown, "objects_imported": len(rows)})

    def work(self) -> None:
        """Finish the imports whose time has come, in order of that time."""
        now = self.clock.monotonic()
        for run in sorted(self.runs, key=lambda r: r.finish_at):
            if not run.is_finished and run.finish_at <= now:
                self._finish(run)

    def _finish(self, run: Run) -> None:
        run.is_finished = True
        table = self.tables[run.table]
        rows = [row for request in run.requests for row in request]
        bad = [(i, row) for i, row in enumerate(rows, 1) if self.is_bad(row)]
        if bad:
            run.error = {
                "title": "ParsingError",
                "description": "Can't parse a value",
                "parsing_error_details": [
                    {"line_number": i, "row": row, "details": f"Can't parse {row}"}
                    for i, row in bad
                ],
            }
        if bad and self.rejects == "table":
            run.stored = None
            return
        if run.replace:
            table.clear()
        good = [row for row in rows if not self.is_bad(row)]
        table.update({row["id"]: row for row in good})
        run.stored = len(good)

    def _show(self, found: str) -> HttpResponse:
        now = self.clock.monotonic()
        run = next((r for r in self.runs if found in r.ids), None)
        if run is None or now < run.created_at + self.unknown_for_s:
            return answer_of(404, {"message": "Not found"})
        stored = run.stored if run.is_finished else None
        if stored is not None and self.counts == "part" and not self.shares_id:
            stored = sum(not self.is_bad(row) for row in run.requests[run.ids.index(found)])
        state = (
            "finished" if run.is_finished else "started" if run.launch_at <= now else "scheduled"
        )
        own = {
            "type": "api",
            "status": state,
            "data_table_key": run.table,
            "number_of_records": stored,
            "error": run.error if run.is_finished else None,
        }
        details = [own] if self.foreign is None else [self.foreign, own]
        shown = {
            "id": found,
            "status": state,
            "created_at": self._time(run.created_at),
            "launched_at": self._time(run.launch_at) if run.launch_at <= now else None,
            "data_tables_details": details,
        }
        return answer_of(200, {"data_import": shown})

    def _time(self, elapsed: float) -> str:
        moment = datetime.fromtimestamp(self.clock.now() - self.clock.elapsed + elapsed, UTC)
        return moment.isoformat().replace("+00:00", "Z")
