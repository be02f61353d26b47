"""The weighted sum of layers against a plain PyTorch loop, and through to the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from featurestore import open_store
from featurestore.errors import ConfigError
from probes import ProbeConfig, read_results, run_probe
from probes.classifiers.interface import Bundle, FittedProbe
from probes.classifiers.registry import classifier_for, expand_grid
from probes.report import load_report_data
from probes.report.html import render_page
from probes.report.weights import learned_weights
from probes.training.vectors import StreamedRows

L, D, C = 4, 6, 3


def rows(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal layers, of which layer 2 alone knows the class."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % C
    x = rng.standard_normal((n, L, D)).astype(np.float32)
    x[:, 2] += 1.5 * np.eye(D, dtype=np.float32)[y]
    return x.reshape(n, L * D), y.astype(np.int64)


def bundle(*fits: tuple[dict[str, Any], int]) -> Bundle:
    (x, y), (x_val, y_val) = rows(150), rows(60, 1)
    return Bundle(x_train=x, y_train=y, x_val=x_val, y_val=y_val, n_classes=C, fits=fits, n_layers=L)


def fit(name: str, *fits: tuple[dict[str, Any], int]) -> list[FittedProbe]:
    complete = [(expand_grid(name, settings, "weighted")[0], seed) for settings, seed in fits]
    return classifier_for(name, "weighted").fit(bundle(*complete))


def plain_loop(seed: int, n_epochs: int, balanced: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of new rows and weights of layers, by nothing but PyTorch's own parts."""
    x, y = (torch.from_numpy(a) for a in rows(150))
    torch.manual_seed(seed)
    net = torch.nn.Sequential(
        torch.nn.Linear(D, 8), torch.nn.LayerNorm(8), torch.nn.ReLU(), torch.nn.Linear(8, C)
    )
    scores = torch.zeros(L, requires_grad=True)
    optimiser = torch.optim.Adam([{"params": net.parameters()}, {"params": [scores], "lr": 0.05}], lr=0.01)
    counts = torch.bincount(y)
    loss_of = torch.nn.CrossEntropyLoss(weight=len(y) / (C * counts) if balanced else None)

    def forward(rows: torch.Tensor) -> torch.Tensor:
        mixed = sum(w * rows.view(-1, L, D)[:, k] for k, w in enumerate(torch.softmax(scores, 0)))
        return net(mixed)

    order = torch.Generator().manual_seed(0)
    for _ in range(n_epochs):
        for batch in torch.randperm(len(y), generator=order).split(32):
            optimiser.zero_grad()
            loss_of(forward(x[batch]), y[batch]).backward()
            optimiser.step()
    with torch.no_grad():
        return forward(torch.from_numpy(rows(40, 2)[0])), torch.softmax(scores, 0)


@pytest.mark.parametrize("balanced", [False, True])
def test_a_fit_equals_the_plain_loop(balanced: bool) -> None:
    settings = {
        "hidden": [8],
        "learning_rate": 0.01,
        "layer_learning_rate": 0.05,
        "batch_size": 32,
        "max_epochs": 30,
        "patience": 30,
        "lr_patience": 30,
        "class_weight": "balanced" if balanced else "none",
    }
    for seed, found in enumerate(fit("mlp", (settings, 0), (settings, 1))):
        logits, weights = plain_loop(seed, found.best_epoch, balanced)
        np.testing.assert_allclose(found.layer_weights, weights.numpy(), atol=1e-5)
        expected = torch.softmax(logits, -1).numpy()
        np.testing.assert_allclose(found.scores(rows(40, 2)[0]), expected, atol=1e-4)
        assert found.layer_weights[2] == max(found.layer_weights) > 0.5


def test_a_fit_does_not_depend_on_its_company() -> None:
    slow = {"batch_size": 32, "max_epochs": 4, "dropout": 0.3}
    fast = {**slow, "learning_rate": 0.01, "hidden": [5, 4], "max_epochs": 2}
    together = fit("mlp", (slow, 0), (fast, 1), (slow, 2))
    x = rows(40, 2)[0]
    for (settings, seed), found in zip(((slow, 0), (fast, 1), (slow, 2)), together, strict=True):
        (alone,) = fit("mlp", (settings, seed))
        np.testing.assert_array_equal(alone.scores(x), found.scores(x))
        assert alone.layer_weights == found.layer_weights
    assert together[1].n_epochs == 2


def test_patience_stops_and_the_best_epoch_is_kept() -> None:
    settings = {"batch_size": 32, "max_epochs": 60, "patience": 3, "learning_rate": 0.05}
    (found,) = fit("linear", (settings, 0))
    assert found.n_epochs == found.best_epoch + 3 < 60
    # the weights are those of the best epoch: a run that ends there has the same
    (short,) = fit("linear", ({**settings, "max_epochs": found.best_epoch}, 0))
    np.testing.assert_array_equal(short.scores(rows(40, 2)[0]), found.scores(rows(40, 2)[0]))


def test_layers_that_stay_in_the_store_give_the_same_fit(store: str) -> None:
    features = open_store(store).features("model-a", "calls")
    usable = (features.index["status"] == "ok") & (features.index["call"] != "")
    sources = tuple(features.layer(k) for k in range(3))
    streamed = StreamedRows(sources=sources, position=np.flatnonzero(usable), block_rows=50)
    y = np.unique(features.index["call"][usable], return_inverse=True)[1].astype(np.int64)
    matrix = np.concatenate([s.numpy(streamed.position).reshape(len(y), -1) for s in sources], axis=1)
    # all rows in one batch, so that the order, which differs, plays no part
    settings = {"batch_size": 1000, "max_epochs": 8, "learning_rate": 0.01, "layer_learning_rate": 0.1}
    fitted = []
    for x in (matrix, streamed):
        complete = expand_grid("linear", settings, "weighted")[0]
        rows = Bundle(
            x_train=x,  # type: ignore[arg-type]
            y_train=y,
            x_val=x,  # type: ignore[arg-type]
            y_val=y,
            n_classes=4,
            fits=((complete, 0),),
            n_layers=3,
        )
        (found,) = classifier_for("linear", "weighted").fit(rows)
        fitted.append((found.layer_weights, found.scores(x)))  # type: ignore[arg-type]
    np.testing.assert_allclose(fitted[0][0], fitted[1][0], atol=1e-5)
    np.testing.assert_allclose(fitted[0][1], fitted[1][1], atol=1e-4)
    assert fitted[0][0][2] > 0.4


@pytest.mark.slow
def test_weights_reach_the_results_and_the_report(store: str, tmp_path: Path) -> None:
    quick = {"batch_size": 32, "max_epochs": 12, "learning_rate": 0.01, "layer_learning_rate": 0.1}
    run_probe(
        ProbeConfig(
            store=store,
            labels=("call",),
            out=tmp_path,
            classifiers=("linear",),
            combine=("each", "weighted"),
            split="random",
            n_seeds=2,
            grid={"linear": quick},
        )
    )
    table = read_results(tmp_path)
    single = table[table["combine"] == "each"]
    assert set(single["layer_weights"]) == {""}
    assert not any("layer_learning_rate" in h for h in single["hparams"])
    summed = table[table["combine"] == "weighted"]
    assert summed["layers"].tolist() == ["0-2"] * 2 + ["0-1"] * 2
    assert summed["layer"].isna().all()
    weights = [json.loads(text) for text in summed["layer_weights"]]
    assert [len(w) for w in weights] == [3, 3, 2, 2]
    for w in weights:
        assert sum(w) == pytest.approx(1)
        assert max(w) == w[-1]  # the last layer holds the label most clearly

    data = load_report_data(tmp_path)
    shown = learned_weights(data, 0)
    assert shown is not None
    assert shown["layers"] == [0, 1, 2]
    means = np.mean(weights[:2], axis=0)
    assert shown["rows"][0]["cells"] == [f"{100 * m:.1f}" for m in means]
    assert shown["rows"][1]["cells"][2] == ""  # model-bb has no layer 2
    page = render_page(data)
    assert "Learned weights of layers" in page
    assert f"{100 * means[2]:.1f}</td>" in page


def test_as_many_class_weights_as_classes_are_needed() -> None:
    with pytest.raises(ConfigError, match=r"class_weight: expected 3 weights, one per class, got 4"):
        fit("linear", ({"class_weight": [[1.0] * 4]}, 0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"classifiers": ("linear", "knn")},
            "combine weighted: classifier knn cannot learn weights of layers; mlp, linear, attention and mha",
        ),
        (
            {"grid": {"linear": {"layer_learning_rate": [0]}}},
            "layer_learning_rate: expected a number above 0",
        ),
        (
            {"grid": {"linear": {"precision": ["bf16"]}}},
            "precision: combine weighted is trained in fp32 only, got 'bf16'",
        ),
        (
            {"combine": ("each",), "grid": {"linear": {"layer_learning_rate": [0.1]}}},
            "classifier linear: unknown setting 'layer_learning_rate'",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line(
    store: str, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    given = {"labels": ("call",), "classifiers": ("linear",), "combine": ("weighted",), **changes}
    with pytest.raises(ConfigError, match=message) as caught:
        ProbeConfig(store=store, out=tmp_path, **given)
    assert "\n" not in str(caught.value)
