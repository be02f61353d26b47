"""Folds through `run_probe`, the summary and the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featurestore.errors import ConfigError, LabelError
from probes import ProbeConfig, metrics, read_predictions, read_results, run_probe
from probes.report import load_report_data, write_report
from probes.report.caveats import warnings_of
from probes.results.fit_tables import FIT_COLUMNS
from probes.results.selection import chosen_fits, pooled_score, summarise
from probes.results.split_files import read_split

Write = Callable[..., None]
GRID = {
    "mlp": {"max_epochs": 2, "batch_size": 32},
    "linear": {"max_epochs": 2, "batch_size": 32},
    "rf": {"n_estimators": 10},
}


def config(store: Path | str, out: Path, split: str, *classifiers: str, **more: object) -> ProbeConfig:
    grid = {c: GRID[c] for c in classifiers if c in GRID}
    given = {"labels": ("call",), "models": ("model-a",), "grid": grid, **more}
    return ProbeConfig(store=str(store), out=out, split=split, classifiers=classifiers, **given)  # type: ignore[arg-type]


def test_every_utterance_is_tested_once_and_the_pool_is_all_of_them(store: str, tmp_path: Path) -> None:
    run_probe(config(store, tmp_path, "group-kfold:3", "lda", layers="2"))
    table = read_results(tmp_path)
    assert table["fold"].tolist() == [0, 1, 2]
    predictions = read_predictions(tmp_path, table)
    assert predictions["utterance_id"].is_unique
    assert len(predictions) == 228
    expected = metrics.uar(predictions["target"], predictions["prediction"])
    assert pooled_score(predictions, table) == pytest.approx(expected)
    record = json.loads((tmp_path / "_run.json").read_text())
    groups = [set(s["parts"]["test"]["groups"]) for s in record["splits"]]
    assert len(set.union(*groups)) == sum(map(len, groups)) == 6
    # the same question again is answered from what is there
    again = run_probe(config(store, tmp_path, "group-kfold:3", "lda", layers="2"))
    assert (again.n_fitted, again.n_cached) == (0, 3)


@pytest.mark.slow
def test_every_split_is_kept_row_by_row(store: str, tmp_path: Path) -> None:
    for split in ("nested:2x2", "random"):
        run_probe(config(store, tmp_path, split, "lda", layers="1", models=(), labels=("call", "caller")))
    table = read_results(tmp_path)
    assert len(list((tmp_path / "_splits").glob("*.parquet"))) == 2 * 2 * table["model"].nunique()
    predictions = read_predictions(tmp_path, table)
    for row in table.to_dict("records"):
        kept = read_split(tmp_path, row)
        tested = predictions.loc[predictions["fingerprint"] == row["fingerprint"], "utterance_id"]
        assert set(kept.loc[kept["part"] == "test", "utterance_id"]) == set(tested)
        sizes = kept["part"].value_counts()
        assert [sizes[p] for p in ("train", "val", "test")] == [row["n_train"], row["n_val"], row["n_test"]]
        assert kept["utterance_id"].is_unique
    # Rows as pandas hands them out, whose numbers are NumPy's; entries of _run.json.
    described = json.loads((tmp_path / "_run.json").read_text())["splits"][0]
    same = table
    for name in ("model", "dataset", "label", "split", "split_seed", "fold"):
        same = same[same[name] == described[name]]
    kept = read_split(tmp_path, described)
    for row in (same.iloc[0], next(same.itertuples()), next(same.iterrows())[1]):
        pd.testing.assert_frame_equal(read_split(tmp_path, row), kept)
    with pytest.raises(
        ConfigError, match="named by model, dataset, label, split, split_seed, fold, got no 'label'"
    ):
        read_split(tmp_path, table.iloc[0].drop("label"))
    with pytest.raises(ConfigError, match="has no fold 7"):
        read_split(tmp_path, {**table.iloc[0].to_dict(), "fold": 7})
    with pytest.raises(ConfigError, match="no split 'logo' of label 'call' is kept here"):
        read_split(tmp_path, {**table.iloc[0].to_dict(), "label": "call", "split": "logo"})


@pytest.mark.slow
def test_another_label_column_changes_no_split(
    make_store: Write, tmp_path: Path, table: pd.DataFrame
) -> None:
    splits = ("random", "group", "kfold:3", "stratified-group-kfold:3", "sarkar2025")
    more = table.assign(site=[f"s{i % 7}" for i in range(len(table))], note="x|y")
    for name, rows in (("plain", table), ("more", more)):
        make_store(tmp_path / f"{name}.zarr", rows, layers=(0,))
        for split in splits:
            run_probe(config(tmp_path / f"{name}.zarr", tmp_path / name, split, "centroid"))
    results = read_results(tmp_path / "plain")
    assert set(results["split"]) == set(splits)
    for row in results.to_dict("records"):
        pd.testing.assert_frame_equal(read_split(tmp_path / "plain", row), read_split(tmp_path / "more", row))


@pytest.mark.parametrize("classifier", ["mlp", "linear", "logreg", "svm", "lda", "centroid", "rf", "knn"])
def test_a_class_without_training_rows_is_scored_as_never_recognised(
    make_store: Write, tmp_path: Path, table: pd.DataFrame, classifier: str
) -> None:
    # "peep" comes before the others: class positions shift when it is not trained.
    group = np.array([f"g{i % 5}" for i in range(len(table))], dtype=object)
    group[(table["call"] == "peep").to_numpy()] = "g0"
    make_store(tmp_path / "s.zarr", table.assign(group=group), layers=(2,))
    run_probe(config(tmp_path / "s.zarr", tmp_path / "r", "logo", classifier))
    results = read_results(tmp_path / "r")
    predictions = read_predictions(tmp_path / "r", results)
    first = predictions[predictions["fingerprint"] == results.loc[results["fold"] == 0, "fingerprint"].item()]
    assert (first["prediction"] != "peep").all()
    assert (first["target"] == "peep").any()
    for row in results.itertuples():
        part = predictions[predictions["fingerprint"] == row.fingerprint]
        assert metrics.uar(part["target"], part["prediction"]) == pytest.approx(row.uar_test)
    # the classes that were trained are told apart, so positions were mapped back rightly
    others = first[first["target"] != "peep"]
    if classifier not in ("mlp", "linear"):  # two epochs teach little
        assert (others["target"] == others["prediction"]).mean() > 0.5
    shown = warnings_of(load_report_data(tmp_path / "r"))
    assert any("1 of the 5 folds" in w or "have no train clips of peep (1)" in w for w in shown)


def test_a_column_of_folds(make_store: Write, tmp_path: Path, table: pd.DataFrame) -> None:
    own = table.assign(fold=[str(i % 4 + 1) if i % 9 else "" for i in range(len(table))])
    make_store(tmp_path / "s.zarr", own, layers=(0,))
    run_probe(config(tmp_path / "s.zarr", tmp_path / "r", "fold:fold", "lda"))
    results = read_results(tmp_path / "r")
    predictions = read_predictions(tmp_path / "r", results)
    fold_of = own.set_index("utterance_id")["fold"]
    for row in results.itertuples():
        tested = predictions.loc[predictions["fingerprint"] == row.fingerprint, "utterance_id"]
        assert set(fold_of[tested]) == {str(row.fold + 1)}
    assert any("labelled clips are in no part" in w for w in warnings_of(load_report_data(tmp_path / "r")))
    with pytest.raises(LabelError, match=r"split: column 'flod': .*; did you mean 'fold'"):
        run_probe(config(tmp_path / "s.zarr", tmp_path / "r2", "fold:flod", "lda"))
    assert not (tmp_path / "r2").exists()


def test_the_papers_split_is_that_of_the_manifests_order(
    make_store: Write, tmp_path: Path, table: pd.DataFrame
) -> None:
    from probes.splits import sarkar2025

    shuffled = np.random.default_rng(0).permutation(len(table))
    make_store(tmp_path / "s.zarr", table, layers=(0,), order=shuffled)
    run_probe(config(tmp_path / "s.zarr", tmp_path / "r", "sarkar2025", "lda"))
    results = read_results(tmp_path / "r")
    tested = set(read_predictions(tmp_path / "r", results)["utterance_id"])
    usable = table.index[(table["call"] != "") & ~table.index.isin([11, 40])]
    expected = set(sarkar2025(len(table))[2]) & set(usable)
    assert tested == set(table["utterance_id"].iloc[sorted(expected)])


@pytest.mark.slow
def test_nested_folds_through_to_the_page(store: str, tmp_path: Path) -> None:
    run_probe(config(store, tmp_path / "r", "nested:3x2", "lda", layers="1-2"))
    results = read_results(tmp_path / "r")
    assert sorted(results["fold"].unique()) == list(range(6))
    assert sorted(set(chosen_fits(results)["outer"])) == [0, 1, 2]
    page = write_report(tmp_path / "r", tmp_path / "report").html.read_text(encoding="utf-8")
    assert "Layer and settings were chosen anew in every fold" in page
    assert "Each is tested 2 times" in page
    # support counts each clip once, however often it was tested
    (question,) = load_report_data(tmp_path / "r").questions
    assert (question.n_test_folds, question.n_passes) == (3, 2)


def fit(
    layer: int, fold: int, seed: int, val: float, test: float, split: str = "kfold:3"
) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(FIT_COLUMNS, 0)
    text = {"model": "m", "dataset": "d", "label": "l", "classifier": "mlp", "hparams": "a"}
    row.update(text, combine="each", layers=str(layer))
    row.update(split=split, layer=layer, fold=fold, seed=seed, uar_val=val, uar_test=test)
    return row


def test_seeds_are_averaged_before_folds_and_the_spread_is_that_of_folds() -> None:
    rows = [
        fit(0, f, s, 0.5, t)
        for f, ts in enumerate([(0.1, 0.3), (0.5, 0.7), (0.9,)])
        for s, t in enumerate(ts)
    ]
    (summary,) = summarise(pd.DataFrame(rows)).to_dict("records")
    assert summary["uar_test_mean"] == pytest.approx(np.mean([0.2, 0.6, 0.9]))
    assert summary["uar_test_std"] == pytest.approx(np.std([0.2, 0.6, 0.9], ddof=1))
    assert (summary["n_fits"], summary["n_splits"]) == (5, 3)


def test_the_choice_in_a_fold_uses_that_folds_validation_only() -> None:
    rows = [
        fit(0, 0, 0, 0.9, 0.1), fit(1, 0, 0, 0.2, 0.9),
        fit(0, 1, 0, 0.1, 0.8), fit(1, 1, 0, 0.7, 0.3),
        fit(0, 2, 0, 0.5, 0.6), fit(1, 2, 0, 0.5, 0.2),
    ]  # fmt: skip
    chosen = chosen_fits(pd.DataFrame(rows)).sort_values("outer")
    assert chosen["layer"].tolist() == [0, 1, 0]  # a tie goes to the lower layer
    assert chosen["score_test"].tolist() == [0.1, 0.3, 0.6]
    # inner folds of one test fold choose together
    nested = [dict(r, split="nested:2x3", fold=i // 2) for i, r in enumerate(rows)]
    chosen = chosen_fits(pd.DataFrame([*nested, fit(0, 3, 0, 1, 1, "nested:2x3")]))
    assert sorted(set(chosen["outer"])) == [0, 1]
    assert (chosen.groupby("outer")["layer"].nunique() == 1).all()
