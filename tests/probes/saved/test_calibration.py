"""Temperature and thresholds, against scikit-learn and against trying every threshold."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import softmax

from probes.saved.calibration import (
    ValidationRows,
    calibrated,
    fit_temperature,
    negative_log_likelihood,
    threshold_for,
)


def overconfident(n: int = 400, n_classes: int = 3, sharpness: float = 3.0) -> ValidationRows:
    """Probabilities that are `sharpness` times too sure: their labels are drawn from the softer ones."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((n, n_classes)) * 1.5
    target = np.array([rng.choice(n_classes, p=p) for p in softmax(logits, axis=1)])
    scores = softmax(sharpness * logits, axis=1).astype(np.float32)
    return ValidationRows(scores=scores, target=target.astype(np.int32))


def test_the_temperature_is_the_one_that_scikit_learn_finds() -> None:
    calibration = pytest.importorskip("sklearn.calibration")
    scaling = getattr(calibration, "_TemperatureScaling", None)
    if scaling is None:
        pytest.skip("scikit-learn before 1.8 has no temperature scaling")
    rows = overconfident()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = scaling().fit(np.log(rows.scores), rows.target)
    temperature, before, after = fit_temperature(rows)
    assert temperature == pytest.approx(1 / fitted.beta_, rel=1e-3)
    assert temperature == pytest.approx(3.0, rel=0.15)
    assert after < before


def test_calibration_changes_no_order_and_sums_to_one() -> None:
    rows = overconfident()
    for temperature in (0.5, 1.0, 4.0):
        p = calibrated(rows.scores, temperature, multilabel=False)
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
        assert (p.argmax(axis=1) == rows.scores.argmax(axis=1)).all()
    empty = np.full((1, 3), np.nan, dtype=np.float32)
    assert np.isnan(calibrated(empty, 2.0, multilabel=False)).all()


def test_a_flawless_probe_is_left_as_it_is() -> None:
    scores = np.array([[0.7, 0.3], [0.2, 0.8]], dtype=np.float32)
    rows = ValidationRows(scores=scores, target=np.array([0, 1], dtype=np.int32))
    temperature, before, after = fit_temperature(rows)
    assert temperature == 1
    assert before == after == pytest.approx(-np.log([0.7, 0.8]).mean(), rel=1e-6)


def test_label_sets_have_a_probability_each() -> None:
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((500, 2))
    target = (rng.uniform(size=(500, 2)) < 1 / (1 + np.exp(-logits))).astype(np.int32)
    sure = (1 / (1 + np.exp(-2 * logits))).astype(np.float32)
    rows = ValidationRows(scores=sure, target=target)
    temperature, _, after = fit_temperature(rows)
    assert temperature == pytest.approx(2.0, rel=0.25)
    assert after == pytest.approx(negative_log_likelihood(rows, temperature))


P = arrays.arrays(np.float32, 12, elements=st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]))
OF = arrays.arrays(np.bool_, 12)


@given(p=P, of=OF, counts=OF, precision=st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_a_threshold_finds_most_with_the_precision(
    p: np.ndarray, of: np.ndarray, counts: np.ndarray, precision: float
) -> None:
    found = threshold_for(p, of, precision, counts)
    tried = []
    for t in np.unique(p[counts]):
        at = counts & (p >= t)
        if of[at].any() and of[at].mean() >= precision:
            tried.append((int(of[at].sum()), float(t)))
    if not tried:
        assert np.isnan(found.value)
        return
    most, value = max(tried)  # of those that find as many the highest
    assert found.recall == pytest.approx(most / of.sum())
    same = counts & (p >= found.value)
    assert (same == (counts & (p >= value))).all()
    assert found.precision == pytest.approx(of[same].mean())
    assert found.n_rows == same.sum()


def test_more_rows_than_are_kept_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.saved.calibration.MOST_KEPT", 30)
    rows = overconfident()
    kept = rows.drawn()
    assert kept.scores.shape == (10, 3)
    assert all((rows.scores == row).all(axis=1).any() for row in kept.scores)
