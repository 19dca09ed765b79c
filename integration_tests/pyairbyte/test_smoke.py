"""PyAirbyte's destination smoke test, all scenarios, and a read-back of every stream."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest

from integration_tests.connector import COMMAND
from integration_tests.emulator import Emulator
from integration_tests.pyairbyte.conftest import PyAirbyte
from integration_tests.pyairbyte.read_back import HEADING, StreamResult, compare, messages
from integration_tests.vendor_configs import Vendor, config_for

CONNECTOR = shlex.quote(COMMAND)
WITHOUT_ID = "schema_with_no_primary_key"
EVENTS = ["evt_001", "evt_002"]
STREAMS = 22 + 1  # those of the scenarios, and the preflight's

pytestmark = pytest.mark.timeout(1200)  # the first run installs PyAirbyte


def recording_connector(folder: Path) -> Path:
    """Write a program that is the connector and keeps a copy of what it is sent."""
    program = folder / "recording-connector"
    program.write_text(
        "#!/bin/bash\nset -o pipefail\n"
        f'[ "$1" = write ] || exec {CONNECTOR} "$@"\n'
        f'tee {shlex.quote(str(folder))}/sent.$$ | {CONNECTOR} "$@"\n'
    )
    program.chmod(0o755)
    return program


def smoke_test(pyairbyte: PyAirbyte, folder: Path, config: Path) -> str:
    """Run all scenarios and return what the tool printed."""
    return pyairbyte.run(
        "pyab",
        "destination-smoke-test",
        f"--destination={recording_connector(folder)}",  # absolute, or it would not be found
        f"--config={config}",
        "--scenarios=all",
    )


@pytest.mark.parametrize("vendor", get_args(Vendor))
def test_smoke(
    vendor: Vendor, pyairbyte: PyAirbyte, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each row of each scenario is in its table with its values, or rejected with a reason."""
    report = tmp_path / "rejected.jsonl"
    config = tmp_path / "config.json"
    with Emulator(auto_create_tables=True) as emulator:
        settings: dict[str, Any] = {
            "rejected_records": {"policy": "skip", "report_path": str(report)}
        }
        if vendor == "qobra":  # the remedy that the error about a missing id column names
            entry = {"stream": WITHOUT_ID, "rename": [{"field": "event_id", "column": "id"}]}
            settings["tables"] = [entry]
        config.write_text(json.dumps(config_for(vendor, emulator.url, **settings)))
        printed = smoke_test(pyairbyte, tmp_path, config)
        results = read_back(emulator, vendor, tmp_path, report)
        if vendor == "qobra":
            assert sorted(row["id"] for row in emulator.rows(vendor, WITHOUT_ID)) == EVENTS
    with capsys.disabled():
        print(f"\n\n{vendor}", HEADING, *results, sep="\n")
    assert '"success": true' in printed
    assert len(results) == STREAMS
    assert [str(result) for result in results if not result.is_complete] == []
    assert [result.stream for result in results if result.rejected] == []


def _as_mapped(vendor: Vendor, stream: str, row: dict[str, Any]) -> dict[str, Any]:
    if vendor == "qobra" and stream == WITHOUT_ID:
        return {"id" if name == "event_id" else name: value for name, value in row.items()}
    return row


def read_back(emulator: Emulator, vendor: Vendor, folder: Path, report: Path) -> list[StreamResult]:
    """Compare every stream of the catalogs' messages with its table."""
    lines = messages(sorted(folder.glob("sent.*")))
    found = [line["record"] for line in messages([report])] if report.exists() else []
    rejected = [{"stream": record["stream"], **record["meta"]["rejection"]} for record in found]
    status = "stream_status"
    named = [line["trace"][status] for line in lines if (line.get("trace") or {}).get(status)]
    streams = sorted({entry["stream_descriptor"]["name"] for entry in named})
    records = [line["record"] for line in lines if line["type"] == "RECORD"]
    return [
        compare(
            stream,
            [
                _as_mapped(vendor, stream, record["data"])
                for record in records
                if record["stream"] == stream
            ],
            emulator.rows(vendor, stream) if has_table(emulator, vendor, stream) else [],
            [line for line in rejected if line["stream"] == stream],
        )
        for stream in streams
    ]


def has_table(emulator: Emulator, vendor: Vendor, name: str) -> bool:
    """Tell an empty stream, for which nothing is sent and no table made, from one with a table."""
    tables = emulator.summary()["tables"]
    return any((table["vendor"], table["table"]) == (vendor, name) for table in tables)
