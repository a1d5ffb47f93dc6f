"""The short list of base models that the page offers: what each is, its licence, and what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sdplay.workspace import PRESETS
from sdplay.yaml_text import parse_yaml


class OfferedBase(BaseModel):
    """One entry of presets/bases.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    """`mini` or a Hub id: what `--base` takes."""
    title: str = Field(min_length=1)
    family: Literal["sd15", "sd2", "sdxl", "sd3"]
    licence: str = Field(min_length=1)
    gated: bool = False
    """Whether its owner asks for an account and a click before the download."""
    download_gb: float = Field(ge=0)
    lora_gb: float | None = Field(gt=0)
    """GPU memory that LoRA takes at its own size and batch 1, about; None: no GPU needed."""
    note: str

    @property
    def facts(self) -> str:
        """One line: what it is and what it takes."""
        download = f"{self.download_gb:g} GB to download once" if self.download_gb else "nothing to download"
        memory = f"LoRA takes about {self.lora_gb:g} GB of GPU memory" if self.lora_gb else "no GPU needed"
        gate = ("accept its licence on the Hub first",) if self.gated else ()
        return f"{self.title}: {self.note.rstrip('.')}; {'; '.join((download, memory, f'licence: {self.licence}', *gate))}."


def load_bases(path: Path = PRESETS / "bases.yaml") -> dict[str, OfferedBase]:
    """Every offered base by id, the embedded one first. Raises pydantic's ValidationError for a wrong entry."""
    entries = parse_yaml(path.read_text(encoding="utf-8"))
    return {name: OfferedBase.model_validate({"id": name, **entry}) for name, entry in entries.items()}
