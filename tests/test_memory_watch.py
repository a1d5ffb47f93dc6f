"""What happens when memory runs out: the same training in smaller pieces; and what is off the card while nobody needs it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sdplay.engine import Engine
from sdplay.families import Parts, sd15
from sdplay.memory_watch import piece_rows
from sdplay.resting import at_hand, looking, reading, resting
from sdplay.ui.views.live import status_card
from sdplay.ui.views.run import run_row
from tests.test_train import trained, values


def limited(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """A denoiser whose memory holds so many pictures of a training step at once. Returns how many each pass tried."""
    tried: list[int] = []
    plain = sd15.predict

    def predict(parts: Parts, x_t: torch.Tensor, *rest: Any) -> torch.Tensor:  # noqa: ANN401  what else a family takes
        if torch.is_grad_enabled():
            tried.append(len(x_t))
            if len(x_t) > most:
                raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain(parts, x_t, *rest)

    monkeypatch.setattr(sd15, "predict", predict)
    return tried


@pytest.mark.parametrize("prior", ["none", "prediction", "images"])
@pytest.mark.parametrize(("most", "pieces"), [(2, 2), (1, 4)])
def test_out_of_memory_splits_the_batch_and_learns_the_same(
    engine: Engine, tiny_base: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, prior: str, most: int, pieces: int
) -> None:
    """Each loss to 1e-6: the pieces' means, each by its share, add up to the mean of the whole, and so do their gradients."""
    config = {"batch_size": 4, "sample_prompts": [], "steps": 4, "prior": prior, "class_word": "ball", "prior_images": 2}
    whole = trained(engine, values(engine, tiny_base, pictures, **config)).state()
    tried = limited(monkeypatch, most)

    split = trained(engine, values(engine, tiny_base, pictures, **config))

    state = split.state()
    assert [step.step for step in state.losses] == [1, 2, 3, 4]
    assert [step.loss for step in state.losses] == pytest.approx([step.loss for step in whole.losses], rel=1e-5, abs=1e-6)
    assert tried[0] == 4
    assert max(tried[-2 * pieces :]) == most
    assert state.notes[-1].startswith(f"Memory ran out at step 1: each batch of 4 now goes through in {pieces} pieces")
    assert state.notes[-1] in status_card(run_row(split.id, split.manifest, state))


def test_out_of_memory_is_advice_when_halving_does_not_help(
    engine: Engine, tiny_base: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, 0)

    state = engine.wait(engine.submit(values(engine, tiny_base, pictures, batch_size=8, sample_prompts=[])))

    assert state.status == "failed"
    assert "Not enough memory while training" in state.message
    assert "gradient checkpointing" in state.hint
    assert sum("Memory ran out" in note for note in state.notes) == 2, "halved twice at most"


def test_memory_that_runs_out_later_goes_on_from_the_same_step(
    engine: Engine, tiny_base: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"batch_size": 2, "sample_prompts": [], "gradient_accumulation": 2}
    whole = trained(engine, values(engine, tiny_base, pictures, **config)).state()
    plain, passes = sd15.predict, []

    def predict(parts: Parts, x_t: torch.Tensor, *rest: Any) -> torch.Tensor:  # noqa: ANN401  what else a family takes
        passes.append(len(x_t))
        if len(passes) == 6:  # the second micro-batch of step 3, when the first one's gradients are there
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain(parts, x_t, *rest)

    monkeypatch.setattr(sd15, "predict", predict)
    state = trained(engine, values(engine, tiny_base, pictures, **config)).state()

    assert [step.loss for step in state.losses] == pytest.approx([step.loss for step in whole.losses], rel=1e-5, abs=1e-6)
    assert [note for note in state.notes if "at step 3" in note]


@pytest.mark.parametrize(
    ("count", "pieces", "sizes"), [(4, 1, [4]), (4, 2, [2, 2]), (5, 2, [2, 3]), (3, 4, [1, 1, 1]), (7, 4, [2, 2, 1, 2])]
)
def test_pieces_are_even_and_lose_no_row(count: int, pieces: int, sizes: list[int]) -> None:
    rows = piece_rows(count, pieces)

    assert [row for piece in rows for row in range(count)[piece]] == list(range(count))
    assert [piece.stop - piece.start for piece in rows] == sizes


class Traveller(torch.nn.Linear):
    """Remembers where it was sent."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.sent: list[str] = []

    def to(self, device: torch.device) -> Traveller:  # type: ignore[override]
        self.sent.append(device.type)
        return self


def test_what_rests_is_off_the_card_but_for_the_moments_it_is_needed() -> None:
    network = Traveller()
    parts = SimpleNamespace(device=torch.device("cuda"), resting=[])

    with resting(parts, [network]):  # type: ignore[arg-type]
        with at_hand(parts), at_hand(parts):  # type: ignore[arg-type]
            network.sent.append("use")
        network.sent.append("step")

    assert network.sent == ["cpu", "cuda", "use", "cpu", "step", "cuda"]
    assert parts.resting == []


def test_only_what_is_asked_for_is_brought_and_t5_gets_the_denoisers_place() -> None:
    vae, clip, t5, denoiser = (Traveller() for _ in range(4))
    encoders = {"text_encoder": clip, "text_encoder_3": t5}
    parts = SimpleNamespace(
        device=torch.device("cuda"), resting=[], text_encoders=encoders, denoiser=denoiser, pipeline=SimpleNamespace(vae=vae)
    )

    with resting(parts, [vae, clip, t5]):  # type: ignore[arg-type]
        with reading(parts):  # type: ignore[arg-type]
            assert (t5.sent[-1], clip.sent[-1], vae.sent[-1], denoiser.sent[-1]) == ("cuda", "cuda", "cpu", "cpu")
        with looking(parts):  # type: ignore[arg-type]
            assert (t5.sent[-1], clip.sent[-1], vae.sent[-1], denoiser.sent[-1]) == ("cpu", "cpu", "cuda", "cuda")

    assert all(network.sent[-1] == "cuda" for network in (vae, clip, t5, denoiser))
