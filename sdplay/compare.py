"""Columns x prompts x seeds -> a grid that can be kept, linked and handed on.

comparisons/<id>/comparison.json   what was asked, and how far it is; rebuilt into the page by its link
                 cells/*.png       every picture, with its settings inside
                 grid.png          one labelled picture
                 index.html        the same as one self-contained page
"""

from __future__ import annotations

import base64
import html
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock
from PIL import Image, ImageDraw, ImageFont
from pydantic import BaseModel, ConfigDict, ValidationError

from sdplay.columns import Column
from sdplay.config import CompareConfig
from sdplay.errors import RunError
from sdplay.runs import is_held
from sdplay.workspace import write_atomically, write_json

if TYPE_CHECKING:
    from sdplay.families import Family, Parts

COMPARISON_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")
MARGIN, LABEL_PX, MIN_CELL_PX = 8, 14, 128


class Cell(BaseModel):
    """One picture of the grid; `file` is relative to the comparison's folder and empty until it is drawn."""

    model_config = ConfigDict(frozen=True)
    column: int
    prompt: int
    seed: int
    file: str = ""


class Comparison(BaseModel):
    """comparison.json."""

    model_config = ConfigDict(frozen=True)
    id: str
    created: str
    status: Literal["waiting", "drawing", "finished", "cancelled", "failed"]
    config: CompareConfig
    labels: tuple[str, ...]
    cells: tuple[Cell, ...] = ()
    message: str = ""

    @property
    def ended(self) -> bool:
        """Nothing more will be drawn."""
        return self.status in ("finished", "cancelled", "failed")

    def file_of(self, column: int, prompt: int, seed: int) -> str:
        """The picture in a place, or an empty text."""
        return next((cell.file for cell in self.cells if (cell.column, cell.prompt, cell.seed) == (column, prompt, seed)), "")


@dataclass(frozen=True)
class Drawing:
    """What drawing a comparison needs, loaded."""

    folder: Path
    columns: Sequence[Column]
    parts: Parts
    family: Family
    cancelled: Callable[[], bool]


def create_comparison(folder: Path, config: CompareConfig, columns: Sequence[Column]) -> Comparison:
    """Write a waiting comparison into `folder`/<id>."""
    now = datetime.now()
    comparison = Comparison(
        id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}",
        created=now.isoformat(timespec="seconds"),
        status="waiting",
        config=config,
        labels=tuple(column.label for column in columns),
    )
    _write(folder / comparison.id, comparison)
    return comparison


def hold_comparison(folder: Path, comparison_id: str) -> FileLock:
    """Take a comparison in hand; while the lock is held, readers believe that it is being drawn."""
    lock = FileLock(folder / comparison_id / "lock", thread_local=False)
    lock.acquire()
    return lock


def open_comparison(folder: Path, comparison_id: str) -> Comparison:
    """Read a comparison. One that is not finished and in nobody's hands is failed. Raises RunError when there is none with that id."""
    comparison = _read(folder, comparison_id)
    if comparison.ended or is_held(folder / comparison_id / "lock"):
        return comparison
    comparison = _read(folder, comparison_id)  # it may have ended between the two looks
    if comparison.ended:
        return comparison
    return comparison.model_copy(update={"status": "failed", "message": "The program that drew it ended before it was finished."})


def _read(folder: Path, comparison_id: str) -> Comparison:
    path = folder / comparison_id / "comparison.json"
    if not COMPARISON_ID.fullmatch(comparison_id) or not path.is_file():
        raise RunError(f"There is no comparison {comparison_id[:60]!r}.", "Its link is wrong, or it was deleted.")
    try:
        return Comparison.model_validate_json(path.read_bytes())
    except ValidationError:
        raise RunError(f"The comparison {comparison_id} cannot be read.", "Draw it again.") from None


def list_comparisons(folder: Path) -> list[str]:
    """Ids, newest first."""
    if not folder.is_dir():
        return []
    return sorted((path.name for path in folder.iterdir() if (path / "comparison.json").is_file()), reverse=True)


def set_status(folder: Path, comparison: Comparison, status: str, message: str = "") -> Comparison:
    """Write a new status."""
    changed = comparison.model_copy(update={"status": status, "message": message})
    _write(folder / comparison.id, changed)
    return changed


def draw_comparison(comparison: Comparison, drawing: Drawing) -> Comparison:
    """Draw every cell, column by column; every column starts from the same noise. Finished cells stay when it is cancelled.

    Raises Cancelled, AdapterError and what drawing raises.
    """
    from sdplay import sample
    from sdplay.formats import read_adapter

    config = comparison.config
    shots = [(prompt, seed) for prompt in range(len(config.prompts)) for seed in config.seeds]
    for index, column in enumerate(drawing.columns):
        adapters = [(read_adapter(path), strength) for path, strength in column.adapters]
        with sample.using(drawing.parts, adapters):
            wanted = [sample.Shot(config.prompts[prompt], seed) for prompt, seed in shots]
            pictures = sample.draw(drawing.parts, drawing.family, wanted, config.drawing, cancelled=drawing.cancelled)
            for (prompt, seed), picture in zip(shots, pictures, strict=True):
                cell = Cell(column=index, prompt=prompt, seed=seed, file=f"cells/c{index:02d}-p{prompt:02d}-s{seed}.png")
                sample.write_png(drawing.folder / cell.file, picture, settings_of(comparison, cell))
                comparison = comparison.model_copy(update={"status": "drawing", "cells": (*comparison.cells, cell)})
                _write(drawing.folder, comparison)
    write_grid(drawing.folder, comparison)
    comparison = comparison.model_copy(update={"status": "finished"})
    _write(drawing.folder, comparison)
    return comparison


def settings_of(comparison: Comparison, cell: Cell) -> dict[str, object]:
    """What a cell's PNG says about itself."""
    config = comparison.config
    return {
        **config.drawing.model_dump(),
        "prompt": config.prompts[cell.prompt],
        "seed": cell.seed,
        "base_model": config.base_model,
        "adapter": comparison.labels[cell.column],
        "comparison": comparison.id,
    }


def write_grid(folder: Path, comparison: Comparison) -> None:
    """grid.png and index.html from the cells that are there."""
    picture = grid_picture(folder, comparison)
    beside = folder / ".tmp-grid.png"
    picture.save(beside, "PNG")
    beside.replace(folder / "grid.png")
    write_atomically(folder / "index.html", grid_html(folder, comparison))


def grid_picture(folder: Path, comparison: Comparison) -> Image.Image:
    """Columns side by side under their labels, one row per prompt and seed, the prompt above its row."""
    config = comparison.config
    cells = {(cell.column, cell.prompt, cell.seed): folder / cell.file for cell in comparison.cells if cell.file}
    side = max([MIN_CELL_PX, *(Image.open(path).width for path in list(cells.values())[:1])])
    font = ImageFont.load_default(LABEL_PX)
    row_height = side + LABEL_PX + 2 * MARGIN
    size = (MARGIN + len(comparison.labels) * (side + MARGIN), 3 * MARGIN + LABEL_PX + len(list(rows(config))) * row_height)
    canvas = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)
    for column, label in enumerate(comparison.labels):
        pen.text((MARGIN + column * (side + MARGIN), MARGIN), _fitting(label, side, font, keep_end=True), "black", font)
    for row, (prompt, seed) in enumerate(rows(config)):
        top = 3 * MARGIN + LABEL_PX + row * row_height
        pen.text((MARGIN, top), _fitting(f"{config.prompts[prompt]}  (seed {seed})", size[0] - 2 * MARGIN, font), "#444444", font)
        for column in range(len(comparison.labels)):
            path = cells.get((column, prompt, seed))
            if path:
                with Image.open(path) as cell:
                    canvas.paste(_enlarged(cell, side), (MARGIN + column * (side + MARGIN), top + LABEL_PX + MARGIN // 2))
    return canvas


def rows(config: CompareConfig) -> Iterator[tuple[int, int]]:
    """(prompt index, seed) of every row, in order."""
    for prompt in range(len(config.prompts)):
        for seed in config.seeds:
            yield prompt, seed


def grid_html(folder: Path, comparison: Comparison) -> str:
    """A page that needs no other file: pictures are inside, headers stay while it scrolls."""
    config = comparison.config
    heads = "".join(f"<th>{html.escape(label)}</th>" for label in comparison.labels)
    body = []
    for prompt, seed in rows(config):
        cells = "".join(_html_cell(folder / file) if file else "<td></td>" for file in _row_files(comparison, prompt, seed))
        body.append(f"<tr><th scope=row>{html.escape(config.prompts[prompt])}<br><small>seed {seed}</small></th>{cells}</tr>")
    drawing = config.drawing
    facts = f"{config.base_model} · {drawing.steps} steps · guidance {drawing.guidance_scale:g} · {comparison.created}"
    return _PAGE.format(facts=html.escape(facts), heads=heads, body="\n".join(body))


def _row_files(comparison: Comparison, prompt: int, seed: int) -> list[str]:
    return [comparison.file_of(column, prompt, seed) for column in range(len(comparison.labels))]


def _html_cell(path: Path) -> str:
    return f'<td><img alt="" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"></td>'


def _enlarged(cell: Image.Image, side: int) -> Image.Image:
    picture = cell.convert("RGB")
    return picture if picture.width == side else picture.resize((side, side), Image.Resampling.LANCZOS)


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, *, keep_end: bool = False) -> str:
    """The text, shortened with an ellipsis until it is at most `width` px wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[1:] if keep_end else text[:-1]
    return f"…{text}" if keep_end else f"{text}…"


def _write(folder: Path, comparison: Comparison) -> None:
    write_json(folder / "comparison.json", comparison.model_dump(mode="json"))


_PAGE = """<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>sdplay comparison</title>
<style>
body{{font:15px system-ui,sans-serif;margin:1rem;color:#222;background:#fff}}
table{{border-collapse:separate;border-spacing:6px}} td img{{width:max(128px,16vw);max-width:512px;display:block;border-radius:6px}}
th{{text-align:left;font-weight:600;background:#fff;max-width:16rem;overflow-wrap:anywhere}}
thead th{{position:sticky;top:0;z-index:1}} tbody th{{position:sticky;left:0}}
@media(prefers-color-scheme:dark){{body,th{{background:#16181d;color:#e8e8e8}}}}
</style>
<p>{facts}</p><table><thead><tr><th></th>{heads}</tr></thead><tbody>
{body}
</tbody></table></html>
"""
