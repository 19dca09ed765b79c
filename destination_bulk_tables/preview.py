"""What a sync would do, without doing it: the code of `write` with a provider that sends no write.

The engine, the codec, the batches and the staged loads are the real ones. `_Rehearsal` stands
between them and the provider: a write's flow is driven to its first request, which is kept and
never sent, and all its rows count as delivered. Only flows that read reach the transport, and none
does where `reads` is False. Nothing here is on the path of a sync.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from destination_bulk_tables.catalog import plan_streams
from destination_bulk_tables.clock import Clock
from destination_bulk_tables.commands import is_cloud, parse_config
from destination_bulk_tables.errors import ConfigError, DestinationError, TransientError
from destination_bulk_tables.http import Ambiguous, Flow, Refused, TooLarge, name_of
from destination_bulk_tables.messages import Message, RecordRun
from destination_bulk_tables.model import (
    UNDECODABLE,
    JsonValue,
    RejectedRow,
    RowBlock,
    Table,
)
from destination_bulk_tables.outcomes import (
    Context,
    Load,
    ReplacePlan,
    Unverified,
    Verdict,
    WriteReport,
)
from destination_bulk_tables.preview_report import Preview, TablePreview
from destination_bulk_tables.provider import ColumnKind, Provider
from destination_bulk_tables.rejects import Rejects
from destination_bulk_tables.secrecy import SECRETS
from destination_bulk_tables.stdio import MessageReader
from destination_bulk_tables.sync import Sync, require_possible
from destination_bulk_tables.transport import Transport

_NAMED_RECORDS = 1000  # of each stream: their members are compared with the schema
_EXAMPLES = 3
_PATIENCE_S = 5.0  # with a provider that does not answer


def rehearse(
    raw_config: JsonValue,
    raw_catalog: JsonValue,
    stdin: int | None,
    clock: Clock,
    *,
    rows: int | None = None,
    reads: bool = True,
) -> Preview:
    """Rehearse a sync of the messages on `stdin` (None: judge config and catalog only).

    `rows`: at most that many records of each stream are taken. Raises `ConfigError` for a config
    that cannot be read at all; what would end a sync is in the result.
    """
    config = parse_config(raw_config)
    preview = Preview(config)
    handler = _Warnings(preview)
    logging.getLogger("destination_bulk_tables").addHandler(handler)
    try:
        plans = plan_streams(raw_catalog, config)
        preview.tables = {key: TablePreview(plan) for key, plan in plans.items()}
        _run(preview, stdin, clock, rows=rows, reads=reads)
    except DestinationError as error:
        preview.problem = config.naming.in_words(error.message)
    except (Refused, TooLarge, Ambiguous) as error:
        preview.problem = f"Reading from the provider failed ({name_of(error)})."
    finally:
        logging.getLogger("destination_bulk_tables").removeHandler(handler)
    return preview


def _run(
    preview: Preview, stdin: int | None, clock: Clock, *, rows: int | None, reads: bool
) -> None:
    rehearsal = _Rehearsal(preview, reads=reads)
    config = dataclasses.replace(preview.config, provider=cast("Provider", rehearsal))
    rejects = _Collected(preview, clock)
    plans = {key: table.plan for key, table in preview.tables.items()}
    require_possible(plans.values(), preview.config)
    transport = Transport(config.provider.base_url, clock, public_only=is_cloud())
    sync = Sync(config, plans, rejects, transport, clock, lambda _: None, threading.Event())
    if stdin is None:
        stdin = os.open(os.devnull, os.O_RDONLY)
    reader = _Sample(MessageReader(stdin, sync.wake, {}, sync.timed), preview, rows)
    with contextlib.closing(sync):
        if reads:
            rehearsal.look(sync)
        try:
            sync.run(reader)
        except TransientError:
            if preview.has_messages:
                raise  # without messages a missing COMPLETE says nothing
    if preview.has_messages:
        rejects.judge()


class _Sample:
    """The input; of each stream only the first records, all of them counted."""

    def __init__(self, source: MessageReader, preview: Preview, rows: int | None) -> None:
        self._source = source
        self._preview = preview
        self._rows = rows
        self.ended = False

    def read(self, timeout_s: float, *, wants_input: bool) -> Iterator[Message]:
        for message in self._source.read(timeout_s, wants_input=wants_input):
            self._preview.has_messages = True
            table = self._preview.tables.get(getattr(message, "stream", None))  # type: ignore[arg-type]
            if not isinstance(message, RecordRun) or table is None:
                yield message
                continue
            data = message.data
            if self._rows is not None:
                data = data[: max(0, self._rows - table.read)]
                self._preview.is_part |= len(data) < len(message.data)
            table.undeclared |= _undeclared(table, data[: max(0, _NAMED_RECORDS - table.read)])
            table.read += len(message.data)
            if data:
                yield RecordRun(message.stream, data)
        self.ended = self._source.ended


def _undeclared(table: TablePreview, records: Sequence[Any]) -> set[str]:
    fields = {column.field for column in table.plan.columns}
    names: set[str] = set()
    for record in records:
        try:
            names.update(msgspec.json.decode(record, type=dict[str, msgspec.Raw]))
        except UNDECODABLE:
            continue  # the codec says what is wrong with it
    return names - fields


class _Collected(Rejects):
    """Nothing ends the rehearsal: all rejected rows are judged at its end."""

    def __init__(self, preview: Preview, clock: Clock) -> None:
        super().__init__(preview.config.rejected_records, None, clock, {})
        self._preview = preview

    @property
    def allowance(self) -> int:
        return sys.maxsize  # whatever is rejected, the rehearsal goes on

    def add(self, rejected: Sequence[RejectedRow], n_read: int) -> None:  # noqa: ARG002
        self.total += len(rejected)
        for row in rejected:
            table = self._preview.tables[row.stream]
            table.rejected += 1
            reasons = table.rejects.setdefault(row.code, [])
            if row.reason not in reasons and len(reasons) < _EXAMPLES:
                reasons.append(row.reason)

    def judge_share(self, n_read: int) -> None:
        pass

    def judge(self) -> None:
        """Raise what the settings would make of the rejected rows."""
        settings = self._preview.config.rejected_records
        if self.total and settings.policy == "fail":
            raise ConfigError(
                f"{self.total} row(s) would be rejected, and rejected_records.policy is 'fail'."
            )
        if self.total > settings.max_rejected:
            raise ConfigError(
                f"{self.total} rows would be rejected, more than rejected_records.max_rejected "
                f"allows ({settings.max_rejected})."
            )
        super().judge_share(sum(table.read for table in self._preview.tables.values()))


class _Warnings(logging.Handler):
    """What a sync would warn of, each text once."""

    def __init__(self, preview: Preview) -> None:
        super().__init__(logging.WARNING)
        self._preview = preview

    def emit(self, record: logging.LogRecord) -> None:
        text = SECRETS.mask(record.getMessage())
        if text not in self._preview.warnings:
            self._preview.warnings.append(text)


class _Rehearsal:
    """The provider with every flow that writes cut off before its first request."""

    def __init__(self, preview: Preview, *, reads: bool) -> None:
        self._inner: Provider = preview.config.provider
        self._preview = preview
        self._reads = reads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def look(self, sync: Sync) -> None:
        """Try the credential, find the tables and count them, with reading requests only."""
        brief = sync.sender.exchange.in_brief(threading.Event(), _PATIENCE_S)
        brief.run(None, self._inner.check([]))
        for found in self._preview.tables.values():
            table = found.plan.table
            try:
                found.held = brief.run(table, self._inner.prepare(table))
                if found.held is None:
                    brief.run(table, self._inner.examine(table))
            except (Refused, TooLarge, Ambiguous):
                found.held = None

    def columns(self, table: str) -> Flow[Mapping[str, ColumnKind | None] | None]:
        if not self._reads:
            return None
        return (yield from self._inner.columns(table))

    def prepare(self, table: Table) -> Flow[int | None]:
        """What the table holds; nothing where the input does not tell how large a load will be."""
        yield from ()
        if table.replace and (self._preview.is_part or not self._preview.has_messages):
            return 0  # an empty table is guarded from no load
        return self._of(table).held

    def write(self, table: Table, block: RowBlock, context: Context) -> Flow[WriteReport]:
        yield from ()
        found = self._of(table)
        flow = self._inner.write(table, block, context)
        try:
            request = next(flow)
        except StopIteration as end:  # rows that cannot be sent are told without a request
            report: WriteReport = end.value
            return report
        flow.close()
        found.first = found.first or request
        found.writes += 1
        found.rows += block.count
        return WriteReport(delivered=len(block))

    def replace_begin(self, table: Table, load: Load) -> Flow[ReplacePlan]:
        yield from ()
        flow = self._inner.replace_begin(table, load)
        self._of(table).is_replaced = True
        try:
            self._of(table).before = next(flow)
        except StopIteration as end:
            plan: ReplacePlan = end.value
            return plan
        flow.close()
        return ReplacePlan(first_alone=True)

    def replace_end(self, table: Table, plan: ReplacePlan, delivered: int) -> Flow[None]:  # noqa: ARG002
        yield from ()

    def examine(self, table: Table) -> Flow[bool | None]:  # noqa: ARG002
        yield from ()
        return True

    def verify(self, unverified: Unverified) -> Flow[Verdict | None]:  # noqa: ARG002
        yield from ()
        return Verdict()

    def _of(self, table: Table) -> TablePreview:
        return self._preview.tables[table.stream]
