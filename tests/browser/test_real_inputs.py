"""What users really bring, through the page: a hosted trainer's zip, and photos with a CSV of captions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.conftest import Visit

pytestmark = [pytest.mark.browser, pytest.mark.shared]


def bring(visit: Visit, files: list[Path], name: str, *, pictures: int) -> None:
    visit.page.set_input_files("#dataset-files input[type=file]", [str(path) for path in files])
    visit.page.wait_for_selector(f"#dataset-files :text('{files[-1].suffix}')", state="attached")
    visit.fill("dataset-name", name)
    visit.page.click("#dataset-make")
    visit.page.wait_for_function(f"document.querySelectorAll('#dataset-grid textarea').length === {pictures}")


def captions(visit: Visit) -> set[str]:
    return set(visit.page.locator("#dataset-grid textarea").evaluate_all("areas => areas.map(area => area.value)"))


def train(visit: Visit, name: str, *, steps: int) -> None:
    visit.tab("prompts")
    visit.fill("prompts-token", "TOK")
    visit.fill("prompts-train", "a photo of {token}, {caption}")
    visit.fill("prompts-sample", "a photo of {token} on a table")
    visit.tab("train")
    visit.fill("train-steps", str(steps))
    visit.fill("train-name", name)
    visit.page.click("#train-start")
    visit.wait_for_text("#train-status", name)


def compare(visit: Visit) -> int:
    """Compare with the base; how many pictures the grid has."""
    visit.page.click("#train-compare")
    visit.wait_for_text("#compare-count", "columns")
    visit.fill("compare-steps", "2")
    visit.draw_grid()
    return visit.page.locator("#compare-grid td img").count()


def test_a_hosted_trainers_zip(visit: Visit, shared: Path) -> None:
    bring(visit, [shared / "zeke.zip"], "zeke", pictures=6)
    assert captions(visit) == {""}

    train(visit, "zeke-run", steps=30)
    visit.wait_for_text("#train-status", "finished")

    assert compare(visit) >= 2
    assert visit.complaints == []


def test_photos_with_a_csv_of_captions(visit: Visit, shared: Path) -> None:
    bring(visit, [*sorted((shared / "monster").glob("*.jpg")), shared / "monster" / "caption.csv"], "monster", pictures=5)
    assert captions(visit) == {
        "a TOK on a windowsill",
        "a photo of smiling TOK in an office",
        "a photo of TOK sitting by a window",
        "a photo of TOK on a car",
        "a photo of TOK smiling on the ground",
    }

    train(visit, "monster-run", steps=5000)
    visit.wait_for_text("#run-bar-text", "of 5000")
    visit.page.reload()
    visit.wait_for_text("#run-bar-text", "loss")
    visit.page.click("#run-bar-stop")
    visit.tab("train")
    visit.wait_for_text("#train-status", "stopped")

    assert compare(visit) >= 2
    assert visit.complaints == []
