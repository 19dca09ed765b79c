"""A real browser for pages: Debian's Chromium without a screen, and what does not fit into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver

from integration_tests.servers.base import apt_install

WIDTHS = (1280, 820, 390)


def start_browser(profile: Path) -> webdriver.Chrome:
    """Start Chromium, which is installed where it is missing."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(apt_install("chromium", "chromium"))
    driver = apt_install("chromedriver", "chromium-driver")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    service = webdriver.ChromeService(executable_path=str(driver))
    return webdriver.Chrome(options=options, service=service)


@contextmanager
def window(browser: webdriver.Chrome, width: int) -> Iterator[None]:
    """Give the browser a window of this width, below 500 that of a telephone."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    yield
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def clipped(browser: webdriver.Chrome) -> list[str]:
    """Return what sticks out of the window and has no ancestor that scrolls or shortens it."""
    found: list[str] = browser.execute_script(_CLIPPED)
    return found


_CLIPPED = """
const out = [];
for (const element of document.querySelectorAll("main *")) {
  if (element.getBoundingClientRect().right <= innerWidth + 1) continue;
  let held = false;
  for (let up = element.parentElement; up; up = up.parentElement) {
    const style = getComputedStyle(up);
    held ||= style.overflowX === "auto" || style.textOverflow === "ellipsis";
  }
  if (!held) out.push(element.tagName + " " + element.textContent.slice(0, 40));
}
return out;
"""
