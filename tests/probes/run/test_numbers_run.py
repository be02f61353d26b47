"""Numbers as labels from end to end: fits, scores, choices, what is refused, the terminal and the report."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.stats import pearsonr
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, r2_score

from cli import main
from featurestore import open_store
from featurestore.backends.storage import open_storage
from featurestore.errors import ConfigError, LabelError
from featurestore.manifest.table import from_table
from featurestore.store.key_request import KeyRequest
from featurestore.store.writer import open_key
from probes import ProbeConfig, ProbeProgress, read_predictions, read_results, run_probe
from probes.findings.refits import refit_findings
from probes.report import load_report_data, write_report
from probes.report.tables import csv_table
from probes.results.learning_curves import last_steps, learning_curves
from probes.results.results_folder import read_controls, read_curve, read_refits
from probes.results.selection import answers, control_summary, summarise
from tests.probes.conftest import write_made_units

N, D, N_GROUPS = 200, 8, 10
ASKED: dict[str, Any] = {
    "models": (),
    "layers": "1-2",
    "classifiers": ("ridge", "mlp"),
    "split": "group-kfold:3",
    "n_seeds": 2,
}
QUICK = {"mlp": {"max_epochs": 12, "batch_size": 16, "hidden": [16]}, "ridge": {"alpha": [1, 100]}}


def animals() -> pd.DataFrame:
    """Ages of animals that were recorded in sessions; of four clips nobody knows it."""
    rng = np.random.default_rng(5)
    group = np.arange(N) % N_GROUPS
    age = np.round(np.clip(rng.gamma(4, 1.5, N) + group / 4, 0.25, 40), 2)
    cells = [f"{a:g}" for a in age]
    for i in (3, 50, 51, 120):
        cells[i] = ""
    return pd.DataFrame(
        {
            "utterance_id": [f"u{i:04d}" for i in range(N)],
            "path": [f"{i}.wav" for i in range(N)],
            "split": "",
            "group": [f"animal-{g}" for g in group],
            "age": cells,
            "litter": rng.integers(1, 4, N).astype(str),
            "weight": [f"{10 + g * g}" for g in group],
            "species": ["cat" if i % 2 else "dog" for i in range(N)],
            "one": "7",
            "words": ["young" if a < 6 else c for a, c in zip(age, cells, strict=True)],
        }
    )


def write(
    path: Path, table: pd.DataFrame, model: str = "model-a", layers: tuple[int, ...] = (0, 1, 2)
) -> None:
    """Layers that tell the age ever better: layer 0 nothing, layer 2 most of it."""
    manifest = from_table(table, source="made", base=path, check_files=False)
    n, ids = len(table), table["utterance_id"].to_numpy(dtype=object)
    age = pd.to_numeric(table["age"]).fillna(0).to_numpy()
    request = KeyRequest(
        model=model,
        dataset="pets",
        fingerprint={"revision": 1},
        functionals=("mean", "std"),
        layers=layers,
        n_features=D,
        unit_rows=64,
    )
    writer, _ = open_key(open_storage(path), request, manifest, ids)
    values = {}
    for layer in layers:
        rng = np.random.default_rng([layer, len(model)])
        values[layer] = rng.standard_normal((n, 2, D))
        values[layer][:, 0, 0] += layer * (age - age.mean()) / age.std()
        values[layer][:, 1, 3] -= layer * (age - age.mean()) / age.std()
    write_made_units(writer, values, np.arange(n))


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("pets") / "s.zarr"
    write(path, animals())
    write(path, animals(), "model-bb", (1, 2))
    return str(path)


def config(store: str, out: Path, **changes: Any) -> ProbeConfig:
    given: dict[str, Any] = {"classifiers": ("ridge",), "labels": ("age",), "task": "regression", **changes}
    grid = {name: QUICK[name] for name in given["classifiers"] if name in QUICK}
    return ProbeConfig(**{"store": store, "out": out, "grid": grid, "models": ("model-a",), **given})


@pytest.fixture(scope="module")
def results(pets: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, ridge and MLP, three folds by animal."""
    out = tmp_path_factory.mktemp("results")
    run_probe(config(pets, out, **ASKED))
    return out


def test_a_fit_equals_one_by_hand(pets: str, tmp_path: Path) -> None:
    seen: list[ProbeProgress] = []
    run_probe(config(pets, tmp_path, layers="2", split="group"), progress=seen.append)
    table = read_results(tmp_path)
    features, truth = open_store(pets).features("model-a", "pets"), animals().set_index("utterance_id")
    x = pd.DataFrame(
        features.layer(2).numpy().reshape(N, -1).astype(np.float64), index=features.index["utterance_id"]
    )
    part = pd.read_parquet(next((tmp_path / "_splits").glob("*.parquet"))).set_index("utterance_id")["0"]
    assert len(part) == N - 4
    ids = {name: part.index[part == name] for name in ("train", "val", "test")}
    y = {name: truth.loc[of, "age"].astype(float).to_numpy() for name, of in ids.items()}
    mean, std = x.loc[ids["train"]].mean(), x.loc[ids["train"]].std(ddof=0)
    assert len(table) == 2
    for _, row in table.iterrows():
        alpha = json.loads(row["hparams"])["alpha"]
        fit = Ridge(alpha=alpha).fit(((x.loc[ids["train"]] - mean) / std).to_numpy(), y["train"])
        guess = {name: fit.predict(((x.loc[of] - mean) / std).to_numpy()) for name, of in ids.items()}
        found = read_predictions(tmp_path, table[table["fingerprint"] == row["fingerprint"]])
        found = found.set_index("utterance_id").loc[ids["test"]]
        np.testing.assert_allclose(found["prediction"].astype(float), guess["test"], rtol=1e-5)
        np.testing.assert_array_equal(found["target"].astype(float), y["test"])
        for name, of_part in y.items():
            assert row[f"r2_{name}"] == pytest.approx(r2_score(of_part, guess[name]), abs=1e-6)
            assert row[f"n_{name}"] == len(of_part)
        assert row["pearson_test"] == pytest.approx(pearsonr(y["test"], guess["test"])[0], abs=1e-6)
        assert row["mae_test"] == pytest.approx(mean_absolute_error(y["test"], guess["test"]), rel=1e-5)
        always = np.full(len(y["test"]), y["train"].mean())
        assert row["chance"] == pytest.approx(r2_score(y["test"], always))
        assert row["chance"] <= 0
        assert row["chance_mae"] == pytest.approx(mean_absolute_error(y["test"], always))
    assert table[["uar_test", "accuracy_test", "majority_uar"]].isna().all(axis=None)
    assert seen[-1].best_uar["model-a"] == pytest.approx(table["r2_val"].max())


@pytest.mark.slow
def test_the_layer_that_knows_most_is_chosen_by_validation(results: Path) -> None:
    found = summarise(read_results(results))
    assert set(found["metric"]) == {"R²"}
    assert found["uar_test_mean"].isna().all()
    assert set(found.loc[found["best"], "layer"]) == {2}
    curve = found[(found["model"] == "model-a") & (found["classifier"] == "ridge")].set_index("layer")
    assert 0.2 < curve.loc[1, "r2_test_mean"] < curve.loc[2, "r2_test_mean"]
    assert set(answers(read_results(results))["layers"]) == {"2"}


@pytest.mark.slow
def test_a_second_run_fits_nothing(pets: str, results: Path) -> None:
    summary = run_probe(config(pets, results, **ASKED))
    # 4 layers x 3 folds x (2 strengths + 2 seeds)
    assert (summary.n_fitted, summary.n_cached) == (0, 48)


@pytest.mark.slow
def test_shuffled_numbers_teach_nothing(pets: str, tmp_path: Path) -> None:
    run_probe(config(pets, tmp_path, layers="2", split="group-kfold:5", controls=("shuffled-labels",)))
    controls = read_controls(tmp_path)
    assert len(controls) == 10
    assert controls["r2_test"].mean() < 0.05
    (row,) = control_summary(read_results(tmp_path), controls).to_dict("records")
    assert row["control_test"] < 0.05
    assert row["selectivity"] == pytest.approx(
        summarise(read_results(tmp_path))["score_test_mean"].iloc[0] - row["control_test"]
    )


@pytest.mark.parametrize(
    "split",
    [
        "random",
        "group",
        *(
            pytest.param(split, marks=pytest.mark.slow)
            for split in ("kfold:4", "nested:3x2", "group-nested:3", "logo", "fold:litter")
        ),
    ],
)
def test_splits_draw_numbers_as_they_come(pets: str, tmp_path: Path, split: str) -> None:
    summary = run_probe(config(pets, tmp_path, layers="2", split=split))
    table, part = summary.table, pd.read_parquet(next((tmp_path / "_splits").glob("*.parquet")))
    assert (table["n_train"] + table["n_val"] + table["n_test"] == N - 4).all()
    for fold in part.columns.drop(["utterance_id", "label", "group"]):
        assert set(part[fold]) == {"train", "val", "test"}
        if "group" in split or split == "logo":
            assert part.groupby("group")[fold].nunique().max() == 1


def test_few_whole_numbers_and_a_default_split(pets: str, tmp_path: Path) -> None:
    summary = run_probe(config(pets, tmp_path, labels=("litter",), layers="2"))
    assert set(summary.table["split"]) == {"group"}
    assert summary.table["r2_test"].notna().all()


@pytest.mark.slow
def test_test_clips_of_one_value_have_no_score(pets: str, tmp_path: Path) -> None:
    notes: list[str] = []
    summary = run_probe(
        config(pets, tmp_path, labels=("weight",), layers="2", split="logo"), on_notes=notes.extend
    )
    assert summary.table["r2_test"].isna().all()
    assert summary.table["mae_test"].notna().all()
    assert any("in 10 of 10 folds all test clips have one value" in note for note in notes)
    (row,) = summary.best.to_dict("records")
    assert np.isnan(row["score_test_mean"])
    data = load_report_data(tmp_path)
    (judged,) = data.findings[data.questions[0].name].judged_answers.values()
    said = read_predictions(tmp_path, data.questions[0].answer_fits)
    pooled = r2_score(said["target"].astype(float), said["prediction"].astype(float))
    assert judged.interval.estimate == pytest.approx(pooled)
    table = CliRunner().invoke(main, ["report", str(tmp_path), "--out", str(tmp_path / "report")])
    assert table.exit_code == 0, table.output
    assert "not defined" in table.output
    assert "nan" not in table.output.lower().replace("finance", "")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"labels": ("words",)}, r"label 'words'.*--task regression expected numbers.*got 'young'"),
        ({"labels": ("species",)}, "expected numbers such as 3 or 0.25, got '(cat|dog)'.*and 199 more"),
        (
            {"labels": ("one",)},
            r"all \d+ training clips have the value 7.0, so that there is nothing to learn",
        ),
        ({"classifiers": ("logreg",)}, "logreg predicts no numbers.*ridge"),
        ({"combine": ("weighted",)}, "combine weighted: classifier ridge cannot learn weights of layers"),
        ({"controls": ("mdl",)}, "control mdl: is of classes"),
        ({"controls": ("group-labels",)}, "control group-labels: is of classes"),
        ({"split": "stratified-group"}, "no classes to draw equal shares of; take 'group'"),
        ({"split": "stratified"}, "take 'random'"),
        ({"task": "numbers"}, "--task: expected classification or regression, got 'numbers'"),
        (
            {"grid": {"mlp": {"class_weight": "balanced"}}, "classifiers": ("mlp",)},
            "class_weight is of classes",
        ),
        (
            {"grid": {"mlp": {"label_smoothing": 0.1}}, "classifiers": ("mlp",)},
            "label_smoothing is of classes",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    pets: str, tmp_path: Path, changes: dict[str, Any], error: str
) -> None:
    with pytest.raises((ConfigError, LabelError), match=error) as raised:
        run_probe(config(pets, tmp_path / "r", **changes))
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / "r" / "results.parquet").exists()


def test_validation_clips_of_one_value_choose_nothing(tmp_path: Path) -> None:
    table = animals()
    table["split"] = ["val" if i < 40 else "test" if i < 80 else "train" for i in range(N)]
    table.loc[:39, "age"] = "4"
    write(tmp_path / "s", table)
    with pytest.raises(
        LabelError, match=r"all 40 validation clips have the value 4.0, so that R² is not defined"
    ):
        run_probe(config(str(tmp_path / "s"), tmp_path / "r"))


@pytest.mark.slow
def test_a_label_is_classes_or_numbers_in_one_folder(pets: str, tmp_path: Path) -> None:
    run_probe(config(pets, tmp_path, labels=("litter",), layers="2", split="random"))
    as_classes = ProbeConfig(
        store=pets, labels=("litter",), out=tmp_path, layers="2", split="random", classifiers=("logreg",)
    )
    with pytest.raises(
        ConfigError, match=r"'litter' of pets: these results hold it as numbers.*another --out"
    ):
        run_probe(as_classes)
    run_probe(ProbeConfig(**{**vars(as_classes), "labels": ("species",)}))
    data = load_report_data(tmp_path)
    assert {q.label: q.metric for q in data.questions} == {"litter": "R²", "species": "UAR"}
    page = write_report(data, tmp_path / "report").html.read_text("utf-8")
    assert "explained variance (R²)" in page
    assert "unweighted average recall (UAR)" in page


@pytest.mark.slow
def test_a_share_of_the_animals_is_fitted_as_if_there_were_no_others(pets: str, tmp_path: Path) -> None:
    run_probe(
        config(
            pets,
            tmp_path,
            layers="2",
            split="group",
            grid={"ridge": {"alpha": 10}},
            curves=("groups", "rows"),
            curve_draws=2,
            curve_shares="50",
        )
    )
    fits = read_curve(tmp_path)
    features, truth = open_store(pets).features("model-a", "pets"), animals().set_index("utterance_id")
    x = pd.DataFrame(features.layer(2).numpy().reshape(N, -1), index=features.index["utterance_id"])
    part = pd.read_parquet(next((tmp_path / "_splits").glob("*.parquet"))).set_index("utterance_id")
    test = part.index[part["0"] == "test"]
    of_train = part[part["0"] == "train"]
    groups = sorted(set(of_train["group"]))
    half = fits[(fits["curve"] == "groups") & (fits["share"] == 0.5)]
    n_half = (len(groups) + 1) // 2
    assert set(half["n_train_groups"]) == {n_half}
    expected = []
    for of in itertools.combinations(groups, n_half):
        ids = of_train.index[of_train["group"].isin(of)]
        rows, y = x.loc[ids].to_numpy(np.float64), truth.loc[ids, "age"].astype(float).to_numpy()
        mean, std = rows.mean(axis=0), rows.std(axis=0)
        guess = Ridge(alpha=10).fit((rows - mean) / std, y).predict((x.loc[test].to_numpy() - mean) / std)
        expected.append(r2_score(truth.loc[test, "age"].astype(float), guess))
    for score in half["r2_test"]:
        assert np.abs(np.subtract(expected, score)).min() < 1e-5
    table = learning_curves(tmp_path).set_index(["curve", "share"])
    assert set(table["metric"]) == {"R²"}
    assert table.loc[("groups", 0.5), "score_mean"] == pytest.approx(half["r2_test"].mean())
    assert table["uar_mean"].isna().all()
    for step in last_steps(tmp_path):
        assert "R² " in step.sentence()
    page = write_report(tmp_path, tmp_path / "report").html.read_text("utf-8")
    assert "Learning curves" in page
    assert "Test R² by share" in page


@pytest.mark.slow
def test_the_chosen_fit_is_made_again_on_validation_rows_too(pets: str, tmp_path: Path) -> None:
    run_probe(
        config(pets, tmp_path, layers="1-2", split="group", classifiers=("ridge", "mlp"), refit="train+val")
    )
    again, table = read_refits(tmp_path), read_results(tmp_path)
    assert again["r2_val"].isna().all()
    assert again["r2_test"].notna().all()
    row = again[again["classifier"] == "ridge"].iloc[0]
    features, truth = open_store(pets).features("model-a", "pets"), animals().set_index("utterance_id")
    layer = features.layer(int(row["layer"])).numpy().reshape(N, -1).astype(np.float64)
    x = pd.DataFrame(layer, index=features.index["utterance_id"])
    part = pd.read_parquet(next((tmp_path / "_splits").glob("*.parquet"))).set_index("utterance_id")["0"]
    ids, test = part.index[part != "test"], part.index[part == "test"]
    y, mean, std = truth["age"].replace("", "nan").astype(float), x.loc[ids].mean(), x.loc[ids].std(ddof=0)
    fit = Ridge(alpha=json.loads(row["hparams"])["alpha"]).fit(((x.loc[ids] - mean) / std).to_numpy(), y[ids])
    guess = fit.predict(((x.loc[test] - mean) / std).to_numpy())
    assert row["r2_test"] == pytest.approx(r2_score(y[test], guess), abs=1e-6)
    found = {f.question["classifier"]: f for f in refit_findings(tmp_path)}
    assert found["ridge"].score == pytest.approx(row["r2_test"])
    assert found["ridge"].judged.interval.estimate == pytest.approx(row["r2_test"])
    before = table.set_index("fingerprint").loc[row["refit_of"], "r2_test"]
    assert found["ridge"].chosen_score == pytest.approx(before)
    (epochs,) = again.loc[again["classifier"] == "mlp", "n_epochs"]
    chosen = table.set_index("fingerprint").loc[again.loc[again["classifier"] == "mlp", "refit_of"].item()]
    assert epochs == chosen["best_epoch"]


@pytest.mark.slow
def test_methods_tell_classes_from_numbers_of_one_classifier(pets: str, tmp_path: Path) -> None:
    quick = {"linear": {"max_epochs": 2}}
    classes = {"labels": ("species",), "task": "classification"}
    for asked in ({}, classes):
        for split in ("random", "kfold:3"):
            given = {"classifiers": ("linear",), "grid": quick, "layers": "2", "split": split, **asked}
            run_probe(config(pets, tmp_path, **given))
    methods = write_report(tmp_path, tmp_path / "report").methods.read_text("utf-8")
    for words in (
        "linear` is linear regression",
        "linear` is softmax regression",
        "trained for the squared error",
        "trained for the cross-entropy",
        "70/20/10 of the rows, drawn at random",
        "70/20/10 of every class, drawn at random",
        "K folds of nearly equal size, drawn at random",
        "K folds with equal shares of every class",
    ):
        assert len(re.findall(re.escape(words), methods, re.IGNORECASE)) == 1, (words, methods)


def test_what_was_asked_before_has_the_configuration_of_before(pets: str, tmp_path: Path) -> None:
    plain = ProbeConfig(store=pets, labels=("species",), out=tmp_path)
    assert "task" not in plain.to_json()
    assert config(pets, tmp_path).to_json()["task"] == "regression"


@pytest.mark.slow
def test_scores_of_the_table_are_those_of_the_predictions(results: Path) -> None:
    data = load_report_data(results)
    table = csv_table(data)
    assert table["uar_pooled"].isna().all()
    for question in data.questions:
        findings = data.findings[question.name]
        for model, fits in question.answer_fits_by_model.items():
            said = read_predictions(results, fits).merge(fits[["fingerprint", "seed"]], on="fingerprint")
            y, guess = said["target"].astype(float), said["prediction"].astype(float)
            by_seed = [rows.index for _, rows in said.groupby("seed")]
            scores = findings.number_scores[model]
            assert scores["r2"].estimate == pytest.approx(
                np.mean([r2_score(y[i], guess[i]) for i in by_seed])
            )
            assert scores["mae"].estimate == pytest.approx(
                np.mean([mean_absolute_error(y[i], guess[i]) for i in by_seed])
            )
            assert scores["r2"].n_groups == N_GROUPS
            assert scores["r2"].low < scores["r2"].estimate < scores["r2"].high < 1
            place = table[
                (table["model"] == model)
                & (table["classifier"] == question.classifier)
                & (table["layers"] == "2")
            ]
            assert place["r2_pooled"].item() == pytest.approx(scores["r2"].estimate)
            assert 0 < place["chosen_share"].item() <= 1
        (compared,) = [c for c in findings.model_comparisons if c.contrast == "models"]
        a, b = (findings.judged_answers[m].influence.estimate for m in (compared.a, compared.b))
        assert compared.result.difference == pytest.approx(a - b)


@pytest.mark.slow
def test_the_terminal_shows_scores_of_numbers(pets: str, tmp_path: Path) -> None:
    arguments = ["probe", "--store", pets, "--label", "age", "--task", "regression", "--classifier", "ridge"]
    shown = CliRunner().invoke(
        main,
        [*arguments, "--split", "group-kfold:5", "--quiet", "--out", str(tmp_path)],
        env={"COLUMNS": "160"},
    )
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.output.split())
    for text in ("Test R² in %", "always the mean of training: R² -", "Pearson's r", "Lin's concordance"):
        assert text in words
    assert "mean absolute error" in words
    assert "recall" not in words.lower()
    # the six strengths that are tried unless a grid names them, of 5 layers in 5 folds
    assert len(read_results(tmp_path)) == 6 * 5 * 5


@pytest.mark.slow
def test_the_report_is_of_numbers(results: Path, tmp_path: Path) -> None:
    paths = write_report(results, tmp_path)
    page = paths.html.read_text("utf-8")
    for text in ("explained variance (R²)", "Lin&#39;s concordance", "Mean abs. error", "--task regression"):
        assert text in page, text
    for text in ("Class by class", "most frequent class", "Macro F1", ">nan", "nan to"):
        assert text not in page, text
    methods = paths.methods.read_text("utf-8")
    assert "squared error" in methods
    assert "cross-entropy" not in methods
    assert "It is a number from" in methods
    assert "0 classes" not in methods
    assert "mislabelled" not in methods
    assert "of every class" not in methods
    assert "of every class" not in page
    assert "R$^2$ in \\%" in paths.tables.read_text("utf-8")
    assert len(pd.read_csv(paths.mistakes)) == 0
