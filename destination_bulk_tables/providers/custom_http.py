"""Any HTTP API that takes rows in bulk, described in the config form.

The form (`custom_http_form`) says what to send and how to read an answer; this module turns that
into flows. An answer without what the form promises about it (a count, one result per row) proves
nothing and is ambiguous, never a success. Where the form promises nothing, the status alone is the
proof.

Not covered: a token exchange, rows deleted one by one, background imports, staging and committing,
values wrapped cell by cell.
"""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, ClassVar

import jwt
import msgspec

from destination_bulk_tables.errors import (
    ConfigError,
    InternalError,
    TransientError,
)
from destination_bulk_tables.model import JsonObject, RowBlock, Table
from destination_bulk_tables.provider import (
    Accept,
    Ambiguous,
    Base,
    Context,
    Disposition,
    Flow,
    HttpRequest,
    HttpResponse,
    Limits,
    Load,
    Refused,
    ReplacePlan,
    Retry,
    RowFault,
    RowRules,
    Stop,
    Throw,
    TooLarge,
    Traits,
    WriteReport,
    classify_by_status,
)
from destination_bulk_tables.providers.custom_http_form import (
    KEY_NAMES,
    SPEC,
    TABLE_NAMES,
    Path,
    RowTemplate,
    Template,
    dig,
    header_lines,
    header_name,
    header_value,
    plain,
    require_known,
    statuses,
    wrong,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_MEGABYTE = 1_000_000
_LOOKED_AT = 64_000  # bytes of an answer that are searched for texts
_CLOCK_SKEW_S = 30
_OK = frozenset(range(200, 300))
_MARK = "\0rows"


@dataclass(frozen=True, slots=True)
class _Request(HttpRequest):
    """A request, and what its answer has to be. `rows`: how many it holds, if it is a write."""

    setting: str = ""
    success: frozenset[int] = _OK
    rows: int | None = None


class CustomHttp(Base):
    """One API as the form describes it."""

    name: ClassVar[str] = "custom_http"
    title: ClassVar[str] = "The API"
    spec: ClassVar[JsonObject] = SPEC

    def __init__(self, section: JsonObject) -> None:
        form: dict[str, Any] = dict(section)
        self.base_url = str(form["base_url"])
        self._authenticate = _authentication(form["authentication"])
        self._headers = header_lines("extra_headers", form.get("extra_headers"))
        self._insert = _Write.insert(form)
        upsert = form.get("upsert", {})
        self._upsert = (
            _Write.upsert(form, upsert) if upsert.get("upsert_type") == "request" else None
        )
        self._replace = _Replace.parse(form.get("replace", {}))
        self._check = _Check.parse(form)
        self._count = _Count.parse(form)
        self._answers = _Answers(form)
        self._atomic = bool(form.get("refusals_store_nothing"))
        self._repeats = bool(form.get("repeat_is_safe"))
        max_bytes = int(form.get("max_megabytes_per_request", 1) * _MEGABYTE)
        self.limits = Limits(
            max_rows=form.get("max_rows_per_request", 100),
            max_bytes=max_bytes,
            hard_max_bytes=max_bytes,
            windows=tuple(
                (w["requests"], float(w["seconds"])) for w in form.get("rate_limits", ())
            ),
            shared_windows=True,
            max_parallel=form.get("max_parallel_requests", 1),
        )
        self.rules = RowRules(
            nulls=form.get("nulls", "send"),
            timestamps=form.get("timestamp_format", "as_is"),
            booleans=form.get("boolean_format", "json"),
            decimals=form.get("decimal_format", "number"),
        )
        self.traits = Traits(
            reads_back=self._count is not None,
            on_unknown=form.get("on_ambiguous_write", "fail"),
        )

    @classmethod
    def from_config(cls, section: JsonObject) -> CustomHttp:
        """Make it from a validated config. Raises `ConfigError` for a template that cannot work."""
        return cls(section)

    def headers(self, now: float) -> Mapping[str, str]:
        return {**self._headers, **self._authenticate(now)}

    def classify(self, request: HttpRequest, response: HttpResponse) -> Disposition:
        assert isinstance(request, _Request)
        return self._answers.classify(request, response)

    # --- check and preparation

    def check(self, tables: Sequence[str]) -> Flow[None]:  # noqa: ARG002 - one request, which reads and is the user's choice
        check = self._check
        try:
            response = yield _Request(
                "GET", check.path, setting="check_path", success=check.success
            )
        except (Refused, TooLarge):
            message = (
                "The API refuses the request of check_path. Correct the path, or see what the "
                "API wants there."
            )
            raise ConfigError(message) from None
        if check.text and check.text.encode() not in response.body:
            message = (
                "The API answers check_path without the text that check_text asks for. Check the "
                "credential (authentication) and its "
                "rights, or check_text."
            )
            raise ConfigError(message)

    def validate(self, table: Table) -> None:
        """Render every template once: a table it cannot hold ends the sync before any request."""
        stream = table.stream
        if table.mode == "dedup" and self._upsert is None:
            message = (
                f"Stream {stream}: append + deduped needs the API to update rows. Describe how in "
                "provider.upsert, or choose append."
            )
            raise ConfigError(message, stream=stream)
        if table.replace and self._replace.kind == "none":
            message = (
                f"Stream {stream}: replacing a table needs a way to empty it. Describe it in "
                "provider.replace, or choose append."
            )
            raise ConfigError(message, stream=stream)
        try:
            self._write_of(table).prepare(table)
            self._replace.prepare(table)
            if self._count is not None:
                self._count.path.render(table)
        except ConfigError as error:
            raise ConfigError(error.message, stream=stream) from None

    def prepare(self, table: Table) -> Flow[int | None]:
        return (yield from self._total(table)) if self._count is not None else None

    def examine(self, table: Table) -> Flow[bool | None]:
        """Counting shows that the table is there and may be read."""
        return None if (yield from self.prepare(table)) is None else True

    # --- writing

    def body_size(self, table: Table) -> int:
        prepared = self._write_of(table).prepare(table)
        return len(prepared.before) + len(prepared.after)

    def _write_of(self, table: Table) -> _Write:
        return self._upsert if table.mode == "dedup" and self._upsert is not None else self._insert

    def repeats_safely(self, table: Table) -> bool:
        return table.mode == "dedup" or self._repeats

    def refusals_store_nothing(self, table: Table) -> bool:
        return self._atomic or self.repeats_safely(table)

    def write(self, table: Table, block: RowBlock, context: Context) -> Flow[WriteReport]:
        prepared = self._write_of(table).prepare(table)
        body = prepared.body(block)
        if prepared.row is not None and len(body) > self.limits.max_bytes and block.count > 1:
            raise TooLarge  # what the row template adds is not in the batcher's sizes
        plan, query = context.replace, ""
        if plan is not None and self._replace.kind == "query":
            query = self._replace.query if self._replace.is_flagged(plan) else ""
        path = prepared.path
        if query:
            path += ("&" if "?" in path else "?") + query
        # the request that replaces may be sent again: nothing else of its load is in yet
        is_first = bool(query) and self._replace.requests != "every"
        request = _Request(
            prepared.method,
            path,
            body=body,
            headers=prepared.headers,
            repeat="safe" if is_first or self.repeats_safely(table) else "unsafe",
            content_type=prepared.content_type,
            setting=prepared.setting,
            success=prepared.success,
            rows=block.count,
        )
        is_repeated = context.repeated
        try:
            response = yield request
            is_repeated = is_repeated or response.resent
            faults = self._answers.faults_in_success(response, block.count, is_atomic=self._atomic)
        except Refused as refused:
            is_repeated = is_repeated or refused.resent
            if not (is_repeated and self._answers.is_stored_before(refused.reason)):
                raise
            if block.count == 1:
                return WriteReport(delivered=1)
            # some are in: the count may tell, or each row by itself
            again = Refused(refused.code, refused.reason, partial=self.repeats_safely(table))
            again.resent = True
            raise again from None
        if plan is not None:
            plan.begun = True
        if is_repeated:
            faults = [fault for fault in faults if not self._answers.is_stored_before(fault.reason)]
        return WriteReport(delivered=block.count - len(faults), faults=tuple(faults))

    def stored_rows(self, table: Table, block: RowBlock, context: Context) -> Flow[set[int] | None]:
        """By count alone: all or none of the rows, or it cannot be told."""
        if context.stored is None or self._count is None:
            return None
        new = (yield from self._total(table)) - context.stored
        if new == 0:
            return set()
        return set(range(block.count)) if new == block.count + context.others else None

    def _total(self, table: Table) -> Flow[int]:
        assert self._count is not None
        try:
            response = yield _Request(
                "GET", self._count.path.render(table), setting="table_count_path"
            )
        except (Refused, TooLarge):
            message = (
                f"The API refuses to count table {table.name}. Check table_count_path and the "
                "table's name (tables[].table)."
            )
            raise ConfigError(message, stream=table.stream) from None
        return self._count.read(response, table)

    # --- replacing

    def replace_begin(self, table: Table, load: Load) -> Flow[ReplacePlan]:
        replace = self._replace
        if replace.kind == "query":
            if replace.requests == "one" and load.requests > 1:
                message = (
                    f"Replacing table {table.name} takes up to {load.requests} requests, and "
                    "replace.requests is 'one'. Nothing was "
                    "sent. Raise max_rows_per_request or max_megabytes_per_request as far as the "
                    "API allows, or choose 'first'."
                )
                raise ConfigError(message, stream=table.stream)
            single = load.rows == 0 or replace.requests == "one"
            return ReplacePlan(
                first_alone=True, single=single, stored=None if replace.requests == "every" else 0
            )
        for request in replace.prepare(table):
            try:
                response = yield request
            except (Refused, TooLarge):
                response = None
            if response is None or replace.text.encode() not in response.body:
                message = (
                    f"The API did not empty table {table.name} as replace.requests ask. Check "
                    "them and the right to delete."
                )
                raise ConfigError(message, stream=table.stream)
        left = yield from self.prepare(table)
        if left:
            message = (
                f"Table {table.name} holds {left} rows after it was emptied. Check "
                "replace.requests, and whether something else writes "
                "to the table. No new row was sent."
            )
            raise TransientError(message, stream=table.stream)
        return ReplacePlan(stored=0)

    def replace_end(self, table: Table, plan: ReplacePlan, delivered: int) -> Flow[None]:  # noqa: ARG002 - the count is all that tells
        total = yield from self.prepare(table)
        if total is not None and total != delivered:
            message = (
                f"Table {table.name} holds {total} rows after {delivered} were sent to replace "
                "its content. Rows of the same key may "
                "have replaced each other, or something else writes to the table. The next "
                "attempt replaces all it finds."
            )
            raise TransientError(message, stream=table.stream)


# --- what is sent


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A write for one table: everything but the rows."""

    method: str
    path: str
    headers: Mapping[str, str]
    success: frozenset[int]
    setting: str
    before: bytes
    after: bytes
    between: bytes
    row: RowTemplate | None
    content_type: str

    def body(self, block: RowBlock) -> bytes:
        rows = block.body
        if self.row is not None:
            rows = self.between.join(self.row.wrap(block.rows()))
        elif self.between != b",":
            rows = self.between.join(block.rows())
        return b"".join((self.before, rows, self.after))


@dataclass(frozen=True, slots=True)
class _Write:
    """Insert or upsert."""

    setting: str
    method: str
    path: Path
    headers: Mapping[str, str]
    success: frozenset[int]
    kind: str
    rows_path: str
    extra: Template
    row: Template | None
    prepared: dict[Table, _Prepared] = field(default_factory=dict)

    @classmethod
    def insert(cls, form: dict[str, Any]) -> _Write:
        body = form["body"]
        row = form.get("row_template")
        write = cls(
            setting="write_path",
            method=form.get("write_method", "POST"),
            path=Path.parse("write_path", form["write_path"], TABLE_NAMES),
            headers={},
            success=statuses("success_statuses", form.get("success_statuses", "200-299")),
            kind=body["body_type"],
            rows_path=body.get("rows_path", "rows"),
            extra=Template.object("body.extra_body", body.get("extra_body"), TABLE_NAMES),
            row=RowTemplate.parse("row_template", row, TABLE_NAMES) if row else None,
        )
        write.require_table()
        return write

    @classmethod
    def upsert(cls, form: dict[str, Any], upsert: dict[str, Any]) -> _Write:
        insert = cls.insert(form)
        names = TABLE_NAMES | KEY_NAMES
        path, extra, row = (upsert.get(name) for name in ("path", "extra_body", "row_template"))
        own = upsert.get("success_statuses")
        if extra and insert.kind != "object":
            raise wrong("upsert.extra_body", "needs a body that is an object (body)")
        write = cls(
            setting="upsert.path" if path else "write_path",
            method=upsert.get("method", insert.method),
            path=Path.parse("upsert.path", path, names) if path else insert.path,
            headers=header_lines("upsert.headers", upsert.get("headers")),
            success=statuses("upsert.success_statuses", own) if own else insert.success,
            kind=insert.kind,
            rows_path=insert.rows_path,
            extra=Template.object("upsert.extra_body", extra, names) if extra else insert.extra,
            row=RowTemplate.parse("upsert.row_template", row, {*names, "row_key"})
            if row
            else insert.row,
        )
        write.require_table()
        same = (write.method, write.path, write.headers, write.extra, write.row)
        if same == (insert.method, insert.path, {}, insert.extra, insert.row):
            raise wrong(
                "upsert",
                (
                    "says nothing that differs from the insert: give it a path, method, header, "
                    "member or row template"
                ),
            )
        return write

    def require_table(self) -> None:
        row = self.row.names() if self.row else set()
        if "table" not in self.path.names() | self.extra.names() | row:
            raise wrong(
                self.setting,
                (
                    "lacks {table}: the table's name must be in the path, in extra_body or in "
                    "row_template"
                ),
            )

    def prepare(self, table: Table) -> _Prepared:
        found = self.prepared.get(table)
        if found is None:
            found = self.prepared[table] = self._prepare(table)
        return found

    def _prepare(self, table: Table) -> _Prepared:
        before, after, between = b"[", b"]", b","
        if self.kind == "lines":
            before, after, between = b"", b"\n", b"\n"
        elif self.kind == "object":
            body = self.extra.render(table)
            _put(body, self.rows_path.split("."), _MARK)
            before, _, after = msgspec.json.encode(body).partition(b'"\\u0000rows"')
            before, after = before + b"[", b"]" + after
        return _Prepared(
            method=self.method,
            path=self.path.render(table),
            headers=self.headers,
            success=self.success,
            setting=self.setting,
            before=before,
            after=after,
            between=between,
            row=RowTemplate(self.row, table) if self.row else None,
            content_type="application/x-ndjson" if self.kind == "lines" else "application/json",
        )


def _put(body: Any, steps: Sequence[str], value: str) -> None:
    for step in steps[:-1]:
        body = body.setdefault(step, {})
        if not isinstance(body, dict):
            raise wrong(
                "body.rows_path",
                (
                    f"goes through {step!r}, which extra_body fills with something that is not an "
                    "object"
                ),
            )
    if steps[-1] in body:
        raise wrong("body.rows_path", "names a member that extra_body fills already")
    body[steps[-1]] = value


@dataclass(frozen=True, slots=True)
class _Replace:
    """How a table is emptied."""

    kind: str = "none"
    steps: tuple[tuple[str, Path, Template | str | None], ...] = ()
    success: frozenset[int] = _OK
    text: str = ""
    query: str = ""
    requests: str = "one"

    @classmethod
    def parse(cls, form: dict[str, Any]) -> _Replace:
        kind = form.get("replace_type", "none")
        if kind == "query":
            query = form["query"].lstrip("?&")
            encoded = Path.parse("replace.query", "/?" + query, ()).text
            return cls(kind, query=encoded.partition("?")[2], requests=form.get("requests", "one"))
        steps = []
        for number, step in enumerate(form.get("requests", ())):
            where = f"replace.requests[{number}]"
            path = Path.parse(f"{where}.path", step["path"], {"table"})
            body = _replace_body(f"{where}.body", step.get("body"))
            inside = (
                body.names()
                if isinstance(body, Template)
                else {"table"}
                if body and "{table}" in body
                else set()
            )
            if "table" not in path.names() | inside:
                raise wrong(where, "lacks {table}, in its path or in its body")
            steps.append((step["method"], path, body))
        success = statuses("replace.success_statuses", form.get("success_statuses", "200-299"))
        return cls(kind, tuple(steps), success, form.get("success_text", ""))

    def prepare(self, table: Table) -> list[_Request]:
        """The requests that empty the table; each may be sent again."""
        requests = []
        for number, (method, path, body) in enumerate(self.steps):
            is_json = isinstance(body, Template)
            content: bytes | None = None
            if isinstance(body, Template):
                content = msgspec.json.encode(body.render(table))
            elif body is not None:
                content = plain(f"replace.requests[{number}].body", body, table).encode()
            requests.append(
                _Request(
                    method,
                    path.render(table),
                    body=content,
                    content_type="application/json" if is_json else "text/plain",
                    setting="replace.requests",
                    success=self.success,
                )
            )
        return requests

    def is_flagged(self, plan: ReplacePlan) -> bool:
        """Whether the next request of a load carries the query."""
        return self.requests == "every" or not plan.begun


def _replace_body(where: str, text: str | None) -> Template | str | None:
    if not text:
        return None
    if text.lstrip()[:1] in "{[":
        return Template.parse(where, text, {"table"})
    require_known(where, text, {"table"})
    return text


@dataclass(frozen=True, slots=True)
class _Check:
    """The request of the connection test."""

    path: str
    success: frozenset[int]
    text: str

    @classmethod
    def parse(cls, form: dict[str, Any]) -> _Check:
        path = Path.parse("check_path", form["check_path"], ())
        success = statuses("check_statuses", form.get("check_statuses", "200-299"))
        return cls(path.text, success, form.get("check_text", ""))


@dataclass(frozen=True, slots=True)
class _Count:
    """How many rows a table holds."""

    path: Path
    value: str

    @classmethod
    def parse(cls, form: dict[str, Any]) -> _Count | None:
        path, value = form.get("table_count_path"), form.get("table_count_value")
        if not path and not value:
            return None
        if not path:
            raise wrong("table_count_path", "is missing, and table_count_value is given")
        if not value:
            raise wrong("table_count_value", "is missing, and table_count_path is given")
        parsed = Path.parse("table_count_path", path, {"table"})
        if "table" not in parsed.names():
            raise wrong("table_count_path", "lacks {table}")
        return cls(parsed, value)

    def read(self, response: HttpResponse, table: Table) -> int:
        try:
            if self.value.startswith("header:"):
                name = self.value.partition(":")[2].strip().lower()
                return int(response.headers[name].rpartition("/")[2])
            found = dig(msgspec.json.decode(response.body), self.value)
            if isinstance(found, int | float | str) and not isinstance(found, bool):
                return int(found)
        except (KeyError, ValueError, msgspec.DecodeError):
            pass
        message = (
            f"The API's answer about table {table.name} has no number where table_count_value "
            "says. Correct it."
        )
        raise ConfigError(message, stream=table.stream)


# --- how an answer is judged


class _Answers:
    """Reads answers as the form describes them."""

    def __init__(self, form: dict[str, Any]) -> None:
        self._count_path = form.get("count_path")
        self._results_path = form.get("results_path")
        self._errors_path = form.get("errors_path")
        self._error_member = form.get("result_error_member")
        self._status_member = form.get("result_status_member")
        self._index_member = form.get("error_index_member")
        self._message_member = form.get("error_message_member")
        if self._results_path and not (self._error_member or self._status_member):
            raise wrong(
                "results_path",
                "needs result_error_member or result_status_member: what makes a result an error",
            )
        self._refused_statuses = statuses(
            "refused_statuses", form.get("refused_statuses", "400,409,422")
        )
        self._retry_statuses = statuses(
            "retry_statuses", form.get("retry_statuses", "408,425,429,500,502-504")
        )
        self._stop, self._limited, self._large, self._bad, self._before = (
            [_squeeze(text.encode()) for text in form.get(name, ()) if text.strip()]
            for name in (
                "stop_texts",
                "rate_limit_texts",
                "too_large_texts",
                "refused_texts",
                "already_stored_texts",
            )
        )
        self._wait_s = float(form.get("rate_limit_wait_seconds", 0))
        self._reset_header = form.get("reset_header", "").lower()
        self._reset_is_time = form.get("reset_header_format") == "unix_time"

    def classify(self, request: _Request, response: HttpResponse) -> Disposition:
        status = response.status
        is_success = status in request.success
        said = self._said(response, is_success=is_success)
        if _found(self._stop, said):
            message = (
                f"The API answered {status} with one of stop_texts. Check authentication and its "
                "rights, the table's name (tables[].table) and "
                f"its columns, and {request.setting}."
            )
            return Stop(ConfigError(message))
        if status == 429 or _found(self._limited, said):
            return Retry(after_s=self._pause_s(response), pause=True)
        if status == 413 or _found(self._large, said):
            return Throw(TooLarge())
        if is_success:
            return Accept()
        if status in self._refused_statuses or _found(self._bad, said):
            faults = self._faults_in_refusal(response, request.rows)
            return Throw(Refused(f"http_{status}", response.text, faults=faults))
        if status in self._retry_statuses:
            is_known = status < 500 or status == 503
            return Retry(applied="no" if is_known else "maybe")
        return self._by_status(request, response)

    def _by_status(self, request: _Request, response: HttpResponse) -> Disposition:
        where = f"Check base_url, {request.setting} and the table's name (tables[].table)."
        denied = (
            f"Check authentication and extra_headers, and the right that {request.setting} needs."
        )
        hints = {401: denied, 403: denied, 402: denied, 404: where, 405: where, 410: where}
        if response.status >= 500 or 200 <= response.status < 300:
            message = (
                f"The API answered {response.status} to {request.setting}, which is neither a "
                "success, nor in retry_statuses or "
                "refused_statuses. Add it where it belongs."
            )
            return Stop(InternalError(message))
        return classify_by_status(response, "The API", hints)

    def _said(self, response: HttpResponse, *, is_success: bool) -> bytes:
        """What may be searched for texts: a success may repeat rows, and these prove nothing."""
        body = _squeeze(response.body[:_LOOKED_AT])
        texts = [*self._stop, *self._limited, *self._large]
        if not is_success or not _found(
            texts, _squeeze(response.body) if len(response.body) > _LOOKED_AT else body
        ):
            return b"" if is_success else body
        answer = _decode(response)
        results = self._results(answer)
        errors = [result for result in results or () if self._is_error(result)]
        return _squeeze(msgspec.json.encode([errors, self._errors(answer)]))

    def _pause_s(self, response: HttpResponse) -> float | None:
        """The longest wait asked for; None leaves Retry-After to the sender."""
        reset = response.headers.get(self._reset_header, "") if self._reset_header else ""
        if not self._wait_s and not reset:
            return None
        waits = [self._wait_s, _seconds(response.headers.get("retry-after", ""), response)]
        try:
            # Date is the server's own clock, so ours does not matter
            since = _unix_time(response.headers["date"]) if self._reset_is_time else 0.0
            waits.append(float(reset) - since)
        except (KeyError, ValueError, TypeError):
            pass
        return max(waits)

    # --- rows

    def faults_in_success(
        self, response: HttpResponse, count: int, *, is_atomic: bool
    ) -> list[RowFault]:
        """The rows that a success names as failed.

        Raises `Ambiguous` when it lacks what was promised, `Refused` when nothing was stored.
        """
        promises = self._count_path or self._results_path
        if not promises and not (self._errors_path and response.body.strip()):
            return []
        answer = _decode(response)
        if answer is None:
            raise Ambiguous(f"HTTP {response.status} with an answer that is not JSON")
        faults = self._faults_of(self._promised_results(answer, count, stops_early=is_atomic))
        errors = self._errors(answer)
        named = self._named_faults(errors, count)
        if named is None:
            raise Refused("row_errors", self._message(errors), partial=not is_atomic)
        ordered = [fault for _, fault in sorted((faults | named).items())]
        if ordered and is_atomic:
            raise Refused(ordered[0].code, ordered[0].reason, faults=tuple(ordered))
        if self._count_path:
            found = dig(answer, self._count_path)
            stored = len(found) if isinstance(found, list) else found
            if isinstance(stored, bool) or stored != count - len(ordered):
                told = stored if isinstance(stored, int) else "no number"
                raise Ambiguous(f"an answer with {told} at count_path for {count} rows")
        return ordered

    def _promised_results(self, answer: Any, count: int, *, stops_early: bool) -> list[Any]:
        if not self._results_path:
            return []
        results = self._results(answer)
        if results is None and count == 1:
            results = [answer]  # an answer about one row may leave the list out
        if results is None:
            raise Ambiguous("an answer without a list at results_path")
        if len(results) == count:
            return results
        # an API that stops at the first bad row has no results for those after it
        if stops_early and len(results) < count and results and self._is_error(results[-1]):
            return results
        raise Ambiguous(f"an answer with {len(results)} results for {count} rows")

    def is_stored_before(self, reason: str) -> bool:
        return _found(self._before, _squeeze(reason.encode()))

    def _faults_in_refusal(self, response: HttpResponse, count: int | None) -> tuple[RowFault, ...]:
        """The rows a refusal names, as far as it does."""
        answer = _decode(response) if count and (self._results_path or self._errors_path) else None
        if answer is None or count is None:
            return ()
        results = self._results(answer)
        faults = self._faults_of(results) if results and len(results) <= count else {}
        faults |= self._named_faults(self._errors(answer), count) or {}
        return tuple(faults[position] for position in sorted(faults))

    def _results(self, answer: Any) -> list[Any] | None:
        found = dig(answer, self._results_path) if self._results_path else None
        return found if isinstance(found, list) else None

    def _errors(self, answer: Any) -> Any:
        return dig(answer, self._errors_path) if self._errors_path else None

    def _is_error(self, result: Any) -> bool:
        if self._error_member and dig(result, self._error_member) not in (None, False, "", [], {}):
            return True
        status = dig(result, self._status_member) if self._status_member else 200
        return not (isinstance(status, int) and 200 <= status < 300)

    def _faults_of(self, results: Sequence[Any]) -> dict[int, RowFault]:
        return {
            i: self._fault(i, result) for i, result in enumerate(results) if self._is_error(result)
        }

    def _named_faults(self, errors: Any, count: int) -> dict[int, RowFault] | None:
        """Errors by row; None when one of them names no row of the request."""
        if isinstance(errors, dict):
            pairs = [
                (int(name) if name.isdigit() else None, error) for name, error in errors.items()
            ]
        elif isinstance(errors, list):
            pairs = [
                (dig(error, self._index_member) if self._index_member else None, error)
                for error in errors
            ]
        else:
            pairs = [(None, errors)] if errors else []
        faults = {}
        for position, error in pairs:
            if (
                not isinstance(position, int)
                or isinstance(position, bool)
                or not 0 <= position < count
            ):
                return None
            faults[position] = self._fault(position, error)
        return faults

    def _fault(self, position: int, error: Any) -> RowFault:
        code = dig(error, self._status_member) if self._status_member else None
        name = f"status_{code}" if isinstance(code, int) else "row_error"
        return RowFault(position, name, self._message(error))

    def _message(self, error: Any) -> str:
        text = dig(error, self._message_member) if self._message_member else None
        text = error if text is None else text
        return (
            text
            if isinstance(text, str)
            else msgspec.json.encode(text)[:2000].decode("utf-8", "replace")
        )


def _decode(response: HttpResponse) -> Any:
    try:
        return msgspec.json.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _squeeze(text: bytes) -> bytes:
    """Without white space, in which JSON of the same content may differ."""
    return b"".join(text.split())


def _found(texts: Sequence[bytes], said: bytes) -> bool:
    return any(text in said for text in texts)


def _unix_time(http_date: str) -> float:
    return parsedate_to_datetime(http_date).timestamp()


def _seconds(retry_after: str, response: HttpResponse) -> float:
    """`Retry-After` as seconds; a date counts from the server's own."""
    try:
        if retry_after[:1].isdigit():
            return float(retry_after)
        return _unix_time(retry_after) - _unix_time(response.headers["date"])
    except (KeyError, ValueError, TypeError):
        return 0.0


# --- authentication


def _authentication(form: dict[str, Any]) -> Callable[[float], Mapping[str, str]]:
    """A function of the Unix time that gives the headers of one attempt."""
    kind = form["auth_type"]
    if kind == "jwt":
        return _signed(form)
    headers: dict[str, str] = {}
    if kind == "bearer":
        token = header_value("authentication.token", form["token"].strip())
        headers = {"Authorization": f"Bearer {token}"}
    elif kind == "header":
        headers = _credential(
            form, "secret", form.get("value_template", "{secret}"), form["secret"].strip()
        )
    elif kind == "basic":
        pair = f"{form['username']}:{form.get('password', '')}"
        headers = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return lambda _: headers


def _credential(form: dict[str, Any], name: str, template: str, secret: str) -> dict[str, str]:
    where = "authentication.value_template"
    require_known(where, template, {name})
    if f"{{{name}}}" not in template:
        raise wrong(where, f"lacks {{{name}}}")
    header = header_name("authentication.header_name", form.get("header_name", "Authorization"))
    value = template.replace(f"{{{name}}}", header_value(f"authentication.{name}", secret))
    return {header: header_value(where, value)}


def _signed(form: dict[str, Any]) -> Callable[[float], Mapping[str, str]]:
    claims = Template.object("authentication.claims", form.get("claims"), ()).value
    assert isinstance(claims, dict)
    algorithm = form.get("algorithm", "HS256")
    # a form with one line per field turns the line ends of a key into \n
    secret = form["signing_secret"].strip().replace("\\n", "\n")
    lifetime, key_id = form.get("lifetime_seconds", 300), form.get("key_id")

    def headers(now: float) -> Mapping[str, str]:
        times = {
            "iat": int(now) - _CLOCK_SKEW_S,
            "exp": int(now) + lifetime,
            "jti": str(uuid.uuid4()),
        }
        token = jwt.encode(
            {**claims, **times}, secret, algorithm, headers={"kid": key_id} if key_id else None
        )
        return _credential(form, "token", form.get("value_template", "Bearer {token}"), token)

    try:
        headers(0)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise wrong(
            "authentication.signing_secret",
            f"cannot sign with {algorithm}; RS* need a private key in PEM form",
        ) from error
    return headers
