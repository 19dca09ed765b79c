"""Which vendor route a request means, and the model's answer to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from .kore import refusal
from .reply import Refused, Reply, as_json
from .world import World

_KORE_KINDS = {"POST": "insert", "PUT": "update", "DELETE": "delete"}
_RIGHTS = {"bulk": "w", "insert": "w", "update": "rw", "delete": "rd", "query": "r"}


@dataclass(frozen=True)
class Route:
    """A vendor's operation; `subject` is a table or an import id."""

    vendor: str
    kind: str
    subject: str = ""


def route_of(method: str, raw_path: str) -> Route:
    """Name the operation; unknown paths get kind `unknown`, wrong verbs `wrong_verb`."""
    match (method, *(unquote(segment) for segment in raw_path.strip("/").split("/"))):
        case ("POST", "v1", "tables", table, "records", "bulk"):
            return Route("qobra", "bulk", table)
        case ("GET", "v1", "imports", import_id):
            return Route("qobra", "import", import_id)
        case ("GET", "v2", "data-structures"):
            return Route("qobra", "structures")
        case (_, "v1" | "v2", *_):
            return Route("qobra", "unknown")
        case ("POST", "api", "public", "tables", table, ("bulk" | "query") as kind):
            return Route("kore", kind, table)
        case (("POST" | "PUT" | "DELETE"), "api", "public", "tables", table):
            return Route("kore", _KORE_KINDS[method], table)
        case (_, "api", "public", "tables", *_):
            return Route("kore", "wrong_verb")
        case (_, "api", *_):
            return Route("kore", "unknown")
        case _:
            return Route("none", "unknown")


def answer(
    world: World, route: Route, headers: Mapping[str, str], query: Mapping[str, str], body: bytes
) -> Reply:
    """Let the model answer; a refusal is an answer too."""
    with world.lock:
        try:
            if route.vendor == "qobra":
                return _qobra(world, route, headers, query, body)
            if route.vendor == "kore":
                return _kore(world, route, headers, query, body)
        except Refused as refused:
            return refused.reply
    return as_json(404, {"message": "Not found"})


def _qobra(
    world: World, route: Route, headers: Mapping[str, str], query: Mapping[str, str], body: bytes
) -> Reply:
    world.qobra.authorize(headers.get("X-API-Key"))
    match route.kind:
        case "bulk":
            return world.qobra.post_bulk(route.subject, query, body)
        case "import":
            return world.qobra.get_import(route.subject)
        case "structures":
            return world.qobra.data_structures()
        case _:
            return as_json(404, {"message": "Not found"})


def _kore(
    world: World, route: Route, headers: Mapping[str, str], query: Mapping[str, str], body: bytes
) -> Reply:
    if route.kind not in _RIGHTS:
        status, text = (
            (405, "Method Not Allowed") if route.kind == "wrong_verb" else (404, "Not Found")
        )
        raise refusal(status, text)
    table = world.kore.admit(headers.get("auth"), route.subject, _RIGHTS[route.kind])
    match route.kind:
        case "bulk":
            return world.kore.post_bulk(table, body)
        case "insert":
            return world.kore.post_row(table, body)
        case "update":
            return world.kore.put(table, body)
        case "delete":
            return world.kore.delete(table, body)
        case _:
            return world.kore.query(table, query, body)
