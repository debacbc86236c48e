"""Experiments on disk to report on, and one browser with one page for all tests that look at it."""

import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from pipeline.apps import report
from tests.apps.report.made import NAME, Made, Planted

CHROMIUM = shutil.which("chromium")
PHONE, DESK = {"width": 360, "height": 800}, {"width": 1200, "height": 900}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Return an experiment that is not written yet, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return Made()


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a report whose texts try to break out of the page."""
    folder = tmp_path_factory.mktemp("report")
    with chdir(folder):
        Planted().write()
        return report.write(NAME).resolve().parent


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Return a headless Chromium, the one that Debian packages."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


class Watched:
    """A page that is open, what it requested beside itself, and what went wrong in it."""

    def __init__(self, browser: Any, path: Path) -> None:
        self.page = browser.new_context(color_scheme="light", viewport=DESK, reduced_motion="reduce").new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.warnings: list[str] = []
        heard = {"error": self.errors, "warning": self.warnings}
        self.page.on("console", lambda message: heard.get(message.type, []).append(message.text))
        self.page.set_default_timeout(120_000)
        self.page.goto(path.as_uri())
        self.address = path.as_uri()


@pytest.fixture(scope="session")
def watched(browser: Any, written: Path) -> Watched:
    """Return the report, loaded once, with all its charts drawn."""
    opened = Watched(browser, written / "index.html")
    opened.page.wait_for_selector("html[data-charts=drawn]", state="attached")
    return opened


@pytest.fixture
def page(watched: Watched) -> Any:
    """Return the page as it is after loading, without the cost of loading it."""
    page = watched.page
    page.set_viewport_size(DESK)
    page.emulate_media(color_scheme="light")
    if page.get_attribute("#reveal", "aria-pressed") == "true":
        page.click("#reveal")
    page.evaluate(
        """() => {
            delete document.documentElement.dataset.scheme;
            document.getElementById("controls").reset();
            document.getElementById("pair-controls").reset();
            document.getElementById("sort").dispatchEvent(new Event("change"));
            document.activeElement.blur();
            window.scrollTo(0, 0);
        }"""
    )
    # Twice: showing all texts and hiding them again also hides those that were shown one by one.
    page.click("#reveal")
    page.click("#reveal")
    return page
