"""A data set as files that this program, `datasets` and other trainers read: pictures, metadata.jsonl, masks.

metadata.jsonl has one row for each picture: file_name, text, and where there are any, crop (left, top, right, bottom in px)
and left_out. Masks lie in masks/ under the names of their pictures. README.md tells `datasets` which files are pictures.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from sdplay.data.examples import Dataset, Example
from sdplay.data.views import CROP_COLUMN, LEFT_OUT_COLUMN
from sdplay.errors import DataError
from sdplay.workspace import slug

_CARD = """---
task_categories:
- text-to-image
size_categories:
- n<1K
configs:
- config_name: default
  data_files:
  - split: train
    path:
    - metadata.jsonl
    - "*.png"
    - "*.jpg"
---
# {name}

{count} pictures with captions, prepared for fine-tuning Stable Diffusion with sdplay.

Say here where the pictures are from and under which licence they may be used.
"""


def write_zip(dataset: Dataset, path: Path) -> Path:
    """Every picture, also those left out, so that the zip brings the data set back as it is. Returns the path."""
    names = file_names(dataset.pictures)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("metadata.jsonl", metadata(dataset.pictures))
        archive.writestr("README.md", card(dataset, len(dataset.pictures)))
        for example in dataset.pictures:
            archive.write(example.path, names[example.key])
            if example.mask:
                archive.write(example.mask, _mask_name(names[example.key]))
    return path


def write_folder(dataset: Dataset, folder: Path) -> Path:
    """What is trained on, as a folder that `datasets.load_dataset` reads and the Hub shows. Returns the folder."""
    names = file_names(dataset.examples)
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    (folder / "metadata.jsonl").write_text(metadata(dataset.examples), encoding="utf-8")
    (folder / "README.md").write_text(card(dataset, len(dataset.examples)), encoding="utf-8")
    for example in dataset.examples:
        (folder / names[example.key]).write_bytes(example.path.read_bytes())
        if example.mask:
            (folder / _mask_name(names[example.key])).write_bytes(example.mask.read_bytes())
    if not any((folder / "masks").iterdir()):
        (folder / "masks").rmdir()
    return folder


def push_to_hub(folder: Path, repo: str, *, token: str | None, private: bool = True) -> str:
    """Upload a folder written by `write_folder` as a data set of the Hub. Returns its address. Raises DataError."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if not token:
        hint = "Make a write token at huggingface.co/settings/tokens, run `hf auth login` with it on this computer, and press again."
        raise DataError("Nobody is logged in to the Hugging Face Hub.", hint)
    try:
        api = HfApi(token=token)
        api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, repo_type="dataset", folder_path=str(folder), commit_message="Data set from sdplay")
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise DataError(
            f"The Hub did not take {repo[:80]!r} ({type(error).__name__}).",
            "Check the name (owner/name), that your token may write there, and the connection.",
        ) from error
    return f"https://huggingface.co/datasets/{repo}"


def metadata(examples: Sequence[Example]) -> str:
    """The rows of metadata.jsonl. Every row has the same columns, as `datasets` wants it."""
    names = file_names(examples)
    has_crops, has_left_out = any(e.crop for e in examples), any(e.left_out for e in examples)
    rows = []
    for example in examples:
        row: dict[str, object] = {"file_name": names[example.key], "text": example.caption}
        if has_crops:
            row[CROP_COLUMN] = list(example.crop) if example.crop else None
        if has_left_out:
            row[LEFT_OUT_COLUMN] = example.left_out
        rows.append(json.dumps(row, ensure_ascii=False))
    return "".join(f"{row}\n" for row in rows)


def file_names(examples: Sequence[Example]) -> dict[str, str]:
    """Key -> a plain file name like the one the user knows it by, different from all others."""
    names: dict[str, str] = {}
    for example in examples:
        stem = slug(PurePosixPath(example.source).stem) or "picture"
        name, number = f"{stem}{example.path.suffix}", 1
        while name in names.values():
            number += 1
            name = f"{stem}-{number}{example.path.suffix}"
        names[example.key] = name
    return names


def card(dataset: Dataset, count: int) -> str:
    """The README of the folder."""
    return _CARD.format(name=" ".join(dataset.name.split()).lstrip("#- "), count=count)


def _mask_name(name: str) -> str:
    return f"masks/{PurePosixPath(name).stem}.png"
