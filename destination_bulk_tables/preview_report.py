"""What a rehearsal found, as text and as a JSON document; headers with secrets masked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from destination_bulk_tables.catalog import StreamPlan
from destination_bulk_tables.columns import Column
from destination_bulk_tables.config import Config
from destination_bulk_tables.http import HttpRequest
from destination_bulk_tables.model import JsonObject, StreamKey
from destination_bulk_tables.provider import Limits
from destination_bulk_tables.secrecy import SECRETS

BODY_BYTES = 600
_NOT_SECRET = {"content-type", "accept", "prefer", "user-agent"}


@dataclass(slots=True)
class TablePreview:
    """What one stream would do. `held`: rows of the table now, None where that was not read."""

    plan: StreamPlan
    read: int = 0
    rejects: dict[str, list[str]] = field(default_factory=dict)  # reasons by code, some of them
    rejected: int = 0
    undeclared: set[str] = field(default_factory=set)
    writes: int = 0
    rows: int = 0
    first: HttpRequest | None = None
    before: HttpRequest | None = None  # what a replace asks before its first write
    held: int | None = None
    is_replaced: bool = False  # nothing stood against it


@dataclass(slots=True)
class Preview:
    """The whole rehearsal. `problem`: what would end the sync."""

    config: Config
    tables: dict[StreamKey, TablePreview] = field(default_factory=dict)
    problem: str | None = None
    warnings: list[str] = field(default_factory=list)
    has_messages: bool = False
    is_part: bool = False  # of some stream only the first records were taken


def as_json(preview: Preview, now: float, body_bytes: int | None = BODY_BYTES) -> JsonObject:
    """The whole preview: `would_fail`, `problem`, `warnings`, and an object per stream."""
    return {
        "provider": preview.config.provider.title,
        "address": preview.config.provider.base_url,
        "would_fail": preview.problem is not None,
        "problem": None if preview.problem is None else SECRETS.mask(preview.problem),
        "warnings": list(preview.warnings),
        "streams": [_table(preview, table, now, body_bytes) for table in preview.tables.values()],
    }


def _table(preview: Preview, table: TablePreview, now: float, body_bytes: int | None) -> JsonObject:
    config, plan = preview.config, table.plan
    columns = [
        {
            "field": column.field,
            "column": column.name,
            "type": column.declared,
            "conversion": ", ".join(_conversions(column, config)),
        }
        for column in plan.columns
    ]
    for extra in plan.extras:
        what = "time of emission" if extra.token is None else "the same for each row"
        columns.append({"field": "-", "column": extra.name, "type": "-", "conversion": what})
    said: JsonObject = {
        "stream": str(plan.key),
        "table": plan.table.name,
        "mode": plan.table.mode,
        "replaces": plan.table.replace,
        "key": list(plan.key_fields),
        "cursor": plan.cursor_field,
        "columns": columns,
        "rows_held_now": table.held,
    }
    if not preview.has_messages:
        return said
    requests = _requests(preview, table)
    rejects = [
        {"code": code, "reasons": [SECRETS.mask(reason) for reason in reasons]}
        for code, reasons in sorted(table.rejects.items())
    ]
    return said | {
        "undeclared_fields": sorted(table.undeclared),
        "rows_read": table.read,
        "rows_to_send": table.rows,
        "rows_rejected": table.rejected,
        "rejects": rejects,
        "requests": requests,
        "least_seconds": _least_seconds(requests, config.provider.limits),
        "replace": _replace(table),
        "first_request": _request(preview, table.first, now, body_bytes),
        "before_it": _request(preview, table.before, now, body_bytes),
    }


def _conversions(column: Column, config: Config) -> Iterator[str]:
    """What is done to values of this column, in the words of the settings."""
    rules = config.provider.rules
    if column.is_timestamp:
        yield "date-time" + ("" if rules.timestamps == "as_is" else f" as {rules.timestamps}")
    elif column.is_text:
        yield "text"
    elif column.is_integer:
        yield "integer"
    elif not column.is_boolean:
        yield "as it comes"
        yield f"objects and arrays: {config.nested_values}"
    if column.is_boolean or rules.booleans != "json":
        yield "booleans" + ("" if rules.booleans == "json" else f" as {rules.booleans}")
    if column.mask:
        yield f"masked: {column.mask}"
    if column.may_be_decimal and rules.decimals != "number":
        yield f"decimals as {rules.decimals}"


def _requests(preview: Preview, table: TablePreview) -> int:
    """At least: a keyed write that deletes first takes two, a lost answer more."""
    plan, rules = table.plan.table, preview.config.provider.rules
    deletes_first = rules.deletes and plan.mode == "dedup" and not plan.replace
    return table.writes * (2 if deletes_first else 1)


def _least_seconds(requests: int, limits: Limits) -> float:
    """What the rate windows alone make of that many requests."""
    return max((math.floor(max(0, requests - 1) / n) * s for n, s in limits.windows), default=0.0)


def _replace(table: TablePreview) -> str | None:
    if not table.plan.table.replace:
        return None
    held = "its rows" if table.held is None else f"{table.held} rows"
    if not table.is_replaced:
        return f"refused; the table keeps {held}"
    return f"{held} would be replaced by {table.rows}"


def _request(
    preview: Preview, request: HttpRequest | None, now: float, body_bytes: int | None
) -> JsonObject | None:
    if request is None:
        return None
    provider = preview.config.provider
    headers: Mapping[str, str] = {
        **({"Content-Type": request.content_type} if request.body is not None else {}),
        **provider.headers(now),
        **request.headers,
    }
    body = request.content[:body_bytes].decode("utf-8", "replace")
    return {
        "method": request.method,
        "url": SECRETS.mask(provider.base_url + request.path),
        "headers": {
            name: SECRETS.mask(value) if name.lower() in _NOT_SECRET else "****"
            for name, value in headers.items()
        },
        "body_bytes": len(request.body or b""),
        "body": SECRETS.mask(body),
    }


def as_text(report: JsonObject) -> str:
    lines = [f"{report['provider']} at {report['address']}"] if "provider" in report else []
    for stream in report.get("streams", ()):
        lines += ["", *_stream_lines(stream)]
    if report.get("warnings"):
        lines += ["", "Warnings:", *(f"  {warning}" for warning in report["warnings"])]
    good = "A sync of this input would be sent as above; nothing was written."
    lines += ["", f"A sync would fail: {report['problem']}" if report["would_fail"] else good]
    return "\n".join(lines) + "\n"


def _stream_lines(stream: JsonObject) -> Iterator[str]:
    adds = "appends to" if stream["mode"] == "append" else "updates"
    way = "replaces" if stream["replaces"] else adds
    yield f"Stream {stream['stream']} {way} table {stream['table']}"
    if stream["key"]:
        yield f"  key: {', '.join(stream['key'])}; newest by: {stream['cursor'] or 'arrival'}"
    held = stream["rows_held_now"]
    yield f"  the table holds now: {'not known' if held is None else f'{held} rows'}"
    width = max((len(column["field"]) for column in stream["columns"]), default=0)
    yield "  field -> column (type: conversion)"
    for column in stream["columns"]:
        about = f"{column['type']}: {column['conversion']}"
        yield f"    {column['field']:<{width}} -> {column['column']} ({about})"
    if "rows_read" not in stream:
        return
    if stream["undeclared_fields"]:
        yield f"  not in the schema, not sent: {', '.join(stream['undeclared_fields'])}"
    yield (
        f"  rows: {stream['rows_read']} read, {stream['rows_to_send']} to send, "
        f"{stream['rows_rejected']} rejected"
    )
    for reject in stream["rejects"]:
        yield f"    {reject['code']}: {'; '.join(reject['reasons'])}"
    yield (
        f"  requests: at least {stream['requests']}, for which the rate limit wants at least "
        f"{stream['least_seconds']:.0f} s"
    )
    if stream["replace"]:
        yield f"  replace: {stream['replace']}"
    for name, title in (("before_it", "before it"), ("first_request", "first request")):
        request = stream[name]
        if request:
            yield f"  {title}: {request['method']} {request['url']}"
            yield from (f"    {n}: {v}" for n, v in request["headers"].items())
            more = "" if len(request["body"]) >= request["body_bytes"] else " ..."
            yield f"    ({request['body_bytes']} bytes) {request['body']}{more}"
