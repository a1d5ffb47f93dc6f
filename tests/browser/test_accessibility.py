"""axe-core finds nothing of ours on any tab, in light and dark."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Visit

pytestmark = pytest.mark.browser

TABS = ("dataset", "prompts", "train", "compare", "runs", "models", "draw", "learn")
GRADIOS = {
    "image-redundant-alt": ("footer", "the gear beside the word Settings in Gradio's footer"),
    "nested-interactive": (".toast-header", "the cross in the head of Gradio's messages, which is a button itself"),
}
"""What is Gradio's own: rule -> (which element it lies in, why it is no fault of ours)."""


def is_ours(visit: Visit, rule: str, target: str) -> bool:
    """Whether a finding is outside of the places where Gradio alone writes. A message that has gone meanwhile was Gradio's."""
    place, _ = GRADIOS.get(rule, ("", ""))
    return not place or not visit.page.locator(target).evaluate_all("(nodes, place) => nodes.every(node => node.closest(place))", place)


def lasting(visit: Visit, axe: Axe, where: str) -> list[tuple[str, ...]]:  # noqa: F821
    """What axe finds, and finds again a while later: not what it saw of a button that was just being switched on."""
    found = violations(visit, axe, where)
    if found:
        visit.page.wait_for_timeout(3000)
    return [one for one in violations(visit, axe, where) if one in found] if found else []


def violations(visit: Visit, axe: Axe, where: str) -> list[tuple[str, ...]]:  # noqa: F821
    """(where, rule, place, HTML) of what is ours."""
    return [
        (where, violation["id"], str(node["target"]), node["html"][:120])
        for violation in axe.run(visit.page).response["violations"]
        for node in violation["nodes"]
        if is_ours(visit, violation["id"], node["target"][0])
    ]


def test_axe_finds_nothing_of_ours_on_any_tab(visit: Visit) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python").Axe()
    visit.page.add_style_tag(content="* { transition: none !important; }")  # a colour that fades in is looked at half-way
    visit.page.click("#samples button[data-id=fxemoji-style]")
    visit.page.wait_for_selector("#dataset-grid textarea")
    colours = set()

    found: list[tuple[str, ...]] = []
    for tab in TABS:
        if tab == "models":
            visit.tab("runs")
        visit.tab(tab)
        visit.page.wait_for_timeout(800)
        for scheme in ("light", "dark"):
            visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # the page follows the system
            colours.add(visit.page.evaluate("getComputedStyle(document.querySelector('#header h1')).color"))
            found += lasting(visit, axe, f"{tab}, {scheme}")

    assert found == []
    assert len(colours) == 2
