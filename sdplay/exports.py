"""Files made on request from what was learned, for other programs and for the Hub, ready to be downloaded.

exports/<name>-<random>/<file>   removed after a day
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sdplay import publish
from sdplay.card import CardFacts, model_card, write_bundle, zipped
from sdplay.columns import parse_column
from sdplay.errors import ConfigError, RunError
from sdplay.workspace import slug

if TYPE_CHECKING:
    from sdplay.engine import Engine

Format = Literal["diffusers", "kohya", "embedding", "merged", "merged-diffusers", "bundle"]
FORMATS: dict[Format, str] = {
    "diffusers": "Adapter for diffusers (.safetensors)",
    "kohya": "Adapter for A1111, ComfyUI and relatives (.safetensors)",
    "embedding": "The word alone, as an embedding (.safetensors)",
    "merged": "The whole model with it in one file (.safetensors)",
    "merged-diffusers": "The whole model with it for diffusers (.zip)",
    "bundle": "Everything with a model card and samples (.zip)",
}
KEPT_SECONDS = 86_400


@dataclass(frozen=True)
class Exports:
    """Makes such files; the engine has the one."""

    engine: Engine

    def make(self, text: str, kind: Format, *, base_model: str = "", with_training_pictures: bool = False) -> Path:
        """Write `RUN`, `FILE` or a mix such as `RUN:0.8+FILE:0.5` in a format, and wait for it. Raises SdplayError.

        base_model: what a mix without a run is merged into. A mix can only be merged.
        """
        if kind not in FORMATS:
            raise ConfigError(f"There is no format {kind!r}.", f"Choose one of: {', '.join(FORMATS)}.")
        column = parse_column(text, self.engine.workspace)
        if column.path is None:
            raise RunError("The base has learned nothing to export.", "Choose a run or an adapter file.")
        if (column.more or column.strength != 1) and kind in ("diffusers", "kohya", "embedding", "bundle"):
            raise ConfigError(f"A mix cannot be written as {kind}.", "Choose one adapter at strength 1, or merge the mix into the base.")
        name = slug(re.sub(r"^[0-9]{8}-[0-9]{6}-", "", column.label), limit=60) or "adapter"
        folder = self._folder(name)
        if kind == "embedding":
            return self._embedding(column.run_id, folder, column.path)
        if kind == "bundle":
            return zipped(self.bundle(column.run_id, folder / name, with_training_pictures=with_training_pictures), folder / f"{name}.zip")
        if kind == "merged":
            return self.engine.export_merged(text, folder / f"{name}.safetensors", base_model=base_model)
        if kind == "merged-diffusers":
            return zipped(self.engine.export_merged(text, folder / name, base_model=base_model), folder / f"{name}-diffusers.zip")
        suffix = ".kohya.safetensors" if kind == "kohya" else ".safetensors"
        return self.engine.export(text, folder / f"{name}{suffix}", layout=kind)

    def card(self, run_id: str) -> str:
        """A run's README.md. Raises RunError."""
        return model_card(self._facts(run_id))

    def bundle(self, run_id: str, folder: Path, *, with_training_pictures: bool = False) -> Path:
        """Fill a folder with a run's files, samples and README.md. Raises RunError when it has no file yet."""
        if not run_id:
            raise RunError("Only a run has a card and samples.", "Choose a run.")
        facts = self._facts(run_id, with_training_pictures=with_training_pictures)
        if not facts.state.artifacts:
            raise RunError(f"Run {facts.run.id} has written no file yet.", "Wait until it has ended.")
        return write_bundle(folder, facts)

    def push(
        self, run_id: str, repository: str, *, token: str = "", private: bool = True, with_training_pictures: bool = False
    ) -> str:  # fmt: skip
        """Upload a run's bundle to the Hub. Returns the address. Raises SdplayError."""
        folder = self._folder("push") / "bundle"
        try:
            self.bundle(run_id, folder, with_training_pictures=with_training_pictures)
            return publish.push_folder(folder, repository, token=token, private=private)
        finally:
            shutil.rmtree(folder.parent, ignore_errors=True)

    def _facts(self, run_id: str, *, with_training_pictures: bool = False) -> CardFacts:
        run = self.engine.run(run_id)
        pictures: Sequence[Path] = ()
        if with_training_pictures:
            pictures = [example.path for example in self.engine.dataset(str(run.settings["dataset"])).examples]
        return CardFacts(run, self.engine.state(run), tuple(pictures))

    def _embedding(self, run_id: str, folder: Path, path: Path) -> Path:
        """The word's own file of a run; a file that is nothing but a word."""
        from sdplay.formats import read_adapter, write_adapter

        adapter = read_adapter(path)
        if not adapter.embeddings:
            raise RunError(f"{run_id or path.name} has learned no word.", "Choose another format.")
        word = next(iter(adapter.embeddings))
        target = folder / f"{slug(word) or 'word'}.safetensors"
        write_adapter(target, type(adapter)(target.name, embeddings={word: adapter.embeddings[word]}, facts=adapter.facts), "kohya")
        return target

    def _folder(self, name: str) -> Path:
        """A new folder; what was made more than a day ago is removed."""
        exports = self.engine.workspace.exports
        exports.mkdir(exist_ok=True)
        for old in exports.iterdir():
            if time.time() - old.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
        folder = exports / f"{name}-{secrets.token_hex(4)}"
        folder.mkdir()
        return folder
