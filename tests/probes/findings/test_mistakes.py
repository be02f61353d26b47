"""Mistakes are every wrong prediction and nothing else; the hardest utterances stand first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_results import write_results

from probes.findings.mistakes import answers_of, by_utterance, confused_pairs, mistakes
from probes.report import load_report_data
from probes.results.results_folder import StoredPredictions


def answers(rows: list[tuple[str, str, str, float, int]]) -> pd.DataFrame:
    """Rows of utterance, target, prediction, probability of the target, seed."""
    table = pd.DataFrame(rows, columns=["utterance_id", "target", "prediction", "p_target", "seed"])
    return table.assign(p_prediction=0.5, group="g", split_seed=0, fold=0, model="m", layers="0")


SOME = answers(
    [
        ("a", "x", "x", 0.9, 0), ("a", "x", "y", 0.4, 1),
        ("b", "x", "y", 0.2, 0), ("b", "x", "y", 0.1, 1),
        ("c", "y", "x", 0.3, 0), ("c", "y", "z", 0.1, 1),
        ("d", "z", "z", 0.8, 0), ("d", "z", "z", 0.9, 1),
    ]
)  # fmt: skip


def test_utterances_stand_by_how_often_and_how_surely_they_are_wrong() -> None:
    found = by_utterance(SOME)
    assert found["utterance_id"].tolist() == ["b", "c", "a", "d"]
    assert found["n_wrong"].tolist() == [2, 2, 1, 0]
    # Of two classes that are named equally often the first by name is told.
    assert found["mistaken_for"].tolist() == ["y", "x", "y", ""]
    assert found["p_target"].tolist() == pytest.approx([0.15, 0.2, 0.65, 0.85])


def test_pairs_are_shares_of_the_true_class() -> None:
    found = confused_pairs(by_utterance(SOME))
    assert found[["target", "mistaken_for", "n"]].values.tolist() == [["x", "y", 2], ["y", "x", 1]]
    assert found["share"].tolist() == [1.0, 1.0]


def test_mistakes_are_those_of_the_stored_predictions(tmp_path: Path) -> None:
    data = load_report_data(write_results(tmp_path / "r"))
    (question,) = data.questions
    found = mistakes(answers_of(StoredPredictions(tmp_path / "r"), question.answer_fits))
    # Counted again from the files alone, by the fits of the chosen layer and setting.
    table = pd.concat(pd.read_parquet(p) for p in sorted((tmp_path / "r" / "_predictions").iterdir()))
    table = table[table["fingerprint"].isin(question.answer_fits["fingerprint"])]
    wrong = table[table["target"] != table["prediction"]]
    key = ["utterance_id", "target", "prediction"]
    assert len(found) == len(wrong) > 0
    assert sorted(map(tuple, found[key].values)) == sorted(map(tuple, wrong[key].values))
    assert found["p_target"].isna().all()  # this folder keeps none
    rank = {u: i for i, u in enumerate(dict.fromkeys(found["utterance_id"]))}
    assert np.all(np.diff(found["utterance_id"].map(rank)) >= 0)
