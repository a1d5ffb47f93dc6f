"""Lessons of two minutes: what to know, then a button that really does it on the embedded model.

presets/lessons/*.md    a head in YAML between two lines of ---, then the text in Markdown
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sdplay.errors import ConfigError
from sdplay.experiments import Experiment, Material, plan_named
from sdplay.hub import MINI
from sdplay.prompt_sets import in_a_sentence
from sdplay.workspace import PRESETS
from sdplay.yaml_text import parse_yaml

if TYPE_CHECKING:
    from sdplay.engine import Engine

LESSONS = PRESETS / "lessons"


class Action(BaseModel):
    """What the last button of a lesson does: an experiment on a sample data set."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    label: str = Field(min_length=1, max_length=60)
    takes: str
    """What it does and how long it takes, in a sentence."""
    experiment: str
    sample: str
    preset: str = "quick"
    config: dict[str, Any] = {}
    prompts: tuple[str, ...] = ()
    look: str
    """What to look for in the comparison."""


class Lesson(BaseModel):
    """One lesson; its id is the file's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    title: str
    place: int
    minutes: int = Field(ge=1, le=5)
    what: str
    """What one knows afterwards, in a sentence."""
    pictures: tuple[str, ...] = ()
    """Prompts of the gallery whose pictures stand above the text."""
    action: Action
    text: str = Field(min_length=1)


def load_lessons(folder: Path = LESSONS) -> dict[str, Lesson]:
    """Every lesson by its id, in order. Raises ConfigError that names a file that cannot be used."""
    lessons = [read_lesson(path) for path in sorted(folder.glob("*.md"))]
    return {lesson.id: lesson for lesson in sorted(lessons, key=lambda lesson: lesson.place)}


def read_lesson(path: Path) -> Lesson:
    """One lesson. Raises ConfigError."""
    pieces = path.read_text(encoding="utf-8").split("---\n", 2)
    if len(pieces) != 3 or pieces[0].strip():
        raise ConfigError(f"{path.name} has no head.", "Begin it with settings in YAML between two lines of ---.")
    try:
        return Lesson.model_validate({**parse_yaml(pieces[1]), "id": path.stem, "text": pieces[2].strip()})
    except ValidationError as error:
        raise in_a_sentence(error) from error


def start_lesson(engine: Engine, lesson: Lesson) -> Experiment:
    """Do what the lesson's button says. Raises SdplayError."""
    action = lesson.action
    sample = engine.samples()[action.sample]
    plan = plan_named(action.experiment)
    material = Material(
        dataset=engine.sample_dataset(sample.id).id,
        token=sample.token,
        class_word=sample.class_word,
        preset=action.preset,
        prompt_set=sample.prompt_set,
        base_model=MINI,
        config=action.config,
    )
    return engine.experiments.start(plan.model_copy(update={"prompts": action.prompts} if action.prompts else {}), material)
