"""The Draw tab in a real browser: from a prompt, from a picture, inside what was painted; and a picture's settings back into the form."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser.conftest import Visit

pytestmark = pytest.mark.browser


def drawn(visit: Visit, folder: Path, prompt: str) -> Path:
    """The first picture of a prompt, as the page offers it."""
    link = visit.page.locator(f"#draw-pictures a:has(img[alt^='{prompt}, seed'])").first
    link.wait_for()
    path = folder / f"{prompt}.png"
    with urllib.request.urlopen(visit.address + str(link.get_attribute("href"))) as answer:
        path.write_bytes(answer.read())
    return path


def test_a_picture_is_drawn_and_its_file_fills_another_visitors_form(visit: Visit, visitors, tmp_path: Path) -> None:  # noqa: ANN001
    visit.tab("draw")
    visit.fill("draw-prompt", "a red ball")
    visit.fill("draw-steps", "3")
    visit.fill("draw-seeds", "5")
    visit.fill("draw-negative_prompt", "blue")
    visit.page.click("#draw-more > button")
    visit.page.click("#draw-scheduler input")
    visit.page.click("[role=option]:has-text('Euler a')")
    visit.page.click("#draw-start")
    path = drawn(visit, tmp_path, "a red ball")

    other = visitors()
    other.tab("draw")
    other.page.set_input_files("#draw-settings input[type=file]", path)
    other.wait_for_text("#draw-note", "as this picture was drawn")
    other.page.click("#draw-more > button")

    fields = {"prompt": "a red ball", "steps": "3", "seeds": "5", "negative_prompt": "blue", "scheduler": "Euler a"}
    assert {name: other.value(f"draw-{name}") for name in fields} == fields
    other.page.click("#draw-start")
    (tmp_path / "again").mkdir()
    again = drawn(other, tmp_path / "again", "a red ball")
    assert (np.asarray(Image.open(again)) == np.asarray(Image.open(path))).all()
    assert visit.complaints == other.complaints == []


def test_only_what_is_painted_is_drawn_anew(visit: Visit, tmp_path: Path) -> None:
    start = Image.new("RGB", (128, 128), (30, 160, 140))  # the tiny base draws it at 32 px
    start.save(tmp_path / "start.png")
    visit.tab("draw")
    canvas = visit.page.locator("#draw-editor canvas").first
    canvas.wait_for()
    visit.page.wait_for_timeout(1000)  # Gradio's editor drops a picture that comes before it is ready, and does not say when it is
    visit.page.locator("#draw-editor input[type=file]").first.set_input_files(tmp_path / "start.png")
    visit.wait_for_text("#draw-editor", "250%")  # the picture fills the frame
    visit.page.locator("#draw-editor button[aria-label='Brush']").first.click()
    canvas.scroll_into_view_if_needed()
    visit.page.wait_for_timeout(1000)  # the editor scales the picture to its frame
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    visit.page.mouse.move(x, y)
    visit.page.mouse.down()
    visit.page.mouse.move(x + 4, y + 4, steps=4)
    visit.page.mouse.up()
    visit.fill("draw-prompt", "a rocket")
    visit.fill("draw-strength", "1")
    visit.fill("draw-steps", "3")
    visit.page.click("#draw-start")

    found = np.asarray(Image.open(drawn(visit, tmp_path, "a rocket")))

    changed = (found != (30, 160, 140)).any(axis=2)
    assert found.shape == (32, 32, 3)
    assert changed.any()
    assert not changed[:4].any(), "the corners were not painted"
    assert not changed[-4:].any()
    assert visit.complaints == []


def test_without_a_prompt_the_page_says_so(visit: Visit) -> None:
    visit.tab("draw")

    visit.page.click("#draw-start")

    visit.wait_for_text(".toast-wrap, .toast-body", "There is no prompt.")
