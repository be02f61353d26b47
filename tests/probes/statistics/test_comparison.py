"""Paired comparisons: against closed forms and permutations, and where there is nothing to tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from featurestore.errors import ConfigError
from probes.statistics import (
    METRICS,
    compare,
    compare_influences,
    compare_uar,
    contrast,
    influence,
    influences,
)


def models(seed: int, n_groups: int = 12, n_models: int = 2, better: float = 0.0) -> tuple[Any, Any, Any]:
    """Target, predictions `[M, n]` and group of 20 rows a group; the first model is better by `better`."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), 20)
    target = rng.integers(0, 3, len(group))
    hard = 0.15 * rng.standard_normal(n_groups)[group]
    chance = np.clip(0.6 + hard + better * (np.arange(n_models) == 0)[:, None], 0.02, 0.98)
    right = rng.random((n_models, len(group))) < chance
    return target, np.where(right, target, (target + 1) % 3), group


def test_equal_groups_of_one_class_are_the_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(9), 10)
    target = np.zeros(90, dtype=int)
    a, b = (rng.random(90) < 0.7).astype(int), (rng.random(90) < 0.5).astype(int)
    c = compare_uar(target, 1 - a, 1 - b, group)
    means = [x.reshape(9, 10).mean(axis=1) for x in (a, b)]
    reference = stats.ttest_rel(*means)
    ends = reference.confidence_interval(0.95)
    assert c.difference == pytest.approx(means[0].mean() - means[1].mean())
    assert c.p == pytest.approx(reference.pvalue)
    assert (c.low, c.high) == pytest.approx((ends.low, ends.high))
    assert (c.n_groups, c.df) == (9, pytest.approx(8))


@pytest.mark.parametrize("seed", range(6))
def test_near_the_permutation_test_that_exchanges_models_in_a_group(seed: int) -> None:
    target, (a, b), group = models(seed, better=0.08)
    c = compare("accuracy", target, a, b, group)
    by_group = np.array(
        [(a == target)[group == g].mean() - (b == target)[group == g].mean() for g in range(12)]
    )
    exact = stats.permutation_test(
        (by_group, np.zeros(12)), lambda x, y, axis: (x - y).mean(axis), permutation_type="samples"
    )
    # Many flips tie with what is seen: half of them count (Lancaster's mid-p).
    null, seen = np.abs(exact.null_distribution), abs(by_group.mean())
    tied = np.isclose(null, seen)
    mid = np.mean((null > seen) & ~tied) + np.mean(tied) / 2
    assert c.p == pytest.approx(mid, abs=0.05)


@pytest.mark.parametrize("metric", METRICS)
def test_paired_over_groups_and_antisymmetric(metric: str) -> None:
    target, (a, b), group = models(3, better=0.1)
    rng = np.random.default_rng(0)
    if metric in ("auroc_macro", "map"):
        a, b = (rng.standard_normal((len(target), 3)) + 1.5 * (x[:, None] == np.arange(3)) for x in (a, b))
    c, back = compare(metric, target, a, b, group), compare(metric, target, b, a, group)
    assert not c.reason
    assert (back.difference, back.low, back.high) == pytest.approx((-c.difference, -c.high, -c.low))
    assert back.p == pytest.approx(c.p)
    i, j = influence(target, a, group, metric=metric), influence(target, b, group, metric=metric)
    assert c.difference == pytest.approx(i.estimate - j.estimate)
    if metric in ("uar", "accuracy"):
        sums = (i.by_group - j.by_group).sum(axis=1)
        assert c.standard_error == pytest.approx(np.sqrt((sums**2).sum()) / len(i.values))


def test_what_two_models_share_does_not_count() -> None:
    # The groups differ widely, both models alike in each: a difference of every group by nearly the same.
    group = np.repeat(np.arange(8), 20)
    target = np.zeros(160, dtype=int)
    level = np.repeat(np.arange(8) * 2 + 2, 20)
    at = np.tile(np.arange(20), 8)
    a, b = (at < level).astype(int), (at < level - 1 - (group == 3)).astype(int)
    c = compare_uar(target, 1 - a, 1 - b, group)
    assert c.low > 0
    assert c.p < 0.001
    apart = influence(target, 1 - a, group)
    assert c.standard_error < 0.1 * np.sqrt((apart.by_group**2).sum())


def test_models_that_are_alike() -> None:
    target, (a, _), group = models(0)
    c = compare_uar(target, a, a, group)
    assert (c.difference, c.p) == (0, 1)
    assert np.isnan([c.low, c.high]).all()
    assert c.reason == "the two score alike in every group"


def test_scores_that_are_not_defined() -> None:
    target, scores = np.ones((20, 1), dtype=int), np.arange(20.0)[:, None]
    c = compare("map", target, scores, -scores, np.arange(20) % 5)
    assert np.isnan([c.difference, c.p, c.low, c.high]).all()
    assert "not defined" in c.reason


def test_the_same_difference_in_every_group() -> None:
    group = np.repeat(np.arange(6), 4)
    target = np.tile([0, 0, 1, 1], 6)
    c = compare_uar(target, target, 1 - target, group)
    assert c.difference == 1
    assert c.p == pytest.approx(2 / 2**6)
    assert "the same in every group" in c.reason


def test_few_groups() -> None:
    target, (a, b), group = models(0, n_groups=3)
    c = compare_uar(target, a, b, group)
    assert np.isnan([c.low, c.high, c.p, c.detectable]).all()
    assert c.reason.startswith("3 groups were tested")


def test_one_group_is_named_as_the_reason_and_not_its_lack_of_spread() -> None:
    y = np.array(["a", "b"] * 10)
    c = compare_uar(y, y, np.array(["a", "a"] * 10), group=["g"] * 20)
    assert (c.difference, c.n_groups, c.method) == (0.5, 1, "none")
    assert c.reason == "1 group was tested; an interval needs 4 at least"
    assert np.isnan(c.p)


def test_a_class_in_which_two_models_never_differ_is_not_thought_certain() -> None:
    target, (a, b), group = models(1)
    both = np.where(target == 2, target, a), np.where(target == 2, target, b)
    c = compare_uar(target, *both, group)
    seen = influence(target, both[0], group).by_group - influence(target, both[1], group).by_group
    assert c.standard_error > np.sqrt((seen.sum(axis=1) ** 2).sum()) / 3


def test_seeds_are_averaged() -> None:
    target, guesses, group = models(4, n_models=5)
    c = compare_uar(target, guesses[:3], guesses[3:], group)
    each = influences(target, list(guesses), group)
    assert c.difference == pytest.approx(
        np.mean([e.estimate for e in each[:3]]) - np.mean([e.estimate for e in each[3:]])
    )
    again = contrast(each[:3], each[3:])
    assert (again.difference, again.low, again.p) == pytest.approx((c.difference, c.low, c.p))


def test_a_contrast_of_matched_pairs_is_the_mean_of_their_differences() -> None:
    target, guesses, group = models(5, n_models=4)
    each = influences(target, list(guesses), group)
    pairs = [compare_influences(each[0], each[2]), compare_influences(each[1], each[3])]
    c = contrast(each[:2], each[2:])
    assert c.difference == pytest.approx(np.mean([p.difference for p in pairs]))
    assert c.standard_error <= np.mean([p.standard_error for p in pairs]) + 1e-12
    assert contrast(each[:1], each[2:3]) == pairs[0]


def test_the_detectable_difference_is_found_in_four_of_five() -> None:
    # Noncentral t: the power at the difference that is told, from its standard error.
    target, (a, b), group = models(6, n_groups=40)
    c = compare_uar(target, a, b, group)
    away = c.detectable / c.standard_error
    critical = stats.t.ppf(0.975, c.df)
    assert stats.nct.sf(critical, c.df, away) == pytest.approx(0.8, abs=0.01)


def test_other_rows_cannot_be_compared() -> None:
    target, (a, b), group = models(0)
    one = influence(target, a, group)
    with pytest.raises(ConfigError, match="their targets differ"):
        compare_influences(one, influence(np.roll(target, 1), b, group))
    with pytest.raises(ConfigError, match="their groups differ"):
        compare_influences(one, influence(target, b, np.roll(group, 1)))
    with pytest.raises(ConfigError, match="got 240 and 239 rows"):
        compare_influences(one, influence(target[1:], b[1:], group[1:]))
    with pytest.raises(ConfigError, match="expected one metric, got uar and accuracy"):
        compare_influences(one, influence(target, b, group, metric="accuracy"))
    with pytest.raises(ConfigError, match="one model at least"):
        contrast([one], [])
    with pytest.raises(ConfigError, match="prediction_b: expected 240 rows"):
        compare_uar(target, a, b[1:], group)
    with pytest.raises(ConfigError, match="level"):
        compare_uar(target, a, b, group, level=95)
