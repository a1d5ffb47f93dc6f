"""The files that a run leaves: its sample pictures; what it learned, in each layout that others read, loaded again and proved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sdplay import sample, templates
from sdplay.config import GenerateConfig, TrainConfig
from sdplay.errors import AdapterError
from sdplay.events import Artifact, Note, Samples
from sdplay.families import Family, Parts
from sdplay.formats import prove, sha256_of
from sdplay.methods import Trainable
from sdplay.runs import Run
from sdplay.workspace import slug


def draw_samples(run: Run, config: TrainConfig, parts: Parts, family: Family, *, step: int) -> Samples:
    """Every sample prompt with the config's sample seed, with whatever is on the base."""
    values = templates.Values(token=config.token, class_word=config.class_word, style=config.token)
    prompts = [templates.expand_one(prompt, values, 0) for prompt in config.sample_prompts]
    drawing = GenerateConfig(
        steps=config.sample_steps, guidance_scale=config.guidance_scale, size=config.resolution, negative_prompt=config.negative_prompt
    )
    shots = [sample.Shot(prompt, config.sample_seed) for prompt in prompts]
    files = []
    for index, (shot, picture) in enumerate(zip(shots, sample.draw(parts, family, shots, drawing), strict=True)):
        file = f"samples/{step:06d}/{index:02d}-{slug(shot.prompt) or 'prompt'}.png"
        settings = {**drawing.model_dump(), "prompt": shot.prompt, "seed": shot.seed, "base_model": config.base_model}
        sample.write_png(run.folder / file, picture, {**settings, "adapter": f"{run.id}@{step}"})
        files.append(file)
    return Samples(step=step, prompts=tuple(prompts), files=tuple(files))


def write_results(folder: Path, file: str, trainable: Trainable, parts: Parts, family: Family) -> Iterator[Artifact | Note]:
    """Write `folder`/`file` and what belongs beside it; tell of every file, and of the first one that does not work.

    Such a file is kept, and the note says what is wrong with it.
    """
    written = trainable.export(folder / file)
    for path, title in written.items():
        yield Artifact(file=str(path.relative_to(folder)), format=title, num_bytes=path.stat().st_size, sha256=sha256_of(path))
    try:
        for path in written:
            prove(path, parts, family)
    except AdapterError as error:
        yield Note(text=str(error))
