"""Debian's Chromium without a screen, for tests of pages."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

LACKS_CHROMIUM = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="no chromium and chromedriver to run the page in",
)
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@contextmanager
def chromium(folder: Path) -> Iterator[webdriver.Chrome]:
    """Start a browser whose profile lies in a folder."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*QUIET, f"--user-data-dir={folder / 'profile'}", "--window-size=1400,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options=options, service=service) as started:
        yield started


def until(driver: webdriver.Chrome, found: Callable[[webdriver.Chrome], Any]) -> Any:
    """Return what is found, once it is anything."""
    return WebDriverWait(driver, 20, 0.02).until(found)


def faults(driver: webdriver.Chrome) -> list[Any]:
    """Return the errors on the page's console since the last call."""
    return [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]
