"""How well layers know confounds: planted answers, against scikit-learn's ridge regression and classifier."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score, r2_score

from probes.confounds.catalogue import CONFOUNDS
from probes.confounds.layers import ALPHAS, BALANCED_ACCURACY, R2, known_by_layer
from probes.training.ridge import ridge_path

PARTS = {"train": 200, "val": 60, "test": 60}


def layer(d: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {part: rng.standard_normal((n, d)).astype(np.float32) for part, n in PARTS.items()}


def tables_of(columns: dict[str, dict[str, np.ndarray]]) -> dict[str, pd.DataFrame]:
    """All confounds, those that are not given unknown."""
    out = {}
    for part, n in PARTS.items():
        unknown = {c.name: np.full(n, "") if c.kind == "category" else np.full(n, np.nan) for c in CONFOUNDS}
        own = {name: values[part] for name, values in columns.items()}
        out[part] = pd.DataFrame({**unknown, **own})
    return out


@pytest.mark.parametrize("d", [12, 500])  # fewer features than rows, and more
@pytest.mark.parametrize("weighted", [False, True])
def test_a_path_of_ridges_is_that_of_scikit_learn(d: int, weighted: bool) -> None:
    rng = np.random.default_rng(d)
    x, y = layer(d)["train"] + 3, rng.standard_normal((200, 3)) + 5
    weight = rng.uniform(0.1, 4, 200) if weighted else None
    for alpha, (coefficients, intercept) in zip(ALPHAS, ridge_path(x, y, ALPHAS, weight), strict=True):
        ridge = Ridge(alpha=alpha, solver="svd").fit(x.astype(float), y, sample_weight=weight)
        np.testing.assert_allclose(coefficients, ridge.coef_.T, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(intercept, ridge.intercept_, rtol=1e-5, atol=1e-6)


def test_numbers_are_known_as_well_as_scikit_learn_finds() -> None:
    x = layer(20)
    rng = np.random.default_rng(1)
    level = {
        part: -20 + 3 * rows[:, 0] - rows[:, 1] + rng.standard_normal(len(rows)) for part, rows in x.items()
    }
    snr = {part: rng.standard_normal(len(rows)) for part, rows in x.items()}
    found = {k.confound: k for k in known_by_layer(x, tables_of({"level": level, "snr": snr}))}
    assert list(found) == ["level", "snr"]
    for name, y in (("level", level), ("snr", snr)):
        fits = [Ridge(alpha=a).fit(x["train"].astype(float), y["train"]) for a in ALPHAS]
        best = max(fits, key=lambda r: r2_score(y["val"], r.predict(x["val"])))
        assert found[name].alpha == best.alpha
        assert found[name].measure == R2
        assert found[name].test == pytest.approx(r2_score(y["test"], best.predict(x["test"])), abs=1e-6)
    assert found["level"].test == pytest.approx(0.9, abs=0.05)  # 10 of 11 parts of the variance
    assert found["snr"].test < 0.1


def test_frequencies_are_asked_for_in_octaves_of_the_rows_that_have_one() -> None:
    x = layer(5)
    f0 = {part: 440 * 2 ** (0.5 * rows[:, 2].astype(float)) for part, rows in x.items()}
    for values in f0.values():
        values[::3] = np.nan
    (found,) = known_by_layer(x, tables_of({"f0": f0}))
    assert found.test == pytest.approx(1, abs=1e-6)
    assert (found.n_train, found.n_test) == (200 - 67, 60 - 20)


def test_an_hour_around_midnight_is_known_where_its_angle_is() -> None:
    x = layer(3)
    hour = {}
    for part, rows in x.items():
        angle = np.random.default_rng(len(rows)).uniform(-0.6, 0.6, len(rows))
        rows[:, 0], rows[:, 1] = np.sin(angle), np.cos(angle)
        hour[part] = angle * 12 / np.pi % 24
    (found,) = known_by_layer(x, tables_of({"hour": hour}))
    assert found.test > 0.999


def test_categories_are_known_as_well_as_scikit_learn_finds() -> None:
    x = layer(10)
    names = np.array(["a", "b", "c"], dtype=object)
    recorder = {}
    for part, rows in x.items():
        code = np.random.default_rng(len(rows)).choice(3, len(rows), p=[0.8, 0.15, 0.05])
        rows[:, :3] += 1.5 * np.eye(3)[code]
        recorder[part] = names[code]
    (found,) = known_by_layer(x, tables_of({"recorder": recorder}))
    fits = [
        RidgeClassifier(alpha=a, class_weight="balanced").fit(x["train"].astype(float), recorder["train"])
        for a in ALPHAS
    ]
    best = max(fits, key=lambda r: balanced_accuracy_score(recorder["val"], r.predict(x["val"])))
    expected = balanced_accuracy_score(recorder["test"], best.predict(x["test"]))
    assert found.measure == BALANCED_ACCURACY
    assert found.alpha == best.alpha
    assert found.test == pytest.approx(expected)
    assert found.chance == pytest.approx(1 / 3)


def test_what_varies_too_little_or_is_held_out_is_not_asked() -> None:
    x = layer(4)
    level = {part: np.full(n, -20.0) for part, n in PARTS.items()}
    group = {part: np.array([f"{part}{i % 3}" for i in range(n)], dtype=object) for part, n in PARTS.items()}
    f0 = {part: np.r_[np.arange(5.0) + 100, np.full(n - 5, np.nan)] for part, n in PARTS.items()}
    assert known_by_layer(x, tables_of({"level": level, "group": group, "f0": f0})) == []
