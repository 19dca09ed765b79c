"""Prints checkpoints as soon as the ledger lets them go and their rejected rows are kept.

Only here a STATE is printed. One whose rejected rows are on their way into a store is taken from
the ledger and held until they are there; rows go on meanwhile. Order: what is held leaves first.
"""

from __future__ import annotations

from collections.abc import Iterator

from destination_bulk_tables.reports import StoreReport
from destination_bulk_tables.tasks import Tools

_ACK_BYTES = 1_000_000
_UPLOADING_S = 0.05


class Acknowledging:
    """Used by the engine thread only."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._held: list[bytes] = []

    def turn(self) -> None:
        """Print what may leave, without waiting. Raises what keeps rows out of the report."""
        report = self._tools.rejects.report
        if not isinstance(report, StoreReport):
            self._print_ready()
            return
        if report.is_keeping():
            return
        self._print_held()
        if not report.has_waiting:
            self._print_ready()
        elif not report.gathers():
            self._held = next(self._ready())
            if self._held:
                report.start_keeping()

    @property
    def patience_s(self) -> float:
        """How long it may take until the next turn: an upload wakes nobody when it is done."""
        return _UPLOADING_S if self._held else float("inf")

    def finish(self) -> None:
        """Print what may leave, after all rejected rows are kept."""
        report = self._tools.rejects.report
        if isinstance(report, StoreReport):
            report.keep()
        self._print_held()
        self._print_ready()

    def _print_ready(self) -> None:
        for lines in self._ready():
            self._print(lines)

    def _print_held(self) -> None:
        held, self._held = self._held, []
        self._print(held)

    def _ready(self) -> Iterator[list[bytes]]:
        """What the ledger lets go, a megabyte at a time, maybe none: states may be large."""
        lines: list[bytes] = []
        n_bytes = 0
        for checkpoint in self._tools.ledger.ready():
            line = checkpoint.acknowledge()
            lines.append(line)
            n_bytes += len(line)
            if n_bytes > _ACK_BYTES:
                yield lines
                lines, n_bytes = [], 0
        yield lines

    def _print(self, lines: list[bytes]) -> None:
        if lines:
            self._tools.emit(lines)
            self._tools.progress.acknowledged += len(lines)
