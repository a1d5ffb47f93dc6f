"""An experiment: several trainings that differ in one thing, all else equal, and one comparison at the end.

experiments/<id>/experiment.json    what is asked, the runs, the comparison when there is one

The runs are queued at once. Every run has the same seed, so they share their noise and the order of their pictures. Where the
program ends before the last run, `Experiments.watch` draws the comparison when it is asked about the experiment again.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sdplay import templates
from sdplay.columns import BASE
from sdplay.errors import ConfigError, RunError, SdplayError
from sdplay.presets import DEFAULT_METHOD, DEFAULT_TOKEN, adapted, compose_training, training_preset
from sdplay.prompt_sets import PromptSet, in_a_sentence, read_yaml
from sdplay.workspace import PRESETS, slug, write_json

if TYPE_CHECKING:
    from sdplay.engine import Engine
    from sdplay.events import RunState

LOG = logging.getLogger("sdplay")
EXPERIMENT_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9-]{1,48}-[0-9a-f]{4}")
MAX_VARIANTS, MAX_PROMPTS = 8, 6
WAIT_SECONDS = 0.3


class Variant(BaseModel):
    """One training: what it is called, and what is different from the others."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(min_length=1, max_length=40)
    config: dict[str, Any] = {}
    """Settings that replace the shared ones; `preset` and `prompt_set` may be among them."""
    columns: tuple[str, ...] = ("{run}",)
    """Its columns in the comparison, `{run}` standing for the run: `{run}@50`, `{run}:0.5`."""


class Plan(BaseModel):
    """What an experiment does. A file of presets/experiments, or the user's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(min_length=1, max_length=40)
    title: str = Field(min_length=1, max_length=80)
    why: str = ""
    config: dict[str, Any] = {}
    """Settings of every training, on top of the preset."""
    variants: tuple[Variant, ...] = Field(min_length=1, max_length=MAX_VARIANTS)
    prompts: tuple[str, ...] = Field(default=(), max_length=MAX_PROMPTS)
    """What the comparison draws; empty: the prompt set's."""
    seeds: tuple[int, ...] = (1,)
    drawing: dict[str, Any] = {}

    def model_post_init(self, context: object) -> None:
        """Two trainings of one name could not be told apart. Raises ConfigError."""
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ConfigError("Two variants have the same name.", "Give each its own.")


class Experiment(BaseModel):
    """experiment.json."""

    model_config = ConfigDict(frozen=True)
    id: str
    created: str
    plan: Plan
    base_model: str
    runs: tuple[str, ...]
    """Of each variant, in order."""
    prompts: tuple[str, ...]
    drawing: dict[str, Any] = {}
    comparison: str = ""
    message: str = ""
    """Why there is no comparison and will be none."""


@dataclass(frozen=True)
class Material:
    """What an experiment is done with: the same for every variant."""

    dataset: str
    token: str
    class_word: str = ""
    preset: str = "quick"
    prompt_set: str = ""
    """Empty: the preset's own."""
    words: PromptSet | None = None
    """In place of a named set: what is on the page."""
    base_model: str = "mini"
    config: Mapping[str, object] | None = None
    """More settings, such as the page's form holds; they stand above the preset and below the plan."""


def load_plans(folder: Path = PRESETS / "experiments") -> dict[str, Plan]:
    """Every shipped plan by its file's name."""
    return {path.stem: read_plan(path) for path in sorted(folder.glob("*.yaml"))}


def read_plan(path: Path) -> Plan:
    """One plan; its name is the file's. Raises ConfigError."""
    return make_plan({**read_yaml(path), "name": slug(path.stem) or "experiment"})


def make_plan(fields: Mapping[str, object]) -> Plan:
    """A plan from plain values. Raises ConfigError."""
    try:
        return Plan.model_validate(dict(fields))
    except ValidationError as error:
        raise in_a_sentence(error) from error


def plan_named(name: str) -> Plan:
    """A shipped plan by name, or the user's own by the path of its YAML file. Raises ConfigError."""
    if name.endswith((".yaml", ".yml")):
        return read_plan(Path(name).expanduser())
    plans = load_plans()
    if name not in plans:
        raise ConfigError(f"There is no experiment {name!r}.", f"Choose one of: {', '.join(plans)}; or give a YAML file.")
    return plans[name]


class Experiments:
    """The experiments of a workspace. `engine` trains and draws."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        self._drawing = threading.Lock()

    def start(self, plan: Plan, material: Material) -> Experiment:
        """Queue every variant and the comparison after them. Raises SdplayError; then what was queued is stopped again."""
        configs = [self._values(plan, variant, material) for variant in plan.variants]
        prompts = self._prompts(plan, material)
        runs: list[str] = []
        try:
            for variant, values in zip(plan.variants, configs, strict=True):
                runs.append(self._engine.submit(values, name=f"{plan.name} {variant.name}"))
        except SdplayError:
            for run_id in runs:
                self._engine.stop(run_id)
            raise
        now = datetime.now()
        experiment = Experiment(
            id=f"{now:%Y%m%d-%H%M%S}-{slug(plan.name, limit=40)}-{secrets.token_hex(2)}",
            created=now.isoformat(timespec="seconds"),
            plan=plan,
            base_model=material.base_model,
            runs=tuple(runs),
            prompts=tuple(prompts),
            drawing={"guidance_scale": configs[0].get("guidance_scale", 4.0), **plan.drawing},
        )
        self._write(experiment)
        threading.Thread(target=self._follow, args=(experiment.id,), name=f"sdplay-{experiment.id}", daemon=True).start()
        return experiment

    def open(self, experiment_id: str) -> Experiment:
        """An experiment by id. Raises RunError."""
        path = self._folder / experiment_id / "experiment.json"
        if not EXPERIMENT_ID.fullmatch(experiment_id) or not path.is_file():
            raise RunError(f"There is no experiment {experiment_id[:60]!r}.", "It was deleted, or its name is wrong.")
        try:
            return Experiment.model_validate_json(path.read_bytes())
        except ValidationError:
            raise RunError(f"The experiment {experiment_id} cannot be read.", "Start it again.") from None

    def ids(self) -> list[str]:
        """Ids, newest first."""
        return sorted((path.parent.name for path in self._folder.glob("*/experiment.json")), reverse=True)

    def of(self, plan: str) -> Sequence[str]:
        """Ids of the experiments of a plan, newest first."""
        name = slug(plan, limit=40)
        return [experiment_id for experiment_id in self.ids() if experiment_id[16:-5] == name]

    def states(self, experiment: Experiment) -> list[RunState | None]:
        """The state of every variant's run, in order; None for one that was deleted."""
        return [self._state(run_id) for run_id in experiment.runs]

    def watch(self, experiment_id: str) -> Experiment:
        """The experiment as it is now; when all runs have ended and nobody has drawn the comparison yet, it is queued. Raises RunError."""
        experiment = self.open(experiment_id)
        if experiment.comparison or experiment.message:
            return experiment
        states = self.states(experiment)
        if all(state is None or state.ended for state in states):
            return self._compare(experiment_id)
        return experiment

    def wait(self, experiment_id: str, *, tick: Callable[[Experiment], None] | None = None) -> Experiment:
        """Block until the comparison is queued, or cannot be."""
        while True:
            experiment = self.watch(experiment_id)
            if tick:
                tick(experiment)
            if experiment.comparison or experiment.message:
                return experiment
            time.sleep(WAIT_SECONDS)

    def _values(self, plan: Plan, variant: Variant, material: Material) -> dict[str, object]:
        own: dict[str, Any] = {**plan.config, **variant.config}
        preset = training_preset(str(own.pop("preset", material.preset)))
        method = str(own.get("method") or (material.config or {}).get("method") or preset.config.get("method", DEFAULT_METHOD))
        if "preset" in variant.config:
            method = str(preset.config.get("method", method))
        changes = {**adapted({"method": DEFAULT_METHOD, **(material.config or {})}, method), **own}
        chosen = self._words(changes.pop("prompt_set", ""), material, preset.prompt_set_for(material.base_model))
        words = {"token": material.token or DEFAULT_TOKEN, "class_word": material.class_word}
        fixed = {"dataset": material.dataset, "base_model": material.base_model}
        return compose_training(preset, chosen, {**words, **changes, **fixed})

    def _prompts(self, plan: Plan, material: Material) -> Sequence[str]:
        preset = training_preset(str(plan.config.get("preset", material.preset)))
        chosen = self._words(plan.config.get("prompt_set"), material, preset.prompt_set_for(material.base_model))
        given = [self._engine.resolve(prompt) for prompt in (plan.prompts or chosen.prompts("compare")[:MAX_PROMPTS])]
        token = material.token or DEFAULT_TOKEN
        values = templates.Values(token=token, class_word=material.class_word, style=token)
        return list(dict.fromkeys(templates.expand_one(prompt, values, 0) for prompt in given))

    def _words(self, named: object, material: Material, usual: str) -> PromptSet:
        if not named and material.words:
            return material.words
        return self._engine.prompt_set(str(named or material.prompt_set or usual))

    def _state(self, run_id: str) -> RunState | None:
        try:
            return self._engine.state(self._engine.run(run_id))
        except RunError:
            return None

    def _follow(self, experiment_id: str) -> None:
        try:
            self.wait(experiment_id)
        except SdplayError as error:
            LOG.warning("experiment %s: %s", experiment_id, error)

    def _compare(self, experiment_id: str) -> Experiment:
        """Queue the comparison once, whoever asks first."""
        with self._drawing:
            experiment = self.open(experiment_id)
            if experiment.comparison or experiment.message:
                return experiment
            ended_runs = zip(experiment.plan.variants, experiment.runs, self.states(experiment), strict=True)
            learned = [column for variant, run_id, state in ended_runs if state for column in _columns(variant, run_id, state)]
            try:
                if not learned:
                    raise RunError("No training of this experiment has learned anything.", "See under Runs why they ended.")
                asked = {"base_model": experiment.base_model, "columns": [BASE, *learned], "prompts": experiment.prompts}
                made = self._engine.compare({**asked, "seeds": experiment.plan.seeds, "drawing": experiment.drawing})
                ended = experiment.model_copy(update={"comparison": made})
            except SdplayError as error:
                ended = experiment.model_copy(update={"message": str(error)})
            self._write(ended)
            return ended

    def _write(self, experiment: Experiment) -> None:
        write_json(self._folder / experiment.id / "experiment.json", experiment.model_dump(mode="json"))


def _columns(variant: Variant, run_id: str, state: RunState) -> list[str]:
    """What of a variant's columns there is: a run that was stopped early lacks its later checkpoints, one that failed lacks all."""
    there = {str(step) for step in state.checkpoints}
    wanted = [column.replace("{run}", run_id) for column in variant.columns] if there else []
    return [column for column in wanted if "@" not in column or column.partition("@")[2].partition(":")[0] in there]
