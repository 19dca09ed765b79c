"""The verbs of `custom_http`: a form turned into flows.

An answer without what the form promises about it (a count, one result per row) proves nothing and
is ambiguous, never a success. Where the form promises nothing, the status alone is the proof.

Not covered: rows deleted one by one, staging and committing, values wrapped cell by cell.
"""

from __future__ import annotations

import gzip
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from destination_bulk_tables.errors import ConfigError, TransientError
from destination_bulk_tables.http import Ambiguous, Refused, RowFault, TooLarge
from destination_bulk_tables.model import Receipt, RowBlock, StreamKey, Table
from destination_bulk_tables.outcomes import Context, Outcome, ReadBack, ReplacePlan, WriteReport
from destination_bulk_tables.provider import Base, Limits, RowRules, Traits
from destination_bulk_tables.providers.custom_http.answers import Answers, Request
from destination_bulk_tables.providers.custom_http.batch_keys import LENGTH, BatchKeys
from destination_bulk_tables.providers.custom_http.credentials import authentication
from destination_bulk_tables.providers.custom_http.doubts import trouble_in
from destination_bulk_tables.providers.custom_http.fields import (
    header_lines,
    header_name,
    is_page,
    says,
    squeeze,
)
from destination_bulk_tables.providers.custom_http.form import SPEC
from destination_bulk_tables.providers.custom_http.jobs import GRACE_S, Jobs
from destination_bulk_tables.providers.custom_http.reading import Check, Count
from destination_bulk_tables.providers.custom_http.results import Judgement, Results
from destination_bulk_tables.providers.custom_http.table_columns import TableColumns
from destination_bulk_tables.providers.custom_http.writing import Prepared, Replace, Write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from destination_bulk_tables.dispositions import Disposition
    from destination_bulk_tables.http import Flow, HttpRequest, HttpResponse
    from destination_bulk_tables.model import JsonObject
    from destination_bulk_tables.outcomes import Load, Unverified
    from destination_bulk_tables.provider import ColumnKind

log = logging.getLogger(__name__)

_MEGABYTE = 1_000_000
_NO_VALUE = "a column that stands in a path has no value, or one that would make another path"
_UNKNOWN_HINT = (
    "What would have told: table_count_path, where the API counts exactly; repeat_is_safe, where "
    "it keeps rows by a key; refusals_store_nothing, where a refused request stores none."
)
_SLOW_HINT = (
    "Look at the job there. Each status in which a job ends must be in job.done or job.failed, and "
    "job.id must name the job of the request; where jobs are slow, raise job.timeout_minutes."
)


class CustomHttp(Base):
    """One API as the form describes it."""

    name: ClassVar[str] = "custom_http"
    title: ClassVar[str] = "The API"
    spec: ClassVar[JsonObject] = SPEC
    address_setting: ClassVar[str] = "base_url"

    def __init__(self, section: JsonObject) -> None:
        form: dict[str, Any] = dict(section)
        self.base_url = str(form["base_url"]).strip()
        self._credential = authentication(form["authentication"])
        self.query = self._credential.query
        self.tokens = self._credential.tokens
        self._headers = header_lines("extra_headers", form.get("extra_headers"))
        self._insert = Write.insert(form)
        upsert = form.get("upsert", {})
        self._upsert = {
            "request": lambda: Write.upsert(form, upsert),
            "insert": lambda: self._insert,
        }.get(upsert.get("upsert_type"), lambda: None)()
        key_header = form.get("idempotency_header")
        self._key_header = header_name("idempotency_header", key_header) if key_header else ""
        self._batch_keys = BatchKeys()
        self._zips = form.get("request_compression") == "gzip"
        self._replace = Replace.parse(form.get("replace", {}))
        self._jobs = Jobs.parse(form, self.base_url)
        self._check = Check.parse(form)
        self._count = Count.parse(form)
        self._columns = TableColumns.parse(form)
        self._results = Results(form)
        self._answers = Answers(form, self._results)
        self._atomic = bool(form.get("refusals_store_nothing"))
        self._repeats = bool(form.get("repeat_is_safe")) or self._upsert is self._insert
        self._counts_exactly = bool(form.get("table_count_is_exact"))
        self._first_counts: dict[str, int] = {}  # what a table held before this sync wrote to it
        max_rows = int(form.get("max_rows_per_request", 100))
        max_bytes = int(form.get("max_megabytes_per_request", 1) * _MEGABYTE)
        self.limits = Limits(
            max_rows=max_rows,
            max_bytes=max_bytes,
            hard_max_rows=max_rows,
            hard_max_bytes=max_bytes,
            windows=tuple(
                (int(w["requests"]), float(w["seconds"])) for w in form.get("rate_limits", ())
            ),
            shared_windows=True,
            max_parallel=int(most) if (most := form.get("max_parallel_requests")) else None,
        )
        self.rules = RowRules(
            nested_json=True,
            nulls=form.get("nulls", "send"),
            timestamps=form.get("timestamp_format", "as_is"),
            booleans=form.get("boolean_format", "json"),
            decimals=form.get("decimal_format", "number"),
        )
        self.traits = Traits(
            reads_back=self._count is not None,
            on_unknown=form.get("on_ambiguous_write", "fail"),
            unknown_hint=_UNKNOWN_HINT,
            follows=self._jobs is not None,
            slow_hint=_SLOW_HINT,
        )

    @classmethod
    def from_config(cls, section: JsonObject) -> CustomHttp:
        """Make it from a validated config. Raises `ConfigError` for a template that cannot work."""
        return cls(section)

    def headers(self, now: float) -> Mapping[str, str]:
        return {**self._headers, **self._credential.headers(now)}

    def classify(self, request: HttpRequest, response: HttpResponse) -> Disposition:
        assert isinstance(request, Request)
        if request.is_optional:
            return self._answers.classify_optional(request, response)
        return self._answers.classify(request, response)

    def job_of(self, request: HttpRequest, response: HttpResponse) -> str | None:
        assert isinstance(request, Request)
        if request.job is not None or self._jobs is None or request.rows is None:
            return request.job
        try:
            return self._jobs.name(request, response)
        except (Ambiguous, ConfigError):
            return None

    # --- check and preparation

    def columns(self, table: str) -> Flow[Mapping[str, ColumnKind | None] | None]:
        if self._columns is None:
            return None
        named = Table(table, StreamKey.of(None, table), "append")
        try:
            request = self._columns.request(named)
        except ConfigError:  # this name does not go into the question
            return None
        return self._columns.read((yield request), named)

    def check(self, tables: Sequence[str]) -> Flow[None]:  # noqa: ARG002 - one request, which reads and is the user's choice
        check = self._check
        try:
            response = yield Request(
                check.method, check.path, setting="check_path", success=check.success
            )
        except (Refused, TooLarge):
            message = (
                "The API refuses the request of check_path. Correct the path, or see what the "
                "API wants there."
            )
            raise ConfigError(message) from None
        if is_page(response) and not check.text:
            message = (
                "The API answers check_path with a page of HTML or XML. Check base_url and "
                "check_path, and whether a login, proxy or maintenance page is in between. Where "
                "the API does answer so, set check_text."
            )
            raise ConfigError(message)
        trouble = None if check.text else trouble_in(response)
        if trouble is not None:
            message = (
                f"The API answers check_path with {trouble[0]!r}, which tells of trouble. Check "
                "the credential (authentication) and its rights, or set check_text where that is "
                "a good answer."
            )
            raise ConfigError(message)
        if check.text and not says(squeeze(response.body), check.text):
            message = (
                "The API answers check_path without the text that check_text asks for. Check the "
                "credential (authentication) and its "
                "rights, or check_text."
            )
            raise ConfigError(message)

    def validate(self, table: Table) -> None:
        """Render every template once: a table it cannot hold ends the sync before any request."""
        stream = table.stream
        if any("\0" in name for name in (table.name, *table.columns)):
            message = f"Stream {stream}: a name holds the character U+0000. Rename it in tables[]."
            raise ConfigError(message, stream=stream)
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
            if table.replace:
                self._replace.prepare(table)
            if self._count is not None:
                self._count.request(table)
        except ConfigError as error:
            error.stream = stream
            raise

    def warnings(self, table: Table) -> list[str]:
        is_told = self._jobs is not None  # by the status of the job
        if (
            self._results.reads_nothing
            and not is_told
            and not self._write_of(table).prepare(table).count_path
        ):
            what = (
                f"delivery_proven_by_status_only table={table.name} "
                "settings=count_path,results_path,errors_path,success_text"
            )
            return [what]
        return []

    def prepare(self, table: Table) -> Flow[int | None]:
        if self._count is None:
            return None
        total = yield from self._total(table)
        self._first_counts.setdefault(table.name, total)
        return total

    def examine(self, table: Table) -> Flow[bool | None]:
        """Counting shows that the table is there and may be read."""
        return None if (yield from self.prepare(table)) is None else True

    # --- writing

    def body_size(self, table: Table) -> int:
        prepared = self._write_of(table).prepare(table)
        return len(prepared.filled(prepared.before + prepared.after, "-" * LENGTH))

    def _write_of(self, table: Table) -> Write:
        return self._upsert if table.mode == "dedup" and self._upsert is not None else self._insert

    def repeats_safely(self, table: Table) -> bool:
        return table.mode == "dedup" or self._repeats

    def refusals_store_nothing(self, table: Table) -> bool:
        return self._atomic or self.repeats_safely(table)

    def write(self, table: Table, block: RowBlock, context: Context) -> Flow[WriteReport]:
        """Write the block in one request; rows that cannot be in one are told before it."""
        unfit = self._write_of(table).prepare(table).unfit(block)
        if unfit:
            faults = tuple(RowFault(i, "no_value", _NO_VALUE) for i in sorted(unfit))
            fit = tuple(i for i in range(block.count) if i not in unfit)
            return WriteReport(faults=faults, again=fit)
        if self._jobs is not None:
            return WriteReport(
                receipt=(yield from self._begin_job(self._jobs, table, block, context))
            )
        judged, clashes = yield from self._write_once(table, block, context)
        bad, again = judged.faults, judged.again
        delivered = block.count - len(bad) - len(again)
        if clashes and not (yield from self._are_own(table, len(clashes), delivered, context)):
            bad += clashes
            delivered -= len(clashes)
        if again:
            log.warning("rows_put_off table=%s rows=%d", table.name, len(again))
        return WriteReport(delivered=delivered, faults=bad, again=again)

    def _write_once(
        self, table: Table, block: RowBlock, context: Context
    ) -> Flow[tuple[Judgement, tuple[RowFault, ...]]]:
        """One request; also the rows that are said to be in already, at a repeated attempt."""
        request = self._request(table, block, context)
        prepared, plan = self._write_of(table).prepare(table), context.replace
        is_repeated = context.repeated > 0
        try:
            response = yield request
            is_repeated = is_repeated or response.resent > 0
            judged = self._results.judge_success(
                response,
                block.count,
                columns=table.columns,
                count_path=prepared.count_path,
                is_repeat=is_repeated and self.repeats_safely(table),
                is_repeatable=self.repeats_safely(table),
            )
        except Refused as refused:
            is_repeated = is_repeated or refused.resent > 0
            if not (is_repeated and self._results.is_stored_before(refused.reason)):
                raise
            if block.count == 1:
                if plan is not None:
                    plan.begun = True
                return Judgement(), (RowFault(0, refused.code, refused.reason),)
            # some are in: the count may tell, or each row by itself
            again = Refused(refused.code, refused.reason, partial=self.repeats_safely(table))
            again.resent = max(1, refused.resent)
            raise again from None
        if plan is not None:
            plan.begun = True
        if not is_repeated:
            return judged, ()
        clashes = tuple(f for f in judged.faults if self._results.is_stored_before(f.reason))
        bad = tuple(f for f in judged.faults if f not in clashes)
        return replace(judged, faults=bad), clashes

    def _request(self, table: Table, block: RowBlock, context: Context) -> Request:
        prepared = self._write_of(table).prepare(table)
        body = prepared.body(block)
        if prepared.row is not None and len(body) > self.limits.max_bytes and block.count > 1:
            raise TooLarge  # what the row template adds is not in the batcher's sizes
        if prepared.row_path is not None and not block.count:
            raise Refused("no_row", "the path of a request needs a row")
        plan, path = context.replace, prepared.path_of(block)
        if plan is not None and self._replace.is_flagged(plan):
            path += ("&" if "?" in path else "?") + self._replace.query
        key = ""
        if self._key_header or prepared.holds_key:
            lasts = plan is None and not self.repeats_safely(table)
            key = self._batch_keys.key(path, body, block, table.job if lasts else "")
        if prepared.holds_key:
            body = prepared.filled(body, key)
        return Request(
            prepared.method,
            path,
            body=gzip.compress(body, 6, mtime=0) if self._zips else body,
            plain=body,
            headers=self._headers_of(prepared, key),
            repeat=self._repeat_of(table, plan),
            content_type=prepared.content_type,
            setting=prepared.setting,
            table=table,
            success=prepared.success,
            rows=block.count,
            shown=prepared.row_path.shown if prepared.row_path is not None else None,
        )

    def _headers_of(self, prepared: Prepared, key: str) -> dict[str, str]:
        headers = dict(prepared.headers)
        if self._key_header:
            headers[self._key_header] = key
        if self._zips:
            headers["Content-Encoding"] = "gzip"
        return headers

    # --- jobs

    def _begin_job(
        self, jobs: Jobs, table: Table, block: RowBlock, context: Context
    ) -> Flow[Receipt]:
        request = self._request(table, block, context)
        response = yield request
        self._results.judge_accepted(response, block.count, table.columns)
        if context.replace is not None:
            context.replace.begun = True
        resent = block.count * (response.resent + context.repeated)
        return Receipt(jobs.name(request, response), block.count, resent, block)

    def verify(self, unverified: Unverified) -> Flow[Outcome | None]:
        """Ask for the one job of a request."""
        (receipt,), table, jobs = unverified.receipts, unverified.table, self._jobs
        block = receipt.block
        assert jobs is not None
        assert block is not None
        try:
            response = yield jobs.request(table, receipt.id)
        except Refused as refused:
            if unverified.age_s < GRACE_S:
                return None
            return Outcome(fate=Ambiguous(f"the API does not know the job: {refused.code}"))
        except (Ambiguous, TooLarge):
            return None
        is_done = jobs.is_over(response, table)
        if is_done is None:
            return None
        if not is_done:
            faults = self._results.faults_in_refusal(response, block.count)
            failure = jobs.failure(response, response.text, faults)
            return Outcome(fate=self._answers.about_failed_job(response, block, failure))
        safe = self.repeats_safely(table)
        try:
            judged = self._results.judge_success(
                response,
                block.count,
                columns=table.columns,
                count_path=self._write_of(table).prepare(table).count_path,
                is_repeat=receipt.resent > 0 and safe,
                is_repeatable=safe,
            )
        except (Refused, Ambiguous) as fate:
            return Outcome(fate=fate)
        if not receipt.resent:
            return Outcome(judged.faults, judged.again)
        bad = [f for f in judged.faults if not self._results.is_stored_before(f.reason)]
        if own := len(judged.faults) - len(bad):
            _warn_stored_before(table, own)
        return Outcome(tuple(bad), judged.again)

    def verify_timeout_s(self, unverified: Unverified) -> float:  # noqa: ARG002
        return self._jobs.timeout_s if self._jobs is not None else 0.0

    def _are_own(self, table: Table, clashes: int, delivered: int, context: Context) -> Flow[bool]:
        """Whether rows "stored before" are those of the attempt without an answer.

        They may be older and have other values. Only a count can tell; without one they are
        taken for our own, and the log says so. `delivered` includes them.
        """
        _warn_stored_before(table, clashes)
        if self._count is None or context.stored is None or not context.alone:
            return True
        new = (yield from self._total(table)) - context.stored
        return new > delivered - clashes or not self._has_moved(table, context.stored + new)

    def _repeat_of(
        self, table: Table, plan: ReplacePlan | None
    ) -> Literal["safe", "settled", "unsafe"]:
        if plan is not None and self._replace.is_first(plan):
            return "settled"
        # the same request again is known by its key; other rows in one body are not
        is_known = bool(self._key_header) or self._write_of(table).prepare(table).holds_key
        return "safe" if is_known or self.repeats_safely(table) else "unsafe"

    def stored_rows(
        self, table: Table, blocks: Sequence[RowBlock], context: Context
    ) -> Flow[ReadBack]:
        """By count alone: all or none of the rows, or it cannot be told."""
        if context.replace is not None and self._replace.is_first(context.replace):
            return ReadBack(set())  # a count may be that of the old rows; this one replaces again
        if context.stored is None or self._count is None:
            return ReadBack(None)
        total = yield from self._total(table)
        new = total - context.stored
        rows = sum(block.count for block in blocks)
        if new == rows:
            return ReadBack(set(range(rows)), total)
        # a job that nobody follows may still bring them
        may_come = self._jobs is not None and not context.is_over
        is_none = new == 0 and not may_come and self._has_moved(table, context.stored)
        return ReadBack(set() if is_none else None, total)

    def _has_moved(self, table: Table, total: int) -> bool:
        """Whether the count was seen to move with rows of this sync.

        An estimate, a replica or a cache stands still, and then says nothing about a write; of an
        exact count the user has said that it does not.
        """
        return self._counts_exactly or total > self._first_counts.get(table.name, 0)

    def _total(self, table: Table) -> Flow[int]:
        assert self._count is not None
        try:
            response = yield self._count.request(table)
        except (Refused, TooLarge):
            message = (
                f"The API refuses to count table {table.name}. Check table_count_path and the "
                "table's name (tables[].table)."
            )
            raise ConfigError(message, stream=table.stream) from None
        if is_page(response) and table.name in self._first_counts:
            raise TransientError(_page("table_count_path", table), stream=table.stream)
        return self._count.read(response, table)

    # --- replacing

    def replace_begin(self, table: Table, load: Load) -> Flow[ReplacePlan]:
        way = self._replace
        if way.kind == "query":
            if way.requests == "one" and load.requests > 1:
                message = (
                    f"Replacing table {table.name} takes up to {load.requests} requests, and "
                    "replace.requests is 'one'. Nothing was "
                    "sent. Raise max_rows_per_request or max_megabytes_per_request as far as the "
                    "API allows, or choose 'first'."
                )
                raise ConfigError(message, stream=table.stream)
            single = load.rows == 0 or way.requests == "one"
            return ReplacePlan(
                first_alone=True, single=single, stored=None if way.requests == "every" else 0
            )
        for request in way.prepare(table):
            yield from self._empty(table, request)
        left = yield from self.prepare(table)
        self._first_counts[table.name] = 0
        if left:
            message = (
                f"Table {table.name} holds {left} rows after it was emptied. Check "
                "replace.requests, whether something else writes to the table, and whether "
                "table_count_path lags or estimates. No new row was sent."
            )
            raise TransientError(message, stream=table.stream)
        return ReplacePlan(stored=0)

    def _empty(self, table: Table, request: Request) -> Flow[None]:
        text, said = self._replace.text, ""
        try:
            response = yield request
        except Refused as refused:
            said = f"{refused.code}: {refused.reason}"
        except TooLarge:
            said = "too large"
        else:
            if is_page(response) and not text:
                raise TransientError(_page("replace.requests", table), stream=table.stream)
            trouble = None if text else trouble_in(response)
            if trouble is not None:
                said = f"http_{response.status} with {trouble[0]!r}: {response.text}"
            if text and not says(squeeze(response.body), text):
                said = f"http_{response.status} without success_text: {response.text}"
        if said:
            message = (
                f"The API did not empty table {table.name} as replace.requests ask "
                f"({said[:300]}). Check them and the right to delete."
            )
            raise ConfigError(message, stream=table.stream)

    def replace_end(self, table: Table, plan: ReplacePlan, delivered: int) -> Flow[None]:
        if self._replace.is_flagged(plan) and not plan.begun:
            # each row was rejected, so no request has replaced anything
            try:
                yield from self.write(table, RowBlock((), 0, range(0)), Context(replace=plan))
            except (Refused, TooLarge, Ambiguous):
                message = (
                    f"Each row for table {table.name} was rejected, and the API does not take a "
                    "replacing request without a row: the table holds its old content. Correct "
                    "the rows."
                )
                raise ConfigError(message, stream=table.stream) from None
        total = yield from self.prepare(table)
        if total is not None and total != delivered:
            message = (
                f"Table {table.name} holds {total} rows after {delivered} were sent to replace "
                "its content. Rows of the same key may have replaced each other, something else "
                "may write to the table, or table_count_path gives a number that lags or is an "
                "estimate; no attempt gets past that: count exactly. The next attempt replaces "
                "all it finds."
            )
            raise TransientError(message, stream=table.stream)


def _warn_stored_before(table: Table, rows: int) -> None:
    log.warning(
        "stored_before table=%s rows=%d setting=already_stored_texts old_rows=possible",
        table.name,
        rows,
    )


def _page(setting: str, table: Table) -> str:
    return (
        f"The API answered {setting} of table {table.name} with a page of HTML or XML, as logins, "
        "proxies and maintenances show. Where the API does answer so, name a text of its good "
        "answers (success_text)."
    )
