"""Makes the fields of a form: each a JSON schema with a title and a description.

Three keywords are our own and gone from what Airbyte is told (`published`): `known_as` is a name
under which a field is saved in older configs and known inside the program, `lines` marks a list
that is typed as one text per line, `words` says what the values of a choice mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from destination_bulk_tables.model import JsonObject, JsonValue


def text(title: str, description: str, *examples: str, **more: JsonValue) -> JsonObject:
    field: JsonObject = {"type": "string", "title": title, "description": description}
    return field | ({"examples": list(examples)} if examples else {}) | more


def long_text(title: str, description: str, *examples: str, **more: JsonValue) -> JsonObject:
    return text(title, description, *examples, multiline=True, **more)


def secret(title: str, description: str, *examples: str, **more: JsonValue) -> JsonObject:
    return text(title, description, *examples, airbyte_secret=True, **more)


def choice(
    title: str, description: str, values: Mapping[str, str], **more: JsonValue
) -> JsonObject:
    """One of the values; what each means is said for it, unless that is empty."""
    words: JsonObject = dict(values)
    return text(title, description, enum=list(values), words=words, **more)


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


def texts(title: str, description: str, *examples: str) -> JsonObject:
    """A list of texts. The form shows a box of lines: Airbyte's own lists are cut at commas."""
    field: JsonObject = {"type": "array", "title": title, "description": description}
    return field | {"items": {"type": "string"}, "examples": list(examples), "lines": True}


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
    title: str, description: str, tag: tuple[str, str], required: list[str], **fields: JsonObject
) -> JsonObject:
    """One option of a `one_of`, told from the others by the constant `tag`."""
    constant: JsonObject = {"type": "string", "const": tag[1]}
    body = members([tag[0], *required], **{tag[0]: constant}, **fields)
    return {"title": title, "description": description, **body}


def one_of(title: str, description: str, *branches: JsonObject) -> JsonObject:
    """One of the options, of which no two may share a name but that of the constant.

    Airbyte's form keeps what was typed under a name that the option chosen next has as well.
    """
    field: JsonObject = {"type": "object", "title": title, "description": description}
    return field | {"oneOf": list(branches)}


def tiles(title: str, description: str, *branches: JsonObject) -> JsonObject:
    """A `one_of` whose options are all in view with their descriptions.

    The form tells them apart by their titles, so a title stands in one of these only.
    """
    return one_of(title, description, *branches) | {"display_type": "radio"}


def ordered(properties: Mapping[str, JsonObject]) -> JsonObject:
    return {name: {**field, "order": i} for i, (name, field) in enumerate(properties.items())}
