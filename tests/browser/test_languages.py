"""The page in German: every text on every tab is one of the catalogue's, also what comes later."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from sdplay.ui.languages import Catalogue, load_catalogue
from tests.browser.conftest import Visit, serving
from tests.browser.test_accessibility import TABS
from tests.test_history import finished_run

pytestmark = pytest.mark.browser

SAID = """tab => {
  const root = tab ? document.getElementById(`tab-${tab}`) : document.body;
  const said = new Set();
  const left = 'script, style, textarea, code, pre, svg';
  const isTheirs = element => element.closest('[translate]')?.translate === false;
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (parent && !parent.closest(left) && !isTheirs(parent) && parent.getClientRects().length) said.add(walker.currentNode.nodeValue);
  }
  for (const name of ['placeholder', 'title', 'aria-label', 'alt'])
    for (const element of root.querySelectorAll(`[${name}]`))
      if (!isTheirs(element) && element.getClientRects().length) said.add(element.getAttribute(name));
  return [...said].map(text => text.replace(/\\s+/g, ' ').trim()).filter(text => /[A-Za-z]{2}/.test(text));
}"""
SAME = re.compile(
    r"[\d:.,/~]+( ?[x-] ?\d+)?( ?(px|s|GB|MB|KB|min|h|B))?|\S+\.(png|zip|safetensors|yaml|json)(, \d+ x \d+)?"  # figures, files
    r"|\d{8}-\d{6}-\S+|[a-z0-9]+(_[a-z0-9]+)+|https?://\S+|owner/name"  # runs, settings, addresses
)
"""What is the same in every language."""
THEIRS = (
    "sdplay",
    "tiny-base",
    "mini",
    "fxemoji",
    "logo",
    "ohwx",
    "lora",
    "API",
    "CPU",
    "Gradio",
    "my-gnome",
    "a photo of {token} {class}",
)
"""Names and prompts that nobody translates."""
SPLIT = re.compile(r"((?<=[.!?:;,])\s+|\s+[·(]\s?)")


@pytest.fixture(scope="module")
def server(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of this module's own: what other tests leave behind must not be read here. It has two runs."""
    home = tmp_path_factory.mktemp("german")
    (home / "runs").mkdir()
    for name in ("red fox", "blue fox"):
        run = finished_run(home / "runs", name, base_model=str(tiny_base), token="ohwx")
        (run.folder / "samples" / "000000").mkdir(parents=True)
        Image.new("RGB", (64, 64), "orange").save(run.folder / "samples" / "000000" / "00-a.png")
    with serving(str(tiny_base), home) as address:
        yield address


class Reader:
    """Knows which texts a catalogue can have made."""

    def __init__(self, catalogue: Catalogue, theirs: Iterable[str] = ()) -> None:
        texts = {*catalogue.texts.values(), *catalogue.more.values(), *theirs}
        self.whole = {text for text in texts if not re.search(r"\{\d*\}", text)}
        patterns = (re.split(r"\{\d*\}", text) for text in texts - self.whole)
        self.patterns = [pieces for pieces in patterns if len(re.sub(r"[^A-Za-zäöüß]", "", "".join(pieces))) > 2]

    def knows(self, text: str) -> bool:
        """Whether the text is one, or is made of several."""
        if (
            not re.search(r"[A-Za-z]{2}", text)
            or SAME.fullmatch(text)
            or not self.whole.isdisjoint((text, text.rstrip(".;:,"), f"{text[:-1]}."))
        ):
            return True
        if any(fits(pieces, text) for pieces in self.patterns):
            return True
        parts = SPLIT.split(text)
        ends = range(len(parts) - 2, 0, -2)
        return any(self.knows("".join(parts[:end])) and self.knows("".join(parts[end + 1 :])) for end in ends)


def fits(pieces: list[str], text: str) -> bool:
    """Whether a text consists of these pieces with something short between them."""
    place = len(pieces[0])
    if not text.startswith(pieces[0]):
        return False
    for piece in pieces[1:-1]:
        place = text.find(piece, place + 1) + len(piece)
        if place < len(piece):
            return False
    between = text[place : len(text) - len(pieces[-1])]
    return text.endswith(pieces[-1]) and 0 < len(between) < 120


def foreign(visit: Visit, reader: Reader, tabs: Iterable[str]) -> list[tuple[str, str]]:
    """(tab, text) of what is on the page and in no catalogue."""
    found = []
    for tab in tabs:
        if tab == "models":
            visit.tab("runs")
        visit.tab(tab)
        visit.page.wait_for_timeout(1200)
        found += [(tab, text) for text in visit.page.evaluate(SAID, tab) if not reader.knows(text)]
    return found


def test_every_text_on_every_tab_is_german(visitors) -> None:  # noqa: ANN001
    visit: Visit = visitors("?lang=de")
    assert visit.page.locator("html").get_attribute("lang") == "de"
    visit.page.click("#samples button[data-id=fxemoji-style]")
    visit.page.wait_for_selector("#dataset-grid textarea")

    assert foreign(visit, Reader(load_catalogue("de"), THEIRS), TABS) == []
    assert visit.complaints == []


def test_the_language_is_chosen_in_the_header_and_kept(visitors) -> None:  # noqa: ANN001
    visit: Visit = visitors()
    visit.tab("train")
    assert visit.page.locator("#train-start").inner_text().strip() == "Start training"
    visit.page.wait_for_selector("#header [data-language=en][aria-pressed=true]")

    visit.page.click("#header [data-language=de]")
    visit.page.wait_for_selector("#header [data-language=de][aria-pressed=true]")
    visit.open()
    visit.tab("train")
    visit.page.wait_for_function("document.querySelector('#train-start')?.textContent.trim() === 'Training starten'")
    visit.page.wait_for_selector("#header [data-language=de][aria-pressed=true]")

    visit.page.click("#header [data-language=en]")
    visit.page.wait_for_selector("#header [data-language=en][aria-pressed=true]")
    visit.tab("train")
    assert visit.page.locator("#train-start").inner_text().strip() == "Start training"


def test_what_is_put_into_a_text_is_german_too(visitors) -> None:  # noqa: ANN001
    visit: Visit = visitors("?lang=de")
    visit.tab("prompts")
    visit.fill("prompts-train", "{token}")
    visit.wait_for_text("#prompts-preview", "als 1 Text")
    visit.fill("prompts-train", "{a|b} {token}")
    visit.wait_for_text("#prompts-preview", "als 2 Texte")


def test_a_refusal_is_said_in_german(visitors) -> None:  # noqa: ANN001
    visit: Visit = visitors("?lang=de")
    visit.tab("draw")
    visit.page.click("#draw-start")

    visit.wait_for_text(".toast-wrap, .toast-body", load_catalogue("de").texts["There is no prompt."])
