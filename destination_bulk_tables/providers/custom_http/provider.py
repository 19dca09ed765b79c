"""The verbs of `custom_http`: a form turned into flows.

An answer without what the form promises about it (a count, one result per row) proves nothing and
is ambiguous, never a success. Where the form promises nothing, the status alone is the proof.

Not covered: rows deleted one by one, staging and committing, values wrapped cell by cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from destination_bulk_tables.dispositions import Disposition
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import Ambiguous, Flow, HttpRequest, HttpResponse
from destination_bulk_tables.model import JsonObject, RowBlock, StreamKey, Table
from destination_bulk_tables.outcomes import (
    Context,
    Load,
    Outcome,
    ReadBack,
    ReplacePlan,
    Unverified,
    WriteReport,
)
from destination_bulk_tables.provider import ColumnKind, Limits, Provider, RowRules, Traits
from destination_bulk_tables.providers.custom_http.answers import Answers, Request
from destination_bulk_tables.providers.custom_http.batches import Batches
from destination_bulk_tables.providers.custom_http.checking import Check
from destination_bulk_tables.providers.custom_http.counting import Counting
from destination_bulk_tables.providers.custom_http.credentials import authentication
from destination_bulk_tables.providers.custom_http.emptying import Replace
from destination_bulk_tables.providers.custom_http.fields import header_lines
from destination_bulk_tables.providers.custom_http.form import SPEC
from destination_bulk_tables.providers.custom_http.jobs import Jobs
from destination_bulk_tables.providers.custom_http.replacing import Replacing
from destination_bulk_tables.providers.custom_http.results import Results
from destination_bulk_tables.providers.custom_http.sending import Sending
from destination_bulk_tables.providers.custom_http.table_columns import TableColumns

_MEGABYTE = 1_000_000
_UNKNOWN_HINT = (
    "What would have told: table_count_path, where the API counts exactly; repeat_is_safe, where "
    "it keeps rows by a key; refusals_store_nothing, where a refused request stores none."
)
_SLOW_HINT = (
    "Look at the job there. Each status in which a job ends must be in job.done or job.failed, and "
    "job.id must name the job of the request; where jobs are slow, raise job.timeout_minutes."
)


class CustomHttp(Provider):
    name = "custom_http"
    title = "The API"
    spec = SPEC
    address_setting = "base_url"

    def __init__(self, form: JsonObject) -> None:
        """Raises `ConfigError` for a template that cannot work."""
        self.base_url = form["base_url"].strip()
        self._credential = authentication(form["authentication"])
        self.query = self._credential.query
        self.tokens = self._credential.tokens
        self._headers = header_lines("extra_headers", form.get("extra_headers"))
        self._replace = Replace(form.get("replace", {}))
        self._check = Check(form)
        self._columns = TableColumns(form)
        self._results = Results(form)
        self._answers = Answers(form, self._results)
        self._atomic = bool(form.get("refusals_store_nothing"))
        max_rows = int(form.get("max_rows_per_request", 100))
        max_bytes = int(form.get("max_megabytes_per_request", 1) * _MEGABYTE)
        self._counting = Counting(form)
        batches = self._batches = Batches(form, self._replace, max_bytes)
        self._jobs: Jobs | None = None
        if form.get("job", {}).get("job_type", "none") != "none":
            self._jobs = Jobs(form, self.base_url, batches, self._results, self._answers)
        self._sending = Sending(batches, self._results, self._counting, self._replace, self._jobs)
        self._replacing = Replacing(self._replace, self._counting, self._sending)
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
            reads_back=self._counting.question is not None,
            on_unknown=form.get("on_ambiguous_write", "fail"),
            unknown_hint=_UNKNOWN_HINT,
            follows=self._jobs is not None,
            slow_hint=_SLOW_HINT,
        )

    @classmethod
    def from_config(cls, section: JsonObject) -> CustomHttp:
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
        if self._columns.question is None:
            return None
        named = Table(table, StreamKey.of(None, table), "append")
        try:
            request = self._columns.question.request(named, is_optional=True)
        except ConfigError:  # this name does not go into the question
            return None
        return self._columns.read((yield request), named)

    def check(self, tables: Sequence[str]) -> Flow[None]:  # noqa: ARG002
        return self._check.run()

    def validate(self, table: Table) -> None:
        """Render every template once: a table it cannot hold ends the sync before any request."""
        stream = table.stream
        if any("\0" in name for name in (table.name, *table.columns)):
            raise ConfigError(
                f"Stream {stream}: a name holds the character U+0000. Rename it in tables[]."
            )
        if table.mode == "dedup" and self._batches.upsert is None:
            raise ConfigError(
                f"Stream {stream}: append + deduped needs the API to update rows. Describe how in "
                "provider.upsert, or choose append."
            )
        if table.replace and self._replace.kind == "none":
            raise ConfigError(
                f"Stream {stream}: replacing a table needs a way to empty it. Describe it in "
                "provider.replace, or choose append."
            )
        self._batches.write_of(table).prepare(table)
        if table.replace:
            self._replace.prepare(table)
        if self._counting.question is not None:
            self._counting.question.request(table)

    def warnings(self, table: Table) -> list[str]:
        is_told = self._jobs is not None  # by the status of the job
        if (
            self._results.reads_nothing
            and not is_told
            and not self._batches.write_of(table).count_path
        ):
            what = (
                f"delivery_proven_by_status_only table={table.name} "
                "settings=count_path,results_path,errors_path,success_text"
            )
            return [what]
        return []

    def prepare(self, table: Table) -> Flow[int | None]:
        return self._counting.prepare(table)

    def examine(self, table: Table) -> Flow[bool | None]:
        """Counting shows that the table is there and may be read."""
        return None if (yield from self.prepare(table)) is None else True

    # --- writing

    def body_size(self, table: Table) -> int:
        return self._batches.body_size(table)

    def repeats_safely(self, table: Table) -> bool:
        return self._batches.repeats_safely(table)

    def refusals_store_nothing(self, table: Table) -> bool:
        return self._atomic or self.repeats_safely(table)

    def write(self, table: Table, block: RowBlock, context: Context) -> Flow[WriteReport]:
        return self._sending.write(table, block, context)

    def stored_rows(
        self, table: Table, blocks: Sequence[RowBlock], context: Context
    ) -> Flow[ReadBack]:
        return self._sending.stored_rows(table, blocks, context)

    def verify(self, unverified: Unverified) -> Flow[Outcome | None]:
        assert self._jobs is not None
        return self._jobs.verify(unverified)

    def verify_timeout_s(self, unverified: Unverified) -> float:  # noqa: ARG002
        return self._jobs.timeout_s if self._jobs is not None else 0.0

    # --- replacing

    def replace_begin(self, table: Table, load: Load) -> Flow[ReplacePlan]:
        return self._replacing.begin(table, load)

    def replace_end(self, table: Table, plan: ReplacePlan, delivered: int) -> Flow[None]:
        return self._replacing.end(table, plan, delivered)
