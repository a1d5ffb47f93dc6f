"""Base models: found, identified, or a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from sdplay.errors import ModelError
from sdplay.families import family
from sdplay.hub import find_base


def test_a_folder_in_diffusers_layout_is_identified(tiny_base: Path) -> None:
    base = find_base(str(tiny_base))

    assert (base.family, base.folder) == ("sd15", tiny_base)


def test_the_embedded_base_is_found_by_name() -> None:
    assert find_base("mini").family == "sd15"


def test_the_native_size_is_known_without_loading(tiny_base: Path) -> None:
    assert family("sd15").native_size(tiny_base) == 32


@pytest.mark.parametrize("source", ["", "no such thing", "../..", "https://example.com/model", "a/b/c"])
def test_what_is_no_base_model_gets_a_sentence(source: str) -> None:
    with pytest.raises(ModelError, match="base model"):
        find_base(source)


def test_another_kind_of_pipeline_is_named(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))

    with pytest.raises(ModelError, match="FluxPipeline"):
        find_base(str(tmp_path))


def test_a_base_without_weights_is_a_sentence(tiny_base: Path, tmp_path: Path) -> None:
    from sdplay.device import best_device

    shutil.copytree(tiny_base, tmp_path / "base")
    (tmp_path / "base" / "unet" / "diffusion_pytorch_model.safetensors").unlink()

    with pytest.raises(ModelError, match="cannot be read"):
        family("sd15").load(tmp_path / "base", best_device(), source="base")


class _Answer:
    """What huggingface_hub's errors want to be made from."""

    headers: dict[str, str] = {}  # noqa: RUF012  read only
    request = None
    status_code = 403


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (GatedRepoError("gated", response=_Answer()), "gated"),  # type: ignore[arg-type]
        (RepositoryNotFoundError("absent", response=_Answer()), "no public base model"),  # type: ignore[arg-type]
        (LocalEntryNotFoundError("offline"), "could not be downloaded"),
    ],
)
def test_each_way_a_download_fails_has_its_advice(monkeypatch: pytest.MonkeyPatch, error: Exception, says: str) -> None:
    def refuse(*_: object, local_files_only: bool = False, **__: object) -> str:
        raise LocalEntryNotFoundError("not here") if local_files_only else error

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)

    with pytest.raises(ModelError, match=says) as caught:
        find_base("owner/name")
    assert caught.value.hint


def test_a_hub_id_is_downloaded_and_identified_with_its_revision(monkeypatch: pytest.MonkeyPatch, tiny_base: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshots" / "0123abc"
    shutil.copytree(tiny_base, snapshot)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda **_: str(snapshot))

    base = find_base("owner/name")

    assert (base.revision, base.family) == ("0123abc", "sd15")
