"""Learning curves in a table and a sentence: intervals against SciPy and by simulation, means over folds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp, ttest_ind

from probes.results.fit_tables import CURVE_COLUMNS
from probes.results.learning_curves import interval, last_steps, learning_curves, unsettled_sentence
from probes.results.results_folder import CURVE_NAME


def fit(**given: Any) -> dict[str, Any]:
    """A row of ``_curve.parquet``."""
    row: dict[str, Any] = dict.fromkeys(CURVE_COLUMNS, 0.5)
    # fmt: off
    row |= {
        "model": "m", "dataset": "d", "label": "call", "classifier": "logreg", "split": "group",
        "combine": "each", "hparams": "{}", "layer": 3, "split_seed": 0, "fold": 0, "seed": 0,
        "curve": "groups", "share": 1.0, "draw": 0, "n_train": 100, "n_val": 9, "n_test": 9,
        "n_classes": 4, "n_train_groups": 10, "n_classes_trained": 4, "n_epochs": 0, "best_epoch": 0,
        "finished_at": "2026", "data": "", "clips": "", "device": "", "layer_weights": "", "chance": 0.25,
    }
    # fmt: on
    row |= given
    row["layers"] = str(row["layer"])
    name = [str(row[k]) for k in ("fold", "curve", "share", "draw")]
    more = [str(row[k]) for k in ("layers", "hparams", "split_seed", "seed")]
    row["fingerprint"] = " ".join([*name, *more])
    return {**row, "trained": given.get("trained", " ".join(name))}


def folder(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=list(CURVE_COLUMNS)).to_parquet(path / CURVE_NAME, index=False)
    return path


def test_intervals_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    for n, s in ((2, 2), (5, 3), (9, 10)):
        full, draws = rng.normal(0.8, 0.02, s), rng.normal(0.75, 0.05, n)
        # without a seed: one number against the draws
        one = ttest_1samp(full[0] - draws, 0).confidence_interval(0.95)
        np.testing.assert_allclose(interval(full[:1], draws, seeded=False), (one.low, one.high))
        # several seeds: Welch
        two = ttest_ind(full, draws, equal_var=False).confidence_interval(0.95)
        np.testing.assert_allclose(interval(full, draws, seeded=True), (two.low, two.high))
        # one fit that depends on its seed: wider by the spread of one draw more
        low, high = interval(full[:1], draws, seeded=True)
        assert high - low == pytest.approx((one.high - one.low) * np.sqrt(n + 1))
    assert np.isnan(interval(full, draws[:1], seeded=True)).all()
    assert interval(np.array([0.5, 0.5]), np.array([0.25, 0.25]), seeded=True) == (0.25, 0.25)


@pytest.mark.slow
@pytest.mark.parametrize(("n_draws", "n_seeds"), [(5, 1), (5, 5), (5, 2)])
def test_intervals_of_flat_curves_lie_beside_0_in_one_of_twenty(n_draws: int, n_seeds: int) -> None:
    """Fits whose spread is that of their seed, on all rows as on a share."""
    rng = np.random.default_rng(n_draws + n_seeds)
    outside = []
    for _ in range(4000):
        full, draws = rng.normal(0.7, 0.03, n_seeds), rng.normal(0.7, 0.03 / np.sqrt(n_seeds), n_draws)
        low, high = interval(full, draws, seeded=True)
        outside.append(low > 0 or high < 0)
    # Of 4,000 the standard error is 0.0035; Welch's is a little narrow where one side has two values.
    assert 0.04 < np.mean(outside) < (0.095 if n_seeds == 2 else 0.061)
    if n_seeds == 1:  # as the docstring says of intervals of the draws alone
        fits = ((rng.normal(0.7, 0.03, 1), rng.normal(0.7, 0.03, n_draws)) for _ in range(2000))
        ends = np.array([interval(*both, seeded=False) for both in fits])
        assert 0.27 < np.mean((ends[:, 0] > 0) | (ends[:, 1] < 0)) < 0.37


def test_the_layer_is_that_of_all_training_rows_and_folds_are_averaged_before_draws(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows, test = [], {}
    for layer, val in ((3, 0.6), (4, 0.7)):
        for fold in range(3):
            for share, draws in ((0.5, 4), (1.0, 1)):
                for draw in range(draws):
                    for seed in range(2):
                        test[layer, fold, share, draw, seed] = score = rng.uniform(0.3, 0.9)
                        # on shares validation would prefer the other layer
                        rows.append(fit(
                            layer=layer, fold=fold, share=share, draw=draw, seed=seed, uar_test=score,
                            uar_val=val if share == 1 else 1 - val, split="group-kfold:3", classifier="mlp",
                            n_train=100 * share + fold, n_classes_trained=3 if share < 1 and draw == 0 else 4,
                            hparams=json.dumps({"max_epochs": 30}), best_epoch=29 if share < 1 else 8,
                        ))  # fmt: skip
    table = learning_curves(folder(tmp_path, rows))
    assert table["place"].tolist() == ["layer 4"] * 2
    half, whole = (row for _, row in table.iterrows())
    cells = np.array(
        [[[test[4, f, 0.5, d, s] for f in range(3)] for s in range(2)] for d in range(4)]
    )  # draw, seed, fold
    units = cells.mean(axis=2)
    assert half["uar_mean"] == pytest.approx(units.mean())
    assert half["uar_std"] == pytest.approx(units.std(ddof=1))
    assert (half["n_draws"], half["n_fits"], half["n_train"]) == (4, 24, 51)
    assert half["lacking"] == 0.25
    assert (half["unsettled"], whole["unsettled"]) == (1, 0)
    assert unsettled_sentence(table).startswith("at 50 % most fits were best at the end of their epochs")
    full = np.array([np.mean([test[4, f, 1.0, 0, s] for f in range(3)]) for s in range(2)])
    assert whole["uar_mean"] == pytest.approx(full.mean())
    (step,) = last_steps(tmp_path)
    expected = ttest_ind(full, units.mean(axis=1), equal_var=False).confidence_interval(0.95)
    assert (step.low, step.high) == pytest.approx((expected.low, expected.high))
    assert step.difference == pytest.approx(full.mean() - units.mean())
    assert (step.n_draws, step.n_seeds, step.unsettled) == (4, 2, True)
    assert step.contents().startswith("The interval holds which groups are drawn, and the 2 seeds; not other")


def steps_of(tmp_path: Path, full: float, draws: list[float], **more: Any) -> str:
    below = [fit(share=0.7, draw=i, uar_test=u, **more) for i, u in enumerate(draws)]
    (step,) = last_steps(folder(tmp_path, [fit(uar_test=full, **more), *below]))
    return step.sentence()


def test_sentences(tmp_path: Path) -> None:
    assert steps_of(tmp_path, 0.62, [0.60, 0.61, 0.59, 0.605, 0.60]) == (
        "call, m layer 3: from 70 to 100 % of the training groups UAR rises by 1.9 points (95 % "
        "interval 1.0 to 2.8 over 5 draws): more groups would help."
    )  # fmt: skip
    assert steps_of(tmp_path, 0.50, [0.60, 0.61, 0.59], curve="rows") == (
        "call, m layer 3: from 70 to 100 % of the training clips UAR falls by 10.0 points (95 % "
        "interval 7.5 to 12.5 over 3 draws): more clips like these would not help."
    )
    assert steps_of(tmp_path, 0.60, [0.5, 0.65, 0.61, 0.62]) == (
        "call, m layer 3: from 70 to 100 % of the training groups UAR changes by 0.5 points (95 % "
        "interval −9.9 to 10.9 over 4 draws): cannot be told from flat."
    )  # fmt: skip
    # the same numbers of a classifier with seeds, of which one was fitted, say less
    rising = (0.62, [0.60, 0.61, 0.59, 0.605, 0.60])
    assert steps_of(tmp_path, *rising, classifier="mlp").endswith("over 5 draws): cannot be told from flat.")
    assert steps_of(
        tmp_path, 0.9, rising[1], classifier="mlp", hparams='{"max_epochs": 9}', best_epoch=9
    ).endswith("more groups, or more epochs, would help.")
    assert steps_of(tmp_path, 0.62, [0.6]).endswith("take more --curve-draws")


def test_draws_of_the_same_rows_count_once_and_other_splits_are_other_curves(tmp_path: Path) -> None:
    rows = [fit(uar_test=0.9)]
    rows += [
        fit(share=0.5, draw=i, uar_test=u, trained=t)
        for i, (u, t) in enumerate([(0.6, "a"), (0.6, "a"), (0.8, "b")])
    ]
    rows += [fit(uar_test=0.5, split_seed=1), fit(uar_test=0.4, split_seed=1, share=0.5)]
    table = learning_curves(folder(tmp_path, rows))
    assert table[["split_seed", "share", "n_draws"]].to_numpy().tolist() == [
        [0, 0.5, 2], [0, 1, 1], [1, 0.5, 1], [1, 1, 1],
    ]  # fmt: skip
    assert table["uar_mean"].tolist() == pytest.approx([0.7, 0.9, 0.4, 0.5])
    assert [s.n_draws for s in last_steps(tmp_path)] == [2, 1]


def test_what_is_not_there_is_empty(tmp_path: Path) -> None:
    assert len(learning_curves(tmp_path)) == len(last_steps(tmp_path)) == 0
    # a run that was stopped before all training rows were fitted
    folder(tmp_path, [fit(share=0.5), fit(share=0.5, draw=1)])
    assert len(learning_curves(tmp_path)) == len(last_steps(tmp_path)) == 0
