"""`MLPProbe` as scikit-learn sees it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from probes import MLPProbe


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_passes_scikit_learns_estimator_checks() -> None:
    results = check_estimator(MLPProbe(hidden=(16,), batch_size=16, learning_rate=0.01), on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert failed == {}
    assert len(results) > 40


def data() -> tuple[np.ndarray, np.ndarray]:
    return make_classification(300, 20, n_informative=8, n_classes=3, class_sep=2.0, random_state=0)


def test_learns_and_works_in_grids_and_pipelines() -> None:
    x, y = data()
    names = np.array(["peep", "phee", "ñ"])[y]
    search = GridSearchCV(
        make_pipeline(MLPProbe(hidden=(16,), max_epochs=5, batch_size=16)),
        {"mlpprobe__learning_rate": [1e-5, 1e-2]},
        cv=2,
        scoring="balanced_accuracy",
    ).fit(x, names)
    assert search.best_params_ == {"mlpprobe__learning_rate": 1e-2}
    assert search.best_score_ > 0.7


def test_given_validation_rows_choose_the_epoch() -> None:
    x, y = data()
    probe = MLPProbe(batch_size=32, max_epochs=6).fit(x[:200], y[:200], x[200:], y[200:])
    best = probe.fitted_.best_epoch
    assert probe.score(x[200:], y[200:]) > 0.6
    assert probe.fitted_.val_uar[best - 1] == max(probe.fitted_.val_uar)
    with pytest.raises(ValueError, match="y_val: expected one known class per row"):
        probe.fit(x[:200], y[:200], x[200:], y[200:] + 7)


def test_a_seed_repeats_a_fit_and_another_changes_it() -> None:
    x, y = data()
    a, b, c = (MLPProbe(max_epochs=2, random_state=s).fit(x, y).predict_proba(x) for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-3
