"""Schedulers by the names people know: which class of diffusers each is, and with which settings.

The names are A1111's, mapped as diffusers' own documentation maps them. Everything else about the noise, such as betas, what is
predicted, zero terminal SNR and a flow's shift, stays as the base model's own scheduler has it.
"""

from __future__ import annotations

import inspect
from typing import Any

import diffusers

from sdplay.config import Scheduler
from sdplay.errors import ConfigError

_PLAIN: dict[str, Any] = {"use_karras_sigmas": False}
_KARRAS: dict[str, Any] = {"use_karras_sigmas": True}
_SDE: dict[str, Any] = {"algorithm_type": "sde-dpmsolver++"}
DIFFUSION: dict[str, tuple[str, dict[str, Any]]] = {
    "Euler": ("EulerDiscreteScheduler", _PLAIN),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", _PLAIN),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", **_PLAIN}),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", **_KARRAS}),
    "DPM++ 2M SDE": ("DPMSolverMultistepScheduler", {**_SDE, **_PLAIN}),
    "DPM++ 2M SDE Karras": ("DPMSolverMultistepScheduler", {**_SDE, **_KARRAS}),
    "DPM++ SDE": ("DPMSolverSinglestepScheduler", {**_SDE, **_PLAIN, "lower_order_final": True}),
    "DPM++ SDE Karras": ("DPMSolverSinglestepScheduler", {**_SDE, **_KARRAS, "lower_order_final": True}),
    "DPM2": ("KDPM2DiscreteScheduler", _PLAIN),
    "DPM2 a": ("KDPM2AncestralDiscreteScheduler", _PLAIN),
    "DDIM": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "DDPM": ("DDPMScheduler", {"clip_sample": False}),
    "PNDM": ("PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": False}),
    "UniPC": ("UniPCMultistepScheduler", _PLAIN),
    "LCM": ("LCMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
}
"""For bases that predict noise or v."""
FLOW: dict[str, tuple[str, dict[str, Any]]] = {
    "Euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "Heun": ("FlowMatchHeunDiscreteScheduler", {}),
    "LCM": ("FlowMatchLCMScheduler", {}),
}
"""For bases that predict a flow's velocity: what their pipelines in diffusers take, with and without a start picture."""


def scheduler_for(own: Any, name: Scheduler) -> Any:  # noqa: ANN401  diffusers' schedulers share no type
    """The scheduler of that name for a base whose own is `own`; `base` is that itself.

    Raises ConfigError when this kind of base cannot be drawn with it.
    """
    if name == "base":
        return own
    is_flow = "FlowMatch" in type(own).__name__
    table = FLOW if is_flow else DIFFUSION
    if name not in table:
        raise ConfigError(
            f"The scheduler {name} is not for bases that learned by flow matching, as Stable Diffusion 3 did.",
            f"Choose one of: base, {', '.join(table)}.",
        )
    class_name, settings = table[name]
    kind = getattr(diffusers, class_name)
    zero_snr = "rescale_betas_zero_snr"
    if own.config.get(zero_snr) and zero_snr not in inspect.signature(kind.__init__).parameters:
        able = [other for other, (found, _) in table.items() if _takes(found, zero_snr)]
        raise ConfigError(
            f"The scheduler {name} does not know this base's zero terminal SNR and would draw it wrong.",
            f"Choose one of: base, {', '.join(able)}.",
        )
    return kind.from_config(own.config, **settings)


def _takes(class_name: str, setting: str) -> bool:
    return setting in inspect.signature(getattr(diffusers, class_name).__init__).parameters
