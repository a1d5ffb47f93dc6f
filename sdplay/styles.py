"""Styles: templates around a prompt, and small pictures of each, drawn by the base that is in use.

presets/styles/*.yaml, and the user's own in the workspace's styles folder
cache/styles/<base>/*.png    drawn in the background, kept until the base's weights change
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, field_validator, model_validator
from typing_extensions import Self

from sdplay.config import GenerateConfig
from sdplay.errors import SdplayError, TemplateError
from sdplay.hub import MINI
from sdplay.prompt_sets import in_a_sentence, read_yaml
from sdplay.templates import split_negative
from sdplay.workspace import PRESETS

if TYPE_CHECKING:
    from sdplay.engine import Engine
    from sdplay.families import Family, Parts

LOG = logging.getLogger("sdplay")
PROMPT = "{prompt}"
SUBJECTS = {MINI: "fox"}
"""What the pictures show, by base; a subject that it draws well."""
OTHER_SUBJECT = "a red fox in a meadow"
THUMBNAIL_STEPS, THUMBNAIL_PX = 12, 192


class Style(BaseModel):
    """One file. Raises SdplayError."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str = Field(min_length=1)
    title: str = Field(min_length=1, max_length=60)
    prompt: str = Field(min_length=1, max_length=400)
    """What stands around `{prompt}`."""
    negative: str = Field(default="", max_length=400)
    base_models: tuple[str, ...] = ()
    """Bases whose words these are; empty: any that is not the embedded one."""

    @field_validator("prompt")
    @classmethod
    def _goes_around_a_prompt(cls, given: str) -> str:
        if given.count(PROMPT) != 1:
            raise TemplateError(f"The style {given[:60]!r} does not hold {PROMPT} once.", "Write it where the prompt goes.")
        return given

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:  # noqa: ANN401  whatever the file holds
        try:
            return handler(given)
        except ValidationError as error:
            raise in_a_sentence(error) from error

    def suits(self, base_model: str) -> bool:
        """Whether the base knows these words: the embedded one knows only its own."""
        return base_model in self.base_models if self.base_models else base_model != MINI

    def around(self, prompt: str) -> str:
        """The style around a prompt, negatives of both joined."""
        text, own = split_negative(prompt)
        negative = ", ".join(filter(None, (own, self.negative)))
        styled = self.prompt.replace(PROMPT, text)
        return f"{styled} --n {negative}" if negative else styled


def load_styles(folders: Sequence[Path]) -> dict[str, Style]:
    """Every style by its file's name; a later folder wins. Files that cannot be used are logged and left out."""
    found = {}
    for path in (path for folder in folders for path in sorted(folder.glob("*.yaml"))):
        try:
            found[path.stem] = Style(id=path.stem, **read_yaml(path))
        except SdplayError as error:
            LOG.warning("Style %s left out: %s", path.name, error)
    return found


class StyleLibrary:
    """The styles of a workspace, and their pictures by base."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._drawing: set[str] = set()
        self._guard = threading.Lock()

    def styles(self) -> dict[str, Style]:
        """All of them by id."""
        return load_styles([PRESETS / "styles", self._engine.workspace.root / "styles"])

    def suited(self, base_model: str) -> list[Style]:
        """Those whose words a base knows, by title."""
        return sorted((style for style in self.styles().values() if style.suits(base_model)), key=lambda style: style.title.casefold())

    def folder(self, key: str) -> Path:
        """Where the pictures of a base are; `key` is `key_of` the base."""
        return self._engine.workspace.cache / "styles" / key

    def drawn(self, base_model: str) -> set[str]:
        """Ids of the styles whose picture is there."""
        return {path.stem for path in self.folder(key_of(base_model)).glob("*.png")}

    def busy(self, base_model: str) -> bool:
        """Whether its pictures are being drawn now."""
        return base_model in self._drawing

    def draw_missing(self, base_model: str) -> bool:
        """Begin to draw, in the background, what is missing. False when nothing is, or a training runs: that goes first."""
        with self._guard:
            missing = [style for style in self.suited(base_model) if style.id not in self.drawn(base_model)]
            if not missing or self.busy(base_model) or self._engine.active_run():
                return False
            self._drawing.add(base_model)
        threading.Thread(target=self._draw, args=(base_model, missing), name="sdplay-styles", daemon=True).start()
        return True

    def _draw(self, base_model: str, styles: Sequence[Style]) -> None:
        try:
            for style in styles:
                if self._engine.active_run():
                    return
                self._engine.in_worker(base_model, partial(_draw_one, style=style, folder=self.folder(key_of(base_model)))).result()
        except SdplayError as error:
            LOG.warning("pictures of the styles: %s", error)
        finally:
            self._drawing.discard(base_model)


def key_of(base_model: str) -> str:
    """A folder name for a base."""
    return sha256(base_model.encode()).hexdigest()[:16]


def _draw_one(parts: Parts, family: Family, *, style: Style, folder: Path) -> None:
    """Draw a style's picture. Pictures of other weights under the same name are thrown away."""
    from PIL import Image

    from sdplay import sample

    stamp = folder / "fingerprint.txt"
    if not stamp.is_file() or stamp.read_text() != parts.fingerprint:
        for path in folder.glob("*.png"):
            path.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        stamp.write_text(parts.fingerprint)
    prompt = style.around(SUBJECTS.get(parts.source, OTHER_SUBJECT))
    config = GenerateConfig(steps=THUMBNAIL_STEPS, guidance_scale=4.0 if parts.source == MINI else 7.0)
    with sample.using(parts, []):
        picture = next(iter(sample.draw(parts, family, [sample.Shot(prompt, 1)], config)))
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    sample.write_png(folder / f"{style.id}.png", picture, {"prompt": prompt, "seed": 1, "steps": config.steps, "base_model": parts.source})
