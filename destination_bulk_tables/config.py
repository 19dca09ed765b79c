"""The user's configuration as a validated value. Its JSON schema is in `form`.

Names, types and defaults are a contract with saved configurations: a renamed setting is read under
its old name too. An error names the setting, in JSON and in the form, and never its value.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal

from destination_bulk_tables.address import check_address
from destination_bulk_tables.errors import ConfigError, SettingError
from destination_bulk_tables.form.connection import connection_specification
from destination_bulk_tables.form.faults import faults_of
from destination_bulk_tables.form.naming import Naming
from destination_bulk_tables.form.reading import Reading, inside, narrowed
from destination_bulk_tables.mapping import TableEntry, entries_of, require_pattern, table_name
from destination_bulk_tables.model import JsonObject, JsonValue, StreamKey
from destination_bulk_tables.provider import Provider, ProviderType
from destination_bulk_tables.stores import (
    StoreSettings,
    is_store,
    require_address,
    require_own_credential,
)

log = logging.getLogger(__name__)

MEGABYTE = 1_000_000
_MOST_TOLD = 3  # a user need not find faults one by one, nor read thirty


@dataclass(frozen=True, slots=True)
class Batching:
    """Bounds of a batch; None: the provider's default."""

    max_rows: int | None
    max_bytes: int | None
    max_wait_s: float
    max_parallel: int | None


@dataclass(frozen=True, slots=True)
class RejectedRecords:
    policy: Literal["fail", "skip"]
    max_rejected: int
    report_path: str | None = None
    max_rejected_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Staging:
    """Local disk for the rows of tables to replace."""

    directory: str
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Config:
    provider: Provider
    tables: tuple[TableEntry, ...]
    truncate_mode: Literal["sync_mode", "always", "never"]
    nested_values: Literal["json_string", "reject", "json"]
    batching: Batching
    rejected_records: RejectedRecords
    staging: Staging
    object_store: StoreSettings = field(default_factory=StoreSettings)
    replace_guard: int = 0
    naming: Naming = field(default_factory=Naming)
    coerce_scalars: bool = False
    table_name_pattern: str | None = None
    mask_salt: str = ""
    trace_path: str | None = None

    def entry(self, stream: StreamKey) -> TableEntry | None:
        """The `tables` entry of a stream: one that names its namespace wins over a general one."""
        matching = [
            e
            for e in self.tables
            if e.stream == stream.name and e.namespace in {None, stream.namespace}
        ]
        return max(matching, key=lambda e: e.namespace is not None, default=None)

    def table_of(self, entry: TableEntry) -> str | None:
        """The table of an entry's stream; None where only the catalog knows its namespace."""
        pattern = self.table_name_pattern
        if entry.table is None and entry.namespace is None and "{namespace}" in (pattern or ""):
            return None
        return entry.table or table_name(pattern, StreamKey.of(entry.namespace, entry.stream))


def parse(raw: JsonValue, providers: Sequence[ProviderType], *, is_cloud: bool) -> Config:
    """Validate a configuration. Raises `ConfigError` that names the setting to change."""
    if not isinstance(raw, dict):
        raise ConfigError("The config is not a JSON object.")
    chosen = _chosen(raw.get("provider"), providers)
    form = connection_specification(provider.spec for provider in providers)
    reading = Reading()
    read = reading.read(raw, form)
    narrow = narrowed(form, read)
    naming = Naming(narrow, reading.written_as, chosen.asked_as, chosen.is_decided)
    wrong = [f"{text}." for text in reading.wrong]
    wrong += [naming.says(*fault) for fault in faults_of(read, narrow)]
    if wrong:
        raise ConfigError("Config: " + " ".join(wrong[:_MOST_TOLD]))
    for name in reading.left_over:
        log.warning("setting_ignored setting=%s reason=belongs_to_another_option", name)
    config = inside(read, form)
    try:
        provider = chosen.from_config(config["provider"])
        check_address(provider.base_url, f"provider.{chosen.address_setting}", is_cloud=is_cloud)
        if provider.tokens is not None and (token_url := provider.tokens.request.url):
            where = "provider.authentication.token_url"
            check_address(token_url, where, is_cloud=is_cloud, may_query=True)
        return _build(config, provider, naming, is_cloud=is_cloud)
    except SettingError as error:
        raise ConfigError(f"Config: {naming.says(error.setting, error.what)}") from error


def _chosen(section: JsonValue, providers: Sequence[ProviderType]) -> ProviderType:
    known = {provider.name: provider for provider in providers}
    said = section.get("provider_type") if isinstance(section, dict) else None
    if isinstance(said, str) and said in known:
        return known[said]
    close = get_close_matches(str(said).strip().casefold(), known, 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    what = f"must be one of: {', '.join(known)}{hint}"
    raise ConfigError(f'Config: provider.provider_type {what} ("Provider" in the form).')


def _build(config: JsonObject, provider: Provider, naming: Naming, *, is_cloud: bool) -> Config:
    batching, rejected = config.get("batching", {}), config.get("rejected_records", {})
    staging = config.get("staging", {})
    megabytes, max_rows = batching.get("max_megabytes"), batching.get("max_rows")
    max_bytes = None if megabytes is None else int(megabytes * MEGABYTE)
    _require_within(max_rows, max_bytes, provider)
    nested = config.get("nested_values", "json_string")
    if nested == "json" and not provider.rules.nested_json:
        what = f"is 'json', and {provider.title} has no columns for JSON: choose another"
        raise SettingError("nested_values", what)
    pattern = config.get("table_name_pattern", "").strip() or None
    if pattern is not None:
        require_pattern(pattern)
    salt = config.get("mask_salt", "")
    store = StoreSettings(**config.get("object_store", {}))
    if store.endpoint is not None:
        check_address(store.endpoint, "object_store.endpoint", is_cloud=is_cloud)
    report_path = rejected.get("report_path")
    trace_path = config.get("diagnostics", {}).get("trace_path", "").strip() or None
    for setting, path in (
        ("rejected_records.report_path", report_path),
        ("diagnostics.trace_path", trace_path),
    ):
        if path is not None and is_store(path):
            require_address(path, setting)
            if is_cloud:
                require_own_credential(path, store)
    tables = entries_of(config.get("tables", ()), has_salt=bool(salt))
    _require_id_fields(tables, provider)
    return Config(
        provider=provider,
        tables=tables,
        truncate_mode=config.get("truncate_mode", "sync_mode"),
        nested_values=nested,
        coerce_scalars=config.get("coerce_scalars", False),
        table_name_pattern=pattern,
        mask_salt=salt,
        batching=Batching(
            max_rows=max_rows,
            max_bytes=max_bytes,
            max_wait_s=float(batching.get("max_wait_seconds", 30)),
            max_parallel=batching.get("max_parallel_requests"),
        ),
        rejected_records=RejectedRecords(
            policy=rejected.get("policy", "fail"),
            max_rejected=rejected.get("max_rejected", 1000),
            report_path=report_path,
            max_rejected_percent=rejected.get("max_rejected_percent"),
        ),
        staging=Staging(
            directory=staging.get("directory") or tempfile.gettempdir(),
            max_bytes=int(staging.get("max_gigabytes", 20) * 1e9),
        ),
        trace_path=trace_path,
        object_store=store,
        replace_guard=config.get("replace_guard", 0),
        naming=naming,
    )


def _require_within(max_rows: int | None, max_bytes: int | None, provider: Provider) -> None:
    """Raise `SettingError` for a batch that the vendor does not take."""
    rows, n_bytes = provider.limits.hard_max_rows, provider.limits.hard_max_bytes
    if max_rows is not None and rows is not None and max_rows > rows:
        what = (
            f"is above the {rows} rows of a request that {provider.title} allows: lower it, "
            "or raise the provider's own limit"
        )
        raise SettingError("batching.max_rows", what)
    if max_bytes is not None and n_bytes is not None and max_bytes > n_bytes:
        what = f"is above the {n_bytes / MEGABYTE:g} MB that {provider.title} allows"
        raise SettingError("batching.max_megabytes", what)


def _require_id_fields(tables: Sequence[TableEntry], provider: Provider) -> None:
    for i, entry in enumerate(tables):
        if entry.id_field and provider.rules.required_column is None:
            what = (
                f"means nothing to {provider.title}, which takes the primary key from the "
                "connection: remove it"
            )
            raise SettingError(f"tables[{i}].id_field", what)
