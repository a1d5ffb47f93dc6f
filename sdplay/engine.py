"""The one door: the page, the command line and the API ask this object and nothing else.

Everything a run or a comparison must not forget is in its folder, so any number of engines may look at it. What needs the
accelerator goes to the worker.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sdplay import hub, templates
from sdplay.asked import Asked, Drawn, Watch, draw_asked, draw_frames, given
from sdplay.bases import OfferedBase, load_bases
from sdplay.columns import Column, parse_column
from sdplay.compare import Comparison
from sdplay.comparisons import Comparisons
from sdplay.config import AnimateConfig, DrawConfig, GenerateConfig, TrainConfig, WordsConfig, parse
from sdplay.data import Dataset, DatasetStore
from sdplay.door import check_before_a_run
from sdplay.errors import ConfigError, DataError, RunError
from sdplay.estimate import Estimate
from sdplay.estimates import Estimates
from sdplay.events import RunState
from sdplay.experiments import Experiments
from sdplay.exports import Exports
from sdplay.film import check_film, write_film
from sdplay.forecasts import Forecasts
from sdplay.history import History
from sdplay.library import Library
from sdplay.longer import checked_total
from sdplay.methods import parse_train_config
from sdplay.picture_jobs import PictureJobs
from sdplay.price import hardware_named
from sdplay.prompt_sets import PromptSet, load_prompt_sets, save_prompt_set
from sdplay.runs import Request, Run, RunFollower, create_run, list_runs, open_run
from sdplay.sample_sets import Sample, load_samples
from sdplay.start import open_start
from sdplay.styles import StyleLibrary
from sdplay.vocabulary import KnownWords
from sdplay.wildcards import load_wildcards, resolve, spelt_out
from sdplay.worker import Worker
from sdplay.workspace import PRESETS, Workspace, slug

if TYPE_CHECKING:
    from sdplay.advice import Advice
    from sdplay.families import Family, Parts, TokenCount
    from sdplay.formats import Report
    from sdplay.plan import MemoryPlan, Precision
    from sdplay.trigger import TriggerReport

NATIVE_SIZES = {"sd15": 512, "sd2": 768, "sdxl": 1024, "sd3": 1024}
"""Of bases that are not here yet, px."""
Result = TypeVar("Result")


class Engine:
    """Submit, stop, resume, draw, compare, list. Any thread may call; all return at once, but for what draws pictures."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.datasets = DatasetStore(workspace.datasets)
        self.device_label = ""
        self.experiments = Experiments(self, workspace.experiments)
        self.styles = StyleLibrary(self)
        self._worker = Worker(self.datasets, workspace.cache)
        self._estimates = Estimates(self._worker.train)
        self.grids = Comparisons(workspace, self._worker)
        self.picture_jobs = PictureJobs(self.datasets, self._worker)
        self._followers: dict[str, RunFollower] = {}
        self._making_samples = threading.Lock()
        self.history = History(workspace, self.state)
        self.library = Library(workspace)
        self.known_words = KnownWords(workspace, self.datasets)
        self.exports = Exports(self)
        self.forecasts = Forecasts(self)

    # ---- runs

    def submit(self, values: Mapping[str, object], *, name: str = "") -> str:
        """Check a training config and queue it. Returns the run's id. Raises SdplayError; then nothing was written."""
        config, dataset = self._checked(values)
        self._worker.require_room()
        facts = {"dataset": {"id": dataset.id, "name": dataset.name, "pictures": len(dataset.examples)}}
        run = create_run(self.workspace.runs, config, name=name, facts=facts)
        self._estimates.keep(run, config)
        self._train(run, config.steps)
        return run.id

    def estimate(self, values: Mapping[str, object], *, hardware: str = "") -> Estimate:
        """What such a run takes, by training its first steps now; waits for it. Raises SdplayError, RunError while a run is going on.

        hardware: a name in presets/hardware.yaml, for the price.
        """
        config, _ = self._checked(values)
        priced = hardware_named(hardware) if hardware else None
        if active := self.active_run():
            raise RunError(f"The run {active.id} is going on, which would spoil the measurement.", "Wait until it has ended, or stop it.")
        return self._estimates.measure(config, priced)

    def _checked(self, values: Mapping[str, object]) -> tuple[TrainConfig, Dataset]:
        config = parse_train_config(spelt_out(values, self.resolve))
        check_train_config(config)
        dataset = self.datasets.open(config.dataset)
        if not dataset.examples:
            raise ConfigError(f"The data set {dataset.name!r} has no pictures.", "Add at least one, better 10 to 20.")
        _check_trigger(config, dataset)
        check_before_a_run(config, dataset, self.datasets, self.workspace)
        return config, dataset

    def resume(self, run_id: str) -> str:
        """Let an interrupted, stopped or failed run go on from its newest checkpoint. Raises RunError if it cannot."""
        run = self.run(run_id)
        state = run.state()
        if not state.ended:
            raise RunError(f"Run {run.id} is {state.status}.", "Only a run that has ended can be resumed.")
        if state.status == "finished":
            raise RunError(f"Run {run.id} is finished: all {state.steps} steps are done.", "Continue it with more steps.")
        self._train(run, state.steps)
        return run.id

    def continue_run(self, run_id: str, more_steps: int) -> str:
        """Let a run that has ended go on for more steps than it was made for, from its newest checkpoint. Raises SdplayError."""
        run = self.run(run_id)
        state = run.state()
        if not state.ended:
            raise RunError(f"Run {run.id} is {state.status}.", "Only a run that has ended can be continued.")
        if not state.checkpoints:
            raise RunError(f"Run {run.id} has no checkpoint to go on from.", "Start a new one with its settings.")
        self._train(run, checked_total(state.steps, more_steps))
        return run.id

    def ask_for(self, run_id: str, what: Request) -> None:
        """Ask a run for sample pictures or a checkpoint after its next step, whichever process trains it. Raises RunError."""
        run = self.run(run_id)
        state = self.state(run)
        if state.status not in ("queued", "running"):
            raise RunError(f"Run {run.id} is {state.status}.", "Only a run that trains can be asked.")
        if what == "sample" and not run.settings.get("sample_prompts"):
            raise RunError(f"Run {run.id} has no sample prompts.", "Give some under Prompts before you start a run.")
        run.request(what)

    def _train(self, run: Run, steps: int) -> None:
        self._worker.train(run, steps)
        self.history.look_again()

    def train_next(self, run_id: str) -> None:
        """Let a waiting run go before the others that wait. Raises RunError."""
        self._worker.put_first(self.run(run_id).id)

    def stop(self, run_id: str) -> None:
        """Ask a run to stop at its next step and keep what it has, whichever process trains it. Raises RunError."""
        run = self.run(run_id)
        state = run.state()
        if state.ended:
            raise RunError(f"Run {run.id} is {state.status} already.", "There is nothing to stop.")
        run.request_stop()

    def run(self, run_id: str) -> Run:
        """A run by id or an unambiguous part of it, or `last`. Raises RunError."""
        return open_run(self.workspace.runs, run_id)

    def runs(self) -> list[Run]:
        """Every run, newest first."""
        return list_runs(self.workspace.runs)

    def state(self, run: Run) -> RunState:
        """Like `run.state()`, but reads only what is new since the last call."""
        return self._followers.setdefault(run.id, RunFollower(run)).state()

    def active_run(self) -> Run | None:
        """The run that trains or waits, the oldest first; None when nothing does."""
        return next((self.run(row.id) for row in self.history.active()), None)

    def delete_run(self, run_id: str) -> str:
        """Move a run into the trash; `history.restore` brings it back. Returns its id. Raises RunError while it is running."""
        run = self.run(run_id)
        self.history.delete(run)
        self._followers.pop(run.id, None)
        return run.id

    def export(self, run_id: str, path: Path, *, layout: str = "diffusers") -> Path:
        """Write what a run (or RUN@STEP, or FILE) learned as a .safetensors file that other programs read. Raises SdplayError.

        `layout`: diffusers, or kohya for A1111 and ComfyUI.
        """
        column, file = self._adapter_column(run_id)
        target = path / f"{column.run_id or file.stem}.safetensors" if path.is_dir() else path
        if target.suffix != ".safetensors":
            raise ConfigError(f"{target.name!r} does not end in .safetensors.", "Name the file like lora.safetensors.")
        target.parent.mkdir(parents=True, exist_ok=True)
        if layout == "diffusers" and column.run_id:
            shutil.copyfile(file, target)
        else:
            self._convert(column, file, target, layout)
        return target

    def export_merged(self, text: str, path: Path, *, base_model: str = "") -> Path:
        """Write the base with adapters (`RUN:0.8+FILE`) added to its weights, and wait for it. Raises SdplayError.

        A path that ends in .safetensors becomes one float16 file in the original layout, another a folder in diffusers'.
        `base_model`: by default the run's own.
        """
        from sdplay.formats import read_adapter, write_merged

        column, _ = self._adapter_column(text)
        source = base_model or (str(self.run(column.run_id).settings["base_model"]) if column.run_id else hub.MINI)

        def write(parts: Parts, family: Family) -> Path:
            return write_merged(path, parts, family.NAME, [(read_adapter(found), strength) for found, strength in column.adapters])

        return self._worker.draw(source, write, weights="float32").result()

    def inspect(self, path: Path) -> Report:
        """What an adapter file is, and what is wrong with it. Raises AdapterError when it is no safetensors file."""
        from sdplay.formats import inspect_adapter

        return inspect_adapter(path)

    def add_adapter(self, path: Path) -> str:
        """Keep a copy of an adapter file under its name, which is then a column. Raises AdapterError when it cannot be read."""
        return self.library.add(path)

    # ---- drawing

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], values: Mapping[str, object], *, adapter: str = "base",
             base_model: str = hub.MINI) -> list[Drawn]:  # fmt: skip
        """`draw_pictures` from nothing: prompts x seeds; `values` are GenerateConfig's."""
        asked = {"prompts": prompts, "seeds": seeds, "adapter": adapter, "base_model": base_model, "drawing": values}
        return self.draw_pictures(asked)

    def draw_pictures(self, values: Mapping[str, object], *, folder: Path | None = None, watch: Watch | None = None) -> list[Drawn]:
        """Draw what DrawConfig's `values` ask for, wait for it, return the PNGs, each with its settings inside. Raises SdplayError.

        watch: sees them as they come, and may end the work.
        """
        config = parse(DrawConfig, {**values, "drawing": parse(GenerateConfig, given(values.get("drawing")))})
        column = parse_column(config.adapter, self.workspace)
        start = open_start(config.image, config.mask, config.strength)
        asked = Asked(config, column, start, folder or self.workspace.pictures, watch or Watch())
        return self._worker.draw(config.base_model, lambda parts, family: draw_asked(parts, family, asked)).result()

    def animate(self, values: Mapping[str, object], paths: Sequence[Path]) -> list[Path]:
        """Draw what AnimateConfig's `values` ask for, wait for it, write it as .gif or .mp4 to each path. Raises SdplayError."""
        config = parse(AnimateConfig, {**values, "drawing": parse(GenerateConfig, given(values.get("drawing")))})
        column = parse_column(config.adapter, self.workspace)
        for path in paths:
            check_film(path)
        frames = self._worker.draw(
            config.base_model, lambda parts, family: draw_frames(parts, family, config, column),
            weights="float32" if config.motion else "auto",  # a motion adapter goes between layers of full precision
        ).result()  # fmt: skip
        for path in paths:
            write_film(path, frames, config.fps)
        return list(paths)

    def in_worker(self, base_model: str, do: Callable[[Parts, Family], Result]) -> Future[Result]:
        """Have something drawn by the thread that owns the base; the outcome is `do`'s result or an SdplayError."""
        return self._worker.draw(base_model, do)

    def compare(self, values: Mapping[str, object]) -> str:
        """Queue a comparison grid; `values` are CompareConfig's. Returns its id. Raises SdplayError; then nothing was written."""
        return self.grids.start(values)

    def comparison(self, comparison_id: str) -> Comparison:
        """A comparison as it is now; one that no process draws any more is failed. Raises RunError."""
        return self.grids.open(comparison_id)

    def comparisons(self) -> list[str]:
        """Ids of all comparisons, newest first."""
        return self.grids.list()

    def comparison_folder(self, comparison_id: str) -> Path:
        """Where a comparison's files are. Raises RunError."""
        return self.grids.folder(comparison_id)

    def cancel_comparison(self, comparison_id: str) -> None:
        """Stop drawing; finished cells stay."""
        self.grids.cancel(comparison_id)

    def count_tokens(self, base_model: str, texts: Sequence[str]) -> list[TokenCount]:
        """How a base reads texts. Raises ModelError."""
        from sdplay.families import family

        base = hub.find_base(base_model)
        return family(base.family).count_tokens(base.folder, texts)

    def bases(self) -> list[OfferedBase]:
        """The base models that are offered by name; any other may be given."""
        return list(load_bases().values())

    def base_size(self, base_model: str) -> int:
        """Side in px that a base was made for, read from its configs. Raises ModelError."""
        from sdplay.families import family

        base = hub.find_base(base_model)
        return family(base.family).native_size(base.folder)

    def plan(self, values: Mapping[str, object], *, precision: Precision | None = None) -> MemoryPlan:
        """What a training config, with or without a data set, takes on a card. Some seconds. Raises SdplayError.

        `precision`: by default what this machine's device computes in.
        """
        from sdplay.device import best_device, computes_in_bfloat16
        from sdplay.plan import memory_plan

        config = parse_train_config(values)
        chosen = precision or ("bfloat16" if computes_in_bfloat16(best_device()) else "float32")
        return memory_plan(hub.find_base(config.base_model), config, chosen)

    def advise(self, dataset_id: str, *, base_model: str = hub.MINI, class_word: str = "") -> Advice:
        """Settings that suit a data set, a base and this machine, with reasons. Raises SdplayError."""
        from sdplay.advice import Facts, Place, advise
        from sdplay.device import best_device, free_bytes

        examples = self.dataset(dataset_id).examples
        if not examples:
            raise ConfigError("The data set has no pictures.", "Add at least one, better 10 to 20.")
        offered = load_bases().get(base_model)
        if not hub.is_here(base_model) and offered is None:
            raise ConfigError(f"{base_model!r} is not on this computer yet, so nothing is known of it.", "Choose a preset by name.")
        here = hub.is_here(base_model)
        family = hub.find_base(base_model).family if here else str(offered.family if offered else "")
        device = best_device()
        free = free_bytes(device)
        place = Place(
            family=hub.MINI if base_model == hub.MINI else family,
            size=self.base_size(base_model) if here else NATIVE_SIZES[family],
            has_gpu=device.kind != "cpu",
            free_gb=None if free is None else free / 1e9,
            class_word=class_word,
        )
        return advise(Facts.of(examples), place)

    def has_base(self, base_model: str) -> bool:
        """Whether a base can be asked about without downloading it first."""
        return hub.is_here(base_model)

    def warm_up(self) -> str:
        """Import the heavy libraries and name the device; afterwards `device_label` is known. Takes seconds the first time."""
        from sdplay.device import best_device
        from sdplay.families import import_libraries

        import_libraries()
        self.device_label = best_device().label
        return self.device_label

    def dataset(self, dataset_id: str) -> Dataset:
        """A data set by id. Raises DataError."""
        return self.datasets.open(dataset_id)

    # ---- data sets and prompts

    def samples(self) -> dict[str, Sample]:
        """The sample data sets that ship with sdplay."""
        return load_samples(PRESETS / "samples")

    def sample_dataset(self, sample_id: str) -> Dataset:
        """The user's copy of a sample data set, made when first asked for. Raises DataError."""
        sample = self.samples().get(sample_id)
        if sample is None:
            raise DataError(f"There is no sample data set {sample_id!r}.", f"Choose one of: {', '.join(self.samples())}.")
        with self._making_samples:
            made = next((dataset for dataset in self.datasets.list() if dataset.id.startswith(f"{slug(sample_id)}-")), None)
            return made or self.datasets.create([sample.folder], name=sample_id)

    def prompt_sets(self) -> dict[str, PromptSet]:
        """The shipped prompt sets and the user's own; the user's win."""
        return load_prompt_sets([PRESETS / "prompts", self.workspace.prompts])

    def prompt_set(self, name: str) -> PromptSet:
        """A prompt set by name. Raises ConfigError that lists the names."""
        sets = self.prompt_sets()
        if name not in sets:
            raise ConfigError(f"There is no prompt set {name!r}.", f"Choose one of: {', '.join(sets)}.")
        return sets[name]

    def prompts_of(self, name: str) -> list[str]:
        """What comparisons draw of a prompt set: templates with their wildcards spelt out. Raises ConfigError or TemplateError."""
        return [self.resolve(prompt) for prompt in self.prompt_set(name).prompts("compare")]

    def resolve(self, template: str) -> str:
        """A template with its wildcards spelt out. Raises TemplateError."""
        return resolve(template, self.wildcards()) if "__" in template else template

    def wildcards(self) -> dict[str, tuple[str, ...]]:
        """The shipped wildcards and the user's own; the user's win."""
        return load_wildcards([PRESETS / "wildcards", self.workspace.wildcards])

    def save_prompt_set(self, prompt_set: PromptSet) -> Path:
        """Keep a prompt set under its name. Raises ConfigError."""
        return save_prompt_set(self.workspace.prompts, prompt_set)

    def token_warning(self, base_model: str, token: str) -> str | None:
        """A sentence when a trigger word is no good for a base; None when it is fine. Raises ModelError."""
        from sdplay.families import family

        base = hub.find_base(base_model)
        return templates.token_warning(token, family(base.family).ordinary_words(base.folder))

    def judge_trigger(self, base_model: str, word: str) -> TriggerReport:
        """What a trigger word is made of for a base, and better ones. Raises ModelError."""
        from sdplay.families import import_libraries

        import_libraries()
        from sdplay.clip_text import tokens_of, vocabulary
        from sdplay.trigger import judge

        folder = hub.find_base(base_model).folder
        return judge(word, vocabulary(folder), lambda text: tokens_of(folder, text))

    def wait(self, run_id: str, *, tick: Callable[[RunState], None] | None = None, seconds: float = 0.2) -> RunState:
        """Block until a run has ended and whoever trained it has let go of it; `tick` sees its state every `seconds`."""
        run = self.run(run_id)
        while True:
            state = self.state(run)
            if tick:
                tick(state)
            if state.ended:
                while run.is_held():  # its last event is written just before
                    time.sleep(0.02)
                return state
            time.sleep(seconds)

    def wait_for_step(self, run_id: str, step: int) -> RunState:
        """Block until a run has reached a step or has ended."""
        run = self.run(run_id)
        while (state := self.state(run)).step < step and not state.ended:
            time.sleep(0.02)
        return state

    def close(self) -> None:
        """End the worker after what it is doing; a training run is asked to stop and keeps a checkpoint."""
        self._worker.close()

    def _adapter_column(self, text: str) -> tuple[Column, Path]:
        column = parse_column(text, self.workspace)
        if column.path is None:
            raise RunError("The base has no adapter to export.", "Give a run.")
        return column, column.path

    def _convert(self, column: Column, file: Path, target: Path, layout: str) -> None:
        """Read the file and write it in another layout; a run knows its base's family and has a picture to show."""
        from sdplay.formats import read_adapter, write_adapter
        from sdplay.formats.preview import thumbnail

        adapter = read_adapter(file)
        if column.run_id:
            run = self.run(column.run_id)
            samples = run.state().samples
            facts = thumbnail(run.folder / samples[-1].files[0]) if samples and samples[-1].files else {}
            family = hub.find_base(str(run.settings["base_model"])).family
            adapter = replace(adapter, family=family, facts={**adapter.facts, **facts})
        write_adapter(target, adapter, layout)


def check_train_config(config: TrainConfig) -> None:
    """What one field alone cannot say. Raises ConfigError or TemplateError."""
    for template in (*config.caption_templates, *config.sample_prompts):
        templates.check(template)
    if not config.dataset:
        raise ConfigError("No data set is chosen.", "Choose one, or make one from your pictures.")
    config.check()
    used = {name for template in config.caption_templates for name in templates.uses(template)}
    if "token" in used and not config.token:
        raise ConfigError("The training templates use {token}, but there is no trigger word.", "Give a made-up word, such as sks-fox.")


def _check_trigger(config: TrainConfig, dataset: Dataset) -> None:
    """A word that no text of the training contains learns nothing. Raises ConfigError."""
    used = {name for template in config.caption_templates for name in templates.uses(template)}
    texts = [*config.caption_templates, *(example.caption for example in dataset.examples)]
    if isinstance(config, WordsConfig) and not used & {"token", "style"} and not any(config.token in text for text in texts):
        raise ConfigError("The training templates never use the trigger word.", "Put {token} into each of them.")
