"""One Qobra account behind the provider interface: each verb, in the module it is read in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from destination_bulk_tables.dispositions import Disposition, Throw, classify_by_status
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.http import Flow, HttpRequest, HttpResponse, Refused
from destination_bulk_tables.model import JsonObject, Table
from destination_bulk_tables.outcomes import Load, ReplacePlan, Unverified, Verdict
from destination_bulk_tables.provider import Limits, Provider, RowRules, Traits, credential
from destination_bulk_tables.providers.qobra import imports, replacing, writing
from destination_bulk_tables.providers.qobra.form import FORM

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


class Qobra(Provider):
    name = "qobra"
    title = "Qobra"
    spec = FORM
    address_setting = "base_url"
    limits = Limits(max_rows=5000, max_bytes=10_000_000)
    traits = Traits(
        imports=True,
        slow_hint=(
            "Look at its import page; if imports are slow there, raise import_timeout_minutes."
        ),
    )

    def __init__(self, section: JsonObject) -> None:
        self._api_key = credential(section["api_key"], "api_key")
        self.base_url = section.get("base_url", "https://api.qobra.co").strip()
        self._id_field: str = section.get("id_field", "id")
        self._debounce_s: int | None = section.get("debounce_seconds")
        self._import_timeout_s: float = 60.0 * section.get("import_timeout_minutes", 60)
        self.rules = RowRules(
            nulls=section.get("qobra_nulls", "send"),
            timestamps=section.get("timestamp_format", "date"),
            required_column=self._id_field,
            keyed=True,
        )

    @classmethod
    def from_config(cls, section: JsonObject) -> Qobra:
        return cls(section)

    def headers(self, now: float) -> Mapping[str, str]:  # noqa: ARG002 - the key does not expire
        return {"X-API-Key": self._api_key}

    def classify(self, request: HttpRequest, response: HttpResponse) -> Disposition:
        if response.status == 404 and request.path.startswith(imports.PATH):
            return Throw(Refused("http_404", "unknown import"))
        return classify_by_status(response, self.title, _HINTS)

    job_of = staticmethod(imports.named_in)

    def check(self, tables: Sequence[str]) -> Flow[None]:  # noqa: ARG002
        """Read the list of data structures: it needs a valid key and changes nothing.

        Source: https://docs.qobra.co/api_reference/v2/endpoints/discovery/list_data_structures
        (read 2026-11-22)
        """
        response = yield HttpRequest("GET", "/v2/data-structures")
        answer = response.parsed()
        if not isinstance(answer, dict) or "data" not in answer:
            raise ConfigError("base_url answers, but not like Qobra's API. Check the address.")

    def validate(self, table: Table) -> None:
        id_column = table.id_column or self._id_field
        if table.mode == "dedup" and table.key_columns != (id_column,):
            raise ConfigError(
                f"Stream {table.stream}: Qobra updates rows by its id column {id_column!r}, "
                "so append + deduped needs it as the only primary key. Change the primary key, map "
                "it to that column in tables[].rename, or set tables[].id_field."
            )

    def body_size(self, table: Table) -> int:  # noqa: ARG002 - the same for all
        return sum(map(len, writing.ENVELOPE))

    write = staticmethod(writing.write)

    def verify(self, unverified: Unverified) -> Flow[Verdict | None]:
        return imports.verify(unverified, self._id_field)

    def verify_timeout_s(self, unverified: Unverified) -> float:
        window = unverified.replace.window_s if unverified.replace else None
        return (window or 0.0) + self._import_timeout_s

    def replace_begin(self, table: Table, load: Load) -> Flow[ReplacePlan]:
        yield from ()
        return replacing.begin(table, load, self._debounce_s)
