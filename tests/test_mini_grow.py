"""The embedded base grows from 64 to 128 px and keeps what it knows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from sdplay.mini import __main__ as commands
from sdplay.mini.grow import even_details, grown_autoencoder, widened_unet
from sdplay.mini.unet import new_unet

CHANNELS = 6


@pytest.fixture
def small() -> AutoencoderKL:
    """(B, 3, 32, 32) <-> (B, 4, 8, 8). Its outermost layers look at single pixels, so that halving and doubling commute with them."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(16, 32, 32), down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1, norm_num_groups=8, latent_channels=4, mid_block_add_attention=False, sample_size=32, scaling_factor=0.25,
    ).eval()  # fmt: skip
    for layer in (vae.encoder.conv_in, vae.decoder.conv_out):
        centre = layer.weight.data[:, :, 1, 1].clone()
        layer.weight.data.zero_()[:, :, 1, 1] = centre
    return vae


def doubled(pictures: Tensor) -> Tensor:
    return F.interpolate(pictures, scale_factor=2, mode="nearest")


@torch.no_grad()
def test_a_grown_autoencoder_begins_by_halving_and_doubling(small: AutoencoderKL) -> None:
    grown = grown_autoencoder(small, CHANNELS).eval()
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1

    before, after = small.encode(pixels).latent_dist, grown.encode(doubled(pixels)).latent_dist
    details = torch.zeros(2, CHANNELS - 4, 8, 8)

    torch.testing.assert_close(after.mean[:, :4], before.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after.logvar[:, :4], before.logvar, rtol=1e-4, atol=1e-5)
    redrawn = grown.decode(torch.cat([before.mean, details], dim=1)).sample
    torch.testing.assert_close(redrawn, doubled(small.decode(before.mean).sample), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_evened_details_have_unit_size_and_no_picture_changes(small: AutoencoderKL) -> None:
    grown = grown_autoencoder(small, CHANNELS).eval()
    pixels = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    before = grown.encode(pixels).latent_dist
    drawn = grown.decode(before.mean).sample

    even_details(grown, pixels, known=4)

    after = grown.encode(pixels).latent_dist
    scaled = after.mean * grown.config.scaling_factor
    assert scaled[:, 4:].mean(dim=(0, 2, 3)) == pytest.approx(torch.zeros(CHANNELS - 4), abs=1e-4)
    assert scaled[:, 4:].std(dim=(0, 2, 3)) == pytest.approx(torch.ones(CHANNELS - 4), rel=1e-3)
    torch.testing.assert_close(after.mean[:, :4], before.mean[:, :4])
    shrunk = before.mean[:, 4:].std(dim=(0, 2, 3), keepdim=True) / after.mean[:, 4:].std(dim=(0, 2, 3), keepdim=True)
    torch.testing.assert_close(after.std[:, 4:] * shrunk, before.std[:, 4:], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(grown.decode(after.mean).sample, drawn, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_a_widened_denoiser_says_of_the_old_channels_what_it_said(small: AutoencoderKL) -> None:
    unet = new_unet(small).eval()
    wide = widened_unet(unet, new_unet(grown_autoencoder(small, CHANNELS))).eval()
    x_t, hidden, t = torch.randn(2, CHANNELS, 8, 8), torch.randn(2, 5, unet.config.cross_attention_dim), torch.tensor([3, 900])

    predicted = wide(x_t, t, hidden).sample

    torch.testing.assert_close(predicted[:, :4], unet(x_t[:, :4], t, hidden).sample, rtol=1e-4, atol=1e-5)
    assert not predicted[:, 4:].any()


def test_a_warm_start_that_is_no_model_ends_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["sdplay.mini", "--work", str(tmp_path / "work"), "--warm-start", str(tmp_path)])

    with pytest.raises(SystemExit):
        commands.main()

    assert f"{tmp_path} has no vae and unet folders" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()
