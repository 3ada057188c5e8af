"""The report's page in a real browser: from a file, without a network, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import PATIENCE_MS, launched, needs_browser
from command_line import rosita
from made_records import make_records
from playwright.sync_api import Browser

pytestmark = needs_browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a report on a file, moved away from what was written beside it."""
    folder = tmp_path_factory.mktemp("page")
    records = make_records(folder / "records", "architecture", rows=300, unfinished=1)
    done = rosita("report", "--records", str(records), "--out", str(folder / "out"), home=folder)
    assert done.code == 0, done.stderr
    moved = folder / "alone.html"
    (folder / "out" / "report.html").rename(moved)
    return Path(moved).as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_is_whole(browser: Browser, address: str, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE_MS)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    assert page.locator("h1").inner_text() == "Report of architecture-sst2"
    assert "Incomplete: 1 of 18 cells" in page.locator(".answer").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    images = page.locator("img")
    assert images.count() >= 7
    for index in range(images.count()):
        image = images.nth(index)
        assert image.evaluate("image => image.complete && image.naturalWidth") > 100
        box = image.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert image.get_attribute("alt")
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert [url for url in asked if url.startswith("file:")] == [address]
    assert said == []
    page.close()


def test_text_stands_out_from_the_ground_in_both_schemes(browser: Browser, address: str) -> None:
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(address)
        for selector in (".answer p", "td", "th", ".note", "figcaption", "a"):
            contrast = page.locator(selector).first.evaluate(CONTRAST)
            assert contrast >= 4.5, (scheme, selector)
        page.close()


def test_a_click_sorts_a_table(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    table = page.locator("section#s0 table")
    score = table.get_by_role("button", name="accuracy")
    values = "table => [...table.tBodies[0].rows].map(row => +row.cells[1].dataset.value)"
    score.click()
    rising = table.evaluate(values)
    score.click()
    falling = table.evaluate(values)
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert len(set(rising)) > 3
    assert table.locator("th").nth(1).get_attribute("aria-sort") == "descending"
    page.close()


# Of an element's text against the nearest ground behind it, by the formula of WCAG.
CONTRAST = """
element => {
  const light = text => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map(v => {
      const s = v / 255;
      return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = element;
  const clear = node => getComputedStyle(node).backgroundColor === 'rgba(0, 0, 0, 0)';
  while (clear(behind)) behind = behind.parentElement;
  const levels = [light(getComputedStyle(element).color),
                  light(getComputedStyle(behind).backgroundColor)].sort((a, b) => b - a);
  return (levels[0] + 0.05) / (levels[1] + 0.05);
}
"""
