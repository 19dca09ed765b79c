"""Says of a setting how it is called in JSON and where it stands in the form.

Inside the program a setting has one name, also in the sentences of the providers. What a user
reads has the name that stands in the config, and the title over the field.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from destination_bulk_tables.errors import DestinationError
from destination_bulk_tables.model import JsonObject

_POSITION = re.compile(r"\[\d*\]")
# a name of a setting in a sentence: not a plain word, and not a quoted name of a table or column
_NAME = re.compile(r"(?<![\w'\"./-])[a-z]\w*(?:\[\d*\])?(?:\.[a-z]\w*(?:\[\d*\])?)*(?![\w'\"/-])")
_PLAIN_NAMES = frozenset({"authentication"})
_IN_THE_FORM = '" in the form)'
_DECIDED = " (decided by the preset; where it has to differ, choose Custom HTTP API)"


def _unknown(_: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Naming:
    """`form`: narrowed to the chosen options. `written_as`: the old names that the user wrote.

    `asked_as`: the setting under which a provider asks for one that its form does not have;
    `is_decided`: whether it has decided that setting itself.
    """

    form: JsonObject = field(default_factory=dict)
    written_as: Mapping[str, str] = field(default_factory=dict)
    asked_as: Callable[[str], str | None] = _unknown
    is_decided: Callable[[str], bool | None] = _unknown

    def says(self, path: str, what: str) -> str:
        """A sentence about one setting; `path` may use the names inside the program."""
        shown, titles, is_known = self._walk(path)
        inner = path.removeprefix("provider.")
        if not is_known and inner != path and self.is_decided(inner):
            return f"{inner}{_DECIDED} {what}."
        return f"{shown or 'the config'} {what}{_where(titles)}."

    @contextlib.contextmanager
    def speaking(self) -> Iterator[None]:
        """Errors of what is done meanwhile say each setting as `in_words` does."""
        try:
            yield
        except DestinationError as error:
            error.message = self.in_words(error.message)
            raise

    def in_words(self, message: str) -> str:
        """A message in which each setting has its name in JSON, and once its title in the form."""
        if _IN_THE_FORM in message or _DECIDED in message:
            return message  # it was made by `says`
        told: set[str] = set()

        def tell(match: re.Match[str]) -> str:
            name = match[0]
            if name.isalnum() and name not in _PLAIN_NAMES:
                return name
            for path in (f"provider.{self.asked_as(name) or name}", name):
                shown, titles, is_known = self._walk(path)
                if is_known:
                    shown = shown.removeprefix("provider.")
                    where = "" if shown in told else _where(titles)
                    told.add(shown)
                    return shown + where
            bare = name.removeprefix("provider.")
            if self.is_decided(bare) and _DECIDED not in told:
                told.add(_DECIDED)
                return bare + _DECIDED
            return name

        return _NAME.sub(tell, message)

    def _walk(self, path: str) -> tuple[str, list[str], bool]:
        """The path in the user's names, the titles on the way, and whether the form has it."""
        form, shown, titles, is_known = self.form, [], [], bool(path)
        for step in path.split(".") if path else []:
            bare = _POSITION.sub("", step)
            name, found = _found(bare, form.get("properties", {}))
            is_known = is_known and bool(found)
            shown.append(name + step[len(bare) :])
            if "title" in found and (shown != ["provider"] or path == "provider"):
                titles.append(found["title"])
            form = found.get("items", found) if "[" in step else found
        return self._written(".".join(shown)), titles, is_known

    def _written(self, shown: str) -> str:
        for new, old in self.written_as.items():
            if shown == new or shown.startswith((f"{new}.", f"{new}[")):
                return old + shown[len(new) :]
        return shown


def _found(name: str, fields: JsonObject) -> tuple[str, JsonObject]:
    """A field by its name in JSON or inside the program."""
    for key, member in fields.items():
        if name in {key, member.get("known_as")}:
            return key, member
    return name, {}


def _where(titles: list[str]) -> str:
    return f' ("{" > ".join(titles)}{_IN_THE_FORM}' if titles else ""
