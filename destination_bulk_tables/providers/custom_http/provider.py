"""The verbs of `custom_http`: a form turned into flows.

An answer without what the form promises about it (a count, one result per row) proves nothing and
is ambiguous, never a success. Where the form promises nothing, the status alone is the proof.

Not covered: a token exchange, rows deleted one by one, background imports, staging and committing,
values wrapped cell by cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from destination_bulk_tables.errors import ConfigError, TransientError
from destination_bulk_tables.model import RowBlock
from destination_bulk_tables.provider import (
    Ambiguous,
    Base,
    Context,
    Limits,
    Refused,
    ReplacePlan,
    RowRules,
    TooLarge,
    Traits,
    WriteReport,
)
from destination_bulk_tables.providers.custom_http.answers import Answers, Request
from destination_bulk_tables.providers.custom_http.credentials import authentication
from destination_bulk_tables.providers.custom_http.fields import (
    header_lines,
    says,
    squeeze,
)
from destination_bulk_tables.providers.custom_http.form import SPEC
from destination_bulk_tables.providers.custom_http.reading import Check, Count
from destination_bulk_tables.providers.custom_http.results import Results
from destination_bulk_tables.providers.custom_http.writing import Replace, Write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from destination_bulk_tables.model import JsonObject, Table
    from destination_bulk_tables.provider import (
        Disposition,
        Flow,
        HttpRequest,
        HttpResponse,
        Load,
    )

_MEGABYTE = 1_000_000


class CustomHttp(Base):
    """One API as the form describes it."""

    name: ClassVar[str] = "custom_http"
    title: ClassVar[str] = "The API"
    spec: ClassVar[JsonObject] = SPEC
    address_setting: ClassVar[str] = "base_url"

    def __init__(self, section: JsonObject) -> None:
        form: dict[str, Any] = dict(section)
        self.base_url = str(form["base_url"]).strip()
        self._authenticate = authentication(form["authentication"])
        self._headers = header_lines("extra_headers", form.get("extra_headers"))
        self._insert = Write.insert(form)
        upsert = form.get("upsert", {})
        self._upsert = (
            Write.upsert(form, upsert) if upsert.get("upsert_type") == "request" else None
        )
        self._replace = Replace.parse(form.get("replace", {}))
        self._check = Check.parse(form)
        self._count = Count.parse(form)
        self._results = Results(form)
        self._answers = Answers(form, self._results)
        self._atomic = bool(form.get("refusals_store_nothing"))
        self._repeats = bool(form.get("repeat_is_safe"))
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
            max_parallel=int(form.get("max_parallel_requests", 1)),
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
        )

    @classmethod
    def from_config(cls, section: JsonObject) -> CustomHttp:
        """Make it from a validated config. Raises `ConfigError` for a template that cannot work."""
        return cls(section)

    def headers(self, now: float) -> Mapping[str, str]:
        return {**self._headers, **self._authenticate(now)}

    def classify(self, request: HttpRequest, response: HttpResponse) -> Disposition:
        assert isinstance(request, Request)
        return self._answers.classify(request, response)

    # --- check and preparation

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
            error.stream = stream
            raise

    def prepare(self, table: Table) -> Flow[int | None]:
        return (yield from self._total(table)) if self._count is not None else None

    def examine(self, table: Table) -> Flow[bool | None]:
        """Counting shows that the table is there and may be read."""
        return None if (yield from self.prepare(table)) is None else True

    # --- writing

    def body_size(self, table: Table) -> int:
        prepared = self._write_of(table).prepare(table)
        return len(prepared.before) + len(prepared.after)

    def _write_of(self, table: Table) -> Write:
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
        plan, path = context.replace, prepared.path
        if plan is not None and self._replace.is_flagged(plan):
            path += ("&" if "?" in path else "?") + self._replace.query
        request = Request(
            prepared.method,
            path,
            body=body,
            headers=prepared.headers,
            repeat=self._repeat_of(table, plan),
            content_type=prepared.content_type,
            setting=prepared.setting,
            success=prepared.success,
            rows=block.count,
        )
        is_repeated = context.repeated
        try:
            response = yield request
            is_repeated = is_repeated or response.resent
            faults = self._results.faults_in_success(
                response,
                block.count,
                count_path=prepared.count_path,
                is_repeat=is_repeated and self.repeats_safely(table),
            )
        except Refused as refused:
            is_repeated = is_repeated or refused.resent
            if not (is_repeated and self._results.is_stored_before(refused.reason)):
                raise
            if block.count == 1:
                if plan is not None:
                    plan.begun = True
                return WriteReport(delivered=1)
            # some are in: the count may tell, or each row by itself
            again = Refused(refused.code, refused.reason, partial=self.repeats_safely(table))
            again.resent = True
            raise again from None
        if plan is not None:
            plan.begun = True
        if is_repeated:
            faults = [fault for fault in faults if not self._results.is_stored_before(fault.reason)]
        return WriteReport(delivered=block.count - len(faults), faults=tuple(faults))

    def _repeat_of(
        self, table: Table, plan: ReplacePlan | None
    ) -> Literal["safe", "settled", "unsafe"]:
        if plan is not None and self._replace.is_first(plan):
            return "settled"
        return "safe" if self.repeats_safely(table) else "unsafe"

    def stored_rows(self, table: Table, block: RowBlock, context: Context) -> Flow[set[int] | None]:
        """By count alone: all or none of the rows, or it cannot be told."""
        if context.replace is not None and self._replace.is_first(context.replace):
            return set()  # a count may be that of the old rows; this one replaces again
        if context.stored is None or self._count is None:
            return None
        new = (yield from self._total(table)) - context.stored
        if new == 0:
            return set()
        return set(range(block.count)) if new == block.count + context.others else None

    def _total(self, table: Table) -> Flow[int]:
        assert self._count is not None
        try:
            response = yield Request(
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
            said = squeeze(response.body) if response is not None else b""
            if response is None or (replace.text and not says(said, replace.text)):
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
                "its content. Rows of the same key may "
                "have replaced each other, or something else writes to the table. The next "
                "attempt replaces all it finds."
            )
            raise TransientError(message, stream=table.stream)
