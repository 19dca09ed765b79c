"""The README's PyAirbyte script, run as it stands there: source-faker into both vendors.

What the tables hold is compared value by value with what source-faker writes when it runs alone.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest

from integration_tests.connector import COMMAND
from integration_tests.demo_source import Faker, installed_command
from integration_tests.emulator import Emulator
from integration_tests.pyairbyte.conftest import ROOT, PyAirbyte
from integration_tests.pyairbyte.read_back import HEADING, compare, messages
from integration_tests.vendor_configs import Vendor, config_for

pytestmark = [
    pytest.mark.timeout(1200),  # the first run installs PyAirbyte
    pytest.mark.xdist_group("faker"),  # one worker runs the source alone
]

USERS = 1000
# One worker, or the rows depend on which of them is faster; and a second sync has nothing to send.
SOURCE = {"count": USERS, "seed": 7, "parallelism": 1, "always_updated": False}
IN_README = '{"count": 1000}'


def script() -> str:
    """Return the README's only Python block, with this source's config."""
    (block,) = (ROOT / "README.md").read_text().split("```python\n")[1:]
    code = block.split("```")[0]
    assert code.count(IN_README) == 1
    return code.replace(IN_README, repr(SOURCE))


def writes(emulator: Emulator) -> int:
    """Count the requests that carried rows."""
    return sum(bool(request.rows) for request in emulator.requests)


def without_update_time(row: dict[str, Any]) -> dict[str, Any]:
    """Leave out the one column that is new in each run of the source."""
    assert row["updated_at"]
    return {name: value for name, value in row.items() if name != "updated_at"}


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Run source-faker alone; its rows by stream."""
    folder = tmp_path_factory.mktemp("alone")
    source = Faker(folder, USERS)
    catalog = source.catalog()
    for name, content in (("source", SOURCE), ("catalog", catalog)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    files = ["--config", "source.json", "--catalog", "catalog.json"]
    with (folder / "alone.jsonl").open("wb") as output:
        command = [installed_command(), "read", *files]
        subprocess.run(command, cwd=folder, stdout=output, check=True)
    rows: dict[str, list[dict[str, Any]]] = {}
    for message in messages([folder / "alone.jsonl"]):
        if message["type"] == "RECORD":
            record = message["record"]
            rows.setdefault(record["stream"], []).append(without_update_time(record["data"]))
    assert {stream: len(of_stream) for stream, of_stream in rows.items()} == source.rows
    return rows


@pytest.mark.parametrize("vendor", get_args(Vendor))
def test_faker(
    vendor: Vendor,
    emitted: dict[str, list[dict[str, Any]]],
    pyairbyte: PyAirbyte,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every row is in its table once, with its values, and stays when the next sync has no rows."""
    programs = (Path(COMMAND).parent, Path(installed_command()).parent)
    (tmp_path / "script.py").write_text(script())
    with Emulator(auto_create_tables=True) as emulator:
        (tmp_path / "config.json").write_text(json.dumps(config_for(vendor, emulator.url)))
        pyairbyte.run("python", "script.py", path=programs)
        stored = {stream: emulator.rows(vendor, stream) for stream in emitted}
        assert (sent := writes(emulator)) > 0
        pyairbyte.run("python", "script.py", path=programs)
        assert writes(emulator) == sent  # PyAirbyte has kept the states
        assert stored == {stream: emulator.rows(vendor, stream) for stream in emitted}
    results = [
        compare(stream, rows, [without_update_time(row) for row in stored[stream]], [])
        for stream, rows in sorted(emitted.items())
    ]
    with capsys.disabled():
        print(f"\n\n{vendor}", HEADING, *results, sep="\n")
    assert [str(result) for result in results if not result.is_complete] == []
