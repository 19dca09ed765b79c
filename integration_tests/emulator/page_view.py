"""What a visitor of the page chose to see: an opened table, filters, and which page of each list.

It lives in the address, so a link can be sent to a colleague and the refresh keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from html import escape
from typing import Any
from urllib.parse import urlencode

_PAGED = {"rows": 25, "requests": 12, "imports": 6}


@dataclass(frozen=True)
class View:
    """The members are the names in the address; 0 and "" are left out of it."""

    open: str = ""  # vendor:table whose rows are listed
    table: str = ""  # only requests and imports of this vendor:table
    status: str = ""  # good, bad, or "" for all requests
    rows: int = 0
    requests: int = 0
    imports: int = 0

    @classmethod
    def of(cls, query: Mapping[str, str]) -> View:
        """Read an address's query; what cannot be read counts as absent."""
        texts = {f.name: query.get(f.name, "") for f in fields(cls)}
        pages = {name: int(texts[name]) if texts[name].isdecimal() else 0 for name in _PAGED}
        return cls(texts["open"], texts["table"], texts["status"], **pages)

    def link(self, text: str, *, css: str = "", label: str = "", **changes: Any) -> str:
        """An anchor to the view with other choices; `text` is HTML, `label` says it to a reader."""
        chosen = {name: value for name, value in asdict(replace(self, **changes)).items() if value}
        told = f" aria-label='{escape(label, quote=True)}'" if label else ""
        shown = f" class='{css}'" if css else ""
        return f"<a href='/?{escape(urlencode(chosen), quote=True)}'{shown}{told}>{text}</a>"

    def pager(self, name: str, total: int) -> str:
        """Newer and older of a list, and what part of it is shown; nothing where all of it is."""
        size, page = _PAGED[name], int(getattr(self, name))
        if total <= size and not page:
            return ""
        first = page * size + 1
        parts = [f"<span>{first:,} to {min(total, first + size - 1):,} of {total:,}</span>"]
        if page:
            parts.insert(0, self._turn(name, page - 1, "newer", "&lsaquo; newer"))
        if first + size <= total:
            parts.append(self._turn(name, page + 1, "older", "older &rsaquo;"))
        return f"<nav class=pager id=pager-{name}>{' '.join(parts)}</nav>"

    def _turn(self, name: str, page: int, way: str, text: str) -> str:
        changes: dict[str, Any] = {name: page}
        return self.link(text, label=f"{way} {name}", **changes)

    def part(self, name: str) -> slice:
        """The part of a list, newest first, that is shown."""
        start = int(getattr(self, name)) * _PAGED[name]
        return slice(start, start + _PAGED[name])
