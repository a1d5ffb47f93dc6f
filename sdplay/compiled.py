"""torch.compile for a denoiser's repeated blocks, in training steps only.

Regional: one block is compiled and serves all that are like it, as diffusers' `compile_repeated_blocks` does. What is drawn between
the steps computes as ever, because other shapes would be compiled anew. torch keeps what it compiled on disk for later runs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from sdplay.errors import ConfigError

REPEATED = ("BasicTransformerBlock", "JointTransformerBlock")
"""diffusers' classes of the blocks that U-Nets and SD 3's transformer are made of."""
SHAPES = 64
"""Versions of a block: sizes of latents, widths, with and without text, buckets."""
COMPILERS = ("c++", "g++", "clang++", "cl")


def check_compiler(device_kind: str) -> None:
    """Raises ConfigError where torch.compile cannot work."""
    if device_kind == "cuda" and find_spec("triton") is None:
        raise ConfigError("Compile needs the package triton, which is not installed.", "Install it, or set Compile to off.")
    if device_kind == "cpu" and not any(map(shutil.which, COMPILERS)):
        raise ConfigError("Compile needs a C++ compiler, which is not here.", "Install one, such as g++, or set Compile to off.")
    if device_kind not in ("cuda", "cpu"):
        raise ConfigError(f"Compile does not work on {device_kind} devices.", "Set Compile to off.")


class CompiledBlocks:
    """The blocks of one denoiser. They are compiled when they first compute inside `at_work`."""

    def __init__(self, network: nn.Module, *, wanted: bool) -> None:
        blocks = [module for module in network.modules() if type(module).__name__ in REPEATED] if wanted else []
        self._compiled: list[tuple[nn.Module, Callable[..., Any]]] = [
            (block, torch.compile(block.forward, dynamic=False)) for block in blocks
        ]

    def __len__(self) -> int:
        return len(self._compiled)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Inside, they compute as compiled. What cannot be compiled computes as ever."""
        for block, forward in self._compiled:
            block.forward = forward  # type: ignore[method-assign]
        try:
            yield
        finally:
            for block, _ in self._compiled:
                del block.forward


@contextmanager
def compiling(blocks: CompiledBlocks) -> Iterator[None]:
    """Around all steps of a run: lets torch keep a version for each shape, and forgets them at the end."""
    if not len(blocks):
        yield
        return
    from torch import _dynamo

    with ExitStack() as stack:
        stack.enter_context(_dynamo.config.patch(recompile_limit=SHAPES, suppress_errors=True))
        stack.callback(_dynamo.reset)
        yield
