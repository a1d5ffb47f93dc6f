"""Dataset -> cards, report, skipped files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sdplay.data import Dataset, Example, ReportLine, view_path
from sdplay.hub import MINI
from sdplay.sample_sets import Sample, gallery_path
from sdplay.ui.files import file_url
from sdplay.ui.views.text import count_of, empty, esc, message, picture

SAMPLE_BUTTONS = {"fxemoji-style": "Try the Firefox emoji style", "fxemoji-fox": "Try the fox"}
SHOWN_ON_CARD = 8


def sample_cards(samples: Mapping[str, Sample]) -> str:
    """The shipped sample data sets, each with a button that takes it."""
    cards = "".join(_sample_card(sample) for sample in samples.values())
    return f'<div class="sd-samples">{cards}</div>'


def gallery(prompts: Sequence[str]) -> str:
    """What the embedded base drew for each prompt; a click tries it with other seeds."""
    cards = "".join(
        f'<button type="button" class="sd-shown" data-action="select" data-id="{esc(prompt)}" title="Draw “{esc(prompt)}” now">'
        f"{picture(file_url('gallery', MINI, gallery_path(prompt).name), '')}<span>{esc(prompt)}</span></button>"
        for prompt in prompts
    )
    return f'<div class="sd-gallery">{cards}</div>'


def card_grid(dataset: Dataset) -> str:
    """Every picture with its caption to edit and a button to take it out."""
    if not dataset.examples:
        return empty("This data set has no pictures", "Add some above.")
    return f'<div class="sd-grid">{"".join(_card(dataset.id, example) for example in dataset.examples)}</div>'


def report_list(lines: Sequence[ReportLine]) -> str:
    """What is good, and what to do about the rest."""
    return f'<div class="sd-report"><h3>Before you train</h3>{"".join(message(line.level, line.text, line.hint) for line in lines)}</div>'


def skipped_list(dataset: Dataset) -> str:
    """What was not used, and why."""
    if not dataset.skipped:
        return ""
    items = "".join(f"<li><strong>{esc(entry.name)}</strong> {esc(entry.reason)}</li>" for entry in dataset.skipped)
    return (
        f'<details class="sd-skipped" open><summary>{count_of(len(dataset.skipped), "file")} left out</summary><ul>{items}</ul></details>'
    )


def dataset_choices(datasets: Sequence[Dataset]) -> list[tuple[str, str]]:
    """(label, id) for a dropdown."""
    return [(f"{dataset.name} · {count_of(len(dataset.examples), 'picture')}", dataset.id) for dataset in datasets]


def example_choices(dataset: Dataset) -> list[tuple[str, str]]:
    """(label, key) for a dropdown of pictures."""
    return [(f"{number}. {example.source}", example.key) for number, example in enumerate(dataset.examples, start=1)]


def _sample_card(sample: Sample) -> str:
    pictures = sorted(sample.folder.glob("*.png"))[:SHOWN_ON_CARD]
    strip = "".join(picture(file_url("samples", sample.id, path.name, width=160), "") for path in pictures)
    label = SAMPLE_BUTTONS.get(sample.id, f"Try {sample.title}")
    return (
        f'<article class="sd-card sd-sample"><div class="sd-strip">{strip}</div><h3>{esc(sample.title)}</h3><p>{esc(sample.why)}</p>'
        f'<button type="button" class="sd-button" data-action="select" data-id="{esc(sample.id)}">{esc(label)}</button>'
        f"<small>{esc(sample.licence)}, {esc(sample.source)}</small></article>"
    )


def _card(dataset_id: str, example: Example) -> str:
    keys = f'data-dataset="{esc(dataset_id)}" data-key="{esc(example.key)}"'
    notes = "".join(f"<small>{esc(note)}</small>" for note in example.notes)
    shown = view_path(example.path) if example.mask else example.path
    notes += "<small>Has a mask: with Masked loss on, what is red here is not learned.</small>" if example.mask else ""
    image = picture(file_url("datasets", dataset_id, shown.name, width=160), example.caption or example.source)
    return (
        f'<div class="sd-item"><div class="sd-thumb">{image}'
        f'<button type="button" class="sd-remove" title="Take this picture out" aria-label="Take out {esc(example.source)}" '
        f'data-action="delete" {keys}>×</button></div>'
        f'<textarea rows="3" data-action="edit" {keys} aria-label="Caption of {esc(example.source)}" '
        f'placeholder="Describe what is in the picture">{esc(example.caption)}</textarea>'
        f"<small>{esc(example.source)}, {example.width} x {example.height}</small>{notes}</div>"
    )
