"""Write the trained base model as it is committed: float16, every file under 10 MB, with its card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
import yaml
from diffusers import StableDiffusionPipeline

from sdplay import vocabulary
from sdplay.mini import data
from sdplay.mini.looks import looks

MAX_SHARD = "9MB"
CARD = Path(__file__).with_name("card.md")


def ship(model: Path, target: Path) -> None:
    """`model` in diffusers layout, float32 -> `target` in float16, sharded. An older `target` is replaced.

    Raises AssertionError if a file has 10 MB or more, or all together more than 40 MB.
    """
    pipeline = StableDiffusionPipeline.from_pretrained(model, safety_checker=None, dtype=torch.float16)
    shutil.rmtree(target, ignore_errors=True)
    pipeline.save_pretrained(target, max_shard_size=MAX_SHARD)
    shutil.copyfile(CARD, target / "README.md")
    write_vocabulary(target / vocabulary.FILE)
    for path in target.rglob("*.json"):
        _forget_where_it_was_made(path)
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    sizes = [path.stat().st_size for path in target.rglob("*") if path.is_file()]
    assert max(sizes) < 10_000_000, max(sizes)
    assert sum(sizes) < 40_000_000, sum(sizes)


def write_vocabulary(path: Path) -> None:
    """What the captions had in them, for `sdplay.vocabulary`."""
    names = data.trained_names()
    other_names = {other: data.words(name) for name in reversed(names) for other in data.synonyms().get(name, ()) if " " not in other}
    groups = {
        "subjects": [data.words(name) for name in names],
        "styles": [*data.TRAINED_STYLES, *looks()],
        "backgrounds": list(data.BACKGROUNDS),
        "other_names": dict(sorted(other_names.items())),
    }
    head = "# Words that this base was shown in training. It was not shown the other names, which people write.\n"
    path.write_text(head + yaml.safe_dump(groups, sort_keys=False, width=130, default_flow_style=None), encoding="utf-8")


def _forget_where_it_was_made(path: Path) -> None:
    """diffusers notes the folder that weights came from; it means nothing elsewhere."""
    values = json.loads(path.read_text(encoding="utf-8"))
    if values.pop("_name_or_path", None) is not None:
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
