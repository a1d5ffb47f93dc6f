"""Prompts as the base reads them, kept in memory while a base is loaded: a grid of many columns reads its prompts once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from sdplay.families import Conditioning, Family, Parts

MOST = 1000
"""Texts that are kept; then they are forgotten all at once. A text of SDXL takes 0.6 MB, of SD 1.x 0.2 MB."""


def read_texts(parts: Parts, family: Family, texts: Sequence[str], **how: Any) -> dict[str, Conditioning]:  # noqa: ANN401  the family's options
    """The conditioning, of batch 1, of each text: remembered where the text encoders and tokenizers are the base's own, else read now.

    how: what else the family's `encode_prompts` is told; it is part of what is remembered.
    """
    wanted = list(dict.fromkeys(texts))
    own = parts.text_mark == text_mark(parts.text_encoders, parts.tokenizers)
    known = parts.known_texts if own else {}
    told = tuple(sorted(how.items()))
    missing = [text for text in wanted if (text, told) not in known]
    if missing:
        if len(known) + len(missing) > MOST:
            known.clear()
            missing = wanted
        with torch.no_grad():
            rows = family.encode_prompts(parts, missing, **how).rows()
        known.update(zip([(text, told) for text in missing], rows, strict=True))
    return {text: known[text, told] for text in wanted}


def text_mark(encoders: Mapping[str, nn.Module], tokenizers: Mapping[str, object]) -> tuple[object, ...]:
    """Differs whenever something is on the text encoders: adapters and words bring modules, hooks or tokenizers, weights other storages.

    What takes the place of a weight never has its storage, which the base keeps all the while.
    """
    marks: list[object] = []
    for name, encoder in encoders.items():
        modules = list(encoder.modules())
        hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)
        storages = tuple(parameter.data_ptr() for parameter in encoder.parameters())
        marks.append((name, id(tokenizers.get(name)), len(modules), hooks, storages))
    return tuple(marks)
