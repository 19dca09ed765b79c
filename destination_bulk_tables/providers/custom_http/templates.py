"""The only substitution language of the form: `{name}`, and nothing else.

Each template is checked when the config is parsed, and an error names the field and what it lacks,
never a value. A name is encoded for the place it stands in: percent-encoded in a path, escaped in a
JSON text. Where it is only a part of a JSON text, of a query or of plain text (which may be SQL),
nothing can encode it for the language around it, so there it has to be made of letters, digits,
`_`, `.` and `-`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from destination_bulk_tables.model import JsonValue, Table
from destination_bulk_tables.providers.custom_http.fields import wrong

_NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*|column:[^{}\0]+)\}")
_LIKE_A_NAME = re.compile(r"\{([A-Za-z_][\w-]*|column:[^{}\0]*)\}")
_PLAIN = re.compile(r"[A-Za-z0-9_.\-]+")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LITERAL = (
    "/:@!$&'()*+,;=?%~[]"  # what a user may have meant as it is; the rest of a path is encoded
)
TABLE_NAMES = frozenset({"table", "columns", "parameters"})
KEY_NAMES = frozenset({"key_column", "key_columns"})
COLUMN = "column:NAME"  # stands for the name of any column: that value of the row
IDEMPOTENCY = "idempotency_key"


@dataclass(frozen=True, slots=True)
class Path:
    """A path with its query; `{table}` is encoded as one segment."""

    field: str
    text: str

    @classmethod
    def parse(cls, field: str, text: str, names: Iterable[str]) -> Path:
        if not text.startswith("/"):
            raise wrong(field, "must start with /")
        require_known(field, text, names)
        if any(ord(char) < ord(" ") for char in text) or "#" in text:
            raise wrong(field, "must not hold control characters or #")
        return cls(field, text)

    def names(self) -> set[str]:
        return set(_NAME.findall(self.text))

    def render(self, table: Table, more: Mapping[str, str] | None = None) -> str:
        """The path for one table; a name of `more` is what that says, in a query too."""
        path, mark, query = self.text.partition("?")
        extra = dict(more or {})
        found = _values(self.names() - set(extra), table, self.field) | extra
        plain = frozenset(found) - set(extra)
        return self._encode(path, found) + mark + self._encode(query, found, plain)

    def _encode(
        self, text: str, values: Mapping[str, str], plain: Collection[str] = frozenset()
    ) -> str:
        """Each value as a segment; a name of `plain` needs one that nothing has to encode."""
        parts = _NAME.split(text)
        for i, part in enumerate(parts):
            if i % 2 == 0:
                parts[i] = quote(part, safe=LITERAL)
                continue
            value = values[part]
            if part in plain:
                _require_plain(self.field, part, value)
            elif value in {"", ".", ".."}:
                raise wrong(self.field, f"cannot hold {value!r} as {{{part}}}")
            parts[i] = quote(value, safe="")
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class Template:
    """A JSON value in whose texts names may stand."""

    field: str
    value: JsonValue

    @classmethod
    def parse(
        cls, field: str, text: str, names: Iterable[str], *, in_members: bool = False
    ) -> Template:
        """Raise for what is no JSON, or holds an unknown name; `in_members`: also as a member."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise wrong(field, "is not valid JSON") from error
        for part in _texts(value):
            require_known(field, part, names)
            if "\0" in part:
                raise wrong(field, "must not hold the character U+0000")
        if in_members:
            for member in _member_names(value):
                require_known(field, member, names)
        for name in () if in_members else names:
            if any(f"{{{name}}}" in member for member in _member_names(value)):
                raise wrong(field, f"holds {{{name}}} in a member's name, where it is not replaced")
        return cls(field, value)

    @classmethod
    def object(cls, field: str, text: str | None, names: Iterable[str]) -> Template:
        template = cls.parse(field, text or "{}", names)
        if not isinstance(template.value, dict):
            raise wrong(field, "must be a JSON object")
        return template

    def names(self) -> set[str]:
        texts = _texts(self.value) + _member_names(self.value)
        return {name for text in texts for name in _NAME.findall(text)}

    def texts(self) -> list[str]:
        """Every text that is not a member's name."""
        return _texts(self.value)

    def render(self, table: Table, more: Mapping[str, str] | None = None) -> JsonValue:
        """The value for one table; a name of `more` becomes what that says, as a text or in one."""
        extra = dict(more or {})
        values = _values(self.names() - set(extra), table, self.field)
        return self._fill(self.value, values, extra)

    def _fill(
        self, value: JsonValue, values: Mapping[str, str], more: Mapping[str, str]
    ) -> JsonValue:
        if isinstance(value, dict):
            return {
                self._fill_text(name, values, more): self._fill(member, values, more)
                for name, member in value.items()
            }
        if isinstance(value, list):
            return [self._fill(member, values, more) for member in value]
        return self._fill_text(value, values, more) if isinstance(value, str) else value

    def _fill_text(self, text: str, values: Mapping[str, str], more: Mapping[str, str]) -> str:
        whole = _NAME.fullmatch(text)
        if whole:
            return more[whole[1]] if whole[1] in more else values[whole[1]]
        return _NAME.sub(lambda match: self._inside(match[1], values, more), text)

    def _inside(self, name: str, values: Mapping[str, str], more: Mapping[str, str]) -> str:
        if name in more:
            return more[name] + "\0"
        return _require_plain(self.field, name, values[name])


def plain(field: str, text: str, table: Table) -> str:
    """A text that is not JSON, for one table."""
    values = _values(set(_NAME.findall(text)), table, field)
    return _NAME.sub(lambda match: _require_plain(field, match[1], values[match[1]]), text)


def _texts(value: JsonValue) -> list[str]:
    if isinstance(value, dict):
        return [text for member in value.values() for text in _texts(member)]
    if isinstance(value, list):
        return [text for member in value for text in _texts(member)]
    return [value] if isinstance(value, str) else []


def _member_names(value: JsonValue) -> list[str]:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = list(value) if isinstance(value, dict) else []
    return own + [name for member in inside for name in _member_names(member)]


def require_known(field: str, text: str, names: Iterable[str]) -> None:
    """Raise when a text holds a `{name}` that means nothing there, or one that is not closed."""
    known = sorted(names)
    for name in _LIKE_A_NAME.findall(text):
        is_column = COLUMN in known and name.removeprefix("column:") not in {"", name}
        if name not in known and not is_column:
            listed = ", ".join(f"{{{name}}}" for name in known)
            hint = f"Known: {listed}" if known else "No name is known there"
            raise wrong(field, f"holds {{{name}}}, which is unknown there. {hint}")
    for name in known:
        if re.search(rf"\{{{name}(?![\w}}])", text):
            raise wrong(field, f"holds {{{name} without its }}")


def _values(names: Iterable[str], table: Table, field: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for name in names:
        match name:
            case "table":
                values[name] = table.name
            case "columns" | "parameters":
                for column in table.columns:
                    if not _IDENTIFIER.fullmatch(column):
                        what = (
                            f"names columns, and {column!r} of table {table.name} is not a plain "
                            "name. Rename it in tables[].columns"
                        )
                        raise wrong(field, what)
                mark = ":" if name == "parameters" else ""
                values[name] = ",".join(mark + column for column in table.columns)
            case "key_column" if len(table.key_columns) != 1:
                what = (
                    f"needs exactly one primary key column; table {table.name} has "
                    f"{len(table.key_columns)}"
                )
                raise wrong(field, what)
            case _:
                values[name] = ",".join(table.key_columns)
    return values


def _require_plain(field: str, name: str, value: str) -> str:
    if name in {"columns", "parameters"}:
        return value  # each column was found to be a plain name
    parts = value.split(",") if name == "key_columns" else [value]
    # -- begins a comment in SQL
    if not all(_PLAIN.fullmatch(part) and "--" not in part for part in parts):
        raise wrong(
            field,
            (
                f"puts {{{name}}} inside other text, so it must be made of letters, digits, _ . "
                f"and single -; {value!r} is not"
            ),
        )
    return value
