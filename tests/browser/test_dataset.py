"""The Dataset tab as a visitor uses it: bring, see what is wrong, mend, undo, take away."""

from __future__ import annotations

import io
import uuid
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.browser.conftest import Visit
from tests.data.test_data_health import scene

pytestmark = pytest.mark.browser


@pytest.fixture
def brought(visit: Visit, tmp_path: Path) -> Visit:
    """A visitor who has made a data set of five pictures: one wide, two that look the same."""
    pictures = {"0": scene(0), "1": scene(1), "2": scene(2, (256, 128)), "3": scene(3), "4": scene(3).resize((160, 160))}
    for name, picture in pictures.items():
        picture.save(tmp_path / f"toy {name}.png")
    visit.page.set_input_files("#dataset-files input[type=file]", [str(path) for path in sorted(tmp_path.glob("*.png"))])
    visit.page.wait_for_selector("#dataset-files :text('.png')", state="attached")
    name = f"toys-{uuid.uuid4().hex[:8]}"  # the server has others that look the same, and the page may still be opening one
    visit.fill("dataset-name", name)
    visit.page.click("#dataset-make")
    visit.page.wait_for_selector(f"#dataset-links a[href*='{name}']", state="attached")
    visit.page.wait_for_function("name => document.querySelector('#dataset-grid img')?.src.includes(name)", arg=name)
    visit.page.wait_for_function("document.querySelectorAll('#dataset-grid article').length === 5")
    return visit


def caption(visit: Visit, number: int) -> str:
    return visit.page.locator("#dataset-grid textarea").nth(number).input_value()


def write(visit: Visit, number: int, text: str) -> None:
    """Type a caption and go on, as with the keyboard."""
    field = visit.page.locator("#dataset-grid textarea").nth(number)
    field.fill(text)
    field.press("Enter")


def wait_for_caption(visit: Visit, number: int, text: str) -> None:
    visit.page.wait_for_function(
        "([number, text]) => document.querySelectorAll('#dataset-grid textarea')[number].value === text", arg=[number, text]
    )


def test_captions_are_edited_undone_and_done_again(brought: Visit) -> None:
    before, text = caption(brought, 0), f"a red toy {uuid.uuid4().hex[:8]}"  # tried again, the picture has the caption it had
    write(brought, 0, text)
    brought.page.wait_for_selector("#dataset-undo:not([disabled])")
    assert brought.page.evaluate("document.activeElement === document.querySelectorAll('#dataset-grid textarea')[1]")

    brought.page.click("#dataset-undo")
    wait_for_caption(brought, 0, before)
    brought.page.click("#dataset-redo")
    wait_for_caption(brought, 0, text)
    brought.open()
    brought.page.wait_for_selector("#dataset-grid textarea")

    assert caption(brought, 0) == text
    assert brought.complaints == []


def test_undo_pressed_three_times_quickly_undoes_three_changes(brought: Visit) -> None:
    before = [caption(brought, number) for number in range(3)]
    for number in range(3):
        text = f"a toy {uuid.uuid4().hex[:8]}"
        write(brought, number, text)
        brought.wait_until_kept(text)
    brought.page.wait_for_selector("#dataset-undo:not([disabled])")

    brought.page.evaluate("""async () => {
      for (let press = 0; press < 3; press++) {
        document.querySelector('#dataset-undo').click();
        await new Promise(resolve => setTimeout(resolve, 30));
      }
    }""")

    for number in range(3):
        wait_for_caption(brought, number, before[number])
    assert brought.complaints == []


def test_the_report_shows_the_pictures_it_means_and_mends_them(brought: Visit) -> None:
    line = brought.page.locator("#dataset-report .sd-line").filter(has_text="nearly the same")
    line.wait_for()

    line.locator("button[data-action=show]").click()
    assert brought.page.locator("#dataset-grid article:visible").count() == 2
    assert brought.page.evaluate("document.activeElement.getAttribute('aria-label')") == "Crop or mask toy 3.png"
    line.locator("button[data-action=fix]").click()
    brought.wait_for_text("#dataset-report", "left out by you")
    brought.page.click("#dataset-grid .sd-all")

    assert brought.page.locator("#dataset-grid .sd-left-out").get_attribute("aria-label") == "toy 3.png"
    assert brought.page.locator("#dataset-grid article:visible").count() == 5
    assert brought.complaints == []


def test_a_picture_is_left_out_and_taken_back_by_its_button(brought: Visit) -> None:
    button = brought.page.locator("#dataset-grid .sd-out").first

    button.click()
    brought.wait_for_text("#dataset-report", "4 pictures")
    assert button.get_attribute("aria-label") == "Take back: toy 0.png"
    button.click()
    brought.wait_for_text("#dataset-report", "5 pictures")

    assert brought.page.locator("#dataset-grid .sd-left-out").count() == 0


def test_two_pictures_left_out_at_once_stay_out(brought: Visit) -> None:
    """Both clicks in one turn of the browser: their answers are on their way together."""
    brought.page.evaluate("[0, 1].forEach(number => document.querySelectorAll('#dataset-grid .sd-out')[number].click())")

    brought.wait_for_text("#dataset-report", "3 pictures")
    brought.open()
    brought.page.wait_for_selector("#dataset-grid article")

    left_out = brought.page.locator("#dataset-grid .sd-left-out").evaluate_all("items => items.map(item => item.ariaLabel)")
    assert left_out == ["toy 0.png", "toy 1.png"]


def test_a_crop_by_numbers_and_by_dragging_is_kept(brought: Visit) -> None:
    brought.page.locator("#dataset-grid .sd-open").nth(2).click()
    assert brought.page.locator("#dataset-grid .sd-dialog").is_visible()
    brought.page.fill("[data-number=x]", "100")
    brought.page.fill("[data-number=w]", "120")
    brought.page.click("[data-do=crop]")
    brought.page.locator("#dataset-grid article").nth(2).locator("i", has_text="cropped").wait_for()

    brought.page.locator("#dataset-grid .sd-open").nth(2).click()
    assert brought.page.input_value("[data-number=x]") == "100"
    stage = brought.page.locator(".sd-stage").bounding_box()
    assert stage is not None
    brought.page.click("[data-do=whole]")
    brought.page.locator("#dataset-grid article").nth(2).locator("i", has_text="cropped").wait_for(state="detached")
    brought.page.locator("#dataset-grid .sd-open").nth(2).click()
    stage = brought.page.locator(".sd-stage").bounding_box()
    assert stage is not None
    brought.page.mouse.move(stage["x"] + stage["width"] * 0.25, stage["y"] + stage["height"] * 0.25)
    brought.page.mouse.down()
    brought.page.mouse.move(stage["x"] + stage["width"] * 0.75, stage["y"] + stage["height"] * 0.75, steps=4)
    brought.page.mouse.up()

    assert abs(int(brought.page.input_value("[data-number=x]")) - 64) <= 2  # a quarter of 256 px
    assert abs(int(brought.page.input_value("[data-number=h]")) - 64) <= 2  # half of 128 px
    brought.page.keyboard.press("Escape")
    assert brought.complaints == []


def test_a_painted_mask_is_seen_on_the_card_and_goes_again(brought: Visit) -> None:
    card = brought.page.locator("#dataset-grid article").first
    card.locator(".sd-open").click()
    brought.page.check("input[name=sd-mode][value=mask]")
    brought.page.click("[data-do=none]")
    stage = brought.page.locator(".sd-stage").bounding_box()
    assert stage is not None
    brought.page.mouse.move(stage["x"] + stage["width"] * 0.3, stage["y"] + stage["height"] * 0.5)
    brought.page.mouse.down()
    brought.page.mouse.move(stage["x"] + stage["width"] * 0.7, stage["y"] + stage["height"] * 0.5, steps=5)
    brought.page.mouse.up()
    brought.page.click("[data-do=mask]")
    card.locator("i", has_text="mask").wait_for()

    mask = brought.page.evaluate("async url => Array.from(new Uint8Array(await (await fetch(url)).arrayBuffer()))", _mask_url(brought))
    with Image.open(io.BytesIO(bytes(mask))) as opened:
        painted = opened.convert("L")
    assert painted.size == (128, 128)
    assert painted.getpixel((64, 64)) == 255
    assert painted.getpixel((64, 5)) == 0

    card.locator(".sd-open").click()
    brought.page.check("input[name=sd-mode][value=mask]")
    brought.page.click("[data-do=unmask]")
    card.locator("i", has_text="mask").wait_for(state="detached")
    assert brought.complaints == []


def test_words_are_replaced_everywhere_and_a_bad_pattern_is_explained(brought: Visit) -> None:
    toy, ball = (f"{thing} {uuid.uuid4().hex[:8]}" for thing in ("toy", "ball"))  # tried again, the pictures have the captions they had
    write(brought, 0, f"a photo of a {toy}")
    write(brought, 1, f"a photo of a {ball}")
    brought.wait_until_kept(ball)
    brought.page.wait_for_selector("#dataset-undo:not([disabled])")
    brought.page.click("#dataset-captions button:has-text('Captions')")
    brought.fill("captions-find", "a photo")
    brought.fill("captions-by", "a drawing")
    brought.page.click("#captions-replace")
    wait_for_caption(brought, 1, f"a drawing of a {ball}")

    brought.page.check("#captions-pattern input")
    brought.fill("captions-find", "(a")
    brought.page.click("#captions-replace")
    brought.wait_for_text(".toast-body", "cannot be read")

    brought.page.click("#captions-fill")
    wait_for_caption(brought, 4, "toy")
    assert caption(brought, 0) == f"a drawing of a {toy}"


def test_the_zip_holds_what_the_page_shows(brought: Visit) -> None:
    text = f"a red toy {uuid.uuid4().hex[:8]}"  # a picture brought anew keeps the caption it had in the data set opened before
    write(brought, 0, text)
    brought.page.wait_for_selector("#dataset-undo:not([disabled])")

    href = brought.page.locator("#dataset-links a").get_attribute("href")
    answer = brought.page.request.get(f"{brought.address}{href}")

    with zipfile.ZipFile(io.BytesIO(answer.body())) as archive:
        assert sorted(archive.namelist()) == ["README.md", "metadata.jsonl", *(f"toy-{number}.png" for number in range(5))]
        assert f'"{text}"' in archive.read("metadata.jsonl").decode()


def test_a_pasted_picture_is_taken_like_a_dropped_one(visit: Visit) -> None:
    visit.page.evaluate(
        """async () => {
            const canvas = new OffscreenCanvas(64, 64);
            canvas.getContext('2d').fillRect(10, 10, 20, 20);
            const data = new DataTransfer();
            data.items.add(new File([await canvas.convertToBlob()], 'image.png', {type: 'image/png'}));
            document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true}));
        }"""
    )
    visit.page.wait_for_selector("#dataset-files :text('pasted')", state="attached")
    visit.page.click("#dataset-make")

    visit.page.wait_for_function("document.querySelectorAll('#dataset-grid article').length === 1")
    assert visit.complaints == []


def test_a_phone_scrolls_only_down(visitors, tmp_path: Path) -> None:  # noqa: ANN001
    visit = visitors(width=390)
    visit.page.click("#samples button[data-id=fxemoji-fox]")
    visit.page.wait_for_selector("#dataset-grid textarea")

    assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def _mask_url(visit: Visit) -> str:
    source = visit.page.locator("#dataset-grid img").first.get_attribute("src") or ""
    return source.split("?", maxsplit=1)[0].replace(".view.jpg", ".mask.png")


def test_an_answer_that_comes_after_another_data_set_was_opened_does_not_take_its_place(brought: Visit) -> None:
    page = brought.page
    link = page.locator("#dataset-links a").first
    older = str(link.get_attribute("href"))
    held: list[Any] = []

    def hold_late_words(route: Any) -> None:  # noqa: ANN401  Playwright's
        held.append(route) if "late words" in (route.request.post_data or "") else route.continue_()

    page.route("**/queue/join*", hold_late_words)
    write(brought, 0, "late words")
    for _ in range(600):
        if not held:
            page.wait_for_timeout(100)
    assert held, "the page has not sent the caption"
    page.locator("#samples button[data-action=select]").first.click()
    page.wait_for_function("older => document.querySelector('#dataset-links a')?.getAttribute('href') !== older", arg=older)
    newer = str(link.get_attribute("href"))
    held.pop().continue_()
    page.wait_for_timeout(3000)

    assert link.get_attribute("href") == newer
    with zipfile.ZipFile(io.BytesIO(page.request.get(f"{brought.address}{older}").body())) as archive:
        assert "late words" in archive.read("metadata.jsonl").decode()
    assert brought.complaints == []
