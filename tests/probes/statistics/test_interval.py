"""Intervals: against closed forms, at the edges, and where none is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit, logit

from featurestore.errors import ConfigError, UserError
from probes.number_scores import NUMBER_METRICS
from probes.statistics import METRICS, Interval, metric_interval, recall_intervals, uar_interval
from probes.statistics.interval import FLAWLESS, most_missed
from probes.statistics.variance import degrees_of_freedom, score_variance


def table(*cells: tuple[str, str, int, int]) -> tuple[Any, Any, Any]:
    """Target, prediction and group of (group, class, rows, rows that are right)."""
    target, guess, group = [], [], []
    for g, c, n, right in cells:
        target += [c] * n
        guess += [c] * right + ["none"] * (n - right)
        group += [g] * n
    return np.array(target), np.array(guess), np.array(group)


def given_none(i: Interval) -> bool:
    return bool(np.isnan(i.low) and np.isnan(i.high) and np.isnan(i.standard_error) and i.method == "none")


def test_equal_groups_of_one_class_are_the_t_interval_of_their_means() -> None:
    right = np.array([3, 5, 8, 9, 4, 6])
    i = uar_interval(*table(*((f"g{k}", "a", 10, int(r)) for k, r in enumerate(right))))
    mean, error = right.mean() / 10, stats.sem(right / 10)
    half = stats.t.ppf(0.975, 5) * error / (mean * (1 - mean))
    assert i.df == pytest.approx(5)
    assert i.standard_error == pytest.approx(error)
    assert (i.low, i.high) == pytest.approx((expit(logit(mean) - half), expit(logit(mean) + half)))
    assert (i.estimate, i.n_groups, i.n_rows, i.reason) == (pytest.approx(mean), 6, 60, "")


def test_where_each_group_is_of_one_class_the_variance_is_that_of_separate_samples() -> None:
    # The label is the animal's: three animals of each of two classes. Leaving one out in turn and taking
    # (G - 1) / G of the squares would give 5/4 of the right value instead of 1.
    a, b = np.array([2, 5, 8]), np.array([6, 9, 7])
    cells = [(f"a{k}", "a", 10, int(r)) for k, r in enumerate(a)]
    cells += [(f"b{k}", "b", 10, int(r)) for k, r in enumerate(b)]
    i = uar_interval(*table(*cells))
    va, vb = stats.sem(a / 10) ** 2, stats.sem(b / 10) ** 2
    assert i.standard_error == pytest.approx(np.sqrt(va + vb) / 2)
    assert 2 < i.df <= 4  # Welch's, of two samples of three


def test_every_row_a_group_is_the_standard_error_of_independent_rows() -> None:
    # statsmodels 0.15: OLS on classes with HC2, mean of the coefficients.
    right = [0, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 1, 1, 1, 1, 0, 0, 0]
    target = np.repeat([0, 1, 2], [8, 5, 12])
    i = uar_interval(target, np.where(np.array(right) == 1, target, 9))
    assert i.estimate == pytest.approx(0.4527777777777777)
    assert i.standard_error**2 == pytest.approx(0.012842011383678048)
    assert i.n_groups == 25


def test_degrees_of_freedom_are_those_of_the_dense_matrix() -> None:
    rng = np.random.default_rng(4)
    counts = rng.integers(0, 5, (6, 3)).astype(float)
    counts[0] = 4
    counts[1] = 1
    weight, rho = np.array([0.2, 0.1, 0.05]), 0.3
    # Cells h (g, c), sum over their rows; z = L h; covariance of h by hand.
    g, c = counts.shape
    total = counts.sum(axis=0)
    omega = np.zeros((g * c, g * c))
    linear = np.zeros((g, g * c))
    for one in range(g):
        for k in range(c):
            for other in range(c):
                omega[one * c + k, one * c + other] = (
                    rho * np.sqrt(weight[k] * weight[other]) * counts[one, k] * counts[one, other]
                    + (1 - rho) * (k == other) * weight[k] * counts[one, k]
                )
            share = counts[one, k] / total[k]
            for again in range(g):
                linear[one, again * c + k] = ((one == again) - share) / (total[k] * np.sqrt(1 - share))
    m = linear @ omega @ linear.T
    expected = np.trace(m) ** 2 / np.trace(m @ m)
    assert degrees_of_freedom(counts, weight, rho) == pytest.approx(expected)
    assert degrees_of_freedom(np.full((9, 1), 7.0), np.ones(1)) == pytest.approx(8)


def test_one_large_group_counts_as_few() -> None:
    cells = [("large", "a", 500, 300)] + [(f"g{k}", "a", 3, k % 4) for k in range(12)]
    i = uar_interval(*table(*cells))
    assert i.n_groups == 13
    assert given_none(i)
    assert "count as" in i.reason


@pytest.mark.parametrize("n_groups", [1, 2, 3])
def test_few_groups_give_none_and_say_so(n_groups: int) -> None:
    i = uar_interval(*table(*((f"g{k}", c, 10, 5 + k) for k in range(n_groups) for c in "ab")))
    assert given_none(i)
    assert i.n_groups == n_groups
    were = "group was" if n_groups == 1 else "groups were"
    assert i.reason == f"{n_groups} {were} tested; an interval needs 4 at least"
    assert i.estimate == pytest.approx(0.5 + (n_groups - 1) / 20)


def test_a_class_of_one_group() -> None:
    cells = [(f"g{k}", c, 10, 4 + k) for k in range(5) for c in "ab"]
    i = uar_interval(*table(*cells, ("g0", "rare", 20, 11)))
    assert given_none(i)
    assert i.reason.startswith("'rare' (20 rows) occurs in one group only")
    # In three groups more its spread is seen.
    assert not uar_interval(
        *table(*cells, ("g0", "rare", 20, 11), *((f"g{k}", "rare", 20, 12) for k in (1, 2, 3)))
    ).reason


def test_where_the_label_is_the_groups_and_each_has_one_none_is_given() -> None:
    i = uar_interval(*table(*((f"g{k}", f"c{k}", 4, 2) for k in range(8))))
    assert given_none(i)
    assert i.reason.startswith("8 classes occur in one group only, such as 'c0'")


def test_flawless_in_every_group() -> None:
    cells = [(f"g{k}", c, 5, 5) for k in range(6) for c in "ab"]
    i = uar_interval(*table(*cells))
    assert (i.estimate, i.high, i.method) == (1, 1, FLAWLESS)
    # Six groups without an error in either class: 1 - 0.025 ** (1 / 12) each.
    assert i.low == pytest.approx(0.025 ** (1 / 12))
    none_right = uar_interval(*table(*((g, c, n, 0) for g, c, n, _ in cells)))
    assert (none_right.estimate, none_right.low) == (0, 0)
    assert none_right.high == pytest.approx(1 - i.low)
    one = uar_interval(*table(*((f"g{k}", "a", 5, 5) for k in range(6))))
    assert one.low == pytest.approx(stats.binomtest(6, 6).proportion_ci(0.95, "exact").low)


def test_the_bound_of_unequal_classes_is_the_largest_that_is_possible() -> None:
    n, chance = np.array([3.0, 8.0, 20.0]), 0.025
    found = most_missed(n, chance)
    rng = np.random.default_rng(0)
    # Any errors q with Π (1 - q)^n >= chance have a mean no larger.
    parts = rng.dirichlet(np.ones(3), 20_000)
    q = 1 - np.exp(np.log(chance) * parts / n)
    assert q.mean(axis=1).max() == pytest.approx(found, abs=2e-3)
    assert q.mean(axis=1).max() <= found + 1e-9


def test_scores_of_ranks_that_are_flawless_give_none() -> None:
    target = np.tile([0, 1], 20)
    scores = np.stack([1.0 - target, target * 1.0], axis=1)
    i = metric_interval("auroc_macro", target, scores, np.arange(40) // 4)
    assert i.estimate == 1
    assert given_none(i)
    assert "in every group" in i.reason


def test_a_class_without_an_error_is_not_thought_certain() -> None:
    cells = [(f"g{k}", "a", 10, 5 + k % 3) for k in range(8)]
    sure = [(f"g{k}", "b", 1, 1) for k in range(5)]
    i = uar_interval(*table(*cells, *sure))
    assert i.assumed > 0.3
    seen_only = score_variance(np.array([0.6]), np.full((8, 1), 0.01), np.full((8, 1), 10.0))
    assert seen_only.assumed == 0
    assert i.high < 1


def test_a_class_that_is_absent_is_no_part_of_the_score() -> None:
    target, guess, group = table(*((f"g{k}", c, 6, 2 + k % 4) for k in range(8) for c in "ab"))
    other = np.where(guess == "none", "never tested", guess)
    assert uar_interval(target, guess, group) == uar_interval(target, other, group)


def test_recall_of_each_class() -> None:
    cells = [(f"g{k}", "a", 10, 4 + k % 5) for k in range(8)] + [(f"g{k}", "b", 10, 5 + k) for k in range(3)]
    by_class = recall_intervals(*table(*cells))
    alone = uar_interval(*table(*cells[:8]))
    assert list(by_class) == ["a", "b"]
    assert (by_class["a"].low, by_class["a"].high) == pytest.approx((alone.low, alone.high))
    assert given_none(by_class["b"])
    assert (by_class["b"].n_groups, by_class["b"].n_rows) == (3, 30)


@pytest.mark.parametrize("metric", [m for m in METRICS if m not in NUMBER_METRICS])
def test_order_names_and_groups_names_do_not_matter(metric: str) -> None:
    rng = np.random.default_rng(7)
    target, group = rng.integers(0, 3, 120), rng.integers(0, 9, 120)
    scores = rng.standard_normal((120, 3)) + (target[:, None] == np.arange(3))
    ranks = metric in ("auroc_macro", "map")
    names, order = np.array(["z", "a", "m"]), rng.permutation(120)
    first = metric_interval(metric, target, scores if ranks else scores.argmax(1), group)
    again = metric_interval(
        metric,
        names[target][order],
        scores[order] if ranks else names[scores.argmax(1)][order],
        np.array([f"bird {9 - g}" for g in group])[order],
        classes=names if ranks else None,
    )
    assert not first.reason
    assert (again.low, again.high) == pytest.approx((first.low, first.high))


def test_level() -> None:
    rows = table(*((f"g{k}", c, 6, 2 + k % 4) for k in range(8) for c in "ab"))
    narrow, wide = uar_interval(*rows, level=0.5), uar_interval(*rows, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
    for level in (0, 1, 1.5, -1, float("nan")):
        with pytest.raises(ConfigError, match="level: expected a share between 0 and 1"):
            uar_interval(*rows, level=level)


OK = ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((OK, OK[:3], None), r"prediction: expected 4 rows as in target.*got shape \(3,\)"),
        ((OK, OK, [1, 2, 3]), r"group: expected 4 rows as in target; got shape \(3,\)"),
        ((OK, ["a", None, "a", "b"], None), r"prediction: 1 of 4 values are missing, the first at \[0, 1\]"),
        ((OK, ["a", "", "a", "b"], None), "prediction: 1 of 4 values are missing"),
        (
            ([1.0, np.nan, 2.0, 1.0], [1, 1, 2, 1], None),
            r"target: 1 of 4 values are missing, the first at \[1\]",
        ),
        ((OK, OK, [1, np.nan, 2, 2]), "group: 1 of 4 values are missing"),
        ((OK, OK, ["x", None, "y", "y"]), "group: 1 of 4 values are missing"),
        ((OK, [0, 1, 0, 1], None), "prediction: expected text as in target, got numbers"),
        (([0, 1, 0, 1], OK, None), "prediction: expected numbers as in target, got text"),
        (([], [], None), "target: expected one class a row"),
        ((np.eye(4), OK, None), "uar needs one class a row"),
        ((np.array(["a", 1, "b", 2], dtype=object), OK, None), "texts only or numbers only"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        uar_interval(*arguments)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, (UserError, ValueError))


def test_scores_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="metric: expected one of uar"):
        metric_interval("uaR", OK, OK)
    with pytest.raises(ConfigError, match=r"4 rows and 2 classes.*got shape \(4, 3\)"):
        metric_interval("map", OK, np.zeros((4, 3)))
    with pytest.raises(ConfigError, match="prediction: 1 of 8 values are missing"):
        metric_interval("map", OK, np.array([[0, 1], [np.nan, 1], [0, 1], [0, 1]]))
    with pytest.raises(ConfigError, match="row 1 is of class 'b', not one of the classes given"):
        metric_interval("map", OK, np.zeros((4, 2)), classes=["a", "c"])
    with pytest.raises(ConfigError, match="holds 0 and 1 only"):
        metric_interval("map", np.full((4, 2), 2), np.zeros((4, 2)))
    with pytest.raises(ConfigError, match="expected 2 names"):
        metric_interval("map", np.eye(4)[:, :2], np.zeros((4, 2)), classes=["a", "b", "c"])


def test_a_score_that_is_not_defined() -> None:
    i = metric_interval("map", np.ones((10, 1), dtype=int), np.ones((10, 1)), np.arange(10) % 5)
    assert given_none(i)
    assert np.isnan(i.estimate)
    assert "not defined" in i.reason


def test_kinds_of_arrays() -> None:
    target, guess, group = table(*((f"g{k}", c, 6, 2 + k % 4) for k in range(8) for c in "ab"))
    expected = uar_interval(target, guess, group)
    for kind in ("object", "string", "category"):
        series = [pd.Series(x).astype(kind) for x in (target, guess, group)]  # type: ignore[call-overload]
        assert uar_interval(*series) == expected
    assert uar_interval(list(target), list(guess), list(group)) == expected
    positions = np.array([{"a": 0, "b": 1, "none": 2}[g] for g in guess])
    assert uar_interval(target == "b", positions.astype(float), group) == expected
