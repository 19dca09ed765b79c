"""The form as Airbyte is told: without our own keywords, with each setting's name in its text.

A heading in the form and a name in JSON stand side by side, so that a page of the docs or an error
leads to the field and the field to them. Descriptions are HTML there.
"""

from __future__ import annotations

import re

from destination_bulk_tables.model import JsonObject, JsonValue

_CODE = re.compile(r"`([^`]+)`")
_OWN = {"known_as", "lines", "words"}


def published(form: JsonObject, path: str = "") -> JsonObject:
    """A copy for the specification; `path` is the name of the form in the config."""
    shown: JsonObject = {name: value for name, value in form.items() if name not in _OWN}
    if form.get("lines"):
        shown |= {"type": "string", "multiline": True, "examples": ["\n".join(_texts(form))]}
        del shown["items"]
    if path and "const" not in form and "title" in form:
        shown["description"] = _described(form, path)
    for name in ("properties", "oneOf", "items"):
        inner = shown.get(name)
        if name == "properties" and isinstance(inner, dict):
            before = f"{path}." if path else ""
            shown[name] = {key: _member(field, before + key) for key, field in inner.items()}
        elif name == "oneOf" and isinstance(inner, list):
            shown[name] = [_branch(branch, path) for branch in inner]
        elif name == "items" and isinstance(inner, dict):
            shown[name] = published(inner, f"{path}[]")
    return shown


def _member(field: JsonValue, path: str) -> JsonObject:
    assert isinstance(field, dict)
    return published(field, path)


def _branch(branch: JsonValue, path: str) -> JsonObject:
    assert isinstance(branch, dict)
    return {**_member(branch, path), "description": _code(str(branch["description"]))}


def _described(form: JsonObject, path: str) -> str:
    words = form.get("words")
    said = [str(form["description"])]
    for value, meaning in words.items() if isinstance(words, dict) else ():
        said += [f"`{value}`: {meaning}"] if meaning else []
    if form.get("lines"):
        said[0] += " One text per line."
    old = f", formerly `{form['known_as']}`" if "known_as" in form else ""
    return _code("<br>".join([*said, f"In JSON: `{path}`{old}"]))


def _code(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", text)


def _texts(form: JsonObject) -> list[str]:
    examples = form["examples"]
    return [str(example) for example in examples] if isinstance(examples, list) else []
