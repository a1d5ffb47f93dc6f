"""What can happen to a run: one small model per event, and the state they add up to.

`events.jsonl` is the only source of a run's status; `fold` turns it into a RunState. Readers skip event types they
do not know, so an older sdplay can read a newer run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

Status = Literal["queued", "running", "stopping", "stopped", "finished", "failed", "interrupted"]
WALL_STEPS = 200
"""Over how many steps the pace is taken that counts what is done between them."""
ENDED: tuple[Status, ...] = ("stopped", "finished", "failed", "interrupted")


class EventBase(BaseModel):
    """When it happened, in seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    time: float = Field(default_factory=time.time)


class Submitted(EventBase):
    """The run waits for the worker; `steps` is its length."""

    event: Literal["submitted"] = "submitted"
    steps: int


class Started(EventBase):
    """The worker took it. `step` is 0, or the checkpoint it resumes from."""

    event: Literal["started"] = "started"
    step: int
    device: str


class Phase(EventBase):
    """What is being done, and how much of it: loading, encoding, training, sampling, saving."""

    event: Literal["phase"] = "phase"
    name: str
    done: int = 0
    total: int = 0


class Step(EventBase):
    """One optimiser step."""

    event: Literal["step"] = "step"
    step: int
    loss: float
    learning_rate: float
    seconds: float


class Validation(EventBase):
    """Loss on held-out pictures at fixed timesteps and noise: comparable between steps."""

    event: Literal["validation"] = "validation"
    step: int
    loss: float


class Samples(EventBase):
    """Sample pictures of one step; files are relative to the run folder, in the order of the prompts."""

    event: Literal["samples"] = "samples"
    step: int
    prompts: tuple[str, ...]
    files: tuple[str, ...]


class Scores(EventBase):
    """What the sample pictures of one step are like, by models at hand; what each number means is in sdplay/choice.py."""

    event: Literal["scores"] = "scores"
    step: int
    judge: str
    """Which models judged: `base`, or the names of others."""
    likeness: float
    """To the training pictures: 0 as like them as what the base draws, 1 as like them as they are to each other."""
    agreement: float
    """With the prompts: 1 as much as what the base draws agrees with them, 0 not at all."""
    nearness: float
    """To the nearest training picture: above 1 the samples are nearer to it than the training pictures are to each other."""
    seconds: float = 0.0


class Memory(EventBase):
    """Memory in use by the process that trains: on a GPU of torch's allocator, else of the program."""

    event: Literal["memory"] = "memory"
    step: int
    num_bytes: int
    peak_bytes: int


class Checkpoint(EventBase):
    """A checkpoint that is complete on disk."""

    event: Literal["checkpoint"] = "checkpoint"
    step: int


class Note(EventBase):
    """Something the user should know, that does not stop the run."""

    event: Literal["note"] = "note"
    text: str


class Halved(EventBase):
    """Memory ran out at a step; from it on each batch goes through in `pieces` pieces. What is learned is the same."""

    event: Literal["halved"] = "halved"
    step: int
    pieces: int
    text: str


class StopRequested(EventBase):
    """Somebody pressed Stop."""

    event: Literal["stop_requested"] = "stop_requested"


class Artifact(EventBase):
    """A file the run made for other programs; `file` is relative to the run folder."""

    event: Literal["artifact"] = "artifact"
    file: str
    format: str
    num_bytes: int
    sha256: str


class Stopped(EventBase):
    """Ended early on request; what was learned until `step` is kept."""

    event: Literal["stopped"] = "stopped"
    step: int


class Finished(EventBase):
    """Ended as planned."""

    event: Literal["finished"] = "finished"
    step: int


class Failed(EventBase):
    """Ended by an error: what happened, what to do."""

    event: Literal["failed"] = "failed"
    message: str
    hint: str = ""


Event = (
    Submitted
    | Started
    | Phase
    | Step
    | Validation
    | Samples
    | Scores
    | Memory
    | Checkpoint
    | Note
    | Halved
    | StopRequested
    | Artifact
    | Stopped
    | Finished
    | Failed
)
_reader: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def read_event(line: bytes | str) -> Event | None:
    """One line of events.jsonl, or None when it is torn or of a type this version does not know."""
    try:
        return _reader.validate_json(line)
    except ValidationError:
        return None


@dataclass(frozen=True)
class RunState:
    """What is known about a run. Nobody stores a status anywhere else."""

    status: Status = "queued"
    step: int = 0
    steps: int = 0
    phase: str = ""
    phase_done: int = 0
    phase_total: int = 0
    device: str = ""
    message: str = ""
    hint: str = ""
    notes: tuple[str, ...] = ()
    submitted_at: float = 0.0
    started_at: float = 0.0
    ended_at: float = 0.0
    losses: tuple[Step, ...] = ()
    validations: tuple[Validation, ...] = ()
    samples: tuple[Samples, ...] = ()
    scores: tuple[Scores, ...] = ()
    memory: Memory | None = None
    """The last that was measured."""
    checkpoints: tuple[int, ...] = ()
    artifacts: tuple[Artifact, ...] = ()

    @property
    def ended(self) -> bool:
        """Nothing more will happen unless it is resumed."""
        return self.status in ENDED

    @property
    def seconds_per_step(self) -> float | None:
        """Median over the last steps; None before the first."""
        recent = sorted(step.seconds for step in self.losses[-20:])
        return recent[len(recent) // 2] if recent else None

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until the last step at the present pace, samples and checkpoints in it; None when it cannot be said."""
        pace = self.seconds_per_step
        return None if pace is None or self.ended else max(pace, self._wall_pace) * (self.steps - self.step)

    @property
    def worked_seconds(self) -> float:
        """How long the run was in work since it was last started; what it took before an interruption is not counted."""
        if not self.started_at:
            return 0.0
        return (self.ended_at or time.time()) - self.started_at

    @property
    def _wall_pace(self) -> float:
        """Seconds per step with what is done between the steps, over those since the last start."""
        recent = [step for step in self.losses[-WALL_STEPS:] if step.time >= self.started_at]
        return (recent[-1].time - recent[0].time) / (len(recent) - 1) if len(recent) > 1 else 0.0


@dataclass
class Fold:
    """Adds up events one by one; series are lists, so that a long run folds in linear time."""

    now: RunState = field(default_factory=RunState)
    losses: list[Step] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)
    samples: list[Samples] = field(default_factory=list)
    scores: list[Scores] = field(default_factory=list)
    checkpoints: list[int] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """The next event, in order."""
        _apply(self, event)

    def state(self) -> RunState:
        """What the events so far add up to."""
        return replace(
            self.now,
            losses=tuple(self.losses),
            validations=tuple(self.validations),
            samples=tuple(self.samples),
            scores=tuple(self.scores),
            checkpoints=tuple(self.checkpoints),
            artifacts=tuple(self.artifacts),
            notes=tuple(dict.fromkeys(self.notes)),
        )

    def rewind(self, step: int) -> None:
        """Forget what an interrupted stretch logged beyond the checkpoint that the run went on from."""
        self.losses = [entry for entry in self.losses if entry.step <= step]
        self.validations = [entry for entry in self.validations if entry.step <= step]
        self.samples = [entry for entry in self.samples if entry.step <= step]
        self.scores = [entry for entry in self.scores if entry.step <= step]
        self.checkpoints = [entry for entry in self.checkpoints if entry <= step]


def fold(events: Iterable[Event]) -> RunState:
    """Add up events in order."""
    folding = Fold()
    for event in events:
        folding.add(event)
    return folding.state()


def _apply(folding: Fold, event: Event) -> None:
    match event:
        case Step():
            folding.losses.append(event)
            folding.now = replace(folding.now, step=event.step)
        case Validation():
            folding.validations.append(event)
        case Samples():
            folding.samples = [entry for entry in folding.samples if entry.step != event.step] + [event]
        case Scores():
            folding.scores = [entry for entry in folding.scores if entry.step != event.step] + [event]
        case Checkpoint():
            folding.checkpoints = [step for step in folding.checkpoints if step != event.step] + [event.step]
        case Artifact():
            folding.artifacts = [entry for entry in folding.artifacts if entry.file != event.file] + [event]
        case Note() | Halved():
            folding.notes.append(event.text)
        case _:
            _apply_status(folding, event)


def _apply_status(folding: Fold, event: Event) -> None:
    state = folding.now
    match event:
        case Submitted():
            folding.now = replace(
                state, status="queued", steps=event.steps, submitted_at=event.time, ended_at=0.0, message="", hint="", phase=""
            )
        case Started():
            folding.rewind(event.step)
            folding.now = replace(state, status="running", step=event.step, device=event.device, started_at=event.time)
        case Memory():
            folding.now = replace(state, memory=event)
        case Phase():
            folding.now = replace(state, phase=event.name, phase_done=event.done, phase_total=event.total)
        case StopRequested() if state.status in ("queued", "running"):
            folding.now = replace(state, status="stopping")
        case Stopped():
            folding.now = replace(state, status="stopped", step=event.step, ended_at=event.time)
        case Finished():
            folding.now = replace(state, status="finished", step=event.step, ended_at=event.time)
        case Failed():
            folding.now = replace(state, status="failed", message=event.message, hint=event.hint, ended_at=event.time)
