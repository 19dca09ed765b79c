"""Rows of a real source arrive in both vendors' tables, whatever the emulator's switches say.

What must be in the tables is computed here from the source's records and from the vendors' needs
alone; nothing of the package is used for it. `SWITCHES` and `OTHER` together name every switch of
the emulator, so that a new one is not overlooked.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, get_args

import orjson
import pytest

from integration_tests.conftest import FakerInput, generated
from integration_tests.connector import Connector, Outcome
from integration_tests.emulator import Emulator, Settings
from integration_tests.vendor_configs import Vendor, config_for

Emulate = Callable[..., Emulator]
pytestmark = pytest.mark.timeout(600)  # the first test waits for the source

# each value under which an append must end with all rows in the table, once
SWITCHES: dict[Vendor, dict[str, tuple[Any, ...]]] = {
    "qobra": {
        "latency_s": (0.02,),
        "qobra_queue_s": (0.3,),
        "qobra_import_s": (0.0, 0.4),
        "qobra_same_import_id": (False,),
        "qobra_part_count": ("whole",),
        "qobra_entries": ("per_request",),
        "qobra_stack": (True,),
        "qobra_row_errors": ("reject_table",),
        "qobra_error_count": ("null",),
        "qobra_error_flag": ("has_error", "has_errors", "error"),
        "qobra_count": ("unique_ids",),
        "qobra_foreign_entry": ("ok", "failed"),
        "qobra_order": ("reversed",),
        "qobra_hidden_s": (0.5,),
        "qobra_missing_field": ("emptied",),
        "qobra_max_body_bytes": (60_000,),
    },
    "kore": {
        "latency_s": (0.02,),
        "kore_max_body_bytes": (60_000,),
        "kore_enforce_jti": (True,),
        "kore_missing_right_status": (403,),
        "kore_unknown_table_status": (404,),
        "kore_bulk_mode": ("ordered_partial", "skip_bad", "skip_bad_4xx"),
        "kore_string_in_number": ("accept",),
        "kore_unknown_column": ("ignore",),
        "kore_sys_limit": ("reject",),
        "kore_row_order": ("random", "reverse"),
        "kore_timestamps": ("epoch",),
        "kore_query_totals": (False,),
        "kore_echo": ("one_less", "one_more", "no_records"),
        "kore_rate_limit": ("refuse", "record"),
        "kore_put_reply": ("records",),
        "kore_empty_delete": ("all",),
        "kore_delete_max": (1,),
    },
}
# not about a plain append of good rows, or a way to fail it (below, and in other files)
OTHER = {
    "auto_create_tables",
    "manual_clock",
    "time_scale",
    "kore_dates",  # replacing only
    "qobra_api_key",
    "qobra_window",  # replacing only
    "qobra_join",
    "qobra_failed_replace",
    "qobra_count_offset",
    "qobra_fail_imports",
    "qobra_never_finish",
    "too_large",  # together with a small limit, in COMBINED
    "kore_max_expressions",  # an append sends filters of one expression, which all are let through
    "kore_more_expressions",
    "kore_rate_windows",
    "kore_rate_status",
    "kore_rate_retry_after",
}
TIGHT = {"kore_rate_limit": "refuse", "kore_rate_windows": ((3, 1.0),)}
COMBINED: list[tuple[Vendor, dict[str, Any]]] = [
    ("qobra", {"qobra_max_body_bytes": 60_000, "too_large": "early"}),
    (
        "qobra",
        {
            "qobra_stack": True,
            "qobra_queue_s": 0.3,
            "qobra_part_count": "whole",
            "qobra_entries": "per_request",
            "qobra_foreign_entry": "failed",
            "qobra_error_flag": "has_error",
            "qobra_order": "reversed",
        },
    ),
    ("kore", {"kore_max_body_bytes": 60_000, "too_large": "early"}),
    ("kore", {**TIGHT, "kore_rate_retry_after": True}),
    ("kore", {**TIGHT, "kore_rate_retry_after": True, "kore_rate_status": 400}),
    ("kore", {"kore_echo": "one_less", "kore_row_order": "random", "kore_bulk_mode": "skip_bad"}),
]
LARGE: list[tuple[Vendor, dict[str, Any]]] = [
    ("qobra", {}),
    ("qobra", {"qobra_stack": True, "qobra_order": "reversed", "qobra_import_s": 0.2}),
    ("kore", {}),
    ("kore", {"kore_enforce_jti": True, "kore_rate_limit": "record", "kore_timestamps": "epoch"}),
]
SMALL = [
    (vendor, {name: value})
    for vendor, switches in SWITCHES.items()
    for name, values in switches.items()
    for value in values
] + COMBINED


def _id(value: object) -> str | None:
    if isinstance(value, dict):
        return ",".join(f"{name}={setting}" for name, setting in value.items()) or "defaults"
    return None


def expected(vendor: Vendor, data: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Say what a vendor's table must hold for one record."""
    row: dict[str, Any] = {}
    for name, about in schema["properties"].items():
        value = data.get(name)
        if isinstance(value, str) and about.get("format") == "date-time":
            moment = datetime.fromisoformat(value)
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
            if vendor == "qobra":
                value = moment.date().isoformat()
            else:
                value = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        elif isinstance(value, dict | list):
            value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        elif isinstance(value, bool) and vendor == "kore":
            value = "true" if value else "false"
        if value is not None or vendor == "qobra":
            row[name] = value
    return row


def schemas(configured_catalog: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the schema of each stream."""
    streams = [entry["stream"] for entry in configured_catalog["streams"]]
    return {stream["name"]: stream["json_schema"] for stream in streams}


def checksum(rows: Iterable[Mapping[str, Any]]) -> str:
    """Add up rows in any order; unlike the emulator's, a null differs from an absent column."""
    texts = sorted(orjson.dumps(row, option=orjson.OPT_SORT_KEYS) for row in rows)
    return hashlib.sha256(b"\n".join(texts)).hexdigest()


def checksums(vendor: Vendor, source: FakerInput) -> dict[str, str]:
    """Return the checksum that each stream's table must have."""
    known = schemas(source.catalog)
    return {
        stream: checksum(expected(vendor, data, known[stream]) for data in rows)
        for stream, rows in source.records.items()
    }


@dataclasses.dataclass(frozen=True)
class Part:
    """Some rows of the source, and the checksums each vendor's tables must have."""

    source: FakerInput
    sums: dict[Vendor, dict[str, str]]

    @classmethod
    def of(cls, source: FakerInput) -> Part:
        """Compute the checksums."""
        vendors: tuple[Vendor, ...] = get_args(Vendor)
        return cls(source, {vendor: checksums(vendor, source) for vendor in vendors})


@pytest.fixture(scope="session")
def large(faker_input: FakerInput) -> Part:
    """All 100,000 records."""
    return Part.of(faker_input)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Part:
    """2,500 records."""
    return Part.of(generated(1_200, tmp_path_factory))


def create_tables(emulator: Emulator, vendor: Vendor, source: FakerInput) -> None:
    """Set up each stream's table with the column types that fit it."""
    for stream, schema in schemas(source.catalog).items():
        kinds = {}
        for column, about in schema["properties"].items():
            kind = about["type"] if isinstance(about["type"], str) else about["type"][-1]
            if about.get("format") == "date-time":
                kind = "date"
            kinds[column] = {"integer": "number", "object": "string"}.get(kind, kind)
        emulator.create_table(vendor, stream, kinds)


def sync(connector: Connector, config: Mapping[str, Any], source: FakerInput) -> Outcome:
    """Run a sync whose input comes through a pipe from another process."""
    with subprocess.Popen(["cat", source.messages], stdout=subprocess.PIPE) as other:
        return connector.writing(config, source.catalog, stdin=other.stdout).ended()


def assert_arrived(outcome: Outcome, emulator: Emulator, vendor: Vendor, part: Part) -> None:
    """Compare tables, states and counts with the source."""
    outcome.delivered()
    for stream, records in part.source.records.items():
        rows = [orjson.loads(text) for text in emulator.raw_rows(vendor, stream)]
        assert len(rows) == len(records)
        assert checksum(rows) == part.sums[vendor][stream]
        own = [text for text in outcome.state_texts if f'"name":"{stream}"'.encode() in text]
        assert own == part.source.states[stream]
    for state in outcome.states:
        assert state["destinationStats"] == state["sourceStats"]


def test_every_switch_is_considered() -> None:
    """Each switch of the emulator is tried with appends, or named as not about them."""
    about_append = set(SWITCHES["qobra"]) | set(SWITCHES["kore"])
    assert about_append | OTHER == {field.name for field in dataclasses.fields(Settings)}


@pytest.mark.parametrize(("vendor", "switches"), LARGE, ids=_id)
def test_100_000_records_arrive(
    connector: Connector, emulate: Emulate, large: Part, vendor: Vendor, switches: dict[str, Any]
) -> None:
    """Counts, values and states of 100,000 records are those of the source."""
    emulator = emulate(**switches)
    create_tables(emulator, vendor, large.source)
    outcome = sync(connector, config_for(vendor, emulator.url), large.source)
    assert_arrived(outcome, emulator, vendor, large)
    assert emulator.rate_violations == 0


@pytest.mark.parametrize(("vendor", "switches"), SMALL, ids=_id)
def test_records_arrive_under_every_switch(
    connector: Connector, emulate: Emulate, small: Part, vendor: Vendor, switches: dict[str, Any]
) -> None:
    """Counts, values and states are those of the source, however the vendor reads its own docs."""
    emulator = emulate(**switches)
    create_tables(emulator, vendor, small.source)
    config = config_for(vendor, emulator.url, batching={"max_rows": 300})
    outcome = sync(connector, config, small.source)
    assert_arrived(outcome, emulator, vendor, small)
    if "kore_rate_windows" not in switches:  # tighter than the documented ones
        assert emulator.rate_violations == 0
