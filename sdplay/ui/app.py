"""The page: header, run bar, tabs, and the wires between them. And the server that shows it."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request
from gradio.context import Context
from starlette.middleware import Middleware

from sdplay.engine import Engine
from sdplay.errors import ConfigError, RunError, SdplayError
from sdplay.hub import MINI
from sdplay.presets import training_preset
from sdplay.ui import api, languages, learning, wiring
from sdplay.ui.access import Access
from sdplay.ui.assets import KeptAssets
from sdplay.ui.calm import CalmPages, rest_when_free
from sdplay.ui.errors import friendly
from sdplay.ui.files import add_file_route
from sdplay.ui.forms import Control
from sdplay.ui.html import html_block, only_news
from sdplay.ui.keeping import keep_form
from sdplay.ui.pulse import Pulse, add_pulse_route, create_pulse
from sdplay.ui.tabs import compare as compare_tab
from sdplay.ui.tabs import dataset as dataset_tab
from sdplay.ui.tabs import draw as draw_tab
from sdplay.ui.tabs import learn as learn_tab
from sdplay.ui.tabs import library as library_tab
from sdplay.ui.tabs import live as live_tab
from sdplay.ui.tabs import prompts as prompts_tab
from sdplay.ui.tabs import runs as runs_tab
from sdplay.ui.tabs import tour as tour_strip
from sdplay.ui.tabs import train as train_tab
from sdplay.ui.tabs.clone import clone_settings
from sdplay.ui.tabs.events import quick, silent
from sdplay.ui.theme import head, theme
from sdplay.ui.views.run import run_bar
from sdplay.ui.views.text import esc

LOG = logging.getLogger("sdplay")
USER = "sdplay"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Page:
    """The tabs, made."""

    tabs: gr.Tabs
    dataset: dataset_tab.DatasetTab
    prompts: prompts_tab.PromptsTab
    train: train_tab.TrainTab
    compare: compare_tab.CompareTab
    runs: runs_tab.RunsTab
    library: library_tab.LibraryTab
    learn: learn_tab.LearnTab
    tour: gr.HTML
    draw: draw_tab.DrawTab
    base: gr.Dropdown

    @property
    def kept(self) -> dict[str, Control]:
        """Controls whose values a browser keeps, by the name they are kept under."""
        prompts, train, compare = self.prompts, self.train, self.compare
        named: dict[str, Control] = {
            "idea": self.dataset.idea, "base": self.base, "prompt_set": prompts.chosen, "token": prompts.token,
            "class_word": prompts.class_word, "train": prompts.train, "sample": prompts.sample, "negative": prompts.negative,
            "preset": train.preset, "name": train.name, "compare_prompts": compare.prompts, "seeds": compare.seeds,
        }  # fmt: skip
        named |= {f"train.{name}": control for name, control in train.form.controls.items()}
        named |= {"compare_columns": compare.columns, "compare_base": compare.base}
        named |= {f"compare.{name}": control for name, control in compare.form.controls.items()}
        named |= {f"compare.axis.{name}": control for name, control in compare.axes.items()}
        return named | {f"draw.{name}": control for name, control in self.draw.kept.items()}


def build(engine: Engine, access: Access | None = None) -> gr.Blocks:
    """The whole page, and the API beside it."""
    given = access or Access(base_model=os.environ.get("SDPLAY_BASE") or MINI)
    with gr.Blocks(title="sdplay", analytics_enabled=False, delete_cache=(3600, DAY_SECONDS), fill_width=True) as blocks:
        pulse = create_pulse()
        opened = _create_bar(engine, given, pulse)
        page = _create_tabs(engine, given, pulse)
        _wire_tabs(engine, page, opened)
        learning.wire_learning(engine, given, page)
        _wire_runs(engine, page)
        bucketing = page.train.form.controls["bucketing"]
        dataset_tab.wire_dataset_tab(engine, given, page.dataset, page.base, token=page.prompts.token, bucketing=bucketing)
        _keep_form(engine, page)
        wiring.gather_first(blocks)
        api.add_endpoints(engine, given)
    wiring.tune(blocks)
    return blocks


def serve(
    engine: Engine, *, host: str = "127.0.0.1", port: int = 7860, share: bool = False, password: str | None = None, block: bool = True
) -> FastAPI:  # fmt: skip
    """Show the page until interrupted. A public link always has a password; one is made when none is given."""
    started = time.monotonic()
    if share and not password:
        password = secrets.token_urlsafe(9)
        print(f"The public link asks for user {USER} and password {password}", flush=True)
    is_public = share or host not in LOOPBACK
    blocks = build(engine, Access(local=not is_public, base_model=os.environ.get("SDPLAY_BASE") or MINI))
    blocks.queue(default_concurrency_limit=8, max_size=64)
    rest_when_free(blocks)
    app, url, _ = blocks.launch(
        server_name=host, server_port=port, share=share, auth=(USER, password) if password else None, prevent_thread_lock=True,
        theme=theme(), head=head(), ssr_mode=False, mcp_server=True, run_history=False, show_error=False, quiet=True,
        allowed_paths=[], max_file_size="50mb", footer_links=["api", "settings"], state_session_capacity=200,
        app_kwargs={"middleware": [Middleware(KeptAssets), Middleware(CalmPages)]},
    )  # fmt: skip
    for add_route in (add_file_route, add_pulse_route, languages.add_language_route):
        add_route(app, engine, lambda request: _is_visitor(app, request))
    print(f"sdplay is at {url} ({time.monotonic() - started:.1f} s to start)", flush=True)
    threading.Thread(target=_warm_up, args=(engine,), name="sdplay-warm-up", daemon=True).start()
    if block:
        blocks.block_thread()
    return app


def _create_bar(engine: Engine, access: Access, pulse: Pulse) -> tuple[gr.Button, gr.State]:
    """Header and run bar. Returns the button that opens the run, and the state that holds the run's id."""
    header = html_block(header_html(access.base_model, ""), elem_id="header")
    seen, active = gr.State({}), gr.State("")
    with gr.Row(elem_id="run-bar"):
        bar = html_block(run_bar(None, 0), elem_id="run-bar-text")
        open_run = gr.Button("Open", size="sm", min_width=60, interactive=False, elem_id="run-bar-open")
        stop = gr.Button("Stop", size="sm", min_width=60, variant="stop", interactive=False, elem_id="run-bar-stop")
    outputs = [header, bar, open_run, stop, active, seen]
    pulse.news("bar")(friendly(watch_bar, engine, access.base_model), seen, outputs, **silent())
    stop.click(friendly(live_tab.stop_run, engine), active, None, **quick())
    return open_run, active


def _create_tabs(engine: Engine, access: Access, pulse: Pulse) -> Page:
    choices = list(dict.fromkeys((access.base_model, *(offered.id for offered in engine.bases()))))
    base = gr.Dropdown(
        choices, value=access.base_model, label="Base model", allow_custom_value=True, elem_id="train-base", render=False, interactive=True,
        info="mini is built in and draws 128 px icons. Or any Hub id, folder in diffusers layout, or .safetensors checkpoint.",
    )  # fmt: skip
    tour = tour_strip.create_tour()
    learned = learn_tab.create_memory()
    with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
        with gr.Tab("1 Dataset", id="dataset", elem_id="tab-dataset"):
            dataset = dataset_tab.create_dataset_tab(engine, access, base)
        with gr.Tab("2 Prompts", id="prompts", elem_id="tab-prompts"):
            first = engine.prompt_set(training_preset(train_tab.FIRST_PRESET).prompt_set_for(access.base_model))
            prompts = prompts_tab.create_prompts_tab(engine, dataset.picker, base, first, pulse)
        with gr.Tab("3 Train", id="train", elem_id="tab-train"):
            train = train_tab.create_train_tab(engine, access, dataset.picker, prompts, base, pulse)
        with gr.Tab("4 Compare", id="compare", elem_id="tab-compare") as opened:
            compare = compare_tab.create_compare_tab(engine, access, [prompts.token, prompts.class_word], pulse)
        with gr.Tab("5 Runs", id="runs", elem_id="tab-runs"), gr.Tabs(elem_id="runs-tabs"):
            with gr.Tab("History", id="history", elem_id="tab-history"):
                runs = runs_tab.create_runs_tab(engine, access, pulse)
            with gr.Tab("Models", id="models", elem_id="tab-models"):
                library = library_tab.create_library_tab(engine, access, pulse)
        with gr.Tab("Draw", id="draw", elem_id="tab-draw") as drawing:
            draw = draw_tab.create_draw_tab(engine, access)
        with gr.Tab("Learn", id="learn", elem_id="tab-learn"):
            learn = learn_tab.create_learn_tab(engine, pulse, learned)
    drawing.select(lambda: gr.update(choices=compare_tab.column_choices(engine)), None, draw.adapters, **silent())
    opened.select(lambda: gr.update(choices=compare_tab.column_choices(engine)), None, compare.adder, **silent())
    return Page(tabs, dataset, prompts, train, compare, runs, library, learn, tour, draw, base)


def _wire_tabs(engine: Engine, page: Page, opened: tuple[gr.Button, gr.State]) -> None:
    """What one tab does to another."""
    taken = [page.dataset.picker, page.prompts.chosen, *page.prompts.words, *page.train.settings]
    names = tuple(page.train.form.controls)
    working: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 2, "concurrency_id": "intake"}
    page.dataset.samples.select(friendly(take_sample, engine, names), None, taken, show_progress_on=page.dataset.picker, **working)
    page.dataset.onward.click(lambda: gr.Tabs(selected="train"), None, page.tabs, **silent())
    button, active = opened
    button.click(lambda run_id: (run_id, gr.Tabs(selected="train")), active, [page.train.run, page.tabs], **silent())
    for compare, run in ((page.train.compare, page.train.run), (page.runs.compare, page.runs.picker)):
        compare.click(friendly(compare_tab.prefill, engine), run, page.compare.prefilled, **quick()).success(
            lambda: gr.Tabs(selected="compare"), None, page.tabs, **silent()
        )


def _wire_runs(engine: Engine, page: Page) -> None:
    """What a past run or a mix of adapters does to Train and Compare."""
    train, runs, library, compare = page.train, page.runs, page.library, page.compare
    filled = [page.tabs, page.dataset.picker, page.base, *page.prompts.words, train.name, *train.form.inputs]
    names = tuple(train.form.controls)
    for button, run in ((train.watch.clone, train.run), (runs.clone, runs.picker)):
        button.click(friendly(clone_settings, engine, names), run, filled, **quick())
    runs.open.click(lambda run_id: (run_id, gr.Tabs(selected="train")), runs.picker, [train.run, page.tabs], **silent())
    library.compare.click(
        friendly(compare_mix), [library.column, library.base], [compare.columns, compare.base, page.tabs], **quick()
    )  # fmt: skip


def compare_mix(column: str, base_model: str) -> tuple[str, str, Any]:
    """The mix as the column beside the base."""
    if not column:
        raise ConfigError("There is no mix.", "Choose an adapter first.")
    return compare_tab.chips([column]), base_model, gr.Tabs(selected="compare")


def _keep_form(engine: Engine, page: Page) -> None:
    """What was typed comes back with the page; `?run=` and `?compare=` open what they name."""
    storage = keep_form({"dataset": page.dataset.picker, **page.kept})
    outputs = [page.tabs, page.dataset.picker, page.train.run, page.compare.shown, *page.kept.values()]
    context = Context.root_block
    assert context is not None  # we are inside build()
    first = {name: control.value for name, control in page.kept.items()}
    context.load(friendly(open_page, engine, first), storage, outputs, **quick())


def open_page(engine: Engine, first: Mapping[str, Any], stored: Mapping[str, Any] | None, request: gr.Request) -> list[Any]:
    """What the page shows first: what was typed last time, else `first`, and what the address asks for."""
    kept = stored or {}
    wanted = request.query_params
    run_id, comparison_id = wanted.get("run", ""), wanted.get("compare", "")
    tab = gr.Tabs(selected="compare") if comparison_id else gr.Tabs(selected="train") if run_id else gr.skip()
    values = [_kept_value(kept, name, value) for name, value in first.items()]
    picker = dataset_tab.dataset_picker(engine, str(kept.get("dataset") or ""))
    return [tab, picker, _run_picker(engine, run_id), compare_tab.comparison_picker(engine, comparison_id), *values]


def _kept_value(kept: Mapping[str, Any], name: str, first: object) -> Any:  # noqa: ANN401  an update of Gradio's
    """What was kept; an empty number must be said, because Gradio shows 0 for it until it is told."""
    if name in kept or first is None:
        return gr.update(value=kept.get(name))
    return gr.skip()


def take_sample(engine: Engine, names: Sequence[str], event: gr.EventData) -> list[Any]:
    """A sample data set with the words, templates, preset and settings that suit it."""
    sample = engine.samples()[event.id]
    dataset = engine.sample_dataset(sample.id)
    words = engine.prompt_set(sample.prompt_set)
    prompts = [sample.prompt_set, sample.token, sample.class_word, "\n".join(words.train), "\n".join(words.sample), words.negative]
    gr.Info(f"{sample.title}: pictures, words and settings are ready. Press Continue to training.", duration=6)
    settings = train_tab.apply_preset(names, sample.training_preset)
    return [dataset_tab.dataset_picker(engine, dataset.id), *prompts, sample.training_preset, *settings]


def watch_bar(engine: Engine, base_model: str, seen: Mapping[str, str]) -> list[Any]:
    """The one run that goes on, the same on every tab and in every browser."""
    active = engine.history.active()
    row = live_tab.find_run(engine, active[0].id) if active else None
    waiting = len(active) - 1
    bar = run_bar(row, max(0, waiting))
    header = header_html(base_model, engine.device_label)
    can_stop = bool(row and row.state.status in ("queued", "running"))
    run_id = row.id if row else ""
    marks = {"header": header, "bar": bar, "open": bool(row), "stop": can_stop, "active": run_id}
    return only_news(
        seen,
        marks,
        {
            "header": lambda: header,
            "bar": lambda: bar,
            "open": lambda: gr.update(interactive=bool(row)),
            "stop": lambda: gr.update(interactive=can_stop),
            "active": lambda: run_id,
        },
    )


def header_html(base_model: str, device: str) -> str:
    """Name, what it is for, base and device."""
    base = base_model.rstrip("/").split("/")[-1]
    badge = f"{base} on {device}" if device else f"{base}, starting up"
    return (
        '<div class="sd-header"><h1>sdplay</h1><span class="sd-tagline">Teach Stable Diffusion a subject or a style, '
        f'and see side by side what it learned.</span><span class="sd-badge">{esc(badge)}</span>{languages.switch()}</div>'
    )


def _run_picker(engine: Engine, run_id: str) -> Any:  # noqa: ANN401  an update of Gradio's
    try:
        return live_tab.run_picker(engine, engine.run(run_id).id if run_id else "")
    except RunError:
        gr.Warning(f"There is no run {run_id[:60]!r}. Its link is wrong, or it was deleted.")
        return live_tab.run_picker(engine)


def _is_visitor(app: FastAPI, request: Request) -> bool:
    """Whether a request may see files: anyone without a password set, else who has logged in."""
    auth, cookie_id, tokens = getattr(app, "auth", None), getattr(app, "cookie_id", ""), getattr(app, "tokens", {})
    if auth is None:
        return True
    cookies = (request.cookies.get(f"access-token-{cookie_id}"), request.cookies.get(f"access-token-unsecure-{cookie_id}"))
    return any(cookie in tokens for cookie in cookies if cookie)


def _warm_up(engine: Engine) -> None:
    """Import what is slow to import while the visitor reads the page."""
    try:
        engine.warm_up()
    except (SdplayError, ImportError, OSError) as error:
        LOG.warning("warming up failed: %s", error)
