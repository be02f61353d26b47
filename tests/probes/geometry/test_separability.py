"""Neighbours of other groups, and classes apart, against scikit-learn and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import calinski_harabasz_score, silhouette_score
from sklearn.metrics.pairwise import cosine_similarity

from probes.codes import group_codes
from probes.geometry import separability as module
from probes.geometry.nearest import nearest_of_other_groups, standardised
from probes.geometry.separability import fisher_ratio, neighbour_purity, separability, silhouette


def blobs(n: int = 240, spread: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows around three centres, of unequal sizes, and their classes."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    centres = np.random.default_rng(7).standard_normal((3, 12))
    x = centres[y] + spread * rng.standard_normal((n, 12))
    return standardised((x + 5).astype(np.float32)), y.astype(np.int64)


def test_neighbours_are_those_of_a_plain_search() -> None:
    z, _ = blobs()
    rng = np.random.default_rng(1)
    group, copy = rng.integers(0, 20, len(z)), rng.integers(0, 60, len(z))
    near = nearest_of_other_groups(z, [group, copy], 7)
    cosine = cosine_similarity(z.astype(np.float64))
    for i in range(len(z)):
        others = [j for j in np.argsort(-cosine[i]) if group[j] != group[i] and copy[j] != copy[i]][:7]
        assert near.cosine[i] == pytest.approx(cosine[i, others], abs=1e-5)
        assert set(near.position[i]) == set(others)


def test_where_there_are_too_few_of_other_groups_places_stay_empty() -> None:
    z, _ = blobs(30)
    group = np.array([0] * 27 + [1] * 3)
    near = nearest_of_other_groups(z, [group], 5)
    assert near.there[:27].sum(axis=1).tolist() == [3] * 27
    assert near.there[27:].all()
    assert np.isnan(near.cosine[~near.there]).all()


def test_a_row_without_a_group_is_one_of_its_own() -> None:
    codes = group_codes(np.array(["", "a", "", "b", "a"], dtype=object))
    assert len(set(codes.tolist())) == 4
    assert codes[1] == codes[4]


def test_fisher_ratio_is_that_of_calinski_and_harabasz() -> None:
    z, y = blobs()
    # Their index divides both traces by their degrees of freedom.
    expected = calinski_harabasz_score(z.astype(np.float64), y) * 2 / (len(z) - 3)
    assert fisher_ratio(z, y) == pytest.approx(expected, rel=1e-6)
    assert fisher_ratio(np.repeat(z[:2], 5, axis=0), np.repeat([0, 1], 5)) == float("inf")


def test_silhouette_is_that_of_scikit_learn_and_of_a_draw_where_rows_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    z, y = blobs()
    assert silhouette(z, y) == pytest.approx(silhouette_score(z, y, metric="cosine"), abs=1e-6)
    assert np.isnan(silhouette(z[:5], np.arange(5)))
    monkeypatch.setattr(module, "SILHOUETTE_ROWS", 200)
    drawn = silhouette(z, y)
    assert drawn != silhouette_score(z, y, metric="cosine")
    assert drawn == pytest.approx(silhouette_score(z, y, metric="cosine"), abs=0.05)


def test_purity_is_that_of_a_plain_count() -> None:
    z, y = blobs()
    group = np.random.default_rng(3).integers(0, 30, len(z))
    near = nearest_of_other_groups(z, [group], 5)
    purity, chance, n = neighbour_purity(y, group, near)
    assert n == len(z)
    shares = [(y[near.position[i]] == y[i]).mean() for i in range(len(z))]
    luck = [(y[group != group[i]] == y[i]).mean() for i in range(len(z))]
    for found, of_rows in ((purity, shares), (chance, luck)):
        assert found == pytest.approx(np.mean([np.mean(np.array(of_rows)[y == c]) for c in range(3)]))
    assert purity > chance + 0.2


def test_without_a_signal_all_is_as_by_chance() -> None:
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        z = standardised(rng.standard_normal((300, 10)).astype(np.float32))
        y, group = rng.choice(4, 300, p=[0.5, 0.3, 0.1, 0.1]), rng.integers(0, 60, 300)
        found.append(separability(z, y, group, nearest_of_other_groups(z, [group], 10)))
    assert np.mean([f.purity - f.purity_chance for f in found]) == pytest.approx(0, abs=0.01)
    assert np.mean([f.fisher_ratio / f.fisher_chance for f in found]) == pytest.approx(1, abs=0.1)
    assert np.mean([f.silhouette for f in found]) == pytest.approx(0, abs=0.05)


def test_recordings_do_not_pass_for_classes() -> None:
    # Each recording is a tight cloud of one class; classes have nothing in common.
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 8)
    y = rng.integers(0, 3, 60)[group]
    centre = rng.standard_normal((60, 30))
    z = standardised((centre[group] + 0.1 * rng.standard_normal((480, 30))).astype(np.float32))
    within = nearest_of_other_groups(z, [np.arange(480)], 5)
    assert (y[within.position] == y[:, None]).mean() == 1.0
    purity, chance, _ = neighbour_purity(y, group, nearest_of_other_groups(z, [group], 5))
    assert purity == pytest.approx(chance, abs=0.1)


def test_a_class_of_one_group_has_no_purity() -> None:
    z, y = blobs()
    near = nearest_of_other_groups(z, [y], 5)
    purity, chance, n = neighbour_purity(y, y, near)
    assert np.isnan([purity, chance]).all()
    assert n == 0
    group = np.where(y == 2, 100, np.arange(len(y)) % 10)
    _, _, n = neighbour_purity(y, group, nearest_of_other_groups(z, [group], 5))
    assert n == (y != 2).sum()
