"""The admin API under `/_admin/`, for tests of a subprocess and people with curl.

GET  settings | summary | requests | imports | tables | count | rows | checksum   (?vendor=&table=)
POST settings {switch: value} | faults [..] | fault {..}, one more | tables {vendor, name, columns,
id_field, definition} | apps {client_id, secret, ..} | advance {seconds} | reset | down {seconds}
It is not a vendor route: its requests are neither logged nor hit by faults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import orjson

from .world import Vendor, World

_WHOLE: dict[str, Callable[[World], object]] = {
    "settings": lambda world: asdict(world.settings),
    "summary": World.summary,
    "requests": lambda world: [asdict(request) for request in world.requests],
    "imports": lambda world: world.qobra.imports(),
    "tables": lambda world: world.summary()["tables"],
}


def admin_answer(
    world: World, method: str, name: str, query: Mapping[str, str], body: bytes
) -> tuple[int, bytes]:
    """Answer one admin request with a status and a JSON text; 400 says what is wrong with it."""
    try:
        if method == "GET":
            return 200, _looked_up(world, name, query)
        _changed(world, name, orjson.loads(body) if body else {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return 400, orjson.dumps({"error": f"{type(error).__name__}: {error}"})
    return 200, b'{"ok":true}'


def _looked_up(world: World, name: str, query: Mapping[str, str]) -> bytes:
    if name in _WHOLE:
        return orjson.dumps(_WHOLE[name](world))
    vendor: Vendor = "kore" if query["vendor"] == "kore" else "qobra"
    table = query["table"]
    if name == "rows":
        return b"[" + b",".join(world.raw_rows(vendor, table)) + b"]"
    found: dict[str, object] = {"count": world.count(vendor, table)}
    if name == "checksum":
        found["checksum"] = world.checksum(vendor, table)
    elif name != "count":
        raise ValueError(f"nothing is known by the name {name}")
    return orjson.dumps(found)


def _changed(world: World, name: str, given: Any) -> None:
    match name:
        case "settings":
            world.set(**given)
        case "faults":
            world.faults(given)
        case "fault":
            world.add_fault(given)
        case "tables":
            world.create_table(**given)
        case "apps":
            world.add_app(**given)
        case "advance":
            world.advance(float(given["seconds"]))
        case "reset":
            world.reset()
        case _:
            raise ValueError(f"nothing is known by the name {name}")
