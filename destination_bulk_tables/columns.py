"""A stream's schema and its entry in `tables` to the columns of its rows.

The schema decides which fields there are and of what type; an undeclared field has no column.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import msgspec

from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.mapping import FieldMapping, Masking, TableEntry
from destination_bulk_tables.model import JsonObject, JsonValue, StreamKey

_MOST_PARTS = 200  # of a schema behind references and unions
_MOST_NAMES = 20  # of fields in a message


@dataclass(frozen=True, slots=True)
class Column:
    """A source field and its column at the vendor, with what the schema says of its values.

    `is_*`: it holds nothing else, null apart. `declared`: the schema's own words, for people.
    """

    field: str
    name: str
    is_timestamp: bool = False
    may_be_decimal: bool = False
    is_text: bool = False
    is_boolean: bool = False
    is_integer: bool = False
    is_number: bool = False
    mask: Masking | None = None
    mask_length: int | None = None
    declared: str = dataclasses.field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Extra:
    """A column that no field feeds: one JSON token for all rows, None for the time of emission."""

    name: str
    token: bytes | None


def fields_of(schema: JsonObject) -> JsonObject:
    """The fields that a stream's schema declares, also behind a local `$ref` or in `allOf`."""
    fields: JsonObject = {}
    for part in _parts(schema, schema):
        properties = part.get("properties")
        fields.update(properties if isinstance(properties, dict) else {})
    return fields


def columns_of(schema: JsonObject, entry: TableEntry, where: str) -> list[Column]:
    """The columns of a stream as sent. Raises `ConfigError` for a mapping that cannot hold."""
    fields = fields_of(schema)
    seen: set[str] = set()
    columns: list[Column] = []
    for mapping in _mappings(fields, entry, where):
        field, name = mapping.field, mapping.column
        if any(column.field == field for column in columns):
            message = f"{where}: the field {field!r} is listed twice in tables[].columns. Keep one."
            raise ConfigError(message)
        if name in seen:
            raise ConfigError(
                f"{where}: two fields go to the column {name!r}. Give each its own in "
                "tables[].columns or tables[].rename."
            )
        seen.add(name)
        columns.append(_column(mapping, fields.get(field), schema))
    return columns


def extras_of(
    entry: TableEntry, stream: StreamKey, generation: JsonValue, columns: Sequence[Column]
) -> tuple[Extra, ...]:
    """The columns that an entry adds. Raises `ConfigError` where one is there already."""
    holds: dict[str, object] = {
        "stream": stream.name,
        "namespace": stream.namespace,
        "generation_id": generation,
    }
    extras = [Extra(name, msgspec.json.encode(value)) for name, value in entry.constants]
    extras += [
        Extra(name, None if source == "emitted_at" else msgspec.json.encode(holds[source]))
        for name, source in entry.message_columns
    ]
    seen = {column.name for column in columns}
    for extra in extras:
        if extra.name in seen:
            message = (
                f"Stream {stream}: tables[].constants or tables[].message_columns adds the column "
                f"{extra.name!r}, which is there already. Give it another name."
            )
            raise ConfigError(message, stream=stream)
        seen.add(extra.name)
    return tuple(extras)


def _mappings(fields: JsonObject, entry: TableEntry, where: str) -> Sequence[FieldMapping]:
    if entry.columns is not None:
        _require_known([mapping.field for mapping in entry.columns], fields, "columns", where)
        return entry.columns
    renamed = {mapping.field: mapping for mapping in entry.rename}
    # of a misspelt exclude each value would be sent
    _require_known(entry.exclude, fields, "exclude", where)
    _require_known(renamed, fields, "rename", where)
    if len(renamed) < len(entry.rename):
        raise ConfigError(f"{where}: a field is listed twice in tables[].rename. Keep one.")
    for field in renamed:
        if field in entry.exclude:
            raise ConfigError(
                f"{where}: the field {field!r} is in tables[].rename and in tables[].exclude. "
                "Keep one."
            )
    kept = [field for field in fields if field not in entry.exclude]
    return [renamed.get(field, FieldMapping(field, field)) for field in kept]


def _require_known(named: Iterable[str], fields: JsonObject, setting: str, where: str) -> None:
    for field in named:
        if fields and field not in fields:
            known = ", ".join(sorted(fields)[:_MOST_NAMES])
            raise ConfigError(
                f"{where}: the stream has no field {field!r}. Correct tables[].{setting}; its "
                f"fields are: {known}."
            )


def _column(mapping: FieldMapping, declared: JsonValue, schema: JsonObject) -> Column:
    types: set[str] = set()
    is_timestamp = False
    for part in _parts(declared, schema, ("allOf", "oneOf", "anyOf")):
        kind = part.get("type")
        names = kind if isinstance(kind, list) else [kind]
        types.update(name for name in names if isinstance(name, str))
        is_timestamp = (
            is_timestamp
            or part.get("format") == "date-time"
            or str(part.get("airbyte_type", "")).startswith("timestamp_")
        )
    own = types - {"null"}
    declared = ", ".join(sorted(own)) or "any"
    return Column(
        mapping.field,
        mapping.column,
        is_timestamp=is_timestamp,
        may_be_decimal=not types or bool(types & {"number", "integer"}),
        is_text=own == {"string"} and not is_timestamp,
        is_boolean=own == {"boolean"},
        is_integer=own == {"integer"},
        is_number=bool(own) and own <= {"integer", "number"},
        mask=mapping.mask,
        mask_length=mapping.mask_length,
        declared=f"{declared} (date-time)" if is_timestamp else declared,
    )


def _parts(
    schema: JsonValue, root: JsonObject, members: Sequence[str] = ("allOf",)
) -> Iterator[JsonObject]:
    """A schema, what its local `$ref` names, its branches; bounded: a reference may be circular."""
    waiting: list[JsonValue] = [schema]
    for _ in range(_MOST_PARTS):
        if not waiting:
            return
        part = waiting.pop(0)
        if not isinstance(part, dict):
            continue
        yield part
        if "$ref" in part:
            waiting.append(_referenced(part["$ref"], root))
        for member in members:
            branches = part.get(member)
            waiting += branches if isinstance(branches, list) else []


def _referenced(ref: JsonValue, root: JsonObject) -> JsonValue:
    """What `#/a/b` names; None for anything else."""
    found: JsonValue = root
    if not isinstance(ref, str) or not ref.startswith("#"):
        return None
    for name in ref[1:].split("/")[1:]:
        plain = unquote(name).replace("~1", "/").replace("~0", "~")
        found = found.get(plain) if isinstance(found, dict) else None
    return found
