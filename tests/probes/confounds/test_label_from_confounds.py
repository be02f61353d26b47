"""Forests on confounds: planted answers, noise, and scikit-learn's own computing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score

from probes import metrics
from probes.confounds import label_from_confounds
from probes.confounds.catalogue import CONFOUNDS, Confound, as_targets, confound_table, varies
from probes.confounds.explained import explains, sentences
from probes.confounds.label_from_confounds import LEAVES, Parts, guessing_error, predict_label

BY_NAME = {c.name: c for c in CONFOUNDS}
DURATION, F0, GROUP = BY_NAME["duration"], BY_NAME["f0"], BY_NAME["group"]


def parts(n: int) -> Parts:
    rows = np.random.default_rng(0).permutation(n)
    train, val, test = np.split(rows, [int(0.7 * n), int(0.85 * n)])
    return Parts(train=np.sort(train), val=np.sort(val), test=np.sort(test))


def table_of(**columns: object) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_the_score_is_that_of_a_forest_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 400)
    x = table_of(duration=y + rng.standard_normal(400))
    rows = parts(400)
    found = predict_label([DURATION], x, y, rows)
    scores = {}
    for leaf in LEAVES:
        forest = RandomForestClassifier(100, min_samples_leaf=leaf, class_weight="balanced", random_state=0)
        forest.fit(x.to_numpy()[rows.train], y[rows.train])
        of_val, of_test = (forest.predict(x.to_numpy()[r]) for r in (rows.val, rows.test))
        scores[leaf] = balanced_accuracy_score(y[rows.val], of_val), of_test
    best = max(LEAVES, key=lambda leaf: scores[leaf][0])  # the first of equals
    assert found.leaf == best
    np.testing.assert_array_equal(found.predicted, scores[best][1])
    assert found.uar == pytest.approx(balanced_accuracy_score(y[rows.test], scores[best][1]))


def test_the_test_rows_choose_nothing() -> None:
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 300)
    x = table_of(duration=y + rng.standard_normal(300))
    rows = parts(300)
    found = predict_label([DURATION], x, y, rows)
    other = y.copy()
    other[rows.test] = rng.permutation(other[rows.test])
    again = predict_label([DURATION], x, other, rows)
    assert again.leaf == found.leaf
    np.testing.assert_array_equal(again.predicted, found.predicted)


def test_a_label_that_is_the_confound_is_predicted_and_a_rare_class_too() -> None:
    rng = np.random.default_rng(3)
    y = (rng.random(600) < 0.06).astype(int)
    found = predict_label([DURATION], table_of(duration=y + 0.1 * rng.standard_normal(600)), y, parts(600))
    assert found.uar > 0.99


def test_noise_predicts_no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_from_confounds, "N_TREES", 20)
    uars = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 4, 500)
        x = table_of(duration=rng.standard_normal(500), f0=np.where(rng.random(500) < 0.5, np.nan, 1.0))
        rows = parts(500)
        found = predict_label([DURATION, F0], x, y, rows)
        error = guessing_error(y[rows.test], y[rows.train])
        assert abs(found.uar - 0.25) < 4 * error
        uars.append(found.uar)
    assert np.mean(uars) == pytest.approx(0.25, abs=3 * 0.05 / np.sqrt(5))


def test_having_no_pitch_can_be_what_tells_classes_apart() -> None:
    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, 300)
    x = table_of(f0=np.where(y == 1, np.nan, 200 + rng.random(300)))
    assert varies(F0, x["f0"])
    assert predict_label([F0], x, y, parts(300)).uar == 1


def test_values_missing_only_from_held_out_rows_are_no_error() -> None:
    rng = np.random.default_rng(5)
    y = rng.integers(0, 2, 300)
    x = table_of(f0=y + 0.1 * rng.standard_normal(300))
    rows = parts(300)
    x.loc[rows.test[:20], "f0"] = np.nan
    assert predict_label([F0], x, y, rows).uar > 0.7


@pytest.mark.slow
def test_a_group_tells_its_class_where_it_is_trained_and_nothing_where_it_is_held_out() -> None:
    rng = np.random.default_rng(6)
    group = np.repeat(np.arange(300), 4)
    y = rng.integers(0, 3, 300)[group]
    x = table_of(group=np.array([f"g{g}" for g in group], dtype=object))
    assert predict_label([GROUP], x, y, parts(1200)).uar > 0.9
    of_groups = parts(300)
    held_out = Parts(
        **{p: np.flatnonzero(np.isin(group, getattr(of_groups, p))) for p in ("train", "val", "test")}
    )
    assert predict_label([GROUP], x, y, held_out).uar == pytest.approx(1 / 3)


@pytest.mark.slow
def test_the_error_of_guessing_is_that_of_guessing() -> None:
    y_train, y_test = np.arange(4).repeat(10), np.repeat([0, 1, 2, 3], [5, 10, 40, 80])
    rng = np.random.default_rng(7)
    uars = [metrics.uar(y_test, rng.integers(0, 4, len(y_test))) for _ in range(400)]
    assert guessing_error(y_test, y_train) == pytest.approx(np.std(uars), rel=0.1)


@pytest.mark.parametrize(
    ("uar", "chance", "error", "probe", "expected"),
    [
        (0.61, 0.2, 0.01, None, True),  # more than half of what is possible
        (0.59, 0.2, 0.01, None, False),
        (0.59, 0.2, 0.01, 0.63, True),  # near the probe
        (0.59, 0.2, 0.01, 0.65, False),
        (0.59, 0.2, 0.01, 0.30, True),  # above it
        (0.22, 0.2, 0.02, 0.23, False),  # a probe at chance is not explained by chance
        (0.80, 0.5, 0.20, None, False),  # so few clips that guessing reaches it
    ],
)
def test_when_a_confound_explains(
    uar: float, chance: float, error: float, probe: float | None, expected: bool
) -> None:
    assert explains(uar, chance, error, probe) is expected


def test_the_sentence_names_the_best_confound_and_then_the_others() -> None:
    row = {"dataset": "d", "label": "call_type", "split": "group", "models": "m", "chance": 0.167}
    made = [
        ("duration", 0.921, True),
        ("level", 0.8, True),
        ("all together", 0.99, True),
        ("snr", 0.2, False),
    ]
    scores = pd.DataFrame(
        [{**row, "confound": c, "uar": u, "explains": e, "best_probe_uar": np.nan} for c, u, e in made]
    )
    assert sentences(scores) == [
        "duration alone predicts call_type at 92.1 UAR (chance 16.7): a probe's score may be duration's. "
        "So may it be of level (80.0)."
    ]
    assert sentences(scores.assign(best_probe_uar=0.93))[0].startswith(
        "duration alone predicts call_type at 92.1 UAR (chance 16.7), the best probe at 93.0: a probe's"
    )
    assert sentences(scores[scores["confound"] == "snr"]) == []
    together = scores[scores["confound"].isin(["snr", "all together"])]
    assert sentences(together) == []
    (text,) = sentences(together.assign(best_probe_uar=0.93))
    assert text.startswith("no single confound explains call_type, but all together predict it at 99.0 UAR")


def test_an_hour_is_a_point_on_a_circle_and_a_length_has_octaves() -> None:
    hour = as_targets(BY_NAME["hour"], pd.Series([0.0, 23.999, 12.0]))
    assert np.linalg.norm(hour[0] - hour[1]) < 0.001
    assert np.linalg.norm(hour[0] - hour[2]) == pytest.approx(2)
    np.testing.assert_allclose(np.diff(as_targets(DURATION, pd.Series([0.1, 0.2, 0.4]))[:, 0]), 1)


def test_every_confound_has_one_column() -> None:
    index = pd.DataFrame(columns=["path", "start_s", "group", "audio_hash"])
    assert list(confound_table(index, [])) == [*(c.name for c in CONFOUNDS), "problem"]
    assert isinstance(CONFOUNDS[0], Confound)
