"""Find a base model: the embedded one, a folder in diffusers layout, a checkpoint file, or a Hugging Face Hub id."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdplay import families, single_file
from sdplay.errors import ModelError
from sdplay.workspace import PRESETS, open_workspace

MINI = "mini"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
WANTED_FILES = ["model_index.json", "*/config.json", "*/*.json", "*/*.txt", "*/*.model", "*.safetensors.index.json", "*/*.safetensors"]
UNWANTED_FILES = ["safety_checker/*", "*.fp16.safetensors", "*.non_ema.safetensors", "*flax*", "*onnx*", "*openvino*"]
UNWANTED_FILES += ["*.fp16-*.safetensors", "text_encoders/*", "vae_1_0/*"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, how much there is."""


@dataclass(frozen=True)
class Base:
    """A base model on this disk."""

    source: str
    """What the user called it."""
    folder: Path
    family: str
    revision: str
    """The Hub's commit; empty for folders."""
    checkpoint: Path | None = None
    """The one file with the weights, where `folder` has the configs only."""


def find_base(source: str, *, on_progress: Progress | None = None) -> Base:
    """Find `source` and identify its family, downloading it when it is a Hub id that is not here yet. Raises ModelError."""
    if source == MINI:
        return _identified(source, PRESETS / MINI)
    folder = Path(source).expanduser()
    if folder.is_file():
        return _from_file(source, folder.resolve())
    if (folder / "model_index.json").is_file():
        return _identified(source, folder.resolve())
    if folder.exists():
        raise ModelError(f"{source!r} is not a base model: it has no model_index.json.", "Give a folder in diffusers layout.")
    if not HUB_ID.fullmatch(source):
        raise ModelError(
            f"There is no base model {source!r}.",
            "Give `mini`, a Hub id such as owner/name, a folder in diffusers layout, or a .safetensors checkpoint.",
        )
    snapshot = _download(source, on_progress)
    return _identified(source, snapshot, revision=snapshot.name)


def is_here(source: str) -> bool:
    """Whether `find_base` answers without a download: the embedded model, a folder, or a Hub id that is in the cache."""
    if source == MINI or Path(source).expanduser().exists() or not HUB_ID.fullmatch(source):
        return True
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(source, "model_index.json"), str)
    except HFValidationError:
        return False


def _from_file(source: str, path: Path) -> Base:
    if path.suffix != ".safetensors":
        raise ModelError(
            f"{path.name} is not a .safetensors file.",
            "Only these are read as base models; pickled .ckpt files can run programs and are not.",
        )
    found = single_file.inspect_checkpoint(path)
    folder = single_file.layout_folder(found, open_workspace().cache / "layouts")
    return Base(source, folder, found.family, "", path)


def _identified(source: str, folder: Path, *, revision: str = "") -> Base:
    for name in families.NAMES:
        if families.family(name).identify(folder):
            return Base(source, folder, name, revision)
    try:
        kind = json.loads((folder / "model_index.json").read_text(encoding="utf-8")).get("_class_name", "nothing known")
    except (OSError, ValueError):
        raise ModelError(f"The base model {source!r} has no readable model_index.json.", "Download it again.") from None
    raise ModelError(f"The base model {source!r} is a {kind}, which sdplay cannot train yet.", "Choose a Stable Diffusion model.")


def _download(source: str, on_progress: Progress | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    wanted: dict[str, Any] = {"repo_id": source, "allow_patterns": WANTED_FILES, "ignore_patterns": UNWANTED_FILES}
    try:
        return Path(snapshot_download(**wanted, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        pass
    try:
        return Path(snapshot_download(**wanted, tqdm_class=_reporting_bar(source, on_progress)))
    except GatedRepoError:
        raise ModelError(
            f"The base model {source!r} is gated: its owner asks you to accept a licence first.",
            f"Open huggingface.co/{source}, accept, then run `hf auth login` (or set HF_TOKEN) and try again.",
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelError(
            f"There is no public base model {source!r} on the Hub.", "Check the spelling; for a private one run `hf auth login` first."
        ) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"The base model {source!r} could not be downloaded: {type(error).__name__}.",
            "Check the connection and try again, or choose `mini`, which needs no download.",
        ) from error


def _reporting_bar(source: str, on_progress: Progress | None) -> type:
    """A tqdm that says how far the download is, in MB, instead of printing a bar."""
    from tqdm.auto import tqdm

    class ReportingBar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  passes on what tqdm takes
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": False, "file": _Nowhere()})

        def update(self, n: float | None = 1) -> bool | None:
            shown = super().update(n)
            if on_progress and self.unit == "B":
                on_progress(f"downloading {source} (MB)", int(self.n / 2**20), int((self.total or 0) / 2**20))
            return shown

    return ReportingBar


class _Nowhere:
    """A file that forgets."""

    def write(self, text: str) -> int:
        """Forget."""
        return len(text)

    def flush(self) -> None:
        """Nothing to do."""
