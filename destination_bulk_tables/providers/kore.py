"""Kore.ai data tables.

Source: https://koreai.mintlify.app/ai-for-service/apis/automation/bulk-data-insert
(read 2026-11-22)
Source: https://docs.kore.ai/xo/sdk/sdk-security/ (tokens; read 2026-11-22)
Insert: POST {prefix}/tables/{table}/bulk, body {"data": [...]}, at most 50 MB, answered with
{"records": [...]}, one per row stored. Delete and query by a filter of `=`, `!=`, `<`, `>`
expressions under one `and` or `or`; a query returns at most 100 rows and the total. No upsert, no
truncate. Rate: 600 requests in any 60 s and 18,000 in any 3,600 s per account and table; over it,
the text says "rate limit" and the status is not documented.

Not documented, and therefore: whether a refused insert stored some of its rows (the table's total
before and after tells), what happened to an insert without an answer (the same), null (left out),
dates (ISO 8601 as the API returns them), the status for a missing right (401 and 403 are read
alike), how long a filter may be (a query tells, before a long one deletes). An insert is not keyed:
repeating it blindly doubles rows. A delete that ended without an answer may be applied late and
take rows that were inserted since: it is repeated after a while, and the keys are counted after the
insert.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import jwt
import msgspec

from destination_bulk_tables.errors import ConfigError, TransientError, UnaccountedRows
from destination_bulk_tables.model import (
    JsonObject,
    JsonValue,
    Key,
    RowBlock,
    Table,
    key_of,
    key_tokens,
)
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
    Renew,
    ReplacePlan,
    Retry,
    RowRules,
    Stop,
    Throw,
    TooLarge,
    Traits,
    WriteReport,
    classify_by_status,
    credential,
    segment,
)
from destination_bulk_tables.providers.kore_form import FORM
from destination_bulk_tables.redact import mask_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

log = logging.getLogger(__name__)

_PAGE = 100  # the most rows a query returns
_KEYS_PER_DELETE = 100
_MOST_KEYS_PER_DELETE = 1000  # where the table shows that it reads a filter of this length
_CUT = "a delete does not read a long filter to its end"
_MOST_DELETES = 100  # by the same filter
_NOT_REFUSALS = {408, 413, 425, 429}  # of the client errors
_LISTINGS = 20
_PROBE_COLUMNS = 10
_PROBE_SAMPLE = 8
_MAX_PROBE_TOKEN = 256
_RATE_PAUSE_S = 60.0  # after a refusal for the rate that does not say how long to wait
_RATE_LIMITS = (b"per-minute rate limit", b"hourly rate limit", b"rate limit for this api")
_TOKEN_LIFE_S = 270  # with "Enforce JTI" at most an hour is allowed
_CLOCK_SKEW_S = 30
_NO_SUCH_TABLE = "airbyte-check-no-such-table"
_EVERY_ROW = b'{"expressions":[{"field":"sys_Id","operand":"!=","value":""}],"operator":"and"}'
_UNIQUE_INDEX = (
    "If the table has a unique index, old and new rows clash: set replace_strategy to "
    "'delete_then_insert'."
)
_NO_READ = {"http_401", "http_403"}
_SYSTEM_COLUMNS = {"_id", "sys_Id", "Created_On", "Updated_On", "Created_By", "Updated_By"}
# Source: https://docs.kore.ai/xo/administration/data/data-table/ (reserved words; read 2026-11-22)
_RESERVED_WORDS = """
ACCESS ADD ALL ALTER AND ANY AS ASC AUDIT BETWEEN BY CHAR CHECK CLUSTER COLUMN COMMENT
COMPRESS CONNECT CREATE CURRENT DATE DECIMAL DEFAULT DELETE DESC DISTINCT DROP ELSE
EXCLUSIVE EXISTS FILE FLOAT FOR FROM GRANT GROUP HAVING IDENTIFIED IMMEDIATE IN
INCREMENT INDEX INITIAL INSERT INTEGER INTERSECT INTO IS LEVEL LIKE LOCK LONG MAXEXTENTS
MINUS MLSLABEL MODE MODIFY NOAUDIT NOCOMPRESS NOT NOWAIT NULL NUMBER OF ON ONLINE
OFFLINE OPTION ORDER PCTFREE PRIOR PRIVILEGES PUBLIC RAW RENAME RESOURCE REVOKE ROW
ROWID ROWNUM ROWS SELECT SESSION SET SHARE SIZE SMALLINT START SUCCESSFUL SYNONYM
SYSDATE TABLE THEN TO TRIGGER UID UNION UNIQUE UPDATE USER VALIDATE VALUES VARCHAR
VARCHAR2 VIEW WHENEVER WHERE WITH
"""
_RESERVED = frozenset(_RESERVED_WORDS.split())
_ADVISED_COLUMNS = 20


class _Inserted(msgspec.Struct):
    records: list[msgspec.Raw]


class _Deleted(msgspec.Struct):
    nDeleted: int = 0  # noqa: N815 - the vendor's name


class _Row(msgspec.Struct):
    sys_Id: str  # noqa: N815 - the vendor's name


class _Queried(msgspec.Struct):
    queryResult: list[msgspec.Raw]  # noqa: N815 - the vendor's name
    total: int | None = None


class Kore(Base):
    """One Kore.ai account, seen through one JWT app."""

    name: ClassVar[str] = "kore"
    title: ClassVar[str] = "Kore.ai"
    spec: ClassVar[JsonObject] = FORM
    # Source: https://koreai.mintlify.app/ai-for-service/apis/automation/rate-limit
    # (read 2026-11-22)
    limits = Limits(
        max_rows=1000,
        max_bytes=5_000_000,
        hard_max_bytes=50_000_000,
        windows=((600, 60.0), (18_000, 3600.0)),
        advised_rows=10_000,
        advised_row_bytes=100_000,
    )

    def __init__(
        self,
        host: str,
        prefix: str,
        authentication: JsonObject,
        replace_strategy: Literal["insert_then_delete", "delete_then_insert"],
        on_unknown: Literal["retry", "fail"],
        rules: RowRules,
    ) -> None:
        self.base_url = host
        self._prefix = "/" + prefix.strip("/") if prefix.strip("/") else ""
        self._token = _token_maker(authentication)
        self._replace_strategy = replace_strategy
        self.rules = rules
        self.traits = Traits(reads_back=True, on_unknown=on_unknown)
        self._most_deleted = 1  # by one request; known, it saves the request that finds nothing
        self._keys_per_delete: dict[str, int] = {}  # by the table's name, once it is known
        self._read_whole: set[str] = set()  # tables where a delete read a long filter to its end

    @classmethod
    def from_config(cls, section: JsonObject) -> Kore:
        """Raises `ConfigError` if the key cannot sign or the token is over."""
        return cls(
            host=str(section["host"]).strip(),
            prefix=str(section.get("api_path_prefix", "/api/public")),
            authentication=cast("JsonObject", section["authentication"]),
            replace_strategy=cast("Any", section.get("replace_strategy", "insert_then_delete")),
            on_unknown="fail" if section.get("on_ambiguous_write") == "fail" else "retry",
            rules=RowRules(
                nulls="omit",
                timestamps=cast("Any", section.get("timestamp_format", "iso")),
                booleans=cast("Any", section.get("boolean_format", "string")),
                deletes=True,
            ),
        )

    def headers(self, now: float) -> Mapping[str, str]:
        return {"auth": self._token(now)}

    def classify(self, request: HttpRequest, response: HttpResponse) -> Disposition:
        """Tell the hourly limit and the rights apart from the usual meanings.

        Source: https://community.kore.ai/t/article-understanding-rate-limits-for-kore-ai-public-apis/3638
        (read 2026-11-22)
        """
        status = response.status
        text = response.body[:4000].lower() if status >= 400 else b""
        if _tells_rate_limit(text, request):
            if b"hour" in text:
                message = (
                    "Kore.ai's hourly rate limit (18,000 requests per table) is used up, also by "
                    "other clients. Run the sync less often, raise batching.max_rows, or ask "
                    "Kore.ai for a higher limit."
                )
                return Stop(TransientError(message))
            return Retry(
                after_s=None if "retry-after" in response.headers else _RATE_PAUSE_S, pause=True
            )
        if 200 <= status < 300:
            return Accept()  # an answer that echoes every row is not read for its errors
        is_query = request.path.partition("?")[0].endswith("/query")
        # what a sync can do without may be refused by any proxy that finds it too long
        is_optional = request.repeat == "once" and status != 401
        if (is_query or is_optional) and 400 <= status < 500 and status not in _NOT_REFUSALS:
            refused = Refused(f"http_{status}", _message(request, response))
            return Renew(refused) if status == 401 else Throw(refused)
        right = {"DELETE": "Read and Delete"}.get(request.method, "Write")
        where = "Data > Apps" if status == 401 else "the table's App Assignments"
        hint = (
            f"{_message(request, response)} Check the client id, secret and algorithm, and that "
            f"the app has the right to {right} on the table ({where} in Kore.ai)."
        )
        missing = (
            "Check the host, the API path and the table's name (tables[].table); the table must "
            "exist first."
        )
        return classify_by_status(response, self.title, {401: hint, 403: hint, 404: missing})

    # --- check and preparation

    def check(self, tables: Sequence[str]) -> Flow[None]:
        """Query one row of each table: it needs the Read right and changes nothing."""
        for name in tables:
            try:
                yield from self._total(name)
            except Refused as refused:
                if refused.code in _NO_READ:
                    yield from self._check_token()
                    message = (
                        f"The app may not read table {name}. Give it the right to Read in the "
                        "table's App Assignments; the check and the verification of writes need it."
                    )
                    raise ConfigError(message) from None
                raise ConfigError(_no_table(name, refused)) from None
        if not tables:
            yield from self._check_token()

    def _check_token(self) -> Flow[None]:
        """A good token is refused a table that cannot exist with anything but 401, by Kore.ai."""
        try:
            yield from self._total(_NO_SUCH_TABLE)
        except Refused as refused:
            if refused.code == "http_401":
                message = (
                    f"Kore.ai does not accept the token (401). {refused.reason} Check the client "
                    "id, the secret and the algorithm, or the static token, and that they are of "
                    "an app of this host."
                )
                raise ConfigError(message) from None
            if refused.code == "unreadable_answer" or not refused.reason:
                message = (
                    f"The host answers, but not like Kore.ai's API ({refused.code}). Check host "
                    "and api_path_prefix."
                )
                raise ConfigError(message) from None

    def validate(self, table: Table) -> None:
        system = sorted(set(table.columns) & _SYSTEM_COLUMNS)
        if system:
            message = (
                f"Stream {table.stream}: {system[0]!r} is a column that Kore.ai fills itself. Send "
                "the field under another name, or leave it out, with tables[].columns."
            )
            raise ConfigError(message, stream=table.stream)

    def warnings(self, table: Table) -> list[str]:
        """Source: https://docs.kore.ai/xo/administration/data/data-table/ (read 2026-11-22)."""
        found = []
        reserved = [column for column in table.columns if column.upper() in _RESERVED]
        if reserved:
            names = ",".join(reserved)
            found.append(
                f"reserved_columns table={table.name} columns={names} "
                "remedy=rename_in_tables[].columns"
            )
        if len(table.columns) > _ADVISED_COLUMNS:
            found.append(
                f"many_columns table={table.name} columns={len(table.columns)} "
                f"advised={_ADVISED_COLUMNS}"
            )
        return found

    def prepare(self, table: Table) -> Flow[int | None]:
        if table.mode == "dedup":
            return None
        try:
            return (yield from self._total(table.name))
        except Refused as refused:
            if refused.code in _NO_READ:
                log.warning("table_not_readable table=%s needs=read_right", table.name)
            return None

    # --- writing

    def body_size(self, table: Table) -> int:  # noqa: ARG002 - the same for all
        return len(b'{"data":[]}')

    def write(self, table: Table, block: RowBlock, context: Context) -> Flow[WriteReport]:
        """Insert; where rows are kept by key, delete their keys first."""
        is_doubtful = False
        if table.mode == "dedup" and context.replace is None:
            keys = [*(block.keys or ()), *(tombstone.key for tombstone in block.tombstones)]
            is_resent = yield from self._delete_keys(table, keys)
            is_doubtful = is_resent or context.repeated
        if not block.count:
            return WriteReport(delivered=len(block))
        response = yield self._insert(table.name, block)
        try:
            stored = len(response.decode(_Inserted).records)
        except Ambiguous:
            unreadable = "the answer does not list the records"
            raise Refused(
                "unreadable_answer", unreadable, partial=not self.repeats_safely(table)
            ) from None
        if stored != block.count:
            reason = f"the answer lists {stored} of {block.count} rows"
            raise Refused("not_stored", reason, partial=not self.repeats_safely(table))
        if is_doubtful:
            yield from self._require_keys(table, block.keys or ())
        return WriteReport(delivered=len(block))

    def _insert(self, table: str, block: RowBlock) -> HttpRequest:
        body = block.enclosed(b'{"data":[', b"]}")
        return HttpRequest("POST", self._path(table, "/bulk"), body=body, repeat="unsafe")

    def repeats_safely(self, table: Table) -> bool:
        return table.mode == "dedup" and not table.replace

    def refusals_store_nothing(self, table: Table) -> bool:
        return self.repeats_safely(table)

    def examine(self, table: Table) -> Flow[bool | None]:
        try:
            yield from self._total(table.name)
        except Refused as refused:
            if refused.code in _NO_READ:
                return None
            raise ConfigError(_no_table(table.name, refused), stream=table.stream) from None
        return True

    def _delete_keys(self, table: Table, keys: Sequence[Key]) -> Flow[bool]:
        """Delete the rows with these keys; True when a request may be applied late."""
        size = 1 if len(table.key_columns) > 1 else (yield from self._delete_size(table, len(keys)))
        in_doubt = False
        done = 0
        while done < len(keys):
            group = keys[done : done + size]
            try:
                is_resent = yield from self._delete_group(table, group)
            except (Refused, TooLarge, Ambiguous) as error:
                if len(group) <= _KEYS_PER_DELETE:
                    raise
                size = self._delete_fewer(table, _cause(error))
                in_doubt = in_doubt or isinstance(error, Ambiguous)
            else:
                in_doubt = in_doubt or is_resent
                done += len(group)
        return in_doubt

    def _delete_group(self, table: Table, keys: Sequence[Key]) -> Flow[bool]:
        """Delete by one filter; True when a request may have been applied twice.

        Not documented: a limit of rows per request. So a delete is repeated until it counts as many
        rows as it has keys, or fewer than some request did: no limit stopped it. Nor whether a
        delete reads a long filter to its end: until one did, the rows are counted before.
        """
        expected, is_telling = None, False
        if len(keys) > _KEYS_PER_DELETE and table.name not in self._read_whole:
            keys, expected, is_telling = yield from self._count_keys(table, keys)
        request = self._delete(table.name, _key_filter(table, keys), len(keys))
        is_resent = False
        gone = 0
        for _ in range(max(_MOST_DELETES, len(keys) + 1)):
            response = yield request
            is_resent = is_resent or response.resent
            deleted, most = _deleted(response), self._most_deleted
            self._most_deleted = max(deleted, most)
            gone += deleted
            if deleted == len(keys) or deleted < most:
                break
        else:
            message = f"Kore.ai counts rows of table {table.name} as deleted that stay there."
            raise UnaccountedRows(message, stream=table.stream)
        # an insert that was given up may still have put a row of each key there
        if expected is not None and gone > expected + len(keys):
            message = (
                f"A delete at table {table.name} took {gone} rows where its filter found "
                f"{expected}. Something else may write to the table; if not, look for rows that "
                "are gone."
            )
            raise UnaccountedRows(message, stream=table.stream)
        if expected is not None and gone < expected:
            raise Refused(f"deleted_{gone}_of_{expected}_rows", _CUT)
        if is_telling:
            self._read_whole.add(table.name)
        return is_resent

    def _count_keys(
        self, table: Table, keys: Sequence[Key]
    ) -> Flow[tuple[Sequence[Key], int, bool]]:
        """The keys with one that is in the table put last, the rows they have, whether one is."""
        filter_ = _key_filter(table, keys)
        try:
            found = yield from self._query(table.name, filter_, limit=1, repeat="once")
        except Ambiguous as error:  # no delete that may be applied late
            raise Refused("no_answer", str(error)) from None
        if found.total is None:
            raise Refused("no_total", "the answer does not count the rows")
        with contextlib.suppress(msgspec.DecodeError, IndexError, KeyError):
            row = msgspec.json.decode(found.queryResult[0], type=dict[str, msgspec.Raw])
            known = key_of([bytes(row[table.key_columns[0]])])
            if known in keys:
                return [*(key for key in keys if key != known), known], found.total, True
        return keys, found.total, False

    def _delete_size(self, table: Table, n_keys: int) -> Flow[int]:
        """How many of `n_keys` keys one delete may hold; asked of each table until it is known.

        Not documented: how many expressions a filter may have, and whether more of them are
        refused, are ignored, so that old rows would stay, or void the filter, so that every row
        would go. So a query as long as the longest delete must find the two rows that its first and
        last expressions name, and no third. A delete is taken to match no row that a query by the
        same filter does not.
        """
        if n_keys <= _KEYS_PER_DELETE:
            return _KEYS_PER_DELETE
        known = self._keys_per_delete.get(table.name)
        if known is not None:
            return known
        try:
            some = yield from self._query(table.name, _EVERY_ROW, limit=2)
            if len(some.queryResult) < 2 or (some.total is not None and some.total < 3):
                return _KEYS_PER_DELETE  # too few rows to tell; there may be more by the next batch
            ids = _ids(some)
            query = _long_filter(ids[0], ids[-1])
            # what ends without an answer may do so each time, for its length
            found = yield from self._query(table.name, query, limit=3, repeat="once")
            is_read = found.total == len(ids) and sorted(_ids(found)) == sorted(ids)
            cause = f"found_{found.total}_of_{len(ids)}_rows"
        except (Refused, TooLarge, Ambiguous, msgspec.DecodeError) as error:
            is_read, cause = False, _cause(error)
        # another batch may know by now, and its deletes may have taken the rows asked for
        known = self._keys_per_delete.get(table.name)
        if known is None and not is_read:
            return self._delete_fewer(table, cause)
        return self._keys_per_delete.setdefault(table.name, _MOST_KEYS_PER_DELETE)

    def _delete_fewer(self, table: Table, cause: str) -> int:
        """Go back to the few keys per delete for the rest of the sync: how many that is."""
        log.info("short_deletes table=%s keys=%d cause=%s", table.name, _KEYS_PER_DELETE, cause)
        self._keys_per_delete[table.name] = _KEYS_PER_DELETE
        return _KEYS_PER_DELETE

    def _require_keys(self, table: Table, keys: Sequence[Key]) -> Flow[None]:
        """Raise `Ambiguous` unless the table holds one row of each key: nothing came late."""
        try:
            for group in _groups(keys, 1 if len(table.key_columns) > 1 else _PAGE - 1):
                answer = yield from self._query(table.name, _key_filter(table, group), limit=_PAGE)
                total = len(answer.queryResult) if answer.total is None else answer.total
                if total != len(group):
                    message = (
                        f"the table holds {total} rows of {len(group)} keys that were just written"
                    )
                    raise Ambiguous(message)
        except Refused as refused:
            log.warning(
                "keys_not_counted table=%s code=%s effect=late_deletes_go_unnoticed",
                table.name,
                refused.code,
            )

    def _delete(self, table: str, query: bytes, n_expressions: int) -> HttpRequest:
        return HttpRequest(
            "DELETE",
            self._path(table),
            body=b'{"query":%b}' % query,
            repeat="once" if n_expressions > _KEYS_PER_DELETE else "settled",
        )

    # --- reading back

    def stored_rows(self, table: Table, block: RowBlock, context: Context) -> Flow[set[int] | None]:
        """Compare the table's total with what it should be; look for rows where a part is in."""
        try:
            total = yield from self._total(table.name)
            if total is None or context.stored is None:
                return None
            new = total - context.stored
            if new == 0:
                return set()
            if new == block.count + context.others:
                return set(range(block.count))
            if new < 0 or new > block.count + context.others:
                return None  # somebody else writes to the table as well
            old = set(context.replace.old_ids) if context.replace else set()
            return (yield from self._find_rows(table, block, new, context.others, old))
        except Refused:
            return None

    def _find_rows(
        self, table: Table, block: RowBlock, new: int, others: int, old: set[str]
    ) -> Flow[set[int] | None]:
        """Look for `new` rows of the block among the table's, those with `old` ids left out."""
        filters = [_filter_of(row, table) for row in block.rows()]
        if None in filters or len(set(filters)) < len(filters):
            return None
        known = cast("list[bytes]", filters)
        telling = _telling_column(block, table)
        if not others:
            # an insert that stops at its first bad row has stored the rows before it
            head, tail = range(new), range(new, block.count)
            if (yield from self._all(table, known, _sample(head), old, is_in=True)) and (
                yield from self._all(table, known, _sample(tail), old, is_in=False)
            ):
                fewer = head if len(head) <= len(tail) else tail
                held = yield from self._held(table, known, telling, fewer, old)
                if held == (set(head) if fewer is head else set()):
                    return set(head)
        found = yield from self._held(table, known, telling, range(block.count), old)
        return found if len(found) <= new <= len(found) + others else None

    def _held(
        self,
        table: Table,
        filters: Sequence[bytes],
        telling: tuple[str, Sequence[dict[str, bytes]]] | None,
        positions: range,
        old: set[str],
    ) -> Flow[set[int]]:
        """Which rows the table holds: asked for by the page where one column tells them apart."""
        found: set[int] = set()
        size = _PAGE // 2 if old else _PAGE  # a page shows an old and a new row of each
        for start in range(0, len(positions), size):
            group = positions[start : start + size]
            if telling is not None:
                column, probes = telling
                query = _any_of(column, [probes[i][column] for i in group])
                answer = yield from self._query(table.name, query, limit=_PAGE)
                if answer.total == len(answer.queryResult):
                    held = [msgspec.json.decode(row) for row in _without(old, answer.queryResult)]
                    # the same key may be there with other values, of an earlier sync
                    found |= {i for i in group if any(_is_like(row, probes[i]) for row in held)}
                    continue
            for position in group:
                if (yield from self._holds(table, filters[position], old)):
                    found.add(position)
        return found

    def _all(
        self,
        table: Table,
        filters: Sequence[bytes],
        positions: Sequence[int],
        old: set[str],
        *,
        is_in: bool,
    ) -> Flow[bool]:
        for position in positions:
            if (yield from self._holds(table, filters[position], old)) is not is_in:
                return False
        return True

    def _holds(self, table: Table, query: bytes, old: set[str]) -> Flow[bool]:
        answer = yield from self._query(table.name, query, limit=_PAGE if old else 1)
        return bool(_without(old, answer.queryResult))

    def _query(
        self,
        table: str,
        query: bytes,
        limit: int,
        offset: int = 0,
        repeat: Literal["safe", "once"] = "safe",
    ) -> Flow[_Queried]:
        path = self._path(table, f"/query?sys_limit={limit}&sys_offset={offset}")
        response = yield HttpRequest("POST", path, body=b'{"query":%b}' % query, repeat=repeat)
        try:
            return response.decode(_Queried)
        except Ambiguous:
            code = "unreadable_answer"
            raise Refused(
                code, "the answer is not the documented JSON; check the host and the API path"
            ) from None

    def _total(self, table: str) -> Flow[int | None]:
        return (yield from self._query(table, _EVERY_ROW, limit=1)).total

    # --- replacing

    def replace_begin(self, table: Table, load: Load) -> Flow[ReplacePlan]:  # noqa: ARG002
        try:
            if self._replace_strategy == "delete_then_insert":
                yield from self._empty(table)
                return ReplacePlan(stored=0)
            ids = yield from self._list_ids(table)
            return ReplacePlan(stored=len(ids), old_ids=ids, hint=_UNIQUE_INDEX if ids else "")
        except Refused as refused:
            if refused.code not in _NO_READ:
                raise ConfigError(_no_table(table.name, refused), stream=table.stream) from None
            message = (
                f"Replacing table {table.name} needs the rights to Read, Write and Delete; the app "
                "may not read it. Give it the rights in the table's App Assignments. The table was "
                "not touched."
            )
            raise ConfigError(message, stream=table.stream) from None

    def replace_end(self, table: Table, plan: ReplacePlan, delivered: int) -> Flow[None]:
        """Delete the rows that were there before, only after the new ones are proven to be in."""
        yield from self._require_total(table, len(plan.old_ids) + delivered)
        if plan.refused and plan.old_ids:
            yield from self._require_no_clash(table, plan, delivered)
        old = list(map(msgspec.json.encode, plan.old_ids))
        size = yield from self._delete_size(table, len(old))
        while old:
            group = old[:size]
            try:
                yield from self._delete_ids(table, group)
            except (Refused, TooLarge, Ambiguous) as error:
                if len(group) > _KEYS_PER_DELETE:
                    size = self._delete_fewer(table, _cause(error))
                    continue
                if not isinstance(error, Refused):
                    raise
                message = (
                    f"Kore.ai refuses to delete the old rows of table {table.name} "
                    f"({error.code}), so it holds the old and the new ones. Give the app the "
                    "right to Read and Delete in the table's App Assignments."
                )
                raise ConfigError(message, stream=table.stream) from None
            del old[:size]
        if plan.old_ids:
            yield from self._require_total(table, delivered)

    def _delete_ids(self, table: Table, ids: Sequence[bytes]) -> Flow[None]:
        """Delete the rows with these sys_Ids; a count of fewer is judged by the table's total."""
        request = self._delete(table.name, _any_of("sys_Id", ids), len(ids))
        left = len(ids)
        while left > 0:
            deleted = _deleted((yield request))
            if not deleted:
                break
            left -= deleted
        if left > 0 and len(ids) > _KEYS_PER_DELETE:
            raise Refused(f"left_{left}_of_{len(ids)}_rows", _CUT)

    def _require_no_clash(self, table: Table, plan: ReplacePlan, delivered: int) -> Flow[None]:
        """Raise unless the refused rows are bad in themselves: then the old ones must stay.

        A row may be refused because an old one has its value in a column with a unique index. A
        table with such an index refuses a copy of a row as well; a copy it takes goes with the old.
        """
        copy = (yield from self._insert_copy(table, plan)) if delivered else None
        if copy is None:
            message = (
                f"Kore.ai refused rows that were to replace table {table.name} "
                f"({', '.join(sorted(plan.refused))}), and they may be good: it refuses copies of "
                "rows too, or took none. No old row was deleted. rejected_records.report_path "
                f"lists the refused rows and why. {_UNIQUE_INDEX}"
            )
            raise ConfigError(message, stream=table.stream)
        plan.old_ids.append(copy)

    def _insert_copy(self, table: Table, plan: ReplacePlan) -> Flow[str | None]:
        """Insert a copy of a row, of a new one if possible: its sys_Id, None when refused."""
        old = set(plan.old_ids)
        try:
            page = yield from self._query(table.name, _EVERY_ROW, limit=_PAGE, offset=len(old))
            rows = [_copy_of(row, table, old) for row in page.queryResult]
            _, _, copy = max(rows, default=(False, 0, b"{}"))
            try:
                response = yield self._insert(table.name, RowBlock([copy], 1, range(1)))
            except (Refused, TooLarge):
                return None
            stored = response.decode(_Inserted).records
            return msgspec.json.decode(stored[0], type=_Row).sys_Id if stored else None
        except (Refused, Ambiguous, msgspec.DecodeError) as error:
            message = (
                f"Rows that were to replace table {table.name} were refused, and it could not be "
                "told why. No old row was deleted; the next attempt replaces all it finds."
            )
            raise TransientError(message, stream=table.stream) from error

    def _require_total(self, table: Table, expected: int) -> Flow[None]:
        try:
            total = yield from self._total(table.name)
            if total is None:
                total = len((yield from self._list_ids(table)))
        except Refused as refused:
            message = (
                f"Table {table.name} could not be counted while it was being replaced "
                f"({refused.code}). {refused.reason} The next attempt replaces all it finds."
            )
            raise TransientError(message, stream=table.stream) from None
        if total != expected:
            message = (
                f"Table {table.name} holds {total} rows where {expected} were expected while it "
                "was being replaced. Something else may write to it. No row that was not replaced "
                "has been deleted; the next attempt replaces all it finds."
            )
            raise TransientError(message, stream=table.stream)

    def _list_ids(self, table: Table) -> Flow[list[str]]:
        """The sys_Id of each row. Pages have no documented order: read until none is missing."""
        ids: dict[str, None] = {}
        for _ in range(_LISTINGS):
            offset, known = 0, len(ids)
            while True:
                page = yield from self._query(table.name, _EVERY_ROW, limit=_PAGE, offset=offset)
                ids.update(dict.fromkeys(_ids(page)))
                offset += len(page.queryResult)
                if not page.queryResult or (page.total is not None and offset >= page.total):
                    break
            if len(ids) == page.total or (page.total is None and known == len(ids)):
                return list(ids)
        message = (
            f"The rows of table {table.name} cannot be listed: they change while they are read. "
            "Nothing was changed."
        )
        raise TransientError(message, stream=table.stream)

    def _empty(self, table: Table) -> Flow[None]:
        """Delete all rows; stop before anything is inserted when some stay."""
        total = yield from self._total(table.name)
        while total is None or total:
            response = yield self._delete(table.name, _EVERY_ROW, 1)
            before, total = total, (yield from self._total(table.name))
            if total is None:
                total = len((yield from self._list_ids(table)))
            deleted = _deleted(response)
            if total and not deleted and (before is None or total >= before):
                message = (
                    f"Kore.ai does not delete the rows of table {table.name}, so it cannot be "
                    "replaced."
                )
                raise UnaccountedRows(message, stream=table.stream)

    def _path(self, table: str, rest: str = "") -> str:
        return f"{self._prefix}/tables/{segment(table)}{rest}"


def _token_maker(authentication: JsonObject) -> Any:
    """A function of the Unix time that gives the token for one attempt."""
    if authentication["auth_type"] == "static_jwt":
        token = credential(str(authentication["jwt"]), "authentication.jwt")
        try:
            expires = jwt.decode(token, options={"verify_signature": False}).get("exp")
        except jwt.PyJWTError as error:
            message = "authentication.jwt is not a signed JWT (three parts joined by dots)."
            raise ConfigError(message) from error

        def static(now: float) -> str:
            if isinstance(expires, int | float) and expires <= now:
                when = datetime.fromtimestamp(expires, UTC).isoformat()
                message = (
                    f"authentication.jwt expired at {when}. Put in a new token, or use a JWT app, "
                    "which makes its own."
                )
                raise ConfigError(message)
            return token

        return static

    algorithm = str(authentication.get("algorithm", "HS256"))
    secret = str(authentication["client_secret"]).strip().replace("\\n", "\n")
    client_id = str(authentication["client_id"]).strip()
    subject = str(authentication.get("subject", "airbyte"))

    def fresh(now: float) -> str:
        claims = {
            "sub": subject,
            "appId": client_id,
            "iat": int(now) - _CLOCK_SKEW_S,
            "exp": int(now) + _TOKEN_LIFE_S,
            "jti": str(uuid.uuid4()),  # an app that enforces JTI takes each token once
        }
        return jwt.encode(claims, secret, algorithm=algorithm)

    try:
        fresh(0)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        message = (
            f"authentication.client_secret cannot sign with {algorithm}: for RS256 and RS512 it "
            "must be a private key in PEM form."
        )
        raise ConfigError(message) from error
    return fresh


def _deleted(response: HttpResponse) -> int:
    """Rows a delete counts; 0 where its answer cannot be read: the table's total tells then."""
    try:
        return response.decode(_Deleted).nDeleted
    except Ambiguous:
        return 0


def _tells_rate_limit(text: bytes, request: HttpRequest) -> bool:
    """Whether a text speaks of the rate limit; the words alone may be quoted from a row."""
    if b"rate limit" not in text:
        return False
    is_quoted = b"rate limit" in (request.body or b"").lower()
    return not is_quoted or any(known in text for known in _RATE_LIMITS)


def _message(request: HttpRequest, response: HttpResponse) -> str:
    """The vendor's own text about the credential or the table: {"errors": [{"msg", "code"}]}."""
    try:
        message = str(msgspec.json.decode(response.body)["errors"][0]["msg"])
        # whatever was sent may be quoted: rows, or the values of a filter
        message = mask_values(message, RowBlock([request.body or b"{}"], 1, range(1)))[:200]
    except (msgspec.DecodeError, KeyError, IndexError, TypeError, UnicodeDecodeError):
        return ""
    return f"It says: {message.rstrip('.')}."


def _no_table(name: str, refused: Refused) -> str:
    return (
        f"Kore.ai refuses to read table {name} ({refused.code}). {refused.reason} Check the "
        "table's name (tables[].table), the host and the API path; the table must exist before the "
        "first sync."
    )


def _copy_of(row: bytes, table: Table, old: set[str]) -> tuple[bool, int, bytes]:
    """What is sent of a row to insert it once more; the best to copy is new and has most values."""
    members = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    sent = {column: members[column] for column in table.columns if column in members}
    sent = {column: raw for column, raw in sent.items() if bytes(raw) != b"null"}
    is_new = msgspec.json.decode(row, type=_Row).sys_Id not in old
    return is_new, len(sent), msgspec.json.encode(sent)


def _all_of(members: Iterable[tuple[str, bytes]]) -> bytes:
    """A filter for the rows with each of these columns' JSON tokens."""
    expressions = [
        b'{"field":%b,"operand":"=","value":%b}' % (msgspec.json.encode(column), token)
        for column, token in members
    ]
    return b'{"expressions":[%b],"operator":"and"}' % b",".join(expressions)


def _any_of(column: str, tokens: Iterable[bytes]) -> bytes:
    """A filter for the rows with one of these JSON tokens in a column."""
    start = b'{"field":%b,"operand":"=","value":' % msgspec.json.encode(column)
    expressions = (b"}," + start).join(tokens)
    return b'{"expressions":[%b%b}],"operator":"or"}' % (start, expressions)


def _key_filter(table: Table, keys: Sequence[Key]) -> bytes:
    """A filter for keys of one column, joined by `or`, or for one key of several, by `and`."""
    if len(table.key_columns) == 1:
        return _any_of(table.key_columns[0], map(key_tokens, keys))
    (key,) = keys
    tokens = msgspec.json.decode(b"[%b]" % key_tokens(key), type=list[msgspec.Raw])
    return _all_of(zip(table.key_columns, map(bytes, tokens), strict=True))


def _long_filter(first: str, last: str) -> bytes:
    """A filter of the longest delete's length; all but the first and last match no row."""
    between = [f"airbyte-no-such-row-{i}" for i in range(2, _MOST_KEYS_PER_DELETE)]
    return _any_of("sys_Id", map(msgspec.json.encode, [first, *between, last]))


def _probes(row: bytes, table: Table) -> dict[str, bytes]:
    """The columns a filter can find this row by: short texts and numbers."""
    members = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    tokens = {column: bytes(raw) for column, raw in members.items()}
    return {
        column: token
        for column, token in tokens.items()
        if (column in table.text_columns or token[0] in b"-0123456789")
        and len(token) <= _MAX_PROBE_TOKEN
    }


def _without(old: set[str], rows: list[msgspec.Raw]) -> list[msgspec.Raw]:
    """The rows that were not there before a load."""
    return (
        [row for row in rows if msgspec.json.decode(row, type=_Row).sys_Id not in old]
        if old
        else rows
    )


def _is_like(row: JsonObject, probes: dict[str, bytes]) -> bool:
    return all(
        _plain(row.get(column)) == _plain(msgspec.json.decode(token))
        for column, token in probes.items()
    )


def _plain(value: JsonValue) -> JsonValue:
    """Numbers as a vendor may keep them."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _telling_column(block: RowBlock, table: Table) -> tuple[str, list[dict[str, bytes]]] | None:
    """A column with another value in each row of the block, and what each is found by."""
    probes = [_probes(row, table) for row in block.rows()]
    for column in probes[0]:
        tokens = [probe[column] for probe in probes if column in probe]
        if len(tokens) == len(set(tokens)) == len(probes):
            return column, probes
    return None


def _filter_of(row: bytes, table: Table) -> bytes | None:
    """A filter that finds this row by its text and number columns; None when it has none."""
    members = list(_probes(row, table).items())
    if not members:
        return None
    return _all_of(members[:_PROBE_COLUMNS])


def _sample(positions: range) -> list[int]:
    """The ends and some between."""
    if len(positions) <= _PROBE_SAMPLE:
        return list(positions)
    step = (len(positions) - 1) / (_PROBE_SAMPLE - 1)
    return sorted({positions[round(i * step)] for i in range(_PROBE_SAMPLE)})


def _cause(error: Exception) -> str:
    return error.code if isinstance(error, Refused) else type(error).__name__.lower()


def _ids(page: _Queried) -> list[str]:
    return [msgspec.json.decode(row, type=_Row).sys_Id for row in page.queryResult]


def _groups(keys: Sequence[Key], size: int) -> Iterator[Sequence[Key]]:
    return (keys[i : i + size] for i in range(0, len(keys), size))
