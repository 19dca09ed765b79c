"""The emulator's page in a real browser: what is clicked and typed does what it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from integration_tests.browsing import WIDTHS, clipped, window
from integration_tests.emulator import Emulator

KEY = {"X-API-Key": "qobra-key-1"}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """Sixty wide rows in Qobra in twelve imports, some in Kore.ai, and a refused request."""
    with Emulator(auto_create_tables=True) as running:
        for start in range(0, 60, 5):
            rows = [
                {"id": str(n), **{f"a rather long column {c}": n * c for c in range(9)}}
                for n in range(start, start + 5)
            ]
            _push(running, "deals", rows)
        _push(running, "calls", [{"id": "1"}])
        running.create_table("kore", "deals", {"name": "string"})
        requests.post(f"{running.url}/api/public/tables/deals/bulk", json={}, timeout=60)
        yield running


def _push(emulator: Emulator, table: str, rows: list[dict[str, Any]]) -> int:
    url = f"{emulator.url}/v1/tables/{table}/records/bulk"
    return requests.post(url, json={"items": rows}, headers=KEY, timeout=60).status_code


def _until_seen(
    browser: webdriver.Chrome, text: str, css: str = "body", *, without: str = "\0"
) -> str:
    """Wait for the page's refresh to show a text (and another no more); the text of that part."""

    def shown(driver: webdriver.Chrome) -> str | None:
        found = str(driver.execute_script(_TEXT, css))
        return found if text in found and without not in found else None

    return str(WebDriverWait(browser, 100).until(shown))


_TEXT = "return document.querySelector(arguments[0])?.innerText ?? ''"


def _click(browser: webdriver.Chrome, selector: str) -> None:
    """Click in one step: a refresh may replace the element between finding and clicking it."""
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


def test_tables_requests_and_imports_open(browser: webdriver.Chrome, emulator: Emulator) -> None:
    """A table opens with all columns and is paged; requests are filtered by status and table."""
    browser.get(emulator.url)
    _click(browser, "a[href*='open=qobra%3Adeals']")
    assert "a rather long column 8" in _until_seen(browser, "1 to 25 of 60", "#opened")
    _click(browser, "a[aria-label='older rows']")
    _until_seen(browser, "26 to 50 of 60", "#opened")
    _click(browser, "a[href*='status=bad']")
    _until_seen(browser, "/api/public/tables/deals/bulk", "#log", without="/v1/tables")
    browser.back()
    _until_seen(browser, "/v1/tables/calls", "#log")
    _click(browser, "#filters a[href*='table=qobra%3Acalls']")
    _until_seen(browser, "/v1/tables/calls", "#log", without="/v1/tables/deals")
    _click(browser, "#log summary")
    log = _until_seen(browser, "1 rows, applied", "#log")
    assert "qobra-key-1" not in log
    _click(browser, "#filters a[href*='table=qobra%3Adeals']")
    _until_seen(browser, "1 to 6 of 12", "#pager-imports")
    _click(browser, "a[aria-label='older imports']")
    _until_seen(browser, "7 to 12 of 12", "#pager-imports")


def test_switches_and_faults_are_set(browser: webdriver.Chrome, emulator: Emulator) -> None:
    """A switch and a fault set from the page hold for the next request; both can be undone."""
    browser.get(emulator.url)
    _click(browser, "#controls summary")
    browser.execute_script(
        "document.querySelector('[name=qobra_window]').value = '\"sliding\"';"
        "document.querySelector('#switches').requestSubmit();"
    )
    _until_seen(browser, "qobra_window = sliding", "#in-force")
    assert emulator.settings.not_default() == {
        "auto_create_tables": True,
        "qobra_window": "sliding",
    }
    browser.find_element(By.NAME, "status").clear()
    browser.find_element(By.NAME, "status").send_keys("503")
    browser.execute_script(
        "document.querySelector('[name=kind]').value = 'status';"
        "document.querySelector('#faults').requestSubmit();"
    )
    _until_seen(browser, "status at 1: 0 of 1", "#in-force")
    assert [_push(emulator, "deals", [{"id": "1"}]) for _ in range(2)] == [503, 200]
    _click(browser, "#no-faults")
    WebDriverWait(browser, 100).until(lambda _: not emulator.script.faults)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_clipped(browser: webdriver.Chrome, emulator: Emulator, width: int) -> None:
    """At each width the page is no wider than the window, and what is wider scrolls by itself."""
    with window(browser, width):
        browser.get(f"{emulator.url}/?open=qobra:deals")
        _until_seen(browser, "1 to 25 of 60")
        assert clipped(browser) == []
