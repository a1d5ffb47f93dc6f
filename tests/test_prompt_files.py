from __future__ import annotations

from pathlib import Path

import pytest

from sdplay.errors import SdplayError
from sdplay.prompt_files import FORMATS, export_text, import_file
from sdplay.prompt_sets import PromptSet, load_prompt_sets
from sdplay.workspace import PRESETS

FULL = PromptSet(
    name="full",
    title="All there is",
    why="To show that nothing is lost.",
    train=('a "photo", of {token} --weight 2.5 --name Plain', "{ {caption}|nothing; here}"),
    sample=('a "photo", of {token} --name Plain', "ça va, {class} --n blurry, dark --only compare", "x --only sample", "__light__"),
    negative="text, watermark",
)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("prompt_set", [FULL, *load_prompt_sets([PRESETS / "prompts"]).values()], ids=lambda made: made.name)
def test_a_set_comes_back_as_it_went_out(tmp_path: Path, kind: str, prompt_set: PromptSet) -> None:
    path = tmp_path / f"{prompt_set.name}.{kind}"
    path.write_text(export_text(prompt_set, kind), encoding="utf-8")  # type: ignore[arg-type]

    assert import_file(path) == prompt_set


def test_a_table_from_a_spreadsheet_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "My prompts.csv"
    path.write_text("\ufeff# title: Mine,,,\nname,text,use,weight\nA,{token},train,3\n,{token} at sea,,\n,,,\n", encoding="utf-8")

    found = import_file(path)

    assert (found.name, found.title) == ("my-prompts", "Mine")
    assert found.train == ("{token} --weight 3 --name A",)
    assert found.sample == ("{token} at sea",)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "x", "is no prompt set"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[1]", "holds no settings"),
        ("a.yaml", "title: [", "not valid YAML near line"),
        ("a.csv", "prompt\nx", "no column 'text'"),
        ("a.csv", "text,use\nx,draw", "use 'draw' does not exist"),
        ("a.csv", "text,use,weight\nx,train,many", "weight 'many' is not a number"),
        ("a.csv", "text,use\nx,train", "'sample' has 0 entries"),
        ("a.json", '{"train": ["{tokn}"], "sample": ["a"]}', "Did you mean"),
    ],
)
def test_a_file_that_cannot_be_read_gets_a_sentence_with_its_name(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(SdplayError, match=f"{name}.*{said}"):
        import_file(path)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(" " * 300_000)

    with pytest.raises(SdplayError, match="too large"):
        import_file(path)
