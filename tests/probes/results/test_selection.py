"""Choices by validation alone, against loops in scikit-learn and hand-made tables."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from featurestore import open_store
from probes import ProbeConfig, read_results, run_probe
from probes.questions.labelled_rows import labelled
from probes.report import load_report_data, terminal_tables, write_report
from probes.report.tables import legend
from probes.results.fit_tables import FIT_COLUMNS
from probes.results.selection import answers, chosen_fits, oracle, summarise
from probes.splits import iter_splits

C_VALUES = (0.001, 1.0)


def fit(layer: int, fold: int, hparams: str, val: float, test: float, **more: object) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(FIT_COLUMNS, 0)
    text = {"model": "m", "dataset": "d", "label": "l", "classifier": "mlp", "combine": "each"}
    row.update(text, split="kfold:3", layer=layer, layers=str(layer), fold=fold, hparams=hparams)
    row.update(uar_val=val, uar_test=test, fingerprint=f"{layer}{fold}{hparams}", **more)
    return row


@pytest.mark.slow
def test_nested_selection_equals_a_loop_of_scikit_learn(store: str, tmp_path: Path) -> None:
    """For each outer fold: mean inner validation score per layer and C, the best one's mean test score."""
    config = ProbeConfig(
        store=store,
        labels=("call",),
        out=tmp_path,
        models=("model-a",),
        classifiers=("logreg",),
        grid={"logreg": {"C": list(C_VALUES)}},
        split="nested:3x2",
    )
    run_probe(config)
    features = open_store(store).features("model-a", "calls")
    found = labelled(features, "call")
    y = found.rows.label
    layers = {k: features.layer(k).numpy()[found.position].reshape(len(y), -1) for k in features.layers}
    expected = []
    splits = list(iter_splits("nested:3x2", found.rows, 0))
    for outer in range(3):
        best = (-1.0, float("nan"))
        for x in layers.values():
            for c in C_VALUES:
                val, test = [], []
                for split in splits[2 * outer : 2 * outer + 2]:
                    mean, std = x[split.train].mean(0), x[split.train].std(0)
                    model = LogisticRegression(C=c, max_iter=1000)
                    model.fit((x[split.train] - mean) / std, y[split.train].astype(str))
                    for rows, scores in ((split.val, val), (split.test, test)):
                        guess = model.predict((x[rows] - mean) / std)
                        scores.append(balanced_accuracy_score(y[rows].astype(str), guess))
                if np.mean(val) > best[0] + 1e-9:
                    best = (float(np.mean(val)), float(np.mean(test)))
        expected.append(best[1])
    (answer,) = answers(read_results(tmp_path)).to_dict("records")
    assert answer["score_test_mean"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert answer["score_test_std"] == pytest.approx(np.std(expected, ddof=1), abs=1e-6)
    assert answer["n_splits"] == 3
    # every test row of an outer fold is scored by the probes of both inner folds and by nothing else
    fits = chosen_fits(read_results(tmp_path))
    assert sorted(fits["fold"]) == list(range(6))


def test_settings_of_a_layer_are_chosen_in_every_fold_by_its_own_rows() -> None:
    table = pd.DataFrame(
        [
            fit(0, 0, "a", val=0.9, test=0.1), fit(0, 0, "b", val=0.1, test=0.9),
            fit(0, 1, "a", val=0.2, test=0.8), fit(0, 1, "b", val=0.7, test=0.3),
        ]
    )  # fmt: skip
    (row,) = summarise(table).to_dict("records")
    # with one choice for both folds "a" would win (0.55 to 0.4) and show 0.45
    assert row["score_test_mean"] == pytest.approx((0.1 + 0.3) / 2)
    assert row["n_settings"] == 2
    assert row["n_fits"] == 2


def test_the_answer_changes_layer_with_the_fold_and_the_oracle_is_apart() -> None:
    table = pd.DataFrame(
        [
            fit(0, 0, "a", val=0.9, test=0.5), fit(1, 0, "a", val=0.2, test=0.9),
            fit(0, 1, "a", val=0.1, test=0.8), fit(1, 1, "a", val=0.7, test=0.6),
        ]
    )  # fmt: skip
    (answer,) = answers(table).to_dict("records")
    assert answer["score_test_mean"] == pytest.approx((0.5 + 0.6) / 2)
    assert answer["layers"] == "0-1"
    (best,) = oracle(table).to_dict("records")
    assert best["oracle_layers"] == "1"
    assert best["oracle_test"] == pytest.approx(0.75)


def test_a_fold_without_validation_precision_stays_one_of_label_sets() -> None:
    no_uar = dict.fromkeys(("uar_train", "uar_val", "uar_test"), np.nan)
    table = pd.DataFrame(
        [
            {**fit(0, fold, "a", val=0, test=0), **no_uar, "map_val": val, "map_test": test}
            for fold, val, test in ((0, 0.5, 0.4), (1, np.nan, 0.6))
        ]
    )
    (row,) = answers(table).to_dict("records")
    assert row["metric"] == "mAP"
    assert row["score_test_mean"] == pytest.approx(0.5)


@pytest.mark.slow
def test_the_oracle_is_shown_only_when_asked_for(store: str, tmp_path: Path) -> None:
    config = ProbeConfig(store=store, labels=("call",), out=tmp_path, classifiers=("lda",), split="kfold:3")
    run_probe(config)
    data = load_report_data(tmp_path)

    def shown(asked: bool) -> str:
        out = io.StringIO()
        for part in (*terminal_tables(data, oracle=asked), legend(data, oracle=asked)):
            Console(width=200, file=out).print(part)
        return out.getvalue()

    assert "racle" not in shown(False)
    assert "oracle" in shown(True)
    assert "an upper bound, not a result" in " ".join(shown(True).split())
    page = write_report(data, tmp_path / "report").html.read_text(encoding="utf-8")
    assert "Oracle:" not in page
    page = write_report(data, tmp_path / "report", oracle=True).html.read_text(encoding="utf-8")
    top = oracle(read_results(tmp_path)).set_index("model").loc["model-a"]
    assert f"Oracle: {100 * top['oracle_test']:.1f} %" in page
    # the record of the run is as JSON as before
    assert json.loads((tmp_path / "_run.json").read_text())["config"]["split"] == "kfold:3"
