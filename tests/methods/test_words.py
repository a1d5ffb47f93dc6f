"""The trigger word: its vectors are the only thing that learns, and nothing else is read as it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from sdplay.attach import attach, detach, worn
from sdplay.attach.words import Words, WordTokenizer, initial_vectors, table_of
from sdplay.config import TextualInversionConfig
from sdplay.device import Device
from sdplay.engine import Engine
from sdplay.errors import ConfigError
from sdplay.families import Parts, family
from sdplay.formats import read_adapter
from tests.methods.test_contract import settings
from tests.test_train import pixels, trained

SD15 = "sd15"


@pytest.fixture
def parts(tiny_base: Path) -> Parts:
    return family(SD15).load(tiny_base, Device("cpu", "CPU"), source="tiny")


def words(parts: Parts, word: str = "ohwx", count: int = 2) -> Words:
    return Words(parts, word, initial_vectors(parts, "dog", count, seed=0))


@pytest.mark.trap(20)
def test_only_the_whole_word_is_replaced(parts: Parts) -> None:
    """A token that is part of a word would tear the word apart, and a sub-string replacement would touch others."""
    tokenizer = WordTokenizer(parts.tokenizers["text_encoder"], "dog", ["<dog-0>", "<dog-1>"])

    assert tokenizer.replace("a dog, dogs, hotdog, Dog's dog-like DOG") == (
        "a <dog-0><dog-1>, dogs, hotdog, <dog-0><dog-1>'s dog-like <dog-0><dog-1>"
    )


def test_prompts_without_the_word_are_read_exactly_as_before(parts: Parts) -> None:
    texts = ["a dog", "dogs ohwxs", "", "<ohw", "ohwx-like"]
    before = [parts.tokenizers["text_encoder"](text).input_ids for text in texts]
    conditioning = family(SD15).encode_prompts(parts, texts).hidden

    attach(parts, words(parts))

    assert [parts.tokenizers["text_encoder"](text).input_ids for text in texts] == before
    assert torch.equal(family(SD15).encode_prompts(parts, texts).hidden, conditioning)


def test_the_word_takes_one_token_for_each_vector(parts: Parts) -> None:
    learned = words(parts, count=3)
    attach(parts, learned)

    ids = parts.tokenizers["text_encoder"]("ohwx", add_special_tokens=False).input_ids

    assert len(ids) == 3
    assert min(ids) >= table_of(parts.text_encoders["text_encoder"]).weight.shape[0] - 1


@pytest.mark.trap(2)
def test_a_word_that_starts_as_another_reads_like_it(parts: Parts) -> None:
    """One vector that is a copy of a row: the conditioning is that of the row's own token, bit for bit."""
    expected = family(SD15).encode_prompts(parts, ["a dog here"]).hidden
    attach(parts, words(parts, count=1))

    assert torch.equal(family(SD15).encode_prompts(parts, ["a ohwx here"]).hidden, expected)


def test_the_end_of_the_text_is_found_behind_the_word(tiny_base: Path) -> None:
    """CLIPs with eos_token_id 2 take the largest id for the end of the text: a new id must never reach them."""
    parts = family(SD15).load(tiny_base, Device("cpu", "CPU"), source="tiny")
    encoder = parts.text_encoders["text_encoder"]
    model = getattr(encoder, "text_model", encoder)
    model.eos_token_id = 2
    tokenizer = parts.tokenizers["text_encoder"]
    expected = encoder(torch.tensor([tokenizer("a dog here").input_ids])).pooler_output
    attach(parts, words(parts, count=1))

    found = encoder(torch.tensor([parts.tokenizers["text_encoder"]("a ohwx here").input_ids])).pooler_output

    assert torch.equal(found, expected)


def test_a_phrase_gives_a_row_to_each_vector_and_noise_of_the_tables_spread_to_the_rest(parts: Parts) -> None:
    table = table_of(parts.text_encoders["text_encoder"]).weight
    ids = parts.tokenizers["text_encoder"]("dog a", add_special_tokens=False).input_ids

    vectors = initial_vectors(parts, "dog a", 200, seed=1)["text_encoder"]

    assert torch.equal(vectors[: len(ids)], table[ids])
    assert float(vectors[len(ids) :].std()) == pytest.approx(float(table.std()), rel=0.1)
    assert len({tuple(row.tolist()) for row in vectors}) == 200, "no two vectors start alike"


def test_a_phrase_longer_than_the_vectors_is_refused_with_the_number_that_fits(parts: Parts) -> None:
    with pytest.raises(ConfigError, match="has 3 tokens") as caught:
        initial_vectors(parts, "dog a b", 2, seed=0)
    assert "Set Vectors to 3" in str(caught.value)


@pytest.mark.trap(20)
def test_a_word_whose_tokens_exist_already_is_refused(parts: Parts) -> None:
    parts.tokenizers["text_encoder"].add_tokens(["<ohwx-1>"])

    with pytest.raises(ConfigError, match="ohwx-1"):
        words(parts)


@pytest.mark.trap(18)
def test_norm_control_follows_its_formulas(parts: Parts) -> None:
    table = table_of(parts.text_encoders["text_encoder"]).weight
    learned = words(parts, count=2)
    long = torch.stack([torch.arange(1.0, 17.0), torch.linspace(-3, 9, 16)])

    learned.load({"text_encoder": long})
    learned.keep_norm("none")
    assert torch.equal(learned.vectors["text_encoder"], long)

    learned.keep_norm("std")
    torch.testing.assert_close(learned.vectors["text_encoder"].detach(), long * (table.std() / long.std()) ** 0.1)

    learned.keep_norm("median")
    norms = learned.vectors["text_encoder"].detach().norm(dim=1)
    torch.testing.assert_close(norms, table.norm(dim=1).median().expand(2))


@pytest.mark.trap(17)
def test_training_moves_the_vectors_and_no_row_of_the_table(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    """A gradient of zero is not enough: weight decay and momentum would move the other rows."""
    drawing = {"steps": 2}
    before = engine.draw(["a dog"], [1], drawing, base_model=str(tiny_base))[0].path

    run = trained(engine, settings(engine, tiny_base, pictures, "textual inversion", sample_prompts=[], weight_decay=0.5))

    vectors = load_file(run.folder / run.state().artifacts[0].file)["ohwx"]
    first = load_file(run.folder / "checkpoints" / "2" / "adapter.safetensors")["ohwx"]
    assert vectors.shape == (2, 16)
    assert (vectors != first).all()
    after = engine.draw(["a dog"], [1], drawing, base_model=str(tiny_base))[0].path
    with_word = engine.draw(["a dog"], [1], drawing, adapter=run.id, base_model=str(tiny_base))[0].path
    assert (pixels(before) == pixels(after)).all()
    assert (pixels(before) == pixels(with_word)).all(), "a prompt without the word is the base's"


def test_steps_whose_texts_lack_the_word_change_nothing(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    run = trained(engine, settings(engine, tiny_base, pictures, "textual inversion", sample_prompts=[], caption_dropout=1.0, norm="none"))

    vectors = [load_file(path)["ohwx"] for path in sorted(run.folder.glob("checkpoints/*/adapter.safetensors"))]
    assert torch.equal(vectors[0], vectors[-1])


def test_the_base_text_cache_never_holds_what_a_run_taught(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    """A LoRA run after a textual inversion of the same word learns what it would have learned without it."""
    asked = settings(engine, tiny_base, pictures, "lora", sample_prompts=[])
    trained(engine, settings(engine, tiny_base, pictures, "textual inversion", sample_prompts=[]))
    after = trained(engine, asked)
    fresh = trained(engine, {**asked, "caption_templates": ["{caption}, {token} dog ", "{caption}, {token} dog"]})

    assert [step.loss for step in after.state().losses] == [step.loss for step in fresh.state().losses]


def test_plain_diffusers_reads_the_embedding_and_draws_the_same_picture(
    engine: Engine, tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    run = trained(engine, settings(engine, tiny_base, pictures, "textual inversion", sample_prompts=[]))
    path = engine.export(run.id, tmp_path / "word.safetensors")
    ours = engine.draw(["a red ball, ohwx dog"], [7], {"steps": 4}, adapter=str(path), base_model=str(tiny_base))[0].path

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)
    pipeline.load_textual_inversion(str(path.parent), weight_name=path.name)
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(7))
    drawn = pipeline(
        "a red ball, ohwx dog", latents=noise, height=32, width=32, num_inference_steps=4, guidance_scale=4.0, output_type="np"
    ).images[0]

    assert abs(pixels(ours) - (drawn * 255).round().astype(int)).max() < 2


def test_a_family_with_two_encoders_gets_a_tensor_for_each_under_the_names_others_read(
    engine: Engine, tiny_sdxl: Path, pictures: Path
) -> None:
    run = trained(engine, settings(engine, tiny_sdxl, pictures, "textual inversion", sample_prompts=[]))

    (artifact,) = run.state().artifacts
    path = run.folder / artifact.file
    assert {name: tuple(tensor.shape) for name, tensor in load_file(path).items()} == {"clip_l": (2, 16), "clip_g": (2, 24)}
    assert read_adapter(path).trigger == "ohwx"


def test_a_word_of_a_t5_is_heard(tiny_sd3: Path) -> None:
    """T5 looks its tokens up in a copy of the table that `get_input_embeddings` returns."""
    parts = family("sd3").load(tiny_sd3, Device("cpu", "CPU"), source="tiny")
    plain = family("sd3").encode_prompts(parts, ["a ohwx"]).hidden

    with worn(parts, Words(parts, "ohwx", {"text_encoder_3": torch.full((1, 40), 2.0)})):
        heard = family("sd3").encode_prompts(parts, ["a ohwx"]).hidden

    assert not torch.equal(heard[:, 77:], plain[:, 77:])
    assert torch.equal(heard[:, :77], plain[:, :77])
    assert torch.equal(family("sd3").encode_prompts(parts, ["a ohwx"]).hidden, plain)


def test_two_words_can_be_on_at_once(parts: Parts) -> None:
    first, second = words(parts, "ohwx", 1), words(parts, "sks", 2)
    attach(parts, first)
    alone = family(SD15).encode_prompts(parts, ["ohwx"]).hidden
    attach(parts, second)

    both = family(SD15).encode_prompts(parts, ["ohwx"]).hidden
    detach(parts, first)

    assert torch.equal(alone, both)
    assert len(parts.tokenizers["text_encoder"]("sks", add_special_tokens=False).input_ids) == 2


def test_a_word_is_needed_and_must_be_used(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    with pytest.raises(ConfigError, match="trigger word"):
        TextualInversionConfig(token="").check()
    with pytest.raises(ConfigError, match="trigger word"):
        engine.submit(settings(engine, tiny_base, pictures, "textual inversion", caption_templates=["{caption}"]))
    assert engine.runs() == []
