"""The page in other languages than English: catalogues in presets/languages, and the route that hands them out.

The server speaks English. A script in the page, language.js, puts a catalogue's texts in place of it, also in what comes later;
so one server speaks to each visitor in their own language. It is chosen in the header, by `?lang=de`, or by the browser.

/sdplay/languages/<code>.json    {"name": "Deutsch", "texts": {English: German}, "more": {...}}

`texts` are the messages in our own source and presets (see messages.py), `more` those of Gradio and of our scripts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request, Response

from sdplay.engine import Engine
from sdplay.workspace import PRESETS

FOLDER = PRESETS / "languages"
ENGLISH = ("en", "English")
_CODE = re.compile(r"[a-z]{2}")


@dataclass(frozen=True)
class Catalogue:
    """A language."""

    code: str
    name: str
    """What its speakers call it."""
    texts: Mapping[str, str]
    more: Mapping[str, str] = field(default_factory=dict)


def load_catalogue(code: str) -> Catalogue:
    """Raises FileNotFoundError for a language that is not there."""
    values = json.loads(_path(code).read_text(encoding="utf-8"))
    return Catalogue(code, values["name"], values["texts"], values.get("more", {}))


def languages() -> dict[str, str]:
    """What each language is called, by its code; English first."""
    codes = sorted(path.stem for path in FOLDER.glob("*.json"))
    return dict([ENGLISH, *((code, load_catalogue(code).name) for code in codes)])


def script() -> str:
    """For the page's <head>."""
    source = Path(__file__).with_name("language.js").read_text(encoding="utf-8")
    return f"<script>const OFFERED = {json.dumps(languages(), ensure_ascii=False)};\n{source}</script>"


def switch() -> str:
    """A button per language, for the header."""
    buttons = "".join(
        f'<button type="button" data-language="{code}" lang="{code}" translate="no">{name}</button>' for code, name in languages().items()
    )
    return f'<span class="sd-languages" role="group" aria-label="Language">{buttons}</span>'


def add_language_route(app: FastAPI, engine: Engine, is_visitor: Callable[[Request], bool]) -> None:
    """Hand out catalogues. They are no secret, but only who may see the page needs them."""

    @app.get("/sdplay/languages/{code}.json")
    def catalogue(code: str, request: Request) -> Response:
        if not is_visitor(request):
            raise HTTPException(401)
        if not _CODE.fullmatch(code) or not _path(code).is_file():
            raise HTTPException(404)
        return Response(_path(code).read_bytes(), media_type="application/json", headers={"Cache-Control": "private, no-cache"})


def _path(code: str) -> Path:
    return FOLDER / f"{code}.json"
