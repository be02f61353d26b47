"""Debiased CKA against the definition of its estimate, its n x n formula, and what must not matter."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from featurestore.arrays import FloatArray
from probes.geometry.shape import Held
from probes.geometry.similarity import (
    Centred,
    debiased_cka,
    sums_over_features,
    sums_over_rows,
    unbiased_hsic,
)


def by_tuples(x: np.ndarray, y: np.ndarray) -> float:
    """HSIC as Song et al. 2012 define it: mean of K_ij (L_ij + L_qr - 2 L_iq) over distinct i, j, q, r."""
    k, ell = x @ x.T, y @ y.T
    found = [
        k[i, j] * (ell[i, j] + ell[q, r] - 2 * ell[i, q])
        for i, j, q, r in itertools.permutations(range(len(x)), 4)
    ]
    return float(np.mean(found))


def by_kernels(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, eq. 5, as it is printed: kernels n x n with zeros on their diagonals."""
    n, ones = len(x), np.ones(len(x))
    k, ell = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(ell, 0)
    whole = (ones @ k @ ones) * (ones @ ell @ ones) / ((n - 1) * (n - 2))
    return float((np.trace(k @ ell) + whole - 2 / (n - 2) * ones @ k @ ell @ ones) / (n * (n - 3)))


def cka_by_kernels(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x.astype(np.float64), y.astype(np.float64)
    return by_kernels(x, y) / np.sqrt(by_kernels(x, x) * by_kernels(y, y))


def biased_cka(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    cross = ((x.T @ y) ** 2).sum()
    return float(cross / np.sqrt(((x.T @ x) ** 2).sum() * ((y.T @ y) ** 2).sum()))


def pair(n: int, d: int, e: int, offset: float = 3.0, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Two related sets of rows, far from the origin."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    y = x @ rng.standard_normal((d, e)) / d + 0.5 * rng.standard_normal((n, e))
    return (x + offset).astype(np.float32), (y - offset).astype(np.float32)


def test_the_n_by_n_formula_is_the_definition() -> None:
    x, y = (a.astype(np.float64) for a in pair(7, 3, 5))
    assert by_kernels(x, y) == pytest.approx(by_tuples(x, y), rel=1e-9)


@pytest.mark.parametrize(("n", "d", "e"), [(40, 7, 5), (12, 60, 90), (50, 50, 3), (300, 20, 400), (4, 9, 2)])
def test_without_any_n_by_n_matrix_it_is_the_same(n: int, d: int, e: int) -> None:
    x, y = pair(n, d, e)
    found = debiased_cka([Held(x), Held(y)])
    assert found[0, 1] == pytest.approx(cka_by_kernels(x, y), abs=1e-9)
    assert found[1, 0] == found[0, 1]
    assert np.diagonal(found) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("memory_bytes", [1 << 30, 40_000, 3_000])
def test_sums_over_features_and_over_rows_agree_in_tiles_of_any_size(memory_bytes: int) -> None:
    sets = [*pair(61, 13, 29), *pair(61, 80, 7, seed=1), pair(61, 40, 5, seed=2)[0]]
    centred = [Centred(Held(x), memory_bytes) for x in sets]
    plain = [x.astype(np.float64) - x.astype(np.float64).mean(axis=0) for x in sets]
    expected = [[((a.T @ b) ** 2).sum() for b in plain] for a in plain]
    told: list[tuple[int, int]] = []
    for sums in (sums_over_features, sums_over_rows):
        told.clear()
        found = sums(centred, memory_bytes, lambda done, total: told.append((done, total)))
        assert found == pytest.approx(np.array(expected), rel=1e-9)
        assert told[-1][0] == told[-1][1] == len(told)
    assert (len(told) > 1) == (memory_bytes < 1 << 20)
    squares = np.stack([c.squares for c in centred])
    direct = [[by_kernels(a, b) for b in plain] for a in plain]
    assert unbiased_hsic(found, squares) == pytest.approx(np.array(direct), abs=1e-7)


def test_few_rows_of_many_features_are_not_alike_by_chance() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 50, 1000)).astype(np.float32)
    assert biased_cka(x, y) > 0.9
    assert abs(debiased_cka([Held(x), Held(y)])[0, 1]) < 0.1


def test_few_rows_tell_what_many_do() -> None:
    # The mean over draws of 40 rows is what all 4,000 rows say; the usual estimate is far above.
    x, y = pair(4000, 60, 60)
    truth = debiased_cka([Held(x), Held(y)])[0, 1]
    draws = [slice(40 * i, 40 * i + 40) for i in range(100)]
    found = [debiased_cka([Held(x[s]), Held(y[s])])[0, 1] for s in draws]
    usual = [biased_cka(x[s].astype(float), y[s].astype(float)) for s in draws]
    assert np.mean(found) == pytest.approx(truth, abs=0.03)
    assert np.mean(usual) > truth + 0.3


def test_rotation_scale_and_place_do_not_matter() -> None:
    x, y = pair(80, 12, 9)
    rng = np.random.default_rng(1)
    rotation = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    moved = (7 * x.astype(np.float64) @ rotation + 100 * rng.standard_normal(12)).astype(np.float32)
    found = debiased_cka([Held(x), Held(moved), Held(y)])
    assert found[0, 1] == pytest.approx(1.0, abs=1e-5)
    assert found[0, 2] == pytest.approx(found[1, 2], abs=1e-5)


def test_far_from_the_origin_nothing_is_lost() -> None:
    # Whole numbers keep all digits in float32: what differs would be our arithmetic.
    rng = np.random.default_rng(0)
    x, y = rng.integers(-50, 50, (2, 60, 20)).astype(np.float32)
    near, far = debiased_cka([Held(x), Held(y)]), debiased_cka([Held(x + 100_000), Held(y + 100_000)])
    assert far == pytest.approx(near, abs=1e-9)


def test_rows_that_are_all_the_same_have_no_alignment() -> None:
    x, _ = pair(30, 6, 6)
    same = np.full((30, 6), 0.1, dtype=np.float32)
    shaken = same * (1 + 1e-7 * np.random.default_rng(0).standard_normal((30, 6))).astype(np.float32)
    found = debiased_cka([Held(x), Held(same), Held(shaken)])
    assert found[0, 0] == pytest.approx(1.0)
    assert np.isnan(found[1:]).all()
    assert np.isnan(found[:, 1:]).all()


def test_other_numbers_of_rows_are_refused() -> None:
    x, y = pair(30, 6, 6)
    with pytest.raises(ValueError, match="the same for all"):
        debiased_cka([Held(x), Held(y[:20])])
    with pytest.raises(ValueError, match="expected 4 rows"):
        debiased_cka([Held(x[:3])])


def test_blocks_are_as_small_as_the_memory_asks() -> None:
    asked: list[int] = []

    class Watched(Held):
        def block(self, start: int, stop: int) -> FloatArray:
            asked.append(stop - start)
            return super().block(start, stop)

    x, y = pair(2000, 16, 16)
    tight = debiased_cka([Watched(x), Watched(y)], memory_bytes=64_000)
    # Of float64 rows at most half of the memory; the rest is for products.
    assert max(asked) * 16 * 8 <= 32_000
    assert tight == pytest.approx(debiased_cka([Held(x), Held(y)]), abs=1e-10)
