"""Dimensions of clouds whose dimensions are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.datasets import make_swiss_roll
from sklearn.metrics.pairwise import cosine_similarity

from probes.geometry.shape import (
    Held,
    effective_rank,
    mean_cosine,
    participation_ratio,
    shape_of,
    spectrum,
    two_nn,
)
from probes.geometry.similarity import Centred


def embedded(x: np.ndarray, width: int = 40, offset: float = 50.0) -> np.ndarray:
    """Rows turned into a space of many dimensions, away from the origin."""
    rng = np.random.default_rng(99)
    turn = np.linalg.qr(rng.standard_normal((width, width)))[0][: x.shape[1]]
    out: np.ndarray = (x @ turn + offset * rng.standard_normal(width)).astype(np.float32)
    return out


@pytest.mark.parametrize("d", [1, 2, 4, 6])
def test_two_nn_counts_the_dimensions_of_a_cube(d: int) -> None:
    x = np.random.default_rng(d).random((3000, d))
    assert two_nn(embedded(x)) == pytest.approx(d, rel=0.1)


def test_two_nn_counts_the_dimensions_of_curved_surfaces() -> None:
    roll, _ = make_swiss_roll(3000, random_state=0)
    assert two_nn(embedded(roll)) == pytest.approx(2, rel=0.1)
    ball = np.random.default_rng(0).standard_normal((3000, 5))
    sphere = ball / np.linalg.norm(ball, axis=1, keepdims=True)
    assert two_nn(embedded(sphere)) == pytest.approx(4, rel=0.1)
    # A linear measure sees the space that the surface lies in.
    assert shape_of(embedded(sphere)).participation_ratio == pytest.approx(5, rel=0.02)


def test_two_nn_is_near_the_maximum_likelihood_of_the_same_ratios() -> None:
    from scipy.spatial.distance import cdist

    x = np.random.default_rng(0).standard_normal((1500, 8))
    distance = np.sort(cdist(x, x), axis=1)[:, 1:3]
    likeliest = (len(x) - 1) / np.log(distance[:, 1] / distance[:, 0]).sum()
    assert two_nn(embedded(x)) == pytest.approx(likeliest, rel=0.1)


def test_rows_that_are_the_same_count_once() -> None:
    x = embedded(np.random.default_rng(0).random((1000, 3)))
    assert two_nn(np.concatenate([x, x[:400], x[:200]])) == pytest.approx(two_nn(x), rel=1e-9)
    assert np.isnan(two_nn(np.repeat(x[:9], 5, axis=0)))


@pytest.mark.parametrize(("n", "d"), [(200, 30), (30, 200)])
def test_spectrum_and_what_follows_from_it(n: int, d: int) -> None:
    x = (np.random.default_rng(0).standard_normal((n, d)) * np.arange(1, d + 1) + 9).astype(np.float32)
    singular = np.linalg.svd(x.astype(np.float64) - x.astype(np.float64).mean(axis=0), compute_uv=False)
    values = spectrum(Centred(Held(x)))
    assert np.sort(values) == pytest.approx(np.sort(singular**2), rel=1e-6, abs=1e-6)
    found = shape_of(x)
    assert found.effective_rank == pytest.approx(np.exp(entropy(singular)), rel=1e-4)
    covariance = np.cov(x.T.astype(np.float64))
    expected = np.trace(covariance) ** 2 / (covariance**2).sum()
    assert found.participation_ratio == pytest.approx(expected, rel=1e-9)


def test_equal_and_single_directions() -> None:
    assert participation_ratio(np.full(7, 3.0)) == pytest.approx(7)
    assert effective_rank(np.full(7, 3.0)) == pytest.approx(7)
    assert participation_ratio(np.array([5.0, 0, 0])) == pytest.approx(1)
    assert effective_rank(np.array([5.0, 0, 0])) == pytest.approx(1)


def test_few_rows_do_not_hide_dimensions() -> None:
    # 600 equal directions, of which 150 rows can show 149.
    found = [
        shape_of(np.random.default_rng(i).standard_normal((150, 600)).astype(np.float32)) for i in range(12)
    ]
    assert max(f.participation_ratio for f in found) < 150
    assert np.mean([f.participation_ratio_debiased for f in found]) == pytest.approx(600, rel=0.1)


def test_mean_cosine_is_that_of_all_pairs() -> None:
    x = (np.random.default_rng(0).standard_normal((80, 6)) + 0.7).astype(np.float32)
    pairs = cosine_similarity(x.astype(np.float64))[np.triu_indices(80, 1)]
    assert mean_cosine(x) == pytest.approx(pairs.mean(), abs=1e-9)
    with_zeros = np.concatenate([x, np.zeros((5, 6), dtype=np.float32)])
    assert mean_cosine(with_zeros) == pytest.approx(pairs.mean(), abs=1e-9)


def test_rows_that_are_all_the_same_have_no_shape() -> None:
    found = shape_of(np.full((30, 4), 0.1, dtype=np.float32))
    assert found.mean_cosine == pytest.approx(1.0)
    dimensions = [found.two_nn, found.participation_ratio, found.effective_rank]
    assert np.isnan([*dimensions, found.participation_ratio_debiased]).all()
