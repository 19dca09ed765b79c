"""Airbyte's connector form, as far as it decides what is submitted.

Written from the platform's web application, which is not ours: `setDefaultValues` of useBuildForm,
`onOptionChange` of ConditionSection, `buildYupFormForJsonSchema` of schemaToYup.
Source: https://github.com/airbytehq/airbyte-platform, airbyte-webapp/src (read 2026-11-28)

A new form opens with the first option of each choice and its defaults. When another option is
chosen, values are kept whose name the new option has too; constants and defaults are set where a
value is missing. On submit texts are trimmed, empty ones and what no field of the option names are
left out. Whether a choice inside a kept value starts anew differs between versions of the form:
`keeps_inner` plays the one that keeps it.
"""

from __future__ import annotations

import copy
from typing import Any

Schema = dict[str, Any]
Values = dict[str, Any]


def kind_of(field: Schema) -> str:
    if "oneOf" in field:
        return "choice"
    if field["type"] == "object":
        return "group"
    if field["type"] == "array" and field["items"].get("type") == "object":
        return "list"
    return "field"


def tag_of(choice: Schema) -> str:
    """The name of the constant by which the options differ."""
    first = choice["oneOf"][0]["properties"]
    return str(next(name for name, field in first.items() if "const" in field))


def members_of(schema: Schema, path: str = "") -> list[tuple[str, Schema]]:
    """Every field of the form with its path in JSON."""
    found = []
    for name, member in schema.get("properties", {}).items():
        place = f"{path}.{name}" if path else name
        found += [(place, member), *members_of(member, place)]
    for branch in schema.get("oneOf", []):
        found += members_of(branch, path)
    return found + (members_of(schema["items"], f"{path}[]") if "items" in schema else [])


def option_of(choice: Schema, values: Values) -> Schema:
    tag = tag_of(choice)
    return next(o for o in choice["oneOf"] if o["properties"][tag]["const"] == values[tag])


class Form:
    """One form that a person fills in."""

    def __init__(self, schema: Schema, *, keeps_inner: bool = False) -> None:
        self.schema = schema
        self.keeps_inner = keeps_inner
        self.values: Values = {}
        self._set_defaults(schema, self.values, respect=False)

    def _set_defaults(self, group: Schema, values: Values, *, respect: bool) -> None:
        for name, field in group["properties"].items():
            is_set = respect and bool(values.get(name))
            for key in ("const", "default"):
                if key in field and not is_set:
                    values[name] = copy.deepcopy(field[key])
            match kind_of(field):
                case "group":
                    values[name] = values[name] if is_set else {}
                    self._set_defaults(field, values[name], respect=respect)
                case "list" if not is_set:
                    values[name] = []
                case "choice" if is_set and self.keeps_inner and tag_of(field) in values[name]:
                    self._set_defaults(option_of(field, values[name]), values[name], respect=True)
                case "choice":
                    values[name] = {}
                    self._set_defaults(field["oneOf"][0], values[name], respect=False)
                case _:
                    pass

    def place(self, path: tuple[str, ...]) -> tuple[Schema, Values]:
        """The field at a path and the value there."""
        schema, values = self.schema, self.values
        for name in path:
            if "oneOf" in schema:
                schema = option_of(schema, values)
            schema, values = schema["properties"][name], values[name]
        return schema, values

    def choose(self, path: tuple[str, ...], option: str) -> None:
        """Change a choice to the option of this constant."""
        choice, values = self.place(path)
        tag = tag_of(choice)
        new = next(o for o in choice["oneOf"] if o["properties"][tag]["const"] == option)
        kept = {name: value for name, value in values.items() if name in new["properties"]}
        kept[tag] = option
        self._set_defaults(new, kept, respect=True)
        values.clear()
        values.update(kept)

    def type_everywhere(self, path: tuple[str, ...]) -> None:
        """Give every field of the chosen option a value of its own."""
        choice, values = self.place(path)
        self._type(option_of(choice, values), values, ".".join(path))

    def _type(self, group: Schema, values: Values, where: str) -> None:
        for name, field in group["properties"].items():
            match kind_of(field):
                case "group":
                    self._type(field, values[name], f"{where}.{name}")
                case "list":
                    item: Values = {}
                    self._type(field["items"], item, f"{where}.{name}")
                    values[name] = [item]
                case "choice":
                    last = field["oneOf"][-1]
                    tag = tag_of(field)
                    values[name] = {tag: last["properties"][tag]["const"]}
                    self._set_defaults(last, values[name], respect=True)
                    self._type(last, values[name], f"{where}.{name}")
                case _ if "const" not in field:
                    values[name] = typed(field, f"{where}.{name}")
                case _:
                    pass

    def submitted(self) -> Values:
        """What is sent when the button is pressed."""
        return _cast(self.schema, self.values)


def typed(field: Schema, where: str) -> Any:
    if "enum" in field:
        return field["enum"][-1]
    match field["type"]:
        case "string":
            return f" typed into {where} "
        case "boolean":
            return True
        case "array":
            return [f"typed into {where}"]
        case _:
            return field.get("maximum", 7)


def _cast(schema: Schema, values: Values) -> Values:
    group = option_of(schema, values) if "oneOf" in schema else schema
    cast: Values = {}
    for name, field in group["properties"].items():
        if name not in values:
            continue
        value: Any = values[name]
        match kind_of(field):
            case "group" | "choice":
                cast[name] = _cast(field, value)
            case "list":
                cast[name] = [_cast(field["items"], item) for item in value]
            case _:
                value = value.strip() if isinstance(value, str) else value
                if value != "":
                    cast[name] = value
    return cast
