"""Faults by script: which request gets which fault.

A fault names requests by number (1-based, counted over all vendor requests, or only over those that
`match` its regular expression on `METHOD /path?query`), and how many of them. Faults are looked at
in order; the first that applies is taken. This module only decides; `server.py` and `broken.py`
carry the fault out. An example: the third bulk POST is applied and not answered, the fifth and the
sixth get a 429: `[{"kind": "cut_after", "match": "POST .*/bulk", "at": 3},
{"kind": "status", "status": 429, "retry_after": 2, "match": "POST .*/bulk", "at": 5, "count": 2}]`
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

Kind = Literal[
    "refuse",  # RST as soon as a connection is accepted; with `match`, once the request is read
    "down",  # the port is not listening for `seconds`
    "cut_before",  # RST after the request was read, nothing applied
    "cut_after",  # RST without an answer, applied
    "stall_before",  # `seconds` of silence, then applied and answered; null = for ever, not applied
    "stall_after",  # applied, `seconds` of silence, then answered; null = never answered
    "trickle",  # applied, the answer's body comes in ten pieces over `seconds`
    "half_body",  # applied, half of the answer's body, then RST
    "status",  # answer with `status`, `body`, `headers`, `retry_after`; `applied` or not
    "redirect",  # `status` 302 or 307 to `location`, nothing applied
    "invalid_json",  # applied, 200 with a body that is not JSON
    "wrong_count",  # applied, each count in the answer is changed by `offset`
]


@dataclass
class Fault:
    """One entry of a script."""

    kind: Kind
    at: int = 1
    count: int | None = 1
    match: str = ""
    seconds: float | None = None
    status: int = 500
    body: Any = None
    retry_after: str | float | None = None
    applied: bool = False
    location: str = "/elsewhere"
    offset: int = -1
    headers: dict[str, str] = field(default_factory=dict)
    seen: int = 0
    taken: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"unknown fault {self.kind!r}")
        re.compile(self.match)

    def applies(self, line: str) -> bool:
        """Count a request and tell whether it gets this fault."""
        if self.match and not re.search(self.match, line):
            return False
        self.seen += 1
        return self.seen >= self.at and (self.count is None or self.taken < self.count)

    @property
    def is_next(self) -> bool:
        """Tell whether the next request would get this fault."""
        return self.seen >= self.at - 1 and (self.count is None or self.taken < self.count)


def _fault(entry: dict[str, Any]) -> Fault:
    known = {member.name for member in fields(Fault)} - {"seen", "taken"}
    if unknown := entry.keys() - known:
        raise ValueError(f"unknown members of a fault: {sorted(unknown)}")
    return Fault(**entry)


class Script:
    """The faults in force."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def load(self, script: list[dict[str, Any]]) -> None:
        """Replace the script; counting starts again."""
        self.faults = [_fault(entry) for entry in script]

    def add(self, entry: dict[str, Any]) -> None:
        """Append one fault, which counts from now; the others go on counting."""
        self.faults = [*self.faults, _fault(entry)]

    def take(self, line: str) -> Fault | None:
        """Return the fault for a request, if any; every fault counts every request it matches."""
        applying = [fault for fault in self.faults if fault.applies(line)]
        if applying:
            applying[0].taken += 1
            return applying[0]
        return None

    def refuses_next_connection(self) -> bool:
        """Tell whether a new connection is closed at once; that counts as a request of no name."""
        unnamed = [fault for fault in self.faults if not fault.match]
        refusing = next((f for f in unnamed if f.kind == "refuse" and f.is_next), None)
        if refusing is None:
            return False
        for fault in unnamed:
            fault.seen += 1
        refusing.taken += 1
        return True

    def closes_after_answer(self) -> bool:
        """Tell whether kept-alive connections must end, for the next request to be refused."""
        return any(fault.kind in ("refuse", "down") and fault.is_next for fault in self.faults)
