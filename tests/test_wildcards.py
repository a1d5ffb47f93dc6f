from __future__ import annotations

from pathlib import Path

import pytest

from sdplay.engine import Engine
from sdplay.errors import TemplateError
from sdplay.templates import Values, check, expand_all
from sdplay.wildcards import called, load_wildcards, resolve
from sdplay.workspace import PRESETS

SHIPPED = load_wildcards([PRESETS / "wildcards"])


def test_a_wildcard_stands_for_the_lines_of_its_file() -> None:
    template = resolve("a __colour__ {cat|dog}", {"colour": ("red", "blue")})

    assert expand_all(template, Values()) == ["a red cat", "a red dog", "a blue cat", "a blue dog"]


def test_lines_may_hold_variables_alternatives_and_other_wildcards() -> None:
    files = {"who": ("{token}", "a __animal__"), "animal": ("{old|young} cat",)}

    assert expand_all(resolve("__who__", files), Values(token="sks")) == ["sks", "a old cat", "a young cat"]


def test_a_wildcard_that_calls_itself_is_refused() -> None:
    with pytest.raises(TemplateError, match="calls itself"):
        resolve("__a__", {"a": ("x __a__",)})


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..", "C:\\x", ".hidden"])
def test_a_name_that_leads_elsewhere_is_no_name(name: str) -> None:
    with pytest.raises(TemplateError, match="cannot be the name"):
        resolve(f"__{name}__", SHIPPED)


def test_a_misspelt_name_is_answered_with_the_near_one() -> None:
    with pytest.raises(TemplateError, match="Did you mean __light__"):
        resolve("__lihgt__", SHIPPED)


def test_more_lines_than_combinations_are_refused_by_number() -> None:
    with pytest.raises(TemplateError, match="65 lines; 64 are the most"):
        resolve("__many__", {"many": tuple(map(str, range(65)))})


def test_files_are_found_in_folders_and_the_later_folder_wins(tmp_path: Path) -> None:
    (tmp_path / "plants").mkdir()
    (tmp_path / "plants" / "tree.txt").write_text("# trees\n\noak \n birch\n")
    (tmp_path / "light.txt").write_text("moonlight")

    found = load_wildcards([PRESETS / "wildcards", tmp_path])

    assert found["plants/tree"] == ("oak", "birch")
    assert found["light"] == ("moonlight",)
    assert set(found) == {*SHIPPED, "plants/tree"}


def test_a_link_out_of_the_folder_and_a_file_that_is_no_text_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("password")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "leak.txt").symlink_to(tmp_path / "secret.txt")
    (mine / "bytes.txt").write_bytes(b"\xff\xfe")

    assert load_wildcards([mine]) == {}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_wildcard_can_be_read(name: str) -> None:
    check(resolve(f"a __{name}__", SHIPPED))

    assert len(SHIPPED[name]) == len(set(SHIPPED[name])) >= 4


def test_called_names_what_a_template_needs() -> None:
    assert called("__a__ {x|__b/c__} __a__") == ["a", "b/c"]


def test_a_run_keeps_the_lines_and_not_the_name(engine: Engine, pictures: Path, tiny_base: Path) -> None:
    engine.workspace.wildcards.mkdir()
    (engine.workspace.wildcards / "ball.txt").write_text("ball\nglobe\n")
    dataset = engine.datasets.create([pictures])

    run = engine.run(
        engine.submit({
            "method": "lora", "dataset": dataset.id, "base_model": str(tiny_base), "token": "sks", "steps": 1, "warmup_steps": 0,
            "caption_templates": ["{token} __ball__"], "sample_prompts": ["{token} __ball__"],
        })
    )  # fmt: skip

    assert run.settings["caption_templates"] == ["{token} {ball|globe}"]
    assert run.settings["sample_prompts"] == ["{token} {ball|globe}"]
