"""Debian's Chromium, without a window; tests that look at pages are skipped where it is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# A page of scripts on a busy machine.
PATIENCE_MS = 60_000

# A person's machine may have no browser. CI installs one, so that it skips nothing.
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="needs a browser: no chromium or chromium-browser on the PATH"
)


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser that asks nobody outside for anything by itself."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync"],
        )
        expect.set_options(timeout=PATIENCE_MS)
        yield browser
        browser.close()


@contextmanager
def wide_page() -> Iterator[Page]:
    """A page as wide as a desk's screen."""
    with launched() as browser:
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(PATIENCE_MS)
        yield page
