"""Compiled blocks learn the same, only while a step is done, and where that cannot work a sentence says so before the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sdplay import compiled
from sdplay.compiled import CompiledBlocks, check_compiler
from sdplay.device import best_device
from sdplay.engine import Engine
from sdplay.errors import ConfigError
from sdplay.families import family
from tests.families.test_contract import CASES
from tests.test_train import trained, values

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, compiled.COMPILERS)), reason="no C++ compiler here")


@pytest.mark.parametrize("name", CASES)
def test_every_family_has_blocks_that_repeat(name: str, request: pytest.FixtureRequest) -> None:
    """They compute as ever outside of `at_work`."""
    parts = family(CASES[name][0]).load(request.getfixturevalue(CASES[name][1]), best_device(), source="tiny")
    blocks = CompiledBlocks(parts.denoiser, wanted=True)
    repeated = [module for module in parts.denoiser.modules() if type(module).__name__ in compiled.REPEATED]

    with blocks.at_work():
        assert all("forward" in vars(block) for block in repeated)
    assert not any("forward" in vars(block) for block in repeated)
    assert len(blocks) == len(repeated) >= 2
    assert len(CompiledBlocks(parts.denoiser, wanted=False)) == 0


@needs_compiler
@pytest.mark.slow
def test_a_compiled_run_learns_the_same(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    """To rounding: fused operations add up in another order. Its pictures are drawn by the blocks as they are."""
    from torch._dynamo.utils import counters

    settings = values(engine, tiny_base, pictures, steps=3, sample_every=2)
    plain = trained(engine, settings).state().losses
    counters.clear()
    quick = trained(engine, {**settings, "compile": "on"}).state().losses

    assert counters["stats"]["unique_graphs"] > 0
    assert [step.loss for step in quick] == pytest.approx([step.loss for step in plain], rel=1e-4)


def test_without_a_compiler_the_run_is_refused_before_it_starts(
    engine: Engine, tiny_base: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)

    with pytest.raises(ConfigError, match="needs a C\\+\\+ compiler, which is not here"):
        engine.submit(values(engine, tiny_base, pictures, compile="on"))
    assert not list(engine.workspace.runs.glob("*"))


def test_a_gpu_needs_triton_and_other_devices_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "find_spec", lambda name: None)

    with pytest.raises(ConfigError, match="triton"):
        check_compiler("cuda")
    with pytest.raises(ConfigError, match="does not work on mps"):
        check_compiler("mps")
