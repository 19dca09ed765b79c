"""Makes the fields of a form: each a JSON schema with a title and a description.

Three keywords are our own and gone from what Airbyte is told (`published`): `known_as` is a name
under which a field is saved in older configs and known inside the program, `lines` marks a list
that is typed as one text per line, `words` says what the values of a choice mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from destination_bulk_tables.model import JsonObject, JsonValue


def text(title: str, description: str, *examples: str, **more: JsonValue) -> JsonObject:
    return _field("string", title, description, examples, **more)


def long_text(title: str, description: str, *examples: str, **more: JsonValue) -> JsonObject:
    return text(title, description, *examples, multiline=True, **more)


def secret(title: str, description: str, *examples: str, **more: JsonValue) -> JsonObject:
    return text(title, description, *examples, airbyte_secret=True, **more)


def choice(
    title: str, description: str, values: Mapping[str, str] | Sequence[str], **more: JsonValue
) -> JsonObject:
    """One of the values, the first by default; a mapping says what each means."""
    return {"default": next(iter(values)), **open_choice(title, description, values, **more)}


def open_choice(
    title: str, description: str, values: Mapping[str, str] | Sequence[str], **more: JsonValue
) -> JsonObject:
    """A choice of which no value is taken before it is made."""
    words: JsonObject = dict(values) if isinstance(values, Mapping) else {}
    return text(title, description, enum=list(values), words=words, **more)


def flag(title: str, description: str) -> JsonObject:
    return _field("boolean", title, description, (), default=False)


def integer(
    title: str, description: str, low: int, high: int | None, *examples: int, **more: JsonValue
) -> JsonObject:
    return _field("integer", title, description, examples, minimum=low, maximum=high, **more)


def decimal(
    title: str, description: str, low: float, high: float, *examples: float, **more: JsonValue
) -> JsonObject:
    return _field("number", title, description, examples, minimum=low, maximum=high, **more)


def texts(title: str, description: str, *examples: str) -> JsonObject:
    """A list of texts. The form shows a box of lines: Airbyte's own lists are cut at commas."""
    return _field("array", title, description, examples, items={"type": "string"}, lines=True)


def objects(title: str, description: str, item: JsonObject, **more: JsonValue) -> JsonObject:
    """A list of objects, each as `item` says."""
    return _field("array", title, description, (), items=item, **more)


def members(required: list[str], **fields: JsonObject) -> JsonObject:
    """An object of these fields, in this order."""
    return {"type": "object", "required": list(required), "properties": ordered(fields)}


def section(title: str, description: str, **fields: JsonObject) -> JsonObject:
    """An object of optional fields under a heading."""
    return _field("object", title, description, (), properties=ordered(fields))


def branch(
    title: str, description: str, tag: tuple[str, str], required: list[str], **fields: JsonObject
) -> JsonObject:
    """One option of a `one_of`, told from the others by the constant `tag`."""
    constant: JsonObject = {"type": "string", "const": tag[1]}
    body = members([tag[0], *required], **{tag[0]: constant}, **fields)
    return {"title": title, "description": description, **body}


def one_of(title: str, description: str, *branches: JsonObject, **more: JsonValue) -> JsonObject:
    """One of the options, of which no two may share a name but that of the constant.

    Airbyte's form keeps what was typed under a name that the option chosen next has as well.
    """
    return _field("object", title, description, (), oneOf=list(branches), **more)


def tiles(title: str, description: str, *branches: JsonObject) -> JsonObject:
    """A `one_of` whose options are all in view with their descriptions.

    The form tells them apart by their titles, so a title stands in one of these only.
    """
    return one_of(title, description, *branches, display_type="radio")


def ordered(properties: Mapping[str, JsonObject]) -> JsonObject:
    return {name: {**field, "order": i} for i, (name, field) in enumerate(properties.items())}


def _field(
    kind: str, title: str, description: str, examples: Sequence[JsonValue], /, **more: JsonValue
) -> JsonObject:
    """What is None, and a list without a member, is not said."""
    said: JsonObject = {"title": title, "description": description, "examples": list(examples)}
    said = {"type": kind, **said, **more}
    return {name: value for name, value in said.items() if value not in (None, [])}
