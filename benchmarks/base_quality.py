"""Parts 1 to 3 of the quality bench: the embedded base model itself."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.icons import named_background, shelf, shelf_of
from benchmarks.learning import Bench, percent
from sdplay.mini import data
from sdplay.mini.looks import looks
from sdplay.mini.material import held_out_pairs
from sdplay.mini.vae import to_tensor

PAIRS = 200
TOP = 5
NATURAL_PX = 128
LOOKED = 105
UNKNOWN_WORDS = ("sks", "ohwx", "zwx", "fxemoji")
"""What trainers commonly call what is new."""


def measure(bench: Bench) -> list[dict[str, object]]:
    """Rows of what is measured, on how many, and the figure."""
    rng = np.random.default_rng(3)
    pairs = [(name, style) for style in data.TRAINED_STYLES for name in data.trained_names_in(bench.icons, style)]
    held_out = held_out_pairs()
    trained = [pair for pair in pairs if pair not in held_out]
    chosen = [trained[index] for index in rng.permutation(len(trained))[: bench.share(PAIRS)]]
    composed = [pair for pair in sorted(held_out) if pair in pairs][: bench.share(PAIRS)]
    psnr, ssim, count = autoencoder(bench)
    return [
        {"measured": "autoencoder, PSNR (dB) on the unseen style", "on": count, "figure": round(psnr, 1)},
        {"measured": "autoencoder, SSIM on the unseen style", "on": count, "figure": round(ssim, 3)},
        *fidelity(bench, "trained pairs", chosen, rng),
        *fidelity(bench, "pairs never trained on", composed, rng),
        *looks_told_apart(bench, [name for name, style in chosen if style == data.TRAINED_STYLES[0]]),
        *beside_unknown_words(bench, [name for name, _ in chosen]),
    ]


@torch.no_grad()
def autoencoder(bench: Bench) -> tuple[float, float, int]:
    """PSNR over all pixels, mean SSIM, number of icons of the held-out style."""
    names = data.names_of(bench.icons, data.HELD_OUT_STYLE)[:: 4 if bench.quick else 1]
    rng = np.random.default_rng(11)
    pictures = [
        data.compose(icon, "white", size_px=NATURAL_PX, rng=rng) for icon in data.draw_icons(bench.icons, data.HELD_OUT_STYLE, names)
    ]
    vae = bench.vae()
    pixels = to_tensor(np.stack([np.asarray(picture) for picture in pictures]))
    rebuilt = torch.cat([vae.decode(vae.encode(chunk).latent_dist.mean).sample.clamp(-1, 1) for chunk in pixels.split(32)])
    psnr = float(10 * torch.log10(4 / F.mse_loss(rebuilt, pixels)))
    return psnr, float(ssim_of(rebuilt, pixels).mean()), len(pictures)


def ssim_of(first: Tensor, second: Tensor) -> Tensor:
    """(B, C, H, W) in [-1, 1] twice -> (B,) structural similarity, 11 px Gaussian window of 1.5 px. Wang et al. 2004, eq. 13."""
    place = torch.arange(11.0) - 5
    bell = torch.exp(-(place**2) / (2 * 1.5**2))
    window = (bell / bell.sum()).outer(bell / bell.sum()).expand(first.shape[1], 1, 11, 11)

    def local(values: Tensor) -> Tensor:
        return F.conv2d(values, window, groups=values.shape[1])

    a, b = local(first), local(second)
    variances = local(first**2) - a**2 + local(second**2) - b**2
    covariance = local(first * second) - a * b
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    return (((2 * a * b + c1) * (2 * covariance + c2)) / ((a**2 + b**2 + c1) * (variances + c2))).mean(dim=(1, 2, 3))


def fidelity(bench: Bench, what: str, pairs: list[tuple[str, str]], rng: np.random.Generator) -> list[dict[str, object]]:
    """Draw every pair on a background of its own; is the nearest real icon of that style the right one?"""
    colours = [str(rng.choice(list(data.BACKGROUNDS))) for _ in pairs]
    prompts = [data.caption(*pair, None if colour == "white" else colour) for pair, colour in zip(pairs, colours, strict=True)]
    pictures = bench.draw(prompts)
    shelves = {style: shelf(bench.icons, style, data.trained_names_in(bench.icons, style)) for style in data.TRAINED_STYLES}
    ranks = [shelves[style].rank(picture, name) for (name, style), picture in zip(pairs, pictures, strict=True)]
    obeyed = [named_background(picture) == colour for picture, colour in zip(pictures, colours, strict=True)]
    return [
        {"measured": f"{what}: right name first", "on": len(pairs), "figure": percent([rank < 1 for rank in ranks])},
        {"measured": f"{what}: right name in the first {TOP} of {len(data.trained_names())}", "on": len(pairs),
         "figure": percent([rank < TOP for rank in ranks])},
        {"measured": f"{what}: background obeyed", "on": len(pairs), "figure": percent(obeyed)},
    ]  # fmt: skip


def looks_told_apart(bench: Bench, names: list[str]) -> list[dict[str, object]]:
    """Draw subjects in one look after another; is it nearest to the true picture of its subject in that look, of all looks?"""
    words, style = list(looks()), data.TRAINED_STYLES[0]
    asked = [(names[i % len(names)], words[i % len(words)]) for i in range(bench.share(LOOKED))]
    pictures = bench.draw([data.caption(name, word, None) for name, word in asked])
    ranks = []
    for (name, word), picture in zip(asked, pictures, strict=True):
        icon = data.draw_icons(bench.icons, style, [name])[0]
        true = shelf_of([icon, *(data.Icon(other, other, look(icon.rgba)) for other, look in looks().items())])
        ranks.append(true.rank(picture, word))
    figure = percent([rank < 1 for rank in ranks])
    return [{"measured": f"looks: the right one of {len(words) + 1} first", "on": len(asked), "figure": figure}]


def beside_unknown_words(bench: Bench, names: list[str]) -> list[dict[str, object]]:
    """Draw subjects in styles the base knows nothing of; is the nearest icon of either icon set the right one, and is it on white?"""
    chosen = names[: bench.share(PAIRS // 2)]
    pictures = bench.draw([f"{data.words(name)}, {UNKNOWN_WORDS[i % len(UNKNOWN_WORDS)]} style" for i, name in enumerate(chosen)])
    shelves = [shelf(bench.icons, style, data.trained_names_in(bench.icons, style)) for style in data.TRAINED_STYLES]
    ranks = [min(real.rank(picture, name) for real in shelves) for name, picture in zip(chosen, pictures, strict=True)]
    what = "an unknown word for the style"
    return [
        {"measured": f"{what}: right name first", "on": len(chosen), "figure": percent([rank < 1 for rank in ranks])},
        {"measured": f"{what}: on white, as nothing else is said", "on": len(chosen),
         "figure": percent([named_background(picture) == "white" for picture in pictures])},
    ]  # fmt: skip
