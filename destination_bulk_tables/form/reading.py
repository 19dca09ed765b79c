"""Reads what a person filled in, or wrote by hand, into what the form declares.

Null, an empty text and an empty choice count as absent. A name of an older form is read as the new
one, which wins where both stand. A list typed as lines becomes a list. A member that belongs to
another option of the same choice was left over by the form and is dropped; one that no option knows
would do nothing, which for a lock such as `truncate_mode` is worse than an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from destination_bulk_tables.model import JsonObject, JsonValue


@dataclass(slots=True)
class Reading:
    """What was met on the way, by path: what cannot be read, left-overs, old names."""

    wrong: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    written_as: dict[str, str] = field(default_factory=dict)

    def read(self, value: JsonValue, form: JsonObject, path: str = "") -> JsonValue:
        """The value under the names of the form; what it cannot read is left to the validation."""
        if isinstance(value, list) and "items" in form:
            return [
                self.read(member, form["items"], f"{path}[{number}]")
                for number, member in enumerate(value)
                if member is not None
            ]
        if form.get("lines") and isinstance(value, str):
            return [line.strip() for line in value.splitlines() if line.strip()]
        if isinstance(value, float) and not math.isfinite(value):
            self.wrong.append(f"{path} is a number that is too large")
            return None
        if isinstance(value, float) and form.get("type") == "integer" and value.is_integer():
            return int(value)  # JSON Schema takes 100.0 for an integer
        if not isinstance(value, dict) or form.get("type") != "object":
            return value
        others: set[str] = set()
        if "oneOf" in form:
            chosen = chosen_of(form, value)
            if chosen is None:
                return value
            others = _names(form["oneOf"])
            form = chosen
        return self._members(value, form, others, f"{path}." if path else "")

    def _members(
        self, value: JsonObject, form: JsonObject, others: set[str], before: str
    ) -> JsonObject:
        fields = form["properties"]
        renamed = {member["known_as"]: n for n, member in fields.items() if "known_as" in member}
        found: JsonObject = {}
        for name, member in value.items():
            new = name if name in fields else renamed.get(name)
            if new is None:
                if name in others:
                    self.left_over.append(before + name)
                else:
                    self.wrong.append(
                        f"{before}{name} is not a setting{_hint(name, fields, value)}"
                    )
                continue
            if _is_absent(member, fields[new]) or (new != name and not _is_gone(value.get(new))):
                continue
            if new != name:
                self.written_as[before + new] = before + name
            found[new] = self.read(member, fields[new], before + new)
        return found


def inside(value: JsonValue, form: JsonObject) -> Any:
    """A validated value under the names that the program uses: `known_as`, where there is one."""
    if isinstance(value, list):
        return [inside(member, form.get("items", {})) for member in value]
    if not isinstance(value, dict):
        return value
    form = chosen_of(form, value) or form
    fields = form.get("properties", {})
    members = [(name, member, fields.get(name, {})) for name, member in value.items()]
    return {field.get("known_as", name): inside(member, field) for name, member, field in members}


def narrowed(form: JsonObject, value: JsonValue) -> JsonObject:
    """The form with each choice replaced by the option the value takes, as far as it takes one."""
    if isinstance(value, dict) and "oneOf" in form:
        chosen = chosen_of(form, value)
        if chosen is None:
            return form
        form = chosen | {name: form[name] for name in ("title", "known_as") if name in form}
    if not isinstance(value, dict) or "properties" not in form:
        return form
    fields = form["properties"].items()
    return form | {"properties": {name: narrowed(field, value.get(name)) for name, field in fields}}


def with_old_names(form: JsonObject) -> JsonObject:
    """The form in which a renamed field stands under both names: for what must miss no value."""
    wider = dict(form)
    if "properties" in form:
        wider["properties"] = {
            name: with_old_names(member)
            for key, member in form["properties"].items()
            for name in (key, member.get("known_as", key))
        }
    if "oneOf" in form:
        wider["oneOf"] = [with_old_names(branch) for branch in form["oneOf"]]
    if "items" in form:
        wider["items"] = with_old_names(form["items"])
    return wider


def chosen_of(form: JsonObject, value: JsonObject) -> JsonObject | None:
    """The option of a choice that the constant in the value names."""
    branches: list[JsonObject] = form.get("oneOf", [])
    for branch in branches:
        for name, member in branch["properties"].items():
            if "const" in member and value.get(name) == member["const"]:
                return branch
    return None


def _is_gone(value: JsonValue) -> bool:
    return value is None or value == ""


def _is_absent(value: JsonValue, form: JsonObject) -> bool:
    return _is_gone(value) or (value == {} and "oneOf" in form)


def _names(branches: Iterable[JsonObject]) -> set[str]:
    """The names of all fields of these options, old ones too."""
    fields = [field for branch in branches for field in branch["properties"].items()]
    return {called for name, field in fields for called in (name, field.get("known_as", name))}


def _hint(name: str, fields: dict[str, JsonObject], value: JsonObject) -> str:
    """What was meant: a setting of this name one level below, or one of a similar name."""
    for outer, form in fields.items():
        inner = value.get(outer)
        chosen = chosen_of(form, inner) if isinstance(inner, dict) else None
        if name in (chosen or form).get("properties", ()):
            return f" (did you mean {outer}.{name}?)"
    close = get_close_matches(name, fields, 1)
    return f" (did you mean {close[0]}?)" if close else ""
