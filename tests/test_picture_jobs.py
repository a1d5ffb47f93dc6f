"""Captions by a model: real classes at tiny size, in the worker."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sdplay.engine import Engine
from sdplay.errors import DataError
from sdplay.picture_jobs import PictureJob


@pytest.fixture(scope="session")
def tiny_blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BLIP's classes with random weights and a few words."""
    import torch
    from transformers import BertTokenizerFast, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-blip")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", "a", "red", "ball", "dog", "on", "grass"]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    text = {
        "vocab_size": len(words), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "encoder_hidden_size": 16, "projection_dim": 16, "bos_token_id": 5, "sep_token_id": 3, "pad_token_id": 0, "eos_token_id": 3,
    }  # fmt: skip
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
    }
    BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def ended(engine: Engine, dataset_id: str) -> PictureJob:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        job = engine.picture_jobs.state(dataset_id)
        if job and job.ended:
            return job
        time.sleep(0.05)
    raise AssertionError("the job did not end")


def test_a_model_captions_what_has_none_and_undo_takes_it_back(engine: Engine, pictures: Path, tiny_blip: Path) -> None:
    dataset = engine.datasets.create([pictures])
    first, second = (example.key for example in dataset.examples[:2])
    before = engine.datasets.set_captions(dataset.id, {first: "", second: ""})

    engine.picture_jobs.write_captions(dataset.id, str(tiny_blip), only_missing=True)
    job = ended(engine, dataset.id)
    after = engine.dataset(dataset.id)

    assert (job.status, job.done, job.total) == ("finished", 2, 2), job.message
    assert all(example.caption for example in after.examples)
    assert after.examples[2:] == before.examples[2:]
    assert engine.datasets.undo(dataset.id)[0].examples == before.examples


def test_a_model_that_cannot_be_had_is_told_and_changes_nothing(engine: Engine, pictures: Path) -> None:
    dataset = engine.datasets.create([pictures])

    engine.picture_jobs.write_captions(dataset.id, "nobody/no-such-captioner", only_missing=False)
    job = ended(engine, dataset.id)

    assert job.status == "failed"
    assert "could not be had" in job.message
    assert "file names" in job.message
    assert engine.dataset(dataset.id) == dataset


def test_a_model_of_another_kind_is_refused(engine: Engine, pictures: Path, tiny_base: Path) -> None:
    dataset = engine.datasets.create([pictures])

    engine.picture_jobs.write_captions(dataset.id, str(tiny_base / "text_encoder"), only_missing=False)

    assert "not a captioning model" in ended(engine, dataset.id).message


def test_with_captions_everywhere_there_is_nothing_to_do(engine: Engine, pictures: Path) -> None:
    dataset = engine.datasets.create([pictures])

    with pytest.raises(DataError, match="has a caption already"):
        engine.picture_jobs.write_captions(dataset.id, "any/model", only_missing=True)


def test_without_rembg_background_removal_says_what_to_install(engine: Engine, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(DataError, match="pip install rembg"):
        engine.picture_jobs.find_subjects(engine.datasets.create([pictures]).id)
