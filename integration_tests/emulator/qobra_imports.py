"""One Qobra import: what was sent to it, and how `GET /v1/imports/{import_id}` shows it.

Source: https://docs.qobra.co/api_reference/v1/endpoints/imports/fetch_import (read 2026-11-22)
There is no failed status: a failed import is finished, with an error in its table's entry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .clock import iso
from .settings import Settings


@dataclass
class QobraTable:
    """A table as it was set up in the app; without columns it takes every key."""

    key: str
    columns: dict[str, str]
    id_field: str = "id"
    seen: set[str] = field(default_factory=set)

    @property
    def store(self) -> str:
        """Return the name of its storage table."""
        return f"qobra:{self.key}"


@dataclass
class Part:
    """What one request brought to an import."""

    import_id: str
    table: QobraTable
    texts: list[bytes]
    rows: list[dict[str, Any]]
    count: int | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)
    description: str | None = None


@dataclass
class Load:
    """One import as the background worker sees it; it may be known under several import ids."""

    created: float
    launch: float
    duration: float
    replaces: bool
    debounced: bool
    parts: list[Part] = field(default_factory=list)
    applied: bool = False

    @property
    def finish(self) -> float:
        """Return when it ends."""
        return self.launch + self.duration

    def status(self, now: float) -> str:
        """Return the documented status word."""
        if self.applied:
            return "finished"
        return "started" if now >= self.launch else "scheduled"


def shown(import_id: str, load: Load, settings: Settings, now: float) -> dict[str, Any]:
    """Build the documented import object."""
    status = load.status(now)
    own = [part for part in load.parts if part.import_id == import_id]
    parts = load.parts if settings.qobra_part_count == "whole" else own
    groups: list[list[Part]] = []
    for part in parts:
        same = [group for group in groups if group[0].table.key == part.table.key]
        if same and settings.qobra_entries == "per_table":
            same[0].append(part)
        else:
            groups.append([part])
    entries = [_entry(group, status) for group in groups]
    if settings.qobra_foreign_entry != "none":
        entries.insert(0, _foreign(status, failed=settings.qobra_foreign_entry == "failed"))
    model: dict[str, Any] = {
        "id": import_id,
        "created_at": iso(load.created),
        "launched_at": None if status == "scheduled" else iso(load.launch),
        "finished_at": iso(load.finish) if status == "finished" else None,
        "status": status,
        "progress": _progress(status),
        "data_tables_details": entries,
    }
    if settings.qobra_error_flag != "absent":
        model[settings.qobra_error_flag] = any(entry["error"] for entry in entries)
    return model


def _entry(group: list[Part], status: str) -> dict[str, Any]:
    """Show the parts of one table as one entry."""
    described = [part.description for part in group if part.description]
    counts = [part.count for part in group if part.count is not None]
    error = None
    if described:
        details = [detail for part in group for detail in part.errors]
        error = {
            "title": "ParsingError" if details else "InternalError",
            "description": described[0],
            "parsing_error_details": details,
        }
    number = sum(counts) if len(counts) == len(group) and status == "finished" else None
    return _detail("api", group[0].table.key, status, number, error)


def _foreign(status: str, *, failed: bool) -> dict[str, Any]:
    """Show the entry of somebody else's integration."""
    error = {
        "title": "ParsingError",
        "description": "Can't parse 'AAAAA' as float for user attribute amount",
        "parsing_error_details": [
            {
                "line_number": 1,
                "row": {"id": "f1"},
                "details": "ValueError: could not convert string to float: 'AAAAA'",
            }
        ],
    }
    done = status == "finished"
    number = None if failed or not done else 7
    return _detail(
        "integration", "another_table", status, number, error if failed and done else None
    )


def _detail(kind: str, key: str, status: str, number: int | None, error: object) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "data_table_key": key,
        "progress": _progress(status),
        "number_of_records": number,
        "error": error,
    }


def _progress(status: str) -> int:
    return {"scheduled": 0, "started": 50, "finished": 100}[status]
