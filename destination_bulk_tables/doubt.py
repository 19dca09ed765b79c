"""A write that was not accepted: whether its rows are in, by what is known, read back, or decided.

Shared by all sender threads. What is learnt of a table, that a kind of refusal stores nothing or
that a kind of fault names the right rows, holds for the rest of the sync.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace

from destination_bulk_tables.errors import (
    ConfigError,
    DestinationError,
    TransientError,
    UnaccountedRows,
)
from destination_bulk_tables.exchange import Exchange, Tally, settle_s
from destination_bulk_tables.http import Ambiguous, Refused, RowFault, TooLarge, name_of
from destination_bulk_tables.model import Doubtful, RowBlock, Table
from destination_bulk_tables.outcomes import Context, ReadBack
from destination_bulk_tables.redact import mask_values
from destination_bulk_tables.refusals import exhausted

log = logging.getLogger(__name__)

_MOST_KINDS = 1000  # a vendor may make up its words
_NUMBER = re.compile(r"\d+")
_OF_ONE_ROW = re.compile(r"""\"[^\"]*\"|'[^']*'|\d+""")


class Doubt:
    """Decides which rows of a refused or unanswered write count as stored."""

    def __init__(self, exchange: Exchange) -> None:
        self._provider = exchange.provider
        self._exchange = exchange
        self._atomic: set[tuple[str, str]] = set()  # kinds of refusals seen to store nothing
        self._names: dict[tuple[str, str], bool] = {}  # whether what is said of a row is about it
        self._misled: set[str] = set()  # tables of which a named row turned out to be good

    def learn(self, table: Table, kind: str) -> None:
        """A kind of refusal was seen to store nothing at a table."""
        self._atomic.add((table.name, kind))

    def names_row(self, table: Table, kind: str) -> bool | None:
        """Whether such faults are those of the rows they name; None where that was not seen yet.

        An API may count from another number than is set, or say of good rows that they were not
        stored because of others. Once it did, no other kind is tried out at that table.
        """
        known = self._names.get((table.name, kind))
        return False if known is None and table.name in self._misled else known

    def learn_naming(self, table: Table, kind: str, *, is_right: bool) -> None:
        """A row that was named so was sent alone, and refused for the same, or taken."""
        if len(self._names) < _MOST_KINDS:
            self._names[table.name, kind] = is_right
        if not is_right:
            self._misled.add(table.name)

    def needs_reading(self, table: Table, fate: Exception | None) -> bool:
        """Whether the table has to be looked at, with no other write under way."""
        match fate:
            case Ambiguous():
                return self._provider.traits.reads_back and not self._provider.repeats_safely(table)
            case Refused():
                return fate.partial or not self._stores_nothing(table, fate)
            case _:
                return False

    def _stores_nothing(self, table: Table, fate: Refused) -> bool:
        """Whether this kind of refusal is known to store no row; another kind may store some."""
        known = (table.name, kind_of(fate)) in self._atomic
        return known or self._provider.refusals_store_nothing(table)

    def read_back(
        self, table: Table, doubts: Sequence[Doubtful], context: Context, tally: Tally
    ) -> int | None:
        """Note which of these rows, all that are in doubt, a table holds; return what it counts.

        Rows that are equal are told by their number alone, so all are looked for at once.
        """
        try:
            found = self._ask(table, doubts, context, tally)
        except (Refused, TooLarge, Ambiguous):
            try:  # once more: a passing fault must not decide over rows
                found = self._ask(table, doubts, context, tally)
            except (Refused, TooLarge, Ambiguous):
                found = ReadBack(None)  # a table that does not answer tells nothing
        if found.stored is not None:
            log.warning(
                "rows_read_back table=%s sent=%d stored=%d cause=%s",
                table.name,
                sum(doubt.block.count for doubt in doubts),
                len(found.stored),
                ",".join(sorted({name_of(doubt.fate) for doubt in doubts if doubt.fate})),
            )
        first = 0
        for doubt in doubts:
            own = range(first, first + doubt.block.count)
            doubt.is_read = True
            if found.stored is not None:
                doubt.stored = {i - first for i in found.stored if i in own}
                doubt.is_none = not found.stored
            first = own.stop
        return found.total

    def _ask(
        self, table: Table, doubts: Sequence[Doubtful], context: Context, tally: Tally
    ) -> ReadBack:
        blocks = [doubt.block for doubt in doubts]
        context = replace(context, is_over=all(isinstance(d.fate, Refused) for d in doubts))
        return self._exchange.run(table, self._provider.stored_rows(table, blocks, context), tally)

    def settling_s(
        self, table: Table, fate: Exception | None, attempts: int, since: float
    ) -> float:
        """How long a write without an answer is left to itself, and a busy vendor alone."""
        if not isinstance(fate, Ambiguous):
            return 0.0
        wait = settle_s(is_slow=fate.is_slow)
        if not fate.is_busy:
            return wait
        wait = max(wait, self._exchange.backoff_s(attempts), fate.after_s or 0.0)
        if self._exchange.is_over(since, wait):
            raise exhausted(self._provider, str(fate), attempts, fate.after_s, table)
        return wait

    def decide(self, table: Table, block: RowBlock, fate: Exception) -> set[int]:
        """Nothing can tell what a write did: go on as configured, or raise."""
        # rows that may be sent again need no account of which are in
        if isinstance(fate, TooLarge) or self._provider.repeats_safely(table):
            return set()
        traits, is_refused = self._provider.traits, isinstance(fate, Refused)
        if isinstance(fate, Refused):
            if fate.partial:
                message = (
                    f"{self._provider.title} did not account for each row sent to table "
                    f"{table.name}: {mask_values(fate.reason, block)}"
                )
                raise UnaccountedRows(message, stream=table.stream)
            if self._stores_nothing(table, fate):
                return set()
        # the fate of a row that was refused alone is known well enough
        is_known = is_refused and not traits.reads_back and block.count <= 1
        if traits.on_unknown == "fail" and not is_known:
            raise self._unknown(table, fate)
        log.warning(
            "%s table=%s cause=%s duplicates=possible",
            "refusal_not_verified" if is_refused else "ambiguous_write_repeated",
            table.name,
            fate,
        )
        return set()

    def _unknown(self, table: Table, fate: Exception) -> DestinationError:
        traits = self._provider.traits
        is_final = isinstance(fate, Refused) and not traits.reads_back
        teller = "nothing tells" if is_final else "reading the table back could not tell"
        message = (
            f"A write to table {table.name} was refused or ended without an answer ({fate}), and "
            f"{teller} which of its rows are in. The sync stops because on_ambiguous_write is "
            f"'fail'. {traits.unknown_hint}"
        ).rstrip()
        kind = ConfigError if is_final else TransientError
        return kind(message, stream=table.stream)


def kind_of(fate: Refused) -> str:
    """A refusal's text without what differs from row to row."""
    return f"{fate.code} {_OF_ONE_ROW.sub('', fate.reason[:200])}"


def kinds_of(faults: Sequence[RowFault], block: RowBlock) -> list[str]:
    """What each fault says, without the values of its row."""
    rows = block.rows() if faults else []
    texts = (
        mask_values(fault.reason[:200], RowBlock([rows[fault.position]], 1, range(1)))
        for fault in faults
    )
    return [
        f"{fault.code} {_NUMBER.sub('', text)}" for fault, text in zip(faults, texts, strict=True)
    ]
