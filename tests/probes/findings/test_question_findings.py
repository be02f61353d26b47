"""Findings of a results folder against the statistics of its predictions, read with plain pandas."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from probes.findings.question_findings import LAYERS, MODELS, OPTIONS, PREPROCESSING, Compared
from probes.findings.sentences import choice_sentences, choice_summary, comparison_sentence, headline
from probes.metrics import uar
from probes.questions.tasks import ProbeConfig
from probes.report import ReportData, load_report_data
from probes.report.tables import comparisons_table, csv_table
from probes.results.results_folder import (
    VALIDATION_FOLDER,
    StoredPredictions,
    read_predictions,
    read_results,
)
from probes.results.selection import pooled_score
from probes.run.probing import run_probe
from probes.statistics import Comparison, compare_uar, holm, layer_choice, uar_interval
from tests.probes.conftest import manifest_table, write_store

N_CLIPS, N_GROUPS = 960, 80


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two models, three layers, eighty groups of twelve clips, about eight of them in test."""
    folder = tmp_path_factory.mktemp("store")
    table = manifest_table(N_CLIPS)
    table["group"] = [f"bird-{i % N_GROUPS}" for i in range(len(table))]
    for model in ("model-a", "model-bb"):
        write_store(folder, table, model=model)
    return str(folder)


def probed(store: str, out: Path, **changes: Any) -> Path:
    asked = {"labels": ("call",), "split": "group", "n_seeds": 2, "classifiers": ("linear",)} | changes
    if "linear" in asked["classifiers"]:
        asked["grid"] = {"linear": {"max_epochs": 5, "batch_size": 64}}
    run_probe(ProbeConfig(store=store, out=out, **asked))
    return out


@pytest.fixture(scope="module")
def one_split(store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return probed(store, tmp_path_factory.mktemp("r"), classifiers=("linear", "centroid"))


@pytest.fixture(scope="module")
def data(one_split: Path) -> ReportData:
    """What is read and computed of `one_split`."""
    return load_report_data(one_split)


def said(out: Path, model: str, layer: int, classifier: str = "linear") -> tuple[Any, Any, Any]:
    """Target `[n]`, predictions `[seeds, n]` and groups `[n]`, in the order of ids, by pandas alone."""
    table = pd.read_parquet(out / "results.parquet")
    mine = table[(table["model"] == model) & (table["layer"] == layer) & (table["classifier"] == classifier)]
    files = pd.concat(pd.read_parquet(p) for p in (out / "_predictions").glob("*.parquet"))
    rows = files.merge(mine[["fingerprint", "seed", "fold"]], on="fingerprint")
    wide = rows.pivot(index="utterance_id", columns="seed", values="prediction").sort_index()
    known = rows.drop_duplicates("utterance_id").set_index("utterance_id").loc[wide.index]
    return known["target"].to_numpy(), wide.to_numpy().T, known["group"].to_numpy()


def test_intervals_are_those_of_the_predictions(one_split: Path, data: ReportData) -> None:
    table = csv_table(data)
    table = table[table["classifier"] == "linear"]
    assert len(table) == 6
    for row in table.itertuples():
        expected = uar_interval(*said(one_split, row.model, row.layer))
        assert not expected.reason
        assert (row.ci_low, row.ci_high) == pytest.approx((expected.low, expected.high))
        assert row.n_groups == expected.n_groups
        # One split: what is pooled is the reported mean over seeds.
        assert row.uar_pooled == pytest.approx(row.uar_test_mean)


@pytest.mark.slow
def test_groups_count_and_not_clips(store: str, tmp_path: Path) -> None:
    out = probed(store, tmp_path, split="group-kfold:4", layers="0")
    (row,) = csv_table(load_report_data(out)).query("model == 'model-a'").itertuples()
    target, predicted, group = said(out, "model-a", 0)
    assert len(target) == N_CLIPS - 12  # every usable clip is tested once: folds are pooled
    assert row.n_groups == N_GROUPS
    expected = uar_interval(target, predicted, group)
    assert (row.ci_low, row.ci_high) == pytest.approx((expected.low, expected.high))
    assert row.uar_pooled == pytest.approx(np.mean([uar(target, p) for p in predicted]))
    alone = uar_interval(target, predicted)
    assert alone.n_groups == N_CLIPS - 12


def test_draws_of_a_split_are_pooled_as_the_interval_is(store: str, tmp_path: Path) -> None:
    for draw in (0, 1):
        out = probed(store, tmp_path, layers="0", models=("model-a",), split_seed=draw)
    (row,) = csv_table(load_report_data(out)).itertuples()
    table = read_results(out)
    assert row.n_splits == 2
    assert pooled_score(read_predictions(out, table), table) == pytest.approx(row.uar_pooled)
    # The mean over draws is another number: their test parts have other numbers of each class.
    assert abs(row.uar_test_mean - row.uar_pooled) > 1e-4


def test_models_are_compared_at_their_chosen_layers(one_split: Path, data: ReportData) -> None:
    (answers,) = (q.answers for q in data.questions if q.classifier == "linear")
    chosen = dict(zip(answers["model"], answers["layer"], strict=True))
    found = comparisons_table(data)
    (line,) = found[(found["contrast"] == MODELS) & (found["classifier"] == "linear")].itertuples()
    a = said(one_split, "model-a", chosen["model-a"])
    b = said(one_split, "model-bb", chosen["model-bb"])
    expected = compare_uar(a[0], a[1], b[1], a[2])
    assert (line.a, line.b) == ("model-a", "model-bb")
    assert line.difference == pytest.approx(expected.difference)
    assert (line.ci_low, line.ci_high, line.p) == pytest.approx((expected.low, expected.high, expected.p))


def test_p_values_of_layers_are_corrected_within_their_model(data: ReportData) -> None:
    found = comparisons_table(data)
    family = found[
        (found["contrast"] == LAYERS)
        & (found["classifier"] == "linear")
        & found["a"].str.startswith("model-a ")
    ]
    assert len(family) == 2
    np.testing.assert_allclose(family["p_holm"], holm(family["p"]))


@pytest.mark.slow
def test_the_same_weights_under_other_options_are_a_pair_of_that_name(tmp_path: Path) -> None:
    table = manifest_table(N_CLIPS)
    table["group"] = [f"bird-{i % N_GROUPS}" for i in range(len(table))]
    made = {
        "plain": ("w1", "none", "float32"),
        "peaked": ("w1", "peak", "float32"),
        "halved": ("w1", "none", "float16"),
        "other": ("w2", "peak", "float32"),
    }
    for model, (weights, normalisation, dtype) in made.items():
        inputs = {"normalisation": normalisation, "rate_policy": "resample"}
        fingerprint = {"model": {"family": "f", "weights": weights}, "input": inputs, "dtype": dtype}
        write_store(tmp_path / "s", table, model=model, layers=(0,), fingerprint=fingerprint)
    out = probed(str(tmp_path / "s"), tmp_path / "r", classifiers=("centroid",))
    data = load_report_data(out)
    found = comparisons_table(data)
    (line,) = found[found["contrast"] == PREPROCESSING].itertuples()
    assert (line.a, line.b) == ("peaked (input.normalisation peak)", "plain (input.normalisation none)")
    a, b = said(out, "peaked", 0, "centroid"), said(out, "plain", 0, "centroid")
    expected = compare_uar(a[0], a[1], b[1], a[2])
    assert (line.difference, line.p, line.p_holm) == pytest.approx(
        (expected.difference, expected.p, expected.p)
    )
    assert found.loc[found["contrast"] == OPTIONS, ["a", "b"]].to_numpy().tolist() == [
        [
            "halved (dtype float16, input.normalisation none)",
            "peaked (dtype float32, input.normalisation peak)",
        ],
        ["halved (dtype float16)", "plain (dtype float32)"],
    ]
    # Said once, by its options, and not once more as a pair of models.
    (question,) = data.questions
    sentences = headline(data.findings[question.name].model_comparisons, "plain")
    assert sum("peaked" in s and "plain" in s for s in sentences) == 1
    # A later call about another data set takes nothing away.
    facts = data.run["models"]
    assert facts["plain"]["calls/input.normalisation"] == "none"
    write_store(
        tmp_path / "s",
        table,
        model="plain",
        dataset="more",
        layers=(0,),
        fingerprint={"model": {"weights": "w1"}},
    )
    probed(str(tmp_path / "s"), tmp_path / "r", classifiers=("centroid",), datasets=("more",))
    data = load_report_data(out)
    assert data.run["models"]["plain"].keys() > facts["plain"].keys()
    (over,) = data.across_datasets
    assert (over.what, over.datasets) == ("UAR · centroid · split: group", ("calls", "more"))
    assert over.sentences == [
        "Over 2 data sets (UAR · centroid · split: group): fewer than two models were scored on all of them.",
        "Left out, not scored on every data set: halved, other and peaked.",
    ]


def test_classifiers_are_compared_on_one_model(data: ReportData) -> None:
    found = comparisons_table(data)
    lines = found[found["contrast"] == "classifiers"]
    assert sorted(zip(lines["a"], lines["b"], strict=True)) == [
        ("model-a centroid", "model-a linear"),
        ("model-bb centroid", "model-bb linear"),
    ]
    np.testing.assert_allclose(lines["p_holm"], holm(lines["p"]))


def test_validation_predictions_give_the_recorded_scores(one_split: Path) -> None:
    table = read_results(one_split)
    kept = StoredPredictions(one_split).of(table, VALIDATION_FOLDER)
    for fit, rows in kept.groupby("fingerprint"):
        (recorded,) = table.loc[table["fingerprint"] == fit, "uar_val"]
        assert uar(rows["target"], rows["prediction"]) == pytest.approx(recorded)
    assert set(kept["fingerprint"]) == set(table["fingerprint"])


def test_the_choice_of_the_layer_is_that_of_the_validation_rows(one_split: Path, data: ReportData) -> None:
    (question,) = (q for q in data.questions if q.classifier == "linear")
    choice = data.findings[question.name].choices["model-a"]
    table = read_results(one_split)
    mine = table[(table["model"] == "model-a") & (table["classifier"] == "linear")]
    rows = (
        StoredPredictions(one_split)
        .of(mine, VALIDATION_FOLDER)
        .merge(mine[["fingerprint", "layer", "seed"]], on="fingerprint")
    )
    by_id = rows.drop_duplicates("utterance_id").sort_values("utterance_id")
    said_by = [
        part.pivot(index="seed", columns="utterance_id", values="prediction").to_numpy()
        for _, part in rows.groupby("layer")
    ]
    expected = layer_choice(by_id["target"].to_numpy(), said_by, by_id["group"].to_numpy())
    assert choice.chosen == expected.chosen
    np.testing.assert_allclose(choice.chosen_share, expected.chosen_share)
    shares = csv_table(data).query("classifier == 'linear' and model == 'model-a'")["chosen_share"]
    assert shares.to_numpy() == pytest.approx(expected.chosen_share, nan_ok=True)


def test_folders_of_earlier_versions_keep_no_validation_predictions(one_split: Path, tmp_path: Path) -> None:
    out = shutil.copytree(one_split, tmp_path / "r")
    for path in (out / VALIDATION_FOLDER).iterdir():
        path.unlink()
    (out / VALIDATION_FOLDER).rmdir()
    data = load_report_data(out)
    assert all(not f.choices for f in data.findings.values())
    table = csv_table(data)
    assert table["chosen_share"].isna().all()
    assert table["ci_low"].notna().any()


def test_lost_predictions_are_no_interval_and_no_error(one_split: Path, tmp_path: Path) -> None:
    out = shutil.copytree(one_split, tmp_path / "r")
    for path in (out / "_predictions").iterdir():
        path.unlink()
    data = load_report_data(out)
    assert csv_table(data)["ci_low"].isna().all()
    assert comparisons_table(data).empty
    reasons = {j.reason for f in data.findings.values() for j in f.judged_answers.values()}
    assert reasons == {"its predictions are not in the results folder"}


def compared(difference: float, low: float, high: float, p: float, **more: Any) -> Compared:
    result = Comparison(
        difference=difference, low=low, high=high, p=p, n_groups=12, method="m", detectable=0.031, **more
    )
    return Compared(contrast=MODELS, a="hubert", b="logmel", result=result, p_holm=p)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            compared(0.008, -0.011, 0.026, 0.4),
            "hubert and logmel cannot be told apart: 0.8 points, 95 % interval −1.1 to 2.6, 12 groups; this "
            "test part shows differences from about 3.1.",
        ),
        (
            compared(-0.34, -0.467, -0.213, 0.0001),
            "logmel is 34.0 points above hubert: 95 % interval 21.3 to 46.7, 12 groups, p < 0.001.",
        ),
        (
            dataclasses.replace(compared(0.05, 0.01, 0.09, 0.01), p_holm=0.03),
            "hubert is 5.0 points above logmel: 95 % interval 1.0 to 9.0, 12 groups, p = 0.030 after Holm's "
            "correction.",
        ),
        (
            compared(0.0, np.nan, np.nan, 1.0, reason="the two score alike in every group"),
            "hubert and logmel have the same score on these test clips; no interval: the two score alike in "
            "every group.",
        ),
        (
            compared(-0.0004, np.nan, np.nan, np.nan, reason="3 groups were tested"),
            "hubert and logmel are equal to a tenth of a point on these test clips; no interval: 3 groups "
            "were tested.",
        ),
        (
            compared(-0.0004, -0.0007, -0.0001, 0.002),
            "hubert and logmel are told apart, but by less than 0.1 points: 95 % interval −0.1 to 0.0, 12 "
            "groups, p = 0.002.",
        ),
        (
            dataclasses.replace(
                compared(0.02, 0.01, 0.03, 0.002), contrast="domain: all", declared=True, a="bird", b="speech"
            ),
            "Declared contrast 'domain: all': bird is 2.0 points above speech: 95 % interval 1.0 to 3.0, 12 "
            "groups, p = 0.002.",
        ),
        (
            compared(-0.5, np.nan, np.nan, np.nan, reason="3 groups were tested"),
            "logmel is 50.0 points above hubert on these test clips; no interval: 3 groups were tested.",
        ),
    ],
)
def test_sentences(found: Compared, sentence: str) -> None:
    assert comparison_sentence(found) == sentence
    assert headline([found], "hubert") == [sentence]


def test_the_chosen_model_is_compared_first_and_the_rest_is_counted() -> None:
    one = compared(0.008, -0.011, 0.026, 0.4)
    pairs = [dataclasses.replace(one, a=a, b=b) for a, b in (("x", "y"), ("x", "z"), ("y", "z"))]
    twins = dataclasses.replace(one, a="z", b="z-untrained", contrast="training")
    same = dataclasses.replace(one, a="z", b="z-untrained")
    first, *others = headline([*pairs, same, twins], "z")
    assert first.startswith("z and z-untrained cannot")
    assert [s.partition(" cannot")[0] for s in others] == [
        "x and z",
        "y and z",
        "1 comparison of models more in comparisons.csv.",
    ]


def test_a_sentence_says_how_firmly_a_layer_is_chosen(one_split: Path) -> None:
    rng = np.random.default_rng(0)
    target = np.tile(["a", "b"], 60)
    group = np.repeat(np.arange(12), 10)
    good, bad = target.copy(), np.where(rng.random(120) < 0.5, target, "a")
    firm = layer_choice(target, [bad, good], group)
    assert choice_sentences({"m": firm}) == [
        "m: layer 1 is chosen in 100 % of resamples of the 12 groups of validation; every other layer is "
        "worse."
    ]
    equal = layer_choice(target, [good, good], group)
    (sentence,) = choice_sentences({"m": equal})
    assert sentence.endswith("validation; layer 1 cannot be told from it, and other groups may choose it.")
    # Models that cannot be judged are no findings of their own: they are named together.
    few = layer_choice(target, [good, good], np.repeat(np.arange(3), 40))
    assert choice_sentences({"m": few, "n": equal, "o": few})[1:] == [
        "m, o: 3 groups validated; 4 are needed to say how firmly they choose."
    ]
    assert choice_summary({"m": firm, "n": equal, "o": equal}) == (
        "Validation does not settle the layer of 2 of 3 models: 2 layers cannot be told from each other; "
        "of m it is settled."
    )
    assert choice_summary({"m": firm}) == "Validation tells the chosen layer from every other: 1 model."
    assert choice_summary({"m": few, "n": few}) == (
        "How firmly validation chooses layers cannot be told: 3 groups validated; 4 are needed to say how "
        "firmly they choose."
    )
    assert choice_summary({}) == ""


@pytest.mark.slow
def test_combinations_without_single_layers_have_their_interval(store: str, tmp_path: Path) -> None:
    """Both name the same rows: taken for one answer of a model, they named each row twice."""
    out = probed(store, tmp_path, combine=("concat", "weighted"), layers="1-2")
    data = load_report_data(out)
    (question,) = data.questions
    findings = data.findings[question.name]
    assert set(findings.judged_answers) == {"model-a", "model-bb"}
    for model, judged in findings.judged_answers.items():
        rows = question.answers[question.answers["model"] == model]
        best = rows.sort_values("score_val_mean", ascending=False).iloc[0]
        place = findings.judged_places[model, best["combine"], str(best["layers"])]
        assert "twice" not in judged.reason
        assert judged.interval is not None
        assert place.interval is not None
        assert judged.interval.estimate == place.interval.estimate
        assert judged.reason == place.reason
        assert findings.shown(model) == f"{model} {best['combine']}"
    assert csv_table(data)["uar_pooled"].notna().all()
