"""What a visitor may name: on their own computer any path, on a public server only uploads and Hub ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gradio.utils import get_upload_folder

from sdplay.errors import AdapterError, DataError, ModelError
from sdplay.hub import HUB_ID, MINI


@dataclass(frozen=True)
class Access:
    """local: the visitor is the person who started the server.  base_model: the base the server was started with."""

    local: bool = True
    base_model: str = MINI

    def sources(self, sources: Sequence[str]) -> list[str]:
        """Data set sources as the engine takes them. Raises DataError for a path on a public server."""
        for source in sources:
            if not self.local and not _is_upload(source) and not _is_hub_id(source):
                raise DataError(f"{source[:80]!r} is neither an upload nor a Hub data set.", "Upload the files, or give owner/name.")
        return list(sources)

    def columns(self, columns: Sequence[str]) -> list[str]:
        """Columns of a comparison. Raises AdapterError for a file that was not uploaded here."""
        for column in (piece.strip() for whole in columns for piece in whole.split("+")):
            what = column.rsplit(":", 1)[0] if not column.endswith(".safetensors") else column
            kept = Path(what).name == what  # brought earlier; the workspace knows it by its name
            if not self.local and what.endswith(".safetensors") and not kept and not _is_upload(what):
                raise AdapterError(f"{column[:80]!r} was not uploaded.", "Upload the adapter file, or choose a run.")
        return list(columns)

    def picture(self, path: str) -> str:
        """A start picture or mask, or nothing. Raises DataError for a path on a public server."""
        if path and not self.local and not _is_upload(path):
            raise DataError(f"{Path(path).name[:80]!r} was not uploaded.", "Upload the picture.")
        return path

    def base(self, base_model: str) -> str:
        """A base model. Raises ModelError for a folder on a public server."""
        if not self.local and base_model not in (MINI, self.base_model) and not _is_hub_id(base_model):
            raise ModelError(f"There is no base model {base_model[:80]!r}.", "Give `mini` or a Hub id such as owner/name.")
        return base_model

    def may_name(self, base_model: str) -> bool:
        """Whether `base` takes it: of other folders on a public server nothing is told, not even whether they are there."""
        try:
            return bool(base_model and self.base(base_model))
        except ModelError:
            return False


def _is_upload(source: str) -> bool:
    return Path(source).resolve().is_relative_to(Path(get_upload_folder()).resolve())


def _is_hub_id(source: str) -> bool:
    return bool(HUB_ID.fullmatch(source)) and not Path(source).exists()
