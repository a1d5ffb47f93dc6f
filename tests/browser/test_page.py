"""The page as a visitor meets it, in a real browser."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sdplay.ui.keeping import GAP_MS
from tests.browser.conftest import Visit

pytestmark = pytest.mark.browser


def take_style_sample(visit: Visit) -> None:
    visit.page.click("#samples button[data-id=fxemoji-style]")
    visit.page.wait_for_selector("#dataset-grid textarea")


def start_run(visit: Visit, *, steps: int, name: str) -> None:
    """A run on the style sample with a single sample prompt."""
    take_style_sample(visit)
    visit.tab("prompts")
    visit.fill("prompts-sample", "rocket, {token} style")
    visit.tab("train")
    visit.fill("train-steps", str(steps))
    visit.fill("train-name", name)
    visit.page.click("#train-start")
    visit.wait_for_text("#train-status", name)


def test_the_main_job_from_sample_to_permalink(visit: Visit, visitors) -> None:  # noqa: ANN001
    start_run(visit, steps=12, name="main-job")
    visit.wait_for_text("#train-status", "finished")
    visit.wait_for_text("#train-samples", "step 12")
    visit.page.click("#train-compare")
    visit.wait_for_text("#compare-count", "columns")
    visit.fill("compare-steps", "2")
    visit.draw_grid()
    link = visit.grid_link()

    other = visitors(link.removeprefix(visit.address))
    other.wait_for_text("#compare-progress", "Done")

    pictures = other.page.locator("#compare-grid td img")
    assert pictures.count() == visit.page.locator("#compare-grid td img").count() >= 4
    pictures.first.scroll_into_view_if_needed()
    other.page.wait_for_function("[...document.querySelectorAll('#compare-grid td img')].some(image => image.naturalWidth > 0)")
    assert other.page.locator("#compare-grid thead th").first.inner_text().startswith("base")
    assert other.page.locator("#compare-downloads a").count() == 3
    assert visit.complaints == other.complaints == []


def test_a_refreshed_page_and_a_second_browser_see_the_run_and_can_stop_it(visit: Visit, visitors) -> None:  # noqa: ANN001
    start_run(visit, steps=5000, name="long-job")
    visit.wait_for_text("#run-bar-text", "of 5000")

    visit.page.reload()
    visit.wait_for_text("#run-bar-text", "long-job")
    other = visitors()
    other.wait_for_text("#run-bar-text", "long-job")
    other.page.click("#run-bar-open")
    other.wait_for_text("#train-status", "long-job")
    visit.page.click("#run-bar-stop")

    visit.wait_for_text("#run-bar-text", "Nothing is training")
    other.wait_for_text("#run-bar-text", "Nothing is training")
    other.wait_for_text("#train-status", "stopped")
    assert other.page.locator("#train-resume").is_enabled()
    assert other.page.locator("#train-stop").is_disabled()
    assert visit.complaints == other.complaints == []


def test_a_template_that_cannot_be_read_is_explained_while_it_is_typed(visit: Visit) -> None:
    visit.tab("prompts")

    visit.fill("prompts-train", "a photo of {tokn}\na photo of {token")

    visit.wait_for_text("#prompts-preview", "Did you mean {token}?")
    visit.wait_for_text("#prompts-preview", "is never closed")
    assert visit.complaints == []


def test_a_text_beyond_the_encoder_shows_where_it_is_cut(visit: Visit) -> None:
    visit.tab("prompts")

    visit.fill("prompts-train", "dog " * 80)

    visit.wait_for_text("#prompts-preview", "the last 5 are cut off")  # 80 words, 75 tokens fit
    assert visit.page.locator("#prompts-preview .sd-chips .sd-cut").count() == 5


def test_a_zip_without_pictures_gives_a_sentence(visit: Visit, tmp_path: Path) -> None:
    path = tmp_path / "notes.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no pictures here")

    visit.page.set_input_files("#dataset-files input[type=file]", str(path))
    visit.page.wait_for_selector("#dataset-files .file-preview")
    visit.page.click("#dataset-make")

    visit.wait_for_text(".toast-body", "No usable picture was found")
    assert "Traceback" not in visit.page.inner_text("body")


def test_of_two_quick_choices_the_page_shows_the_second_also_when_the_first_is_late(visit: Visit) -> None:
    visit.tab("learn")
    held: list[Any] = []

    def hold_the_first(route: Any) -> None:  # noqa: ANN401  Playwright's
        held.append(route) if not held and '"id":"captions"' in (route.request.post_data or "") else route.continue_()

    visit.page.route("**/queue/join*", hold_the_first)
    lessons = visit.page.locator("#learn-list button")

    lessons.filter(has_text="Captions").click()
    lessons.filter(has_text="Token and class").click()
    visit.page.wait_for_timeout(2000)
    assert "Token and class" not in visit.page.inner_text("#learn-head"), "the second is not asked before the first"
    held.pop().continue_()

    visit.wait_for_text("#learn-head", "Token and class")
    assert visit.complaints == []


def test_a_caption_that_was_typed_is_kept(visit: Visit) -> None:
    take_style_sample(visit)
    caption = visit.page.locator("#dataset-grid textarea").first

    caption.fill('a frog, "quoted" & {braced} ${dollar} <b>bold</b>')
    caption.blur()
    visit.wait_until_kept("{braced}")
    visit.open()
    visit.page.wait_for_selector("#dataset-grid textarea")

    assert visit.page.locator("#dataset-grid textarea").first.input_value() == 'a frog, "quoted" & {braced} ${dollar} <b>bold</b>'
    assert visit.complaints == []


def test_what_was_typed_survives_a_reload_also_where_the_server_has_not_answered(visit: Visit) -> None:
    visit.tab("train")
    visit.fill("train-steps", "77")
    visit.tab("prompts")
    visit.page.route("**/gradio_api/**", lambda _: None)  # asked, and never answered
    visit.fill("prompts-class", "gnome")
    visit.fill("prompts-token", "zorbly")
    visit.page.wait_for_timeout(2 * GAP_MS)
    visit.page.unroute_all(behavior="ignoreErrors")

    visit.open()

    visit.tab("prompts")
    visit.page.wait_for_function("document.querySelector('#prompts-token input, #prompts-token textarea').value === 'zorbly'")
    assert visit.value("prompts-class") == "gnome"
    visit.tab("train")
    assert visit.value("train-steps") == "77"


def test_a_setting_out_of_range_gives_a_sentence_and_starts_nothing(visit: Visit) -> None:
    take_style_sample(visit)
    visit.tab("train")
    visit.fill("train-steps", "0")

    visit.page.click("#train-start")

    visit.wait_for_text(".toast-body", "Steps")
    assert "Nothing is training" in visit.page.inner_text("#run-bar-text")


def test_the_base_draws_a_prompt_before_any_training(visit: Visit) -> None:
    visit.fill("idea", "dog")

    visit.page.click("#idea-draw")

    visit.page.wait_for_selector("#idea-pictures img")
    assert visit.page.locator("#idea-pictures img").count() == 4


def test_a_picture_of_the_gallery_is_drawn_anew_at_a_click(visit: Visit) -> None:
    shown = visit.page.locator("#gallery button")
    visit.page.wait_for_function("[...document.querySelectorAll('#gallery img')].every(image => image.complete && image.naturalWidth)")
    prompt = shown.nth(1).get_attribute("data-id")

    shown.nth(1).click()

    visit.page.wait_for_selector("#idea-pictures img")
    assert visit.value("idea") == prompt
    assert f"“{prompt}”" in visit.page.inner_text("#idea-pictures")


def test_no_tab_scrolls_sideways_on_a_phone(visitors) -> None:  # noqa: ANN001
    phone = visitors(width=390)

    for tab in ("dataset", "prompts", "train", "compare", "runs"):
        phone.tab(tab)
        phone.page.wait_for_timeout(1200)
        assert phone.page.evaluate("document.documentElement.scrollWidth") <= 390, tab

    assert phone.complaints == []


COUNT_FRAMES = """
const frame = requestAnimationFrame, asked = [];
window.requestAnimationFrame = callback => { asked.push(performance.now()); return frame(callback); };
window.restedFor = () => asked.length ? performance.now() - asked.at(-1) : 0;
"""


def test_an_open_page_fetches_nothing_from_elsewhere_and_at_rest_asks_for_no_frames(visitors) -> None:  # noqa: ANN001
    visit = visitors()
    addresses: list[str] = []
    visit.page.on("request", lambda request: addresses.append(request.url))
    visit.page.add_init_script(COUNT_FRAMES)

    visit.open()
    visit.page.wait_for_function("restedFor() > 1500", polling=200)  # not at each frame, as usual

    assert [address for address in addresses if not re.match(rf"{re.escape(visit.address)}|data:|blob:", address)] == []


def test_before_start_the_page_says_what_a_run_writes_needs_and_takes(visit: Visit) -> None:
    take_style_sample(visit)
    visit.tab("train")
    visit.fill("train-steps", "12")
    visit.page.click("#train-before-box > button")
    visit.wait_for_text("#train-before", "Writes")
    visit.wait_for_text("#train-before", "It fits")

    visit.page.click("#train-measure")
    visit.wait_for_text("#train-before", "Time")

    assert visit.page.locator("#run-bar-text").inner_text() == "Nothing is training."
    visit.page.click("#train-start")
    visit.wait_for_text("#train-status", "finished")
    visit.wait_for_text("#train-status", "The estimate was")
    visit.tab("runs")
    visit.wait_for_text("#runs-details", "What it took")
    assert visit.complaints == []


def test_tell_me_chooses_by_the_pictures_and_says_why(visit: Visit) -> None:
    take_style_sample(visit)
    visit.tab("train")
    visit.page.click("#train-preset [data-testid='Tell me-radio-label']")

    visit.page.wait_for_selector("#train-why dl.sd-advice dt")
    assert visit.page.locator("#train-why dt").count() >= 4
    assert all(reason.strip() for reason in visit.page.locator("#train-why dd").all_inner_texts())
