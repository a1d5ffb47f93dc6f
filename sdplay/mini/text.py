"""The embedded base model's words: a CLIP tokenizer with a small vocabulary, and a small CLIP text model."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.normalizers import Lowercase
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sdplay.mini import data

MAX_TOKENS = 77
TEXT_WIDTH = 128

COMMON_WORDS = """
a an the of in on and with by at to for from over under two three many small big large tiny next beside photo picture
painting drawing icon emoji sticker logo pattern simple cute flat detailed colourful colorful bright dark pastel art cartoon
illustration style background plain portrait close up view front side left right tilted sitting standing wearing holding
brown gold silver happy sad angry smiling sleeping old new
"""


def build_tokenizer(icons: Path, vocabulary: int) -> CLIPTokenizer:
    """Byte-pair encoding in CLIP's own format, learnt from the names of all icons and the words of prompts.

    Any text can be written with it: words it never saw fall apart into shorter pieces, down to bytes.
    """
    names = [data.words(name) for style in data.AUTOENCODER_STYLES for name in data.names_of(icons, style)]
    trained = [data.words(name) for name in data.trained_names()]
    corpus = [word for text in names + trained * 50 for word in re.findall(r"[a-z]+", text.lower())]
    corpus += [word for word in [*COMMON_WORDS.split(), *data.TRAINED_STYLES, *data.BACKGROUNDS] for _ in range(200)]
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = Lowercase()
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 258, initial_alphabet=bytes_, end_of_word_suffix="</w>", special_tokens=[], show_progress=False
    )
    learner.train_from_iterator(corpus, trainer)
    merges = _merges(learner)
    vocab = [*bytes_, *(symbol + "</w>" for symbol in bytes_), *("".join(pair) for pair in merges), "<|startoftext|>", "<|endoftext|>"]
    ids = {token: index for index, token in enumerate(dict.fromkeys(vocab))}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=MAX_TOKENS)


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """(B, 77) token ids -> (B, 77, TEXT_WIDTH)."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _merges(learner: Tokenizer) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
