"""The Prompts tab in a real browser: table and text, trigger word, styles, files, a preset's own prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.browser.conftest import Visit
from tests.browser.test_page import take_style_sample

pytestmark = pytest.mark.browser
ROWS = "#prompts-table .sd-row:not([hidden])"
LATE_MS = 1500
SLOW_UNQUEUED = f"""() => {{
  const fetched = window.fetch;
  window.tables = 0;
  window.looks = 0;
  window.fetch = async (address, ...how) => {{
    if (!String(address).includes('/run/predict')) return fetched(address, ...how);
    await new Promise(done => setTimeout(done, {LATE_MS}));
    const answer = await fetched(address, ...how);
    window.tables += (await answer.clone().text()).includes('sd-rows');
    window.looks += 1;
    return answer;
  }};
}}"""
"""What goes past the queue, such as the table's look at the texts, reaches the server late; edits do not. `tables`: how many were sent."""


def open_tab(visit: Visit) -> None:
    visit.tab("prompts")
    visit.page.wait_for_selector(ROWS)


def wait_for_value(visit: Visit, element_id: str, text: str) -> None:
    visit.page.wait_for_function(
        "([id, text]) => document.querySelector(`#${id} textarea, #${id} input`).value.includes(text)", arg=[element_id, text]
    )


def test_a_row_is_added_moved_copied_and_deleted_and_the_text_follows(visit: Visit) -> None:
    open_tab(visit)
    count = visit.page.locator(ROWS).count()

    visit.page.click("#prompts-table [data-move=add]")
    new = visit.page.locator(ROWS).last
    new.locator("[name=text]").fill("zebra, {token}")
    new.locator("[name=negative]").fill("spots")
    new.locator("[value=sample]").uncheck()
    new.locator("[name=negative]").blur()
    wait_for_value(visit, "prompts-sample", "zebra, {token} --n spots --only compare")
    new.locator("[data-move=up]").click()
    new = visit.page.locator(ROWS).nth(count - 1)
    assert new.locator("[name=text]").input_value() == "zebra, {token}"
    new.locator("[data-move=copy]").click()
    assert visit.page.locator(ROWS).count() == count + 2
    visit.page.locator(ROWS).nth(count).locator("[data-move=remove]").click()
    visit.page.locator(ROWS).last.locator("[data-move=remove]").click()

    visit.page.wait_for_function(
        "() => document.querySelector('#prompts-sample textarea').value.endsWith('zebra, {token} --n spots --only compare')"
    )
    assert visit.page.locator(ROWS).count() == count
    visit.wait_for_text("#prompts-preview", "zebra, ohwx")
    assert visit.complaints == []


def test_the_table_is_not_sent_anew_for_its_own_edits_when_the_texts_are_looked_at_late(visit: Visit) -> None:
    open_tab(visit)
    visit.page.evaluate(SLOW_UNQUEUED)

    visit.page.locator(ROWS).last.locator("[name=text]").fill("zebra, {token}")
    visit.page.locator(ROWS).last.locator("[data-move=copy]").click()
    wait_for_value(visit, "prompts-sample", "zebra, {token}\nzebra, {token}")
    visit.page.locator(ROWS).last.locator("[data-move=remove]").click()
    visit.page.wait_for_function("document.querySelector('#prompts-sample textarea').value.split('zebra').length === 2")
    visit.page.wait_for_timeout(3 * LATE_MS)

    assert visit.page.evaluate("window.looks") >= 2
    assert visit.page.evaluate("window.tables") == 0


def test_a_mistake_is_said_beneath_its_row_until_it_is_mended(visit: Visit) -> None:
    open_tab(visit)
    row = visit.page.locator(ROWS).nth(1)
    template = row.locator("[name=text]")

    template.fill("rocket,  {tokn} style")
    template.blur()
    visit.wait_for_text(f"{ROWS} .sd-mistake", "{tokn}")
    assert row.locator(".sd-mistake").count() == visit.page.locator(".sd-mistake").count() == 1
    assert template.get_attribute("aria-invalid") == "true"

    template.fill("rocket, {token} style")
    template.blur()
    visit.page.wait_for_selector(".sd-mistake", state="detached")
    assert template.get_attribute("aria-invalid") == "false"
    assert visit.complaints == []


def test_what_is_typed_as_text_is_in_the_table(visit: Visit) -> None:
    open_tab(visit)

    visit.fill("prompts-train", "a {red|blue} {token} --weight 3\n{token} __light__")
    visit.page.locator("#prompts-view label").filter(has_text="Table").click()

    visit.page.wait_for_function(f"document.querySelector('{ROWS} [name=weight]').value === '3'")
    assert visit.page.locator(ROWS).first.locator("[name=text]").input_value() == "a {red|blue} {token}"
    visit.wait_for_text("#prompts-preview", "drawn 75% of the time")
    visit.wait_for_text("#prompts-preview", "Training reads this picture as 10 texts")  # 2 colours, 8 lights
    assert visit.complaints == []


def test_a_known_word_is_warned_about_and_a_press_takes_a_better_one(visit: Visit) -> None:
    open_tab(visit)

    visit.fill("prompts-token", "dog")
    visit.wait_for_text("#prompts-trigger", "1 token")
    better = visit.page.locator("#prompts-trigger button").first
    word = better.inner_text()
    better.click()

    wait_for_value(visit, "prompts-token", word)
    visit.wait_for_text("#prompts-trigger", f"“{word}” is")
    visit.page.wait_for_selector("#prompts-preview .sd-chips .sd-word")


def test_a_style_has_a_picture_by_this_base_and_a_press_adds_a_row(visit: Visit) -> None:
    open_tab(visit)
    count = visit.page.locator(ROWS).count()

    visit.page.click("#prompts-styles > button")
    visit.page.wait_for_selector("#prompts-style-grid img")
    visit.page.wait_for_function("document.querySelector('#prompts-style-grid img').naturalWidth > 0")
    visit.page.click("#prompts-style-grid button[data-id=watercolour]")

    wait_for_value(visit, "prompts-sample", "a watercolour painting of")
    visit.page.wait_for_function(f"document.querySelectorAll('{ROWS}').length === {count + 1}")
    assert visit.page.locator(ROWS).last.locator("[name=name]").input_value() == "Watercolour"
    assert visit.complaints == []


def test_templates_go_out_as_files_and_come_back(visit: Visit, tmp_path: Path) -> None:
    open_tab(visit)
    visit.fill("prompts-sample", "a marmot, {token} --n snow")
    visit.page.locator("#prompts-files button").first.click()

    visit.page.click("#prompts-export")
    visit.page.wait_for_selector("#prompts-exported a[href]")
    links = visit.page.locator("#prompts-exported a[href]")
    address = next(href for href in (links.nth(i).get_attribute("href") or "" for i in range(links.count())) if href.endswith(".json"))
    fields = json.loads(visit.page.request.get(address).body())
    assert fields["sample"] == ["a marmot, {token} --n snow"]
    path = tmp_path / "from-elsewhere.json"
    path.write_text(json.dumps({**fields, "sample": ["a heron"]}))
    visit.page.set_input_files("#prompts-import input[type=file]", str(path))

    visit.wait_for_text("#prompts-saved", "Imported as from-elsewhere")
    wait_for_value(visit, "prompts-sample", "a heron")


def test_a_preset_brings_its_prompts_unless_they_were_edited(visit: Visit) -> None:
    visit.tab("train")
    visit.page.locator("#train-preset label").filter(has_text="Subject").click()
    open_tab(visit)
    wait_for_value(visit, "prompts-set", "Any subject")
    visit.fill("prompts-sample", "my own prompt")

    visit.tab("train")
    visit.page.click("#train-preset [data-testid='Style-radio-label']")
    visit.page.wait_for_timeout(1500)

    visit.tab("prompts")
    assert visit.value("prompts-set") == "Any subject"
    assert visit.value("prompts-sample") == "my own prompt"


def test_three_caption_styles_are_one_click_and_end_in_a_comparison(visit: Visit) -> None:
    take_style_sample(visit)
    visit.tab("train")
    visit.fill("train-steps", "12")
    visit.tab("prompts")
    visit.fill("prompts-sample", "rocket, {token} style")

    visit.page.click("#prompts-captions")

    visit.page.wait_for_selector("#prompts-experiment button[data-action=select]")
    visit.page.click("#prompts-experiment button[data-action=select]")
    visit.wait_for_text("#compare-grid thead th", "captions-detailed")
    visit.wait_for_text("#compare-progress", "Done")
    heads = visit.page.locator("#compare-grid thead th").all_inner_texts()
    assert heads[0].startswith("base")
    assert [head.split("captions-")[1] for head in heads[1:]] == ["bare-token", "template", "detailed"]
    assert visit.complaints == []
