"""What a number of choices between two pictures says: rates with their uncertainty, and an order of more than two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z95 = 1.959963984540054
"""Quantile of the normal distribution for 95 %."""
MOST_ROUNDS, CLOSE_ENOUGH = 10_000, 1e-12


@dataclass(frozen=True)
class Interval:
    """A share with the interval that holds the true one in 95 of 100 such tests."""

    rate: float
    low: float
    high: float


def wilson(wins: float, games: float, z: float = Z95) -> Interval:
    """Share of games won, with the Wilson score interval; 0 to 1. A tie is half a win for each side. No game: 0.5, 0 to 1.

    Wilson 1927, J. Am. Stat. Assoc. 22, 209. With ties it is wider than it need be, never narrower. Raises ValueError for
    more wins than games.
    """
    if not 0 <= wins <= games:
        raise ValueError(f"{wins} wins in {games} games")
    if games == 0:
        return Interval(0.5, 0.0, 1.0)
    rate, square = wins / games, z * z
    middle = (rate + square / (2 * games)) / (1 + square / games)
    half = z / (1 + square / games) * math.sqrt(rate * (1 - rate) / games + square / (4 * games * games))
    return Interval(rate, max(0.0, middle - half), min(1.0, middle + half))


def bradley_terry(wins: Sequence[Sequence[float]], *, prior: float = 0.0) -> list[float]:
    """Strengths p, adding up to 1, such that i beats j with p_i / (p_i + p_j); the most likely ones for these games.

    wins: (n, n) how often row i won against column j; a tie is half a win for both.  prior: wins that each of two is given
    against the other in advance; above 0 the result is finite even for one who won or lost everything, and is drawn a
    little towards equality. With prior 0 who has not won goes to 0. By Hunter 2004, Ann. Statist. 32, 384, eq. 3.
    """
    count = len(wins)
    won = [[0.0 if i == j else wins[i][j] + prior for j in range(count)] for i in range(count)]
    total = [sum(row) for row in won]
    strengths = [1 / count] * count
    for _ in range(MOST_ROUNDS):
        new = [total[i] / met if (met := _meetings(won, strengths, i)) else strengths[i] for i in range(count)]
        new = [strength / (sum(new) or 1.0) for strength in new]
        moved = max(abs(a - b) for a, b in zip(new, strengths, strict=True))
        strengths = new
        if moved < CLOSE_ENOUGH:
            break
    return strengths


def _meetings(won: Sequence[Sequence[float]], strengths: Sequence[float], i: int) -> float:
    """Games of i, each weighed by the strength that met in it."""
    games = ((won[i][j] + won[j][i], strengths[i] + strengths[j]) for j in range(len(won)) if j != i)
    return sum(number / together for number, together in games if number and together)
