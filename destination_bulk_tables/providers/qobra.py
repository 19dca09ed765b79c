"""Qobra data tables.

Source: https://docs.qobra.co/api_reference/v1/endpoints/data_tables/ingest_records
(read 2026-11-22)
Source: https://docs.qobra.co/api_reference/v1/endpoints/imports/fetch_import (read 2026-11-22)
Ingest: POST /v1/tables/{api name}/records/bulk, body {"items": [...]}; an upsert by the table's id
field. The answer {"import_id", "objects_imported"} only counts the request; the rows are imported
in the background, and GET /v1/imports/{id} tells how that went. An import may hold other tables'
entries and entries of other clients. `all=true` deletes the table's content before the import;
`debounce=N` has the import wait N seconds for further requests.

Not documented, and therefore: errors, limits and rates (decided by status alone, modest batches);
whether the debounce window starts with the first or the last request (we finish within it, counted
from the first); whether requests of one load share an import id (we follow each). Every request may
be repeated: the write is keyed.
"""

from __future__ import annotations

import logging
import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import msgspec

from destination_bulk_tables.errors import (
    BadRows,
    ConfigError,
    TransientError,
    UnaccountedRows,
)
from destination_bulk_tables.model import JsonObject, Receipt, RowBlock, Table
from destination_bulk_tables.provider import (
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
    RowRules,
    Throw,
    Traits,
    Unverified,
    VendorFault,
    Verdict,
    WriteReport,
    classify_by_status,
    credential,
    segment,
)
from destination_bulk_tables.providers.qobra_form import FORM, MAX_DEBOUNCE_S
from destination_bulk_tables.redact import mask_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

log = logging.getLogger(__name__)

_TITLE = re.compile(r"[A-Za-z0-9_ -]{1,60}")  # a name and not a sentence that may quote a row
_MIN_DEBOUNCE_S = 300
_DEBOUNCE_PER_REQUEST_S = 10.0
_LEAST_PER_REQUEST_S = 0.5
_UNKNOWN_IMPORT_GRACE_S = 30.0
_IMPORTS = "/v1/imports/"
_SPLIT_TOLERANCE_S = 2.0

_HINTS = {
    401: (
        "Check api_key: keys are personal and end with the account that made them (Qobra settings "
        "> API)."
    ),
    403: "Check api_key: its owner may not write to this table.",
    404: (
        "Check base_url and the table's API name (tables[].table); the table must exist in Qobra "
        "before the first sync."
    ),
}


class _Ingested(msgspec.Struct):
    import_id: str
    objects_imported: int


class _ParsingDetail(msgspec.Struct):
    line_number: int | None = None
    row: msgspec.Raw = msgspec.Raw(b"null")
    details: str | None = None


class _TableError(msgspec.Struct):
    title: str | None = None
    description: str | None = None
    parsing_error_details: list[_ParsingDetail] | None = None


class _TableDetails(msgspec.Struct):
    type: str | None = None
    data_table_key: str | None = None
    number_of_records: int | None = None
    error: _TableError | None = None


class _Import(msgspec.Struct):
    created_at: str | None = None
    launched_at: str | None = None
    data_tables_details: list[_TableDetails] = []


class _Fetched(msgspec.Struct):
    data_import: _Import


class _ImportStatus(msgspec.Struct):
    status: str


class _FetchedStatus(msgspec.Struct):
    data_import: _ImportStatus


class Qobra(Base):
    """One Qobra account."""

    name: ClassVar[str] = "qobra"
    title: ClassVar[str] = "Qobra"
    spec: ClassVar[JsonObject] = FORM
    address_setting: ClassVar[str] = "base_url"
    limits = Limits(max_rows=5000, max_bytes=10_000_000)
    traits = Traits(imports=True)

    def __init__(
        self,
        api_key: str,
        base_url: str,
        id_field: str,
        debounce_s: int | None,
        import_timeout_s: float,
        timestamps: Literal["date", "iso"],
        nulls: Literal["send", "omit"] = "send",
    ) -> None:
        self._api_key = api_key
        self.base_url = base_url
        self._id_field = id_field
        self._debounce_s = debounce_s
        self._import_timeout_s = import_timeout_s
        self.rules = RowRules(
            nulls=nulls, timestamps=timestamps, required_column=id_field, keyed=True
        )

    @classmethod
    def from_config(cls, section: JsonObject) -> Qobra:
        """Make it from a validated config."""
        return cls(
            api_key=credential(str(section["api_key"]), "api_key"),
            base_url=str(section.get("base_url", "https://api.qobra.co")).strip(),
            id_field=str(section.get("id_field", "id")),
            debounce_s=cast("int | None", section.get("debounce_seconds")),
            import_timeout_s=60.0 * cast("float", section.get("import_timeout_minutes", 60)),
            timestamps=cast("Any", section.get("timestamp_format", "date")),
            nulls=cast("Any", section.get("qobra_nulls", "send")),
        )

    def headers(self, now: float) -> Mapping[str, str]:  # noqa: ARG002 - the key does not expire
        return {"X-API-Key": self._api_key}

    def classify(self, request: HttpRequest, response: HttpResponse) -> Disposition:
        if response.status == 404 and request.path.startswith(_IMPORTS):
            return Throw(Refused("http_404", "unknown import"))
        return classify_by_status(response, self.title, _HINTS)

    def check(self, tables: Sequence[str]) -> Flow[None]:  # noqa: ARG002
        """Read the list of data structures: it needs a valid key and changes nothing.

        Source: https://docs.qobra.co/api_reference/v2/endpoints/discovery/list_data_structures
        (read 2026-11-22)
        """
        response = yield HttpRequest("GET", "/v2/data-structures")
        answer = response.parsed()
        if not isinstance(answer, dict) or "data" not in answer:
            message = "base_url answers, but not like Qobra's API. Check the address."
            raise ConfigError(message)

    def validate(self, table: Table) -> None:
        id_column = table.id_column or self._id_field
        if table.mode == "dedup" and table.key_columns != (id_column,):
            message = (
                f"Stream {table.stream}: Qobra updates rows by its id column {id_column!r}, "
                "so append + deduped needs it as the only primary key. Change the primary key, map "
                "it to that column in tables[].rename, or set tables[].id_field."
            )
            raise ConfigError(message, stream=table.stream)

    def body_size(self, table: Table) -> int:  # noqa: ARG002 - the same for all
        return len(b'{"items":[]}')

    def write(self, table: Table, block: RowBlock, context: Context) -> Flow[WriteReport]:
        plan = context.replace
        query = ""
        if plan is not None:
            query = (
                "?all=true" if plan.window_s is None else f"?all=true&debounce={int(plan.window_s)}"
            )
        response = yield HttpRequest(
            "POST",
            f"/v1/tables/{segment(table.name)}/records/bulk{query}",
            body=block.enclosed(b'{"items":[', b"]}"),
            not_after=plan.not_after if plan else None,
        )
        answer = response.decode(_Ingested)
        if answer.objects_imported != block.count:
            message = (
                f"Qobra counted {answer.objects_imported} records in a request of {block.count} "
                f"for table {table.name}."
            )
            raise UnaccountedRows(message, stream=table.stream)
        resent = block.count if response.resent or context.repeated else 0
        return WriteReport(receipt=Receipt(answer.import_id, block.count, resent))

    def verify(self, unverified: Unverified) -> Flow[Verdict | None]:
        """All imports of these rows finished, with our count and without our table in an error."""
        table = unverified.table
        imports = []
        for receipt in unverified.receipts:
            try:
                response = yield HttpRequest("GET", _IMPORTS + segment(receipt.id, "an import id"))
                # what is not over need not have its final shape
                if response.decode(_FetchedStatus).data_import.status != "finished":
                    return None
                imports.append(response.decode(_Fetched).data_import)
            except Refused:
                if unverified.age_s < _UNKNOWN_IMPORT_GRACE_S:
                    return None
                message = (
                    f"Qobra does not know import {receipt.id} of table {table.name}, which it "
                    "announced itself."
                )
                raise UnaccountedRows(message, stream=table.stream) from None
            except Ambiguous as error:
                if not isinstance(error.__cause__, msgspec.ValidationError):
                    return None
                message = (
                    f"Qobra's answer about import {receipt.id} of table {table.name} is JSON, but "
                    "not as documented, so it cannot be told whether its rows are in. Please "
                    "report it; Qobra's import page shows how the import ended."
                )
                raise UnaccountedRows(message, stream=table.stream) from None
        own = [
            [
                entry
                for entry in found.data_tables_details
                if entry.type == "api" and entry.data_table_key == table.name
            ]
            for found in imports
        ]
        faults = self._faults(table, [entry for entries in own for entry in entries])
        self._require_count(unverified, own, faults)
        if unverified.replace is not None and unverified.replace.window_s is not None:
            _require_one_run(unverified, imports)
        return Verdict(tuple(faults))

    def verify_timeout_s(self, unverified: Unverified) -> float:
        window = unverified.replace.window_s if unverified.replace else None
        return (window or 0.0) + self._import_timeout_s

    def _faults(self, table: Table, entries: Sequence[_TableDetails]) -> list[VendorFault]:
        faults: dict[str, VendorFault] = {}
        for entry in entries:
            if entry.error is None:
                continue
            title = entry.error.title or ""
            title = title if _TITLE.fullmatch(title) else "ImportError"
            details = entry.error.parsing_error_details or []
            for detail in details:
                row = bytes(detail.row)
                key = _id_text(row, table.id_column or self._id_field)
                faults[key or f"line {detail.line_number}"] = VendorFault(
                    key, title, detail.details or entry.error.description or title, row
                )
            if not details:
                message = (
                    f"Qobra's import into table {table.name} failed ({title}). Its import page "
                    "shows why."
                )
                raise ConfigError(message, stream=table.stream)
            if entry.number_of_records is None:
                text = mask_values(entry.error.description or "", _quoted(details))
                message = (
                    f"Qobra imported nothing into table {table.name} because of {len(details)} bad "
                    f"row(s) ({title}: {text}). Correct them at the source or map the column in "
                    "tables[].columns."
                )
                raise ConfigError(message, stream=table.stream)
        return list(faults.values())

    def _require_count(
        self,
        unverified: Unverified,
        own: Sequence[Sequence[_TableDetails]],
        faults: Sequence[VendorFault],
    ) -> None:
        if not unverified.rows:
            return
        counts = [sum(entry.number_of_records or 0 for entry in entries) for entries in own]
        expected = unverified.rows - len(faults)
        views = {sum(counts)}
        if len(counts) > 1 and len(set(counts)) == 1:
            views.add(
                counts[0]
            )  # each id may show the one import that all requests of the load joined
        if not any(expected <= view <= expected + unverified.resent for view in views):
            message = (
                f"Qobra imported {sum(counts)} records into table {unverified.table.name} where "
                f"{expected} were expected, so it cannot be told which rows are in. "
            )
            if faults and expected >= 0:
                codes = ", ".join(sorted({fault.code for fault in faults}))
                message += (
                    f"It names {len(faults)} bad row(s) ({codes}), maybe not all. Correct them at "
                    "the source or map the column in tables[].columns; its import page shows why."
                )
                raise BadRows(message, stream=unverified.table.stream)
            message += "Look at its import page."
            raise UnaccountedRows(message, stream=unverified.table.stream)

    def replace_begin(self, table: Table, load: Load) -> Flow[ReplacePlan]:
        """One request replaces the table at once; more need one debounce window for them all."""
        yield from ()
        if load.requests <= 1:
            return ReplacePlan(single=True, first_alone=True)
        needed = math.ceil(_LEAST_PER_REQUEST_S * load.requests)
        window = self._debounce_s
        if window is None:
            window = min(
                MAX_DEBOUNCE_S,
                max(_MIN_DEBOUNCE_S, math.ceil(_DEBOUNCE_PER_REQUEST_S * load.requests)),
            )
        if window < needed:
            remedy = (
                "Leave it empty or raise it" if self._debounce_s is not None else "Send fewer rows"
            )
            message = (
                f"Replacing table {table.name} takes {load.requests} requests, which need a "
                f"debounce of at least {needed} s; debounce_seconds gives {window} s. {remedy}, or "
                "raise batching.max_rows. Nothing was sent."
            )
            raise ConfigError(message, stream=table.stream)
        return ReplacePlan(window_s=float(window), first_alone=True)


def _id_text(row: bytes, id_field: str) -> str:
    try:
        members = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return ""
    token = bytes(members.get(id_field, b""))
    return str(msgspec.json.decode(token)) if token.startswith(b'"') else token.decode()


def _quoted(details: Sequence[_ParsingDetail]) -> RowBlock:
    rows = [bytes(detail.row) for detail in details]
    return RowBlock(rows, len(rows), range(len(rows)))


def _require_one_run(unverified: Unverified, imports: Sequence[_Import]) -> None:
    """The vendor's own times must show that all requests of the load were imported together."""
    launches = [moment for found in imports if (moment := _time(found.launched_at))]
    created = [moment for found in imports if (moment := _time(found.created_at))]
    are_known = len(launches) == len(created) == len(imports)
    if len(imports) > 1 and (not are_known or len(set(created)) == 1):
        log.warning(
            "load_not_proven_whole table=%s imports=%d cause=times_do_not_tell",
            unverified.table.name,
            len(imports),
        )
    if not launches or not created:
        return
    waited = (min(launches) - min(created)).total_seconds()
    # joined requests launch together, others as far apart as they came
    spread = max(launches) - min(launches)
    is_apart = len(imports) > 1 and spread > (max(created) - min(created)) / 2
    if waited + _SPLIT_TOLERANCE_S < unverified.pushed_s or is_apart:
        message = (
            f"Qobra launched the load into table {unverified.table.name} in parts or too early, so "
            "the table may hold a part of it. The next attempt replaces it again; if this repeats, "
            "raise debounce_seconds, or batching.max_rows so that one request holds the load."
        )
        raise TransientError(message, stream=unverified.table.stream)


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
