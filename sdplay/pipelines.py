"""What families share: loading a diffusers pipeline, its latents, its noise schedule, and drawing with it."""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sdplay.device import Device, autocast, computes_in_bfloat16
from sdplay.diffusion.objective import Objective
from sdplay.errors import Cancelled, ConfigError, ModelError
from sdplay.families import DrawRequest, Parts, Start
from sdplay.guidance import Steps, guided_from
from sdplay.quantized import quantize_layers
from sdplay.remembered_texts import text_mark
from sdplay.schedulers import scheduler_for

AT_ONCE_PX = 2**18
"""Pixels the autoencoder takes at once: one picture of 512 px or more. Encoding it takes 0.7 GB in float32, and 2.7 GB at 1024 px."""
BYTES_PER_PX, SHARE_OF_FREE = 3000, 0.7
"""Allowances for a GPU: what drawing holds for a pixel at its fullest, which is when the autoencoder decodes in float32 (128 channels,
some copies), and how much of the free memory a drawing may take."""
WHOLE_PX = 2**20
"""Pixels of the largest picture that is decoded in one piece where nobody knows the free memory."""


def load_pipeline(kind: Any, folder: Path, *, source: str, checkpoint: Path | None = None, **options: Any) -> Any:  # noqa: ANN401  diffusers' own
    """A pipeline of class `kind` in float32, from a folder, or from one checkpoint file by the configs in the folder.

    Raises ModelError when a file is missing or does not fit.
    """
    shared = {"dtype": torch.float32, "local_files_only": True, **options}
    try:
        if checkpoint is not None:
            pipeline = kind.from_single_file(str(checkpoint), config=str(folder), **shared)
        else:
            pipeline = kind.from_pretrained(folder, use_safetensors=True, **shared)
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, NotImplementedError) as error:
        raise ModelError(
            f"The base model {source!r} cannot be read: {_first_line(error)}", "Download it again, or choose another."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def assemble(pipeline: Any, device: Device, *, source: str, denoiser: str, encoders: Mapping[str, str], size_multiple: int) -> Parts:  # noqa: ANN401  diffusers' own
    """Freeze a loaded pipeline and move it to the device. encoders: each text encoder's name and its tokenizer's."""
    network, vae = getattr(pipeline, denoiser), pipeline.vae
    text_encoders = {name: getattr(pipeline, name) for name in encoders}
    tokenizers = {name: getattr(pipeline, tokenizer) for name, tokenizer in encoders.items()}
    for module in (network, vae, *text_encoders.values()):
        module.requires_grad_(False).eval()
    pipeline.to(device.torch_device)
    network.to(memory_format=torch.channels_last)
    return Parts(
        pipeline=pipeline,
        denoiser=network,
        text_encoders=text_encoders,
        tokenizers=tokenizers,
        device=device.torch_device,
        size=network.config.sample_size * pipeline.vae_scale_factor,
        size_multiple=size_multiple,
        latent_factor=pipeline.vae_scale_factor,
        latent_channels=vae.config.latent_channels,
        source=source,
        fingerprint=fingerprint(vae, *text_encoders.values()),
        text_mark=text_mark(text_encoders, tokenizers),
    )


def native_size(folder: Path, denoiser: str) -> int:
    """The denoiser's side in latents times the autoencoder's factor, in px."""
    network, vae = read_json(folder / denoiser / "config.json"), read_json(folder / "vae" / "config.json")
    return int(network.get("sample_size", 64) * 2 ** (len(vae.get("block_out_channels", (0,) * 4)) - 1))


@torch.no_grad()
def encode_images(parts: Parts, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3, H, W) in [-1, 1] -> mean and deviation of the latents as (x - shift) * scale, in float32. Raises ModelError if not finite."""
    vae = parts.pipeline.vae
    at_once = max(1, AT_ONCE_PX // (pixels.shape[2] * pixels.shape[3]))
    posteriors = [vae.encode(chunk.to(parts.device)).latent_dist for chunk in pixels.split(at_once)]
    mean, std = (torch.cat([getattr(posterior, name) for posterior in posteriors]) for name in ("mean", "std"))
    if not torch.isfinite(mean).all():
        raise ModelError("The autoencoder of the base model gave latents that are not finite.", "Choose another base model.")
    factor, shift = vae.config.scaling_factor, vae.config.get("shift_factor") or 0.0
    return ((mean - shift) * factor).cpu(), (std * factor).cpu()


@torch.no_grad()
def decode_latents(parts: Parts, latents: Tensor) -> list[Tensor]:
    """(B, C, h, w) latents -> B pictures (3, H, W) in [0, 1], few at a time and in float32, which SDXL's autoencoder needs.

    A picture that is too large for the memory at hand is decoded in tiles, whose seams diffusers blends.
    """
    vae = parts.pipeline.vae
    factor, shift = vae.config.scaling_factor, vae.config.get("shift_factor") or 0.0
    pixels = latents.shape[2] * latents.shape[3] * parts.latent_factor**2
    affordable = affordable_pixels(parts)
    with _in_tiles(vae) if pixels > (WHOLE_PX if affordable is None else affordable) else nullcontext():
        rows = latents.split(max(1, AT_ONCE_PX // pixels))
        decoded = [vae.decode(row.float() / factor + shift, return_dict=False)[0] for row in rows]
    return [picture for row in decoded for picture in (row / 2 + 0.5).clamp(0, 1).float().cpu()]


@contextmanager
def _in_tiles(vae: Any) -> Iterator[None]:  # noqa: ANN401  diffusers' own
    vae.enable_tiling()
    try:
        yield
    finally:
        vae.disable_tiling()


def affordable_pixels(parts: Parts) -> int | None:
    """How many pixels a GPU's free memory can draw at once; None elsewhere, where nobody knows."""
    if parts.device.type != "cuda":
        return None
    unused = torch.cuda.memory_reserved(parts.device) - torch.cuda.memory_allocated(parts.device)
    free = torch.cuda.mem_get_info(parts.device)[0] + unused
    return int(SHARE_OF_FREE * free) // BYTES_PER_PX


def diffusion_objective(parts: Parts) -> Objective:
    """From the scheduler's config, so that v-prediction bases train as what they are. Raises ModelError for other kinds of schedule."""
    scheduler = parts.pipeline.scheduler
    prediction = scheduler.config.get("prediction_type", "epsilon")
    if not hasattr(scheduler, "alphas_cumprod") or prediction not in ("epsilon", "v_prediction"):
        raise ModelError(
            f"The base model {parts.source!r} learned with {type(scheduler).__name__} and {prediction}, which sdplay cannot train.",
            "Choose another base model.",
        )
    return Objective(scheduler.alphas_cumprod.float().to(parts.device), prediction)


def noise_of(parts: Parts, seed: int, width: int, height: int) -> Tensor:
    """(C, h, w); the noise of a picture depends on its seed and size in px only."""
    return _noise(parts, torch.Generator().manual_seed(seed), width, height)


def _noise(parts: Parts, generator: torch.Generator, width: int, height: int) -> Tensor:
    shape = (parts.latent_channels, height // parts.latent_factor, width // parts.latent_factor)
    return torch.randn(shape, generator=generator).to(parts.device)


def run_pipeline(parts: Parts, request: DrawRequest, filler: Any, **arguments: Any) -> Any:  # noqa: ANN401  diffusers' own
    """Call the pipeline with what every family gives it. Raises Cancelled between two denoising steps, ConfigError for what it cannot.

    filler: diffusers' inpainting pipeline of the family. It draws whatever has a start picture: with a mask that is white from
    edge to edge it is image to image, and at strength 1 it begins, as text to image does, with noise alone.
    """

    def check(pipe: Any, step: int, timestep: int, values: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401  diffusers' own
        steps.done = step + 1
        if request.cancelled():
            raise Cancelled("Drawing was cancelled.")
        if request.after_step:
            request.after_step(steps.done, pipe.num_timesteps, *expected)
        return values

    scheduler = scheduler_for(parts.pipeline.scheduler, request.scheduler)
    expected: list[Tensor] = []
    generators = [torch.Generator().manual_seed(seed) for seed in request.seeds]
    if request.start:
        components = {**parts.pipeline.components, "scheduler": copy.deepcopy(scheduler)}
        pipeline = filler(**components, **({} if "safety_checker" not in components else {"requires_safety_checker": False}))
        pipeline.set_progress_bar_config(disable=True)
        arguments |= _start_arguments(request.start, len(request.seeds))
    else:
        pipeline = parts.pipeline
        own = torch.stack([_noise(parts, generator, request.width, request.height) for generator in generators])
        arguments["latents"] = own if request.noise is None else request.noise
    if request.guidance_rescale:
        arguments["guidance_rescale"] = _supported(request.guidance_rescale, pipeline)
    steps = Steps(pipeline)
    stop = steps.first(request.guidance_stop)
    guiding = guided_from(parts.denoiser, request.guided_from, stop) if request.guidance_scale > 1 else nullcontext()
    with guiding, _drawing_with(pipeline, scheduler, generators, expected if request.after_step else None), autocast(parts.device):
        return pipeline(
            prompt_embeds=request.conditioning.hidden,
            negative_prompt_embeds=request.negative.hidden,
            generator=generators,
            height=request.height,
            width=request.width,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance_scale,
            callback_on_step_end=check,
            **arguments,
        ).images


def _start_arguments(start: Start, count: int) -> dict[str, Any]:
    return {
        "image": start.latents.repeat(count, 1, 1, 1),
        "mask_image": start.hidden.repeat(count, 1, 1, 1),
        "masked_image_latents": start.seen.repeat(count, 1, 1, 1),
        "strength": start.strength,
    }


@contextmanager
def _drawing_with(
    pipeline: Any, scheduler: Any, generators: list[torch.Generator], expected: list[Tensor] | None  # noqa: ANN401  diffusers' own
) -> Iterator[None]:  # fmt: skip
    """The pipeline with another scheduler. One that adds noise in every step takes it from the pictures' own seeds.

    expected: where the newest guess at the clean latents is put, if somebody wants it.
    """
    own = pipeline.scheduler
    if type(scheduler).__name__ == "FlowMatchLCMScheduler":  # diffusers 0.42's SD3 pipelines hand it no generator
        scheduler.step = functools.partial(scheduler.step, generator=generators)
    if expected is not None:
        scheduler.step = _telling(scheduler, expected)
    pipeline.scheduler = scheduler
    try:
        yield
    finally:
        scheduler.__dict__.pop("step", None)
        pipeline.scheduler = own


def _telling(scheduler: Any, expected: list[Tensor]) -> Any:  # noqa: ANN401  diffusers' own
    """The scheduler's step as the pipelines call it; what it takes the clean latents for is put into `expected`."""
    step = scheduler.step

    @functools.wraps(step)  # the pipelines look at its signature to know what it takes
    def tell(output: Tensor, t: Tensor, sample: Tensor, **options: Any) -> tuple[Tensor]:  # noqa: ANN401
        result = step(output, t, sample, **{**options, "return_dict": True})
        expected[:] = [_clean(scheduler, result, output, t, sample)]
        return (result.prev_sample,)

    return tell


def _clean(scheduler: Any, result: Any, output: Tensor, t: Tensor, sample: Tensor) -> Tensor:  # noqa: ANN401  diffusers' own
    """(B, C, h, w) as the scheduler says it, or by the definition of what the denoiser predicts."""
    if getattr(result, "pred_original_sample", None) is not None:
        return result.pred_original_sample
    if getattr(scheduler, "model_outputs", None):  # DPM++ and UniPC keep what they made of it
        return next(output for output in reversed(scheduler.model_outputs) if output is not None)
    if not hasattr(scheduler, "alphas_cumprod"):
        return sample - t / scheduler.config.num_train_timesteps * output
    alpha = scheduler.alphas_cumprod[int(t)].sqrt()
    sigma = (1 - scheduler.alphas_cumprod[int(t)]).sqrt()
    if scheduler.config.prediction_type == "v_prediction":
        return alpha * sample - sigma * output
    return (sample - sigma * output) / alpha


def _supported(guidance_rescale: float, pipeline: Any) -> float:  # noqa: ANN401  diffusers' own
    if "guidance_rescale" not in inspect.signature(pipeline.__call__).parameters:
        raise ConfigError("Guidance cannot be rescaled in this drawing.", "Set guidance rescale to 0.")
    return guidance_rescale


def shrink(device: Device, large: nn.Module, *others: nn.Module) -> None:
    """Keep frozen weights as the device's `weights` say: in bfloat16 half the memory. `large` goes down to 8 or 4 bits where asked."""
    if device.weights != "float32" and computes_in_bfloat16(device):
        for module in (large, *others):
            module.to(torch.bfloat16)
    if device.weights in ("int8", "nf4"):
        quantize_layers(large.requires_grad_(False), device.weights, device=device.torch_device)


def computing(network: nn.Module) -> AbstractContextManager[object]:
    """Mixed precision where the frozen weights are in bfloat16 and the trained ones in float32; nothing elsewhere."""
    weight = next(network.parameters())
    return torch.autocast(weight.device.type, dtype=torch.bfloat16) if weight.dtype == torch.bfloat16 else nullcontext()


def fingerprint(*modules: nn.Module) -> str:
    """16 hex digits of a hash over all weights."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() else str(tensor.item()).encode())
    return digest.hexdigest()[:16]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's values; none when it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
