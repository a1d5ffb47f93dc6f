"""A file's header is hostile until it has been checked."""

from __future__ import annotations

import json
import pickle
import struct
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sdplay.errors import AdapterError
from sdplay.formats import read_adapter, read_header

LAYER = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def write(path: Path, header: object, body: bytes = b"") -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + body)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"I am not an adapter, I am a text file of some length.",
        pickle.dumps({"unet.a.lora_A.weight": [1]}),
        b"PK\x03\x04" + b"\0" * 60,
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 90_000_000) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
    ],
    ids=["empty", "text", "pickle", "zip", "length beyond the file", "90 MB said", "a list", "deep nesting"],
)
def test_files_that_are_no_adapters_are_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)

    with pytest.raises(AdapterError, match=r"file\.safetensors"):
        read_adapter(path)


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".bin", ".pth", ".PT"])
def test_pickled_files_are_refused_without_being_opened(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"lora{suffix}"  # does not exist: opening it would be another error

    with pytest.raises(AdapterError, match="pickled"):
        read_adapter(path)


@pytest.mark.parametrize(
    "entry",
    [
        {**ENTRY, "data_offsets": [-4, 0]},
        {**ENTRY, "data_offsets": [4, 0]},
        {**ENTRY, "data_offsets": [0, 8]},
        {**ENTRY, "data_offsets": [0, 2**70]},
        {**ENTRY, "shape": [-1]},
        {**ENTRY, "shape": [2**35, 2**35]},
        {**ENTRY, "shape": [1.0]},
        {**ENTRY, "shape": [True]},
        {**ENTRY, "dtype": "I64"},
        {**ENTRY, "dtype": ["F32"]},
        {"dtype": "F32"},
        "F32",
    ],
)
def test_a_tensor_without_a_possible_type_shape_or_place_is_refused(tmp_path: Path, entry: object) -> None:
    with pytest.raises(AdapterError, match="unreadable header"):
        read_header(write(tmp_path / "a.safetensors", {f"{LAYER}.lora_A.weight": entry}, b"\0" * 4))


def test_overlapping_tensors_and_gaps_are_refused(tmp_path: Path) -> None:
    overlap = {"a": ENTRY, "b": ENTRY}
    gap = {"a": ENTRY, "b": {**ENTRY, "data_offsets": [8, 12]}}

    for header, body in ((overlap, 4), (gap, 12)):
        with pytest.raises(AdapterError, match="overlap or leave gaps"):
            read_header(write(tmp_path / "a.safetensors", header, b"\0" * body))


def test_a_file_that_ends_early_or_late_is_refused(tmp_path: Path) -> None:
    for body in (2, 8):
        with pytest.raises(AdapterError, match="damaged"):
            read_header(write(tmp_path / "a.safetensors", {"a.lora_A.weight": ENTRY}, b"\0" * body))


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    one = json.dumps({"a": ENTRY})[1:-1]

    with pytest.raises(AdapterError, match="unreadable header"):
        read_header(write(tmp_path / "a.safetensors", f"{{{one},{one}}}".encode(), b"\0" * 4))


@pytest.mark.parametrize("name", ["unet.__class__.lora_A.weight", "unet.a/../b.lora_A.weight", "a b.lora_A.weight", "x" * 400])
def test_hostile_names_are_refused_before_any_tensor_is_read(tmp_path: Path, name: str) -> None:
    header = {name: ENTRY, "other": {**ENTRY, "data_offsets": [4, 8]}}

    with pytest.raises(AdapterError, match="strange name"):
        read_adapter(write(tmp_path / "a.safetensors", header, b"\0" * 8))


def test_too_many_tensors_are_refused_within_a_second(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    path = write(tmp_path / "a.safetensors", {f"t{index}": entry for index in range(20_001)})
    started = time.process_time()

    with pytest.raises(AdapterError, match="header"):
        read_adapter(path)
    assert time.process_time() - started < 1


def test_metadata_that_are_not_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="metadata"):
        read_header(write(tmp_path / "a.safetensors", {"__metadata__": {"a": [1]}, "b": ENTRY}, b"\0" * 4))


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    for bad in (torch.nan, torch.inf):
        save_file(
            {f"{LAYER}.lora_A.weight": torch.full((4, 16), bad), f"{LAYER}.lora_B.weight": torch.zeros(16, 4)}, tmp_path / "a.safetensors"
        )
        with pytest.raises(AdapterError, match="not finite"):
            read_adapter(tmp_path / "a.safetensors")


def test_an_absurd_rank_is_refused(tmp_path: Path) -> None:
    save_file({f"{LAYER}.lora_A.weight": torch.zeros(300, 16), f"{LAYER}.lora_B.weight": torch.zeros(16, 300)}, tmp_path / "a.safetensors")

    with pytest.raises(AdapterError, match="rank 300"):
        read_adapter(tmp_path / "a.safetensors")


def test_halves_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    save_file({f"{LAYER}.lora_A.weight": torch.zeros(4, 16), f"{LAYER}.lora_B.weight": torch.zeros(16, 3)}, tmp_path / "a.safetensors")

    with pytest.raises(AdapterError, match="do not fit"):
        read_adapter(tmp_path / "a.safetensors")


def test_a_whole_model_is_named_as_such(tmp_path: Path) -> None:
    weights = {"model.diffusion_model.out.2.weight": torch.zeros(2, 2), "first_stage_model.x": torch.zeros(2)}
    save_file(weights, tmp_path / "model.safetensors")

    with pytest.raises(AdapterError, match="whole model"):
        read_adapter(tmp_path / "model.safetensors")


def test_tensors_that_no_reader_knows_are_listed(tmp_path: Path) -> None:
    weights = {f"{LAYER}.lora_A.weight": torch.zeros(4, 16), f"{LAYER}.lora_B.weight": torch.zeros(16, 4), "unet.odd.thing": torch.zeros(1)}
    save_file(weights, tmp_path / "a.safetensors")

    with pytest.raises(AdapterError, match=r"cannot place: unet\.odd\.thing"):
        read_adapter(tmp_path / "a.safetensors")
