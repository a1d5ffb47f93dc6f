"""Which text a picture is shown with."""

from __future__ import annotations

from collections import Counter

import torch

from sdplay.diffusion.objective import step_generator
from sdplay.material import Material, chosen_by_share, shares_for, texts_for
from sdplay.methods import parse_train_config


def draw(captions: list[str], shares: list[float], step: int) -> str:
    material = Material([], [], [captions], [], {}, None, None, shares=[shares] if shares else [])  # type: ignore[arg-type]
    return material.draw_caption(0, 0.0, step_generator(7, step, 0))


def test_a_template_is_drawn_as_often_as_its_weight_says() -> None:
    config = parse_train_config({"caption_templates": ["{a|b} {caption}", "c"], "template_weights": [3, 1]})
    texts, shares = texts_for("cat", config), shares_for("cat", config)

    drawn = Counter(draw(texts, shares, step) for step in range(4000))

    assert shares == [1.5, 1.5, 1.0]
    # 3/8, 3/8 and 2/8 of 4000 draws; the standard deviation of each count is about 30
    assert abs(drawn["a cat"] - 1500) < 120
    assert abs(drawn["c"] - 1000) < 120


def test_the_same_step_draws_the_same_text() -> None:
    assert [draw(["a", "b", "c"], [1, 5, 1], step) for step in range(50)] == [draw(["a", "b", "c"], [1, 5, 1], step) for step in range(50)]


def test_equal_weights_draw_what_no_weights_draw() -> None:
    texts = ["a", "b", "c", "d"]

    for choice in torch.rand(200, generator=torch.Generator().manual_seed(0)).tolist():
        assert chosen_by_share(texts, [1.0] * 4, choice) == texts[int(choice * 4)]
    assert chosen_by_share(texts, [0.1] * 4, 1 - 2**-24) == "d"
