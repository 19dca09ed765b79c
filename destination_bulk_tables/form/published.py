"""The form as Airbyte is told: without our own keywords, with each setting's name in its text.

A heading in the form and a name in JSON stand side by side, so that a page of the docs or an error
leads to the field and the field to them. Descriptions are HTML there.
"""

from __future__ import annotations

import re

from destination_bulk_tables.model import JsonObject

_CODE = re.compile(r"`([^`]+)`")
_OWN = {"known_as", "lines", "words"}


def published(form: JsonObject, path: str = "") -> JsonObject:
    """A copy for the specification; `path` is the name of the form in the config."""
    shown = {name: value for name, value in form.items() if name not in _OWN}
    if form.get("lines"):
        shown |= {"type": "string", "multiline": True, "examples": ["\n".join(form["examples"])]}
        del shown["items"]
    if path and "const" not in form and "title" in form:
        shown["description"] = _described(form, path)
    if "properties" in form:
        before = f"{path}." if path else ""
        fields = form["properties"].items()
        shown["properties"] = {name: published(field, before + name) for name, field in fields}
    if "oneOf" in form:
        shown["oneOf"] = [
            {**published(branch, path), "description": _code(branch["description"])}
            for branch in form["oneOf"]
        ]
    if "items" in shown:
        shown["items"] = published(form["items"], f"{path}[]")
    return shown


def _described(form: JsonObject, path: str) -> str:
    said = [form["description"]]
    words = form.get("words", {}).items()
    said += [f"`{value}`: {meaning}" for value, meaning in words if meaning]
    if form.get("lines"):
        said[0] += " One text per line."
    old = f", formerly `{form['known_as']}`" if "known_as" in form else ""
    return _code("<br>".join([*said, f"In JSON: `{path}`{old}"]))


def _code(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", text)
