"""Which device computes, and in what precision."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sdplay.errors import DeviceError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Weights = Literal["float32", "bfloat16", "int8", "nf4"]
"""In what a base's frozen weights are kept."""
WAITED_ROUNDS = 4000
"""How far a computing thread counts while it waits, before it sleeps: 0.1 ms on the processor where this was chosen."""


@dataclass(frozen=True)
class Device:
    """A device and its name for people."""

    kind: str
    """cuda, mps or cpu: torch's word."""
    label: str
    weights: Weights = "float32"
    """In what frozen weights are kept on it."""

    @property
    def torch_device(self) -> torch.device:
        """As torch takes it."""
        import torch

        return torch.device(self.kind)


@dataclass(frozen=True)
class CardMemory:
    """Bytes of a GPU."""

    total: int
    free: int
    held: int
    """What this process has asked for. More than `total` means that the driver lends main memory."""


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 arithmetic where the hardware has it; nothing on the CPU, where it is far slower than float32."""
    import torch

    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


def computes_in_bfloat16(device: Device) -> bool:
    """Whether `autocast` switches to bfloat16 on this device."""
    import torch

    return device.kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def keeping(device: Device, weights: Literal["auto"] | Weights) -> Device:
    """The device with frozen weights kept as a config says; `auto`: bfloat16 where it computes in that, else float32.

    Raises DeviceError for bfloat16 where nothing computes in it.
    """
    if weights == "auto":
        return replace(device, weights="bfloat16" if computes_in_bfloat16(device) else "float32")
    if weights == "bfloat16" and not computes_in_bfloat16(device):
        raise DeviceError(f"{device.label} does not compute in bfloat16.", "Set Base kept in to auto, or to int8 or nf4 to save memory.")
    return replace(device, weights=weights)


def free_bytes(device: Device) -> int | None:
    """Free memory of a GPU whose memory can be asked for; None elsewhere."""
    import torch

    return int(torch.cuda.mem_get_info()[0]) if device.kind == "cuda" else None


def available_bytes(device: Device) -> int | None:
    """What a run could have: free on the card with what this program holds there already; on Linux main memory. None elsewhere."""
    card = card_memory(device)
    if card:
        return card.free + card.held
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def memory_in_use(device: Device) -> tuple[int, int]:
    """Bytes in use now, and at the most so far: torch's on a GPU, else of this program; zeros where nobody tells."""
    import torch

    if device.kind == "cuda":
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    if device.kind == "mps":
        used = torch.mps.driver_allocated_memory()
        return used, used
    try:
        import resource
    except ImportError:  # Windows
        return 0, 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    statm = Path("/proc/self/statm")
    used = int(statm.read_text().split()[1]) * resource.getpagesize() if statm.exists() else peak
    return used, max(used, peak)


def card_memory(device: Device) -> CardMemory | None:
    """How full a CUDA card is; None elsewhere."""
    import torch

    if device.kind != "cuda":
        return None
    free, total = torch.cuda.mem_get_info()
    return CardMemory(total=int(total), free=int(free), held=int(torch.cuda.memory_reserved()))


def sent(value: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device. To a GPU it goes through pinned memory, so that nobody waits until the work before it is done."""
    if device.type != "cuda" or value.is_cuda:
        return value.to(device)
    return value.pin_memory().to(device, non_blocking=True)


def best_device() -> Device:
    """CUDA, then Apple's MPS, then the CPU."""
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return Device("cuda", f"{torch.cuda.get_device_name()} ({free / 2**30:.0f} of {total / 2**30:.0f} GB free)")
    if torch.backends.mps.is_available():
        return Device("mps", "Apple GPU")
    threads = torch.get_num_threads()
    return Device("cpu", f"CPU, {threads} thread{'' if threads == 1 else 's'}")


def share_cores() -> None:
    """Before torch is imported: a computing thread that waits for the others gives its core away soon. What the user has set stays.

    GNU OpenMP, which torch has on Linux, lets it count to 300,000 first, some thousand times in a step. Where other programs are busy,
    the one it waits for has no core meanwhile. OpenMP itself takes 100 or 1,000 where its own threads are more than the cores; of those
    of other programs it does not know (https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(WAITED_ROUNDS))


def prepare_thread() -> None:
    """Once per computing thread: tiny numbers count as zero, which keeps the CPU from slowing down on them."""
    import torch

    torch.set_flush_denormal(True)


@contextmanager
def explained_memory_errors(what: str) -> Iterator[None]:
    """Turn an out-of-memory error into advice."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        message = str(error).split(". ")[0]
    else:
        return
    # Outside the except block, so that the traceback no longer holds the tensors.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise DeviceError(
        f"Not enough memory while {what}: {message}.",
        "Lower the batch size or the picture size, turn on gradient checkpointing, or keep the base in int8 or nf4.",
    )


def require_disk(folder: Path, needed_bytes: int) -> None:
    """Raise DeviceError when `folder`'s disk has less than `needed_bytes` left."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())  # a new workspace has no folders yet
    free = shutil.disk_usage(there).free
    if free < needed_bytes:
        raise DeviceError(
            f"The disk has {free / 2**20:.0f} MB left; this needs about {needed_bytes / 2**20:.0f} MB.",
            "Delete old runs, or set SDPLAY_HOME to a folder on a larger disk.",
        )
