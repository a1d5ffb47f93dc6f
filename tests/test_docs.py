"""The documents keep their promises."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from sdplay import __version__
from sdplay.cli import build_parser
from sdplay.methods import parse_train_config
from sdplay.presets import load_training_presets
from sdplay.prompt_sets import load_prompt_sets
from sdplay.workspace import PRESETS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_begins_with_what_a_space_needs() -> None:
    front = yaml.safe_load(README.split("---")[1])

    assert front["sdk"] == "gradio"
    assert front["app_file"] == "app.py"
    assert (ROOT / front["app_file"]).is_file()


def test_every_file_on_the_readmes_map_exists_and_every_module_is_on_it() -> None:
    house = README.split("## The house")[1].split("```")[1]
    named = set(re.findall(r"^\s*([\w./]+\.py)\b", house, flags=re.MULTILINE))
    modules = {path.name for path in (ROOT / "sdplay").glob("*.py") if not path.name.startswith("__")}

    files = [path.relative_to(ROOT).as_posix() for folder in ("sdplay", "benchmarks", "tests") for path in (ROOT / folder).rglob("*.py")]
    files += [path.name for path in ROOT.glob("*.py")]
    assert modules <= named, modules - named
    assert not [name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)]


def test_every_picture_and_file_the_readme_links_to_exists() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_command_is_in_the_readme() -> None:
    commands = next(action for action in build_parser()._actions if action.choices and not action.option_strings).choices or {}

    for command in commands:
        assert re.search(rf"sdplay {command}\b", README), command


def test_the_changelog_knows_the_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_training_preset_is_a_valid_config_with_prompt_sets_that_exist() -> None:
    sets = load_prompt_sets([PRESETS / "prompts"])
    presets = load_training_presets()

    assert {"quick", "style", "subject"} <= set(presets)
    for preset in presets.values():
        parse_train_config({**preset.config, "token": "ohwx", "class_word": "dog"}).check()
        assert set(preset.prompt_sets.values()) <= set(sets)


def test_every_complaint_has_a_row_and_every_test_it_names_exists() -> None:
    table = (ROOT / "tests" / "COMPLAINTS.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|.*\|([^|]*)\|$", table, flags=re.MULTILINE)
    there = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }

    assert [int(number) for number, _ in rows] == list(range(1, 23))
    for _, tests in rows:
        assert set(re.findall(r"`(\w+)`", tests)) <= there, tests
