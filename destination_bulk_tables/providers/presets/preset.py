"""One preset: its form, and the configuration of custom_http that a filled-in form stands for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast
from urllib.parse import quote

import msgspec

from destination_bulk_tables.errors import SettingError
from destination_bulk_tables.form.fields import branch, integer, members, secret, text
from destination_bulk_tables.form.reading import Reading, chosen_of, inside
from destination_bulk_tables.model import JsonObject, JsonValue
from destination_bulk_tables.providers.custom_http import CustomHttp

_STEP = re.compile(r"[a-z_]+")
# settings of custom_http by their names inside the program
_SHOWN: dict[Any, str] = {
    field["known_as"]: name
    for name, field in cast("dict[str, Any]", CustomHttp.spec["properties"]).items()
    if "known_as" in field
}
_OF_CUSTOM_HTTP = cast("dict[str, Any]", CustomHttp.spec["properties"])
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
    proven: str
    description: str
    fields: dict[str, dict[str, Any]]
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Preset:
    """An option of the form beside the programmed providers."""

    name: str
    title: str
    proven: str
    fields: dict[str, Field]
    settings: dict[str, Any]
    spec: JsonObject

    @classmethod
    def load(cls, name: str, content: bytes) -> Preset:
        file = msgspec.json.decode(content, type=_File)
        fields = {
            key: msgspec.convert({**_COMMON.get(key, {}), **said}, Field)
            for key, said in file.fields.items()
        }
        asked = {key: field.form() for key, field in fields.items()}
        required = [key for key, field in fields.items() if field.default is None]
        inner = {"title": file.title, "description": file.description, **members(required, **asked)}
        title = file.title if file.proven else f"{file.title} (from documentation, never run)"
        return cls(
            name=name,
            title=file.title,
            proven=file.proven,
            fields=fields,
            settings=file.settings,
            # an object named after the option: its fields may be called as in any other
            spec=branch(title, file.description, ("provider_type", name), [name], **{name: inner}),
        )

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
        """Make the provider that the filled-in form stands for."""
        form = inside(Reading().read(self.expanded(section), CustomHttp.spec), CustomHttp.spec)
        assert isinstance(form, dict)
        try:
            return CustomHttp.from_config(form)
        except SettingError as error:
            setting = error.setting.removeprefix("provider.")
            what = f"does not fit into {setting} of this preset, which {error.what}"
            raise SettingError(f"provider.{self._blamed(setting)}", what) from error

    def expanded(self, section: JsonObject) -> JsonObject:
        """The configuration of custom_http, as it would be written by hand."""
        filled = section[self.name]
        assert isinstance(filled, dict)
        values = {name: filled.get(name, field.default) for name, field in self.fields.items()}
        settings = self._fill(self.settings, CustomHttp.spec, "", values)
        assert isinstance(settings, dict)
        return {"provider_type": CustomHttp.name, **settings}

    def _fill(
        self, value: JsonValue, form: JsonObject, setting: str, values: dict[str, JsonValue]
    ) -> JsonValue:
        """The value of a setting; a template may be written as the JSON it is."""
        if isinstance(value, dict | list) and form.get("type") == "string":
            return json.dumps(self._fill(value, {}, "", values), ensure_ascii=False)
        if isinstance(value, dict):
            fields = (chosen_of(form, value) or form).get("properties", {})
            assert isinstance(fields, dict)
            return {
                name: self._fill(member, cast("JsonObject", fields.get(name, {})), name, values)
                for name, member in value.items()
            }
        if isinstance(value, list):
            item = cast("JsonObject", form.get("items", {}))
            return [self._fill(member, item, setting, values) for member in value]
        if not isinstance(value, str):
            return value
        whole = _FIELD.fullmatch(value)
        if whole:
            return values[whole[1]]
        return _FIELD.sub(lambda match: self._inside(match[1], setting, values), value)

    def _inside(self, name: str, setting: str, values: dict[str, JsonValue]) -> str:
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
