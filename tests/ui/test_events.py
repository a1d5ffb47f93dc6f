"""How handlers are wired: what is said of an order is true in a Gradio that runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client

from sdplay.ui.tabs.events import in_turn, quick


@pytest.mark.parametrize(("wired", "ended"), [(in_turn, ["slow", "fast"]), (quick, ["fast", "slow"])], ids=["in turn", "side by side"])
def test_edits_in_turn_end_in_the_order_they_were_sent(wired: Callable[[], dict[str, Any]], ended: list[str]) -> None:
    order: list[str] = []

    def edit(text: str) -> None:
        time.sleep(1.5 if text == "slow" else 0)
        order.append(text)

    with gr.Blocks() as blocks:
        box = gr.Textbox()
        box.input(edit, box, None, **{**wired(), "api_visibility": "public", "api_name": "edit"})
    _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    try:
        client = Client(address, verbose=False)
        first = client.submit("slow", api_name="/edit")
        time.sleep(0.5)  # the first is on its way
        second = client.submit("fast", api_name="/edit")
        first.result(timeout=30)
        second.result(timeout=30)
    finally:
        blocks.close()

    assert order == ended
