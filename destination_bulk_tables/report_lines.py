"""A rejected row as a line of the report: the RECORD message as it was read, and why it is here.

`write` and `replay` take such a line again. What was decided about it stands in
`record.meta.rejection`, where Airbyte's protocol lets a message hold more than it names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from destination_bulk_tables.model import UNDECODABLE, RejectedRow
from destination_bulk_tables.secrecy import SECRETS

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What all rows of one stream have in common: `fields` by their columns.

    `is_hashed`: a column holds hashes, so a row as it was sent must not be sent like a record.
    """

    table: str
    attempt: int
    fields: Mapping[str, str]
    is_hashed: bool = False


def line_of(row: RejectedRow, common: Circumstances, now: float) -> bytes:
    """One line. Where the message cannot be told any more, its data is the row as it was sent."""
    record = _as_read(row)
    rejection: dict[str, object] = {
        "stage": row.stage,
        "code": row.code,
        "reason": SECRETS.mask(row.reason, is_cut=True),
        "table": common.table,
        "attempt": common.attempt,
        "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
    }
    if record is None:
        record = _as_sent(row, common, now)
        rejection["is_as_sent"] = True
    meta: dict[str, object] = {}
    with contextlib.suppress(*UNDECODABLE):  # null, or nothing that means something
        meta.update(_members(record.get("meta", msgspec.Raw(b"{}"))))
    meta["rejection"] = rejection
    message = {"type": "RECORD", "record": {**record, "meta": meta}}
    return msgspec.json.encode(message) + b"\n"


def _as_read(row: RejectedRow) -> dict[str, msgspec.Raw] | None:
    """The members of the record in the line that brought it."""
    if not row.original:
        return None
    try:
        record = _members(_members(row.original)["record"])
    except (*UNDECODABLE, KeyError):
        return None
    return record if {"stream", "data"} <= record.keys() else None


def _as_sent(row: RejectedRow, common: Circumstances, now: float) -> dict[str, msgspec.Raw]:
    """Under the names of its fields; what is no object is a text, which is rejected again."""
    data: object = row.row.decode("utf-8", "replace")
    if not common.is_hashed:
        with contextlib.suppress(*UNDECODABLE):
            members = _members(row.row).items()
            data = {common.fields.get(name, name): value for name, value in members}
    record: dict[str, object] = {"stream": row.stream.name, "data": data}
    record |= {} if row.stream.namespace is None else {"namespace": row.stream.namespace}
    record["emitted_at"] = int(now * 1000)
    return _members(msgspec.json.encode(record))
