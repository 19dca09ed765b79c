"""A sync put together: what its settings and its streams make of lanes, codecs and threads."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from destination_bulk_tables import commands, sync
from destination_bulk_tables.catalog import StreamPlan, plan_streams
from destination_bulk_tables.config import Config
from destination_bulk_tables.errors import ConfigError, InternalError, SettingError
from destination_bulk_tables.lanes import Lane
from destination_bulk_tables.messages import Message
from destination_bulk_tables.model import JsonObject, StreamKey, Table
from destination_bulk_tables.pace import MOST
from destination_bulk_tables.rejects import Rejects
from destination_bulk_tables.spool import DiskBudget
from destination_bulk_tables.versions import MOST_KEYS
from unit_tests.fakes import FakeClock, FakeTransport, scripted, status
from unit_tests.syncs import DEALS, catalog_of
from unit_tests.test_commands import COMPLETE, KORE, QOBRA, STATE, lines_of, record, write
from unit_tests.vendors import KoreVendor

NOWHERE = DiskBudget("/nowhere", 1)


def config_of(provider: JsonObject, **more: Any) -> Config:
    return commands.parse_config({"provider": provider, **more})


def plan_of(config: Config, mode: Any, **more: Any) -> StreamPlan:
    [plan] = plan_streams(catalog_of(mode, **more), config).values()
    return plan


def lane_of(config: Config, mode: Any, tables: int = 1) -> Lane:
    return sync.make_lane(plan_of(config, mode), config, NOWHERE, tables)


def made_sync(config: Config, catalog: JsonObject) -> sync.Sync:
    """A sync that was not run; nothing answers it."""
    clock, plans = FakeClock(), plan_streams(catalog, config)
    rejects = Rejects(config.rejected_records, None, clock, sync.circumstances(plans.values()))
    transport = FakeTransport(clock, scripted(status(200, b"{}")))
    return sync.Sync(config, plans, rejects, transport, clock, lambda _: None, threading.Event())


# --- lanes


@pytest.mark.parametrize(
    ("provider", "mode", "gathers"),
    [(QOBRA, "append", True), (QOBRA, "overwrite", False), (KORE, "append", False)],
)
def test_only_a_table_of_imports_gathers_rows(
    provider: JsonObject,
    mode: Any,
    gathers: bool,  # noqa: FBT001
) -> None:
    """And not where its rows are staged anyway."""
    assert lane_of(config_of(provider), mode).gathers is gathers


@pytest.mark.parametrize(
    ("most", "limit", "expected"),
    [(None, None, None), (3, None, 3), (None, 5, 5), (3, 5, 3), (6, 5, 5)],
)
def test_the_smaller_number_that_is_set_is_kept(
    most: int | None, limit: int | None, expected: int | None
) -> None:
    """By the user or the provider's form; without either it is found, up to its bound."""
    config = config_of(KORE)
    config = replace(config, batching=replace(config.batching, max_parallel=most))
    config.provider.limits = replace(config.provider.limits, max_parallel=limit)
    pace = lane_of(config, "append").pace
    assert (pace.most, pace.is_fixed) == (expected or MOST, expected is not None)
    assert sync.most_parallel(config) == expected


@pytest.mark.parametrize("reports", [True, False])
@pytest.mark.parametrize(
    ("provider", "key", "columns"),
    [(KORE, "name", ("name",)), (KORE, None, ()), (QOBRA, "name", ("id",))],
)
def test_a_load_is_kept_by_the_key_that_the_vendor_keeps(
    tmp_path: Path,
    provider: JsonObject,
    key: str | None,
    columns: tuple[str, ...],
    reports: bool,  # noqa: FBT001
) -> None:
    """Qobra's id in each mode; elsewhere the primary key. Lines are kept only for a report."""
    report = {"report_path": str(tmp_path / "r")} if reports else {}
    config = config_of(provider, rejected_records={"policy": "skip", **report})
    mode = "append_dedup" if key else "overwrite"
    plan = plan_of(config, mode, primary_key=[[key or "id"]], minimum_generation_id=2)
    load = sync.make_lane(plan, config, NOWHERE).load
    assert load is not None
    assert load._key_columns == columns
    assert (load._originals is not None) is reports
    assert made_sync(config, catalog_of("append")).keeps_lines is reports


@pytest.mark.parametrize(
    ("mode", "tables", "most"),
    [
        ("append", 1, None),  # it has no cursor
        ("append_dedup", 1, MOST_KEYS),
        ("append_dedup", 10, MOST_KEYS // 10),
        ("append_dedup", 5000, 1000),
    ],
)
def test_versions_are_remembered_where_there_is_a_cursor(
    mode: Any, tables: int, most: int | None
) -> None:
    """So many of all tables together, and of each enough to be of use."""
    settled = lane_of(config_of(KORE), mode, tables).repeats.settled
    assert (None if settled is None else settled._most) == most


def test_a_replaced_table_remembers_no_versions() -> None:
    """Its load compares them at the end."""
    config = config_of(KORE)
    plan = plan_of(config, "append_dedup", minimum_generation_id=2)
    assert (plan.cursor_field, plan.table.replace) == ("version", True)
    assert sync.make_lane(plan, config, NOWHERE).repeats.settled is None
    one = sync.make_lane(plan_of(config, "append_dedup"), config, NOWHERE)
    assert one.repeats.settled is not None
    assert one.repeats.settled._most == MOST_KEYS


def test_streams_of_one_table_share_its_lane() -> None:
    """Each with a codec of its own; another table has another lane."""
    told = [{"column": "of", "holds": "stream"}]
    tables = [{"stream": name, "table": "a", "message_columns": told} for name in "ab"]
    config = config_of(KORE, tables=tables)
    plans = plan_streams(catalog_of("append", "a", "b", "c"), config)
    a, b, c = sync.make_lanes(plans, config, NOWHERE).values()
    assert a is b is not c
    assert a.codec_of(StreamKey(None, "b")) is not a.codec


def test_the_versions_of_all_tables_together_are_bounded() -> None:
    """Each table has its share."""
    config = config_of(KORE)
    plans = plan_streams(catalog_of("append_dedup", "a", "b", "c"), config)
    for lane in sync.make_lanes(plans, config, NOWHERE).values():
        assert lane.repeats.settled is not None
        assert lane.repeats.settled._most == MOST_KEYS // 3


# --- codecs


@pytest.mark.parametrize(
    ("provider", "mode", "meaning"),
    [
        (KORE, "append", None),
        (KORE, "append_dedup", "delete"),
        (KORE, "overwrite", None),
        (QOBRA, "append", "reject"),
        (QOBRA, "append_dedup", "reject"),
        (QOBRA, "overwrite", "delete"),
    ],
)
def test_what_a_deletion_means(provider: JsonObject, mode: Any, meaning: str | None) -> None:
    """A row of a history, a key to delete, or one that stays although it should not."""
    config = config_of(provider)
    plan = plan_of(config, mode)
    assert sync._tombstones(plan, config) == meaning


@pytest.mark.parametrize("declares", [True, False])
def test_only_a_stream_that_declares_columns_has_undeclared_ones(declares: bool) -> None:  # noqa: FBT001
    """Where a schema says nothing, each field would be one."""
    config = config_of(KORE)
    plan = plan_of(config, "append")
    plan = plan if declares else replace(plan, declared=())
    sample = sync.make_codec(plan, config)._sample
    assert sample is not None
    assert sample._is_open is (not declares)


def test_a_setting_that_a_table_cannot_be_written_with_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With its stream, before any request."""

    def refuse(_: Table) -> None:
        raise SettingError("provider.host", "is of another world")

    config = config_of(KORE)
    monkeypatch.setattr(config.provider, "validate", refuse)
    with pytest.raises(ConfigError, match=r"^Config: .*host.* is of another world") as caught:
        sync.require_possible([plan_of(config, "append")], config)
    assert caught.value.stream == DEALS


# --- a sync


@pytest.mark.parametrize(
    ("text", "number"), [(None, 0), ("", 0), ("0", 0), (" 3 ", 3), ("-1", 0), ("x", 0)]
)
def test_the_attempt_is_the_platforms(
    monkeypatch: pytest.MonkeyPatch, text: str | None, number: int
) -> None:
    """What is no number is the first."""
    if text is None:
        monkeypatch.delenv("WORKER_JOB_ATTEMPT", raising=False)
    else:
        monkeypatch.setenv("WORKER_JOB_ATTEMPT", text)
    assert sync.attempt() == number


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_a_table_without_a_column_ends_a_sync_that_may_lose_no_row(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    """Before its first row; where rows may be skipped it is a warning and the sync goes on."""
    caplog.set_level("INFO")
    vendor = KoreVendor(columns=[{"name": "id", "type": "string"}])
    text = lines_of(record(1), STATE, COMPLETE)
    messages, error = write(monkeypatch, vendor, text, rejected_records={"policy": policy})
    assert "has no column" in (error.message if error else caplog.text)
    assert (isinstance(error, ConfigError), len(messages)) == (
        (True, 0) if policy == "fail" else (False, 1)
    )
    assert "sync_summary stream=deals" in caplog.text
    assert ("sync_bound table=deals" in caplog.text) is (policy == "skip")


@pytest.mark.parametrize(("policy", "narrows"), [("fail", False), ("skip", True)])
def test_bad_rows_are_looked_for_where_the_others_go_on(policy: str, narrows: bool) -> None:  # noqa: FBT001
    """Where one ends the sync, halving the batch would only add requests."""
    config = config_of(KORE, rejected_records={"policy": policy})
    assert made_sync(config, catalog_of("append")).sender.narrows is narrows


def test_there_is_a_thread_for_each_request_and_for_a_job() -> None:
    """A job is asked for while as many requests as may be are under way."""
    config = config_of(KORE, batching={"max_parallel_requests": 3})
    made = made_sync(config, catalog_of("append"))
    workers: Any = made._engine._tools.workers
    assert workers._pool._max_workers == 4


def test_the_reader_is_told_which_streams_want_the_time() -> None:
    """Of the others it need not look for it in each record."""
    told = [{"column": "at", "holds": "emitted_at"}]
    tables = [{"stream": "a", "message_columns": told}, {"stream": "b"}]
    found = made_sync(config_of(KORE, tables=tables), catalog_of("append", "a", "b"))
    assert found.timed == {StreamKey(None, "a")}
    assert found.row_types.keys() == {StreamKey(None, "a"), StreamKey(None, "b")}


class Broken:
    """An input that cannot be read."""

    ended = False

    def read(self, timeout_s: float, *, wants_input: bool) -> Iterator[Message]:  # noqa: ARG002
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_an_input_that_cannot_be_read_ends_the_sync() -> None:
    """It is no end of the input."""
    found = made_sync(config_of(QOBRA), catalog_of("append"))
    with pytest.raises(InternalError, match=r"Reading the input failed \(Input/output error\)"):
        found.run(Broken())
    assert found.counts[DEALS].read == 0
