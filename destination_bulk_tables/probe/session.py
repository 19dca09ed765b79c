"""One run of the probe: asks, sends single requests, and collects what it learns."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from destination_bulk_tables.clock import Clock
from destination_bulk_tables.http import HttpRequest
from destination_bulk_tables.transport import Transport

ROW_PREFIX = "airbyte-probe"
OK = 200
_TIMEOUT_S = 120.0


class Declined(Exception):
    """The person said no; its text says to what."""


def say(text: str, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


def _asked(question: str) -> str:
    say(question, end="")
    return sys.stdin.readline().strip()


@dataclass(slots=True)
class Probe:
    """What a run needs, and what it has found."""

    transport: Transport
    headers: Callable[[float], Any]
    table: str
    text_column: str
    number_column: str
    clock: Clock
    poll_s: float
    agreed: str | None  # the table's name, where nothing is to be asked
    findings: list[tuple[str, str]] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)

    def warn(self, what: str) -> None:
        """Say what will happen to the table and ask for its name. Raises `Declined`."""
        say(f"\n{what}")
        question = f"Type the table's name ({self.table}) to go on: "
        if (self.agreed or _asked(question)) != self.table:
            raise Declined("the name was not repeated, so nothing was written")

    def step(self, title: str, *, writes: bool) -> None:
        """Announce a step; a writing one must be confirmed. Raises `Declined`."""
        say(f"\n== {title}")
        question = f"   This writes to table {self.table}. Go on? [y/N] "
        if writes and not self.agreed and _asked(question).lower() not in {"y", "yes"}:
            raise Declined(f"before the step '{title}'")

    def send(
        self, method: str, path: str, body: object = None, *, now: float | None = None
    ) -> tuple[int, Any]:
        """Send one request; the status and the decoded answer (text where it is not JSON)."""
        data = None if body is None else json.dumps(body).encode()
        headers = self.headers(self.clock.now() if now is None else now)
        response = self.transport.send(HttpRequest(method, path, data), headers, _TIMEOUT_S)
        say(f"   {method} {path} -> {response.status}")
        try:
            return response.status, json.loads(response.body)
        except ValueError:
            return response.status, response.text[:200]

    def learn(self, question: str, answer: str) -> None:
        self.findings.append((question, answer))
        say(f"   {question}: {answer}")

    def ask_for_number_column(self) -> None:
        """Note that the row meant to be bad was good."""
        self.settings.append(
            f"Column {self.number_column} takes texts, so nothing is known about refused rows: run "
            "again with --number-column set to a column of type number."
        )

    def conclude(self) -> None:
        """Print what was found so far and the settings that follow."""
        if self.findings:
            say("\nFound:")
        for question, answer in self.findings:
            say(f"  {question}: {answer}")
        if self.settings:
            say("What follows for the configuration:")
        for setting in self.settings:
            say(f"  - {setting}")
