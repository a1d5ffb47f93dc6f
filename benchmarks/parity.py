"""Our loss against diffusers' example scripts, on the same pictures, texts, noise and timesteps.

`python -m benchmarks.parity --scripts DIR`, where DIR is `examples` of a diffusers checkout. What a script does between a batch
and its backward pass is found in its file and run as it stands there, with its own functions; what it drew is then given to
ours. Base models are tiny, of random weights; float32 on the CPU. Prints a table in Markdown. It runs the files it is given.
"""

from __future__ import annotations
import __future__

import argparse
import ast
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling, compute_loss_weighting_for_sd3, compute_snr
from torch import Tensor
from torch.nn import functional

from sdplay import losses
from sdplay.attach.words import table_of
from sdplay.config import DreamBoothConfig, LoraConfig, TextualInversionConfig, TrainConfig
from sdplay.device import Device
from sdplay.families import Conditioning, Parts, batch, family
from sdplay.losses import Drawn
from sdplay.methods import Trainable, method
from sdplay.quiet import quiet_environment, quiet_libraries
from tests import tiny

TEXT, CLASS, WORD = "a dog", "dog", "ohwx"
TINY: dict[str, Callable[[Path], Path]] = {
    "sd15": tiny.make_sd15,
    "sd2": tiny.make_sd2,
    "sdxl": tiny.make_sdxl,
    "sdxl v": tiny.make_sdxl,
    "sd3": lambda folder: tiny.make_sd3(folder, t5=True),
}
DREAMBOOTH, SDXL, SD3 = (f"dreambooth/train_dreambooth{rest}.py" for rest in ("", "_lora_sdxl", "_lora_sd3"))
TEXT_TO_IMAGE = "text_to_image/train_text_to_image_lora.py"


@dataclass(frozen=True)
class Case:
    """One script with one choice of its arguments, and our config that means the same."""

    title: str
    script: str
    base: str
    config: TrainConfig
    arguments: dict[str, object] = field(default_factory=dict)
    difference: str = ""
    """What explains it where the two differ."""
    count: int = 2
    """Pictures in a batch, without those of the class."""

    @property
    def family(self) -> str:
        return self.base.split()[0]

    @property
    def prior(self) -> bool:
        return bool(self.arguments.get("with_prior_preservation"))


def lora(gamma: float | None = None) -> LoraConfig:
    return LoraConfig(min_snr_gamma=gamma)


def dreambooth(gamma: float | None = None) -> DreamBoothConfig:
    return DreamBoothConfig(min_snr_gamma=gamma, prior="images", class_word=CLASS)


SNR, PRIOR = {"snr_gamma": 5.0}, {"with_prior_preservation": True, "prior_loss_weight": 1.0}
WORDS = TextualInversionConfig(token=WORD, class_word=CLASS, vectors=1, min_snr_gamma=None)
TRAP_7 = "trap 7: weights of instance and class timesteps meet the instance's errors alone"
CASES = (
    Case("LoRA", "dreambooth/train_dreambooth_lora.py", "sd15", lora()),
    Case("LoRA, class pictures", "dreambooth/train_dreambooth_lora.py", "sd15", LoraConfig(min_snr_gamma=None), PRIOR),
    Case("LoRA, min-SNR", TEXT_TO_IMAGE, "sd15", lora(5.0), SNR),
    Case("LoRA, v-prediction, min-SNR", TEXT_TO_IMAGE, "sd2", lora(5.0), SNR),
    Case("LoRA", SDXL, "sdxl", lora()),
    Case("LoRA, min-SNR", SDXL, "sdxl", lora(5.0), SNR),
    Case("LoRA, v-prediction, min-SNR", SDXL, "sdxl v", lora(5.0), SNR, "trap 6: min(SNR, 5) / SNR + 1 for min(SNR, 5) / (SNR + 1)"),
    Case("LoRA, flow", SD3, "sd3", lora(), {"precondition_outputs": 0}),
    Case("LoRA, flow, as it comes", SD3, "sd3", lora(), {"precondition_outputs": 1}, "trap 29: times sigma squared"),
    Case("DreamBooth, class pictures", DREAMBOOTH, "sd15", dreambooth(), PRIOR),
    Case("DreamBooth, class pictures, min-SNR", DREAMBOOTH, "sd15", dreambooth(5.0), {**SNR, **PRIOR}, TRAP_7, count=1),
    Case("DreamBooth, class pictures, min-SNR, batch 2", DREAMBOOTH, "sd15", dreambooth(5.0), {**SNR, **PRIOR}, TRAP_7),
    Case("textual inversion", "textual_inversion/textual_inversion.py", "sd15", WORDS),
)


def main() -> None:
    """Print what each script and sdplay say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scripts", type=Path, required=True, help="`examples` of a diffusers checkout")
    scripts = parser.parse_args().scripts
    quiet_environment()
    quiet_libraries()
    print("| script | base | what | script's loss | sdplay's loss | difference |\n|---|---|---|---|---|---|")
    for case in CASES:
        theirs, ours = compare(case, scripts / case.script)
        told = theirs if isinstance(theirs, str) else f"{theirs:.7f}"
        apart = "-" if isinstance(theirs, str) else f"{abs(theirs - ours):.1e}"
        why = f"; {case.difference}" if case.difference else ""
        print(f"| `{case.script}` | {case.base} | {case.title} | {told} | {ours:.7f} | {apart}{why} |", flush=True)


def compare(case: Case, script: Path) -> tuple[float | str, float]:
    """The script's loss, or the error it ends in, and ours, with the same adapter or word on the same base."""
    with tempfile.TemporaryDirectory() as made:
        folder = TINY[case.base](Path(made))
        parts = family(case.family).load(folder, Device("cpu", "CPU"), source="tiny")
        scheduler = FlowMatchEulerDiscreteScheduler if case.family == "sd3" else DDPMScheduler
        schedule = scheduler.from_pretrained(folder, subfolder="scheduler")
    if case.base == "sdxl v":
        for known in (schedule, parts.pipeline.scheduler):
            known.register_to_config(prediction_type="v_prediction")
    torch.manual_seed(1)
    names = _names(case, parts, schedule)
    table = table_of(parts.text_encoders["text_encoder"]).weight
    untaught = table.detach().clone()
    with moved(case, parts) as trainable, torch.no_grad():
        names |= _texts(case, parts, script, names, trainable)
        try:
            _run(_between_batch_and_backward(script), names)
            theirs: float | str = float(names["loss"])
        except RuntimeError as error:
            theirs = f"fails: {str(error).splitlines()[0][:60]}"
        table.copy_(untaught)
    with moved(case, parts), torch.no_grad():
        return theirs, _ours(case, parts, names)


@contextmanager
def moved(case: Case, parts: Parts) -> Iterator[Trainable]:
    """The base with what the config trains, moved off its first values."""
    trainable = method(case.config.method).prepare(parts, family(case.family), case.config)
    with torch.no_grad():
        for index, parameter in enumerate(parameter for group in trainable.groups() for parameter in group.parameters):
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
    try:
        yield trainable
    finally:
        trainable.detach()


def _names(case: Case, parts: Parts, schedule: Any) -> dict[str, Any]:  # noqa: ANN401  a scheduler
    """What the scripts have set up by the time a batch comes."""
    pipeline, count = parts.pipeline, case.count * (2 if case.prior else 1)
    settings = {
        "offset_noise": False, "noise_offset": 0, "snr_gamma": None, "prediction_type": None, "with_prior_preservation": False,
        "pre_compute_text_embeddings": False, "text_encoder_use_attention_mask": False, "class_labels_conditioning": None,
        "train_text_encoder": False, "do_edm_style_training": False, "pretrained_vae_model_name_or_path": None, "cache_latents": False,
        "weighting_scheme": "logit_normal", "logit_mean": 0.0, "logit_std": 1.0, "mode_scale": 1.29, "resolution": 32,
        "train_batch_size": count, "gradient_accumulation_steps": 1, "max_sequence_length": 256, **case.arguments,
    }  # fmt: skip
    pixels = torch.rand((count, 3, 32, 32), generator=torch.Generator().manual_seed(2)) * 2 - 1
    return {
        "args": SimpleNamespace(**settings), "torch": torch, "F": functional, "step": 0, "train_loss": 0.0, "weight_dtype": torch.float32,
        "accelerator": SimpleNamespace(device=torch.device("cpu"), gather=lambda value: value), "unwrap_model": lambda model: model,
        "vae": pipeline.vae, "unet": parts.denoiser, "transformer": parts.denoiser, "text_encoder": pipeline.text_encoder,
        "noise_scheduler": schedule, "noise_scheduler_copy": schedule, "latents_mean": None, "latents_std": None,
        "vae_config_shift_factor": pipeline.vae.config.get("shift_factor"), "vae_config_scaling_factor": pipeline.vae.config.scaling_factor,
        "train_dataset": SimpleNamespace(custom_instance_prompts=False), "scheduler_type": "DDPMScheduler", "compute_snr": compute_snr,
        "compute_density_for_timestep_sampling": compute_density_for_timestep_sampling,
        "compute_loss_weighting_for_sd3": compute_loss_weighting_for_sd3,
        "batch": {
            "pixel_values": pixels, "attention_mask": None, "prompts": [TEXT] * count, "original_sizes": [(48, 64), (32, 32)][: case.count],
            "crop_top_lefts": [(0, 16), (0, 0)][: case.count],
        },
    }  # fmt: skip


def _texts(case: Case, parts: Parts, script: Path, names: dict[str, Any], trainable: Trainable) -> dict[str, Any]:
    """The script's own functions, and the texts as it reads them."""
    functions = _functions(script)
    _run(functions, names)
    pipeline = parts.pipeline
    texts = [TEXT] * case.count + [CLASS] * (case.count if case.prior else 0)
    if case.config.method == "textual_inversion":
        _into_the_table(parts, trainable)
    if case.family in ("sd15", "sd2"):
        tokenizer = pipeline.tokenizer
        names["batch"]["input_ids"] = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        return {}
    encoders = [pipeline.text_encoder, pipeline.text_encoder_2]
    tokenizers = [pipeline.tokenizer, pipeline.tokenizer_2]
    if case.family == "sdxl":
        hidden, pooled = names["encode_prompt"](encoders, tokenizers, TEXT)
        return {"prompt_embeds": hidden, "unet_add_text_embeds": pooled}
    hidden, pooled = names["encode_prompt"](
        [*encoders, pipeline.text_encoder_3], [*tokenizers, pipeline.tokenizer_3], texts, 256, device=parts.device
    )
    return {"prompt_embeds": hidden, "pooled_prompt_embeds": pooled}


def _into_the_table(parts: Parts, trainable: Trainable) -> None:
    """The scripts learn a row of the encoder's table. Here it is the class word's."""
    (vector,) = trainable.groups()[0].parameters
    row = parts.pipeline.tokenizer(CLASS, add_special_tokens=False).input_ids[0]
    table_of(parts.text_encoders["text_encoder"]).weight[row] = vector[0]


def _ours(case: Case, parts: Parts, names: dict[str, Any]) -> float:
    """The loss of the batch, then that of the class with its weight, as train.py adds them up."""
    x0 = names["model_input"] if "model_input" in names else names["latents"]
    sigmas, t = names.get("sigmas"), names["timesteps"]
    geometry = torch.tensor([[48.0, 64, 0, 16, 32, 32], [32, 32, 0, 0, 32, 32]])[: case.count]
    everything = Drawn(x0, names["noise"], t if sigmas is None else sigmas.flatten() * 1000, geometry.repeat(len(x0) // case.count, 1))
    word = f"a {WORD}" if case.config.method == "textual_inversion" else TEXT
    loss = _loss(case, parts, _rows(everything, slice(0, case.count)), word)
    return loss + (_loss(case, parts, _rows(everything, slice(case.count, None)), CLASS) if case.prior else 0.0)


def _rows(drawn: Drawn, chosen: slice) -> Drawn:
    return Drawn(drawn.x0[chosen], drawn.eps[chosen], drawn.t[chosen], drawn.geometry[chosen])


def _loss(case: Case, parts: Parts, drawn: Drawn, text: str) -> float:
    chosen = family(case.family)
    objective = losses.prepared_objective(chosen.objective(parts), case.config)
    conditioning: Conditioning = batch([chosen.encode_prompts(parts, [text])] * len(drawn.t))
    predicted: Tensor = chosen.predict(parts, drawn.noised(objective), drawn.t, conditioning, drawn.geometry)
    return float(losses.batch_loss(predicted, drawn, case.config, objective))


def _between_batch_and_backward(script: Path) -> list[ast.stmt]:
    """The statements of the last training loop in the file, inside `accelerator.accumulate`, up to `accelerator.backward`."""
    loops = [
        node
        for node in ast.walk(ast.parse(script.read_text()))
        if isinstance(node, ast.For) and ast.unparse(node.iter) == "enumerate(train_dataloader)"
    ]
    inside = next(node for node in loops[-1].body if isinstance(node, ast.With))
    end = next(index for index, node in enumerate(inside.body) if ast.unparse(node).startswith("accelerator.backward"))
    return inside.body[:end]


def _functions(script: Path) -> list[ast.stmt]:
    """Its functions for texts, and those inside `main` that the loop calls."""
    wanted = ("encode_prompt", "tokenize_prompt", "_encode_prompt_with_clip", "_encode_prompt_with_t5", "compute_time_ids", "get_sigmas")
    found = [node for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.FunctionDef) and node.name in wanted]
    return list(found)


def _run(statements: list[ast.stmt], names: dict[str, Any]) -> None:
    module = ast.fix_missing_locations(ast.Module(body=statements, type_ignores=[]))
    exec(compile(module, "<script>", "exec", flags=__future__.annotations.compiler_flag), names)


if __name__ == "__main__":
    main()
