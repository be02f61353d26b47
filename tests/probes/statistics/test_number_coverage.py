"""Intervals of scores of numbers hold the truth of simulated test parts about as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from probes.statistics import compare, metric_interval

N_PARTS = 300
# Where 95 % are stated, 300 parts show 91.5 to 97.5 in 99 of 100 cases; more is an interval that is too wide.
LEAST = {"r2": 0.915, "pearson": 0.915, "ccc": 0.91, "mae": 0.87}


def part(
    rng: np.random.Generator, n_groups: int, slope: float, noise: float, correlation: float, *, own: bool
) -> tuple[np.ndarray, ...]:
    """Numbers of variance 1, alike within groups (all the same with `own`), and what is predicted of them."""
    group = np.repeat(np.arange(n_groups), 20)
    of_label = 1.0 if own else correlation

    def drawn(share: float) -> np.ndarray:
        shared, alone = rng.standard_normal(n_groups)[group], rng.standard_normal(len(group))
        return np.sqrt(share) * shared + np.sqrt(1 - share) * alone

    y = drawn(of_label)
    return y, slope * y + noise * drawn(correlation), group


def truth(slope: float, noise: float) -> dict[str, float]:
    """What an endless test part would show."""
    variance, error = slope**2 + noise**2, (1 - slope) ** 2 + noise**2
    return {
        "r2": 1 - error,
        "pearson": slope / np.sqrt(variance),
        "ccc": 2 * slope / (1 + variance),
        "mae": np.sqrt(2 * error / np.pi),
    }


@pytest.mark.minutes
@pytest.mark.parametrize("own", [False, True], ids=["label within groups", "label of the group"])
@pytest.mark.parametrize("n_groups", [6, 12, 30])
def test_intervals_hold_the_truth(n_groups: int, own: bool) -> None:
    rng, slope, noise = np.random.default_rng(n_groups), 0.7, 0.4
    expected = truth(slope, noise)
    covered = dict.fromkeys(expected, 0)
    for _ in range(N_PARTS):
        rows = part(rng, n_groups, slope, noise, 0.3, own=own)
        for metric, value in expected.items():
            found = metric_interval(metric, *rows)
            assert not found.reason
            covered[metric] += found.low <= value <= found.high
    for metric, n in covered.items():
        assert LEAST[metric] <= n / N_PARTS, (metric, n)


@pytest.mark.minutes
def test_equal_models_are_told_apart_in_about_one_of_twenty() -> None:
    rng, n_told = np.random.default_rng(1), 0
    for _ in range(N_PARTS):
        y, first, group = part(rng, 12, 0.7, 0.4, 0.3, own=False)
        noise = first - 0.7 * y
        # The same error, drawn anew: its own groups' shares, turned round.
        second = 0.7 * y + noise.reshape(12, 20)[rng.permutation(12)][:, rng.permutation(20)].ravel()
        n_told += compare("r2", y, first, second, group).p < 0.05
    assert 0.01 <= n_told / N_PARTS <= 0.09
