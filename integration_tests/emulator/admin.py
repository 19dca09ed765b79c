"""The admin API under `/_admin/`: what tests of a subprocess and people with curl use instead of direct access.

GET  settings | summary | requests | imports | tables | count | rows | checksum   (?vendor=&table=)
POST settings {switch: value} | faults [..] | tables {vendor, name, columns, id_field, definition} |
apps {client_id, secret, ..} | advance {seconds} | reset | down {seconds} It is not a vendor route:
its requests are neither logged nor hit by faults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson

from .world import Vendor, World


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
    match name:
        case "settings":
            return orjson.dumps(asdict(world.settings))
        case "summary":
            return orjson.dumps(world.summary())
        case "requests":
            return orjson.dumps([asdict(request) for request in world.requests])
        case "imports":
            return orjson.dumps(world.imports())
        case "tables":
            return orjson.dumps(world.summary()["tables"])
    vendor: Vendor = "kore" if query["vendor"] == "kore" else "qobra"
    table = query["table"]
    match name:
        case "count":
            return orjson.dumps({"count": world.count(vendor, table)})
        case "checksum":
            return orjson.dumps(
                {"count": world.count(vendor, table), "checksum": world.checksum(vendor, table)}
            )
        case "rows":
            return b"[" + b",".join(world.raw_rows(vendor, table)) + b"]"
    raise ValueError(f"nothing is known by the name {name}")


def _changed(world: World, name: str, given: Any) -> None:
    match name:
        case "settings":
            world.set(**given)
        case "faults":
            world.faults(given)
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
