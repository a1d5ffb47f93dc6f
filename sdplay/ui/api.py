"""The public functions: REST, gradio_client and MCP from one typed signature each."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from gradio.events import api
from pydantic import ConfigDict, ValidationError, validate_call

from sdplay.config import CompareConfig, DrawConfig, GenerateConfig
from sdplay.data.health import Advice, examined
from sdplay.engine import Engine
from sdplay.errors import ConfigError
from sdplay.presets import compose_training, training_preset
from sdplay.ui import api_runs as runs
from sdplay.ui.access import Access
from sdplay.ui.errors import friendly
from sdplay.ui.files import file_url
from sdplay.ui.tabs.dataset import size_of

DRAWING = GenerateConfig()
"""The defaults of every drawing, said in the config."""


def add_endpoints(engine: Engine, access: Access) -> None:
    """Publish every function of this module."""
    api(friendly(checked(dataset_create), engine, access), api_name="dataset_create", concurrency_limit=2, concurrency_id="intake")
    api(friendly(checked(generate), engine, access), api_name="generate", concurrency_limit=1, concurrency_id="gpu")
    starting: tuple[Callable[..., Any], ...] = (train_start, compare)
    asking: tuple[Callable[..., Any], ...] = (dataset_report, train_status, train_stop, runs_list, compare_status)
    for function in starting:
        api(friendly(checked(function), engine, access), api_name=function.__name__, concurrency_limit=None)
    asking += (runs.run_ask, runs.run_continue, runs.run_best, runs.run_note, runs.run_delete, runs.run_restore, runs.run_report)
    asking += (runs.adapters_list,)
    api(friendly(checked(runs.adapter_fetch), engine), api_name="adapter_fetch", concurrency_limit=2, concurrency_id="hub")
    for function in asking:
        api(friendly(checked(function), engine), api_name=function.__name__, concurrency_limit=None)


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, refusing arguments of another type than its signature says. Raises ConfigError."""
    strict = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(function)

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        try:
            return strict(*args, **kwargs)
        except ValidationError as error:
            raise _explained(function, error) from error

    return call


def _explained(function: Callable[..., Any], error: ValidationError) -> ConfigError:
    names = list(inspect.signature(function).parameters)
    problem = error.errors(include_url=False)[0]
    first, *rest = problem["loc"]
    name = ".".join(str(part) for part in (names[first] if isinstance(first, int) else first, *rest))
    return ConfigError(f"{name}: {problem['msg'][0].lower()}{problem['msg'][1:]}.", "The endpoint's description says what it takes.")


def dataset_create(engine: Engine, access: Access, sources: list[str], name: str = "") -> dict[str, Any]:
    """Make a data set from pictures and captions.

    Args:
        sources: Uploaded pictures, zips, txt, csv or jsonl files, Hub data set ids (owner/name); on your own computer also folders.
        name: What to call it; empty: the name of the first source.

    Returns:
        id, name, pictures (how many) and skipped (name and reason of each file that was left out).
    """
    made = engine.datasets.create(access.sources([str(source) for source in sources]), name=name)
    skipped = [{"name": entry.name, "reason": entry.reason} for entry in made.skipped]
    return {"id": made.id, "name": made.name, "pictures": len(made.examples), "skipped": skipped}


def dataset_report(engine: Engine, dataset_id: str) -> dict[str, Any]:
    """Say what is good about a data set and what to do about the rest, before time is spent on training.

    Args:
        dataset_id: The id that dataset_create returned.

    Returns:
        findings (level good, note or warning; text; hint), and pictures with caption, size and notes.
    """
    opened = engine.dataset(dataset_id)
    findings = [vars(line) for line in examined(opened, Advice(size_of(engine, "mini")))]
    pictures = [
        {"source": entry.source, "caption": entry.caption, "width": entry.width, "height": entry.height, "notes": list(entry.notes)}
        for entry in opened.examples
    ]
    return {"id": opened.id, "name": opened.name, "findings": findings, "pictures": pictures}


def train_start(
    engine: Engine,
    access: Access,
    dataset_id: str,
    preset: str = "style",
    name: str = "",
    token: str = "",
    class_word: str = "",
    prompt_set: str = "",
    base_model: str = "mini",
    settings: dict[str, Any] = {},  # noqa: B006  never changed; Gradio shows it
) -> str:
    """Start teaching a base model a data set's subject or style.

    Args:
        dataset_id: The id that dataset_create returned.
        preset: quick, style, subject, sd15, textual-inversion, pivotal or dreambooth.
        name: What to call the run.
        token: The made-up word that will call what was learned; empty: ohwx.
        class_word: What kind of thing a subject is, such as fox or vase; empty for a style.
        prompt_set: Templates to train and sample with; empty: the preset's own.
        base_model: mini (built in), or a Hub id such as stable-diffusion-v1-5/stable-diffusion-v1-5.
        settings: Single settings that replace the preset's, such as {"steps": 200, "method": "pivotal"}.

    Returns:
        The run's id, at once; ask train_status how far it is.
    """
    chosen = training_preset(preset)
    base = access.base(base_model)
    words = engine.prompt_set(prompt_set or chosen.prompt_set_for(base))
    own = {"dataset": dataset_id, "base_model": base, "token": token, "class_word": class_word}
    return engine.submit(compose_training(chosen, words, {**settings, **own}), name=name)


def train_status(engine: Engine, run_id: str) -> dict[str, Any]:
    """Say how far a run is.

    Args:
        run_id: The id that train_start returned, the end of it, or last.

    Returns:
        status (queued, running, stopping, stopped, finished, failed or interrupted), step, steps, phase, eta_seconds, losses, files.
    """
    run = engine.run(run_id)
    state = engine.state(run)
    return {
        "id": run.id,
        "status": state.status,
        "step": state.step,
        "steps": state.steps,
        "phase": state.phase,
        "eta_seconds": state.eta_seconds,
        "loss": state.losses[-1].loss if state.losses else None,
        "held_out_loss": state.validations[-1].loss if state.validations else None,
        "checkpoints": list(state.checkpoints),
        "samples": [
            {"step": entry.step, "prompt": prompt, "file": _address("runs", run.id, file)}
            for entry in state.samples
            for prompt, file in zip(entry.prompts, entry.files, strict=True)
        ],
        "files": [_address("runs", run.id, artifact.file) for artifact in state.artifacts],
        "message": state.message,
        "hint": state.hint,
    }


def train_stop(engine: Engine, run_id: str) -> dict[str, Any]:
    """Stop a run at its next step; what it has learned is kept.

    Args:
        run_id: The id that train_start returned.

    Returns:
        What train_status says now.
    """
    engine.stop(run_id)
    return train_status(engine, run_id)


def runs_list(engine: Engine) -> list[dict[str, Any]]:
    """List every run, newest first.

    Returns:
        id, status, step, steps, loss, checkpoints, note and star of each.
    """
    return [
        {
            "id": row.id,
            "status": row.status,
            "step": row.step,
            "steps": row.steps,
            "loss": row.loss,
            "checkpoints": list(row.checkpoints),
            "note": row.note,
            "star": row.star,
        }
        for row in engine.history.rows()
    ]


def generate(
    engine: Engine,
    access: Access,
    prompt: str,
    adapter: str = "base",
    seed: int = 1,
    count: int = 1,
    steps: int = DRAWING.steps,
    guidance_scale: float = DRAWING.guidance_scale,
    negative_prompt: str = "",
    base_model: str = "mini",
    image: str = "",
    mask: str = "",
    strength: float = DrawConfig().strength,
    settings: dict[str, Any] = {},  # noqa: B006  never changed; Gradio shows it
) -> list[dict[str, Any]]:
    """Draw pictures with the base model or with what a run learned: from nothing, from a picture, or inside a mask.

    Args:
        prompt: What to draw. Use the run's trigger word to call what it learned.
        adapter: base, a run's id, RUN@STEP for one of its checkpoints, each with an optional strength as RUN:0.8.
        seed: Seed of the first picture.
        count: How many pictures, with seeds counting up; at most 16.
        steps: Denoising steps.
        guidance_scale: How strongly the picture follows the prompt.
        negative_prompt: What the picture should not show.
        base_model: The base model that draws.
        image: An uploaded picture to begin with; on your own computer also a path.
        mask: An uploaded picture as large as image: white is drawn anew, black stays.
        strength: How much of image is given up, 0 to 1.
        settings: size, height, scheduler, clip_skip, guidance_from, guidance_rescale, guidance_stop, as in {"clip_skip": 2}.

    Returns:
        file (address on this server), prompt and seed of each picture.
    """
    access.columns([adapter])
    drawing = {**settings, "steps": steps, "guidance_scale": guidance_scale, "negative_prompt": negative_prompt}
    seeds = [seed + index for index in range(min(count, 17))]  # 17 are refused by the config's own limit
    asked = {"prompts": [prompt], "seeds": seeds, "adapter": adapter, "base_model": access.base(base_model), "drawing": drawing}
    drawn = engine.draw_pictures({**asked, "image": access.picture(image), "mask": access.picture(mask), "strength": strength})
    return [{"file": _address("pictures", "drawn", shot.path.name), "prompt": shot.prompt, "seed": shot.seed} for shot in drawn]


def compare(
    engine: Engine, access: Access, columns: list[str], prompts: list[str],
    seeds: list[int] = [1],  # noqa: B006  never changed; Gradio shows it
    steps: int = DRAWING.steps, guidance_scale: float = DRAWING.guidance_scale, negative_prompt: str = "", base_model: str = "mini",
    axes: dict[str, list[float | str]] = {},  # noqa: B006  never changed; Gradio shows it
) -> dict[str, Any]:  # fmt: skip
    """Draw a grid: columns by prompts by seeds, every column from the same noise.

    Args:
        columns: base, runs, RUN@STEP for checkpoints, each with an optional strength as RUN:0.8.
        prompts: One row each.
        seeds: One row for each prompt and seed.
        steps: Denoising steps.
        guidance_scale: How strongly the pictures follow the prompt.
        negative_prompt: What the pictures should not show.
        base_model: The base model of every column.
        axes: What else changes, with its values: checkpoint, strength, style or a setting, such as {"strength": [0.5, 1]}.

    Returns:
        id, permalink (address of the grid on this server) and status, at once; ask compare_status how far it is.
    """
    drawing = {"steps": steps, "guidance_scale": guidance_scale, "negative_prompt": negative_prompt}
    values = {"columns": access.columns(columns), "prompts": prompts, "seeds": seeds, "base_model": access.base(base_model)}
    return compare_status(engine, engine.compare({**values, "drawing": drawing, "axes": axes}))


def compare_status(engine: Engine, comparison_id: str) -> dict[str, Any]:
    """Say how far a comparison is.

    Args:
        comparison_id: The id that compare returned.

    Returns:
        id, permalink, status (waiting, drawing, finished, cancelled or failed), done and total pictures, columns, cells and grid.
    """
    found = engine.comparison(comparison_id)
    config: CompareConfig = found.config
    cells = [
        {
            "column": found.labels[cell.column],
            "prompt": config.prompts[cell.prompt],
            "seed": cell.seed,
            "axes": {name: values[index] for (name, values), index in zip(config.axes.items(), cell.more, strict=True)},
            "file": _address("comparisons", found.id, cell.file) if cell.file else "",
            "error": cell.error,
        }
        for cell in found.cells
    ]
    grid = _address("comparisons", found.id, "grid.png") if found.status == "finished" else ""
    return {
        "id": found.id,
        "permalink": f"/?compare={found.id}",
        "status": found.status,
        "message": found.message,
        "done": len(found.drawn),
        "total": config.num_cells,
        "columns": list(found.labels),
        "cells": cells,
        "grid": grid,
    }


def _address(kind: str, item: str, name: str) -> str:
    return "/" + file_url(kind, item, name)
