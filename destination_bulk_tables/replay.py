"""Sends the rows of a report again: the code of `write`, with the report's lines as its input.

Nothing is replaced: a stream whose table a sync replaces is appended to here, or upserted where it
is kept by key. What is rejected again goes to a new report, so that the old one stays as it was.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from destination_bulk_tables.catalog import find_stream, plan_streams
from destination_bulk_tables.clock import Clock
from destination_bulk_tables.commands import parse_config, run_sync
from destination_bulk_tables.config import Config, RejectedRecords
from destination_bulk_tables.errors import ConfigError
from destination_bulk_tables.model import UNDECODABLE, JsonObject, JsonValue, StreamKey
from destination_bulk_tables.private_files import stamp_of
from destination_bulk_tables.progress import StreamCounts
from destination_bulk_tables.stores import Store, is_store

_READ_BYTES = 1_000_000
_OPTION = "--report"
# how a stream is written that must not replace its table
_WITHOUT_REPLACING = {"overwrite": "append", "overwrite_dedup": "append_dedup"}
_GENERATIONS = ("generation_id", "minimum_generation_id", "sync_id")


class _Record(msgspec.Struct, gc=False):
    stream: str
    namespace: str | None = None


class _Line(msgspec.Struct, tag_field="type", tag="RECORD", gc=False):
    record: _Record


_line = msgspec.json.Decoder(_Line).decode


@dataclass(slots=True)
class Replayed:
    """What became of the lines. `left_out`: of streams that the catalog lacks, by their names.

    `unkeyed`: tables to which a repeated replay adds the rows once more. `rejects`: where the new
    report is, where there are such rows.
    """

    counts: dict[StreamKey, StreamCounts] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    unkeyed: list[str] = field(default_factory=list)
    rejects: str = ""


def replay(
    raw_config: JsonValue,
    raw_catalog: JsonValue,
    address: str,
    rejects: str | None,
    stop: threading.Event,
    clock: Clock,
) -> Replayed:
    """Raises the `DestinationError` that ended it; `rejects`: where the new report is to be."""
    config = parse_config(raw_config)
    with config.naming.speaking():
        done = Replayed(rejects=_new_report(config, address, rejects, clock))
        config = replace(
            config,
            truncate_mode="never",
            rejected_records=RejectedRecords("skip", sys.maxsize, done.rejects),
        )
        catalog = _without_replacing(raw_catalog)
        plans = plan_streams(catalog, config)
        if not config.provider.rules.keyed:
            tables = [plan.table for plan in plans.values()]
            done.unkeyed = [table.name for table in tables if table.mode != "dedup"]
        lines = _selected(_lines(_chunks(address, config, stop)), set(plans), done)
        done.counts = _fed(
            lines, lambda stdin: run_sync(config, catalog, stdin, lambda _: None, stop, clock)
        )
        return done


def _new_report(config: Config, address: str, rejects: str | None, clock: Clock) -> str:
    """Where rows go that are rejected again: never into the report that is read."""
    path = rejects or config.rejected_records.report_path
    if path is None:
        raise ConfigError(
            "Rows may be rejected again, and there is no place for them: set "
            "rejected_records.report_path, or give --rejects."
        )
    is_one_file = not is_store(path) and not path.endswith("/") and not Path(path).is_dir()
    if rejects is None and is_one_file:
        return f"{path}.{stamp_of(clock.now())}"
    if is_one_file and Path(path).resolve() == Path(address).resolve():
        message = "--rejects is the report that is replayed. Name another file, or a folder."
        raise ConfigError(message)
    return path


def _without_replacing(raw: JsonValue) -> JsonValue:
    """The catalog in which no stream replaces its table, nor waits for the source's COMPLETE."""
    streams = raw.get("streams") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(streams, list):
        return raw
    return {**raw, "streams": [_as_addition(s) if isinstance(s, dict) else s for s in streams]}


def _as_addition(configured: JsonObject) -> JsonObject:
    kept = {name: value for name, value in configured.items() if name not in _GENERATIONS}
    mode = str(kept.get("destination_sync_mode"))
    return kept | {"destination_sync_mode": _WITHOUT_REPLACING.get(mode, mode)}


def _chunks(address: str, config: Config, stop: threading.Event) -> Iterator[bytes]:
    """What is there now: the new report may be made in the same folder, and is not to be read."""
    if is_store(address):
        return _stored(address, config, stop)
    path = Path(address)
    return _read(sorted(path.glob("*.jsonl")) if path.is_dir() else [path], address)


def _stored(address: str, config: Config, stop: threading.Event) -> Iterator[bytes]:
    with contextlib.closing(Store(address, config.object_store, _OPTION, stop)) as store:
        yield from store.read()


def _read(files: Iterable[Path], address: str) -> Iterator[bytes]:
    try:
        for file in files:
            with file.open("rb") as opened:
                while chunk := opened.read(_READ_BYTES):
                    yield chunk
            yield b"\n"
    except OSError as error:
        raise ConfigError(f"{_OPTION} cannot be read: {address} ({error.strerror}).") from error


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from filter(None, lines)
    if rest:
        yield rest


def _selected(
    lines: Iterable[bytes], known: Collection[StreamKey], done: Replayed
) -> Iterator[bytes]:
    """The records of streams in the catalog; the others are counted."""
    for line in lines:
        try:
            record = _line(line).record
        except UNDECODABLE:
            done.unreadable += 1
            continue
        stream = StreamKey.of(record.namespace, record.stream)
        if find_stream(stream, known) is None:
            done.left_out[str(stream)] += 1
        else:
            yield line


def _fed(
    lines: Iterable[bytes], run: Callable[[int], dict[StreamKey, StreamCounts]]
) -> dict[StreamKey, StreamCounts]:
    """Run a sync with these lines on its input, which a thread feeds as fast as it reads."""
    stdin, feed = os.pipe()
    failures: list[Exception] = []

    def write() -> None:
        # the sync ended early and says why, or it may not be told that all lines came
        with contextlib.suppress(BrokenPipeError), os.fdopen(feed, "wb") as pipe:
            try:
                pipe.writelines(line + b"\n" for line in lines)
            except Exception as error:  # noqa: BLE001 - the border of the thread
                failures.append(error)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        counts = run(stdin)
    finally:
        os.close(stdin)
    thread.join()
    if failures:
        raise failures[0]
    return counts


# --- what is said of it


def as_json(done: Replayed) -> JsonObject:
    """Counts per stream; `rejects` is where the new report is, None where nothing is in it."""
    has_rejects = any(counts.rejected for counts in done.counts.values())
    return {
        "streams": [
            {
                "stream": str(stream),
                "rows_sent": counts.read,
                "rows_delivered": counts.delivered,
                "rows_rejected_again": counts.rejected,
            }
            for stream, counts in done.counts.items()
        ],
        "rows_left_out": dict(done.left_out),
        "unreadable_lines": done.unreadable,
        "tables_where_a_repetition_doubles_rows": [*dict.fromkeys(done.unkeyed)],
        "rejects": done.rejects if has_rejects else None,
    }


def as_text(report: JsonObject) -> str:
    return "\n".join(_told(report)) + "\n"


def _told(report: Any) -> Iterator[str]:
    if "problem" in report:
        yield f"The replay did not get to its end: {report['problem']}"
        return
    for stream in report["streams"]:
        yield (
            f"{stream['stream']}: {stream['rows_sent']} rows sent, {stream['rows_delivered']} "
            f"delivered, {stream['rows_rejected_again']} rejected again"
        )
    for stream, rows in report["rows_left_out"].items():
        yield f"{stream}: {rows} rows left out, the catalog has no such stream"
    if report["unreadable_lines"]:
        yield f"{report['unreadable_lines']} lines left out that are no RECORD messages"
    if report["rejects"]:
        yield f"Rejected again: {report['rejects']}"
    for table in report["tables_where_a_repetition_doubles_rows"]:
        yield f"Table {table} is not kept by key: the same replay again would double its rows."
