"""Pictures and downloads: addresses the page links to, and the route that answers them.

/sdplay/files/<kind>/<id>/<name>?w=160    only pictures and results inside the workspace, never anything else
"""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse
from PIL import Image
from starlette.background import BackgroundTask

from sdplay.data.export import write_zip
from sdplay.engine import Engine
from sdplay.errors import SdplayError
from sdplay.grid_files import settings_json
from sdplay.sample_sets import GALLERY
from sdplay.votes import outcome
from sdplay.workspace import slug

ROUTE = "sdplay/files"
WIDTHS = (160, 320)
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}"
_NAMES = {
    "datasets": re.compile(r"[0-9a-f]{1,64}(\.view|\.mask)?\.(png|jpg)|export\.zip"),
    "samples": re.compile(rf"{_PART}\.png"),
    "gallery": re.compile(rf"{_PART}\.png"),
    "runs": re.compile(rf"samples/[0-9]{{1,9}}/{_PART}\.png|out/{_PART}\.safetensors"),
    "comparisons": re.compile(rf"cells/{_PART}\.png|blind/[0-9a-f]{{20}}\.png|grid\.png|index\.html|cells\.zip"),
    "exports": re.compile(rf"{_PART}\.(safetensors|zip)"),
    "adapters": re.compile(r"[a-z0-9][a-z0-9-]{0,60}\.png"),
    "pictures": re.compile(rf"{_PART}\.png"),
    "styles": re.compile(rf"{_PART}\.png"),
}
_FOREVER = "private, max-age=31536000, immutable"


def file_url(kind: str, item: str, name: str, *, width: int = 0) -> str:
    """Address of a file, relative to the page; with `width` of a smaller copy."""
    return f"{ROUTE}/{kind}/{quote(item)}/{quote(name)}" + (f"?w={width}" if width else "")


def find_file(engine: Engine, kind: str, item: str, name: str) -> Path:
    """The file on disk. Raises FileNotFoundError for everything that is not a picture or result of the workspace."""
    if kind not in _NAMES or not _NAMES[kind].fullmatch(name):
        raise FileNotFoundError(name)
    try:
        folder = _folders(engine)[kind](item)
    except (SdplayError, KeyError) as error:
        raise FileNotFoundError(item) from error
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise FileNotFoundError(name)
    return path


def add_file_route(app: FastAPI, engine: Engine, is_visitor: Callable[[Request], bool]) -> None:
    """Answer the addresses of `file_url`; visitors who have not logged in get 401."""

    @app.get(f"/{ROUTE}/{{kind}}/{{item}}/{{name:path}}", include_in_schema=False)
    def answer(request: Request, kind: str, item: str, name: str, w: int = 0) -> Response:
        if not is_visitor(request):
            raise HTTPException(401)
        try:
            path = find_file(engine, kind, item, name)
            if name == "export.zip":
                return _exported(engine, item)
            if path.name == "cells.zip":
                return _zipped(path.with_suffix(""), settings_json(engine.comparison(item), _blind_result(engine, item)))
            return _nameless(engine, item, path.stem) if path.parent.name == "blind" else _response(path, w)
        except FileNotFoundError:
            raise HTTPException(404) from None


def _folders(engine: Engine) -> dict[str, Callable[[str], Path]]:
    def run_folder(item: str) -> Path:
        run = engine.run(item)
        if run.id != item:
            raise KeyError(item)
        return run.folder

    return {
        "datasets": lambda item: engine.dataset(item).folder / "pictures",
        "samples": lambda item: engine.samples()[item].folder,
        "gallery": lambda item: GALLERY,
        "runs": run_folder,
        "comparisons": engine.comparison_folder,
        "exports": lambda item: engine.workspace.exports / _plain_name(item),
        "adapters": lambda item: engine.workspace.adapters,
        "pictures": lambda item: engine.workspace.pictures,
        "styles": lambda item: engine.styles.folder(item if re.fullmatch("[0-9a-f]{16}", item) else "none"),
    }


def _plain_name(item: str) -> str:
    """A folder's name. Raises KeyError for anything else."""
    if not re.fullmatch(_PART, item):
        raise KeyError(item)
    return item


def _response(path: Path, width: int) -> Response:
    if not path.is_file():
        raise FileNotFoundError(path)
    headers = {"Cache-Control": _FOREVER, "X-Content-Type-Options": "nosniff"}
    if path.suffix not in (".png", ".jpg"):
        return FileResponse(path, headers=headers, filename=path.name, media_type="application/octet-stream")
    if width in WIDTHS and (small := _smaller(path, width, path.stat().st_mtime_ns)):
        return Response(small, media_type="image/webp", headers=headers)
    return FileResponse(path, headers=headers)


@lru_cache(maxsize=512)
def _smaller(path: Path, width: int, changed_at: int) -> bytes | None:
    """WebP of at most `width` px; None when the picture is that small already. Made once for a file as it was at that time."""
    with Image.open(path) as opened:
        if max(opened.size) <= width:
            return None
        opened.draft("RGB", (width * 2, width * 2))
        opened.thumbnail((width, width), Image.Resampling.LANCZOS)
        written = io.BytesIO()
        opened.save(written, "WEBP", quality=85)
    return written.getvalue()


def _nameless(engine: Engine, item: str, token: str) -> Response:
    """A picture of a blind test without what it says about itself, under a name that says nothing either."""
    ballot = engine.grids.ballot(item)
    file = ballot.files().get(token) if ballot else None
    if file is None:
        raise FileNotFoundError(token)
    written = io.BytesIO()
    with Image.open(engine.comparison_folder(item) / file) as picture:
        bare = Image.new("RGB", picture.size)
        bare.paste(picture.convert("RGB"))
    bare.save(written, "PNG")
    return Response(written.getvalue(), media_type="image/png", headers={"Cache-Control": _FOREVER})


def _blind_result(engine: Engine, item: str) -> dict[str, Any] | None:
    """The result of a comparison's blind test once the names are known."""
    ballot = engine.grids.ballot(item)
    return asdict(outcome(ballot, engine.comparison(item).labels)) if ballot and ballot.revealed else None


def _exported(engine: Engine, dataset_id: str) -> Response:
    """The data set as it is now, packed anew each time."""
    dataset = engine.dataset(dataset_id)
    with tempfile.NamedTemporaryFile(prefix="sdplay-", suffix=".zip", delete=False) as file:
        path = write_zip(dataset, Path(file.name))
    gone = BackgroundTask(path.unlink, missing_ok=True)
    headers = {"Cache-Control": "no-store"}
    return FileResponse(
        path, headers=headers, filename=f"{slug(dataset.name) or 'dataset'}.zip", media_type="application/zip", background=gone
    )


def _zipped(folder: Path, settings: str) -> Response:
    pictures = sorted(folder.glob("*.png"))
    if not pictures:
        raise FileNotFoundError(folder)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        for path in pictures:
            archive.write(path, path.name)
        archive.writestr("settings.json", settings)
    disposition = f'attachment; filename="{folder.parent.name}.zip"'
    return Response(written.getvalue(), media_type="application/zip", headers={"Content-Disposition": disposition})
