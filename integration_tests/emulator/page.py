"""The page at `/`: what a sync did, at a glance.

Server-rendered; a few lines of script replace its body every second.

It shows and does not change anything, and no text of a row or request reaches the HTML unescaped.
"""

from __future__ import annotations

from decimal import Decimal
from html import escape
from typing import Any

from .clock import iso
from .page_style import SCRIPT, STYLE
from .values import SYSTEM_FIELDS
from .world import LoggedRequest, Vendor, World

_LATEST_ROWS = 4
_COLUMNS = 6
_REQUESTS = 12
_IMPORTS = 6
_NAMES: dict[Vendor, str] = {"qobra": "Qobra", "kore": "Kore.ai"}


def page_html(world: World, *, whole: bool) -> str:
    """Render the page, or only the part that changes."""
    with world.lock:
        body = _body(world)
    if not whole:
        return body
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>Data tables emulator</title><style>{STYLE}</style></head>"
        f"<body><main id=page>{body}</main><script>{SCRIPT}</script></body></html>"
    )


def _body(world: World) -> str:
    requests = world.requests
    imports = world.imports(_IMPORTS)
    vendors = "".join(_vendor(world, vendor) for vendor in _NAMES)
    return (
        _head(world, requests, len(world.qobra.loads))
        + f"<div class=grid>{vendors}</div>"
        + f"<div class='grid lower'>{_log(requests)}"
        + f"<div>{_imports(imports)}{_switches(world)}</div></div>"
    )


def _head(world: World, requests: list[LoggedRequest], imports: int) -> str:
    rows = sum(world.count(vendor, table) for vendor, table in world.tables())
    refused = sum(request.status >= 400 or request.status == 0 for request in requests)
    tiles = [("rows stored", rows), ("requests", len(requests)), ("not answered with 2xx", refused)]
    shown = "".join(
        f"<div class=tile><b>{number:,}</b><span>{name}</span></div>"
        for name, number in [*tiles, ("imports", imports)]
    )
    return (
        "<header><div><h1>Data tables emulator</h1>"
        f"<p>Qobra and Kore.ai on this machine &middot; {iso(world.clock.now())[:19]}Z</p></div>"
        f"<div class=tiles>{shown}</div></header>"
    )


def _vendor(world: World, vendor: Vendor) -> str:
    tables = [name for owner, name in world.tables() if owner == vendor]
    shown = "".join(_table(world, vendor, name) for name in tables)
    empty = "<p class=empty>No table yet.</p>" if not tables else ""
    return f"<section class={vendor}><h2>{_NAMES[vendor]}</h2>{shown}{empty}</section>"


def _table(world: World, vendor: Vendor, name: str) -> str:
    count = world.count(vendor, name)
    rows = world.latest_rows(vendor, name, _LATEST_ROWS)
    title = (
        f"<div class=title><h3>{escape(name)}</h3>"
        f"<span class=count>{count:,} {'row' if count == 1 else 'rows'}</span></div>"
    )
    if not rows:
        return f"<article>{title}<p class=empty>Empty.</p></article>"
    columns = [column for column in _seen(rows) if column not in SYSTEM_FIELDS]
    shown, hidden = columns[:_COLUMNS], len(columns) - _COLUMNS
    more = f"<th class=more>+{hidden}" if hidden > 0 else ""
    head = "".join(_heading(column, rows) for column in shown) + more
    filler = "<td>" if hidden > 0 else ""
    lines = "".join(
        "<tr>" + "".join(_cell(row.get(column)) for column in shown) + filler for row in rows
    )
    table = f"<div class=scroll><table><tr>{head}{lines}</table></div>"
    return f"<article>{title}{table}</article>"


def _seen(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _heading(column: str, rows: list[dict[str, Any]]) -> str:
    number = any(_is_number(row.get(column)) for row in rows)
    return f"<th{' class=number' if number else ''}>{escape(column)}"


def _cell(value: Any) -> str:
    if value is None:
        return "<td class=null>null"
    return f"<td{' class=number' if _is_number(value) else ''}>{escape(str(value)[:60])}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _section(title: str, content: str, kind: str = "scroll") -> str:
    return f"<section><h2>{title}</h2><article class={kind}>{content}</article></section>"


def _log(requests: list[LoggedRequest]) -> str:
    if not requests:
        return _section("Latest requests", "<p class=empty>No request yet.")
    head = (
        "<tr><th class=number>#<th>time<th>request<th class=number>rows"
        "<th class=number>bytes<th>status<th class=number>ms"
    )
    lines = "".join(_request(request) for request in reversed(requests[-_REQUESTS:]))
    return _section("Latest requests", f"<table class=log>{head}{lines}</table>")


def _request(request: LoggedRequest) -> str:
    path = escape(request.path + (f"?{request.query}" if request.query else ""), quote=True)
    kind = "good" if 200 <= request.status < 300 else "bad"
    status = str(request.status) if request.status else "cut"
    fault = f" <span class='chip fault'>{escape(request.fault)}</span>" if request.fault else ""
    return (
        f"<tr><td class=number>{request.number}<td class=dim>{iso(request.time)[11:23]}"
        f'<td title="{path}"><b>{escape(request.method)}</b> {path}'
        f"<td class=number>{request.rows:,}<td class=number>{request.bytes:,}"
        f"<td><span class='chip {kind}'>{status}</span>{fault}"
        f"<td class=number>{request.duration_ms:.0f}"
    )


def _imports(imports: list[dict[str, Any]]) -> str:
    if not imports:
        return _section("Qobra imports", "<p class=empty>No import yet.")
    lines = "".join(
        _import(entry["id"], detail)
        for entry in reversed(imports)
        for detail in entry["data_tables_details"]
    )
    head = "<tr><th>import<th>table<th>status<th class=number>records"
    return _section("Qobra imports", f"<table>{head}{lines}</table>")


def _import(import_id: str, detail: dict[str, Any]) -> str:
    number, error = detail["number_of_records"], detail["error"]
    kind = "bad" if error else detail["status"]
    status = detail["status"] + (f" &middot; {escape(error['title'])}" if error else "")
    return (
        f"<tr><td class=dim>{import_id[-8:]}<td>{escape(detail['data_table_key'])}"
        f"<td><span class='chip {kind}'>{status}</span>"
        f"<td class=number>{'&ndash;' if number is None else format(number, ',')}"
    )


def _switches(world: World) -> str:
    chips = [
        f"<span class=chip>{escape(name)} = {escape(str(value))}</span>"
        for name, value in world.settings.not_default().items()
    ]
    chips += [
        f"<span class='chip fault'>{escape(fault.kind)} at {fault.at}:"
        f" {fault.taken} of {fault.count or 'all'}</span>"
        for fault in world.script.faults
    ]
    shown = "".join(chips) or "<p class=empty>All switches at their defaults, no faults."
    return _section("Switches and faults in force", shown, kind="chips")
