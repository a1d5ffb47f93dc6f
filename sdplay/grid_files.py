"""What a comparison is handed on as: one picture with headers, one page that needs no other file, one list of settings."""

from __future__ import annotations

import base64
import html
import io
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from sdplay.axes import value_label
from sdplay.compare import Comparison, settings_of
from sdplay.config import CompareConfig
from sdplay.viewer import script, short_label, style, viewer_data
from sdplay.workspace import write_atomically

MARGIN, LABEL_PX, MIN_CELL_PX = 8, 14, 128
LARGE_PAGE = 24 * 2**20
"""Bytes of PNGs above which the page holds WebP instead."""
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def write_grid(folder: Path, comparison: Comparison) -> None:
    """grid.png and index.html from the cells that are there."""
    written = io.BytesIO()
    grid_picture(folder, comparison).save(written, "PNG")
    write_atomically(folder / "grid.png", written.getvalue())
    write_atomically(folder / "index.html", grid_html(folder, comparison))


def rows(config: CompareConfig) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """(prompt index, seed, index of each axis' value) of every row, in order."""
    for prompt, *more, seed in itertools.product(range(len(config.prompts)), *map(range, map(len, config.axes.values())), config.seeds):
        yield prompt, seed, tuple(more)


def row_label(config: CompareConfig, seed: int, more: tuple[int, ...]) -> str:
    """`strength 0.5, seed 1`."""
    values = [value_label(name, values[index]) for (name, values), index in zip(config.axes.items(), more, strict=True)]
    return ", ".join([*values, f"seed {seed}"])


def grid_picture(folder: Path, comparison: Comparison) -> Image.Image:
    """Columns side by side under their labels, one row per prompt, axis value and seed, what it is above its row."""
    config = comparison.config
    cells = {cell.place: folder / cell.file for cell in comparison.drawn}
    side = max([MIN_CELL_PX, *(_width(path) for path in list(cells.values())[:1])])
    font = ImageFont.load_default(LABEL_PX)
    row_height = side + LABEL_PX + 2 * MARGIN
    listed = list(rows(config))
    size = (MARGIN + len(comparison.labels) * (side + MARGIN), 3 * MARGIN + LABEL_PX + len(listed) * row_height)
    canvas = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)
    for column, label in enumerate(comparison.labels):
        pen.text((MARGIN + column * (side + MARGIN), MARGIN), _fitting(short_label(label), side, font, keep_end=True), "black", font)
    for row, (prompt, seed, more) in enumerate(listed):
        top = 3 * MARGIN + LABEL_PX + row * row_height
        text = f"{config.prompts[prompt]}  ({row_label(config, seed, more)})"
        pen.text((MARGIN, top), _fitting(text, size[0] - 2 * MARGIN, font), "#444444", font)
        for column in range(len(comparison.labels)):
            path, corner = cells.get((column, prompt, seed, *more)), (MARGIN + column * (side + MARGIN), top + LABEL_PX + MARGIN // 2)
            if path:
                with Image.open(path) as cell:
                    canvas.paste(_fitted(cell, side), corner)
            else:
                pen.rectangle((*corner, corner[0] + side, corner[1] + side), "#eeeeee")
                pen.text((corner[0] + MARGIN, corner[1] + MARGIN), "not drawn", "#666666", font)
    return canvas


def grid_html(folder: Path, comparison: Comparison) -> str:
    """A page that needs no other file and asks for none: a plain table, which the viewer's script takes over where scripts run."""
    large = sum((folder / cell.file).stat().st_size for cell in comparison.drawn) > LARGE_PAGE
    addresses = {cell.file: _data_url(folder / cell.file, as_webp=large) for cell in comparison.drawn}
    data = viewer_data(comparison, lambda file: f"#{file}")
    return _PAGE.format(
        facts=html.escape(data["facts"]),
        table=_table(comparison, addresses),
        data=_harmless(json.dumps(data, ensure_ascii=False)),
        script=script(),
        style=style(),
    )


def settings_json(comparison: Comparison, results: Mapping[str, Any] | None = None) -> str:
    """What was asked and what every picture shows, for programs; `results` are a blind test's. No paths of this computer are in it."""
    cells = [
        {"file": Path(cell.file).name if cell.file else "", "error": cell.error, **settings_of(comparison, cell)}
        for cell in comparison.cells
    ]
    config = comparison.config.model_dump(mode="json", exclude={"columns"})
    facts = {"id": comparison.id, "created": comparison.created, "status": comparison.status, "columns": comparison.labels}
    return json.dumps({**facts, "asked": config, "cells": cells, "blind_test": results}, indent=1, ensure_ascii=False) + "\n"


def _table(comparison: Comparison, addresses: Mapping[str, str]) -> str:
    config = comparison.config
    heads = "".join(f"<th scope=col>{html.escape(label)}</th>" for label in comparison.labels)
    shown: set[str] = set()
    body = []
    for prompt, seed, more in rows(config):
        head = f"<th scope=row>{html.escape(config.prompts[prompt])}<br><small>{html.escape(row_label(config, seed, more))}</small></th>"
        files = [comparison.file_of(column, prompt, seed, *more) for column in range(len(comparison.labels))]
        body.append(f"<tr>{head}{''.join(_table_cell(file, addresses, shown) for file in files)}</tr>")
    return f"<table><thead><tr><td></td>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _table_cell(file: str, addresses: Mapping[str, str], shown: set[str]) -> str:
    """One picture is held once, however many places show it."""
    if not file or file in shown:
        return "<td></td>"
    shown.add(file)
    return f'<td><img alt="" data-file="{html.escape(file)}" src="{addresses[file]}"></td>'


def _data_url(path: Path, *, as_webp: bool) -> str:
    content, kind = path.read_bytes(), "png"
    if as_webp:
        written = io.BytesIO()
        with Image.open(path) as picture:
            picture.save(written, "WEBP", quality=90)
        content, kind = written.getvalue(), "webp"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _harmless(text: str) -> str:
    """JSON that cannot end the element it stands in."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _width(path: Path) -> int:
    with Image.open(path) as picture:
        return max(picture.size)


def _fitted(cell: Image.Image, side: int) -> Image.Image:
    """The picture whole on a white square of `side` px."""
    scale = side / max(cell.size)
    size = (max(1, round(cell.width * scale)), max(1, round(cell.height * scale)))
    picture = cell.convert("RGB") if size == cell.size else cell.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    square = Image.new("RGB", (side, side), "white")
    square.paste(picture, ((side - size[0]) // 2, (side - size[1]) // 2))
    return square


def _fitting(text: str, width: int, font: Font, *, keep_end: bool = False) -> str:
    """The text, shortened with an ellipsis until it is at most `width` px wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[1:] if keep_end else text[:-1]
    return f"…{text}" if keep_end else f"{text}…"


_PAGE = """<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>sdplay comparison</title>
<style>
:root{{color-scheme:light dark}}
body{{font:15px system-ui,sans-serif;margin:1rem;color:#1f2937;background:#fff}}
#plain{{overflow:auto}} #plain th{{text-align:left;max-width:16rem;overflow-wrap:anywhere}} #plain img{{width:160px;display:block}}
@media(prefers-color-scheme:dark){{body{{background:#0f172a;color:#e5e7eb}}}}
{style}
</style>
<h1>Comparison</h1><p>{facts}</p>
<div id=viewer></div>
<div id=plain tabindex=0>{table}</div>
<script type="application/json" id=data>{data}</script>
<script>
{script}
const data = JSON.parse(document.getElementById('data').textContent);
const files = {{}};
document.querySelectorAll('#plain img').forEach(image => files['#' + image.dataset.file] = image.src);
Object.values(data.cells).forEach(cell => cell.src = files[cell.src] || '');
document.getElementById('plain').hidden = true;
sdplayViewer(document.getElementById('viewer'), {{}}).update(data);
</script></html>
"""
