"""A real server over the tiny base, and a real Chromium."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--force-prefers-reduced-motion",  # a dot that breathes costs a quarter of a core where there is no GPU
]
START_SECONDS = 90
PATIENCE_MS = 60_000
LEAVING = ("AbortError", "errored out", "Failed to fetch")
"""What Gradio's own script says when a page is left while it waits for an answer."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser on a machine that does something else beside it misses a moment now and then: once more, and the report says so."""
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def server(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `sdplay serve` with an empty workspace."""
    with serving(str(tiny_base), tmp_path_factory.mktemp("home")) as address:
        yield address


@contextmanager
def serving(base: str, home: Path) -> Iterator[str]:
    """`sdplay serve` over a base and a workspace, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    environment = {**os.environ, "SDPLAY_HOME": str(home), "SDPLAY_BASE": base, "HF_HUB_OFFLINE": "1"}
    with (home / "server.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sdplay", "serve", "--port", str(port)], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        _wait_for(address, process, home / "server.txt")
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(0.3)
        else:
            return
    pytest.fail(f"the server did not answer:\n{log.read_text()}")


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:  # noqa: F821, UP037  imported late: other tests do without Playwright
    """The system's Chromium; tests skip where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page in a browser of its own, and what it complained about."""

    page: "Page"  # noqa: F821, UP037
    address: str
    complaints: list[str] = field(default_factory=list)

    def open(self, query: str = "") -> None:
        """Load the page and wait until it is alive."""
        self.page.goto(self.address + query)
        self.page.wait_for_selector("#samples button[data-action=select]", state="attached")
        self.page.wait_for_function("document.querySelector('#header .sd-badge')?.innerText.length > 0")

    def hear(self, complaint: str) -> None:
        """Note what the browser's console says."""
        if not any(text in complaint for text in LEAVING):
            self.complaints.append(complaint)

    def tab(self, name: str) -> None:
        """Go to a tab, as a visitor does."""
        self.page.click(f"#tab-{name}-button")
        self.page.wait_for_selector(f"#tab-{name}", state="visible")

    def fill(self, element_id: str, text: str) -> None:
        """Type into a text or number field; templates are shown as text for it."""
        if element_id in ("prompts-train", "prompts-sample"):
            self.page.locator("#prompts-view label").filter(has_text="Text").click()
        self.page.locator(f"#{element_id} textarea, #{element_id} input").first.fill(text)

    def value(self, element_id: str) -> str:
        """What a field holds."""
        return self.page.locator(f"#{element_id} textarea, #{element_id} input").first.input_value()

    def grid_link(self) -> str:
        """The link to the comparison that is shown, or nothing."""
        field = self.page.locator("#compare-grid .sdv-link")
        return field.input_value() if field.count() else ""

    def wait_until_kept(self, text: str) -> None:
        """Wait until the data set that can be taken away has a text among its captions."""
        link = f"{self.address}{self.page.locator('#dataset-links a').first.get_attribute('href')}"
        for _ in range(200):
            with zipfile.ZipFile(io.BytesIO(self.page.request.get(link).body())) as archive:
                if text in archive.read("metadata.jsonl").decode():
                    return
            self.page.wait_for_timeout(300)
        pytest.fail(f"{text} was not kept")

    def draw_grid(self) -> None:
        """Press Draw, and wait until what is shown is the new comparison, done."""
        now = f"{datetime.now():%Y%m%d-%H%M%S}"  # an older one, which the page may still be opening, has an earlier time in its link
        self.page.click("#compare-draw")
        made = "document.querySelector('#compare-grid .sdv-link')?.value.match(/[0-9]{8}-[0-9]{6}/)?.[0]"
        self.page.wait_for_function(f"now => ({made} ?? '') >= now", arg=now)
        self.wait_for_text("#compare-progress", "Done")

    def wait_for_text(self, selector: str, text: str, patience_ms: float | None = None) -> None:
        """Wait until an element says something; longer than usual where it waits for training."""
        self.page.locator(selector).filter(has_text=text).first.wait_for(timeout=patience_ms)


@pytest.fixture
def visitors(chromium, server: str) -> Iterator["NewVisit"]:  # noqa: ANN001, F821, UP037
    """Opens browsers; each has its own cookies and storage."""
    contexts = []

    def new_visit(query: str = "", *, width: int = 1280) -> Visit:
        context = chromium.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        visit = Visit(page, server)
        page.on("console", lambda line: visit.hear(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: visit.hear(str(error)))
        visit.open(query)
        return visit

    yield new_visit
    for context in contexts:
        context.close()


@pytest.fixture
def visit(visitors) -> Visit:  # noqa: ANN001
    """One visitor at 1280 px."""
    return visitors()
