"""`sdplay inspect` says what a file is, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sdplay.cli import main
from sdplay.formats import AdapterFile, inspect_adapter, report_lines, write_adapter

Make = Callable[..., AdapterFile]


def test_a_good_file_is_told_in_full(make: Make, tmp_path: Path) -> None:
    write_adapter(tmp_path / "fox.safetensors", make(dora=True), "kohya")

    report = inspect_adapter(tmp_path / "fox.safetensors")

    assert (report.family, report.methods, report.layout) == ("sd15", ("DoRA",), "kohya (A1111, ComfyUI)")
    assert (report.ranks, report.alphas) == ((2, 3), (1.0, 2.0, 3.0))
    assert report.layers == {"text_encoder": 2, "unet": 5}
    assert report.trigger == "sks-fox"
    assert report.training["steps"] == "6"
    assert report.problems == ()


def test_zero_layers_and_a_missing_trigger_are_named(tmp_path: Path) -> None:
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    save_file({f"{layer}.lora_A.weight": torch.ones(2, 768), f"{layer}.lora_B.weight": torch.zeros(320, 2)}, tmp_path / "a.safetensors")

    report = inspect_adapter(tmp_path / "a.safetensors")

    assert report.family_title == "Stable Diffusion 1.x"
    assert len(report.problems) == 2
    assert "1 of 1 layers are zero" in report.problems[0]
    assert "trigger" in report.problems[1]


def test_a_file_that_cannot_be_used_is_reported_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"model.diffusion_model.out.2.weight": torch.zeros(2, 2), "x.y": torch.zeros(1)}, tmp_path / "model.safetensors")

    code = main(["inspect", str(tmp_path / "model.safetensors")])

    assert code == 1
    assert "wrong: model.safetensors is a whole model" in capsys.readouterr().out


def test_metadata_of_strangers_cannot_break_the_report(tmp_path: Path) -> None:
    weights = {"unet.conv_in.lora_A.weight": torch.ones(1, 4, 3, 3), "unet.conv_in.lora_B.weight": torch.ones(320, 1, 1, 1)}
    for index, tags in enumerate(("[1]", '{"a": 3}', "[" * 5000, '{"a": {"b": "many"}}', "x" * 10_000)):
        facts = {"ss_tag_frequency": tags, "ss_steps": "9" * 5000}
        save_file(weights, tmp_path / f"{index}.safetensors", metadata=facts)

        report = inspect_adapter(tmp_path / f"{index}.safetensors")

        assert max(map(len, report_lines(report))) < 400


@pytest.mark.shared
def test_the_real_file_of_2022_is_recognised(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["inspect", str(shared / "analog_svd_rank4.safetensors"), "--json"])
    told = json.loads(capsys.readouterr().out)

    assert code == 0
    assert (told["family"], told["methods"], told["layout"], told["ranks"]) == ("sd15", ["LoRA"], "2022, by number", [4])
    assert told["layers"] == {"text_encoder": 48, "unet": 144}
