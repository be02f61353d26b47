"""Labels that were swapped on purpose are found among the suspects, by probes that had not seen the clips."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from probes.findings.mislabelled import mislabelled

SWAPPED_SHARE = 0.03


def planted(n_classes: int, *, sure: bool, n: int = 2000, seed: int = 0) -> tuple[pd.DataFrame, set[str]]:
    """Answers of scikit-learn's out-of-fold probes about classes that are apart, 3 % of them swapped.

    With `sure` the answers hold probabilities; without, they are the classes alone, of three probes.
    """
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_classes, n)
    x = 1.5 * rng.standard_normal((n_classes, 16))[truth] + rng.standard_normal((n, 16))
    swapped = rng.choice(n, round(SWAPPED_SHARE * n), replace=False)
    label = truth.copy()
    label[swapped] = (truth[swapped] + rng.integers(1, n_classes, len(swapped))) % n_classes
    names = np.array([f"class-{c}" for c in range(n_classes)], dtype=object)
    ids = np.array([f"u{i:04d}" for i in range(n)], dtype=object)
    tables = []
    for fold_seed in range(1 if sure else 3):
        folds = StratifiedKFold(5, shuffle=True, random_state=fold_seed)
        p = cross_val_predict(LogisticRegression(max_iter=500), x, label, cv=folds, method="predict_proba")
        said = p.argmax(axis=1)
        tables.append(
            pd.DataFrame(
                {
                    "utterance_id": ids,
                    "group": ids,
                    "target": names[label],
                    "prediction": names[said],
                    "p_prediction": p[np.arange(n), said] if sure else np.nan,
                    "p_target": p[np.arange(n), label] if sure else np.nan,
                }
            )
        )
    return pd.concat(tables, ignore_index=True), set(ids[swapped])


@pytest.mark.parametrize("sure", [True, False])
@pytest.mark.parametrize("n_classes", [4, 10])
def test_swapped_labels_are_found(n_classes: int, sure: bool) -> None:
    answers, swapped = planted(n_classes, sure=sure)
    found = mislabelled(answers)
    assert found.reason == ""
    assert found.n_judged == 2000
    first = found.table["utterance_id"].head(50)
    precision = np.mean([u in swapped for u in first])
    print(
        f"precision at 50, {n_classes} classes, {'probabilities' if sure else 'classes alone'}: {precision}"
    )
    assert precision >= (0.95 if sure else 0.8)  # by chance it is 0.03
    assert len(swapped & set(found.table["utterance_id"])) >= 0.8 * len(swapped)
    assert (found.table["margin"].diff().dropna() <= 0).all()
    assert (found.table["label"] != found.table["suggested"]).all()


def test_probabilities_decide_the_order() -> None:
    answers, _ = planted(4, sure=True)
    found = mislabelled(answers).table
    table = answers.set_index("utterance_id").loc[found["utterance_id"]]
    assert found["p_label"].to_numpy() == pytest.approx(table["p_target"].to_numpy())
    assert found["p_suggested"].to_numpy() == pytest.approx(table["p_prediction"].to_numpy())
    # Confident learning's threshold: what the class gets on average where it is the label.
    usual = answers.groupby("target")["p_target"].mean()
    assert (found["p_suggested"].to_numpy() >= usual[found["suggested"]].to_numpy() - 1e-9).all()


def test_answers_that_know_nothing_suspect_nobody() -> None:
    answers, _ = planted(4, sure=True)
    guessed = answers.assign(prediction=answers["prediction"].sample(frac=1, random_state=0).to_numpy())
    found = mislabelled(guessed)
    assert found.table.empty
    assert "no evidence" in found.reason


def test_one_class_and_no_answers_are_told() -> None:
    answers, _ = planted(4, sure=True)
    one = answers.assign(target="only", prediction="only")
    assert "one class" in mislabelled(one).reason
    assert mislabelled(answers.head(0)).table.empty
