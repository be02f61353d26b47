"""Scores without a group equal scikit-learn's on the rows that are left, and influences follow from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from probes import metrics
from probes.statistics import influence, influences
from probes.statistics.count_metrics import left_out_accuracy, left_out_f1, left_out_recall
from probes.statistics.design import label_rows, make_design, score_rows
from probes.statistics.rank_metrics import left_out_auroc, left_out_precision


def rows(seed: int, n: int = 90, n_classes: int = 4, n_groups: int = 7) -> tuple[Any, Any, Any, Any]:
    """Target, two seeds' predictions `[2, n]`, group, and their scores `[2, n, C]` with many ties."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, n_classes, n)
    target[:n_classes] = np.arange(n_classes)
    group = rng.permutation(np.arange(n) % n_groups)
    scores = np.round(rng.standard_normal((2, n, n_classes)) + (target[:, None] == np.arange(n_classes)), 1)
    return target, scores.argmax(-1), group, scores


def recalls(y: Any, guess: Any) -> Any:
    return sk.recall_score(y, guess, labels=np.unique(y), average=None, zero_division=0)


def f1s(y: Any, guess: Any) -> Any:
    return sk.f1_score(y, guess, labels=np.unique(y), average=None, zero_division=0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("left_out", "reference"),
    [
        (left_out_recall, recalls),
        (left_out_accuracy, lambda y, guess: [sk.accuracy_score(y, guess)]),
        (left_out_f1, f1s),
    ],
)
def test_labels(left_out: Callable[..., Any], reference: Callable[..., Any], seed: int) -> None:
    target, guesses, group, _ = rows(seed)
    design = make_design(target, group)
    values, without = left_out(design, label_rows(design, guesses))
    np.testing.assert_allclose(values, np.mean([reference(target, g) for g in guesses], axis=0), atol=1e-12)
    for g in range(7):
        left = group != g
        naive = np.mean([reference(target[left], one[left]) for one in guesses], axis=0)
        np.testing.assert_allclose(without[g], naive, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("left_out", "reference"),
    [(left_out_auroc, sk.roc_auc_score), (left_out_precision, sk.average_precision_score)],
)
def test_scores(left_out: Callable[..., Any], reference: Callable[..., Any], seed: int) -> None:
    target, _, group, scores = rows(seed)
    design = make_design(target, group)
    values, without = left_out(design, score_rows(design, scores))
    for c in range(4):
        of_class = target == c
        np.testing.assert_allclose(
            values[c], np.mean([reference(of_class, s[:, c]) for s in scores]), atol=1e-12
        )
        for g in range(7):
            left = group != g
            naive = np.mean([reference(of_class[left], s[left, c]) for s in scores])
            np.testing.assert_allclose(without[g, c], naive, atol=1e-12)


def test_scores_where_every_row_is_a_group_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    target, _, _, scores = rows(9)
    design = make_design(target, None)
    at_once = left_out_precision(design, scores)
    monkeypatch.setattr("probes.statistics.rank_metrics._CELLS_AT_ONCE", 300)  # three groups at a time
    np.testing.assert_array_equal(left_out_precision(design, scores)[1], at_once[1])


@pytest.mark.parametrize("seed", range(3))
def test_estimates_are_those_of_the_metrics_that_probes_report(seed: int) -> None:
    target, guesses, group, scores = rows(seed)
    guess = guesses[0]
    expected = {
        "uar": metrics.uar(target, guess),
        "accuracy": metrics.accuracy(target, guess),
        "f1_macro": metrics.f1_macro(target, guess),
        "auroc_macro": metrics.auroc_macro(target, scores[0]),
        "map": metrics.mean_average_precision(target, scores[0]),
    }
    for metric, value in expected.items():
        given_rows = scores[0] if metric in ("auroc_macro", "map") else guess
        made = influence(target, given_rows, group, metric=metric)
        assert made.estimate == pytest.approx(value, abs=1e-12), metric


def test_label_sets() -> None:
    rng = np.random.default_rng(3)
    target = rng.random((60, 3)) < 0.4
    target[:, 2] = True  # in all rows: not defined, as in `probes.metrics`
    scores = rng.random((60, 3)) + target
    for metric, reference in (("auroc_macro", metrics.auroc_macro), ("map", metrics.mean_average_precision)):
        made = influence(target.astype(int), scores, np.arange(60) % 6, metric=metric)
        assert made.estimate == pytest.approx(reference(target.astype(int), scores), abs=1e-12)
        assert list(made.names) == [0, 1]


@given(st.integers(0, 10_000))
def test_influences_of_recall_are_those_of_a_regression_on_classes(seed: int) -> None:
    # CR2 as Bell & McCaffrey define it: residuals times the inverse root of I - H of each group, dense.
    target, guesses, group, _ = rows(seed, n=40, n_classes=3, n_groups=5)
    right = (guesses == target).mean(axis=0)
    x = (target[:, None] == np.arange(3)).astype(float)
    bread = np.linalg.inv(x.T @ x)
    residual = right - x @ (bread @ x.T @ right)
    made = influence(target, guesses, group)
    for g in range(5):
        own = x[group == g]
        value, vector = np.linalg.eigh(np.eye(len(own)) - own @ bread @ own.T)
        root = vector @ np.diag([1 / np.sqrt(v) if v > 1e-9 else 0.0 for v in value]) @ vector.T
        expected = np.ones(3) @ bread @ own.T @ root @ residual[group == g]
        if ((made.counts > 0).sum(axis=0) > 1).all():
            assert made.by_group[g].sum() == pytest.approx(expected, abs=1e-9)


def test_many_models_are_those_one_by_one() -> None:
    target, guesses, group, _ = rows(2)
    several = influences(target, list(guesses), group)
    for one, guess in zip(several, guesses, strict=True):
        np.testing.assert_array_equal(one.by_group, influence(target, guess, group).by_group)
    assert several[0].design is several[1].design


def test_the_mean_over_seeds() -> None:
    target, guesses, group, _ = rows(5)
    both = influence(target, guesses, group)
    each = influences(target, list(guesses), group)
    np.testing.assert_allclose(both.by_group, np.mean([e.by_group for e in each], axis=0), atol=1e-12)
    assert both.n_seeds == 2
