"""What is in an adapter file, for people: family, method, layout, rank, alpha, trigger word, training facts, what is wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sdplay.errors import AdapterError
from sdplay.formats.adapter import METHODS, AdapterFile, paths_text
from sdplay.formats.files import read_adapter
from sdplay.formats.header import read_header
from sdplay.formats.identify import TITLES
from sdplay.formats.proof import idle_layers

LAYOUT_TITLES = {
    "diffusers": "diffusers", "kohya": "kohya (A1111, ComfyUI)", "flat 2022": "2022, by number", "embedding": "embedding",
    "weights": "sdplay's own, whole weights",
}  # fmt: skip
TRAINING_KEYS = {
    "base model": ("sdplay.base_model", "ss_sd_model_name", "ss_base_model_version"),
    "steps": ("sdplay.steps", "ss_max_train_steps", "ss_steps"),
    "learning rate": ("sdplay.learning_rate", "ss_learning_rate", "ss_unet_lr"),
    "optimizer": ("ss_optimizer",),
    "pictures": ("sdplay.pictures", "ss_num_train_images"),
    "resolution": ("modelspec.resolution", "ss_resolution"),
    "date": ("modelspec.date",),
    "author": ("modelspec.author",),
    "licence": ("modelspec.license",),
    "title": ("modelspec.title", "ss_output_name"),
}
"""What is told of the training -> the metadata that say it, the most trusted first."""
MAX_FACT = 200
MOST_TAGS = 8


@dataclass(frozen=True)
class Report:
    """A file in words and numbers."""

    file: str
    megabytes: float
    family: str = ""
    family_title: str = ""
    methods: tuple[str, ...] = ()
    layout: str = ""
    layers: dict[str, int] = field(default_factory=dict)
    """How many layers of each part it changes."""
    ranks: tuple[int, ...] = ()
    alphas: tuple[float, ...] = ()
    trigger: str = ""
    words: dict[str, int] = field(default_factory=dict)
    """Words it brings -> number of vectors."""
    training: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def inspect_adapter(path: Path) -> Report:
    """Read a file and say what it is. A file that cannot be used is reported with the reason, not raised.

    Raises AdapterError only when there is no safetensors file to speak about.
    """
    header = read_header(path)
    megabytes = path.stat().st_size / 2**20
    try:
        adapter = read_adapter(path)
    except AdapterError as error:
        return Report(path.name, megabytes, training=_training(header.facts), problems=(str(error),))
    return Report(
        file=path.name,
        megabytes=megabytes,
        family=adapter.family,
        family_title=TITLES.get(adapter.family, adapter.family),
        methods=tuple(METHODS.get(method, method) for method in adapter.methods),
        layout=LAYOUT_TITLES[adapter.layout],
        layers={component: len(adapter.of(component)) for component in adapter.components if adapter.layers},
        ranks=tuple(sorted({layer.rank for layer in adapter.layers.values()})),
        alphas=tuple(sorted({layer.alpha for layer in adapter.layers.values()})),
        trigger=adapter.trigger,
        words={word: max(map(len, vectors.values())) for word, vectors in adapter.embeddings.items()},
        training=_training(adapter.facts),
        problems=tuple(_problems(adapter)),
    )


def report_lines(report: Report) -> list[str]:
    """The report as text, one fact a line."""
    facts = {
        "file": f"{report.file} ({report.megabytes:.2f} MB)",
        "family": report.family_title,
        "method": ", ".join(report.methods),
        "layout": report.layout,
        "layers": ", ".join(f"{count} of the {part}" for part, count in report.layers.items()),
        "rank": ", ".join(map(str, report.ranks)),
        "alpha": ", ".join(f"{alpha:g}" for alpha in report.alphas),
        "trigger": report.trigger,
        "words": ", ".join(f"{word} ({count} vectors)" for word, count in report.words.items()),
        **report.training,
    }
    lines = [f"{name + ':':15} {value}" for name, value in facts.items() if value]
    mark = "note" if report.methods else "wrong"
    return [*lines, *(f"{mark}: {problem}" for problem in report.problems)]


def _training(facts: Mapping[str, str]) -> dict[str, str]:
    told = {}
    for name, keys in TRAINING_KEYS.items():
        value = next((facts[key] for key in keys if facts.get(key) not in (None, "", "None")), None)
        if value:
            told[name] = value[:MAX_FACT]
    if tags := _tags(facts.get("ss_tag_frequency", "")):
        told["captions"] = tags
    return told


def _tags(text: str) -> str:
    """The most frequent words of the captions, as kohya's scripts count them by folder."""
    try:
        folders = json.loads(text) if text else {}
        counted: Counter[str] = Counter()
        for tags in folders.values():
            counted.update({str(tag).strip(): int(count) for tag, count in tags.items()})
    except (ValueError, AttributeError, TypeError, RecursionError):
        return ""
    return ", ".join(tag[:40] for tag, _ in counted.most_common(MOST_TAGS) if tag)


def _problems(adapter: AdapterFile) -> list[str]:
    problems = []
    if idle := idle_layers(adapter):
        problems.append(f"{len(idle)} of {len(adapter.layers)} layers are zero and do nothing: {paths_text(idle, 3)}.")
    if adapter.layers and not adapter.family:
        problems.append("Its shapes do not tell which base-model family it is for.")
    if any(abs(layer.scale) > 16 for layer in adapter.layers.values()):
        problems.append("Its alpha is more than 16 times its rank: at strength 1 it may drown the base model.")
    if not adapter.trigger:
        problems.append("It names no trigger word.")
    return problems
