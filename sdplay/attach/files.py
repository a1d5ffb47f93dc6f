"""What was learned <-> one safetensors file, and back onto a base to draw with.

    adapter      `<model>.<layer>.lora_A.weight` ..., peft's names; LoRA, DoRA and rsLoRA with diffusers' metadata
    words        one tensor under the trigger word, or `clip_l`, `clip_g` (, `t5xxl`) for families with several encoders
    both         an adapter, and `lora_words.<encoder>` beside it, which diffusers passes over
    weights      `<model>.<parameter>`; `ema.<model>.<parameter>` wins over it

`sdplay.learned` in the header says which of these a file is; without it a file is foreign and read by sdplay/export.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sdplay.attach import Attachment, attach, detach
from sdplay.attach.adapters import Adapter, Host, Shape
from sdplay.attach.weights import Weights
from sdplay.attach.words import Words
from sdplay.errors import AdapterError
from sdplay.export import MAX_RANK, LoraFile, attached, read_header, read_lora
from sdplay.families import Parts
from sdplay.workspace import write_atomically

LEARNED, SHAPE, WORD = "sdplay.learned", "sdplay.shape", "sdplay.word"
MAX_MODEL_MB = 12_000
WORDS_IN_ADAPTER = "lora_words."
"""diffusers takes a file for a LoRA only if every key has `lora` in it."""
EMA = "ema."
ENCODER_KEYS = {"text_encoder": "clip_l", "text_encoder_2": "clip_g", "text_encoder_3": "t5xxl"}
"""What A1111, ComfyUI and diffusers call the vectors for each encoder of a family with several."""
FORMATS = {"lora": "diffusers LoRA", "dora": "diffusers DoRA", "rslora": "diffusers rsLoRA", "loha": "peft LoHa", "lokr": "peft LoKr"}


class Learned(Protocol):
    """What a file teaches a base."""

    def on(self, parts: Parts, strength: float) -> AbstractContextManager[None]:
        """A context in which the base has learned it. Raises AdapterError when it was made for another base."""


def write_adapter(path: Path, adapter: Adapter, facts: Mapping[str, str], words: Words | None = None) -> None:
    """Write an adapter, with the words it was trained around if there are any."""
    shape, tensors = adapter.shape, adapter.weights()
    known = {LEARNED: "adapter", SHAPE: json.dumps({"kind": shape.kind, "rank": shape.rank, "alpha": shape.alpha})}
    if shape.kind in ("lora", "dora", "rslora"):
        config = {"r": shape.rank, "lora_alpha": shape.alpha, "peft_type": "LORA", "bias": "none", "lora_dropout": 0.0}
        config |= {"use_dora": shape.kind == "dora", "use_rslora": shape.kind == "rslora"}
        values = {
            f"{model}.{key}": value
            for model, host in adapter.hosts.items()
            for key, value in {**config, "target_modules": sorted(host.layers)}.items()
        }
        known[LORA_ADAPTER_METADATA_KEY] = json.dumps(values)
    if words:
        known[WORD] = words.word
        tensors |= {f"{WORDS_IN_ADAPTER}{name}": _copy(vectors) for name, vectors in words.vectors.items()}
    _write(path, tensors, {**known, **facts})


def write_words(path: Path, words: Words, facts: Mapping[str, str]) -> None:
    """Write an embedding that diffusers, A1111 and ComfyUI read."""
    single = len(words.vectors) == 1
    tensors = {words.word if single else ENCODER_KEYS[name]: _copy(vectors) for name, vectors in words.vectors.items()}
    _write(path, tensors, {LEARNED: "words", WORD: words.word, **facts})


def write_weights(path: Path, values: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write whole weights by their names, in the number format they come in."""
    _write(path, {name: _copy(tensor) for name, tensor in values.items()}, {LEARNED: "weights", **facts})


def read_learned(path: Path) -> Learned:
    """Read and check any file that sdplay draws with. Raises AdapterError with what is wrong with it."""
    header = read_header(path, max_mb=MAX_MODEL_MB)
    given = header.pop("__metadata__", None)
    metadata = {str(key): str(value) for key, value in given.items()} if isinstance(given, dict) else {}
    learned = metadata.get(LEARNED)
    if learned is None and set(header) != {"clip_l", "clip_g"}:
        return _Foreign(read_lora(path))
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise AdapterError(f"{path.name} is damaged: {error}.", "Download or export it again.") from None
    broken = next((name for name, tensor in tensors.items() if not tensor.is_floating_point() or not torch.isfinite(tensor).all()), None)
    if broken is not None:
        raise AdapterError(
            f"{path.name} has values that are not finite numbers, in {broken[:60]}.", "Its training failed; use an earlier checkpoint."
        )
    if learned == "weights":
        return _WholeWeights(path.name, tensors)
    if learned == "adapter":
        words = {key.removeprefix(WORDS_IN_ADAPTER): tensors.pop(key) for key in list(tensors) if key.startswith(WORDS_IN_ADAPTER)}
        return _OwnAdapter(path.name, tensors, _shape(path.name, metadata), metadata.get(WORD, ""), words)
    return _OwnWords(path.name, metadata.get(WORD) or path.stem, encoders_of(tensors))


def encoders_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vectors of an embedding file by the encoders' names."""
    if len(tensors) == 1:
        return {"text_encoder": next(iter(tensors.values()))}
    names = {key: name for name, key in ENCODER_KEYS.items()}
    return {names.get(key, key): tensor for key, tensor in tensors.items()}


@dataclass(frozen=True)
class _Foreign:
    lora: LoraFile

    @contextmanager
    def on(self, parts: Parts, strength: float) -> Iterator[None]:
        with attached(parts, self.lora, strength):
            yield


@dataclass(frozen=True)
class _OwnWords:
    name: str
    word: str
    vectors: dict[str, Tensor]

    @contextmanager
    def on(self, parts: Parts, strength: float) -> Iterator[None]:
        """A word has no strength."""
        with _worn(parts, self.made(parts)):
            yield

    def made(self, parts: Parts) -> Words:
        from sdplay.attach.words import table_of

        widths = {name: table_of(encoder).weight.shape[1] for name, encoder in parts.text_encoders.items()}
        if any(tensor.dim() != 2 or tensor.shape[1] != widths.get(name) for name, tensor in self.vectors.items()):
            raise _unfit(self.name, ", ".join(self.vectors))
        return Words(parts, self.word, self.vectors)


@dataclass(frozen=True)
class _OwnAdapter:
    name: str
    tensors: dict[str, Tensor]
    shape: Shape
    word: str
    vectors: dict[str, Tensor]

    @contextmanager
    def on(self, parts: Parts, strength: float) -> Iterator[None]:
        models = _models(parts)
        layers: dict[str, set[str]] = {}
        for key in self.tensors:
            model, _, rest = key.partition(".")
            layers.setdefault(model, set()).add(_layer_of(rest))
        for model, paths in layers.items():
            there = dict(models[model].named_modules()) if model in models else {}
            missing = next((path for path in sorted(paths) if not isinstance(there.get(path), nn.Linear | nn.Conv2d)), None)
            if missing is not None:
                raise _unfit(self.name, missing)
        adapter = Adapter(self.shape, {model: Host(models[model], tuple(sorted(paths))) for model, paths in layers.items()}, seed=0)
        try:
            adapter.load_weights(self.tensors)
        except ValueError as error:
            raise _unfit(self.name, str(error)) from None
        adapter.set_strength(strength)
        with ExitStack() as worn:
            worn.enter_context(_worn(parts, adapter))
            if self.vectors:
                worn.enter_context(_OwnWords(self.name, self.word, self.vectors).on(parts, 1.0))
            yield


@dataclass(frozen=True)
class _WholeWeights:
    name: str
    tensors: dict[str, Tensor]

    @contextmanager
    def on(self, parts: Parts, strength: float) -> Iterator[None]:
        averaged = {name.removeprefix(EMA): tensor for name, tensor in self.tensors.items() if name.startswith(EMA)}
        values = averaged or self.tensors
        names = {name.partition(".")[0] for name in values}
        models = _models(parts)
        if not names <= models.keys():
            raise _unfit(self.name, min(names - models.keys()))
        weights = Weights({name: models[name] for name in sorted(names)})
        try:
            weights.load(values, strength)
        except ValueError as error:
            raise _unfit(self.name, str(error)) from None
        with _worn(parts, weights):
            yield


@contextmanager
def _worn(parts: Parts, attachment: Attachment) -> Iterator[None]:
    attach(parts, attachment)
    try:
        yield
    finally:
        detach(parts, attachment)


def _models(parts: Parts) -> dict[str, nn.Module]:
    """Everything that can learn, by the names that files use."""
    return {"unet": parts.denoiser, "transformer": parts.denoiser, **parts.text_encoders}


def _layer_of(key: str) -> str:
    for mark in (".lora_", ".hada_", ".lokr_"):
        key = key.split(mark)[0]
    return key


def _shape(name: str, metadata: Mapping[str, str]) -> Shape:
    try:
        shape = Shape(**json.loads(metadata[SHAPE]))
    except (KeyError, ValueError, TypeError):
        raise AdapterError(f"{name} does not say what adapter it is.", "Export it again.") from None
    if shape.kind not in FORMATS or not isinstance(shape.rank, int) or not 1 <= shape.rank <= MAX_RANK:
        raise AdapterError(
            f"{name} is an adapter of kind {shape.kind!r:.40} and rank {shape.rank!r:.20}.", f"One rank up to {MAX_RANK} is read."
        )
    return shape


def _unfit(name: str, where: str) -> AdapterError:
    return AdapterError(f"{name} does not fit this base model ({where[:120]}).", "It was made for another one: choose that as base.")


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone().contiguous()


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    write_atomically(path, save(dict(tensors), metadata={"format": "pt", **metadata}))
