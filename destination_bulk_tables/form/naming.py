"""Says of a setting how it is called in JSON and where it stands in the form."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from destination_bulk_tables.model import JsonObject

_POSITION = re.compile(r"\[\d*\]")
_LEVEL = re.compile(r"\.")


@dataclass(frozen=True, slots=True)
class Naming:
    """`form`: narrowed to the chosen options. `written_as`: the old names that the user wrote."""

    form: JsonObject = field(default_factory=dict)
    written_as: Mapping[str, str] = field(default_factory=dict)

    def says(self, path: str, what: str) -> str:
        """A sentence about a setting; `path` may use the names inside the program."""
        shown, titles = self._walk(path)
        for new, old in self.written_as.items():
            if shown == new or shown.startswith((f"{new}.", f"{new}[")):
                shown = old + shown[len(new) :]
        where = f' ("{" > ".join(titles)}" in the form)' if titles else ""
        return f"{shown or 'the config'} {what}{where}."

    def _walk(self, path: str) -> tuple[str, list[str]]:
        form, shown, titles = self.form, [], []
        for step in _LEVEL.split(path) if path else []:
            name = _POSITION.sub("", step)
            fields = form.get("properties")
            fields = fields if isinstance(fields, dict) else {}
            found: JsonObject = {}
            for key, member in fields.items():
                if isinstance(member, dict) and name in {key, member.get("known_as")}:
                    found, name = member, key
                    break
            shown.append(name + step[len(_POSITION.sub("", step)) :])
            title = found.get("title")
            if isinstance(title, str) and (shown != ["provider"] or path == "provider"):
                titles.append(title)
            items = found.get("items")
            form = items if isinstance(items, dict) and "[" in step else found
        return ".".join(shown), titles
