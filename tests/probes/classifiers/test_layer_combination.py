"""Probes of several layers at once: values, results, summaries and report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from featurestore import open_store
from featurestore.errors import ConfigError
from probes import ProbeConfig, read_results, run_probe, summarise
from probes.questions.tasks import FitSpec, ProbeTask
from probes.report import load_report_data, terminal_tables
from probes.report.charts.curves import COMBINED, layer_rows
from probes.report.html import render_page
from probes.results.results_folder import RESULTS_NAME, TASKS_FOLDER

QUICK = {"linear": {"max_epochs": 4, "batch_size": 32}, "mlp": {"max_epochs": 3, "batch_size": 32}}


def config(store: str, out: Path, **changes: Any) -> ProbeConfig:
    given: dict[str, Any] = {"classifiers": ("linear",), "labels": ("call",), "split": "group", **changes}
    grid = {name: QUICK[name] for name in given["classifiers"] if name in QUICK}
    return ProbeConfig(**{"store": store, "out": out, "grid": grid, **given})


@pytest.fixture(scope="module")
def both(store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of every layer alone and of their concatenation; to be copied where something is changed."""
    out = tmp_path_factory.mktemp("both")
    assert run_probe(config(store, out, classifiers=("lda",), combine=("each", "concat"))).n_fitted == 7
    return out


def parts_by_hand(store: str, out: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The index of model-a, and which of its rows are in which part, from what the run wrote down."""
    record = json.loads((out / "_run.json").read_text())
    (split,) = [s for s in record["splits"] if s["model"] == "model-a"]
    index = open_store(store).features("model-a", "calls").index
    usable = (index["status"] == "ok") & (index["call"] != "")
    parts = {
        name: np.flatnonzero(usable & index["group"].isin(split["parts"][name]["groups"]))
        for name in ("train", "val", "test")
    }
    return index, parts


def test_concatenation_equals_one_by_hand(store: str, tmp_path: Path) -> None:
    run_probe(config(store, tmp_path, classifiers=("logreg",), combine=("concat",), models=("model-a",)))
    (row,) = read_results(tmp_path).to_dict("records")
    assert (row["combine"], row["layers"], row["layer_weights"]) == ("concat", "0-2", "")
    assert pd.isna(row["layer"])
    index, parts = parts_by_hand(store, tmp_path)
    f = open_store(store).features("model-a", "calls")
    x = np.concatenate([f.layer(k).numpy().reshape(len(index), -1) for k in range(3)], axis=1)
    x = (x - x[parts["train"]].mean(0)) / x[parts["train"]].std(0)
    y = index["call"].to_numpy()
    fitted = LogisticRegression(max_iter=1000).fit(x[parts["train"]], y[parts["train"]])
    for name, where in parts.items():
        expected = balanced_accuracy_score(y[where], fitted.predict(x[where]))
        assert row[f"uar_{name}"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_a_combination_is_no_point_of_the_layer_curve(store: str, tmp_path: Path, both: Path) -> None:
    alone = run_probe(config(store, tmp_path / "alone", classifiers=("lda",)))
    assert alone.n_fitted == 5
    # the same question again, asked the other way round, is answered already
    shutil.copytree(both, tmp_path / "both")
    again = run_probe(config(store, tmp_path / "both", classifiers=("lda",), combine=("concat", "each")))
    assert (again.n_fitted, again.n_cached) == (0, 7)
    curve = again.best[again.best["combine"] == "each"].reset_index(drop=True)
    pd.testing.assert_frame_equal(curve, alone.best, check_dtype=False)
    combined = again.best[again.best["combine"] == "concat"]
    assert combined["layers"].tolist() == ["0-2", "0-1"]
    assert combined["layer"].isna().all()
    # other layers are another combination, beside the first
    run_probe(config(store, tmp_path / "both", classifiers=("lda",), combine=("concat",), layers="0-1"))
    table = read_results(tmp_path / "both")
    assert table["layer"].dtype == "Int64"
    of_a = table[(table["model"] == "model-a") & (table["combine"] == "concat")]
    assert of_a["layers"].tolist() == ["0-1", "0-2"]
    assert read_results(tmp_path / "alone")["layer"].dtype == "int64"


@pytest.mark.slow
def test_the_report_shows_a_combination_beside_the_curve(both: Path) -> None:
    data = load_report_data(both)
    (question,) = data.questions
    assert question.layers_of("model-a") == [0, 1, 2]
    assert question.answer["combine"] == "each"
    assert set(question.answer_fits["combine"]) == {"each"}
    assert len(question.combined()) == 2
    page = render_page(data)
    assert "concat 0–2" in page
    combined = [row for row in layer_rows(data) if row["kind"] == COMBINED]
    levels = [100 * row["score_test_mean"] for _, row in question.combined().iterrows()]
    assert sorted(row["score"] for row in combined) == pytest.approx(sorted(levels))
    assert min(row["x"] for row in combined) > 2.4  # right of the last layer
    (shown,) = terminal_tables(data)
    assert list(shown.columns[0].cells) == ["0", "1", "2", "concat 0-1", "concat 0-2"]


@pytest.mark.slow
def test_a_report_of_combinations_alone(store: str, tmp_path: Path) -> None:
    run_probe(config(store, tmp_path, classifiers=("lda",), combine=("concat",)))
    data = load_report_data(tmp_path)
    (question,) = data.questions
    assert question.answer["combine"] == "concat"
    assert "chosen on validation data" in render_page(data)
    assert "concat of layers 0–" in render_page(data)


def test_the_fingerprint_of_a_single_layer_is_what_it_always_was() -> None:
    asked = ProbeTask(
        store="s",
        model="m",
        dataset="d",
        label="l",
        layers=(7,),
        classifier="mlp",
        split="random",
        split_seed=1,
        fold=2,
        data="x",
        fits=(FitSpec('{"a":1}', 3),),
    )
    # written down before layers could be combined: results of then are found again
    expected = "79f8750c101710ed31b2f37c1dff077a435dc7f2054b513794085a017ee46859"
    assert asked.question(asked.fits[0]) == expected


@pytest.mark.slow
def test_results_of_before_are_read_and_kept(store: str, tmp_path: Path) -> None:
    run_probe(config(store, tmp_path, classifiers=("lda",)))
    for path in [tmp_path / RESULTS_NAME, *(tmp_path / TASKS_FOLDER).glob("*.parquet")]:
        pd.read_parquet(path).drop(columns=["combine", "layers", "layer_weights"]).to_parquet(path)
    assert summarise(read_results(tmp_path))["layers"].tolist() == ["0", "1", "2", "0", "1"]
    more = run_probe(config(store, tmp_path, classifiers=("lda",), combine=("each", "concat")))
    assert (more.n_fitted, more.n_cached) == (2, 5)
    assert len(read_results(tmp_path)) == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"combine": ("concatenate",)}, "combine: expected each, .* did you mean 'concat'"),
        ({"combine": ()}, "combine: expected at least one of each"),
        (
            {"combine": ("concat",), "layers": "1"},
            "combine concat: expected at least two layers, model-a/calls has only layer 1 of --layers 1",
        ),
    ],
)
def test_a_combination_that_makes_no_sense_is_one_line(
    store: str, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        run_probe(config(store, tmp_path / "r", **changes))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "r").exists()
