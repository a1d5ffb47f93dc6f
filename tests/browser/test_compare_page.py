"""The Compare tab in a real browser: every view, the blind test, links, files, and settings that come back."""

from __future__ import annotations

import io
import json
import re
import urllib.request
import zipfile
from pathlib import Path

import pytest

from tests.browser.conftest import Visit, serving
from tests.browser.test_page import start_run

pytestmark = pytest.mark.browser


def draw(visit: Visit, *, axes: dict[str, str] | None = None, prompts: str = "dog\na red ball", seeds: str = "1..2") -> str:
    """A comparison of the base alone, with axes; its id."""
    visit.tab("compare")
    visit.fill("compare-prompts", prompts)
    visit.fill("compare-seeds", seeds)
    visit.fill("compare-steps", "1")
    if axes:
        visit.page.click("#compare-axes button")
        for name, text in axes.items():
            visit.fill(f"compare-axis-{name}", text)
    visit.wait_for_text("#compare-count", "picture")
    visit.page.wait_for_timeout(600)  # typing is taken in when it pauses
    visit.draw_grid()
    return visit.grid_link().split("compare=")[1].split("&")[0]


def show(visit: Visit, view: str) -> None:
    visit.page.click(f"#compare-grid [data-view={view}]")
    visit.page.wait_for_selector(f"#compare-grid [data-view={view}][aria-selected=true]")


def scale_of(visit: Visit, index: int) -> str:
    return str(visit.page.locator("#compare-grid td img").nth(index).evaluate("image => getComputedStyle(image).transform"))


def test_the_grid_keeps_its_headers_and_zooms_in_one_place(visit: Visit) -> None:
    draw(visit, axes={"steps": "1, 2"})
    page = visit.page

    assert page.locator("#compare-grid td img").count() == 2 * 2 * 2
    assert page.locator("#compare-grid thead th").first.evaluate("head => getComputedStyle(head).position") == "sticky"
    assert page.locator("#compare-grid tbody th").first.evaluate("head => getComputedStyle(head).position") == "sticky"
    assert all(page.locator("#compare-grid td img").nth(n).get_attribute("alt") for n in range(8))
    page.locator("#compare-grid .sdv-zoom").fill("3")
    assert scale_of(visit, 0) == scale_of(visit, 7) == "matrix(3, 0, 0, 3, 0, 0)"
    page.locator("#compare-grid td.sdv-cell").first.focus()
    page.keyboard.press("Shift+ArrowRight")
    origins = page.locator("#compare-grid td img").evaluate_all("images => images.map(image => getComputedStyle(image).transformOrigin)")
    assert len(set(origins)) == 1
    assert visit.complaints == []


def test_the_grid_is_walked_with_arrow_keys_and_a_cell_opens_with_enter(visit: Visit) -> None:
    draw(visit)
    page = visit.page
    page.locator("#compare-grid td.sdv-cell").first.focus()

    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")

    page.wait_for_selector("#compare-grid dialog[open]")
    assert "Seed: 2" in page.inner_text("#compare-grid .sdv-text")
    page.keyboard.press("ArrowUp")
    assert "Seed: 1" in page.inner_text("#compare-grid .sdv-text")
    page.keyboard.press("Escape")
    assert page.locator("#compare-grid dialog[open]").count() == 0


def test_the_slider_stands_between_any_two_cells_and_moves_by_key(visit: Visit) -> None:
    draw(visit)
    show(visit, "slider")
    page = visit.page

    page.select_option("#compare-grid [aria-label='Prompt of B']", label="a red ball")
    page.select_option("#compare-grid [aria-label='Seed of B']", label="seed 2")
    page.locator("#compare-grid .sdv-wipe").focus()
    page.keyboard.press("End")

    assert page.inner_text("#compare-grid [data-caption=b]") == "B: base, a red ball, seed 2"
    assert page.locator("#compare-grid .sdv-stack").evaluate("stack => stack.style.getPropertyValue('--sdv-wipe')") == "100%"
    assert page.locator("#compare-grid .sdv-stack img").count() == 2
    assert visit.complaints == []


def test_flicker_shows_one_and_then_the_other_in_the_same_place(visit: Visit) -> None:
    draw(visit)
    show(visit, "flicker")
    page = visit.page
    boxes = [page.locator(f"#compare-grid [data-side={side}]").bounding_box() for side in ("a", "b")]
    assert boxes[0] == boxes[1]

    shown = page.get_attribute("#compare-grid .sdv-flicker", "data-shown")
    page.click("#compare-grid .sdv-play")

    page.wait_for_function("shown => document.querySelector('#compare-grid .sdv-flicker').dataset.shown !== shown", arg=shown)
    page.click("#compare-grid .sdv-play")
    assert page.get_attribute("#compare-grid .sdv-play", "aria-pressed") == "false"


def test_xyz_puts_any_axis_anywhere_without_drawing(visit: Visit) -> None:
    draw(visit, axes={"steps": "1, 2, 3", "style": "- | oil, thick"})
    show(visit, "xyz")
    page = visit.page

    page.select_option("#compare-grid [aria-label='X axis']", label="Denoising steps")
    page.select_option("#compare-grid [aria-label='Y axis']", label="Style")

    heads = page.locator("#compare-grid thead th").all_inner_texts()
    rows = page.locator("#compare-grid tbody th").all_inner_texts()
    assert heads == ["denoising steps 1", "denoising steps 2", "denoising steps 3"]
    assert rows == ["-", "oil, thick"]
    assert page.locator("#compare-grid td img").count() == 6
    assert visit.complaints == []


def test_an_axis_that_cannot_be_read_is_told_while_it_is_typed(visit: Visit) -> None:
    visit.tab("compare")
    visit.fill("compare-prompts", "dog")
    visit.page.click("#compare-axes button")

    visit.fill("compare-axis-strength", "0.2..1:0")

    visit.wait_for_text("#compare-count", "cannot be reached from 0.2")
    assert visit.page.locator("#compare-draw").is_disabled()


def test_a_link_brings_the_view_and_its_cells_back(visit: Visit, visitors) -> None:  # noqa: ANN001
    draw(visit)
    show(visit, "slider")
    visit.page.select_option("#compare-grid [aria-label='Seed of A']", label="seed 2")

    other = visitors(visit.grid_link().removeprefix(visit.address))

    other.page.wait_for_selector("#compare-grid [data-view=slider][aria-selected=true]")
    assert other.page.inner_text("#compare-grid [data-caption=a]") == visit.page.inner_text("#compare-grid [data-caption=a]")
    assert other.complaints == []


def test_files_of_a_comparison_are_whole(visit: Visit, visitors, tmp_path: Path) -> None:  # noqa: ANN001
    draw(visit)
    addresses = [visit.page.locator("#compare-downloads a").nth(index).get_attribute("href") or "" for index in range(3)]
    grid, page, cells = (urllib.request.urlopen(visit.address + address).read() for address in addresses)

    with zipfile.ZipFile(io.BytesIO(cells)) as archive:
        listed = json.loads(archive.read("settings.json"))
        assert {cell["file"] for cell in listed["cells"]} == {name for name in archive.namelist() if name.endswith(".png")}
    assert grid[:4] == b"\x89PNG"
    path = tmp_path / "grid.html"
    path.write_bytes(page)
    requested: list[str] = []
    tab = visitors().page
    tab.goto("about:blank")  # where nothing asks the server any more
    tab.on("request", lambda request: requested.append(request.url))
    tab.goto(path.as_uri())
    tab.wait_for_selector("td img")
    tab.click("[data-view=slider]")
    tab.wait_for_selector(".sdv-wipe")
    assert {address.split(":")[0] for address in requested} <= {"file", "data"}


def test_a_picture_that_was_drawn_gives_its_settings_back(visit: Visit, tmp_path: Path) -> None:
    draw(visit, prompts="a very special dog", seeds="41")
    source = visit.page.locator("#compare-grid td img").first.get_attribute("src") or ""
    path = tmp_path / "cell.png"
    path.write_bytes(urllib.request.urlopen(visit.address + source).read())
    visit.fill("compare-prompts", "something else")
    visit.fill("compare-seeds", "9")
    visit.fill("compare-steps", "33")

    visit.page.set_input_files("#compare-upload input[type=file]", str(path))

    visit.page.wait_for_function("document.querySelector('#compare-prompts textarea').value === 'a very special dog'")
    visit.page.wait_for_function("document.querySelector('#compare-steps input').value === '1'")
    assert visit.value("compare-seeds") == "41"
    assert visit.complaints == []


def test_a_cell_is_sent_to_the_form(visit: Visit) -> None:
    draw(visit)
    page = visit.page

    page.locator("#compare-grid td.sdv-cell").nth(3).click()
    page.click("#compare-grid dialog >> text=Send to form")

    page.wait_for_function("document.querySelector('#compare-prompts textarea').value === 'a red ball'")
    page.wait_for_function("document.querySelector('#compare-seeds textarea, #compare-seeds input').value === '2'")
    assert visit.complaints == []


def test_no_view_scrolls_the_page_sideways_on_a_phone(visitors) -> None:  # noqa: ANN001
    phone = visitors(width=390)
    draw(phone, axes={"steps": "1, 2"})

    widths = {}
    for view in ("grid", "slider", "flicker", "xyz", "blind"):
        show(phone, view)
        widths[view] = phone.page.evaluate("document.documentElement.scrollWidth")

    assert max(widths.values()) <= 390, widths
    assert phone.complaints == []


def test_a_blind_test_is_taken_by_key_survives_a_reload_and_ends_with_names(visit: Visit) -> None:
    start_run(visit, steps=12, name="blind-job")
    visit.wait_for_text("#train-status", "finished")
    visit.page.click("#train-compare")
    visit.wait_for_text("#compare-count", "columns")
    draw(visit, seeds="1..3")
    show(visit, "blind")
    page = visit.page
    page.click("#compare-grid >> text=Begin")
    page.wait_for_selector("#compare-grid .sdv-pair img")
    sources = page.locator("#compare-grid .sdv-pair img").evaluate_all("images => images.map(image => image.getAttribute('src'))")
    alts = page.locator("#compare-grid .sdv-pair img").evaluate_all("images => images.map(image => image.alt)")

    for key in "120":
        page.keyboard.press(key)
    visit.wait_for_text("#compare-grid .sdv-count", "Pair 4 of")
    page.wait_for_timeout(1500)
    visit.open(f"?compare={visit.grid_link().split('compare=')[1].split('&')[0]}&view=blind")
    visit.wait_for_text("#compare-grid .sdv-count", "Pair 4 of")
    page.click("#compare-grid >> text=Show the names")

    page.wait_for_selector("#compare-grid .sdv-results")
    assert all(re.search(r"/blind(/|%2F)[0-9a-f]{20}\.png$", source) for source in sources), "an address says nothing about whose it is"
    assert not any("base" in alt or "blind-job" in alt for alt in alts)
    assert "Ranking from 3 choices" in page.inner_text("#compare-grid .sdv-results caption")
    assert "base" in page.inner_text("#compare-grid .sdv-results")
    assert visit.complaints == []


def test_a_link_works_after_a_restart(chromium, tiny_base: Path, tmp_path: Path) -> None:  # noqa: ANN001
    with serving(str(tiny_base), tmp_path) as address:
        visit = Visit(chromium.new_page(), address)
        visit.open()
        draw(visit)
        show(visit, "flicker")
        query = visit.grid_link().removeprefix(address)
        visit.page.close()

    with serving(str(tiny_base), tmp_path) as address:
        visit = Visit(chromium.new_page(), address)
        visit.open(query)

        visit.page.wait_for_selector("#compare-grid [data-view=flicker][aria-selected=true]")
        visit.page.wait_for_function("document.querySelectorAll('#compare-grid .sdv-stack img').length === 2")
        visit.wait_for_text("#compare-progress", "Done")
        visit.page.close()
