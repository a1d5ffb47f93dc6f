"""What a run takes is computed from shapes alone, and is what a real step takes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch

from sdplay import footprint
from sdplay.cli import main
from sdplay.config import LoraConfig
from sdplay.device import Device, best_device
from sdplay.disk import state_bytes
from sdplay.engine import Engine
from sdplay.errors import ConfigError
from sdplay.families import NAMES, family
from sdplay.hub import Base, find_base
from sdplay.methods import method, parse_train_config
from sdplay.optimizers import make_optimizer
from sdplay.plan import MemoryPlan, memory_plan

BASES = {"sd15": "tiny_base", "sd2": "tiny_sd2", "sdxl": "tiny_sdxl", "sd3": "tiny_sd3"}


def plan_of(folder: Path, **values: object) -> MemoryPlan:
    return memory_plan(find_base(str(folder)), parse_train_config({"rank": 2, "batch_size": 1, **values}), "float32")


def real_step(base: Base, batch: footprint.MicroBatch, *, checkpointing: bool = False) -> footprint.Step:
    """The same step on weights that have numbers."""
    chosen = family(base.family)
    parts = chosen.load(base.folder, best_device(), source="tiny")
    trainable = method("lora").prepare(parts, chosen, LoraConfig(rank=2))
    learning = [parameter for group in trainable.groups() for parameter in group.parameters]
    if checkpointing:
        footprint.checkpoint_gradients(parts)
    if batch.bfloat16:
        with footprint.CudaPrecision():
            return footprint.measure(footprint.step_of(parts, chosen, batch), learning)
    return footprint.measure(footprint.step_of(parts, chosen, batch), learning)


def predicted_step(base: Base, batch: footprint.MicroBatch, *, checkpointing: bool = False) -> footprint.Step:
    chosen = family(base.family)
    parts = footprint.without_numbers(base, chosen, "float32")
    method("lora").prepare(parts, chosen, LoraConfig(rank=2))
    if checkpointing:
        footprint.checkpoint_gradients(parts)
    return footprint.predicted_step(parts, chosen, batch)


@pytest.mark.parametrize("name", NAMES)
def test_a_predicted_step_holds_what_a_real_one_holds(name: str, request: pytest.FixtureRequest) -> None:
    """To the byte, on every family: what is kept, the fullest moment, and the gradients."""
    base = find_base(str(request.getfixturevalue(BASES[name])))
    batch = footprint.MicroBatch(2, 32, bfloat16=False)

    assert predicted_step(base, batch) == real_step(base, batch)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_it_does_so_in_bfloat16_and_with_gradient_checkpointing(tiny_base: Path, checkpointing: bool) -> None:
    base, batch = find_base(str(tiny_base)), footprint.MicroBatch(1, 32, bfloat16=True)

    assert predicted_step(base, batch, checkpointing=checkpointing) == real_step(base, batch, checkpointing=checkpointing)


def test_what_is_kept_is_what_autograd_saves(tiny_base: Path) -> None:
    """Counted independently, by autograd's own hooks: each storage once, weights left out, and the batch, which is kept anyway."""
    chosen = family("sd15")
    parts = chosen.load(tiny_base, best_device(), source="tiny")
    method("lora").prepare(parts, chosen, LoraConfig(rank=2))
    batch = footprint.MicroBatch(2, 32, bfloat16=False)
    weights = {parameter.untyped_storage()._cdata for parameter in parts.denoiser.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            saved[storage._cdata] = storage
        return tensor

    run = footprint.step_of(parts, chosen, batch)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = run()
    by_hooks = sum(storage.nbytes() for storage in saved.values())
    kept = predicted_step(find_base(str(tiny_base)), batch).kept

    assert kept == by_hooks + loss.untyped_storage().nbytes()


def test_the_fullest_moment_is_what_the_allocator_sees(tiny_base: Path) -> None:
    """Counted independently, by the memory events of torch's profiler; scratch memory inside an operation is only there."""
    chosen, batch = family("sd15"), footprint.MicroBatch(2, 32, bfloat16=False)
    parts = chosen.load(tiny_base, best_device(), source="tiny")
    method("lora").prepare(parts, chosen, LoraConfig(rank=2))
    run = footprint.step_of(parts, chosen, batch)

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        run().backward()
    changes = [event.nbytes() for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]

    assert max(itertools.accumulate(changes)) == pytest.approx(predicted_step(find_base(str(tiny_base)), batch).fullest, rel=0.02)


def test_gradient_checkpointing_keeps_less(tiny_sdxl: Path) -> None:
    plain, checkpointed = plan_of(tiny_sdxl), plan_of(tiny_sdxl, gradient_checkpointing="on")

    assert checkpointed.activations < 0.7 * plain.activations
    assert checkpointed.step < plain.step
    assert checkpointed.frozen == plain.frozen


def test_a_step_grows_with_batch_and_size_and_weights_do_not(tiny_base: Path) -> None:
    small, larger_batch, larger_size = plan_of(tiny_base), plan_of(tiny_base, batch_size=2), plan_of(tiny_base, resolution=64)

    assert small.activations < larger_batch.activations < larger_size.activations
    assert larger_batch.activations <= 2 * small.activations
    assert small.step < larger_batch.step < larger_size.step
    assert small.frozen == larger_batch.frozen == larger_size.frozen


def test_trained_weights_cost_four_times_their_bytes(tiny_base: Path) -> None:
    """float32: 4 bytes a weight, as many for the gradient, and two states of AdamW. LoRA on a layer: rank x (in + out) weights."""
    chosen = family("sd15")
    denoiser = chosen.load(tiny_base, best_device(), source="tiny").denoiser
    layers = [module for name, module in denoiser.named_modules() if name.endswith(chosen.LORA_TARGETS)]
    weights = sum(2 * (layer.in_features + layer.out_features) for layer in layers)

    plan = plan_of(tiny_base)

    assert (plan.trained, plan.gradients, plan.optimizer) == (4 * weights, 4 * weights, 8 * weights)


def test_a_full_fine_tune_learns_a_float32_copy_of_the_denoiser(tiny_sdxl: Path) -> None:
    """It starts from the weights as they are on disk: the base's own, beside it, are float32 too unless two bytes are asked for."""
    count = family("sdxl").load(tiny_sdxl, best_device(), source="tiny").denoiser.num_parameters()

    plan = memory_plan(find_base(str(tiny_sdxl)), parse_train_config({"method": "dreambooth", "batch_size": 1}), "bfloat16")

    assert plan.frozen["denoiser"] == 4 * count
    assert (plan.trained, plan.gradients, plan.optimizer) == (4 * count, 4 * count, 8 * count)


@pytest.mark.parametrize("name", ["adamw", "adafactor", "prodigy", "lion", "schedule_free"])
@pytest.mark.parametrize("shape", [(6,), (4, 6), (5, 4, 3, 3)])
def test_optimizers_keep_what_the_plan_says(name: str, shape: tuple[int, ...]) -> None:
    """Compared with what a real one holds after a step, single numbers left out."""
    config = parse_train_config({"optimizer": name})
    weight = torch.nn.Parameter(torch.ones(shape))
    try:
        optimizer = make_optimizer([{"params": [weight]}], config, device_kind="cpu")
    except ConfigError as error:
        pytest.skip(str(error))
    weight.grad = torch.ones(shape)

    optimizer.step()

    kept = [value for value in optimizer.state[weight].values() if isinstance(value, torch.Tensor) and value.dim()]
    assert sum(tensor.untyped_storage().nbytes() for tensor in kept) == state_bytes(shape, config)


def test_an_average_prior_preservation_and_learning_text_encoders_cost_memory(tiny_base: Path) -> None:
    plain, average = plan_of(tiny_base), plan_of(tiny_base, ema_decay=0.99)
    prior = plan_of(tiny_base, prior="prediction", class_word="dog")
    text = plan_of(tiny_base, text_encoder_share=1.0)

    assert average.optimizer == plain.optimizer + plain.trained
    assert prior.activations > 1.9 * plain.activations
    assert text.trained > plain.trained
    assert text.gradients == text.trained
    assert text.activations > plain.activations


@pytest.mark.parametrize("name", NAMES)
def test_a_word_is_planned_with_its_vectors_in_every_clip_encoder(name: str, request: pytest.FixtureRequest) -> None:
    """4 bytes for each number of 3 vectors; gradients as many; and the text encoders' own activations, which LoRA does not keep."""
    folder = request.getfixturevalue(BASES[name])
    widths = [encoder.config.hidden_size for encoder in family(name).load(folder, best_device(), source="tiny").clip_encoders.values()]

    plan = memory_plan(
        find_base(str(folder)),
        parse_train_config({"method": "textual_inversion", "token": "sks", "vectors": 3, "batch_size": 1}),
        "float32",
    )

    assert (plan.trained, plan.gradients) == (4 * 3 * sum(widths), 4 * 3 * sum(widths))
    assert plan.activations > plan_of(folder).activations
    assert plan.frozen.keys() > {"denoiser"}, "the text encoders stay on the card"


def test_pivotal_tuning_is_planned_with_word_and_adapter(tiny_base: Path) -> None:
    word = memory_plan(
        find_base(str(tiny_base)), parse_train_config({"method": "textual_inversion", "token": "sks", "batch_size": 1}), "float32"
    )
    pivotal = plan_of(tiny_base, method="pivotal", token="sks")

    assert pivotal.trained == word.trained + plan_of(tiny_base).trained
    assert pivotal.disk.results.keys() == {"adapter", "the same for A1111 and ComfyUI", "its word alone"}


def test_what_idles_in_a_step_is_not_on_the_card_but_is_while_pictures_are_drawn(tiny_sdxl: Path) -> None:
    plain, shuffled = plan_of(tiny_sdxl), plan_of(tiny_sdxl, caption_shuffle="on")

    assert plain.frozen.keys() == {"denoiser"}
    assert shuffled.frozen.keys() == {"denoiser", "text_encoder", "text_encoder_2"}
    assert shuffled.pictures > plain.pictures > plain.frozen["denoiser"]


@pytest.mark.parametrize("name", NAMES)
def test_frozen_weights_are_those_of_the_loaded_base(name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network stays on the card; those that the family shrinks to bfloat16 count two bytes a weight."""
    shrunk: list[torch.nn.Module] = []
    monkeypatch.setattr("sdplay.pipelines.shrink", lambda device, *modules: shrunk.extend(modules))
    base = find_base(str(request.getfixturevalue(BASES[name])))
    loaded = family(name).load(base.folder, Device("cpu", "CPU"), source="tiny")
    networks = {"denoiser": loaded.denoiser, "vae": loaded.pipeline.vae, **loaded.text_encoders}
    tensors = {part: [*network.parameters(), *network.buffers()] for part, network in networks.items()}
    halved = {part: any(network is module for module in shrunk) for part, network in networks.items()}

    for precision, half in (("float32", 4), ("bfloat16", 2)):
        frozen = footprint.weight_bytes(footprint.without_numbers(base, family(name), precision))
        expected = {
            part: sum(
                tensor.numel() * ((half if halved[part] else 4) if tensor.is_floating_point() else tensor.element_size())
                for tensor in found
            )
            for part, found in tensors.items()
        }
        assert frozen == expected


def test_accumulated_gradients_are_there_while_the_next_batch_is_computed(tiny_base: Path) -> None:
    once, twice = plan_of(tiny_base), plan_of(tiny_base, gradient_accumulation=2)

    assert once.step < twice.step <= once.step + once.gradients


def test_total_is_the_sum_of_its_parts_and_the_sentence_says_it() -> None:
    plan = MemoryPlan("mini", 64, 4, "bfloat16", {"denoiser": 2 * 10**9, "vae": 10**9}, 10**9, 10**9, 2 * 10**9, 10**9, 3 * 10**9, 10**9)

    assert plan.total == 10 * 10**9
    assert "about 10.0 GB" in plan.sentence
    assert [plan.verdict(free).split(":")[0] for free in (9 * 10**9, 10 * 10**9, 20 * 10**9)] == [
        "It does not fit",
        "It fits, but tightly",
        "It fits",
    ]


def test_the_engine_plans_a_run_that_has_no_pictures_yet(engine: Engine, tiny_base: Path) -> None:
    plan = engine.plan({"base_model": str(tiny_base), "rank": 2}, precision="float32")

    assert (plan.size, plan.batch_size, plan.reserve) == (32, 4, 0)
    assert engine.plan({"base_model": str(tiny_base), "rank": 2}, precision="bfloat16").reserve > 0


def test_the_command_line_says_the_plan(
    tiny_base: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDPLAY_HOME", str(tmp_path))

    code = main(["plan", "--base", str(tiny_base), "--preset", "quick", "--set", "batch_size=1", "--precision", "bfloat16", "--json"])

    said = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (said["batch_size"], said["precision"]) == (1, "bfloat16")
    assert said["total"] == sum(said["frozen"].values()) + said["trained"] + said["optimizer"] + said["step"] + said["reserve"]
