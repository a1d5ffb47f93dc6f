"""What shows a comparison, on the page and in the file that is handed on: one script, one style sheet, one shape of data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sdplay.axes import axis, value_label
from sdplay.compare import Cell, Comparison, settings_of
from sdplay.png_settings import parameters_text

_FOLDER = Path(__file__).parent


def script() -> str:
    """JavaScript that defines `sdplayViewer(root, hooks)`."""
    return (_FOLDER / "viewer.js").read_text(encoding="utf-8")


def style() -> str:
    """Its style sheet; colours come from the page's variables where there are some."""
    return (_FOLDER / "viewer.css").read_text(encoding="utf-8")


def viewer_data(comparison: Comparison, address: Callable[[str], str]) -> dict[str, Any]:
    """A comparison as the viewer takes it, JSON values. address: a cell's file -> where the picture is."""
    config = comparison.config
    seeds = {seed: index for index, seed in enumerate(config.seeds)}
    more = [
        {"name": name, "title": axis(name).title, "values": [value_label(name, value) for value in values]}
        for name, values in config.axes.items()
    ]
    dims = [
        {"name": "column", "title": "Column", "values": [short_label(label) for label in comparison.labels]},
        {"name": "prompt", "title": "Prompt", "values": list(config.prompts)},
        *more,
        {"name": "seed", "title": "Seed", "values": [f"seed {seed}" for seed in config.seeds]},
    ]
    cells = {
        ",".join(map(str, (cell.column, cell.prompt, *cell.more, seeds[cell.seed]))): _cell(comparison, cell, address)
        for cell in comparison.cells
    }
    drawing = config.drawing
    facts = f"{config.base_model}, {drawing.steps} steps, guidance {drawing.guidance_scale:g}, {comparison.created.replace('T', ' ')}"
    return {
        "id": comparison.id,
        "status": comparison.status,
        "total": config.num_cells,
        "labels": list(comparison.labels),
        "dims": dims,
        "cells": cells,
        "facts": facts,
    }


def short_label(label: str) -> str:
    """A column's label without the dates of its runs."""
    return " + ".join(_short(part) for part in label.split(" + "))


def _short(label: str) -> str:
    parts = label.split("-", 2)
    return parts[2] if len(parts) == 3 and parts[0].isdigit() and parts[1].isdigit() else label


def _cell(comparison: Comparison, cell: Cell, address: Callable[[str], str]) -> dict[str, str]:
    if cell.error:
        return {"error": cell.error}
    return {"src": address(cell.file), "text": parameters_text(settings_of(comparison, cell))}
