"""Makes the fields of a form: each a JSON schema with a title and a description."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from destination_bulk_tables.model import JsonObject, JsonValue


def text(title: str, description: str, *examples: str, **more: JsonValue) -> JsonObject:
    field: JsonObject = {"type": "string", "title": title, "description": description}
    return field | ({"examples": list(examples)} if examples else {}) | more


def long_text(title: str, description: str, *examples: str, **more: JsonValue) -> JsonObject:
    return text(title, description, *examples, multiline=True, **more)


def secret(title: str, description: str, *examples: str, **more: JsonValue) -> JsonObject:
    return text(title, description, *examples, airbyte_secret=True, **more)


def choice(title: str, description: str, *values: str, **more: JsonValue) -> JsonObject:
    return text(title, description, enum=list(values), **more)


def flag(title: str, description: str, *, default: bool = False) -> JsonObject:
    return {"type": "boolean", "title": title, "description": description, "default": default}


def integer(
    title: str, description: str, low: int, high: int | None, *examples: int, **more: JsonValue
) -> JsonObject:
    return _number("integer", title, description, low, high, examples) | more


def decimal(
    title: str,
    description: str,
    low: float,
    high: float | None,
    *examples: float,
    **more: JsonValue,
) -> JsonObject:
    return _number("number", title, description, low, high, examples) | more


def _number(
    kind: str,
    title: str,
    description: str,
    low: float,
    high: float | None,
    examples: Sequence[float],
) -> JsonObject:
    field: JsonObject = {"type": kind, "title": title, "description": description, "minimum": low}
    field |= {} if high is None else {"maximum": high}
    return field | ({"examples": list(examples)} if examples else {})


def texts(title: str, description: str, example: str) -> JsonObject:
    field: JsonObject = {"type": "array", "title": title, "description": description}
    return field | {"items": {"type": "string"}, "examples": [[example]]}


def objects(title: str, description: str, item: JsonObject, **more: JsonValue) -> JsonObject:
    """A list of objects, each as `item` says."""
    field: JsonObject = {"type": "array", "title": title, "description": description}
    return field | {"items": item} | more


def members(required: list[str], **fields: JsonObject) -> JsonObject:
    """An object of these fields, in this order."""
    return {"type": "object", "required": list(required), "properties": ordered(fields)}


def section(title: str, description: str, **fields: JsonObject) -> JsonObject:
    """An object of optional fields under a heading."""
    field: JsonObject = {"type": "object", "title": title, "description": description}
    return field | {"properties": ordered(fields)}


def branch(
    title: str, tag: tuple[str, str], required: list[str], **fields: JsonObject
) -> JsonObject:
    """One option of a `one_of`, told from the others by the constant `tag`."""
    constant: JsonObject = {"type": "string", "const": tag[1]}
    return {"title": title, **members([tag[0], *required], **{tag[0]: constant}, **fields)}


def one_of(title: str, description: str, *branches: JsonObject) -> JsonObject:
    field: JsonObject = {"type": "object", "title": title, "description": description}
    return field | {"oneOf": list(branches)}


def ordered(properties: Mapping[str, JsonObject]) -> JsonObject:
    return {name: {**field, "order": i} for i, (name, field) in enumerate(properties.items())}
