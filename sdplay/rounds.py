"""What a run shows of itself now and then: sample pictures, what they are like, and the memory in use."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

from sdplay.device import memory_in_use
from sdplay.events import Memory, Note, Phase, Samples, Scores
from sdplay.job import Hooks, Job
from sdplay.judging import Judge, choose_judge
from sdplay.material import Material
from sdplay.results import draw_samples


@dataclass
class SampleRounds:
    """Draws the sample prompts with what the run has learned so far, and judges them."""

    job: Job
    hooks: Hooks
    material: Material

    @cached_property
    def judge(self) -> Judge | None:
        """Made with the first round; None when the config wants none."""
        return choose_judge(self.job, self.material, lambda text: self.hooks.emit(Note(text=text)))

    def draw(self, step: int) -> None:
        """One round, judged; step 0 is the base."""
        if not self.job.config.sample_prompts:
            return
        self.hooks.emit(Phase(name="sampling", total=len(self.job.config.sample_prompts)))
        drawn = draw_samples(self.job.run, self.job.config, self.job.parts, self.job.family, step=step)
        self.hooks.emit(drawn)
        self._judge(drawn)

    def tell_memory(self, step: int) -> None:
        """As an event, where it can be measured."""
        used, peak = memory_in_use(self.job.device)
        if used:
            self.hooks.emit(Memory(step=step, num_bytes=used, peak_bytes=peak))

    def _judge(self, drawn: Samples) -> None:
        """Scores as an event; step 0 is what they are measured against and gets none."""
        judge = self.judge
        first = self.job.run.folder / "samples" / f"{0:06d}"
        if judge is None or (drawn.step and not first.is_dir()):
            return
        started = time.perf_counter()
        scores = judge.scores(drawn)
        if scores is not None:
            seconds = time.perf_counter() - started
            self.hooks.emit(
                Scores(
                    step=drawn.step,
                    judge=judge.name,
                    likeness=scores["likeness"],
                    agreement=scores["agreement"],
                    nearness=scores["nearness"],
                    seconds=seconds,
                )
            )
