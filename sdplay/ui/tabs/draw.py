"""Draw: prompts to pictures with the base or with what was learned, from nothing, from a picture, or inside a painted mask."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image, ImageChops

from sdplay import png_settings
from sdplay.asked import Drawn, Watch
from sdplay.bases import load_bases
from sdplay.columns import joined_adapters, split_adapters
from sdplay.config import DrawConfig, GenerateConfig
from sdplay.engine import Engine
from sdplay.errors import ConfigError, SdplayError
from sdplay.hub import MINI
from sdplay.ui.access import Access
from sdplay.ui.errors import UNEXPECTED, friendly
from sdplay.ui.files import find_file
from sdplay.ui.forms import Control, Form, control, controls_of
from sdplay.ui.html import html_block
from sdplay.ui.tabs.compare import column_choices, parse_seeds
from sdplay.ui.tabs.events import live, quick, silent
from sdplay.ui.views import draw as views
from sdplay.ui.views.prompt import strangers_line, vocabulary_list
from sdplay.ui.views.text import message

LOG = logging.getLogger("sdplay")
MOST_ADAPTERS = 4
MOST_PICTURES = 16
PAINT = "rgba(99, 102, 241, 0.7)"
"""Seen through, and seen on white and black."""
PAINTED_ALPHA = 64
AT_ONCE = 8
"""Visitors whose drawings are watched; each holds a thread of the server's forty until theirs has come."""
LOOK_S = 0.3
"""How often the page looks for a new picture."""
BRUSH_PX = 16


@dataclass(frozen=True)
class DrawTab:
    """What other tabs need: what a browser keeps, and the list of adapters to refresh."""

    adapters: gr.Dropdown
    base: gr.Dropdown
    prompt: gr.Textbox
    seeds: gr.Textbox
    count: gr.Number
    form: Form

    @property
    def kept(self) -> dict[str, Control]:
        """Controls whose values a browser keeps, by name."""
        return {"prompt": self.prompt, "seeds": self.seeds, "count": self.count, "base": self.base, **self.form.controls}


@dataclass(frozen=True)
class _Start:
    """The start picture, its strength, and where a PNG gives its settings."""

    editor: gr.ImageEditor
    strength: Control
    settings: gr.File
    note: gr.HTML


@dataclass(frozen=True)
class _Said:
    """What is said under the prompt: what the form asks for in vain, and all that the base was shown."""

    before: gr.HTML
    vocabulary: gr.HTML


def create_draw_tab(engine: Engine, access: Access) -> DrawTab:
    """Everything under "Draw"."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=300):
            prompt, said, seeds, count, basic = _create_words(engine, access)
            base, adapters, strengths, upload = _create_adapters(engine, access)
        with gr.Column(scale=5, min_width=300):
            start = _create_start()
    with gr.Accordion("More settings", open=False, elem_id="draw-more"), gr.Row(elem_classes="sd-fields"):
        form = Form({**basic, **controls_of(GenerateConfig, "expert", prefix="draw")})
    with gr.Row(elem_classes="sd-actions"):
        draw = gr.Button("Draw", variant="primary", elem_id="draw-start")
        cancel = gr.Button("Cancel", elem_id="draw-cancel", interactive=False)
    shown = html_block(views.nothing_drawn(), elem_id="draw-pictures")

    working: dict[str, Any] = {**quick(), "trigger_mode": "once", "concurrency_limit": AT_ONCE}
    drawings = Drawings()
    inputs = [prompt, seeds, count, base, adapters, *strengths, start.editor, start.strength, *form.inputs]
    asked = friendly(draw_asked, engine, access, drawings, tuple(form.controls))
    gr.on([draw.click, prompt.submit], asked, inputs, [shown, cancel], **working)
    cancel.click(drawings.cancel, None, cancel, **quick())
    adapters.change(show_strengths, [adapters, *strengths], strengths, **silent())
    upload.upload(friendly(add_upload, engine), [upload, adapters], [adapters, upload], **quick())
    filled = [prompt, seeds, count, base, adapters, *strengths, start.strength, *form.inputs, start.note]
    names = tuple(form.controls)
    said_of = [prompt, base, adapters, *(form.controls[f"guidance_{name}"] for name in ("scale", "from", "stop"))]
    gr.on([control.change for control in said_of], friendly(tell_before, engine, access), said_of, said.before, **live())
    base.change(friendly(tell_vocabulary, engine, access), base, said.vocabulary, **silent())
    start.settings.upload(friendly(fill_from_file, names), start.settings, [*filled, start.settings], **quick())
    shown.select(friendly(fill_from_drawn, engine, names), None, filled, **quick())
    shown.edit(friendly(start_from_drawn, engine), None, start.editor, **quick())
    return DrawTab(adapters, base, prompt, seeds, count, form)


def _create_words(engine: Engine, access: Access) -> tuple[gr.Textbox, _Said, gr.Textbox, gr.Number, dict[str, Control]]:
    fields = GenerateConfig.model_fields
    prompt = gr.Textbox(
        "", label="Prompt", lines=3, max_lines=10, elem_id="draw-prompt", placeholder="red apple", interactive=True,
        info="(word:1.2) makes a word count more, (word:0.8) less. Long prompts are read in parts; BREAK begins a new one.",
    )  # fmt: skip
    known = tell_vocabulary(engine, access, access.base_model)
    said = _Said(html_block(elem_id="draw-before"), html_block(known, elem_id="draw-vocabulary"))
    negative = control("negative_prompt", fields["negative_prompt"], prefix="draw")
    with gr.Row(elem_classes="sd-fields"):
        seeds = gr.Textbox("1", label="Seeds", info="One or more: 1, 7.", elem_id="draw-seeds", interactive=True)
        count = gr.Number(
            1, label="Pictures of each seed", info="Counting up from it.", elem_id="draw-count", precision=0, minimum=1,
            maximum=MOST_PICTURES, interactive=True,
        )  # fmt: skip
        steps = control("steps", fields["steps"], prefix="draw")
    guidance = control("guidance_scale", fields["guidance_scale"], prefix="draw")
    return prompt, said, seeds, count, {"negative_prompt": negative, "steps": steps, "guidance_scale": guidance}


def _create_adapters(engine: Engine, access: Access) -> tuple[gr.Dropdown, gr.Dropdown, list[gr.Number], gr.File]:
    choices = list(dict.fromkeys((access.base_model, *(offered.id for offered in engine.bases()))))
    base = gr.Dropdown(choices, value=access.base_model, label="Base model", allow_custom_value=True, elem_id="draw-base", interactive=True)
    adapters = gr.Dropdown(
        column_choices(engine), value=[], multiselect=True, allow_custom_value=True, elem_id="draw-adapters", interactive=True,
        label="Adapters", info="Runs and files that are on the base; none: the base alone.", max_choices=MOST_ADAPTERS,
    )  # fmt: skip
    with gr.Row(elem_classes="sd-fields"):
        strengths = [
            gr.Number(1, label="Strength", step=0.1, visible=False, elem_id=f"draw-weight-{index}", interactive=True)
            for index in range(MOST_ADAPTERS)
        ]
    upload = gr.File(label="Add an adapter file (.safetensors)", file_types=[".safetensors"], elem_id="draw-upload", height=140)
    return base, adapters, strengths, upload


def _create_start() -> _Start:
    editor = gr.ImageEditor(
        label="Start picture", type="pil", format="png", layers=False, transforms=(),
        sources=("upload", "clipboard"), brush=gr.Brush(BRUSH_PX, colors=[PAINT], color_mode="fixed"), height=380,
        elem_id="draw-editor", interactive=True, buttons=[],
    )  # fmt: skip
    html_block(
        '<p class="sd-why">Paint over what is to be drawn anew; the rest stays to the pixel. Nothing painted: all of it.</p>',
        elem_id="draw-how",
    )
    strength = control("strength", DrawConfig.model_fields["strength"], prefix="draw")
    settings = gr.File(label="Use the settings of a picture (PNG)", file_types=[".png"], elem_id="draw-settings", height=140)
    return _Start(editor, strength, settings, html_block(elem_id="draw-note"))


def tell_before(engine: Engine, access: Access, prompt: str, base_model: str, *more: Any) -> str:  # noqa: ANN401  whatever the controls hold
    """What of the form will change nothing: words that the base was never shown, and a setting that needs an adapter.

    more: the adapters, guidance, what it goes away from, and where it stops.
    """
    adapters, guidance, guided_from, stop = more
    strangers = engine.known_words.strangers(base_model, adapters or [], [prompt]) if access.may_name(base_model) else []
    said = strangers_line(base_model, strangers)
    if guided_from == "base" and (not adapters or (guidance or 0) <= 1):
        said += message("note", "Guidance reference base changes nothing here.", "It needs an adapter, and guidance above 1.")
    if stop is not None and stop < 1 and (guidance or 0) <= 1:
        said += message("note", "Guidance until changes nothing here.", "It needs guidance above 1.")
    return said


def tell_vocabulary(engine: Engine, access: Access, base_model: str) -> str:
    """All that a base was shown, where it says so."""
    return vocabulary_list(base_model, engine.known_words.vocabulary(base_model) if access.may_name(base_model) else None)


class Drawings:
    """What each visitor has drawn now, so that they can cancel it."""

    def __init__(self) -> None:
        self._watches: dict[str, Watch] = {}

    @contextmanager
    def begin(self, visitor: str) -> Iterator[Watch]:
        """A drawing of theirs, until the block ends; leaving it early cancels it."""
        watch = self._watches[visitor] = Watch()
        try:
            yield watch
        finally:
            watch.cancelled.set()
            if self._watches.get(visitor) is watch:
                del self._watches[visitor]

    def cancel(self, request: gr.Request) -> Any:  # noqa: ANN401  an update of Gradio's
        """Draw no more of what this visitor asked for; what is there stays."""
        if watch := self._watches.get(request.session_hash or ""):
            watch.cancelled.set()
        return gr.update(interactive=False)


def draw_asked(
    engine: Engine, access: Access, drawings: Drawings, names: Sequence[str], request: gr.Request, *given: Any  # noqa: ANN401  whatever the controls hold
) -> Iterator[tuple[str, Any]]:  # fmt: skip
    """Draw what the form asks for: the cards as they come, and whether it can be cancelled."""
    asked, editor = _asked(access, names, *given)
    wanted = len(asked["seeds"])
    pool = ThreadPoolExecutor(1)
    with tempfile.TemporaryDirectory() as folder, drawings.begin(request.session_hash or "") as watch:
        work = pool.submit(engine.draw_pictures, {**asked, **kept_start(editor, Path(folder))}, watch=watch)
        pool.shutdown(wait=False)  # what is cancelled may have to wait for its turn to see it
        told = None
        while not work.done() and not watch.cancelled.is_set():
            there, coming, reason = len(watch.drawn), watch.coming, waiting_for(engine, asked["base_model"])
            if (there, coming, reason) != told:
                told = there, coming, reason
                yield views.drawing(watch.drawn[:there], coming, wanted, reason), gr.update(interactive=True)
            wait([work], timeout=LOOK_S)
        if work.done() and (error := work.exception()):
            LOG.info("drawing failed", exc_info=error)
            known = error if isinstance(error, SdplayError) else SdplayError(UNEXPECTED)
            yield message("error", known.message, known.hint), gr.update(interactive=False)
            return
        drawn = list(watch.drawn)
        yield views.cards(drawn, shown_settings(drawn), cancelled=len(drawn) < wanted), gr.update(interactive=False)


def waiting_for(engine: Engine, base_model: str) -> str:
    """Why nothing is drawn yet, if a run of another base has the accelerator."""
    active = engine.active_run()
    if active is None or active.settings.get("base_model") == base_model:
        return ""
    return f"This base has to wait until the run {active.id} has ended."


def _asked(access: Access, names: Sequence[str], *given: Any) -> tuple[dict[str, Any], Any]:  # noqa: ANN401  as above
    """What the form asks for, as DrawConfig's values, and what is in the editor. Raises ConfigError."""
    prompt, seeds, count, base, adapters, *others = given
    weights, (editor, strength, *settings) = others[:MOST_ADAPTERS], others[MOST_ADAPTERS:]
    if not prompt.strip():
        raise ConfigError("There is no prompt.", "Write what to draw, for example: red apple.")
    wanted = counted_seeds(seeds, count)
    adapters = access.columns(adapters or [])
    asked = {
        "base_model": access.base(base), "adapter": joined_adapters(list(zip(adapters, weights, strict=False))), "prompts": [prompt],
        "seeds": wanted, "strength": strength, "drawing": dict(zip(names, settings, strict=True)),
    }  # fmt: skip
    return asked, editor


def counted_seeds(seeds: str, count: float | None) -> list[int]:
    """Every seed and the `count` - 1 after it. Raises ConfigError when that is none or too many."""
    wanted = list(dict.fromkeys(seed + index for seed in parse_seeds(seeds) for index in range(int(count or 1))))
    if not wanted or len(wanted) > MOST_PICTURES:
        raise ConfigError(f"These are {len(wanted)} pictures.", f"Ask for 1 to {MOST_PICTURES}.")
    return wanted


def kept_start(editor: Mapping[str, Any] | None, folder: Path) -> dict[str, str]:
    """Write the editor's picture, and what was painted on it, into the folder; DrawConfig's names for them. Nothing when it is empty."""
    background = (editor or {}).get("background")
    if not isinstance(background, Image.Image) or background.convert("RGBA").getchannel("A").getbbox() is None:
        return {}
    background.save(folder / "start.png")
    painted = Image.new("L", background.size, 0)
    for layer in (editor or {}).get("layers") or []:
        painted = ImageChops.lighter(painted, layer.convert("RGBA").getchannel("A").resize(background.size))
    painted = painted.point([0] * PAINTED_ALPHA + [255] * (256 - PAINTED_ALPHA))
    if painted.getbbox() is None:
        return {"image": str(folder / "start.png")}
    painted.save(folder / "mask.png")
    return {"image": str(folder / "start.png"), "mask": str(folder / "mask.png")}


def shown_settings(drawn: Sequence[Drawn]) -> dict[str, object]:
    """What the pictures have in common, as the first of them says it."""
    settings = (png_settings.read(drawn[0].path) or {}) if drawn else {}
    names = {
        "prompt": "Prompt", "base_model": "Base", "adapter": "Adapters", "steps": "Steps", "guidance_scale": "Guidance",
        "scheduler": "Scheduler", "image_strength": "Strength",
    }  # fmt: skip
    return {title: settings[name] for name, title in names.items() if name in settings}


def show_strengths(adapters: list[str], *weights: float) -> list[Any]:
    """One strength for each adapter, under its name."""
    named = [gr.update(visible=True, label=f"Strength of {name[:60]}") for name in adapters[:MOST_ADAPTERS]]
    return [*named, *(gr.update(visible=False, value=1) for _ in weights[len(named) :])]


def add_upload(engine: Engine, path: str, adapters: list[str]) -> tuple[list[str], None]:
    """An uploaded adapter is kept and put on the base."""
    if len(adapters) >= MOST_ADAPTERS:
        raise ConfigError(f"{MOST_ADAPTERS} adapters are on the base already.", "Take one of them away.")
    return list(dict.fromkeys([*adapters, engine.add_adapter(Path(path))])), None


def fill_from_file(names: Sequence[str], path: str) -> list[Any]:
    """The form as a dropped picture was drawn."""
    return [*_filled(names, Path(path)), None]


def fill_from_drawn(engine: Engine, names: Sequence[str], event: gr.EventData) -> list[Any]:
    """The form as one of the cards was drawn."""
    return _filled(names, _drawn_file(engine, str(event.id)))


def start_from_drawn(engine: Engine, event: gr.EventData) -> dict[str, Any]:
    """One of the cards becomes the start picture."""
    with Image.open(_drawn_file(engine, str(event.id))) as opened:
        picture = opened.convert("RGB")
    return {"background": picture, "layers": [], "composite": picture}


def _drawn_file(engine: Engine, name: str) -> Path:
    try:
        return find_file(engine, "pictures", "drawn", name)
    except FileNotFoundError:
        raise ConfigError("This picture is not there any more.", "Draw it again.") from None


def _filled(names: Sequence[str], path: Path) -> list[Any]:
    settings = png_settings.read(path)
    if not settings:
        raise ConfigError("This picture does not say how it was made.", "Give the PNG file itself; programs that send pictures drop it.")
    asked = png_settings.as_asked(settings)
    adapters = split_adapters(asked.adapter)[:MOST_ADAPTERS]
    weights = [gr.update(value=strength) for _, strength in adapters] + [gr.skip()] * (MOST_ADAPTERS - len(adapters))
    values = asked.drawing.model_dump()
    note = "The form is as this picture was drawn."
    if settings.get("image"):
        note += f" It began with {settings['image']!s:.60}, which is not inside it: put that into the editor again."
    words = [asked.prompts[0], str(asked.seeds[0]), 1]
    known = str(settings.get("base_model", "")) in {MINI, *load_bases()} or "/" in asked.base_model  # A1111 names a checkpoint here
    base = asked.base_model if known else gr.skip()
    chosen = [base, [what for what, _ in adapters], *weights]
    return [*words, *chosen, asked.strength, *(values[name] for name in names), message("note", note)]
