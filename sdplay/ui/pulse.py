"""How a page learns that something happened. One small question a second for the whole page, and only what is in view is made anew.

Every answer of Gradio costs the browser some 100 ms, for all of the page's components are gone through; timers of their own for every
part keep a slow computer busy with nothing. Here a part's handler runs when there is news and its tab is in view, and at rest never.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MethodType
from typing import Any

import gradio as gr
from fastapi import FastAPI, HTTPException, Request, Response
from gradio.events import EventListener

from sdplay.engine import Engine

ROUTE = "/sdplay/pulse"
TABS = {
    "news_bar": "",
    "news_prompts": "tab-prompts",
    "news_train": "tab-train",
    "news_compare": "tab-compare",
    "news_history": "tab-history",
    "news_models": "tab-models",
    "news_learn": "tab-learn",
}
"""The event for each part of the page, and the id of the tab that it is for."""
TIMES = {"ASK_MS": 1000, "GAP_MS": 1500, "ECHO_MS": 4500, "REST_MS": 30_000, "BLIND_MS": 5000}
"""How often the question is asked; least time between two answers for a part; when a part is told once more, should two answers have
crossed; when it is told although nothing is known to have happened; and how often where the question gets no answer.
"""
FRESH_S = 0.5
_SCRIPT = Path(__file__).with_suffix(".js")


@dataclass(frozen=True)
class Pulse:
    """The block that asks; it shows nothing."""

    block: gr.HTML

    def news(self, part: str) -> Any:  # noqa: ANN401  an event of Gradio's
        """The event of a part, such as `train`, for gr.on: its tab is in view, and something happened."""
        name = f"news_{part}"
        assert name in TABS, part
        return MethodType(EventListener(event_name=name).listener, self.block)  # as Gradio binds those it knows


def create_pulse() -> Pulse:
    """Once a page, outside the tabs."""
    constants = f"const PARTS = {json.dumps(TABS)}, " + ", ".join(f"{name} = {value}" for name, value in TIMES.items()) + ";\n"
    script = constants + _SCRIPT.read_text(encoding="utf-8")
    return Pulse(gr.HTML("", elem_id="pulse", elem_classes="sd-pulse", js_on_load=script, apply_default_css=False))


def add_pulse_route(app: FastAPI, engine: Engine, is_visitor: Callable[[Request], bool]) -> None:
    """Answer the question; the answer tells nothing but that it is another one."""
    kept: list[tuple[float, str]] = [(-FRESH_S, "")]

    @app.get(ROUTE, include_in_schema=False)
    def answer(request: Request) -> Response:
        if not is_visitor(request):
            raise HTTPException(401)
        if time.monotonic() - kept[0][0] > FRESH_S:
            kept[0] = (time.monotonic(), fingerprint(engine))
        return Response(kept[0][1], media_type="text/plain", headers={"Cache-Control": "no-store"})


def fingerprint(engine: Engine) -> str:
    """Another text whenever a run, comparison, experiment, adapter, style or forecast changed, by whatever process.

    It reads times and sizes of files, never what is in them: a few milliseconds for a hundred runs.
    """
    space = engine.workspace
    folders = (space.runs, space.comparisons, space.experiments, space.adapters, space.trash, space.cache / "styles")
    files = [entry for folder in folders for entry in _stamps(folder, depth=2)]
    return sha256(repr((files, engine.device_label, engine.forecasts.changes)).encode()).hexdigest()[:16]


def _stamps(folder: Path, *, depth: int) -> Iterator[tuple[str, int, int]]:
    """(name, time, size) of what lies in a folder, and in its folders."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        try:
            found = entry.stat()
        except OSError:
            continue
        yield entry.path, found.st_mtime_ns, found.st_size
        if depth > 1 and entry.is_dir():
            yield from _stamps(Path(entry.path), depth=depth - 1)
