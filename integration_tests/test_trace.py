"""The trace of a sync that met trouble, and its page in a real browser."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from integration_tests.browsing import WIDTHS, clipped, window
from integration_tests.connector import (
    Connector,
    Outcome,
    catalog,
    complete,
    configured,
    record,
    state,
)
from integration_tests.emulator import Emulator
from integration_tests.servers.object_stores import Moto
from integration_tests.vendor_configs import Vendor, config_for

pytestmark = pytest.mark.timeout(600)  # the first run installs

ROWS = 40
FAULTS = [
    {"kind": "status", "status": 429, "retry_after": 1, "match": "POST .*/bulk", "at": 2},
    {"kind": "cut_after", "match": "POST .*/bulk", "at": 5},
]


def trace_sync(
    connector: Connector, emulate: Callable[..., Emulator], vendor: Vendor, path: str, **more: Any
) -> tuple[Emulator, Outcome]:
    """Run a sync of eight batches of which one meets a 429 and one is cut off."""
    emulator = emulate(auto_create_tables=True, qobra_import_s=0.2)
    emulator.create_table("kore", "deals", {"id": "string", "name": "string"})
    emulator.faults(FAULTS)
    config = config_for(
        vendor,
        emulator.url,
        batching={"max_rows": 5, "max_parallel_requests": 1},
        diagnostics={"trace_path": path},
        **more,
    )
    lines = [record("deals", {"id": f"d{n}", "name": f"canary-{n}"}) for n in range(ROWS)]
    streams = catalog(configured("deals", ["id", "name"]))
    ended = connector.write(config, streams, [*lines, state("deals", 1), complete("deals")])
    return emulator, ended.delivered()


@pytest.fixture
def traced(
    connector: Connector, emulate: Callable[..., Emulator], request: pytest.FixtureRequest
) -> tuple[Emulator, Path]:
    """Give the emulator and the trace of a sync."""
    vendor: Vendor = getattr(request, "param", "qobra")
    emulator, _ = trace_sync(connector, emulate, vendor, f"{connector.folder}/trace/")
    [trace] = (connector.folder / "trace").iterdir()
    return emulator, trace


@pytest.mark.parametrize("traced", ["qobra", "kore"], indirect=True)
def test_each_request_of_a_sync_has_a_line(traced: tuple[Emulator, Path]) -> None:
    """As many as the vendor saw, with the cause of each repetition, and no value of a row."""
    emulator, trace = traced
    text = trace.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    # a line is written at the answer, so only the order at one address is the vendor's
    assert sorted(
        ((line["method"], line["path"], line["status"]) for line in lines), key=itemgetter(0, 1)
    ) == sorted(
        ((seen.method, seen.path, seen.status) for seen in emulator.requests),
        key=itemgetter(0, 1),
    )
    writes = [line for line in lines if line["path"].endswith("/bulk")]
    assert sum(line["rows"] for line in writes if line["status"] in {200, 201}) >= ROWS - 5
    causes = [line["cause"] for line in lines if "cause" in line]
    assert causes[0] == "HTTP 429"
    assert len(causes) == 2
    assert not re.search("canary|qobra-key-1|kore-secret-1|eyJ", text)
    assert stat.S_IMODE(trace.stat().st_mode) == 0o600
    imports = {line["import_id"] for line in lines if "import_id" in line}
    assert bool(imports) is ("/v1/" in lines[0]["path"])


def test_the_page_of_a_trace_in_a_browser(
    traced: tuple[Emulator, Path], browser: Chrome, tmp_path: Path
) -> None:
    """One file that asks for no other, nothing of which is clipped at any width."""
    _, trace = traced
    page = tmp_path / "page.html"
    command = [sys.executable, "-m", "destination_bulk_tables.trace", str(trace), str(page)]
    subprocess.run(command, check=True, timeout=300)
    for width in WIDTHS:
        with window(browser, width):
            browser.get(page.as_uri())
            assert clipped(browser) == []
            bars = browser.find_elements(By.CSS_SELECTOR, "#over-time rect")
            assert bars
            assert all(bar.size["height"] >= 1 and bar.size["width"] >= 1 for bar in bars)
            browser.save_screenshot(str(tmp_path / f"page-{width}.png"))
    shown = browser.find_element(By.TAG_NAME, "main").text
    for text in ("429: 1", "no answer: 1", "after: HTTP 429", "time since the first request"):
        assert text in shown
    asked = browser.execute_script("return performance.getEntriesByType('resource').length")
    assert asked == 0


def test_a_trace_in_a_store_is_whole_and_makes_a_page(
    connector: Connector, emulate: Callable[..., Emulator], moto: Moto, tmp_path: Path
) -> None:
    """Each request has a line there; the command reads it with the connector's own config."""
    address = f"{moto.address}/trace"
    emulator, _ = trace_sync(connector, emulate, "kore", address, object_store=moto.settings)
    [(key, text)] = moto.objects().items()
    assert key.endswith("/000001.jsonl")
    assert len(text.splitlines()) == len(emulator.requests)
    page = tmp_path / "page.html"
    command = [sys.executable, "-m", "destination_bulk_tables.trace", address, str(page)]
    config = f"--config={connector.folder}/config.json"
    subprocess.run([*command, config], check=True, timeout=300)
    assert f"{len(emulator.requests)} requests from" in page.read_text()


def test_a_store_that_is_away_fails_no_sync(
    connector: Connector, emulate: Callable[..., Emulator], moto: Moto
) -> None:
    """The bucket does not exist: the sync ends well, with one warning."""
    settings = {"object_store": moto.settings}
    _, ended = trace_sync(connector, emulate, "kore", "s3://nowhere/trace", **settings)
    [warning] = [line for line in ended.logs if "trace_not_written" in line]
    assert "diagnostics.trace_path" in warning
    assert "store-secret-1" not in ended.text
