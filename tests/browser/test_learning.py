"""A newcomer on the embedded base: how many clicks and seconds it takes to see what a model learned; lessons and the tour."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.browser.conftest import Visit, serving

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PATIENCE_MS = 120_000
TRAINING_MS = 540_000
"""Other programs may share the machine. How long the whole preset takes is measured by `benchmarks.main_job`."""
COUNT_CLICKS = "addEventListener('pointerdown', event => { if (event.isTrusted) window.clicks = (window.clicks || 0) + 1; }, true)"


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server over the embedded base, with an empty workspace."""
    with serving("mini", tmp_path_factory.mktemp("newcomer")) as address:
        yield address


@pytest.fixture
def newcomer(chromium, embedded: str) -> Iterator[Visit]:  # noqa: ANN001
    with somebody_new(chromium, embedded) as visit:
        yield visit


@pytest.fixture
def toured(chromium, server: str) -> Iterator[Visit]:  # noqa: ANN001
    """Who takes the tour on the tiny base: the same hundred steps and nine pictures, sooner."""
    with somebody_new(chromium, server) as visit:
        yield visit


@contextmanager
def somebody_new(chromium, address: str) -> Iterator[Visit]:  # noqa: ANN001
    """A browser that was never here, whose clicks are counted."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.add_init_script(COUNT_CLICKS)
    page.set_default_timeout(PATIENCE_MS)
    visit = Visit(page, address)
    page.on("pageerror", lambda error: visit.hear(str(error)))
    visit.open()
    yield visit
    context.close()


def make_smaller(visit: Visit, prefix: str, **numbers: int) -> None:
    """Typed, which is no click, so that the test takes a minute less: what is clicked and what comes of it stays the same."""
    for name, number in numbers.items():
        visit.fill(f"{prefix}-{name}", str(number))


def clicks(visit: Visit) -> int:
    return int(visit.page.evaluate("window.clicks || 0"))


def test_from_the_empty_page_to_a_finished_comparison_in_six_clicks(newcomer: Visit, capsys: pytest.CaptureFixture[str]) -> None:
    page, started = newcomer.page, time.monotonic()

    page.click("#samples button[data-id=fxemoji-style]")
    page.wait_for_selector("#dataset-onward:not([disabled])")
    page.click("#dataset-onward")
    page.locator("#train-preset label").filter(has_text="Quick try").click()
    page.wait_for_function("document.querySelector('#train-steps input').value === '100'")
    page.locator("#train-expert > button").press("Enter")
    make_smaller(newcomer, "train", steps=20, sample_steps=4, checkpoint_every=10, sample_every=10, validate_every=10)
    page.click("#train-start")
    newcomer.wait_for_text("#train-status", "finished", TRAINING_MS)
    page.click("#train-compare")
    page.wait_for_selector("#compare-draw:not([disabled])")
    newcomer.wait_for_text("#compare-count", "3 columns")
    make_smaller(newcomer, "compare", steps=4)
    page.click("#compare-draw")
    newcomer.wait_for_text("#compare-progress", "Done", TRAINING_MS)

    with capsys.disabled():
        print(f"\nempty page to finished comparison: {clicks(newcomer)} clicks, {time.monotonic() - started:.0f} s")
    assert clicks(newcomer) <= 6
    assert page.locator("#compare-grid thead th").first.inner_text().startswith("base")
    assert newcomer.complaints == []


def test_the_tour_does_it_in_two_clicks_and_marks_the_lesson(toured: Visit, capsys: pytest.CaptureFixture[str]) -> None:
    page, started = toured.page, time.monotonic()

    page.click("#tour button[data-action=apply]")
    toured.wait_for_text("#learn-panel", "9 of 9 pictures", TRAINING_MS)
    page.click("#learn-panel button[data-action=select]")
    toured.wait_for_text("#compare-progress", "Done", TRAINING_MS)

    with capsys.disabled():
        print(f"\ntour to finished comparison: {clicks(toured)} clicks, {time.monotonic() - started:.0f} s")
    assert clicks(toured) == 2
    heads = page.locator("#compare-grid thead th").all_inner_texts()
    assert len(heads) == 3
    assert "0.5" in heads[1]
    toured.open()
    toured.tab("learn")
    toured.wait_for_text("#learn-list", "1 of 6 finished")
    assert page.locator("#tour .sd-tour").count() == 0
    assert toured.complaints == []


def test_the_tour_leads_through_the_tabs_and_stays_away_when_closed(newcomer: Visit) -> None:
    page = newcomer.page
    page.click("#tour button[data-id='0']")
    for tab in ("dataset", "prompts", "train", "compare", "learn"):
        page.wait_for_selector(f"#tab-{tab}-button[aria-selected=true]")
        newcomer.wait_for_text("#tour", tab.capitalize())
        page.click("#tour .sd-button")

    page.wait_for_selector("#tour .sd-tour", state="detached")
    newcomer.open()
    page.wait_for_timeout(1500)
    assert page.locator("#tour .sd-tour").count() == 0
    assert newcomer.complaints == []


def test_every_lesson_can_be_opened_and_read(newcomer: Visit) -> None:
    newcomer.tab("learn")
    buttons = newcomer.page.locator("#learn-list button")

    assert buttons.count() == 6
    for number in range(6):
        buttons.nth(number).click()
        title = buttons.nth(number).locator("strong").inner_text()
        newcomer.wait_for_text("#learn-head", title)
        assert len(newcomer.page.inner_text("#learn-text")) > 400
    assert newcomer.complaints == []
