"""The blind test's statistics against closed forms and published results."""

from __future__ import annotations

import math

import pytest

from sdplay.ranking import bradley_terry, wilson

TEAMS = ["Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore"]
BASEBALL = [
    [0, 7, 9, 7, 7, 9, 11],
    [6, 0, 7, 5, 11, 9, 9],
    [4, 6, 0, 7, 7, 8, 12],
    [6, 8, 6, 0, 6, 7, 10],
    [6, 2, 6, 7, 0, 7, 12],
    [4, 4, 5, 6, 6, 0, 6],
    [2, 4, 1, 3, 1, 7, 0],
]
"""American League East, 1987: Agresti, Categorical Data Analysis, table 10.10."""


def test_the_wilson_interval_of_eight_wins_in_ten_is_the_published_one() -> None:
    interval = wilson(8, 10)

    assert (interval.low, interval.high) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)  # R: prop.test(8, 10, correct=FALSE)
    assert interval.rate == 0.8


@pytest.mark.parametrize(("wins", "games"), [(0, 5), (5, 5), (3, 7), (12.5, 20)])
def test_the_ends_of_the_interval_solve_the_score_equation(wins: float, games: float) -> None:
    interval = wilson(wins, games, z=1.5)

    for end in (interval.low, interval.high):  # |rate - p| = z sqrt(p (1 - p) / n)
        assert abs(interval.rate - end) == pytest.approx(1.5 * math.sqrt(end * (1 - end) / games), abs=1e-9)


def test_no_game_says_nothing() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1)


def test_more_wins_than_games_is_refused() -> None:
    with pytest.raises(ValueError, match="3 wins in 2"):
        wilson(3, 2)


def test_of_two_the_strength_is_the_share_of_wins() -> None:
    assert bradley_terry([[0, 7], [3, 0]]) == pytest.approx([0.7, 0.3])


def test_baseball_of_1987_has_the_published_coefficients() -> None:
    strengths = bradley_terry(BASEBALL)

    coefficients = {team: math.log(strength / strengths[-1]) for team, strength in zip(TEAMS, strengths, strict=True)}
    assert coefficients == pytest.approx(
        {
            "Milwaukee": 1.5814,
            "Detroit": 1.4364,
            "Toronto": 1.2945,
            "New York": 1.2476,
            "Boston": 1.1077,
            "Cleveland": 0.6839,
            "Baltimore": 0,
        },
        abs=1e-4,
    )  # Turner and Firth 2012, BradleyTerry2, J. Stat. Soft. 48(9), sec. 2


def test_expected_wins_are_the_wins_there_were() -> None:
    """The likelihood's gradient is zero: sum over games of p_i / (p_i + p_j) is the number of wins."""
    strengths = bradley_terry(BASEBALL)

    for i, row in enumerate(BASEBALL):
        expected = sum((row[j] + BASEBALL[j][i]) * strengths[i] / (strengths[i] + strengths[j]) for j in range(7) if j != i)
        assert expected == pytest.approx(sum(row), abs=1e-6)


def test_rock_paper_scissors_are_equal() -> None:
    assert bradley_terry([[0, 4, 0], [0, 0, 4], [4, 0, 0]]) == pytest.approx([1 / 3] * 3)


def test_who_won_everything_has_a_strength_below_one_with_a_prior() -> None:
    strengths = bradley_terry([[0, 9], [0, 0]], prior=0.5)

    assert strengths == pytest.approx([0.95, 0.05])  # (9 + 0.5) / (9 + 1)
