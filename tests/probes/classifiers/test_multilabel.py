"""Label sets: mAP against scikit-learn, binary cross-entropy against scikit-learn's logistic regression."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score

import cli
from featurestore import open_store
from featurestore.errors import ConfigError
from probes import ProbeConfig, answers, read_predictions, read_results, run_probe
from probes.classifiers.interface import Bundle, FittedProbe, Settings
from probes.classifiers.multilabel import cells_of, class_names, indicator, rarest_label
from probes.classifiers.registry import get_classifier
from probes.questions.labelled_rows import labelled
from probes.report import write_report
from probes.run.probe_plan import make_plan
from probes.run.task_worker import run_task
from probes.saved.chosen_probe import save_probe
from probes.saved.probe_files import read_probe
from probes.splits import make_split
from studies.terminal.console import print_saved_probe

Write = Callable[..., None]
SPECIES = ("ant", "bee", "cat")


@pytest.fixture
def sets_store(make_store: Write, table: pd.DataFrame, tmp_path: Path) -> str:
    """The layers say which call it is; every call stands for a set of species."""
    sets = {"peep": "ant", "phee": "ant|bee", "trill": "bee|cat", "tsik": "|", "": ""}
    own = table.assign(heard=table["call"].map(sets))
    make_store(tmp_path / "s.zarr", own, layers=(0, 2))
    return str(tmp_path / "s.zarr")


def config(store: str, out: Path, **more: object) -> ProbeConfig:
    grid = {"linear": {"max_epochs": 40, "batch_size": 32, "learning_rate": 0.02}}
    given = {"labels": ("heard",), "classifiers": ("linear",), "split": "random", "grid": grid, **more}
    return ProbeConfig(store=store, out=out, **given)  # type: ignore[arg-type]


def test_sets_go_there_and_back() -> None:
    cells = np.array(["a|b", "|", "b", "c|a"], dtype=object)
    assert class_names(cells) == ["a", "b", "c"]
    matrix = indicator(cells, ["a", "b", "c"])
    assert matrix.tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert cells_of(matrix, ["a", "b", "c"]).tolist() == ["a|b", "|", "b", "a|c"]
    assert rarest_label(cells).tolist() == ["a", "|", "b", "c"]


def test_rows_that_do_not_fit_are_refused(sets_store: str, tmp_path: Path) -> None:
    (task, *_) = make_plan(config(sets_store, tmp_path)).tasks
    with pytest.raises(ConfigError, match=r"memory: label sets of .* needs all 22. x 12 values at once"):
        run_task(task, 1 << 20)


@pytest.mark.slow
def test_saving_says_map(sets_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_probe(config(sets_store, tmp_path / "r", layers="2"))
    saved = save_probe(tmp_path / "r", tmp_path / "p")
    print_saved_probe(saved)
    said = capsys.readouterr().out
    assert f"mAP {100 * saved.card.scores['map_val']:.1f} % on validation" in said
    assert "nan" not in said


@pytest.mark.slow
def test_scores_equal_scikit_learns(sets_store: str, tmp_path: Path) -> None:
    run_probe(config(sets_store, tmp_path / "r"))
    table = read_results(tmp_path / "r")
    (answer,) = answers(table).to_dict("records")
    assert answer["metric"] == "mAP"
    assert answer["layer"] == 2
    assert table["uar_test"].isna().all()
    row = table[table["layer"] == 2].iloc[0]
    saved = save_probe(tmp_path / "r", tmp_path / "p")
    assert saved.card.reproduced["n_differ"] == 0
    features = open_store(sets_store).features("model-a", "calls")
    found = labelled(features, "heard")
    assert found.sets is not None
    test = make_split("random", found.rows, 0, 0).test
    x = features.layer(2).numpy()[found.position[test]].reshape(len(test), -1)
    p, y = read_probe(tmp_path / "p").scores(x), indicator(found.sets[test], ["ant", "bee", "cat"])
    assert row["map_test"] == pytest.approx(average_precision_score(y, p, average="macro"), abs=1e-5)
    assert row["f1_macro_test"] == pytest.approx(f1_score(y, p >= 0.5, average="macro"))
    assert row["chance"] == pytest.approx(y.mean(axis=0).mean())
    assert row["map_test"] > 0.9
    recorded = read_predictions(tmp_path / "r", table[table["layer"] == 2]).set_index("utterance_id")
    assert recorded.loc[found.rows.utterance_id[test], "prediction"].tolist() == saved_names(p)
    assert read_probe(tmp_path / "p").predict(x).tolist() == saved_names(p)
    page = write_report(tmp_path / "r", tmp_path / "report").html.read_text(encoding="utf-8")
    assert "mean average precision (mAP)" in page
    assert "Test mAP" in page
    record = json.loads((tmp_path / "r/_run.json").read_text())["splits"][0]
    assert record["parts"]["test"]["per_class"] == dict(
        zip(("ant", "bee", "cat"), y.sum(axis=0), strict=True)
    )


def saved_names(p: np.ndarray) -> list[str]:
    return [
        "|".join(n for n, v in zip(("ant", "bee", "cat"), row, strict=True) if v >= 0.5) or "|" for row in p
    ]


@pytest.mark.slow
def test_a_linear_probe_is_a_logistic_regression_per_class() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 5)).astype(np.float32)
    y = (x @ rng.standard_normal((5, 3)) + rng.standard_normal((400, 3)) > 0.3).astype(np.int64)
    settings = {"hidden": (), "max_epochs": 800, "batch_size": 400, "learning_rate": 0.05, "lr_patience": 800}
    always = np.ones_like(y)  # mAP of it is not defined: the last epoch is kept, as scikit-learn's is
    bundle = Bundle(x_train=x, y_train=y, x_val=x, y_val=always, n_classes=3, fits=((settings, 0),))
    (fit,) = get_classifier("linear").fit(bundle)
    assert fit.n_epochs == fit.best_epoch == 800
    p = fit.scores(x)
    for c in range(3):
        reference = LogisticRegression(C=np.inf).fit(x, y[:, c]).predict_proba(x)[:, 1]
        np.testing.assert_allclose(p[:, c], reference, atol=0.01)


def test_of_sets_too_the_last_epoch_can_be_kept() -> None:
    """Networks that autograd trains: the same run, cut off at that epoch, has these weights."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 5)).astype(np.float32)
    y = (x @ rng.standard_normal((5, 3)) + rng.standard_normal((200, 3)) > 0.3).astype(np.int64)
    settings = {"hidden": (8,), "max_epochs": 12, "patience": 3, "batch_size": 16, "learning_rate": 0.1}

    def fitted(targets: np.ndarray, **more: object) -> FittedProbe:
        bundle = Bundle(
            x_train=x[:100],
            y_train=y[:100],
            x_val=x[100:],
            y_val=targets,
            n_classes=3,
            fits=((settings | more, 0),),
        )
        return get_classifier("mlp").fit(bundle)[0]

    best, last = fitted(y[100:]), fitted(y[100:], keep="last")
    assert (best.n_epochs, best.best_epoch) == (last.n_epochs, last.best_epoch)
    assert last.best_epoch < last.n_epochs
    for kept, epoch in ((best, best.best_epoch), (last, last.n_epochs)):
        alone = fitted(np.ones_like(y[100:]), max_epochs=epoch, patience=99)  # no mAP: the last epoch is kept
        np.testing.assert_allclose(kept.scores(x), alone.scores(x), atol=1e-6)
    assert not np.allclose(best.scores(x), last.scores(x), atol=1e-3)


def test_fits_of_sets_that_train_together_equal_each_alone_and_share_the_time() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 5)).astype(np.float32)
    y = (x @ rng.standard_normal((5, 3)) + rng.standard_normal((200, 3)) > 0.3).astype(np.int64)
    settings = {"hidden": (8,), "max_epochs": 6, "patience": 2, "batch_size": 32, "dropout": 0.2}
    fits = (({**settings, "learning_rate": 0.05}, 0), ({**settings, "batch_size": 16}, 1), (settings, 2))

    def fitted(*asked: tuple[Settings, int]) -> list[FittedProbe]:
        bundle = Bundle(
            x_train=x[:150], y_train=y[:150], x_val=x[150:], y_val=y[150:], n_classes=3, fits=asked
        )
        return get_classifier("mlp").fit(bundle)

    started = time.perf_counter()
    together = fitted(*fits)
    assert 0 < sum(probe.fit_s for probe in together) < time.perf_counter() - started
    for probe, asked in zip(together, fits, strict=True):
        (alone,) = fitted(asked)
        assert (probe.n_epochs, probe.best_epoch) == (alone.n_epochs, alone.best_epoch)
        np.testing.assert_allclose(probe.scores(x), alone.scores(x), atol=1e-6)


def test_a_label_nobody_trained_is_never_predicted(
    make_store: Write, table: pd.DataFrame, tmp_path: Path
) -> None:
    sets = {"peep": "ant", "phee": "ant|bee", "trill": "bee", "tsik": "|", "": ""}
    split = np.array([("train", "train", "val", "test")[i % 4] for i in range(len(table))], dtype=object)
    heard = table["call"].map(sets).where(np.arange(len(table)) % 16 != 3, "ant|dodo")
    make_store(tmp_path / "s.zarr", table.assign(split=split, heard=heard), layers=(2,))
    # "dodo" is the rarest label of its rows, and stands in test alone: a single split needs it in training
    result = CliRunner().invoke(
        cli.main,
        [
            "probe",
            "--store",
            str(tmp_path / "s.zarr"),
            "--label",
            "heard",
            "--out",
            str(tmp_path / "r"),
            "-q",
        ],
    )
    assert result.exit_code == 2
    assert "'dodo'" in result.stderr


def test_what_cannot_be_done_with_sets_is_one_line(sets_store: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sets of labels: expected classifier mlp or linear, got lda"):
        run_probe(config(sets_store, tmp_path / "r", classifiers=("lda",), grid={}))
    with pytest.raises(ConfigError, match=r"sets of labels: controls are for single labels"):
        run_probe(config(sets_store, tmp_path / "r", controls=("mdl",)))
    assert not (tmp_path / "r").exists()
