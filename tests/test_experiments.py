from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from sdplay.engine import Engine
from sdplay.errors import ConfigError, RunError, SdplayError
from sdplay.experiments import Material, Plan, Variant, load_plans, make_plan, plan_named
from sdplay.lessons import load_lessons, read_lesson
from sdplay.prompt_sets import PromptSet
from sdplay.sample_sets import load_samples
from sdplay.workspace import PRESETS

WORDS = PromptSet(name="w", title="W", train=("{token}, {caption}",), sample=("a {token}",))
FAST = {"steps": 2, "warmup_steps": 0, "checkpoint_every": 1, "sample_every": 0, "sample_steps": 1, "validate_every": 0}


def material(engine: Engine, pictures: Path, base: Path, **config: object) -> Material:
    dataset = engine.datasets.create([pictures])
    return Material(dataset.id, "sks", "ball", words=WORDS, base_model=str(base), config={**FAST, **config})


def drawn(engine: Engine, comparison_id: str) -> str:
    while not engine.comparison(comparison_id).ended:
        time.sleep(0.05)
    return engine.comparison(comparison_id).status


def test_variants_differ_in_one_thing_and_end_in_one_comparison(engine: Engine, pictures: Path, tiny_base: Path) -> None:
    plan = plan_named("captions").model_copy(update={"drawing": {"steps": 1}})

    experiment = engine.experiments.start(plan, material(engine, pictures, tiny_base))
    ended = engine.experiments.wait(experiment.id)

    settings = [dict(engine.run(run_id).settings) for run_id in ended.runs]
    texts = [entry.pop("caption_templates") for entry in settings]
    assert settings[0] == settings[1] == settings[2]
    assert texts == [["{token}"], ["a picture of {token} {class}"], ["{token}, {caption}"]]
    assert drawn(engine, ended.comparison) == "finished"
    assert list(engine.comparison(ended.comparison).labels) == ["base", *ended.runs]
    assert engine.experiments.of("captions") == [ended.id]


def test_runs_of_an_experiment_share_their_noise(engine: Engine, pictures: Path, tiny_base: Path) -> None:
    plan = Plan(name="twins", title="Twins", variants=(Variant(name="a"), Variant(name="b")), drawing={"steps": 1})

    ended = engine.experiments.wait(engine.experiments.start(plan, material(engine, pictures, tiny_base)).id)

    losses = [[step.loss for step in engine.run(run_id).state().losses] for run_id in ended.runs]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2


def test_columns_may_be_checkpoints_and_strengths(engine: Engine, pictures: Path, tiny_base: Path) -> None:
    columns = ("{run}@1", "{run}@99", "{run}:0.5")
    plan = Plan(name="looks", title="Looks", variants=(Variant(name="a", columns=columns),), drawing={"steps": 1})

    ended = engine.experiments.wait(engine.experiments.start(plan, material(engine, pictures, tiny_base)).id)

    run_id = ended.runs[0]
    assert engine.comparison(ended.comparison).config.columns == ("base", f"{run_id}@1", f"{run_id}:0.5")


def test_an_experiment_whose_program_ended_is_compared_when_it_is_looked_at_again(
    engine: Engine, pictures: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.experiments, "_follow", lambda experiment_id: None)
    plan = Plan(name="later", title="Later", variants=(Variant(name="a"),), drawing={"steps": 1})
    started = engine.experiments.start(plan, material(engine, pictures, tiny_base))
    engine.wait(started.runs[0])
    assert engine.experiments.open(started.id).comparison == ""

    first, second = engine.experiments.watch(started.id), engine.experiments.watch(started.id)

    assert first.comparison == second.comparison != ""


def test_a_variant_that_cannot_be_trained_stops_the_whole_experiment(engine: Engine, pictures: Path, tiny_base: Path) -> None:
    plan = Plan(name="bad", title="Bad", variants=(Variant(name="good"), Variant(name="bad", config={"steps": 0})))

    with pytest.raises(ConfigError, match="Steps"):
        engine.experiments.start(plan, material(engine, pictures, tiny_base))

    assert engine.experiments.ids() == []
    assert engine.wait(engine.runs()[0].id).status == "stopped"


def test_an_experiment_that_learned_nothing_says_so(engine: Engine, pictures: Path, tiny_base: Path) -> None:
    plan = Plan(name="never", title="Never", variants=(Variant(name="a"),))
    given = material(engine, pictures, tiny_base, zero_terminal_snr="on")  # which this base, predicting the noise, cannot learn with

    ended = engine.experiments.wait(engine.experiments.start(plan, given).id)

    assert ended.comparison == ""
    assert "has learned anything" in ended.message


@pytest.mark.parametrize("name", load_plans())
def test_every_shipped_plan_makes_configs_that_can_be_trained(engine: Engine, name: str) -> None:
    sample = engine.samples()["fxemoji-fox"]
    given = Material(engine.sample_dataset(sample.id).id, sample.token, sample.class_word, prompt_set=sample.prompt_set)
    plan = plan_named(name)

    configs = [engine.experiments._values(plan, variant, given) for variant in plan.variants]

    assert len({yaml.safe_dump(config) for config in configs}) == len(configs)
    assert all(config["base_model"] == "mini" for config in configs)


def test_lessons_are_six_short_and_end_in_something_that_exists() -> None:
    lessons = load_lessons()

    assert [lesson.place for lesson in lessons.values()] == [1, 2, 3, 4, 5, 6]
    for lesson in lessons.values():
        assert plan_named(lesson.action.experiment)
        assert lesson.action.sample in load_samples(PRESETS / "samples")
        assert 120 <= len(lesson.text.split()) <= 400  # two minutes at 200 words a minute
    assert len({lesson.action.experiment for lesson in lessons.values()}) == 6


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"title": "A", "variants": []}, "'variants' has 0 entries"),
        ({"title": "A", "variants": [{"name": "a"}, {"name": "a"}]}, "same name"),
        ({"title": "A", "variants": [{"name": "a", "stepps": 1}]}, "no setting 'variants.1.stepps'"),
    ],
)
def test_a_plan_that_cannot_be_read_gets_a_sentence(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_plan({"name": "a", **fields})


def test_what_does_not_exist_is_said(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "x.md").write_text("no head")

    with pytest.raises(ConfigError, match="no experiment 'nope'"):
        plan_named("nope")
    with pytest.raises(RunError, match="no experiment"):
        engine.experiments.open("../../etc")
    with pytest.raises(SdplayError, match="has no head"):
        read_lesson(tmp_path / "x.md")
