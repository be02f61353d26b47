"""Intervals of pooled ratios hold what they say, and leaving a group out is what it is by hand."""

from __future__ import annotations

import numpy as np
import pytest

from featurestore.errors import ConfigError
from probes.statistics import interval_of, ratio_influence


def test_influence_is_that_of_leaving_each_group_out() -> None:
    above = np.array([[1.0, 2], [3, 0], [2, 5]])
    below = np.array([[2.0, 4], [3, 1], [6, 6]])
    found = ratio_influence("precision", ["a", "b"], above, below)
    np.testing.assert_allclose(found.values, above.sum(0) / below.sum(0))
    for g in range(3):
        rest = np.arange(3) != g
        without = above[rest].sum(0) / below[rest].sum(0)
        share = below[g] / below.sum(0)
        np.testing.assert_allclose(found.by_group[g], (found.values - without) * np.sqrt(1 - share))


def test_a_class_with_nothing_below_is_left_out() -> None:
    found = ratio_influence("recall", ["a", "b"], np.array([[1.0, 0]]), np.array([[1.0, 0]]))
    assert found.names.tolist() == ["a"]
    with pytest.raises(ConfigError, match="no more than below"):
        ratio_influence("recall", ["a"], np.array([[2.0]]), np.array([[1.0]]))


def test_intervals_of_recordings_that_differ_cover_the_truth() -> None:
    """Precision of recordings that differ in size and in quality: 95 % of intervals hold the pooled truth."""
    rng = np.random.default_rng(7)
    n_worlds, n_groups = 400, 12
    quality = rng.beta(8, 2, (n_worlds, n_groups))
    below = rng.poisson(20, (n_worlds, n_groups)) + 1
    above = rng.binomial(below, quality)
    held = 0
    for a, b in zip(above, below, strict=True):
        i = interval_of(ratio_influence("precision", ["x"], a[:, None], b[:, None]))
        held += i.low <= 0.8 <= i.high
    assert 0.92 <= held / n_worlds <= 0.985
