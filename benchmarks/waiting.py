"""What people wait for: the page, the first picture, and what drawing costs a run that goes on.

    python -m benchmarks.waiting [--steps 300] [--json FILE]

Page: from starting the program until it answers. First picture: from a click on the first prompt of the gallery, in Chromium, until the
picture is there; nothing but the page was loaded before. Runs: a LoRA on the sample style alone, and the same with a picture asked for
every two seconds; the cost is the time beyond what the same pictures take when nothing trains, as a share of the run alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.dataset_page import FLAGS, serve

if TYPE_CHECKING:
    from sdplay.engine import Engine

STARTS, ALONE = 3, 5
EVERY_S = 2.0
PROMPT = "red apple, noto style"
SHOWN = "[...document.querySelectorAll('#idea-pictures img')].some(image => image.complete && image.naturalWidth)"


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = {**first_minute(), **interrupted(arguments.steps)}
    print("\n".join(f"| {name} | {value:.2f} |" for name, value in figures.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def first_minute() -> dict[str, float]:
    """Medians over a few starts, each with an empty workspace."""
    pages, pictures = zip(*(_first_minute() for _ in range(STARTS)), strict=True)
    return {"page up, s": median(pages), "first picture, s": median(pictures)}


def _first_minute() -> tuple[float, float]:
    from playwright.sync_api import sync_playwright

    home = Path(tempfile.mkdtemp())
    started = time.perf_counter()
    process, address = serve(home)
    page_up = time.perf_counter() - started
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            page = browser.new_page()
            page.goto(address)
            page.wait_for_selector("#gallery button")
            page.wait_for_function("document.querySelector('#header .sd-badge')?.innerText.length > 0")
            clicked = time.perf_counter()
            page.locator("#gallery button").first.click()
            page.wait_for_function(SHOWN, timeout=120_000)
            first_picture = time.perf_counter() - clicked
            browser.close()
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)
    return page_up, first_picture


def interrupted(steps: int) -> dict[str, float]:
    """What drawing costs a run, in this process."""
    from sdplay.engine import Engine
    from sdplay.workspace import open_workspace

    engine = Engine(open_workspace(Path(tempfile.mkdtemp())))
    _run(engine, 20, drawing=False)  # loads the base
    alone_s, _ = _run(engine, steps, drawing=False)
    together_s, drawn = _run(engine, steps, drawing=True)
    picture_s = median(_draw(engine, seed) for seed in range(ALONE))
    engine.close()
    return {
        "run alone, s": alone_s,
        "run with pictures between its steps, s": together_s,
        "pictures": drawn,
        "a picture alone, s": picture_s,
        "cost beyond the pictures' own time, % of the run": 100 * (together_s - alone_s - drawn * picture_s) / alone_s,
    }


def _run(engine: Engine, steps: int, *, drawing: bool) -> tuple[float, int]:
    """Seconds of all steps, and how many pictures were drawn between them."""
    values = {
        "dataset": engine.sample_dataset("fxemoji-style").id, "base_model": "mini", "token": "ohwx", "method": "lora", "steps": steps,
        "sample_prompts": [], "validate_every": 0, "checkpoint_every": steps, "warmup_steps": 0,
    }  # fmt: skip
    run_id, drawn = engine.submit(values, name="waiting"), 0
    while not (state := engine.state(engine.run(run_id))).losses:
        time.sleep(0.05)
    started = time.perf_counter()
    while not state.ended and state.step < steps:
        if drawing and time.perf_counter() - started > EVERY_S * drawn:
            _draw(engine, drawn)
            drawn += 1
        time.sleep(0.05)
        state = engine.state(engine.run(run_id))
    took = time.perf_counter() - started
    assert engine.wait(run_id).status == "finished"
    return took, drawn


def _draw(engine: Engine, seed: int) -> float:
    started = time.perf_counter()
    engine.draw([PROMPT], [seed], {"steps": 20}, base_model="mini")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
