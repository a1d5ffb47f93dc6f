"""Dataset -> cards, report, skipped files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sdplay.data import Dataset, Example, ReportLine, view_path
from sdplay.data.fixes import LABELS
from sdplay.data.health import Advice, seen_box, shape_counts
from sdplay.hub import MINI
from sdplay.picture_jobs import PictureJob
from sdplay.sample_sets import Sample, gallery_path
from sdplay.ui.files import file_url
from sdplay.ui.views.text import count_of, esc, message, picture

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
        f'{picture(file_url("gallery", MINI, gallery_path(prompt).name), "")}<span translate="no">{esc(prompt)}</span></button>'
        for prompt in prompts
    )
    return f'<div class="sd-gallery">{cards}</div>'


def card_values(dataset: Dataset | None, advice: Advice, alike: Collection[str] = ()) -> dict[str, object]:
    """What `cards.card_grid` shows: every picture, also those left out. alike: keys of pictures that look like another.

    The browser keeps what has the greatest revision, whatever comes last.
    """
    if dataset is None:
        return {"dataset": "", "revision": 0, "cards": []}
    cards = [_card(dataset.id, example, advice, example.key in alike) for example in dataset.pictures]
    return {"dataset": dataset.id, "revision": dataset.revision, "cards": cards}


def report_list(dataset: Dataset, lines: Sequence[ReportLine], advice: Advice) -> str:
    """What is good, and what to do about the rest: a line each, with the pictures it is about and what one press does."""
    rows = "".join(_report_line(dataset.id, line) for line in lines)
    chart = shape_chart(dataset, advice)
    return f'<div class="sd-report"><h2>Before you train</h2>{rows}{chart}</div>'


def shape_chart(dataset: Dataset, advice: Advice) -> str:
    """How many pictures fall into which shape when Bucketing is on; nothing when all are square."""
    counts = shape_counts(dataset.examples, advice.resolution_px)
    if not any(size[0] != size[1] for size, _ in counts):
        return ""
    most = max(count for _, count in counts)
    rows = "".join(
        f'<tr><th scope="row"><i style="aspect-ratio: {size[0]} / {size[1]}"></i>{size[0]} x {size[1]}</th>'
        f'<td><span style="width: {100 * count / most:.0f}%"></span>{count}</td></tr>'
        for size, count in counts
    )
    now = (
        "Training keeps these shapes." if advice.buckets else "With Bucketing on, training would keep these shapes; now all are cut square."
    )
    return f'<table class="sd-shapes"><caption>{now}</caption><tbody>{rows}</tbody></table>'


def job_line(job: PictureJob | None) -> str:
    """How far captioning or masking is."""
    if job is None:
        return ""
    if job.ended:
        return message("error" if job.status == "failed" else "good", job.message)
    told = {"waiting": "Waiting for the accelerator", "loading": "Loading the model"}.get(job.status, f"Writing {job.what}")
    return (
        f'<p class="sd-line">{esc(told)}: {job.done} of {job.total}</p>'
        f'<progress max="{job.total}" value="{job.done}" aria-label="{esc(told)}"></progress>'
    )


def download_links(dataset: Dataset | None) -> str:
    """The data set as a file."""
    if dataset is None or not dataset.pictures:
        return ""
    url = file_url("datasets", dataset.id, "export.zip")
    return f'<div class="sd-downloads"><a class="sd-button" href="{esc(url)}" download>Download as zip</a></div>'


def skipped_list(dataset: Dataset) -> str:
    """What was not used, and why."""
    if not dataset.skipped:
        return ""
    items = "".join(f'<li><strong translate="no">{esc(entry.name)}</strong> {esc(entry.reason)}</li>' for entry in dataset.skipped)
    return (
        f'<details class="sd-skipped" open><summary>{count_of(len(dataset.skipped), "file")} left out</summary><ul>{items}</ul></details>'
    )


def dataset_choices(datasets: Sequence[Dataset]) -> list[tuple[str, str]]:
    """(label, id) for a dropdown."""
    return [(f"{dataset.name} · {count_of(len(dataset.pictures), 'picture')}", dataset.id) for dataset in datasets]


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
        f'<small translate="no">{esc(sample.licence)}, {esc(sample.source)}</small></article>'
    )


def _card(dataset_id: str, example: Example, advice: Advice, alike: bool) -> dict[str, object]:
    def url(name: str, width: int = 0) -> str:
        return file_url("datasets", dataset_id, name, width=width)

    mask, version = example.mask, ""
    if mask:
        version = f"&v={mask.stat().st_mtime_ns}" if mask.is_file() else ""
    return {
        "key": example.key,
        "thumb": url((view_path(example.path) if mask else example.path).name, 320) + version,
        "full": url(example.path.name),
        "maskUrl": f"{url(mask.name)}?{version.lstrip('&')}" if mask else "",
        "source": example.source,
        "caption": example.caption,
        "width": example.width,
        "height": example.height,
        "notes": list(example.notes),
        "leftOut": example.left_out,
        "mask": mask is not None,
        "crop": list(example.crop) if example.crop else None,
        "seen": list(seen_box(example, advice)),
        "alike": alike,
    }


def _report_line(dataset_id: str, line: ReportLine) -> str:
    keys = f'data-keys="{esc(" ".join(line.keys))}" data-dataset="{esc(dataset_id)}"'
    buttons = ""
    if line.keys:
        buttons += f'<button type="button" class="sd-small" data-action="show" {keys} aria-label="Show: {esc(line.text)}">Show</button>'
    if line.fix:
        label = LABELS[line.fix]
        buttons += f'<button type="button" class="sd-small" data-action="fix" data-fix="{esc(line.fix)}" {keys}>{esc(label)}</button>'
    ends = f'<span class="sd-line-buttons">{buttons}</span>' if buttons else ""
    return (
        f'<div class="sd-line sd-{line.level}"><span class="sd-sign" aria-hidden="true"></span>'
        f"<span>{esc(line.text)} <em>{esc(line.hint)}</em>{ends}</span></div>"
    )
