"""One training step without its numbers: what it keeps, what it holds at its fullest, and the operations of its forward pass.

Tensors here have shapes and types but no contents (torch's fake tensors), so a base of any size is asked in seconds and no GPU is
needed. The networks, the method that is attached, the family's `predict` and autograd are the real ones.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from sdplay.attach.words import table_of
from sdplay.cache import ENCODE_BATCH
from sdplay.config import FrozenWeights
from sdplay.diffusion.objective import per_sample_loss
from sdplay.families import Conditioning, Family, Parts
from sdplay.hub import Base
from sdplay.pipelines import AT_ONCE_PX, read_json
from sdplay.quantized import quantize_layers

FLOAT32_OPERATIONS = (
    "group_norm",
    "layer_norm",
    "rms_norm",
    "softmax",
    "log_softmax",
    "interpolate",
    "upsample_nearest2d",
    "pow",
    "exp",
    "mse_loss",
)
"""What CUDA's autocast computes in float32 and the CPU's does not: those of torch's list AT_FORALL_FP32 that denoisers use."""
FLOP_FORMULAS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *rest, **named: sdpa_flop_count(q, k, v)}
"""torch 2.13 counts the attention of GPUs but not the CPU's; remove when it does."""


@dataclass(frozen=True)
class Step:
    """What one forward and backward pass holds, in bytes, beside weights and optimiser."""

    kept: int
    """At the end of the forward pass, for the backward pass: saved activations, each storage once, and the batch itself."""
    fullest: int
    """At the fullest moment of both passes, gradients of the trained weights included."""
    gradients: int
    """Of the trained weights, at the end."""


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operations have made since it was entered and that are still alive, each once, views never."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401  torch's own
        result = func(*args, **(kwargs or {}))
        given = {_storage(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and _storage(tensor) not in given:
                self._add(tensor)
        return result

    def _add(self, tensor: Tensor) -> None:
        storage, key = tensor.untyped_storage(), _storage(tensor)
        if key in self._known:
            return
        self._known.add(key)
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, key, storage.nbytes())

    def _drop(self, key: int, num_bytes: int) -> None:
        self._known.discard(key)
        self.now -= num_bytes


class CudaPrecision(TorchFunctionMode):
    """Makes the CPU's bfloat16 autocast, in which it must be, choose types as CUDA's does: the listed operations in float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401  torch's own
        if getattr(func, "__name__", "") in FLOAT32_OPERATIONS and torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map_only(
                Tensor, lambda tensor: tensor.float() if tensor.is_floating_point() else tensor, (args, kwargs or {})
            )
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class MicroBatch:
    """What goes through the denoiser at once."""

    count: int
    size: int
    """Side in px."""
    bfloat16: bool
    """Whether arithmetic is in bfloat16, as `device.autocast` chooses on GPUs."""
    passes: int = 1
    """Predictions whose errors are added up before the backward pass: two with prior preservation."""
    learns_text: bool = False
    """Whether the texts are encoded in the step, with gradients, and not read from the cache."""


def without_numbers(base: Base, family: Family, precision: str, *, weights: FrozenWeights = "auto") -> Parts:
    """A base's networks by its configs alone, on the meta device, frozen, with weights of the types a card would hold.

    weights: as a config's `frozen_weights`; a test compares with what `pipelines.shrink` does.
    """
    folder = base.folder
    index = read_json(folder / "model_index.json")
    encoders = [name for name, kind in index.items() if name.startswith("text_encoder") and kind[0] and (folder / name).is_dir()]
    with torch.device("meta"):
        denoiser = getattr(diffusers, index[family.DENOISER][1]).from_config(read_json(folder / family.DENOISER / "config.json"))
        vae = diffusers.AutoencoderKL.from_config(read_json(folder / "vae" / "config.json"))
        text_encoders = {name: _text_encoder(index[name][1], folder / name) for name in encoders}
    for network in (denoiser, vae, *text_encoders.values()):
        network.requires_grad_(False).eval()
    if precision == "bfloat16" and weights != "float32":
        for network in (denoiser, *text_encoders.values()):
            nn.Module.to(network, torch.bfloat16)
    if weights in ("int8", "nf4"):
        for network in (denoiser, *(encoder for name, encoder in text_encoders.items() if name == "text_encoder_3")):
            quantize_layers(network, weights)
    denoiser.to(memory_format=torch.channels_last)
    tokenizers = {name: name.replace("text_encoder", "tokenizer") for name in encoders}
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    return Parts(
        pipeline=SimpleNamespace(vae=vae),
        denoiser=denoiser,
        text_encoders=text_encoders,
        tokenizers={name: getattr(transformers, index[other][1]).from_pretrained(folder / other) for name, other in tokenizers.items()},
        device=torch.device("cpu"),
        size=family.native_size(folder),
        size_multiple=factor * int(denoiser.config.get("patch_size") or 1),
        latent_factor=factor,
        latent_channels=vae.config.latent_channels,
        source=base.source,
        fingerprint="",
    )


def checkpoint_gradients(parts: Parts) -> None:
    """Compute blocks again in the backward pass; not reentrant, because frozen inputs would leave adapters without gradients.

    torch switches function modes off in the backward pass, so what is computed again there brings its own.
    """
    again = partial(checkpoint, use_reentrant=False, context_fn=lambda: (nullcontext(), CudaPrecision()))
    parts.denoiser.enable_gradient_checkpointing(again)


def weight_bytes(parts: Parts) -> dict[str, int]:
    """Bytes of the weights and buffers by network."""
    return {name: sum(map(_num_bytes, (*network.parameters(), *network.buffers()))) for name, network in networks(parts).items()}


def networks(parts: Parts) -> dict[str, nn.Module]:
    """All that is on the card while training: nothing is moved off it."""
    return {"denoiser": parts.denoiser, "vae": parts.pipeline.vae, **parts.text_encoders}


def give_tables_numbers(parts: Parts) -> None:
    """The vocabularies of the text encoders that words are made of, as zeros: a method that learns words reads them."""
    for encoder in parts.clip_encoders.values():
        table = table_of(encoder)
        table.weight = nn.Parameter(torch.zeros(table.weight.shape, dtype=table.weight.dtype), requires_grad=False)


def pictures_bytes(parts: Parts, size: int) -> int:
    """The most that the autoencoder holds of pictures of a size, encoding as many as it is given at once or decoding one, in float32."""
    vae, side = parts.pipeline.vae, size // parts.latent_factor
    at_once = max(1, min(ENCODE_BATCH, AT_ONCE_PX // size**2))
    most = 0
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        vae.to_empty(device="cpu")
        for work, shape in ((vae.encode, (at_once, 3, size, size)), (vae.decode, (1, parts.latent_channels, side, side))):
            with LiveBytes() as live:
                work(torch.zeros(shape))
            most = max(most, live.most)
    return most


def predicted_step(
    parts: Parts, family: Family, batch: MicroBatch, *, times: int = 1, words: Mapping[str, nn.Parameter] | None = None
) -> Step:
    """What a step would hold. `parts` are from `without_numbers`, perhaps with a method attached, and are used up.

    words: vectors that learn, by text encoder; each text then begins with them.
    """
    with _fake(parts), CudaPrecision() if batch.bfloat16 else nullcontext():
        trained = [parameter for network in networks(parts).values() for parameter in _trained(network)]
        for name, vectors in (words or {}).items():
            trained.append(vectors)
            _begin_texts_with(parts.text_encoders[name], vectors)
        return measure(step_of(parts, family, batch), trained, times=times)


def forward_flop(parts: Parts, family: Family, batch: MicroBatch) -> int:
    """Floating-point operations of one prediction, a multiply-add as two. `parts` are used up."""
    counter = FlopCounterMode(display=False, custom_mapping=FLOP_FORMULAS)
    with _fake(parts), torch.no_grad():
        run = step_of(parts, family, batch)
        with counter:
            run()
    return counter.get_total_flops()


def step_of(parts: Parts, family: Family, batch: MicroBatch) -> Callable[[], Tensor]:
    """A function that makes the loss of a micro-batch whose latents and texts come from the cache, as the training loop does."""
    with torch.no_grad():
        text = family.encode_prompts(parts, [""] * batch.count)
    side = batch.size // parts.latent_factor
    shape = (batch.count, parts.latent_channels, side, side)
    parts.grey_latents[side, side] = torch.zeros(1, *shape[1:])

    def error() -> Tensor:
        x_t, target = (torch.zeros(shape).contiguous(memory_format=torch.channels_last) for _ in range(2))
        t, geometry = torch.zeros(batch.count), torch.zeros(batch.count, 6)
        if batch.learns_text:
            conditioning = family.encode_prompts(parts, [""] * batch.count)
        else:
            conditioning = Conditioning(**{name: tensor.clone() for name, tensor in text.tensors().items()})
        with torch.autocast("cpu", dtype=torch.bfloat16) if batch.bfloat16 else nullcontext():
            predicted = family.predict(parts, x_t, t, conditioning, geometry)
        return per_sample_loss(predicted, target).mean()

    def loss() -> Tensor:
        first, *others = (error() for _ in range(batch.passes))
        return sum(others, first)

    return loss


def measure(run: Callable[[], Tensor], trained: Sequence[nn.Parameter], *, times: int = 1) -> Step:
    """What `run`, which makes the loss of one micro-batch, and its backward pass hold. Works on fake tensors and on real ones.

    times: micro-batches per step; from the second on the gradients of the first are there.
    """
    kept = 0
    with LiveBytes() as live:
        for _ in range(min(times, 2)):
            before = live.now
            loss = run()
            kept = live.now - before
            loss.backward()
            del loss
    return Step(kept, live.most, sum(_num_bytes(parameter.grad) for parameter in trained if parameter.grad is not None))


def _begin_texts_with(encoder: nn.Module, vectors: nn.Parameter) -> None:
    """In place of the hooks of attach/words.py, whose shapes depend on where the word is."""
    table = table_of(encoder)
    table._forward_hooks.clear()
    encoder._forward_pre_hooks.clear()

    def exchanged(module: nn.Module, given: tuple[Any, ...], rows: Tensor) -> Tensor:
        replaced = rows.clone()
        replaced[:, 1 : 1 + len(vectors)] = vectors.to(rows.dtype)
        return replaced

    table.register_forward_hook(exchanged)


@contextmanager
def _fake(parts: Parts) -> Iterator[None]:
    """Inside, the networks have fake weights on the CPU in place of those on the meta device, on which autocast does nothing."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        for network in (parts.denoiser, *parts.text_encoders.values()):
            network.to_empty(device="cpu")
        yield


def _text_encoder(kind: str, folder: Path) -> nn.Module:
    made = getattr(transformers, kind)
    return made(made.config_class.from_dict(read_json(folder / "config.json")))


def _trained(network: nn.Module) -> Iterator[nn.Parameter]:
    return (parameter for parameter in network.parameters() if parameter.requires_grad)


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
