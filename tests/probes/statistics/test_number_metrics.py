"""Scores of numbers: the values of scipy and scikit-learn, and what each is without a group."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, r2_score

from featurestore.errors import ConfigError
from probes import metrics
from probes.number_scores import NUMBER_METRICS
from probes.statistics import compare, layer_choice, metric_interval
from probes.statistics.influence import influence
from probes.statistics.number_metrics import left_out_numbers


def lin(y: np.ndarray, guess: np.ndarray) -> float:
    """Lin 1989, equation by equation."""
    covariance = np.mean((y - y.mean()) * (guess - guess.mean()))
    return 2 * covariance / (y.var() + guess.var() + (y.mean() - guess.mean()) ** 2)


REFERENCE = {
    "r2": r2_score,
    "pearson": lambda y, p: pearsonr(y, p)[0],
    "ccc": lin,
    "mae": mean_absolute_error,
}
OURS = {
    "r2": metrics.r2,
    "pearson": metrics.pearson,
    "ccc": metrics.concordance,
    "mae": metrics.mean_absolute_error,
}


def sample(
    offset: float = 0.0, unit: float = 1.0, n_groups: int = 9, seed: int = 0
) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    group = rng.integers(0, n_groups, 120)
    y = rng.standard_normal(120) + rng.standard_normal(n_groups)[group]
    guess = 0.7 * y + 0.3 * rng.standard_normal((2, 120)) + 0.4 * rng.standard_normal(n_groups)[group]
    return offset + unit * y, offset + unit * guess, group


@pytest.mark.parametrize("metric", NUMBER_METRICS)
@pytest.mark.parametrize(("offset", "unit"), [(0, 1), (1e6, 1), (-40, 1e-5), (0, 1e9)])
def test_scores_are_those_of_others(metric: str, offset: float, unit: float) -> None:
    y, guess, group = sample(offset, unit)
    expected = REFERENCE[metric](y, guess[0])
    assert OURS[metric](y, guess[0]) == pytest.approx(expected, rel=1e-9)
    assert influence(y, guess[0], group, metric=metric).estimate == pytest.approx(expected, rel=1e-6)


def in_fractions(y: np.ndarray, guess: np.ndarray) -> dict[str, float]:
    """The scores of these very numbers, nothing rounded on the way but the root."""
    a, b = ([Fraction(float(v)) for v in values] for values in (y, guess))
    n, off = len(a), [p - q for p, q in zip(a, b, strict=True)]
    a, b = ([v - sum(values) / n for v in values] for values in (a, b))
    yy, pp, yp = (sum(p * q for p, q in zip(*of, strict=True)) for of in ((a, a), (b, b), (a, b)))
    return {
        "r2": float(1 - sum(v * v for v in off) / yy),
        "pearson": float(yp) / (float(yy) ** 0.5 * float(pp) ** 0.5),
        "ccc": float(2 * yp / (yy + pp + n * (sum(off) / n) ** 2)),
        "mae": float(sum(map(abs, off)) / n),
    }


@pytest.mark.parametrize(
    ("offset", "spread"),
    [(0.0, 50), (1e6, 50), (1e12, 50), (0.0, 1), (1e6, 1), (1e12, 1), (0.0, 1e-7), (1e6, 1e-7)],
)
def test_neither_an_offset_nor_timid_predictions_cost_digits(offset: float, spread: float) -> None:
    rng = np.random.default_rng(int(offset) % 7)
    y = offset + rng.standard_normal(30)
    guess = offset + 0.5 + spread * rng.standard_normal(30)
    for metric, exact in in_fractions(y, guess).items():
        assert OURS[metric](y, guess) == pytest.approx(exact, rel=1e-12, abs=1e-12)


def test_squares_of_the_largest_numbers_are_numbers_too() -> None:
    y = np.array([1e100, 2e99, -5e99, 3e98])
    guess = np.array([9e99, 0.0, -4e99, 1e99])
    assert metrics.pearson(y, guess) == pytest.approx(pearsonr(y / 1e90, guess / 1e90)[0])


@pytest.mark.parametrize("metric", NUMBER_METRICS)
def test_without_a_group_is_the_score_of_the_other_rows(metric: str) -> None:
    y, guess, group = sample()
    value, without = left_out_numbers(metric, y, guess, group)
    assert value[0] == pytest.approx(np.mean([REFERENCE[metric](y, p) for p in guess]))
    for g in range(9):
        rest = group != g
        expected = np.mean([REFERENCE[metric](y[rest], p[rest]) for p in guess])
        assert without[g, 0] == pytest.approx(expected, rel=1e-9)


def test_a_constant_target_has_no_score() -> None:
    y, guess = np.full(12, 0.1) * 3, np.arange(12.0)  # 0.30000000000000004 twelve times
    for metric in ("r2", "pearson", "ccc"):
        assert np.isnan(OURS[metric](y, guess))
        interval = metric_interval(metric, y, guess, np.arange(12) % 4)
        assert np.isnan([interval.estimate, interval.low, interval.high]).all()
        assert "not defined" in interval.reason
    assert metrics.mean_absolute_error(y, guess) == pytest.approx(mean_absolute_error(y, guess))
    assert np.isnan(metrics.pearson(guess, y))
    assert metrics.r2(guess, y) == pytest.approx(r2_score(guess, y))
    assert metrics.concordance(guess, y) == 0
    assert np.isnan(metrics.r2(guess, np.where(guess == 3, np.nan, guess)))


def test_no_interval_where_one_group_is_all_that_varies() -> None:
    group = np.repeat(np.arange(5), 4)
    y = np.where(group == 0, np.arange(20.0), 7.0)
    interval = metric_interval("r2", y, y + np.random.default_rng(0).standard_normal(20), group)
    assert np.isfinite(interval.estimate)
    assert np.isnan(interval.low)
    assert "others have one value" in interval.reason


@pytest.mark.parametrize("metric", NUMBER_METRICS)
def test_an_interval_holds_its_score_and_keeps_to_its_scale(metric: str) -> None:
    y, guess, group = sample()
    found = metric_interval(metric, y, guess, group)
    assert found.low < found.estimate < found.high
    assert found.n_groups == 9
    assert found.high < 1 or metric == "mae"
    assert found.low > {"r2": -np.inf, "mae": 0}.get(metric, -1)
    wide = metric_interval(metric, y, guess, group, level=0.99)
    assert wide.low < found.low
    assert wide.high > found.high


@pytest.mark.parametrize("metric", ["r2", "pearson", "ccc"])
def test_intervals_do_not_depend_on_the_unit(metric: str) -> None:
    one = metric_interval(metric, *sample())
    other = metric_interval(metric, *sample(offset=273.15, unit=1.8))
    np.testing.assert_allclose((other.low, other.high), (one.low, one.high), rtol=1e-6)


def test_a_perfect_prediction_has_no_interval() -> None:
    y, _, group = sample()
    for metric in NUMBER_METRICS:
        found = metric_interval(metric, y, y, group)
        assert found.estimate == (0 if metric == "mae" else pytest.approx(1))
        if metric in ("r2", "mae"):
            assert np.isnan(found.low)
            assert "no spread" in found.reason


def test_models_are_compared_on_the_same_rows() -> None:
    y, guess, group = sample(n_groups=12)
    better = 0.5 * (y + guess)
    found = compare("r2", y, better, guess, group)
    assert found.difference == pytest.approx(
        np.mean([r2_score(y, p) for p in better]) - np.mean([r2_score(y, p) for p in guess])
    )
    assert found.low > 0
    assert found.p < 0.01
    assert compare("r2", y, guess, guess, group).p == 1
    far = compare("r2", y, better, 50 * guess, group)
    assert far.high > 1  # R² has no lower end, nor have differences an upper one


def test_a_layer_is_chosen_by_r2() -> None:
    y, guess, group = sample(n_groups=12)
    found = layer_choice(y, [guess, 0.5 * (y + guess), 0 * guess], group, metric="r2", n_resamples=500)
    assert found.chosen == 1
    np.testing.assert_allclose(
        found.scores, [np.mean([r2_score(y, p) for p in s]) for s in (guess, 0.5 * (y + guess), 0 * guess)]
    )
    assert found.chosen_share.sum() == pytest.approx(1)
    assert found.chosen_share[1] > 0.9


def test_wrong_input_is_refused() -> None:
    y, guess, group = sample()
    with pytest.raises(ConfigError, match="expected numbers, got 'a'"):
        influence(["a", "b"], [1, 2], metric="r2")
    with pytest.raises(ConfigError, match="1 of 120 values are not finite"):
        influence(np.where(np.arange(120) == 3, np.nan, y), guess, group, metric="r2")
    with pytest.raises(ConfigError, match="expected 120 rows"):
        influence(y, guess[:, :5], group, metric="mae")
    with pytest.raises(ConfigError, match="not finite"):
        influence(y, guess * np.inf, group, metric="ccc")
