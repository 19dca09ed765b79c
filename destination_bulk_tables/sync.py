"""A sync put together: what `write` runs and `preview` rehearses."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from destination_bulk_tables.batcher import Batcher
from destination_bulk_tables.catalog import StreamPlan, similar_names, unmatched_entries
from destination_bulk_tables.clock import Clock
from destination_bulk_tables.config import Config
from destination_bulk_tables.engine import Engine, Source
from destination_bulk_tables.errors import ConfigError, InternalError, SettingError
from destination_bulk_tables.exchange import Exchange
from destination_bulk_tables.guard import Guard
from destination_bulk_tables.known_columns import compare_columns
from destination_bulk_tables.lanes import Lane
from destination_bulk_tables.ledger import Ledger
from destination_bulk_tables.model import StreamKey
from destination_bulk_tables.overwrite import StagedLoad
from destination_bulk_tables.pace import MOST, Pace
from destination_bulk_tables.progress import Progress, StreamCounts
from destination_bulk_tables.rejects import Rejects
from destination_bulk_tables.report_lines import Circumstances
from destination_bulk_tables.rows import CDC_DELETED_AT, RowCodec
from destination_bulk_tables.sample import FieldSample
from destination_bulk_tables.sender import Sender
from destination_bulk_tables.spool import DiskBudget
from destination_bulk_tables.states import StateStore
from destination_bulk_tables.tasks import Tools
from destination_bulk_tables.trace import Trace
from destination_bulk_tables.transport import Transport
from destination_bulk_tables.versions import MOST_KEYS, SentVersions
from destination_bulk_tables.workers import ThreadWorkers

log = logging.getLogger(__name__)
_LEAST_KEYS = 1000
_MOST_TOLD = 20  # lines of a kind; a config for many connections has hundreds of entries

_ASKING_S = 20.0  # for columns, without which a sync can do


class Sync:
    """One sync, ready to run: `wake` tells its reader that a request has ended."""

    def __init__(
        self,
        config: Config,
        plans: Mapping[StreamKey, StreamPlan],
        rejects: Rejects,
        transport: Transport,
        clock: Clock,
        emit: Callable[[Sequence[bytes]], None],
        stop: threading.Event,
        trace: Trace | None = None,
    ) -> None:
        batching, provider = config.batching, config.provider
        slots = most_parallel(config) or MOST
        self.wake, wake_w = os.pipe()
        halt = threading.Event()
        self._clock, self._stop = clock, stop
        self._plans, self._provider = list(plans.values()), provider
        self._is_strict = config.rejected_records.policy == "fail"
        self._progress = Progress(list(plans), clock.monotonic())
        budget = DiskBudget(config.staging.directory, config.staging.max_bytes)
        exchange = Exchange(provider, transport, clock, halt, trace=trace)
        self.sender = Sender(exchange, narrows=config.rejected_records.policy == "skip")
        tools = Tools(
            provider=provider,
            sender=self.sender,
            workers=ThreadWorkers(slots + 1, wake_w),
            ledger=Ledger(StateStore(budget)),
            rejects=rejects,
            progress=self._progress,
            clock=clock,
            emit=emit,
            stop=stop,
            halt=halt,
            guard=Guard(config.replace_guard, attempt()),
        )
        self.keeps_lines = config.rejected_records.report_path is not None
        lanes = make_lanes(plans, config, budget)
        self.row_types = {key: lane.codec_of(key).row_types for key, lane in lanes.items()}
        self.timed = {key for key, lane in lanes.items() if lane.codec_of(key).wants_time}
        self._engine = Engine(lanes, tools, slots=slots, max_wait_s=batching.max_wait_s)

    def run(self, source: Source) -> None:
        """Run to the end of the input. Raises the `DestinationError` that ended it."""
        compare_columns(
            self._plans,
            self._provider,
            self.sender.exchange.in_brief(self._stop, _ASKING_S),
            is_strict=self._is_strict,
        )
        try:
            self._engine.run(source)
        except OSError as error:
            raise InternalError(f"Reading the input failed ({error.strerror}).") from error

    @property
    def counts(self) -> dict[StreamKey, StreamCounts]:
        return self._progress.counts

    def close(self) -> None:
        """Log the summary."""
        self._engine.bounds.report()
        self._progress.report(self._clock.monotonic(), is_final=True)


def attempt() -> int:
    """Which attempt of its job this is, as the platform says; the first is 0."""
    text = os.environ.get("WORKER_JOB_ATTEMPT", "").strip()
    return int(text) if text.isdecimal() else 0


def make_lanes(
    plans: Mapping[StreamKey, StreamPlan], config: Config, budget: DiskBudget
) -> dict[StreamKey, Lane]:
    """The lane of each stream; those of one table share one, so that its rows are counted once."""
    tables: dict[str, Lane] = {}
    lanes: dict[StreamKey, Lane] = {}
    for key, plan in plans.items():
        shared = tables.get(plan.table.name)
        if shared is None:
            lanes[key] = tables[plan.table.name] = make_lane(plan, config, budget, len(plans))
        else:
            lanes[key] = shared
            shared.others[key] = make_codec(plan, config)
    return lanes


def make_lane(plan: StreamPlan, config: Config, budget: DiskBudget, tables: int = 1) -> Lane:
    """Everything one table of so many needs."""
    provider, table = config.provider, plan.table
    batching = config.batching
    key_columns = table.key_columns if table.id_column is None else (table.id_column,)
    batcher = Batcher(
        table,
        max_rows=batching.max_rows or provider.limits.max_rows,
        max_bytes=batching.max_bytes or provider.limits.max_bytes,
        overhead=provider.body_size(table),
    )
    load = None
    if table.replace:
        keeps_originals = config.rejected_records.report_path is not None
        load = StagedLoad(budget, key_columns, keeps_originals=keeps_originals)
    counts = provider.traits.reads_back and load is None and table.mode == "append"
    limit = most_parallel(config)
    lane = Lane(
        plan,
        make_codec(plan, config),
        batcher,
        load=load,
        needs_count=counts,
        gathers=provider.traits.imports and load is None,
        follows=provider.traits.follows,
        pace=Pace(limit or MOST, is_fixed=limit is not None),
    )
    if load is None and plan.cursor_field is not None:
        lane.repeats.settled = SentVersions(max(_LEAST_KEYS, MOST_KEYS // tables))
    return lane


def most_parallel(config: Config) -> int | None:
    """How many requests may be under way, where that is set."""
    limits = (config.batching.max_parallel, config.provider.limits.max_parallel)
    return min((limit for limit in limits if limit is not None), default=None)


def make_codec(plan: StreamPlan, config: Config) -> RowCodec:
    """How the records of one stream become rows."""
    provider, table = config.provider, plan.table
    sent = [column.field for column in plan.columns]
    # what is left out on purpose is known, whatever an entry of tables names
    known = [*plan.declared, *plan.key_fields, CDC_DELETED_AT]
    return RowCodec(
        plan.key,
        plan.columns,
        replace(provider.rules, required_column=table.id_column),
        nested=config.nested_values,
        key_fields=plan.key_fields,
        cursor_field=plan.cursor_field,
        cursor_path=plan.cursor_path,
        tombstones=_tombstones(plan, config),
        extras=plan.extras,
        coerces=config.coerce_scalars,
        salt=config.mask_salt,
        sample=FieldSample(plan.key, sent, known, is_open=not plan.declared),
    )


def _tombstones(plan: StreamPlan, config: Config) -> Literal["delete", "reject"] | None:
    """What a record with `_ab_cdc_deleted_at` means: a key to delete, or a rejected row."""
    rules = config.provider.rules
    if plan.table.mode != "dedup" and not rules.keyed:
        return None  # a plain insert: the record is one of the table's history
    return "delete" if plan.table.replace or rules.deletes else "reject"


def circumstances(plans: Iterable[StreamPlan]) -> dict[StreamKey, Circumstances]:
    """What the report says of all rows of a stream."""
    return {
        plan.key: Circumstances(
            plan.table.name,
            attempt(),
            {column.name: column.field for column in plan.columns},
            is_hashed=any(column.mask == "hash" for column in plan.columns),
        )
        for plan in plans
    }


def require_possible(plans: Iterable[StreamPlan], config: Config) -> None:
    """Raise `ConfigError` where a table cannot be written as the catalog asks; log the warnings."""
    plans = list(plans)
    for line in unmatched_entries(config, {plan.key for plan in plans})[:_MOST_TOLD]:
        log.warning(line)
    for plan in plans:
        _require_possible(plan, config)
    tables = {plan.table.name: plan.table for plan in plans}
    for line in similar_names(tables.values())[:_MOST_TOLD]:
        log.warning(line)
    for table in tables.values():
        for warning in config.provider.warnings(table):
            log.warning(warning)


def _require_possible(plan: StreamPlan, config: Config) -> None:
    provider, table = config.provider, plan.table
    try:
        provider.validate(table)
    except SettingError as error:
        message = f"Config: {config.naming.says(error.setting, error.what)}"
        raise ConfigError(message, stream=plan.key) from error
    except ConfigError as error:
        error.stream = plan.key
        raise
    required = table.id_column
    # a column that holds the same in each row would make them one
    if required is not None and required not in {column.name for column in plan.columns}:
        message = (
            f"Stream {plan.key} has no field for the column {required!r}, by which "
            f"{provider.title} identifies rows. Map one to it in tables[].columns, or set id_field "
            "to the table's id column."
        )
        raise ConfigError(message, stream=plan.key)
