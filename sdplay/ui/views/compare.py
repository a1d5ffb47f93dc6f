"""Comparison -> grid, progress line, downloads."""

from __future__ import annotations

from sdplay.compare import Comparison, rows
from sdplay.ui.files import file_url
from sdplay.ui.views.text import count_of, empty, esc, matrix, message, picture

STATUS = {
    "waiting": "Waiting for the model",
    "drawing": "Drawing",
    "finished": "Done",
    "cancelled": "Cancelled; finished pictures stay",
    "failed": "Failed",
}


def no_comparison() -> str:
    """Where a grid would be."""
    return empty("No comparison yet", "Choose runs above and press Draw. The base is always the first column, from the same noise.")


def comparison_grid(comparison: Comparison) -> str:
    """Columns side by side, one row per prompt and seed; the base stays in sight."""
    config = comparison.config
    columns = [_head(label) for label in comparison.labels]
    body = []
    for prompt, seed in rows(config):
        files = [comparison.file_of(column, prompt, seed) for column in range(len(columns))]
        text = config.prompts[prompt]
        cells = [_cell(comparison, file, f"{text}, {label}") for file, label in zip(files, comparison.labels, strict=True)]
        body.append((f"{esc(text)}<small>seed {seed}</small>", cells))
    return f'<div class="sd-compare">{matrix("Comparison grid", columns, body)}</div>'


def progress_line(comparison: Comparison) -> str:
    """How far it is, and what it was drawn with."""
    config, done = comparison.config, len(comparison.cells)
    drawing = config.drawing
    facts = f"{config.base_model}, {drawing.steps} steps, guidance {drawing.guidance_scale:g}, {comparison.created.replace('T', ' ')}"
    if comparison.status == "failed":
        return message("error", comparison.message or "Failed.")
    share = 100 * done / config.num_cells
    return (
        f'<div class="sd-card sd-status sd-{esc(comparison.status)}"><div class="sd-head"><span class="sd-dot"></span>'
        f"<strong>{esc(STATUS[comparison.status])}</strong><span>{done} of {count_of(config.num_cells, 'picture')}</span></div>"
        f'<progress max="100" value="{share:.1f}" aria-label="Pictures done"></progress>'
        f'<div class="sd-facts"><span>{esc(facts)}</span></div></div>'
    )


def downloads(comparison: Comparison) -> str:
    """Links to the files of a finished comparison."""
    if comparison.status != "finished":
        return ""
    names = {"grid.png": "Grid as one picture", "index.html": "Grid as a web page", "cells.zip": "All pictures (zip)"}
    links = "".join(
        f'<a class="sd-button" href="{file_url("comparisons", comparison.id, name)}" download>{text}</a>' for name, text in names.items()
    )
    return f'<div class="sd-downloads">{links}</div>'


def comparison_label(comparison: Comparison) -> str:
    """One line for the list of past comparisons."""
    count = count_of(comparison.config.num_cells, "picture")
    others = [_short(label) for label in comparison.labels if label != "base"]
    return f"{comparison.created[:16].replace('T', ' ')} · {', '.join(others) or 'base'} · {count}"


def _head(label: str) -> str:
    return "base<small>before training</small>" if label == "base" else f'<span title="{esc(label)}">{esc(_short(label))}</span>'


def _short(label: str) -> str:
    """A run's id without its date."""
    parts = label.split("-", 2)
    return parts[2] if len(parts) == 3 and parts[0].isdigit() and parts[1].isdigit() else label


def _cell(comparison: Comparison, file: str, alt: str) -> str:
    if file:
        url = file_url("comparisons", comparison.id, file)
        return picture(url, alt, link=url)
    return '<span class="sd-missing"></span>' if comparison.ended else '<span class="sd-pending"></span>'
