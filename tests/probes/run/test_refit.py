"""Chosen fits made again on more rows: against scikit-learn and plain PyTorch, kept apart, and resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from framed_store import clips, ragged
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler
from torch import nn

from featurestore import open_store
from featurestore.errors import ConfigError
from probes import ProbeConfig, read_predictions, read_results, run_probe
from probes.classifiers.interface import Bundle
from probes.classifiers.registry import classifier_for, expand_grid
from probes.findings.refits import refit_findings
from probes.questions.labelled_rows import labelled
from probes.report import load_report_data, write_report
from probes.report.clips.embedded_keys import EmbeddedKeys
from probes.report.methods.document import methods
from probes.results.results_folder import REFIT_NAME, read_refits
from probes.results.selection import chosen_fits
from probes.saved.chosen_probe import save_probe
from probes.saved.probe_files import read_probe
from probes.splits import make_splits

SPLIT = "random"


def asked(store: str, out: Path, **more: Any) -> ProbeConfig:
    given = {"models": ("model-a",), "split": SPLIT, "classifiers": ("logreg",), "refit": "train+val", **more}
    return ProbeConfig(store=store, labels=("call",), out=out, **given)


def parts(store: str, layer: int) -> dict[str, tuple[np.ndarray, np.ndarray, list[str]]]:
    """Raw rows `[n, d]`, calls and ids of each part, ascending."""
    features = open_store(store).features("model-a", "calls")
    found = labelled(features, "call", SPLIT)
    (split,) = make_splits(SPLIT, found.rows, 0)
    x = features.layer(layer).numpy()
    out = {}
    for name, rows in split.parts():
        rows = np.sort(rows)
        at = found.position[rows]
        ids = features.index["utterance_id"].iloc[at].tolist()
        out[name] = (x[at].reshape(len(at), -1), found.rows.label[rows].astype(str), ids)
    return out


def together(of: dict[str, tuple[np.ndarray, np.ndarray, list[str]]], names: Sequence[str]) -> Any:
    """Rows of several parts in the order of the store, which ids of the fixture follow."""
    ids = np.array([i for name in names for i in of[name][2]])
    order = np.argsort(ids)
    return tuple(np.concatenate([of[name][k] for name in names])[order] for k in (0, 1))


def test_a_refit_is_that_of_scikit_learn_on_both_parts(store: str, tmp_path: Path) -> None:
    summary = run_probe(asked(store, tmp_path / "r"))
    ordinary, again = read_results(tmp_path / "r"), read_refits(tmp_path / "r")
    assert summary.n_fitted == 4  # three layers, and the chosen one again
    assert len(ordinary) == len(summary.table) == 3
    (row,) = again.to_dict("records")
    chosen = chosen_fits(ordinary).iloc[0]
    assert (row["refit"], row["refit_of"]) == ("train+val", chosen["fingerprint"])
    assert row["fingerprint"] not in set(ordinary["fingerprint"])

    of = parts(store, int(chosen["layer"]))
    x, y = together(of, ("train", "val"))
    assert (row["n_train"], row["n_val"], row["n_test"]) == (len(y), 0, len(of["test"][1]))
    scaler = StandardScaler().fit(x)
    fitted = LogisticRegression(max_iter=1000).fit(scaler.transform(x), y)
    guess = fitted.predict(scaler.transform(of["test"][0]))
    assert row["uar_test"] == pytest.approx(balanced_accuracy_score(of["test"][1], guess))
    said = read_predictions(tmp_path / "r", again).set_index("utterance_id")
    assert said.loc[of["test"][2], "prediction"].tolist() == guess.tolist()
    assert np.isnan(row["uar_val"])
    # It would not have been the same without the validation rows.
    scaler = StandardScaler().fit(of["train"][0])
    alone = LogisticRegression(max_iter=1000).fit(scaler.transform(of["train"][0]), of["train"][1])
    assert not np.allclose(alone.coef_, fitted.coef_, atol=1e-3)


def train_by_hand(
    x: np.ndarray,
    y: np.ndarray,
    rates: Sequence[float] | None,
    x_val: np.ndarray,
    y_val: np.ndarray,
    keep: str = "best",
) -> tuple[nn.Module, list[float]]:
    """A plain loop of 12 epochs, or one epoch at each of `rates`: the network of the best, and its rates."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(x.shape[1], 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 4))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.1, patience=0)
    order, used, best = torch.Generator().manual_seed(0), [], (-1.0, 0, {})
    rows, targets = torch.from_numpy(x), torch.from_numpy(y)
    for epoch in range(12 if rates is None else len(rates)):
        if rates is not None:
            optimiser.param_groups[0]["lr"] = rates[epoch]
        used.append(optimiser.param_groups[0]["lr"])
        for batch in torch.randperm(len(y), generator=order).split(16):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(rows[batch]), targets[batch]).backward()
            optimiser.step()
        if rates is None:
            with torch.no_grad():
                logits = net(torch.from_numpy(x_val))
            plateau.step(nn.functional.cross_entropy(logits, torch.from_numpy(y_val)))
            uar = balanced_accuracy_score(y_val, logits.argmax(-1).numpy())
            if uar > best[0]:
                best = (uar, epoch + 1, {k: v.clone() for k, v in net.state_dict().items()})
    if rates is None and keep == "best":
        net.load_state_dict(best[2])
        used = used[: best[1]]
    return net, used


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_refit_of_a_network_is_that_of_a_plain_loop(store: str, tmp_path: Path, keep: str) -> None:
    """For the epochs that were best, and at the rates that validation rows had brought about."""
    settings = {"hidden": [8], "learning_rate": 0.05, "batch_size": 16, "max_epochs": 12, "lr_patience": 0}
    grid = {"mlp": {**settings, "patience": 12, "keep": keep}}
    mlp = {"classifiers": ("mlp",), "grid": grid, "layers": "1"}
    run_probe(asked(store, tmp_path / "r", **mlp))
    of = parts(store, 1)
    classes = sorted(set(of["train"][1]))
    codes = {name: np.searchsorted(classes, y) for name, (_, y, _) in of.items()}
    before = StandardScaler().fit(of["train"][0].astype(np.float64))
    _, rates = train_by_hand(
        before.transform(of["train"][0]).astype(np.float32),
        codes["train"],
        None,
        before.transform(of["val"][0]).astype(np.float32),
        codes["val"],
        keep,
    )
    (row,) = read_refits(tmp_path / "r").to_dict("records")
    assert row["n_epochs"] == len(rates)
    if keep == "best":
        assert len(rates) == read_results(tmp_path / "r")["best_epoch"].iloc[0] < 12
    else:
        assert len(rates) == 12
        assert len(set(rates)) > 1  # validation rows had the rate cut

    x, y = together(of, ("train", "val"))
    scaler = StandardScaler().fit(x.astype(np.float64))
    network, _ = train_by_hand(
        scaler.transform(x).astype(np.float32), np.searchsorted(classes, y), rates, of["val"][0], codes["val"]
    )
    save_probe(tmp_path / "r", tmp_path / "p", refit="train+val")
    with torch.no_grad():
        logits = network(torch.from_numpy(scaler.transform(of["test"][0]).astype(np.float32)))
    found = read_probe(tmp_path / "p").scores(of["test"][0])
    np.testing.assert_allclose(found, torch.softmax(logits, -1).numpy(), atol=2e-4)
    assert row["uar_test"] == pytest.approx(balanced_accuracy_score(codes["test"], found.argmax(1)))
    assert read_probe(tmp_path / "p").card.refit["score_test"] == pytest.approx(row["uar_test"])


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize(
    ("name", "combine"), [("mlp", "each"), ("linear", "weighted"), ("attention", "each")]
)
def test_the_schedule_of_a_fit_gives_the_same_fit_on_the_same_rows(
    name: str, combine: str, keep: str
) -> None:
    """Validation rows decide how long a network is trained and when its rate is cut: no more."""
    rng = np.random.default_rng(0)
    y, y_val = np.arange(90) % 3, np.arange(30) % 3
    if name == "attention":
        x, x_val = ragged(clips(90)[0]), ragged(clips(30, 1)[0])
    else:
        x, x_val = (
            (rng.standard_normal((len(of), 8)) + np.eye(8)[of]).astype(np.float32) for of in (y, y_val)
        )
    rate = 0.03 if name == "mlp" else 1.0
    settings = {"learning_rate": rate, "batch_size": 16, "max_epochs": 8, "patience": 6, "lr_patience": 0}
    (complete,) = expand_grid(name, {**settings, "keep": keep}, combine)
    bundle = Bundle(
        x_train=x,
        y_train=y,
        x_val=x_val,
        y_val=y_val,
        n_classes=3,
        fits=((complete, 0), (complete, 1)),
        n_layers=1 if combine == "each" else 2,
    )
    first = classifier_for(name, combine).fit(bundle)
    schedules = tuple(f.schedule for f in first if f.schedule is not None)
    assert len(schedules) == 2
    assert keep == "best" or any(s.cuts for s in schedules)  # the best epoch may come before the first cut
    again = classifier_for(name, combine).fit(replace(bundle, x_val=None, y_val=None, schedules=schedules))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_allclose(a.scores(x_val), b.scores(x_val), atol=1e-6)
        assert b.n_epochs == (a.n_epochs if keep == "last" else a.best_epoch)
        assert b.schedule == a.schedule


@pytest.mark.slow
def test_refits_stand_apart_and_answer_what_validation_chooses_now(store: str, tmp_path: Path) -> None:
    out = tmp_path / "r"
    alone = run_probe(asked(store, tmp_path / "plain", layers="0", refit=None)).table
    config = asked(store, out, layers="0")
    assert run_probe(config).n_fitted == 2
    assert run_probe(config).n_fitted == 0
    columns = ["fingerprint", "uar_train", "uar_val", "uar_test"]
    pd.testing.assert_frame_equal(read_results(out)[columns], alone[columns])  # as without refits
    (found,) = refit_findings(out)
    assert (found.layers, found.n_fits, found.epochs) == ("0", 1, (0, 0))
    assert found.chosen_score == pytest.approx(alone["uar_test"].iloc[0])
    assert found.judged.interval is not None
    assert found.judged.interval.estimate == pytest.approx(found.score)
    assert found.difference is not None
    assert found.difference.difference == pytest.approx(found.score - found.chosen_score)

    # A better layer, not fitted again: what was fitted again of the other is no answer any more.
    run_probe(replace(config, layers="2", refit=None))
    assert len(read_refits(out)) == 1
    assert refit_findings(out) == []
    assert run_probe(replace(config, layers="0,2")).n_fitted == 1
    (found,) = refit_findings(out)
    assert found.layers == "2"


@pytest.mark.slow
def test_a_fold_that_was_not_fitted_again_leaves_no_mean(store: str, tmp_path: Path) -> None:
    out = tmp_path / "r"
    folds = asked(store, out, layers="2", split="kfold:3")
    run_probe(folds)
    (found,) = refit_findings(out)
    assert found.n_fits == 3
    path = out / REFIT_NAME
    table = pd.read_parquet(path)
    table.iloc[:2].to_parquet(path)
    assert refit_findings(out) == []
    assert run_probe(folds).n_fitted == 0  # the table is made from the tasks, which are there
    assert len(refit_findings(out)) == 1


def test_a_probe_of_all_rows_says_so_and_is_scored_by_none(store: str, tmp_path: Path) -> None:
    run_probe(asked(store, tmp_path / "r", refit=None))
    plain = save_probe(tmp_path / "r", tmp_path / "plain").card
    card = save_probe(tmp_path / "r", tmp_path / "p", refit="all").card
    of = parts(store, card.layers[0])
    x, y = together(of, ("train", "val", "test"))
    assert card.refit == {"rows": "all", "n_rows": len(y), "of": plain.question}
    assert card.question != plain.question
    assert (card.scores, card.calibration) == (plain.scores, plain.calibration)
    scaler = StandardScaler().fit(x)
    fitted = LogisticRegression(max_iter=1000).fit(scaler.transform(x), y)
    probe = read_probe(tmp_path / "p")
    np.testing.assert_allclose(probe.scores(x), fitted.predict_proba(scaler.transform(x)), atol=1e-3)
    assert probe.validation is not None
    before = read_probe(tmp_path / "plain").validation
    assert before is not None
    np.testing.assert_array_equal(probe.validation.scores, before.scores)
    assert before.group is not None
    np.testing.assert_array_equal(probe.validation.group, before.group)
    for folder in ("plain", "p"):
        assert '"format_version": 5' in (tmp_path / folder / "probe.json").read_text()


@pytest.mark.parametrize("refit", ["all", "val", "train + val"])
def test_other_rows_are_refused_in_one_line(store: str, tmp_path: Path, refit: str) -> None:
    with pytest.raises(ConfigError, match=r"--refit: expected train\+val, got") as caught:
        asked(store, tmp_path, refit=refit)
    assert "\n" not in str(caught.value)
    assert ("save-probe --refit all" in str(caught.value)) == (refit == "all")


@pytest.mark.slow
def test_the_report_shows_refits_beside_the_answers(store: str, tmp_path: Path) -> None:
    run_probe(asked(store, tmp_path / "r", layers="1-2"))
    data = load_report_data(tmp_path / "r")
    write_report(data, tmp_path / "report")
    table = pd.read_csv(tmp_path / "report" / "refit.csv")
    (found,) = refit_findings(tmp_path / "r")
    assert table["score_test_mean"].tolist() == pytest.approx([found.score])
    assert table["refit"].tolist() == ["train+val"]
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Fitted again on training and validation clips" in page
    text = " ".join(
        s for p in methods(data, EmbeddedKeys(data.path, data.run, None)) for s in map(str, p.sentences)
    )
    assert "fitted again on the training and the validation rows" in text
    layers = pd.read_csv(tmp_path / "report" / "layers.csv")
    assert sorted(layers["layer"]) == [1, 2]
    assert (layers["n_fits"] == 1).all()
    assert "--refit train+val" in page  # among the commands that make it again
