"""One preset: its form, and the configuration of custom_http that a filled-in form stands for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from destination_bulk_tables.errors import SettingError
from destination_bulk_tables.form.fields import branch, integer, members, secret, text
from destination_bulk_tables.form.reading import Reading, chosen_of, inside
from destination_bulk_tables.model import JsonObject
from destination_bulk_tables.providers.custom_http import CustomHttp

_STEP = re.compile(r"[a-z_]+")
_OF_CUSTOM_HTTP: JsonObject = CustomHttp.spec["properties"]
# settings of custom_http by their names inside the program
_SHOWN = {field["known_as"]: n for n, field in _OF_CUSTOM_HTTP.items() if "known_as" in field}
_FIELD = re.compile(r"<(\w+)>")
_PLAIN = re.compile(r"[A-Za-z0-9_.\-]+")
_PATHS = frozenset(
    {"write_path", "check_path", "table_count_path", "table_columns_path", "path", "query"}
)
_HEADERS = frozenset({"extra_headers", "headers"})
# what fields of these names say where a preset says nothing else
_COMMON: dict[str, dict[str, Any]] = {
    "address": {
        "title": "Address",
        "description": "Where the server is reached. Plain http only for this machine.",
    },
    "username": {"title": "User name"},
    "password": {
        "title": "Password",
        "description": "Of that user.",
        "example": "...",
        "secret": True,
    },
    "max_rows": {"title": "Rows per request", "type": "integer", "maximum": 100_000},
}


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the form asks for; one with a default may be left out."""

    title: str
    description: str
    example: str | None = None
    secret: bool = False
    type: Literal["string", "integer"] = "string"
    minimum: int = 1
    maximum: int | None = None
    default: str | int | None = None

    def form(self) -> JsonObject:
        said, default = (self.title, self.description), self.default
        if self.type == "integer":
            return integer(*said, self.minimum, self.maximum, default=default)
        make = secret if self.secret else text
        return make(*said, *([self.example] if self.example else []), default=default)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    description: str
    fields: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    proven: str = ""


class Preset:
    """An option of the form beside the programmed providers."""

    def __init__(self, name: str, content: bytes) -> None:
        file = msgspec.json.decode(content, type=_File)
        self.name, self.title, self.proven, self.settings = (
            name,
            file.title,
            file.proven,
            file.settings,
        )
        self.fields = {
            key: msgspec.convert({**_COMMON.get(key, {}), **said}, Field)
            for key, said in file.fields.items()
        }
        asked = {key: field.form() for key, field in self.fields.items()}
        required = [key for key, field in self.fields.items() if field.default is None]
        inner = {"title": file.title, "description": file.description, **members(required, **asked)}
        title = file.title if file.proven else f"{file.title} (from documentation, never run)"
        # an object named after the option: its fields may be called as in any other
        option = ("provider_type", name)
        self.spec = branch(title, file.description, option, [name], **{name: inner})

    @property
    def address_setting(self) -> str:
        return self._blamed("api_address")

    def asked_as(self, _: str) -> str | None:
        """The field of the preset that fills this setting of custom_http, if one does."""
        blamed = self._blamed(_)
        return None if blamed == self.name else blamed

    def is_decided(self, _: str) -> bool:
        """Whether it is a setting of custom_http, which the preset has filled in or left out."""
        step = _STEP.match(_)
        return step is not None and (step[0] in _SHOWN or step[0] in _OF_CUSTOM_HTTP)

    def from_config(self, section: JsonObject) -> CustomHttp:
        form = inside(Reading().read(self.expanded(section), CustomHttp.spec), CustomHttp.spec)
        try:
            return CustomHttp.from_config(form)
        except SettingError as error:
            setting = error.setting.removeprefix("provider.")
            what = f"does not fit into {setting} of this preset, which {error.what}"
            raise SettingError(f"provider.{self._blamed(setting)}", what) from error

    def expanded(self, section: JsonObject) -> JsonObject:
        """The configuration of custom_http, as it would be written by hand."""
        filled: JsonObject = section[self.name]
        values = {name: filled.get(name, field.default) for name, field in self.fields.items()}
        settings = self._fill(self.settings, CustomHttp.spec, "", values)
        return {"provider_type": CustomHttp.name, **settings}

    def _fill(self, value: Any, form: JsonObject, setting: str, values: JsonObject) -> Any:
        """The value of a setting; a template may be written as the JSON it is."""
        if isinstance(value, dict | list) and form.get("type") == "string":
            return json.dumps(self._fill(value, {}, "", values), ensure_ascii=False)
        if isinstance(value, dict):
            fields = (chosen_of(form, value) or form).get("properties", {})
            return {
                name: self._fill(member, fields.get(name, {}), name, values)
                for name, member in value.items()
            }
        if isinstance(value, list):
            return [self._fill(one, form.get("items", {}), setting, values) for one in value]
        if not isinstance(value, str):
            return value
        whole = _FIELD.fullmatch(value)
        if whole:
            return values[whole[1]]
        return _FIELD.sub(lambda match: self._inside(match[1], setting, values), value)

    def _inside(self, name: str, setting: str, values: JsonObject) -> str:
        """A value as a part of a longer text, encoded for it or refused."""
        value = str(values[name])
        if setting in _PATHS and value not in {"", ".", ".."}:
            return quote(value, safe="")
        if setting in _HEADERS and value.isprintable():
            return value
        if not _PLAIN.fullmatch(value) or setting in _PATHS:
            what = "must be made of letters, digits, _ . and -"
            raise SettingError(f"provider.{self.name}.{name}", what)
        return value

    def _blamed(self, setting: str) -> str:
        """The field of the form that a setting of custom_http is made of."""
        value: Any = self.settings
        for step in _STEP.findall(setting):
            name = _SHOWN.get(step, step)
            value = value.get(name, value) if isinstance(value, dict) else value
        named = None
        if value is not self.settings:
            # of a user name and a password the password
            found = sorted(_fields_in(value), key=lambda name: not self.fields[name].secret)
            named = next(iter(found), None)
        return f"{self.name}.{named}" if named else self.name


def _fields_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _FIELD.findall(value)
    elif isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from _fields_in(member)
