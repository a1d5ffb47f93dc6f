from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sdplay.errors import ConfigError, TemplateError
from sdplay.prompt_sets import PromptSet, load_prompt_sets, parse_prompts, prompts_from, save_prompt_set
from sdplay.templates import Values, expand_all, uses
from sdplay.workspace import PRESETS

SHIPPED = load_prompt_sets([PRESETS / "prompts"])
GNOME = PromptSet(
    name="gnome",
    title="Garden gnome",
    why="ça: {quoted}",
    train=("{token} {class}",),
    sample=("{token}, 50 % #1",),
    negative="blurry",
)


def test_every_shipped_set_can_be_used() -> None:
    files = {path.stem for path in (PRESETS / "prompts").glob("*.yaml")}

    assert set(SHIPPED) == files
    assert files == {"subject", "style", "object", "live-subject", "face", "product", "pattern", "mini-style", "mini-subject"}
    assert all(prompt_set.why for prompt_set in SHIPPED.values())


@pytest.mark.parametrize("prompt_set", SHIPPED.values(), ids=SHIPPED)
def test_shipped_training_templates_name_the_token_and_use_captions(prompt_set: PromptSet) -> None:
    assert all("token" in uses(template) for template in prompt_set.train)
    assert any("caption" in uses(template) for template in prompt_set.train)


@pytest.mark.parametrize("prompt_set", SHIPPED.values(), ids=SHIPPED)
def test_shipped_sample_prompts_are_whole_without_caption_and_style(prompt_set: PromptSet) -> None:
    assert not {"caption", "style"} & {name for prompt in prompt_set.sample for name in uses(prompt)}
    assert all(expand_all(prompt, Values(token="sks", class_word="cat")) != [""] for prompt in prompt_set.sample)


def test_the_style_set_of_the_icon_model_writes_captions_as_the_model_learnt_them() -> None:
    values = Values(token="fxemoji", caption="cat face")

    assert expand_all(SHIPPED["mini-style"].train[0], values) == ["cat face, fxemoji style"]


def test_a_saved_set_is_loaded_again(tmp_path: Path) -> None:
    path = save_prompt_set(tmp_path / "prompts", GNOME)

    assert path == tmp_path / "prompts" / "gnome.yaml"
    assert load_prompt_sets([path.parent]) == {"gnome": GNOME}


def test_a_set_is_saved_under_a_name_that_is_safe_in_a_path(tmp_path: Path) -> None:
    path = save_prompt_set(tmp_path, GNOME.model_copy(update={"name": "../My Gnome!"}))

    assert path == tmp_path / "my-gnome.yaml"
    assert list(load_prompt_sets([tmp_path])) == ["my-gnome"]


def test_a_name_without_letters_and_digits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be the name"):
        save_prompt_set(tmp_path, GNOME.model_copy(update={"name": "../.."}))

    assert list(tmp_path.iterdir()) == []


def test_a_user_s_set_replaces_the_shipped_one_of_the_same_name(tmp_path: Path) -> None:
    save_prompt_set(tmp_path, GNOME.model_copy(update={"name": "subject"}))

    both = load_prompt_sets([PRESETS / "prompts", tmp_path])

    assert both["subject"].title == "Garden gnome"
    assert set(both) == set(SHIPPED)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title: [", "not valid YAML near line"),
        ("title: A\ntrain: [a]\nsample:\n  - {token} style", "Put quotes around"),
        ("just words", "holds no settings"),
        ("", "holds no settings"),
        ("title: A\ntrain: [a]", "'sample' is missing"),
        ("title: A\ntrain: [a]\nsample: []", "'sample' has 0 entries"),
        ("title: A\ntrain: [a]\nsample: a", "'sample' is not a list"),
        ("title: A\ntrain: [a]\nsample: [3]", "'sample.1' cannot be used"),
        ("title: A\ntrain: [a]\nsample: [a]\nsampels: [b]", "no setting 'sampels'"),
        ("title: A\ntrain: ['{tokn}']\nsample: [a]", "Did you mean {token}?"),
        ("title: A\ntrain: ['  ']\nsample: [a]", "Template 1 is empty"),
        ("name: b\ntitle: A\ntrain: [a]\nsample: [a]", "has a 'name'"),
    ],
)
def test_a_broken_file_is_left_out_and_the_log_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, said: str) -> None:
    (tmp_path / "broken.yaml").write_text(text)
    save_prompt_set(tmp_path, GNOME)

    with caplog.at_level(logging.WARNING):
        found = load_prompt_sets([tmp_path, tmp_path / "missing"])

    assert list(found) == ["gnome"]
    assert "broken.yaml" in caplog.text
    assert said in caplog.text


def test_a_file_that_is_not_text_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_bytes(b"\xff\xfe\x00")

    assert load_prompt_sets([tmp_path]) == {}


@pytest.mark.parametrize(("field", "limit"), [("train", 20), ("sample", 24)])
def test_lists_have_a_limit(field: str, limit: int) -> None:
    fields = {"name": "a", "title": "A", "train": ("a",), "sample": ("a",)}
    PromptSet.model_validate({**fields, field: ("a",) * limit})

    with pytest.raises(ConfigError, match=f"more than {limit} entries"):
        PromptSet.model_validate({**fields, field: ("a",) * (limit + 1)})


def test_a_wrong_template_is_quoted() -> None:
    with pytest.raises(TemplateError, match=r"In '\{a\|b': The brace at character 1"):
        PromptSet(name="a", title="A", train=("{a|b",), sample=("a",))


def test_prompts_are_written_one_a_line() -> None:
    assert parse_prompts("a cat\n\n  # not this\n  a dog, #1 \r\n") == ["a cat", "a dog, #1"]


def test_arguments_are_prompts_or_files_of_prompts(tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("\ufeffa cat\n# no\na dog\n", encoding="utf-8")
    saved = save_prompt_set(tmp_path, GNOME)

    prompts = prompts_from(["a bird", str(lines), str(saved)])

    assert prompts == ["a bird", "a cat", "a dog", "{token}, 50 % #1"]


def test_a_prompt_file_that_is_not_there_is_said_and_not_drawn() -> None:
    with pytest.raises(ConfigError, match=r"no file 'missing\.txt'"):
        prompts_from(["missing.txt"])


def test_a_file_without_prompts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n")

    with pytest.raises(ConfigError, match=r"empty\.txt holds no prompts"):
        prompts_from([str(tmp_path / "empty.txt")])
