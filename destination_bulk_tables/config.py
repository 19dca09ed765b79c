"""The user's configuration as a validated value. Its JSON schema is in `form`.

Names, types and defaults are a contract with saved configurations: add, never rename. A null counts
as absent, so a config written by hand may spell out the defaults. An error names the setting and
never its value.
"""

from __future__ import annotations

import ipaddress
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast
from urllib.parse import urlsplit

from jsonschema import Draft7Validator

from destination_bulk_tables.connections import is_public
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.form.connection import connection_specification
from destination_bulk_tables.model import JsonObject, JsonValue, StreamKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jsonschema.exceptions import ValidationError

    from destination_bulk_tables.provider import Provider

MEGABYTE = 1_000_000


class ProviderType(Protocol):
    """A provider class, as `providers.PROVIDERS` lists them."""

    name: str
    spec: JsonObject

    def from_config(self, section: JsonObject) -> Provider:
        """Make the provider from its validated part of the config."""


@dataclass(frozen=True, slots=True)
class TableEntry:
    """Where a stream goes; `namespace` None matches each, `columns` None sends all fields."""

    stream: str
    namespace: str | None
    table: str | None
    columns: tuple[tuple[str, str], ...] | None


@dataclass(frozen=True, slots=True)
class Batching:
    """Bounds of a batch; None: the provider's default."""

    max_rows: int | None
    max_bytes: int | None
    max_wait_s: float
    max_parallel: int


@dataclass(frozen=True, slots=True)
class RejectedRecords:
    """What to do with rows that cannot be delivered."""

    policy: Literal["fail", "skip"]
    max_rejected: int
    report_path: str | None


@dataclass(frozen=True, slots=True)
class Staging:
    """Local disk for the rows of tables to replace."""

    directory: str
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Config:
    """A validated configuration."""

    provider: Provider
    tables: tuple[TableEntry, ...]
    truncate_mode: Literal["sync_mode", "always", "never"]
    nested_values: Literal["json_string", "reject"]
    batching: Batching
    rejected_records: RejectedRecords
    staging: Staging
    replace_guard: int = 0

    def entry(self, stream: StreamKey) -> TableEntry | None:
        """The `tables` entry of a stream: one that names its namespace wins over a general one."""
        matching = [
            e
            for e in self.tables
            if e.stream == stream.name and e.namespace in {None, stream.namespace}
        ]
        return max(matching, key=lambda e: e.namespace is not None, default=None)


def parse(raw: JsonValue, providers: Sequence[ProviderType], *, is_cloud: bool) -> Config:
    """Validate a configuration. Raises `ConfigError` that names the setting to change."""
    config = _without_nulls(raw)
    if not isinstance(config, dict):
        message = "The config is not a JSON object."
        raise ConfigError(message)
    section = config.get("provider")
    section = section if isinstance(section, dict) else {}
    known = {provider.name: provider for provider in providers}
    chosen = known.get(str(section.get("provider_type")))
    if chosen is None:
        message = f"Config: provider.provider_type must be one of: {', '.join(known)}."
        raise ConfigError(message)
    schema = connection_specification([chosen.spec])
    schema["properties"] = {**cast("JsonObject", schema["properties"]), "provider": chosen.spec}
    errors = sorted(
        Draft7Validator(schema).iter_errors(config), key=lambda error: list(map(str, error.path))
    )
    if errors:
        raise ConfigError("Config: " + " ".join(f"{_explain(error)}." for error in errors[:3]))
    provider = chosen.from_config(section)
    _check_address(provider.base_url, is_cloud=is_cloud)
    return _build(config, provider)


def _build(config: JsonObject, provider: Provider) -> Config:
    batching = cast("JsonObject", config.get("batching", {}))
    rejected = cast("JsonObject", config.get("rejected_records", {}))
    staging = cast("JsonObject", config.get("staging", {}))
    megabytes = cast("float | None", batching.get("max_megabytes"))
    max_bytes = None if megabytes is None else int(megabytes * MEGABYTE)
    max_rows = _whole(batching.get("max_rows"))
    hard_rows = provider.limits.hard_max_rows
    if max_rows is not None and hard_rows is not None and max_rows > hard_rows:
        message = (
            f"Config: batching.max_rows is above the {hard_rows} rows of a request that "
            f"{provider.title} allows. Lower it, or raise the provider's own limit."
        )
        raise ConfigError(message)
    hard = provider.limits.hard_max_bytes
    if max_bytes is not None and hard is not None and max_bytes > hard:
        message = (
            f"Config: batching.max_megabytes is above the {hard / MEGABYTE:g} MB that "
            f"{provider.title} allows."
        )
        raise ConfigError(message)
    return Config(
        provider=provider,
        tables=_entries(cast("list[JsonObject]", config.get("tables", []))),
        truncate_mode=cast(
            "Literal['sync_mode', 'always', 'never']", config.get("truncate_mode", "sync_mode")
        ),
        nested_values=cast(
            "Literal['json_string', 'reject']", config.get("nested_values", "json_string")
        ),
        batching=Batching(
            max_rows=max_rows,
            max_bytes=max_bytes,
            max_wait_s=float(cast("float", batching.get("max_wait_seconds", 30))),
            max_parallel=_whole(batching.get("max_parallel_requests")) or 2,
        ),
        rejected_records=RejectedRecords(
            policy=cast("Literal['fail', 'skip']", rejected.get("policy", "fail")),
            max_rejected=cast("int", rejected.get("max_rejected", 1000)),
            report_path=cast("str | None", rejected.get("report_path")),
        ),
        staging=Staging(
            directory=cast("str", staging.get("directory") or tempfile.gettempdir()),
            max_bytes=int(cast("float", staging.get("max_gigabytes", 20)) * 1e9),
        ),
        replace_guard=_whole(config.get("replace_guard")) or 0,
    )


def _whole(value: JsonValue) -> int | None:
    """JSON schema takes 100.0 for an integer."""
    return None if value is None else int(cast("float", value))


def _entries(tables: list[JsonObject]) -> tuple[TableEntry, ...]:
    entries: list[TableEntry] = []
    for table in tables:
        columns = cast("list[dict[str, str]] | None", table.get("columns")) or None
        entry = TableEntry(
            stream=cast("str", table["stream"]),
            namespace=cast("str | None", table.get("namespace")) or None,
            table=cast("str | None", table.get("table")) or None,
            columns=columns and tuple((column["field"], column["column"]) for column in columns),
        )
        if any((e.stream, e.namespace) == (entry.stream, entry.namespace) for e in entries):
            message = f"Config: tables has two entries for stream {entry.stream!r}. Keep one."
            raise ConfigError(message)
        entries.append(entry)
    return tuple(entries)


def _without_nulls(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {
            name: _without_nulls(member) for name, member in value.items() if member is not None
        }
    if isinstance(value, list):
        return [_without_nulls(member) for member in value]
    return value


def _explain(error: ValidationError) -> str:
    """What is wrong without the value: jsonschema's own message quotes it."""
    path = error.json_path.removeprefix("$").removeprefix(".") or "the config"
    wanted: Any = error.validator_value
    match error.validator:
        case "required":
            instance: Any = error.instance
            missing = [name for name in wanted if name not in instance]
            prefix = "" if path == "the config" else f"{path}."
            return f"{prefix}{missing[0]} is missing"
        case "type":
            return f"{path} must be of type {wanted}"
        case "enum":
            return f"{path} must be one of: {', '.join(map(str, wanted))}"
        case "const":
            return f"{path} must be {wanted}"
        case "minimum":
            return f"{path} must be at least {wanted}"
        case "maximum":
            return f"{path} must be at most {wanted}"
        case "pattern":
            schema = error.schema if isinstance(error.schema, dict) else {}
            return f"{path} must look like {schema.get('pattern_descriptor', wanted)}"
        case "oneOf" if tags := _tags(error):
            return (
                f"{path}.{tags[0]} must be one of: {', '.join(tags[1:])}, with the settings it "
                "needs"
            )
        case _:
            return f"{path} is not valid ({error.validator})"


def _tags(error: ValidationError) -> list[str]:
    """The discriminator of a oneOf and its values."""
    name, values = "", []
    branches: Any = error.validator_value
    for branch in branches:
        for key, member in branch.get("properties", {}).items():
            if "const" in member:
                name = key
                values.append(str(member["const"]))
    return [name, *values] if name else []


def _check_address(url: str, *, is_cloud: bool) -> None:
    """Only https; plain http reaches a loopback host of a self-managed deployment."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as error:
        message = "Config: the provider's address is not a valid URL."
        raise ConfigError(message) from error
    if any(letter.isspace() or not letter.isprintable() for letter in url):
        message = "Config: the provider's address must not hold spaces or control characters."
        raise ConfigError(message)
    if not host or parts.scheme not in {"http", "https"}:
        message = "Config: the provider's address must be a URL such as https://host.example.com."
        raise ConfigError(message)
    # also an empty one: what follows it would not be part of the path, or replace the credential
    if "@" in parts.netloc or "?" in url or "#" in url:
        message = "Config: the provider's address must not hold a user name, a query or a fragment."
        raise ConfigError(message)
    if parts.scheme == "http" and (is_cloud or not _is_loopback(host)):
        message = (
            "Config: the provider's address must start with https://. Credentials are never sent "
            "over plain http."
        )
        raise ConfigError(message)
    address = _address_of(host)
    if is_cloud and address is not None and not is_public(address):
        message = (
            "Config: the provider's address is one of a private or reserved network, which is not "
            "reached from Airbyte Cloud."
        )
        raise ConfigError(message)


def _is_loopback(host: str) -> bool:
    address = _address_of(host)
    return host == "localhost" if address is None else ipaddress.ip_address(address).is_loopback


def _address_of(host: str) -> str | None:
    """A host that is an IP address; a name is resolved, and looked at, when it is connected to."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
