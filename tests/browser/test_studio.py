"""Train while it goes on, runs and models, in a real browser."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from gradio_client import Client

from tests.browser.conftest import Visit
from tests.browser.test_page import start_run, take_style_sample

pytestmark = pytest.mark.browser


def finish_run(visit: Visit, name: str, steps: int = 12) -> None:
    start_run(visit, steps=steps, name=name)
    visit.wait_for_text("#train-status", "finished")


def shown_step(visit: Visit) -> str:
    return visit.page.inner_text("#train-samples output")


def test_samples_and_a_checkpoint_come_at_a_click_and_the_scrubber_stays_where_it_was_put(visit: Visit, visitors) -> None:  # noqa: ANN001
    start_run(visit, steps=5000, name="asked")
    visit.wait_for_text("#train-status", "Train")
    visit.page.wait_for_selector("#train-samples input[type=range]")
    visit.page.wait_for_function("!document.querySelector('#train-sample-now').disabled")

    more = "document.querySelector('#train-samples .sd-viewer').dataset.steps.split(' ').length > {}"
    before = len(visit.page.get_attribute("#train-samples .sd-viewer", "data-steps").split())
    visit.page.click("#train-sample-now")
    visit.page.wait_for_function(more.format(before))
    visit.page.locator("#train-samples input[type=range]").press("Home")
    assert shown_step(visit) == "step 0, the base"
    before = len(visit.page.get_attribute("#train-samples .sd-viewer", "data-steps").split())
    visit.page.click("#train-sample-now")
    visit.page.wait_for_function(more.format(before))
    assert shown_step(visit) == "step 0, the base"
    assert visit.page.locator("#train-samples figure span:not([hidden]) img").count() == 1

    visit.page.click("#train-save-now")
    visit.page.wait_for_function("!document.querySelector('#train-compare').disabled")
    other = visitors()
    other.page.click("#run-bar-open")
    other.wait_for_text("#train-status", "asked")
    other.page.wait_for_selector("#train-samples .sd-viewer")
    assert len(other.page.get_attribute("#train-samples .sd-viewer", "data-steps").split()) > before
    other.page.click("#train-stop")

    visit.wait_for_text("#train-status", "stopped")
    assert visit.complaints == other.complaints == []


def test_a_finished_run_goes_on_and_says_what_happens_to_the_rate(visit: Visit) -> None:
    finish_run(visit, "longer")
    visit.wait_for_text("#train-onward", "comes down again")

    visit.fill("train-more", "3")
    visit.page.click("#train-continue")

    visit.wait_for_text("#train-status", "step 15 of 15")
    visit.wait_for_text("#train-status", "finished")
    assert visit.page.locator("#train-charts svg").count() == 2
    assert visit.complaints == []


def test_cloned_settings_fill_the_form_also_after_it_was_changed(visit: Visit) -> None:
    finish_run(visit, "cloned")
    visit.fill("train-steps", "99")
    visit.tab("prompts")
    visit.fill("prompts-token", "other")
    visit.tab("runs")
    visit.wait_for_text("#runs-status", "cloned")

    visit.page.click("#runs-clone")

    visit.page.wait_for_selector("#tab-train", state="visible")
    visit.page.wait_for_function("document.querySelector('#train-steps input').value === '12'")
    assert visit.value("train-name") == "cloned again"
    visit.tab("prompts")
    assert visit.value("prompts-token") == "fxemoji"


def test_a_deleted_run_comes_back_with_undo_and_notes_and_stars_stay(visit: Visit) -> None:
    finish_run(visit, "kept")
    visit.tab("runs")
    visit.wait_for_text("#runs-status", "kept")
    visit.fill("runs-note", "the <b>best</b> so far")
    visit.page.locator("#runs-note textarea, #runs-note input").first.blur()
    visit.page.click("#runs-table li:has-text('kept') .sd-star")
    visit.page.wait_for_selector("#runs-table li:has-text('kept') .sd-star[aria-pressed=true]")
    visit.wait_for_text("#runs-table", "the <b>best</b> so far")

    visit.page.click("#runs-delete")
    visit.page.wait_for_selector("#runs-undo")
    visit.page.wait_for_function("!document.querySelector('#runs-table').innerText.includes('kept')")
    visit.page.click("#runs-undo")

    visit.page.wait_for_selector("#runs-table li:has-text('kept') .sd-star[aria-pressed=true]")
    visit.wait_for_text("#runs-status", "kept")
    visit.fill("runs-search", "BEST")
    visit.page.wait_for_function("document.querySelectorAll('#runs-table li').length === 1")
    assert visit.complaints == []


def test_a_failure_shows_cause_fix_and_a_report_to_copy(visit: Visit) -> None:
    take_style_sample(visit)
    visit.tab("train")
    visit.fill("train-steps", "12")
    visit.page.click("#train-expert > button")
    choice = visit.page.locator("#train-zero_terminal_snr input")
    choice.fill("on")  # which this base, predicting noise, cannot learn with
    choice.press("Enter")
    visit.page.click("#train-start")

    visit.wait_for_text("#train-status", "What happened")
    visit.wait_for_text("#train-status", "predicts v")
    visit.wait_for_text("#train-status", "What to do")
    visit.page.wait_for_selector("#train-report textarea")
    report = visit.page.locator("#train-report textarea").input_value()
    assert "sdplay run" in report
    assert "pytest-of" not in report  # the folder that the base lies in
    assert "Traceback" not in visit.page.inner_text("#train-status")


def test_a_mix_is_drawn_and_written_as_a_file(visit: Visit) -> None:
    finish_run(visit, "mixed")
    visit.tab("runs")
    visit.page.click("#tab-models-button")
    visit.page.click("#library-grid article:has-text('mixed') button[data-action=mix]")
    visit.wait_for_text("#library-told", "-mixed")

    visit.fill("library-prompt", "rocket")
    visit.page.click("#library-draw")
    visit.page.wait_for_selector("#library-drawn img")
    visit.page.click("#library-make")
    visit.page.wait_for_selector("#library-made a")
    with visit.page.expect_download() as download:
        visit.page.click("#library-made a")

    assert download.value.suggested_filename.endswith(".zip")
    assert visit.complaints == []


def test_two_adapters_pressed_before_an_answer_is_there_are_both_in_the_mix(visit: Visit) -> None:
    finish_run(visit, "pressed-first")
    visit.tab("dataset")
    finish_run(visit, "pressed-next")
    visit.tab("runs")
    visit.page.click("#tab-models-button")
    both = "#library-grid article:has-text('pressed-') button[data-action=mix]"
    visit.page.wait_for_function("document.querySelectorAll('#library-grid article').length >= 2")
    assert visit.page.locator(both).count() >= 2  # more where the test is tried again

    visit.page.locator(both).evaluate_all("buttons => buttons.slice(0, 2).forEach(button => button.click())")

    visit.wait_for_text("#library-told", "+")
    assert visit.value("library-mix-1")
    assert visit.value("library-mix-2")
    assert visit.value("library-mix-1") != visit.value("library-mix-2")
    assert not visit.value("library-mix-3")


def test_with_ten_open_pages_no_answer_waits_behind_a_long_drawing(server: str, tiny_base: Path) -> None:
    client = Client(server, verbose=False)
    drawn: list[float] = []
    begun = time.perf_counter()

    def draw() -> None:
        client.predict(prompt="dog", count=16, steps=200, base_model=str(tiny_base), api_name="/generate")
        drawn.append(time.perf_counter() - begun)

    long = threading.Thread(target=draw)
    long.start()
    time.sleep(0.5)
    waited: list[float] = []

    def ask() -> None:
        started = time.perf_counter()
        Client(server, verbose=False).predict(api_name="/runs_list")
        waited.append(time.perf_counter() - started)

    pages = [threading.Thread(target=ask) for _ in range(10)]
    for page in pages:
        page.start()
    for page in pages:
        page.join()
    asked = time.perf_counter() - begun
    long.join()

    assert len(waited) == 10
    assert asked < drawn[0], (asked, drawn)
