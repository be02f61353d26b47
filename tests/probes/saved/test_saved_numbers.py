"""Saved probes of numbers: scikit-learn's ridge on the same rows, MAPIE's intervals, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from featurestore import open_store
from featurestore.errors import ConfigError, CorruptData, StoreError, UnknownFormat
from featurestore.fingerprint import digest
from probes import read_predictions, read_results, run_probe
from probes.saved.chosen_probe import save_probe
from probes.saved.prediction_intervals import IntervalRule, interval_rule, interval_sentences
from probes.saved.prediction_sets import least_probability
from probes.saved.probe_files import CONTENT_HASH, JSON_NAME, WEIGHTS_NAME, SavedProbe, read_probe
from studies.prediction import predict_store
from tests.command_line import fs, good, one_line_error
from tests.probes.run.test_numbers_run import N, animals, config, write


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("pets") / "s.zarr"
    write(path, animals())
    return str(path)


@pytest.fixture(scope="module")
def folder(pets: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of ridge on layers 1 and 2, its probe, and that fitted again on all rows."""
    root = tmp_path_factory.mktemp("numbers")
    run_probe(config(pets, root / "r", layers="1-2", split="group"))
    save_probe(root / "r", root / "p")
    save_probe(root / "r", root / "all", refit="all")
    return root


@pytest.fixture(scope="module")
def probe(folder: Path) -> SavedProbe:
    return read_probe(folder / "p")


def rows_of(store: str, folder: Path, layers: tuple[int, ...]) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Rows by utterance, ages, and parts, by nothing but the store's arrays and the split that was kept."""
    features, truth = open_store(store).features("model-a", "pets"), animals().set_index("utterance_id")
    x = np.concatenate([features.layer(k).numpy().reshape(N, -1) for k in layers], axis=1)
    part = pd.read_parquet(next((folder / "r" / "_splits").glob("*.parquet"))).set_index("utterance_id")["0"]
    y = truth.loc[part.index, "age"].astype(float)
    return pd.DataFrame(x.astype(np.float64), index=features.index["utterance_id"]), y, part


def by_sklearn(x: pd.DataFrame, y: pd.Series, ids: Any, alpha: float) -> np.ndarray:
    fit = make_pipeline(StandardScaler(), Ridge(alpha=alpha)).fit(x.loc[ids].to_numpy(), y[ids].to_numpy())
    return np.asarray(fit.predict(x.to_numpy()))


def test_what_is_predicted_is_scikit_learns_ridge(pets: str, folder: Path, probe: SavedProbe) -> None:
    card = probe.card
    assert (card.layers, card.classes, card.probabilistic, card.calibration) == ((2,), (), False, {})
    assert card.reproduced["n_differ"] == 0
    x, y, part = rows_of(pets, folder, card.layers)
    expected = by_sklearn(x, y, part.index[part == "train"], card.hparams["alpha"])
    np.testing.assert_allclose(probe.predict(x.to_numpy()), expected, rtol=1e-5)
    table = predict_store(folder / "p", pets).table.set_index("utterance_id")
    np.testing.assert_allclose(table.loc[x.index, "prediction"], expected, rtol=1e-5)
    assert table["prediction"].dtype == np.float64
    assert table["probability"].isna().all()
    test = part.index[part == "test"]
    score = r2_score(y[test], table.loc[test, "prediction"])
    assert card.scores["r2_test"] == pytest.approx(score, abs=1e-6)
    assert card.numbers["mean"] == pytest.approx(y[part == "train"].mean())
    assert card.numbers["scale"] == pytest.approx(y[part == "train"].std(ddof=0))
    # in the unit of the label, and not of what was fitted
    assert abs(expected.mean() - y.mean()) < y.std() / 2 < y.mean()


def test_all_rows_are_learned_from_with_refit(pets: str, folder: Path) -> None:
    card = read_probe(folder / "all").card
    x, y, _ = rows_of(pets, folder, card.layers)
    expected = by_sklearn(x, y, y.index, card.hparams["alpha"])
    np.testing.assert_allclose(predict_store(folder / "all", pets).table["prediction"], expected, rtol=1e-5)
    assert (card.refit["rows"], card.refit["n_rows"]) == ("all", N - 4)
    assert "score_test" not in card.refit
    with pytest.raises(ConfigError, match="fitted again on its validation clips"):
        interval_rule(read_probe(folder / "all"), 0.5, folder)


@pytest.mark.slow
def test_with_training_and_validation_rows_the_test_rows_score_it(pets: str, folder: Path) -> None:
    card = save_probe(folder / "r", folder / "more", refit="train+val").card
    x, y, part = rows_of(pets, folder, card.layers)
    guess = by_sklearn(x, y, part.index[part != "test"], card.hparams["alpha"])
    test = part.index[part == "test"]
    expected = r2_score(y[test], pd.Series(guess, index=x.index)[test])
    assert card.refit["score_test"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("classifier", "combine"),
    [("mlp", "each"), ("linear", "each"), ("mlp", "weighted"), ("ridge", "concat"), ("linear", "concat")],
)
def test_predictions_on_record_come_back(pets: str, tmp_path: Path, classifier: str, combine: str) -> None:
    grid = {} if classifier == "ridge" else {classifier: {"max_epochs": 12, "batch_size": 16}}
    run_probe(
        config(
            pets, tmp_path / "r", layers="1-2", split="random", classifiers=(classifier,), combine=(combine,),
            grid=grid, n_seeds=2,
        )
    )  # fmt: skip
    card = save_probe(tmp_path / "r", tmp_path / "p").card
    assert card.reproduced["n_differ"] == 0
    table = read_results(tmp_path / "r")
    said = read_predictions(tmp_path / "r", table[table["fingerprint"] == card.question])
    found = predict_store(tmp_path / "p", pets).table.set_index("utterance_id")["prediction"]
    recorded = said["prediction"].astype(float)
    np.testing.assert_allclose(found[said["utterance_id"]], recorded, atol=1e-3 * card.numbers["scale"])
    # what anybody makes of the two files
    weights = load_file(tmp_path / "p" / WEIGHTS_NAME)
    if (classifier, combine) == ("linear", "concat"):
        x, _, _ = rows_of(pets, tmp_path, card.layers)
        z = (x.to_numpy() - weights["standardiser.mean"]) / weights["standardiser.scale"]
        z = z @ weights["probe.linear.0.weight"][0] + weights["probe.linear.0.bias"][0]
        numbers = json.loads((tmp_path / "p" / JSON_NAME).read_text())["numbers"]
        np.testing.assert_allclose(found[x.index], z * numbers["scale"] + numbers["mean"], rtol=1e-4)


def test_a_fit_that_is_another_is_counted(
    pets: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probes.saved import chosen_probe

    made: Callable[..., Any] = chosen_probe.fit_bundle

    def shifted(fit: Any, x: np.ndarray) -> np.ndarray:
        return np.asarray(fit.scores(x) + np.where(np.arange(len(x)) < 3, 0.1, 0)[:, None])

    def other(*asked: Any, **more: Any) -> Any:
        return [replace(fit, scores=partial(shifted, fit)) for fit in made(*asked, **more)]

    monkeypatch.setattr(chosen_probe, "fit_bundle", other)
    assert save_probe(folder / "r", tmp_path / "p").card.reproduced["n_differ"] == 3


class TestIntervals:
    """How wide they are, and what they promise."""

    def test_the_width_is_the_usual_quantile_over_groups_of_one(self) -> None:
        residual = np.abs(np.random.default_rng(0).standard_normal(57))
        usual = np.sort(residual)[math.ceil(58 * Fraction(9, 10)) - 1]
        assert -least_probability(-residual, np.arange(57, dtype=np.int32), 0.9) == usual

    @pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
    def test_intervals_are_those_of_mapie(self, probe: SavedProbe, folder: Path, level: float) -> None:
        regression = pytest.importorskip("mapie.regression", exc_type=ImportError)
        rng = np.random.default_rng(1)
        predicted, new = rng.normal(10, 4, 83), rng.normal(10, 4, 50)
        target = predicted + rng.standard_t(3, 83)

        class Given(RegressorMixin, BaseEstimator):  # type: ignore[misc]
            n_features_in_ = 1

            def fit(self, x: Any, y: Any) -> Given:
                return self

            def predict(self, x: Any) -> Any:
                return np.asarray(x)[:, 0]

        mapie = regression.SplitConformalRegressor(
            Given(), confidence_level=level, conformity_score="absolute", prefit=True
        )
        mapie.conformalize(predicted[:, None], target)
        _, theirs = mapie.predict_interval(new[:, None])
        assert probe.validation_numbers is not None
        rows = replace(
            probe.validation_numbers, predicted=predicted, target=target, group=np.arange(83, dtype=np.int32)
        )
        rule = interval_rule(replace(probe, validation_numbers=rows), level, folder)
        np.testing.assert_allclose(np.stack(rule.ends(new), axis=1), theirs[:, :, 0], rtol=1e-12)

    def test_every_group_counts_as_one(self, pets: str, folder: Path, probe: SavedProbe) -> None:
        """Every width tried, shares as fractions, over the rows and groups of the store itself."""
        x, y, part = rows_of(pets, folder, probe.card.layers)
        ids = part.index[part == "val"]
        group = animals().set_index("utterance_id").loc[ids, "group"]
        off = pd.Series(by_sklearn(x, y, part.index[part == "train"], probe.card.hparams["alpha"]), x.index)
        off = (off[ids] - y[ids]).abs()
        n = group.nunique()
        rule = interval_rule(probe, n / (n + 2), folder)
        asked = Fraction(n, n + 2)
        enough = [
            width
            for width in sorted(off)
            if sum(Fraction(int((of <= width).sum()), len(of)) for _, of in off.groupby(group)) / (n + 1)
            >= asked
        ]
        assert rule.half_width == pytest.approx(enough[0], rel=1e-5)
        assert (rule.n_rows, rule.n_groups, rule.n_groups_trained) == (len(ids), n, 0)
        with pytest.raises(ConfigError, match=rf"at least {n + 1} groups .* keeps those of {n}"):
            interval_rule(probe, (n + 0.5) / (n + 1.5), folder)
        with pytest.raises(ConfigError, match="above 0 and below 1"):
            interval_rule(probe, 90, folder)
        with pytest.raises(ConfigError, match="keeps no validation clips; save it again"):
            interval_rule(replace(probe, validation_numbers=None), 0.5, folder)

    def test_what_is_promised_is_said(self) -> None:
        rule = IntervalRule(level=0.9, half_width=1.25, n_rows=40, n_groups=12, n_groups_trained=3)
        said = " ".join(interval_sentences(rule))
        assert "every prediction ± 1.25" in said
        assert (
            "over new groups and their clips, if these are drawn as the 40 validation clips of 12 groups were"
            in said
        )
        assert "3 of the 12 groups have training clips too" in said
        low, high = rule.ends(np.array([2.0, np.nan]))
        assert (low[0], high[0]) == (0.75, 3.25)
        assert np.isnan([low[1], high[1]]).all()


@pytest.mark.parametrize("n_recordings", [19, 50])
def test_intervals_hold_the_number_in_new_recordings_and_counting_clips_would_not(n_recordings: int) -> None:
    """One recording in three is long and clear, the others short and noisy; each has a bias of its own."""

    def recordings(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        long = rng.uniform(size=n) < 1 / 3
        group = np.repeat(np.arange(n), np.where(long, 60, 6))
        off = (np.where(long, 0.2, 1.0) * rng.standard_normal(n))[group]
        return np.abs(off + np.where(long, 0.2, 1.0)[group] * rng.standard_normal(len(group))), group

    held = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        (residual, group), (new, of) = recordings(rng, n_recordings), recordings(rng, 200)
        found = []
        for by in (group, np.arange(len(group))):
            within = new <= -least_probability(-residual, by.astype(np.int32), 0.9)
            found.append(np.mean(np.bincount(of, within) / np.bincount(of)))
        held.append(found)
    mean, error = np.mean(held, axis=0), np.std(held, axis=0, ddof=1) / math.sqrt(len(held))
    assert 0.9 - 3 * error[0] <= mean[0] <= 0.9 + 1 / (n_recordings + 1) + 3 * error[0]
    assert mean[1] < 0.9 - 3 * error[1] - 0.02


def test_from_the_command_line(pets: str, folder: Path, tmp_path: Path) -> None:
    said = " ".join(good("save-probe", folder / "r", "--out", tmp_path / "p").output.split())
    assert "R² " in said
    assert "Lin's concordance" in said
    assert "fs detect" not in said
    asked = ("predict", "--probe", tmp_path / "p", "--store", pets, "--out")
    said = " ".join(good(*asked, tmp_path / "p.csv", "--sets", 0.5).output.split())
    assert "200 labelled: from " in said
    assert "an interval holds the number of its clip with a chance of 0.5 or more" in said
    exact = dict.fromkeys(("prediction", "prediction_high"), float)
    table = pd.read_csv(tmp_path / "p.csv", converters=exact)
    assert list(table.columns) == [
        "utterance_id", "path", "start_s", "end_s", "status", "prediction", "probability", "prediction_low",
        "prediction_high",
    ]  # fmt: skip
    # all digits, as from Python
    found = predict_store(folder / "p", pets, sets=0.5)
    assert table["prediction"].tolist() == found.table["prediction"].tolist()
    assert isinstance(found.rule, IntervalRule)
    assert (table["prediction_high"] - table["prediction"]).to_numpy() == pytest.approx(found.rule.half_width)
    good(*asked, tmp_path / "p.csv")  # over an answer with intervals
    assert "prediction_low" not in (tmp_path / "p.csv").read_text()
    good(*asked, tmp_path / "p.parquet")
    assert pd.read_parquet(tmp_path / "p.parquet")["prediction"].tolist() == table["prediction"].tolist()
    one_line_error(fs(*asked, tmp_path / "q.csv", "--sets", 0.99), "--sets 0.99", "at least 99 groups")
    (tmp_path / "mine.csv").write_text("utterance_id,path,start_s,end_s,status,prediction,probability,p:a\n")
    one_line_error(fs(*asked, tmp_path / "mine.csv"), "columns of yours ('p:a')")
    one_line_error(
        fs("detect", "--probe", tmp_path / "p", tmp_path, "--out", tmp_path / "o"),
        "predicts a number (age)",
        "events are of classes",
    )
    assert not (tmp_path / "o").exists()


def test_a_store_that_changed_is_said_how(pets: str, folder: Path, tmp_path: Path) -> None:
    table = animals()
    table.loc[7, "age"] = "39"
    write(tmp_path / "s", table)
    with pytest.raises(
        StoreError, match=r"changed since this probe was fitted \(.*label age changed in 1 row"
    ):
        save_probe(folder / "r", tmp_path / "p", store=str(tmp_path / "s"))


def forged(folder: Path, **changes: Any) -> None:
    """Changed by somebody who made the hash anew; None takes away."""
    content = json.loads((folder / JSON_NAME).read_text())
    content = {k: v for k, v in {**content, **changes}.items() if v is not None and k != CONTENT_HASH}
    (folder / JSON_NAME).write_text(json.dumps({**content, CONTENT_HASH: digest(content)}))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"format_version": 7}, "format version 7, this program reads up to 6; upgrade featurestore-audio"),
        ({"numbers": None}, "classes: expected one at least"),
        ({"classes": ["a"]}, "numbers and no class"),
        ({"numbers": {"mean": 1.0, "scale": 0, "n_groups_trained": 0}}, "scale: expected a number above 0"),
        ({"numbers": {"mean": None, "scale": 1.0, "n_groups_trained": 0}}, "numbers.mean: expected a finite"),
        ({"numbers": {"mean": 1.0}}, "numbers"),
        ({"multilabel": True}, "expected no label sets"),
        ({"kind": "mlp"}, "sizes"),
        ({"kind": "sklearn"}, "predicts no numbers"),
    ],
)
def test_what_cannot_be_a_probe_is_one_line(
    folder: Path, tmp_path: Path, changes: dict[str, Any], error: str
) -> None:
    for name in (JSON_NAME, WEIGHTS_NAME):
        (tmp_path / name).write_bytes((folder / "p" / name).read_bytes())
    assert json.loads((tmp_path / JSON_NAME).read_text())["format_version"] == 6
    forged(tmp_path, **changes)
    with pytest.raises((CorruptData, UnknownFormat), match=error) as raised:
        read_probe(tmp_path)
    assert len(str(raised.value).splitlines()) == 1
