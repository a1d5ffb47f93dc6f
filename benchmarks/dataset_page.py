"""How long the page takes with many pictures: cards up, a caption kept, a picture left out.

    python -m benchmarks.dataset_page [--pictures 150] [--side 1024]

Starts the page over an empty workspace, makes a data set of drawn pictures, opens the page in Chromium and prints seconds.
"Cards up": from choosing the data set until every card and the pictures in sight are there. "Kept": from leaving a caption until
the report that follows from it has come back; typing itself never waits.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from sdplay.data import DatasetStore, Limits
from sdplay.data.measures import measure_all

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
ALL_UP = """count => document.querySelectorAll('#dataset-grid article').length === count
  && [...document.querySelectorAll('#dataset-grid img')].slice(0, 4).every(image => image.complete && image.naturalWidth)"""
EDITS = 9


def make_dataset(home: Path, count: int, side: int) -> float:
    """Fill the workspace; returns the seconds that measuring the pictures took."""
    brought = home / "brought"
    brought.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        blocks = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((side, side), Image.Resampling.BICUBIC).save(brought / f"{number}.jpg", quality=90)
        (brought / f"{number}.txt").write_text(f"picture number {number}")
    store = DatasetStore(home / "datasets", Limits(pictures=count))
    first = store.create([brought / "0.jpg"], name="one")
    made = store.create([brought], name="many")
    started = time.monotonic()
    measure_all(made.folder, made.pictures)
    measure_all(first.folder, first.pictures)
    return time.monotonic() - started


def serve(home: Path) -> tuple[subprocess.Popen[bytes], str]:
    """The page over that workspace, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "SDPLAY_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen([sys.executable, "-m", "sdplay", "serve", "--port", str(port)], env=environment, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    for _ in range(1800):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return process, address
        except OSError:
            time.sleep(0.05)
    process.terminate()
    raise SystemExit("The page did not start.")


def measure_page(address: str, count: int) -> dict[str, float]:
    """Seconds by what was done."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(address)
        page.wait_for_selector("#dataset-grid article", state="attached")
        times = {"cards up": _choose(page, "many", count)}
        page.wait_for_timeout(2000)
        area = page.locator("#dataset-grid textarea")
        kept = [_seconds_until_report(page, lambda n=n: (area.nth(n).fill(f"edited {n}"), area.nth(n).blur())) for n in range(EDITS)]
        out = [_seconds_until_report(page, lambda n=n: page.locator("#dataset-grid .sd-out").nth(n).click()) for n in range(EDITS)]
        browser.close()
    return {**times, "caption kept, median": median(kept), "caption kept, worst": max(kept), "left out, median": median(out)}


def _choose(page, name: str, count: int) -> float:  # noqa: ANN001
    page.click("#dataset-picker input")
    option = page.locator("[role=option]", has_text=f"{name} ·").first
    option.wait_for()
    started = time.monotonic()
    option.click()
    page.locator("#dataset-grid").evaluate("grid => grid.scrollIntoView()")
    page.wait_for_function(ALL_UP, arg=count)
    return time.monotonic() - started


def _seconds_until_report(page, do) -> float:  # noqa: ANN001
    """From an edit until the answer to it has changed the report's block."""
    page.evaluate(
        """() => { window.sdAnswered = null; window.sdStarted = null;
          new PerformanceObserver(list => { for (const entry of list.getEntries())
            if (entry.name.includes('queue/data')) window.sdAnswered = entry.responseEnd; }).observe({type: 'resource'});
          document.addEventListener('change', () => { window.sdStarted ??= performance.now(); }, {once: true, capture: true});
          document.addEventListener('click', () => { window.sdStarted ??= performance.now(); }, {once: true, capture: true}); }"""
    )
    do()
    page.wait_for_function("window.sdAnswered && window.sdStarted && window.sdAnswered > window.sdStarted")
    return float(page.evaluate("(window.sdAnswered - window.sdStarted) / 1000"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=150)
    parser.add_argument("--side", type=int, default=1024, help="px of each picture")
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="sdplay-bench-"))
    try:
        measuring = make_dataset(home, arguments.pictures, arguments.side)
        print(f"{arguments.pictures} pictures of {arguments.side} px: measured in {measuring:.1f} s, once", flush=True)
        process, address = serve(home)
        try:
            for what, seconds in measure_page(address, arguments.pictures).items():
                print(f"{what}: {seconds:.2f} s", flush=True)
        finally:
            process.terminate()
            process.wait(timeout=30)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
