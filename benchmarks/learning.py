"""Parts 4 and 5 of the quality bench: is an unseen style learned, and an unseen character?

Style: sixteen fxemoji pictures; then other subjects are drawn in that style and compared with their true fxemoji pictures.
Character: five of the eight pictures of one fox; the other three and the rest of the set tell whether it is that fox.
"""

from __future__ import annotations

import functools
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from benchmarks.icons import Shelf, named_background, shelf
from benchmarks.judge import Judge, trained_judge
from benchmarks.palette import in_colours_of, through
from sdplay.columns import checkpoint_steps
from sdplay.engine import Engine
from sdplay.hub import find_base
from sdplay.mini import data
from sdplay.presets import compose_training, training_preset

STYLE_NAMES, STYLE_NAMES_AT_CHECKPOINTS = 100, 40
SEEDS = (1, 2, 3, 4)
DRAWING: dict[str, object] = {"steps": 25}
NO_CHANGES: Mapping[str, object] = {}
TOP = 5
PALETTE = 32
"""Colours that the sixteen pictures are said in, for the row that has their colours and nothing else of them."""
FOX_TRAINED = ("smiling", "grinning", "heart-eyes", "kissing", "sad")
FOX = "fox"
NEIGHBOURS = ("fox", "cat-face", "dog-face", "bear", "wolf", "owl", "red-apple", "house")
"""What should stay as it was while the character is learned."""
MOST_PROMPTS = 64
Row = dict[str, object]


@dataclass(frozen=True)
class Variant:
    """One way to train: a preset with changes, on one of the two tasks."""

    name: str
    task: str
    """style or subject"""
    preset: str
    changes: dict[str, object] = field(default_factory=dict)
    drawing: dict[str, object] = field(default_factory=dict)
    """How its pictures are drawn, where that is not as shipped."""


@dataclass
class Bench:
    """What every part needs: the engine, the icons, the base."""

    engine: Engine
    icons: Path
    base: str
    quick: bool = False
    checkpoints: bool = True
    """Whether styles are also measured at the checkpoints, or only at the end."""

    def share(self, count: int) -> int:
        """`count`, or a quarter of it for a quick look."""
        return count // 4 if self.quick else count

    def vae(self) -> AutoencoderKL:
        """The base's autoencoder alone."""
        return AutoencoderKL.from_pretrained(find_base(self.base).folder / "vae", dtype=torch.float32).eval()

    def draw(self, prompts: Sequence[str], adapter: str = "base", drawing: Mapping[str, object] = NO_CHANGES) -> list[Image.Image]:
        """One picture per prompt, as shipped but for 25 steps and what `drawing` says; the seeds go round."""
        pictures: dict[int, Image.Image] = {}
        for turn, seed in enumerate(SEEDS):
            mine = list(range(turn, len(prompts), len(SEEDS)))
            for start in range(0, len(mine), MOST_PROMPTS):
                chunk = mine[start : start + MOST_PROMPTS]
                how = {**DRAWING, **drawing}
                drawn = self.engine.draw([prompts[i] for i in chunk], [seed], how, adapter=adapter, base_model=self.base)
                pictures.update({i: Image.open(one.path).convert("RGB") for i, one in zip(chunk, drawn, strict=True)})
        return [pictures[i] for i in range(len(prompts))]

    @functools.cached_property
    def judge(self) -> Judge:
        """Tells the new style from the known ones."""
        return trained_judge(self.icons, self.vae(), self.icons)

    @functools.cached_property
    def new_style(self) -> Shelf:
        """Every subject of the base in its true fxemoji picture, the sixteen that are trained on left out."""
        lines = (self.engine.samples()["fxemoji-style"].folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
        shown = {json.loads(line)["text"].split(",")[0].replace(" ", "") for line in lines}
        there = set(data.names_of(self.icons, data.HELD_OUT_STYLE))
        names = [name.replace("-", "") for name in data.trained_names()]
        return shelf(self.icons, data.HELD_OUT_STYLE, [name for name in names if name in there and name not in shown])

    def chosen_names(self, count: int) -> list[str]:
        """The subjects that are drawn in the new style, as it writes them; fewer are the first of more."""
        return list(np.random.default_rng(5).permutation(self.new_style.names)[: self.share(count)])

    @functools.cached_property
    def known_styles(self) -> list[Shelf]:
        """The same subjects in the styles that the base knows, under the names they have there."""
        return [shelf(self.icons, style, data.trained_names_in(self.icons, style)) for style in data.TRAINED_STYLES]


def known_name(name: str) -> str:
    """As the base knows a subject of the new style, whose set writes names without hyphens."""
    return {name.replace("-", ""): name for name in data.trained_names()}[name]


def percent(hits: Sequence[bool]) -> str:
    """`61 %`"""
    return f"{100 * sum(hits) / len(hits):.0f} %"


def measure(bench: Bench, variants: Sequence[Variant], adapters: Mapping[str, str]) -> dict[str, list[Row]]:
    """A table per task. `adapters`: style adapters made elsewhere, by the name of their row."""
    tables: dict[str, list[Row]] = {}
    styles = [variant for variant in variants if variant.task == "style"]
    if styles or adapters:
        new, known = bench.judge.accuracy
        title = f"Style learning (the judge puts {new:.0%} of real icons of the new style right, {known:.0%} of the known styles)"
        rows = [_told(_style_row(bench, "the base, untaught", "base", 0))]
        rows += [_told(row) for variant in styles for row in _style_rows(bench, variant)]
        rows += [_told(_style_row(bench, name, file, None)) for name, file in adapters.items()]
        rows += [_recoloured_row(bench)]
        tables[title] = rows
    subjects = [variant for variant in variants if variant.task == "subject"]
    if subjects:
        tables["Subject learning"] = [_told(_subject_row(bench, "the base, untaught", "base"))]
        tables["Subject learning"] += [
            _told(_subject_row(bench, variant.name, _train(bench, variant, _five_foxes(bench)))) for variant in subjects
        ]
    return tables


def _told(row: Row) -> Row:
    """The same row, told on stderr as soon as it is there: the tables come at the end."""
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def _train(bench: Bench, variant: Variant, dataset: str) -> str:
    """Train as a user would, with the sample's own prompts; returns the run's id."""
    sample = bench.engine.samples()["fxemoji-style" if variant.task == "style" else "fxemoji-fox"]
    changes = {
        "dataset": dataset, "base_model": bench.base, "token": sample.token, "class_word": sample.class_word,
        "sample_prompts": [], **variant.changes,
    }  # fmt: skip
    values = compose_training(training_preset(variant.preset), bench.engine.prompt_set(sample.prompt_set), changes)
    run_id = bench.engine.submit(values, name=variant.name)
    state = bench.engine.wait(run_id)
    assert state.status == "finished", state.message
    return run_id


def _style_rows(bench: Bench, variant: Variant) -> list[Row]:
    run_id = _train(bench, variant, bench.engine.sample_dataset("fxemoji-style").id)
    run = bench.engine.run(run_id)
    seconds = sum(step.seconds for step in bench.engine.state(run).losses)
    steps = checkpoint_steps(run) if bench.checkpoints else [bench.engine.state(run).steps]
    row = functools.partial(_style_row, bench, variant.name, drawing=variant.drawing)
    rows = [row(f"{run_id}@{step}", step, count=STYLE_NAMES_AT_CHECKPOINTS) for step in steps[:-1]]
    return [*rows, {**row(run_id, steps[-1]), "training (s)": round(seconds)}]


def _style_row(
    bench: Bench, name: str, adapter: str, step: int | None, *, count: int = STYLE_NAMES, drawing: Mapping[str, object] = NO_CHANGES
) -> Row:
    """Draw subjects that were not among the sixteen in the new style."""
    chosen = bench.chosen_names(count)
    token = bench.engine.samples()["fxemoji-style"].token
    names = [known_name(name) for name in chosen]
    pictures = bench.draw([f"{data.words(name)}, {token} style" for name in names], adapter, drawing)
    ranks = [bench.new_style.rank(picture, name) for picture, name in zip(pictures, chosen, strict=True)]
    return {
        "trained with": name,
        "step": step,
        "drawn": len(chosen),
        "judged in style": percent(bench.judge.in_style(pictures)),
        "nearest to its true picture of the style": percent(
            [_is_truest(bench, *pair) for pair in zip(pictures, chosen, names, strict=True)]
        ),
        "right name first": percent([rank < 1 for rank in ranks]),
        f"in the first {TOP} of {len(bench.new_style.names)}": percent([rank < TOP for rank in ranks]),
    }


def _recoloured_row(bench: Bench) -> Row:
    """True pictures of the best known style in the colours of the sixteen: what the judge says of a palette learned and no more."""
    style = data.TRAINED_STYLES[0]
    names = [known_name(name) for name in bench.chosen_names(STYLE_NAMES)]
    rng = np.random.default_rng(7)
    icons = [data.compose(icon, "white", size_px=data.ICON_PX, rng=rng) for icon in data.draw_icons(bench.icons, style, names)]
    shown = [Image.open(path) for path in sorted(bench.engine.samples()["fxemoji-style"].folder.glob("*.png"))]
    pictures = through(bench.vae(), in_colours_of(shown, icons, PALETTE))
    return {
        "trained with": f"nothing: true {style} pictures in {PALETTE} colours of the sixteen",
        "drawn": len(pictures),
        "judged in style": percent(bench.judge.in_style(pictures)),
    }


def _is_truest(bench: Bench, picture: Image.Image, name: str, known_name: str) -> bool:
    """Whether the true picture of this subject in the new style is nearer than those in the styles that the base knows."""
    here = bench.new_style.distance(picture, name)
    return all(here < known.distance(picture, known_name) for known in bench.known_styles if known_name in known.names)


def _five_foxes(bench: Bench) -> str:
    """A data set of five of the eight foxes, made once."""
    sample = bench.engine.samples()["fxemoji-fox"]
    folder = bench.engine.workspace.root / "five-foxes"
    if not folder.exists():
        folder.mkdir()
        lines = (sample.folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if Path(json.loads(line)["file_name"]).stem in FOX_TRAINED]
        (folder / "metadata.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
        for stem in FOX_TRAINED:
            shutil.copyfile(sample.folder / f"{stem}.png", folder / f"{stem}.png")
    made = [dataset.id for dataset in bench.engine.datasets.list() if dataset.name == folder.name]
    return made[0] if made else bench.engine.datasets.create([folder], name=folder.name).id


def _subject_row(bench: Bench, name: str, adapter: str) -> Row:
    """Draw the fox on every background, and what should have stayed as it was."""
    sample = bench.engine.samples()["fxemoji-fox"]
    colours = list(data.BACKGROUNDS)
    moods = ("", ", smiling", ", grinning")
    wanted = [(mood, colour) for mood in moods for colour in colours]
    pictures = bench.draw([f"{sample.token} {sample.class_word}{mood}, {colour} background" for mood, colour in wanted], adapter)
    icons = data.names_of(bench.icons, data.HELD_OUT_STYLE)
    real = shelf(bench.icons, data.HELD_OUT_STYLE, [name for name in icons if FOX not in name or name in _HELD_OUT_FOXES])
    ranks = [min(real.rank(picture, fox) for fox in _HELD_OUT_FOXES) for picture in pictures]
    obeyed = [named_background(picture) == colour for picture, (_, colour) in zip(pictures, wanted, strict=True)]
    prompts = [f"{data.words(name)}, noto style" for name in NEIGHBOURS]
    before, after = bench.draw(prompts), bench.draw(prompts, adapter)
    drift = [np.asarray(a, np.float32) - np.asarray(b, np.float32) for a, b in zip(before, after, strict=True)]
    return {
        "trained with": name,
        "drawn": len(pictures),
        "nearest is an unseen picture of this fox": percent([rank < 1 for rank in ranks]),
        f"in the first {TOP} of {len(real.names)}": percent([rank < TOP for rank in ranks]),
        "background obeyed": percent([met for met, (mood, _) in zip(obeyed, wanted, strict=True) if not mood]),
        "background obeyed beside a mood": percent([met for met, (mood, _) in zip(obeyed, wanted, strict=True) if mood]),
        "drift of other things (of 255)": round(float(np.sqrt(np.mean(np.square(drift)))), 1),
    }


_HELD_OUT_FOXES = ("foxtearofjoy", "foxwry", "foxweary")
