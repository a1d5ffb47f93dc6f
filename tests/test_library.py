"""Every adapter at hand in one list; mixes; files in every format; nothing private goes out unasked."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
import yaml

from sdplay.engine import Engine
from sdplay.errors import AdapterError, ConfigError, ModelError, RunError
from sdplay.formats import inspect_adapter
from sdplay.library import chosen_file, mixed, split_repository


@pytest.fixture
def trained(engine: Engine, tiny_base: Path, pictures: Path) -> str:
    dataset = engine.datasets.create([pictures])
    run_id = engine.submit(
        {
            "dataset": dataset.id, "base_model": str(tiny_base), "token": "sks", "class_word": "dog", "steps": 2, "warmup_steps": 1,
            "batch_size": 2, "rank": 2, "sample_prompts": ["a {token} dog | red"], "sample_every": 0, "sample_steps": 1, "judge": "off",
        },
        name="my dog",
    )  # fmt: skip
    state = engine.wait(run_id)
    assert state.status == "finished", state.message
    engine.history.look_again()
    return run_id


def test_runs_and_files_are_listed_with_what_is_known_of_them(engine: Engine, trained: str) -> None:
    file = engine.export(trained, engine.workspace.root / "brought.safetensors")
    name = engine.library.add(file)

    entries = engine.library.entries(engine.history.rows())

    assert [(entry.column, entry.origin) for entry in entries] == [(trained, "run"), ("brought.safetensors", "file")]
    assert entries[0].picture.startswith("samples/000002/")
    assert (name, entries[1].facts.trigger, entries[1].facts.method) == ("brought.safetensors", "sks", "LoRA")
    assert engine.library.entries(engine.history.rows(), "file SKS")[0].column == "brought.safetensors"


def test_the_same_file_is_kept_once_and_another_of_its_name_beside_it(engine: Engine, trained: str) -> None:
    plain = engine.export(trained, engine.workspace.root / "a" / "x.safetensors")
    other = engine.export(trained, engine.workspace.root / "b" / "x.safetensors", layout="kohya")

    names = [engine.library.add(path) for path in (plain, plain, other)]

    assert names == ["x.safetensors", "x.safetensors", "x-2.safetensors"]


def test_a_file_that_is_no_adapter_is_refused_and_not_kept(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"not one")

    with pytest.raises(AdapterError):
        engine.library.add(tmp_path / "bad.safetensors")
    assert engine.library.entries([]) == []


@pytest.mark.parametrize("name", ["../../x.safetensors", "nothing.safetensors", "x.json"])
def test_only_files_of_the_library_are_removed(engine: Engine, name: str) -> None:
    with pytest.raises(AdapterError):
        engine.library.remove(name)


def test_a_mix_is_a_column_and_can_be_drawn(engine: Engine, trained: str, tiny_base: Path) -> None:
    name = engine.library.add(engine.export(trained, engine.workspace.root / "x.safetensors"))

    column = mixed([(trained, 0.8), ("", 1.0), (name, 0.5)])
    drawn = engine.draw(["a dog"], [1], {"steps": 1}, adapter=column, base_model=str(tiny_base))

    assert column == f"{trained}:0.8+x.safetensors:0.5"
    assert drawn[0].path.is_file()


@pytest.mark.parametrize("parts", [[], [("a", 0.0)], [("a", 1.0), ("a", 0.5)], [("a", 9.0)], [(str(number), 1.0) for number in range(9)]])
def test_a_mix_that_cannot_be_gets_a_sentence(parts: list[tuple[str, float]]) -> None:
    with pytest.raises(ConfigError):
        mixed(parts)


def test_a_run_is_written_in_each_format(engine: Engine, trained: str) -> None:
    made = {kind: engine.exports.make(trained, kind) for kind in ("diffusers", "kohya", "merged", "bundle")}

    assert inspect_adapter(made["diffusers"]).layout == "diffusers"
    assert inspect_adapter(made["kohya"]).layout.startswith("kohya")
    assert made["merged"].stat().st_size > made["diffusers"].stat().st_size
    with zipfile.ZipFile(made["bundle"]) as archive:
        names = archive.namelist()
    assert {"README.md", "samples/00.png", f"{trained}.safetensors", f"{trained}.kohya.safetensors"} == set(names)


def test_what_cannot_be_written_gets_a_sentence(engine: Engine, trained: str) -> None:
    with pytest.raises(RunError, match="no word"):
        engine.exports.make(trained, "embedding")
    with pytest.raises(ConfigError, match="mix cannot"):
        engine.exports.make(f"{trained}:0.5", "kohya")
    with pytest.raises(RunError, match="learned nothing"):
        engine.exports.make("base", "diffusers")
    with pytest.raises(ConfigError, match="no format"):
        engine.exports.make(trained, "exe")  # type: ignore[arg-type]


def test_the_card_has_trigger_samples_settings_and_no_path(engine: Engine, trained: str, tiny_base: Path) -> None:
    card = engine.exports.card(trained)
    _, front, body = card.split("---\n", 2)
    facts = yaml.safe_load(front)

    assert facts["instance_prompt"] == "sks"
    assert facts["widget"][0]["output"]["url"] == "samples/00.png"
    assert "`sks dog`" in body
    assert "learning_rate" in body
    assert "a sks dog \\| red" in body
    assert str(tiny_base.parent) not in card
    assert "6 pictures, which are not part" in body


def test_training_pictures_are_in_the_bundle_only_when_asked(engine: Engine, trained: str) -> None:
    with_them = engine.exports.bundle(trained, engine.workspace.root / "with", with_training_pictures=True)
    without = engine.exports.bundle(trained, engine.workspace.root / "without")

    assert len(list((with_them / "training").iterdir())) == 6
    assert not (without / "training").exists()


def test_the_card_of_the_embedded_base_says_its_licence(engine: Engine, trained: str) -> None:
    run = engine.run(trained)
    manifest = yaml.safe_load((run.folder / "config.yaml").read_text())
    manifest["config"]["base_model"] = "mini"
    copy = run.folder.with_name("20250101-000000-on-mini")
    shutil.copytree(run.folder, copy)
    (copy / "config.yaml").write_text(yaml.safe_dump(manifest))

    card = engine.exports.card(copy.name)

    assert "license: cc-by-4.0" in card
    assert "CC BY 4.0, the licence of the base" in card


def test_pushing_without_the_hub_is_a_sentence_and_leaves_nothing(engine: Engine, trained: str) -> None:
    with pytest.raises(ModelError, match=r"cannot be reached|does not know who you are"):
        engine.exports.push(trained, "nobody/nothing", token="hf_madeup")
    with pytest.raises(ModelError, match="no name of a repository"):
        engine.exports.push(trained, "not a name")
    assert list(engine.workspace.exports.iterdir()) == []


def test_a_hub_adapter_is_named_by_its_page_too() -> None:
    wanted = {
        "owner/name": ("owner/name", ""),
        "owner/name/x.safetensors": ("owner/name", "x.safetensors"),
        "https://huggingface.co/owner/name": ("owner/name", ""),
        "https://huggingface.co/owner/name/blob/main/sub/x.safetensors": ("owner/name", "sub/x.safetensors"),
    }

    assert {text: split_repository(text) for text in wanted} == wanted


@pytest.mark.parametrize("text", ["", "name", "a/b/c.ckpt", "../..", "https://example.com/a/b"])
def test_what_names_no_adapter_of_the_hub_gets_a_sentence(text: str) -> None:
    with pytest.raises(AdapterError, match="names no adapter"):
        split_repository(text)


def test_a_repositorys_adapter_is_found_or_asked_for() -> None:
    assert chosen_file("o/n", ["README.md", "x.safetensors"]) == "x.safetensors"
    assert chosen_file("o/n", ["a.safetensors", "pytorch_lora_weights.safetensors"]) == "pytorch_lora_weights.safetensors"
    with pytest.raises(AdapterError, match="2 adapter files"):
        chosen_file("o/n", ["a.safetensors", "b.safetensors"])
    with pytest.raises(AdapterError, match=r"no \.safetensors"):
        chosen_file("o/n", ["a.bin"])


def test_fetching_without_the_hub_is_a_sentence(engine: Engine) -> None:
    with pytest.raises(AdapterError, match="could not be downloaded"):
        engine.library.fetch("nobody/nothing/x.safetensors")
