"""The page at `/`: what a sync did, at a glance, and on a closer look.

Server-rendered; a few lines of script replace its changing part every second and send the switches
and faults that a person sets to the admin API. No text of a row or request reaches the HTML
unescaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from html import escape
from typing import Any

from .clock import iso
from .page_controls import controls, in_force
from .page_style import SCRIPT, STYLE
from .page_view import View
from .routes import route_of
from .values import SYSTEM_FIELDS
from .world import LoggedRequest, Vendor, World

_LATEST_ROWS = 4
_COLUMNS = 5
_IMPORTS = 600  # how far back they can be paged
_NAMES: dict[Vendor, str] = {"qobra": "Qobra", "kore": "Kore.ai"}


def page_html(world: World, query: Mapping[str, str], *, whole: bool) -> str:
    """Render the page for an address's query, or only the part that changes."""
    with world.lock:
        body = _body(world, View.of(query))
        settings = controls(world.settings) if whole else ""
    if not whole:
        return body
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>Data tables emulator</title><style>{STYLE}</style></head>"
        f"<body><main><div id=page>{body}</div>{settings}</main>"
        f"<script>{SCRIPT}</script></body></html>"
    )


def _body(world: World, view: View) -> str:
    tables = sorted(world.tables())
    named = {f"{vendor}:{name}": (vendor, name) for vendor, name in tables}
    opened = _opened(world, view, *named[view.open]) if view.open in named else ""
    vendors = "".join(
        _vendor(world, view, vendor, [name for owner, name in tables if owner == vendor])
        for vendor in _NAMES
    )
    return (
        _head(world)
        + opened
        + f"<div class=grid>{vendors}</div>"
        + f"<div class='grid lower'>{_log(world.requests, view, list(named))}"
        + f"<div>{_imports(world, view)}{in_force(world)}</div></div>"
    )


def _head(world: World) -> str:
    rows = sum(world.count(vendor, table) for vendor, table in world.tables())
    requests = world.requests
    refused = sum(not _is_good(request) for request in requests)
    tiles = [
        ("rows stored", rows),
        ("requests", len(requests)),
        ("not answered with 2xx", refused),
        ("imports", len(world.qobra.loads)),
    ]
    shown = "".join(f"<div class=tile><b>{n:,}</b><span>{name}</span></div>" for name, n in tiles)
    return (
        "<header><div><h1>Data tables emulator</h1>"
        f"<p>Qobra and Kore.ai on this machine &middot; {iso(world.clock.now())[:19]}Z</p></div>"
        f"<div class=tiles>{shown}</div></header>"
    )


# --- what is stored


def _vendor(world: World, view: View, vendor: Vendor, tables: list[str]) -> str:
    shown = "".join(_table(world, view, vendor, name) for name in tables)
    empty = "<p class=empty>No table yet.</p>" if not tables else ""
    return f"<section class={vendor}><h2>{_NAMES[vendor]}</h2>{shown}{empty}</section>"


def _table(world: World, view: View, vendor: Vendor, name: str) -> str:
    link = view.link(escape(name), open=f"{vendor}:{name}", rows=0)
    title = f"<h3>{link}</h3><span class=count>{_rows_of(world.count(vendor, name))}</span>"
    rows = _grid(world.latest_rows(vendor, name, _LATEST_ROWS), _COLUMNS)
    return f"<article><div class=title>{title}</div>{rows}</article>"


def _opened(world: World, view: View, vendor: Vendor, name: str) -> str:
    """One table with all its columns, a page of rows at a time, the newest first."""
    count = world.count(vendor, name)
    part = view.part("rows")
    rows = world.latest_rows(vendor, name, part.stop)[part]
    close = view.link("close", open="", rows=0, label="close the table")
    title = (
        f"<div class=title><h3>{_NAMES[vendor]} &middot; {escape(name)}</h3>"
        f"<span class=count>{_rows_of(count)} &middot; {close}</span></div>"
    )
    return (
        f"<section class={vendor}><article id=opened>{title}{_grid(rows, None)}"
        f"{view.pager('rows', count)}</article></section>"
    )


def _rows_of(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"


def _grid(rows: list[dict[str, Any]], most: int | None) -> str:
    if not rows:
        return "<p class=empty>Empty.</p>"
    names = dict.fromkeys(key for row in rows for key in row)
    columns = [column for column in names if column not in SYSTEM_FIELDS]
    shown = columns[:most]
    hidden = len(columns) - len(shown)
    more = f"<th class=more>+{hidden}" if hidden else ""
    head = "".join(_heading(column, rows) for column in shown) + more
    filler = "<td>" if hidden else ""
    lines = "".join(
        "<tr>" + "".join(_cell(row.get(column)) for column in shown) + filler for row in rows
    )
    return f"<div class=scroll><table><tr>{head}{lines}</table></div>"


def _heading(column: str, rows: list[dict[str, Any]]) -> str:
    number = any(_is_number(row.get(column)) for row in rows)
    return f"<th{' class=number' if number else ''}>{escape(column)}"


def _cell(value: Any) -> str:
    if value is None:
        return "<td class=null>null"
    text = escape(str(value)[:200], quote=True)
    return f'<td{" class=number" if _is_number(value) else ""} title="{text}">{text[:200]}'


def _is_number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


# --- what was asked


def _section(title: str, content: str, tools: str = "") -> str:
    return (
        f"<section><h2>{title}</h2>{tools}"
        f"<article><div class=scroll>{content}</div></article></section>"
    )


def _is_good(request: LoggedRequest) -> bool:
    return 200 <= request.status < 300


def _filters(view: View, tables: list[str]) -> str:
    def choice(text: str, *, chosen: bool, **changes: Any) -> str:
        return view.link(text, css="chip chosen" if chosen else "chip", **changes)

    statuses = "".join(
        choice(text, chosen=view.status == status, status=status, requests=0)
        for status, text in (("", "all"), ("good", "2xx"), ("bad", "not 2xx"))
    )
    named = "".join(
        choice(
            escape(name or "every table"),
            chosen=view.table == name,
            table=name,
            requests=0,
            imports=0,
        )
        for name in (["", *tables] if tables else [])
    )
    return f"<nav class=filters id=filters>{statuses}<i></i>{named}</nav>"


def _log(requests: list[LoggedRequest], view: View, tables: list[str]) -> str:
    chosen = [
        request
        for request in reversed(requests)
        if (not view.status or _is_good(request) is (view.status == "good"))
        and (not view.table or view.table == _table_of(request))
    ]
    tools = _filters(view, tables)
    if not chosen:
        return _section("Requests", "<p class=empty>No request.", tools)
    head = (
        "<tr><th class='number wide'>#<th class=wide>time<th>request<th class=number>rows"
        "<th class='number wide'>bytes<th>status<th class=number>ms"
    )
    lines = "".join(map(_request, chosen[view.part("requests")]))
    content = f"<table class=log id=log>{head}{lines}</table>{view.pager('requests', len(chosen))}"
    return _section("Requests", content, tools)


def _table_of(request: LoggedRequest) -> str:
    route = route_of(request.method, request.path)
    return f"{route.vendor}:{route.subject}"


def _request(request: LoggedRequest) -> str:
    path = escape(request.path + (f"?{request.query}" if request.query else ""), quote=True)
    status = str(request.status) if request.status else "cut"
    fault = f" <span class='chip fault'>{escape(request.fault)}</span>" if request.fault else ""
    headers = "".join(
        f"<br>{escape(name)}: {escape(value)}" for name, value in request.headers.items()
    )
    applied = "applied" if request.applied else "not applied"
    details = (
        f'<details id=r{request.number}><summary title="{path}"><b>{escape(request.method)}</b> '
        f"{path}</summary><p>{path}<br>{request.bytes:,} bytes, {request.rows:,} rows, {applied}"
        f"{headers}</p></details>"
    )
    return (
        f"<tr><td class='number wide'>{request.number}<td class='dim wide'>"
        f"{iso(request.time)[11:23]}<td class=path>{details}"
        f"<td class=number>{request.rows:,}<td class='number wide'>{request.bytes:,}"
        f"<td><span class='chip {'good' if _is_good(request) else 'bad'}'>{status}</span>{fault}"
        f"<td class=number>{request.duration_ms:.0f}"
    )


def _imports(world: World, view: View) -> str:
    key = view.table.removeprefix("qobra:")
    imports = [
        (entry, details)
        for entry in reversed(world.imports(_IMPORTS))
        if (details := [d for d in entry["data_tables_details"] if key in {"", _key(d)}])
    ]
    if not imports:
        return _section("Qobra imports", "<p class=empty>No import.")
    shown = imports[view.part("imports")]
    lines = "".join(_import(entry["id"], detail) for entry, details in shown for detail in details)
    head = "<tr><th>import<th>table<th>status<th class=number>records"
    pager = view.pager("imports", len(imports))
    return _section("Qobra imports", f"<table>{head}{lines}</table>{pager}")


def _key(detail: Mapping[str, Any]) -> str:
    return str(detail["data_table_key"])


def _import(import_id: str, detail: dict[str, Any]) -> str:
    number, error = detail["number_of_records"], detail["error"]
    kind = "bad" if error else detail["status"]
    status = detail["status"] + (f" &middot; {escape(error['title'])}" if error else "")
    return (
        f"<tr><td class=dim title='{escape(import_id, quote=True)}'>{escape(import_id[-8:])}"
        f"<td>{escape(_key(detail))}<td><span class='chip {kind}'>{status}</span>"
        f"<td class=number>{'&ndash;' if number is None else format(number, ',')}"
    )
