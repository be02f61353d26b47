"""Metrics against scikit-learn, and their rules for absent classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from probes import metrics

labels = st.integers(0, 4)
pairs = st.lists(st.tuples(labels, labels), min_size=1, max_size=60)


@given(pairs)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_uar_is_balanced_accuracy(rows: list[tuple[int, int]]) -> None:
    y, guess = np.array(rows).T
    assert metrics.uar(y, guess) == pytest.approx(sk.balanced_accuracy_score(y, guess))
    recalls = [(guess[y == c] == c).mean() for c in np.unique(y)]
    assert metrics.uar(y, guess) == pytest.approx(np.mean(recalls))


@given(pairs, st.permutations(range(5)))
def test_scores_do_not_change_when_classes_are_renamed(rows: list[tuple[int, int]], names: list[int]) -> None:
    y, guess = np.array(rows).T
    renamed = np.array(names)
    for metric in (metrics.uar, metrics.uar_torchmetrics, metrics.f1_macro, metrics.accuracy):
        assert metric(renamed[y], renamed[guess]) == pytest.approx(metric(y, guess))


def test_the_two_rules_for_an_absent_class() -> None:
    y = ["a", "a", "b", "b"]
    predicted = ["a", "c", "b", "b"]  # c never occurs in the targets
    assert metrics.uar(y, predicted) == pytest.approx((0.5 + 1) / 2)
    assert metrics.uar_torchmetrics(y, predicted) == pytest.approx((0.5 + 1 + 0) / 3)
    never = ["a", "a", "b", "b"]  # c neither occurs nor is predicted: left out by both
    assert metrics.uar(y, never) == metrics.uar_torchmetrics(y, never) == 1


def test_f1_and_confusion() -> None:
    y = np.array([0, 0, 1, 1, 1, 2])
    guess = np.array([0, 1, 1, 1, 2, 2])
    assert metrics.f1_macro(y, guess) == pytest.approx(sk.f1_score(y, guess, average="macro"))
    assert metrics.confusion(y, guess, [0, 1, 2, 3]).tolist() == [
        [1, 1, 0, 0],
        [0, 2, 1, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 0],
    ]


def test_chance_counts_the_classes_that_are_present() -> None:
    assert metrics.chance_level(["a", "b", "b", "d"]) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="no targets"):
        metrics.chance_level([])


@given(st.lists(labels, min_size=1, max_size=20), st.lists(labels, min_size=1, max_size=20))
def test_chance_is_the_mean_score_of_all_constant_answers(train: list[int], tested: list[int]) -> None:
    """Guessing is saying each trained class equally often: its expected UAR is the mean over saying one."""
    always = [metrics.uar(tested, [c] * len(tested)) for c in set(train)]
    assert metrics.chance_level(tested, train) == pytest.approx(np.mean(always))
    assert metrics.majority_uar(train, tested) in always


def test_chance_and_majority_where_test_and_training_differ() -> None:
    four = ["a", "b", "c", "d"]
    assert metrics.chance_level(["a", "b"], four) == 0.25  # two of four are tested
    assert metrics.chance_level(["a", "x"], four) == 0.125  # x was never trained: recall 0
    assert metrics.chance_level(["x"], four) == 0
    assert metrics.majority_uar(["a", "a", "b"], ["a", "b", "b", "b"]) == 0.5
    assert metrics.majority_uar(["a", "a", "b"], ["b", "b", "c"]) == 0


def test_auroc_and_average_precision() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 80)
    scores = rng.dirichlet(np.ones(3), 80)
    expected = sk.roc_auc_score(y, scores, multi_class="ovr", average="macro")
    assert metrics.auroc_macro(y, scores) == pytest.approx(expected)
    # a class that never occurs is left out
    wider = np.column_stack([scores, rng.random(80)])
    assert metrics.auroc_macro(y, wider) == pytest.approx(expected)
    many = rng.random((80, 3)) < 0.4
    expected = sk.average_precision_score(many, scores, average="macro")
    assert metrics.mean_average_precision(many, scores) == pytest.approx(expected)
    assert np.isnan(metrics.auroc_macro(np.zeros(5, dtype=int), np.ones((5, 2))))


def test_calibration_error_by_hand() -> None:
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.0, 1.0]])
    y = [0, 1, 1, 1]
    # bins of width 0.1: two rows at 0.9 (half right), one at 0.6, one at 1.0
    expected = (2 * abs(0.9 - 0.5) + abs(0.6 - 1) + 0) / 4
    assert metrics.expected_calibration_error(y, p, n_bins=10) == pytest.approx(expected)


def test_baselines_are_those_of_dummy_classifiers() -> None:
    from sklearn.dummy import DummyClassifier

    rng = np.random.default_rng(0)
    train, y = rng.choice(4, 200, p=[0.1, 0.2, 0.5, 0.2]), rng.choice(4, 100)
    always = (
        DummyClassifier(strategy="most_frequent").fit(np.zeros((200, 1)), train).predict(np.zeros((100, 1)))
    )
    assert metrics.majority_accuracy(train, y) == pytest.approx(sk.accuracy_score(y, always))
    assert metrics.chance_level(y) == pytest.approx(sk.balanced_accuracy_score(y, always))
    sets = rng.random((100, 3)) < (0.1, 0.4, 0.7)
    alike = np.full((100, 3), 0.3)
    expected = sk.average_precision_score(sets, alike, average="macro")
    assert metrics.chance_precision(sets.astype(int)) == pytest.approx(expected)
    guess = rng.random((100, 3)) < 0.5
    assert metrics.f1_macro_sets(sets, guess) == pytest.approx(sk.f1_score(sets, guess, average="macro"))
