"""Words that a file brings: read in every layout, usable in a prompt, and gone again afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdplay.errors import AdapterError
from sdplay.families import Family, Parts
from sdplay.formats import AdapterFile, attached, prove, read_adapter, write_adapter, write_embedding

Make = Callable[..., AdapterFile]
WIDTH = 16
"""Of the tiny base's text encoder."""


def vectors(count: int, width: int = WIDTH) -> Tensor:
    return torch.randn((count, width), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_a_written_word_is_read_back_with_its_vectors(tmp_path: Path, layout: str) -> None:
    write_embedding(tmp_path / "fox.safetensors", {"text_encoder": vectors(3)}, "<fox>", layout)

    adapter = read_adapter(tmp_path / "fox.safetensors")

    assert torch.equal(adapter.embeddings["<fox>"]["text_encoder"], vectors(3))
    assert (adapter.methods, adapter.trigger, adapter.layout) == (["embedding"], "<fox>", "embedding")


def test_sdxl_words_are_written_as_other_programs_expect(tmp_path: Path) -> None:
    both = {"text_encoder": vectors(2, 768), "text_encoder_2": vectors(2, 1280)}
    write_embedding(tmp_path / "a.safetensors", both, "<fox>", "kohya")
    write_embedding(tmp_path / "d.safetensors", both, "<fox>", "diffusers")

    assert {name: tuple(tensor.shape) for name, tensor in load_file(tmp_path / "a.safetensors").items()} == {
        "clip_l": (2, 768), "clip_g": (2, 1280),
    }  # fmt: skip
    assert load_file(tmp_path / "d.safetensors")["<fox>"].shape == (2, 768)
    assert load_file(tmp_path / "d.text_encoder_2.safetensors")["<fox>"].shape == (2, 1280)
    assert read_adapter(tmp_path / "a.safetensors").family == "sdxl"


def test_an_embedding_is_tens_of_kilobytes(tmp_path: Path) -> None:
    write_embedding(tmp_path / "a.safetensors", {"text_encoder": vectors(8, 768)}, "<fox>", "kohya")

    assert 8 * 768 * 4 <= (tmp_path / "a.safetensors").stat().st_size < 8 * 768 * 4 + 1000


def test_a_word_without_a_name_in_the_file_is_called_as_the_file(tmp_path: Path) -> None:
    save_file({"emb_params": vectors(2)}, tmp_path / "easynegative.safetensors")

    assert list(read_adapter(tmp_path / "easynegative.safetensors").embeddings) == ["easynegative"]


def test_the_words_of_2022_files_are_words_of_their_own(tmp_path: Path) -> None:
    save_file({"<s1>": vectors(1)[0], "<s2>": vectors(1)[0]}, tmp_path / "a.safetensors", metadata={"<s1>": "<embed>", "<s2>": "<embed>"})

    adapter = read_adapter(tmp_path / "a.safetensors")

    assert list(adapter.embeddings) == ["<s1>", "<s2>"]
    assert adapter.embeddings["<s1>"]["text_encoder"].shape == (1, WIDTH)


def test_words_beside_a_lora_are_bundled_into_a_kohya_file(tmp_path: Path) -> None:
    write_adapter(tmp_path / "l.safetensors", AdapterFile("l", embeddings={"<a>": {"text_encoder": vectors(1)}}), "kohya")
    two = AdapterFile("two", embeddings={"<a>": {"text_encoder": vectors(1)}, "<b>": {"text_encoder": vectors(2)}})
    write_adapter(tmp_path / "two.safetensors", two, "kohya")

    assert set(load_file(tmp_path / "l.safetensors")) == {"emb_params"}
    assert set(load_file(tmp_path / "two.safetensors")) == {"bundle_emb.<a>.clip_l", "bundle_emb.<b>.clip_l"}
    assert set(read_adapter(tmp_path / "two.safetensors").embeddings) == {"<a>", "<b>"}


def test_words_beside_a_lora_are_kept_in_diffusers_layout_under_names_that_diffusers_passes_over(make: Make, tmp_path: Path) -> None:
    """It takes a file for a LoRA only if `lora` is in every name. The word may be of any script."""
    adapter = replace(make(), embeddings={"<köter 1>": {"text_encoder": vectors(2)}})

    write_adapter(tmp_path / "d.safetensors", adapter, "diffusers")

    assert all("lora" in key for key in load_file(tmp_path / "d.safetensors"))
    read = read_adapter(tmp_path / "d.safetensors")
    assert torch.equal(read.embeddings["<köter 1>"]["text_encoder"], vectors(2))
    assert read.layers.keys() == adapter.layers.keys()


@torch.no_grad()
def test_a_prompt_with_the_word_is_read_as_in_plain_diffusers(parts: Parts, sd15: Family, tiny_base: Path, tmp_path: Path) -> None:
    """Three vectors, one word: the judge is diffusers' `load_textual_inversion`."""
    write_embedding(tmp_path / "fox.safetensors", {"text_encoder": vectors(3)}, "<fox>", "diffusers")
    adapter = read_adapter(tmp_path / "fox.safetensors")
    with attached(parts, [(adapter, 1.0)]):
        ours = sd15.encode_prompts(parts, ["a <fox>, red"]).hidden

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)
    pipeline.load_textual_inversion(tmp_path, weight_name="fox.safetensors")
    theirs = pipeline.encode_prompt("a <fox>, red", torch.device("cpu"), 1, do_classifier_free_guidance=False)[0]

    assert (ours - theirs).abs().max() < 1e-5
    assert (ours - sd15.encode_prompts(parts, ["a <fox>, red"]).hidden).abs().max() > 1e-3


def test_afterwards_the_base_has_its_own_words_only(parts: Parts, sd15: Family) -> None:
    adapter = AdapterFile("x", embeddings={"fox": {"text_encoder": vectors(2)}})
    before, tokenizer = sd15.encode_prompts(parts, ["a fox"]).hidden, parts.tokenizers["text_encoder"]
    table = parts.text_encoders["text_encoder"].get_input_embeddings()  # type: ignore[operator]
    weight, count = table.weight, len(tokenizer)

    with attached(parts, [(adapter, 1.0)]):
        inside = sd15.encode_prompts(parts, ["a fox"]).hidden
        other = sd15.encode_prompts(parts, ["a dog"]).hidden

    assert not torch.equal(before, inside)
    assert torch.equal(other, sd15.encode_prompts(parts, ["a dog"]).hidden)
    assert torch.equal(before, sd15.encode_prompts(parts, ["a fox"]).hidden)
    assert parts.tokenizers["text_encoder"] is tokenizer
    assert table.weight is weight
    assert len(tokenizer) == count


@pytest.mark.trap(20)
def test_only_the_whole_word_is_replaced(parts: Parts, sd15: Family) -> None:
    """Trap 20 of the field: a word added to the table takes parts of other words with it."""
    with attached(parts, [(AdapterFile("x", embeddings={"dog": {"text_encoder": vectors(1)}}), 1.0)]):
        inside = sd15.encode_prompts(parts, ["dogs", "hotdog", "a dog."]).hidden

    outside = sd15.encode_prompts(parts, ["dogs", "hotdog", "a dog."]).hidden
    assert torch.equal(inside[:2], outside[:2])
    assert not torch.equal(inside[2], outside[2])


def test_words_are_replaced_at_once_so_that_none_is_found_in_anothers_tokens(parts: Parts, sd15: Family) -> None:
    words = {"do": {"text_encoder": vectors(1)}, "sdplay": {"text_encoder": 2 * vectors(1)}}
    with attached(parts, [(AdapterFile("x", embeddings={"do": words["do"]}), 1.0)]):
        alone = sd15.encode_prompts(parts, ["a do"]).hidden

    with attached(parts, [(AdapterFile("x", embeddings=words), 1.0)]):
        assert torch.equal(sd15.encode_prompts(parts, ["a do"]).hidden, alone)


def test_at_strength_zero_the_word_is_only_letters(parts: Parts, sd15: Family) -> None:
    with attached(parts, [(AdapterFile("x", embeddings={"dog": {"text_encoder": vectors(1)}}), 0.0)]):
        inside = sd15.encode_prompts(parts, ["dog"]).hidden

    assert torch.equal(inside, sd15.encode_prompts(parts, ["dog"]).hidden)


def test_the_pooled_vector_of_an_old_clip_still_comes_from_the_end_of_the_text(parts: Parts) -> None:
    """SDXL's second encoder says its end token is 2 and looks for the highest number, which a new token would be."""
    module = parts.text_encoders["text_encoder"]
    holder = next(part for part in module.modules() if hasattr(part, "eos_token_id"))
    true_end = holder.eos_token_id
    holder.eos_token_id = 2
    try:
        with attached(parts, [(AdapterFile("x", embeddings={"fox": {"text_encoder": vectors(1)}}), 1.0)]):
            ids = parts.tokenizers["text_encoder"]("a fox", padding="max_length", max_length=77, return_tensors="pt").input_ids
            output = module(ids)
            end = int((ids[0] == parts.tokenizers["text_encoder"].eos_token_id).int().argmax())
            assert torch.equal(output.pooler_output[0], output.last_hidden_state[0, end])
        assert holder.eos_token_id == 2
    finally:
        holder.eos_token_id = true_end


def test_vectors_of_another_width_are_refused_with_both_numbers(parts: Parts) -> None:
    stranger = AdapterFile("x", embeddings={"fox": {"text_encoder": vectors(1, 768)}})

    with pytest.raises(AdapterError, match=r"768 .* 16"), attached(parts, [(stranger, 1.0)]):
        pass
    with (
        pytest.raises(AdapterError, match="text_encoder_2"),
        attached(parts, [(replace(stranger, embeddings={"fox": {"text_encoder_2": vectors(1)}}), 1.0)]),
    ):
        pass


def test_something_that_is_no_list_of_vectors_is_refused(tmp_path: Path) -> None:
    save_file({"emb_params": torch.zeros(200, 768)}, tmp_path / "a.safetensors")

    with pytest.raises(AdapterError, match="vectors of the shape"):
        read_adapter(tmp_path / "a.safetensors")


def test_a_written_word_is_proved(parts: Parts, sd15: Family, tmp_path: Path) -> None:
    write_embedding(tmp_path / "a.safetensors", {"text_encoder": vectors(2)}, "<fox>", "kohya")

    assert prove(tmp_path / "a.safetensors", parts, sd15).trigger == "<fox>"
