"""`sdplay experiment`: several trainings that differ in one thing, and their comparison."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sdplay.errors import ConfigError, SdplayError

if TYPE_CHECKING:
    from sdplay.engine import Engine
    from sdplay.experiments import Experiment, Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command can be told."""
    parser.add_argument("plan", nargs="?", help="captions, learning-rate, methods ... or a YAML file; nothing: list them")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--images", nargs="+", metavar="PATH", help="pictures: folder, files, zip, CSV, Hub data set id")
    what.add_argument("--dataset", help="a data set's id")
    what.add_argument("--sample", help="a sample data set with its own words (default: fxemoji-fox)")
    parser.add_argument("--token", help="trigger word")
    parser.add_argument("--class", dest="class_word", help="what kind of thing it is: dog, vase")
    parser.add_argument("--preset", default="quick", help="training preset that all variants begin with (default: quick)")
    parser.add_argument("--prompts", metavar="SET", default="", help="prompt set (default: the preset's own)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="one setting of all variants")
    parser.add_argument("--base", default="mini", help="base model (default: mini)")
    parser.add_argument("-o", "--out", type=Path, help="copy the comparison into this folder")


def do_experiment(arguments: argparse.Namespace) -> int:
    """Queue, watch, compare, print the grid's path; without a plan, list those that ship."""
    from sdplay.cli.commands import _engine, _finished_comparison, _print_json
    from sdplay.experiments import load_plans, plan_named
    from sdplay.progress import watch_run

    if not arguments.plan:
        for name, plan in load_plans().items():
            print(f"{name:18} {plan.title}: {', '.join(variant.name for variant in plan.variants)}")
        return 0
    engine = _engine()
    experiment = _start(engine, arguments, plan_named(arguments.plan))
    for run_id in experiment.runs:
        watch_run(engine, run_id, quiet=arguments.json)
    ended = engine.experiments.wait(experiment.id)
    if ended.message:
        raise SdplayError(ended.message)
    folder = _finished_comparison(engine, ended.comparison, arguments.out, quiet=arguments.json)
    if arguments.json:
        _print_json({"id": ended.id, "runs": list(ended.runs), "comparison": ended.comparison, "folder": str(folder)})
    else:
        print(folder / "grid.png")
    engine.close()
    return 0


def _start(engine: Engine, arguments: argparse.Namespace, plan: Plan) -> Experiment:
    from sdplay.config import parse_assignment
    from sdplay.experiments import Material

    token, class_word, prompts, dataset_id = arguments.token, arguments.class_word, arguments.prompts, arguments.dataset
    if arguments.images:
        dataset = engine.datasets.create(arguments.images)
        for entry in dataset.skipped:
            print(f"skipped {entry.name}: {entry.reason}", file=sys.stderr)
        dataset_id = dataset.id
    elif not dataset_id:
        name = arguments.sample or "fxemoji-fox"
        dataset_id = engine.sample_dataset(name).id
        sample = engine.samples()[name]
        token, class_word, prompts = token or sample.token, class_word or sample.class_word, prompts or sample.prompt_set
    settings = dict(parse_assignment(text) for text in arguments.settings)
    if "dataset" in settings:
        raise ConfigError("--set dataset is not for experiments.", "Use --dataset.")
    material = Material(
        dataset=dataset_id,
        token=token or "",
        class_word=class_word or "",
        preset=arguments.preset,
        prompt_set=prompts,
        base_model=arguments.base,
        config=settings,
    )
    return engine.experiments.start(plan, material)
