"""One batch on its way: what is refused is taken apart until the bad rows stand alone.

Runs on a sender thread. Invariant: each row of the batch ends as delivered, rejected, receipted or
in doubt. A request whose outcome is unknown is repeated only after its rows were read back, or
where the user chose so (`doubt`).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any

from destination_bulk_tables.doubt import Doubt, kind_of, kinds_of
from destination_bulk_tables.errors import ConfigError, TransientError, UnaccountedRows
from destination_bulk_tables.exchange import MAX_ATTEMPTS, Exchange, Tally
from destination_bulk_tables.http import Ambiguous, Refused, RowFault, TooLarge, name_of
from destination_bulk_tables.model import Batch, BatchResult, Doubtful, RowBlock
from destination_bulk_tables.outcomes import Context, WriteReport
from destination_bulk_tables.refusals import indivisible, refusal, rejected_rows

log = logging.getLogger(__name__)

MAX_AMBIGUOUS = 5
MANY_REJECTED = 20
MAX_AMBIGUOUS_S = 420.0  # another attempt of a read timeout still ends within ten minutes


@dataclass(slots=True)
class Delivery:
    """A batch to deliver, or the parts of one that are in doubt; `beside`: those of other batches.

    `allowance`: how many more rows may be rejected before the sync ends anyway.
    """

    batch: Batch
    context: Context = field(default_factory=Context)
    doubt: Sequence[Doubtful] = ()
    beside: Sequence[Doubtful] = ()
    allowance: int = sys.maxsize
    tally: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class _Part:
    block: RowBlock
    fate: Exception | None = None
    doubt: Doubtful | None = None  # the same, where it was put off until nothing else is under way
    proves: str | None = None  # this kind of refusal stores nothing, if this part is delivered
    named: str | None = None  # what a refusal says of this row, sent alone to see if it is so
    is_rest: bool = False  # the fate is that of a larger block
    ambiguous: int = 0
    since: float = float("inf")  # when the first attempt began

    def left(self, block: RowBlock, *, again: int = 0, **more: Any) -> _Part:
        """Rows of this part that go out once more; `again`: attempts that may have been applied."""
        return _Part(block, ambiguous=self.ambiguous + again, since=self.since, **more)


class Passage:
    """One batch on its way: the parts that are left of it, and what the table holds by now."""

    def __init__(
        self,
        exchange: Exchange,
        doubt: Doubt,
        delivery: Delivery,
        result: BatchResult,
        *,
        narrows: bool,
    ) -> None:
        self._provider = provider = exchange.provider
        self._exchange, self._clock, self._doubt = exchange, exchange.clock, doubt
        self._narrows = narrows
        self._table, self._context = delivery.batch.table, delivery.context
        self._result, self._tally = result, delivery.tally
        plan = delivery.context.replace
        self._at_once = plan is not None and plan.single
        self._is_examined = False
        self._doubts = [*delivery.doubt, *delivery.beside]
        parts = [_Part(doubt.block, doubt.fate, doubt) for doubt in reversed(delivery.doubt)]
        self._parts = parts or [_Part(delivery.batch.block)]
        # a refused batch may have lost the old versions of its good rows by now
        self._deletes_first = provider.rules.deletes and provider.repeats_safely(self._table)
        # what is over the allowance ends the sync; those good rows are delivered all the same
        self._allowance = sys.maxsize if self._deletes_first else delivery.allowance

    def run(self) -> None:
        """Send until nothing is left, or too much is rejected."""
        self._result.is_recounted = bool(self._doubts)
        while self._parts and len(self._result.rejected) <= self._allowance:
            part = self._parts.pop()
            part.since = min(part.since, self._clock.monotonic())
            fate = self._write(part) if part.fate is None else part.fate
            if fate is not None and self._goes_on(part, fate):
                self._settle(part, fate)
        self._result.stored = self._context.stored

    def _write(self, part: _Part) -> Exception | None:
        """Send a part; what was thrown instead of an account of it."""
        context = replace(self._context, repeated=part.ambiguous)
        flow = self._provider.write(self._table, part.block, context)
        try:
            report = self._exchange.run(self._table, flow, self._tally)
        except (Refused, TooLarge, Ambiguous) as error:
            self._tally.cause = self._tally.cause or name_of(error)
            return error
        self._account(part, report)
        if part.proves is not None and report.delivered == len(part.block):
            self._doubt.learn(self._table, part.proves)
        if part.named is not None and report.receipt is None:
            self._judge_naming(part.named, part.block, report.faults, taken=report.delivered > 0)
        if self._context.stored is not None:
            stored = self._context.stored + report.delivered
            self._context = replace(self._context, stored=stored)
        return None

    def _judge_naming(
        self, kind: str, block: RowBlock, faults: Sequence[RowFault], *, taken: bool
    ) -> None:
        """Learn from a row sent alone: it was taken, or refused, maybe for something else."""
        if taken or not faults or kind in kinds_of(faults, block):
            self._doubt.learn_naming(self._table, kind, is_right=not taken)

    def _goes_on(self, part: _Part, fate: Exception) -> bool:
        """Whether a part that was not accepted is pursued now; raises where the batch ends."""
        if isinstance(fate, Refused):
            self._examine()
            if part.named is not None:
                self._judge_naming(part.named, part.block, fate.faults, taken=False)
        is_over = not self._deletes_first or self._is_hopeless
        if not self._narrows and part.block.count > 1 and is_over:
            if isinstance(fate, Refused) and not fate.partial:
                raise refusal(self._provider, self._table, part.block, fate, self._context.replace)
            if isinstance(fate, TooLarge) and self._is_hopeless:
                self._parts.clear()  # the rejected rows end the sync
                return False
        is_read = part.doubt is not None and part.doubt.is_read
        needs_reading = not is_read and self._doubt.needs_reading(self._table, fate)
        if needs_reading and not self._context.alone:
            self._result.doubt.append(Doubtful(part.block, fate))
            return False
        return True

    def _examine(self) -> None:
        """Once a batch: a refusal may be about the table, which is no fault of any row."""
        if self._is_examined:
            return
        self._is_examined = True
        flow = self._provider.examine(self._table)
        if self._exchange.run(self._table, flow, self._tally) is None:
            log.warning("table_not_examined table=%s", self._table.name)

    def _settle(self, part: _Part, fate: Exception) -> None:
        """Find out which rows of a part are in, and queue the rest."""
        doubt = part.doubt or Doubtful(part.block, fate)
        if not doubt.is_read:
            self._look(doubt, part)
        stored = doubt.stored
        if stored is None:
            stored = self._doubt.decide(self._table, part.block, fate)
        self._result.delivered += len(stored)
        self._pursue(part, fate, stored, is_none=doubt.is_none)

    def _look(self, doubt: Doubtful, part: _Part) -> None:
        """Leave a write to itself for a while; have the table tell which rows in doubt are in."""
        doubts = [doubt]
        needs_reading = self._doubt.needs_reading(self._table, doubt.fate)
        if needs_reading:
            others = [other for other in self._doubts if other is not doubt]
            doubts += filter(self._is_open, others)
        attempts, since = part.ambiguous + 1, part.since
        waits = [self._doubt.settling_s(self._table, d.fate, attempts, since) for d in doubts]
        if max(waits):
            self._exchange.hold(max(waits), str(doubt.fate), self._tally)
        if needs_reading:
            # what somebody else wrote, or this unseen, is not to be taken for a later write's
            total = self._doubt.read_back(self._table, doubts, self._context, self._tally)
            self._context = replace(self._context, stored=total)
            self._result.is_recounted = True

    def _is_open(self, doubt: Doubtful) -> bool:
        """Whether these rows may be in and the table was not asked yet."""
        return not doubt.is_read and self._doubt.needs_reading(self._table, doubt.fate)

    def _pursue(self, part: _Part, fate: Exception, stored: set[int], *, is_none: bool) -> None:
        """Queue what is left of a part: again as it is, in halves, or as a rejected row."""
        block = part.block
        if stored:
            block = block.select([i for i in range(block.count) if i not in stored])
        # a replace with no row at all is a request like any other: it empties the table
        if not block.count and not block.tombstones and (stored or not self._at_once):
            return
        if isinstance(fate, Ambiguous):
            self._require_patience(part, fate)
            self._parts.append(part.left(block, again=1))
        elif isinstance(fate, Refused) and not stored and self._leaves_out(part, fate):
            pass
        elif part.is_rest:
            self._parts.append(part.left(block))
        elif self._at_once:
            raise indivisible(self._provider, self._table, fate)
        elif block.count > 1:
            self._halve(part, block, fate, is_none=is_none)
        else:
            if block.count and block.tombstones:
                # what was refused may be the delete, which is then owed to the other keys
                self._parts.append(_Part(block.select([])))
            self._reject(block, fate)

    def _require_patience(self, part: _Part, fate: Ambiguous) -> None:
        is_over = self._clock.monotonic() - part.since > MAX_AMBIGUOUS_S
        if part.ambiguous >= (MAX_ATTEMPTS if fate.is_busy else MAX_AMBIGUOUS) or is_over:
            message = f"Writes to table {self._table.name} keep ending without an answer ({fate})."
            raise TransientError(message, stream=self._table.stream)

    def _leaves_out(self, part: _Part, fate: Refused) -> bool:
        """Whether the block goes on without the rows that a refusal names.

        They are rejected where such faults are known to be those of their rows. Else the first that
        is named goes out alone, to see whether it is bad.
        """
        block, faults = part.block, fate.faults
        kinds = kinds_of(faults, block)
        known = [self._doubt.names_row(self._table, kind) for kind in kinds]
        if self._at_once:
            bad = faults if len(faults) < block.count else ()
        else:
            bad = tuple(compress(faults, known))
        if bad and (block.count > 1 or part.is_rest):
            self._result.rejected += rejected_rows(self._table, block, bad)
            self._send_rest(part, bad)
            return True
        if self._at_once or None not in known or block.count == 1:
            return False
        first, kind = faults[known.index(None)], kinds[known.index(None)]
        left = [
            replace(fault, position=fault.position - (fault.position > first.position))
            for fault in faults
            if fault.position != first.position
        ]
        refused = Refused(fate.code, fate.reason, faults=tuple(left)) if left else None
        self._send_rest(part, (first,), refused)
        alone = replace(block.select([first.position]), tombstones=())
        self._parts.append(part.left(alone, named=kind))
        return True

    def _send_rest(self, part: _Part, bad: Sequence[RowFault], fate: Refused | None = None) -> None:
        """Queue a block without some rows; `fate`: what is known of the others already."""
        named = {fault.position for fault in bad}
        rest = part.block.select([i for i in range(part.block.count) if i not in named])
        if rest.count or rest.tombstones:
            self._parts.append(part.left(rest, fate=fate, is_rest=bool(fate)))

    def _halve(self, part: _Part, block: RowBlock, fate: Exception, *, is_none: bool) -> None:
        left, right = block.halves()
        refused = fate if isinstance(fate, Refused) else None
        proves = kind_of(refused) if refused and is_none else None
        # the rows of a half may have been written before as well
        again = refused.resent if refused else 0
        self._parts += [part.left(right, again=again), part.left(left, again=again, proves=proves)]

    def _account(self, part: _Part, report: WriteReport) -> None:
        receipted = report.receipt.rows if report.receipt else 0
        told = report.delivered + len(report.faults) + receipted + len(report.again)
        if told != len(part.block):
            message = f"{self._provider.title} accounted for another number of rows than were sent."
            raise UnaccountedRows(message, stream=self._table.stream)
        self._result.delivered += report.delivered
        if report.receipt:
            self._result.receipts.append(report.receipt)
            # its job changes what a look at the table would tell of other rows
            self._context = replace(self._context, alone=False)
        self._result.rejected += rejected_rows(self._table, part.block, report.faults)
        if report.again:
            rest = replace(part.block.select(report.again), tombstones=())
            self._parts.append(_Part(rest, ambiguous=part.ambiguous))

    @property
    def _is_hopeless(self) -> bool:
        """Whether so many rows were refused and none taken that it is not about single rows."""
        return len(self._result.rejected) >= MANY_REJECTED and not self._result.delivered

    def _reject(self, block: RowBlock, fate: Exception) -> None:
        """Reject the one row of a block; one without rows only deletes, and that must not fail."""
        code, reason = "too_large", "the vendor refuses a request with this row alone as too large"
        if isinstance(fate, Refused):
            named = fate.faults[0] if fate.faults else fate
            code, reason = named.code, named.reason
        if not block.count:
            message = (
                f"{self._provider.title} refuses to delete rows of table {self._table.name} "
                f"({code})."
            )
            raise ConfigError(message, stream=self._table.stream)
        self._result.rejected += rejected_rows(self._table, block, [RowFault(0, code, reason)])
