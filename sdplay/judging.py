"""What sample pictures are like: as like the training pictures as wanted, still what the prompts say, not copies.

The judge is the base model itself, its adapters off, unless CLIP and DINO are on this computer. Scores help to choose a
checkpoint (choice.py); they are of the sample prompts and their one seed, and they do not know what the user likes.
Nothing here changes what is trained: no gradients, random numbers of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sdplay.cache import load_pixels
from sdplay.data import Example
from sdplay.errors import SdplayError
from sdplay.events import Samples
from sdplay.eyes import LOOK, BaseEye, clip_and_dino
from sdplay.families import checked_size
from sdplay.job import Job
from sdplay.material import Material, split
from sdplay.seen import Eye, Seen

MOST_PICTURES = 16
"""Training pictures that samples are compared with."""
ENOUGH = 4
"""With fewer training pictures likeness is a matter of luck: two halves of them are compared to tell what they have in common."""
SMALLEST_GAP = 0.005
"""A view in which the training pictures are no more alike than this above what the base draws says nothing."""
SMALLEST_FIT = 0.05
LIMIT = 2.0


@dataclass
class Judge:
    """Compares rounds of samples with the training pictures and with the first round, which the base drew."""

    eye: Eye
    folder: Path
    """The run's."""
    pictures: Tensor
    """(N, 3, H, W) the training pictures."""
    token: str
    _first: dict[tuple[str, ...], Seen] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Which models judge."""
        return self.eye.name

    @torch.no_grad()
    def scores(self, drawn: Samples) -> dict[str, float] | None:
        """likeness, agreement, nearness as `events.Scores` tells them; None for the first round, when they mean nothing yet."""
        first = [file.replace(f"samples/{drawn.step:06d}/", f"samples/{0:06d}/") for file in drawn.files]
        if drawn.step == 0 or not all((self.folder / file).is_file() for file in first):
            return None
        texts = [_ordinary(prompt, self.token) for prompt in drawn.prompts]
        taught = [index for index, prompt in enumerate(drawn.prompts) if self.token and self.token in prompt]
        taught = taught or list(range(len(texts)))
        before = self._before(tuple(first), texts)
        seen = self.eye.see(self._load(drawn.files), texts)
        found = {
            "likeness": self._likeness(seen.of(taught), before.of(taught)),
            "agreement": float(seen.fits.mean()) / max(float(before.fits.mean()), SMALLEST_FIT),
            "nearness": self._nearness(seen.of(taught)),
        }
        return {name: round(max(-LIMIT, min(LIMIT * 2, value)), 4) if math.isfinite(value) else 0.0 for name, value in found.items()}

    def _before(self, files: tuple[str, ...], texts: Sequence[str]) -> Seen:
        """What the base drew, looked at once."""
        if files not in self._first:
            self._first[files] = self.eye.see(self._load(files), texts)
        return self._first[files]

    def _load(self, files: Sequence[str]) -> Tensor:
        height, width = self.pictures.shape[2:]
        return torch.stack([load_pixels(self.folder / file, (width, height)) for file in files])

    @cached_property
    def _known(self) -> Seen:
        return self.eye.see(self.pictures)

    def _likeness(self, shown: Seen, before: Seen) -> float:
        """Mean over the views of (likeness now - the base's) / (the training pictures' own - the base's).

        Colours and edges are those of all pictures together: one picture of a style has little in common with another of it. Features
        are compared in pairs.
        """
        shares = []
        for name, known in self._known.views.items():
            alike, among = (_together, _halves) if name == LOOK else (_in_pairs, _among_themselves)
            base, own = alike(before.views[name], known), among(known)
            if own - base > SMALLEST_GAP:
                shares.append((alike(shown.views[name], known) - base) / (own - base))
        return sum(shares) / len(shares) if shares else 1.0

    def _nearness(self, shown: Seen) -> float:
        """Median distance of a training picture to its nearest other one / that of a sample to its nearest training picture."""
        known = self._known.places
        if len(known) < 2:
            return 0.0
        among = torch.cdist(known, known)
        among.fill_diagonal_(math.inf)
        nearest = torch.cdist(shown.places, known).min(dim=1).values.median()
        return float(among.min(dim=1).values.median() / nearest.clamp(min=1e-6))


def choose_judge(job: Job, material: Material, tell: Callable[[str], None]) -> Judge | None:
    """The judge that the config wants and this computer has; None for none. `tell` hears why it is another than wanted.

    Raises nothing: a run does not end because it cannot be judged.
    """
    wanted = job.config.judge
    if wanted == "off" or len(job.config.sample_prompts) == 0:
        return None
    eye: Eye | None = None
    if wanted != "base":
        try:
            eye = clip_and_dino(job.device, download=wanted == "clip")
        except SdplayError as error:
            tell(f"CLIP and DINO cannot judge the samples, the base does: {error}")
    side = checked_size(job.parts, job.config.resolution)
    pictures = torch.stack([load_pixels(example.path, (side, side)) for example in _some(_trained_on(job))])
    if len(pictures) < ENOUGH:
        many = "one picture" if len(pictures) == 1 else f"{len(pictures)} pictures"
        tell(f"Likeness is told from {many} here and says little: with {ENOUGH} or more it can be told what they have in common.")
    chosen = eye or BaseEye(job.parts, job.family, material.objective)
    return Judge(chosen, job.run.folder, pictures, job.config.token)


def _ordinary(prompt: str, token: str) -> str:
    """The prompt in words that the base knows: without the trigger word."""
    left = prompt.replace(token, " ") if token else prompt
    return re.sub(r"\s*,(\s*,)+", ",", " ".join(left.split())).strip(" ,")


def _trained_on(job: Job) -> list[Example]:
    return split(job.examples, job.config.validation_share, job.config.seed)[1]


def _some(examples: Sequence[Example]) -> list[Example]:
    """At most MOST_PICTURES, evenly spread."""
    if len(examples) <= MOST_PICTURES:
        return list(examples)
    return [examples[round(index * (len(examples) - 1) / (MOST_PICTURES - 1))] for index in range(MOST_PICTURES)]


def _together(rows: Tensor, others: Tensor) -> float:
    """Bhattacharyya's coefficient of two sets, each the mean of its pictures' shares; rows are square roots of shares."""
    one, other = (F.normalize(part.square().mean(dim=0).sqrt(), dim=0) for part in (rows, others))
    return float(one @ other)


def _halves(rows: Tensor) -> float:
    """The same of every second picture and the rest; 1 for one picture alone."""
    return _together(rows[::2], rows[1::2]) if len(rows) > 1 else 1.0


def _in_pairs(rows: Tensor, others: Tensor) -> float:
    """Mean dot product of a row of each."""
    return float((rows @ others.T).mean())


def _among_themselves(rows: Tensor) -> float:
    """Mean dot product of two different rows; 1 for one row alone, which is like itself."""
    count = len(rows)
    if count < 2:
        return 1.0
    products = F.normalize(rows, dim=1) @ F.normalize(rows, dim=1).T
    return float((products.sum() - products.diagonal().sum()) / (count * (count - 1)))
