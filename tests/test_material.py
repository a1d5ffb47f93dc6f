"""What a run learns from: each picture with its own latents, text and mask, whatever order and size it comes in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from sdplay import train
from sdplay.cache import load_pixels
from sdplay.config import LoraConfig
from sdplay.device import Device
from sdplay.diffusion.objective import AnyObjective, step_generator
from sdplay.engine import Engine
from sdplay.families import Conditioning, family
from sdplay.job import Job
from sdplay.losses import Drawn
from sdplay.material import texts_for
from tests.test_train import trained, values

Seen = list[tuple[Drawn, Conditioning]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What the denoiser is given in each step of each run."""
    given: Seen = []
    predict = train._predict

    def watched(job: Job, objective: AnyObjective, drawn: Drawn, conditioning: Conditioning) -> Tensor:
        given.append((drawn, conditioning))
        return predict(job, objective, drawn, conditioning)

    monkeypatch.setattr(train, "_predict", watched)
    return given


def near(first: Tensor, second: Tensor) -> bool:
    return float((first - second).abs().max()) < 1e-5


@torch.no_grad()
def names_of(given: Drawn, conditioning: Conditioning, step: int, folder: Path, base: Path) -> list[tuple[str, str, bool]]:
    """For each picture of a batch: whose latents these are, whose text, and whether it has a mask."""
    parts = family("sd15").load(base, Device("cpu", "CPU"), source="tiny")
    noise = torch.randn(given.x0.shape, generator=step_generator(0, step, 0))
    found = []
    size = (4 * given.x0.shape[3], 4 * given.x0.shape[2])
    paths = [path for path in sorted(folder.glob("*.png")) if ".mask" not in path.name]
    latents = {path.stem: family("sd15").encode_images(parts, load_pixels(path, size)[None]) for path in paths}
    texts = {path.stem: family("sd15").encode_prompts(parts, [path.with_suffix(".txt").read_text()]).hidden for path in paths}
    for row in range(len(given.x0)):
        whose = [stem for stem, (mean, std) in latents.items() if near(mean[0] + std[0] * noise[row], given.x0[row])]
        said = [stem for stem, hidden in texts.items() if near(hidden[0], conditioning.hidden[row])]
        assert len(whose) == len(said) == 1
        found.append((whose[0], said[0], given.area is not None and bool((given.area[row] < 1).any())))
    return found


@pytest.mark.trap(1, 31)
def test_latents_captions_and_masks_of_a_batch_are_of_the_same_pictures_also_when_read_from_the_cache(
    engine: Engine, tiny_base: Path, pictures: Path, seen: Seen
) -> None:
    """Shuffled, in buckets of two shapes, over two epochs; then all but one of them under other names, with a full cache."""
    for name, size in (("amber", (96, 64)), ("navy", (96, 64))):
        Image.new("RGB", size, name.replace("amber", "orange")).save(pictures / f"{name}.png")
        (pictures / f"{name}.txt").write_text(f"a {name} wall")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))
    mask.save(pictures / "blue.mask.png")
    options = {"bucketing": "on", "caption_templates": ["{caption}"], "masked_loss": "mask", "caption_dropout": 0.0, "steps": 8, "seed": 0}
    settings = {"sample_prompts": [], "validation_share": 0.0, **options}

    trained(engine, values(engine, tiny_base, pictures, **settings))
    first = [names_of(drawn, conditioning, step, pictures, tiny_base) for step, (drawn, conditioning) in enumerate(seen)]
    for path in pictures.glob("green.*"):
        path.unlink()
    for path in list(pictures.glob("*")):
        name, _, end = path.name.partition(".")
        path.rename(path.with_name(f"{name[::-1]}.{end}"))
    seen.clear()
    trained(engine, values(engine, tiny_base, pictures, **settings))
    second = [names_of(drawn, conditioning, step, pictures, tiny_base) for step, (drawn, conditioning) in enumerate(seen)]

    for rounds, masked, count in ((first, "blue", 8), (second, "eulb", 7)):
        shown = [entry for batch in rounds for entry in batch]
        assert all(latents == caption for latents, caption, _ in shown)
        assert {latents for latents, _, has_mask in shown if has_mask} == {masked}
        assert len({latents for latents, _, _ in shown}) == count
    assert len({drawn.x0.shape[1:] for drawn, _ in seen}) == 2


@pytest.mark.trap(19)
def test_captions_and_trigger_words_keep_their_capitals() -> None:
    config = LoraConfig(token="Ohwx", class_word="Fox", caption_templates=["A {token} {class}, {caption}"])

    assert texts_for("by Ana, USA", config) == ["A Ohwx Fox, by Ana, USA"]
