"""Settings are checked at the door and refused in sentences."""

from __future__ import annotations

import math

import pytest

from sdplay.config import CompareConfig, GenerateConfig, LoraConfig, parse, parse_assignment
from sdplay.errors import ConfigError
from sdplay.methods import CONFIGS, parse_train_config


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e-4, 0, "fast", None, True, [1], 10**400])
def test_a_learning_rate_that_is_not_a_small_positive_number_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="Learning rate"):
        parse(LoraConfig, {"learning_rate": value})


def test_a_misspelt_setting_is_named_with_the_near_one() -> None:
    with pytest.raises(ConfigError, match=r"no setting 'learning_rte'\. Did you mean 'learning_rate'"):
        parse(LoraConfig, {"learning_rte": 1})


def test_every_mistake_is_said_at_once() -> None:
    with pytest.raises(ConfigError, match=r"Steps.*Rank"):
        parse(LoraConfig, {"steps": 0, "rank": 0})


def test_an_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="lora"):
        parse_train_config({"method": "magic"})


def test_the_effective_learning_rate_is_scaled_by_alpha_over_rank() -> None:
    config = LoraConfig(learning_rate=1e-3, rank=16, alpha=4)

    assert config.effective_learning_rate == pytest.approx(2.5e-4)


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        LoraConfig().steps = 5  # type: ignore[misc]


@pytest.mark.parametrize("config_class", [*CONFIGS.values(), GenerateConfig, CompareConfig])
def test_every_setting_explains_itself(config_class: type) -> None:
    for name, field in config_class.model_fields.items():
        assert field.title, name
        assert field.description or name == "drawing", name


def test_a_config_survives_being_written_and_read() -> None:
    config = LoraConfig(steps=7, caption_templates=("a {token}",))

    assert parse(LoraConfig, config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("text", "expected"),
    [("steps=300", ("steps", 300)), ("learning_rate=1e-4", ("learning_rate", 1e-4)), ("min_snr_gamma=null", ("min_snr_gamma", None))],
)
def test_assignments_are_read_as_yaml(text: str, expected: tuple[str, object]) -> None:
    assert parse_assignment(text) == expected


def test_an_assignment_without_equals_sign_is_explained() -> None:
    with pytest.raises(ConfigError, match="key=value"):
        parse_assignment("steps 300")


def test_a_grid_counts_its_cells() -> None:
    config = parse(CompareConfig, {"columns": ["base", "last"], "prompts": ["a", "b", "c"], "seeds": [1, 2]})

    assert config.num_cells == 12
