"""What a vendor model answers, free of any HTTP library: a `Reply`, or a `Refused` with one."""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson


@dataclass
class Reply:
    """Status, JSON body and headers of one answer, with the number of rows the request held."""

    status: int
    body: bytes
    rows: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class Refused(Exception):
    """A request the vendor turns down."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def as_json(status: int, payload: object, rows: int = 0) -> Reply:
    """Answer with a JSON payload."""
    return Reply(status, orjson.dumps(payload), rows)
