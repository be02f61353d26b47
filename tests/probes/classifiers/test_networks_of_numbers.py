"""Numbers from a learned sum of layers and from frames: against plain PyTorch loops, and from end to end."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from framed_store import ragged, train_by_clips, write_frames
from torch import nn

from probes import ProbeConfig, read_predictions, read_results, run_probe
from probes.classifiers.interface import Bundle, FittedProbe
from probes.classifiers.registry import classifier_for, expand_grid
from probes.saved.chosen_probe import save_probe
from probes.training import frames
from studies.prediction import predict_store

L, D = 3, 8
SETTINGS = {"hidden": [5], "learning_rate": 0.01, "batch_size": 32, "max_epochs": 12, "lr_patience": 20}


def squared(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return nn.functional.mse_loss(scores[:, 0], y)


def vectors(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Layers side by side `[n, L * D]` of which layer 1 alone knows the number."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, L, D)).astype(np.float32)
    y = x[:, 1, 0] + 0.5 * x[:, 1, 1] ** 2 + 0.1 * rng.standard_normal(n)
    return x.reshape(n, L * D), (y - 0.5) / 1.2


def clips(n: int, seed: int, n_layers: int = L) -> tuple[list[np.ndarray], np.ndarray]:
    """Clips `[t, n_layers * D]` whose number stands in one frame of the last layer."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(n)
    out = []
    for value in y:
        x = rng.standard_normal((int(rng.integers(1, 31)), n_layers, D)).astype(np.float32)
        x[rng.integers(len(x)), -1, :2] += (3, 3 * value)
        out.append(x.reshape(len(x), n_layers * D))
    return out, y


def fitted(name: str, combine: str, of: Any, settings: dict[str, Any], seed: int = 0) -> FittedProbe:
    """A fit on rows of `of`, called with the number of rows and a seed."""
    (x, y), (x_val, y_val) = of(120, 0), of(60, 1)
    (found,) = classifier_for(name, combine).fit(
        Bundle(
            x_train=x,
            y_train=y,
            x_val=x_val,
            y_val=y_val,
            n_classes=1,
            fits=((expand_grid(name, settings, combine)[0], seed),),
            n_layers=L if combine == "weighted" else 1,
        )
    )
    assert not found.probabilistic
    return found


def of_frames(n_layers: int) -> Any:
    def rows(n: int, seed: int) -> tuple[Any, np.ndarray]:
        x, y = clips(n, seed, n_layers)
        return replace(ragged(x), n_layers=n_layers), y

    return rows


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sum_of_layers_equals_a_plain_loop(seed: int) -> None:
    found = fitted("mlp", "weighted", vectors, SETTINGS | {"layer_learning_rate": 0.05}, seed)
    x, y = (torch.from_numpy(a) for a in vectors(120, 0))
    y = y.float()
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(D, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 1))
    scores = torch.zeros(L, requires_grad=True)
    optimiser = torch.optim.Adam([{"params": net.parameters()}, {"params": [scores], "lr": 0.05}], lr=0.01)

    def forward(rows: torch.Tensor) -> torch.Tensor:
        mixed = sum(w * rows.view(-1, L, D)[:, k] for k, w in enumerate(torch.softmax(scores, 0)))
        return net(mixed)

    x_val, y_val = (torch.from_numpy(a) for a in vectors(60, 1))
    order, kept, losses = torch.Generator().manual_seed(0), [], []
    for _ in range(12):
        for batch in torch.randperm(len(y), generator=order).split(32):
            optimiser.zero_grad()
            squared(forward(x[batch]), y[batch]).backward()
            optimiser.step()
        with torch.no_grad():
            losses.append(float(squared(forward(x_val), y_val.float())))
            kept.append((forward(torch.from_numpy(vectors(40, 2)[0])), torch.softmax(scores, 0)))
    best = int(np.argmin(losses))
    assert found.best_epoch == best + 1
    np.testing.assert_allclose(found.scores(vectors(40, 2)[0]), kept[best][0].numpy(), atol=1e-4)
    np.testing.assert_allclose(found.layer_weights, kept[best][1].numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "combine"), [("attention", "each"), ("mha", "each"), ("attention", "weighted")]
)
def test_attention_equals_a_loop_over_single_clips(
    name: str, combine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "PIECE_FRAMES", 300)  # batches go in pieces
    n_layers = L if combine == "weighted" else 1
    more = {"heads": 2} if name == "mha" else {}
    more |= {"layer_learning_rate": 0.05} if combine == "weighted" else {}
    found = fitted(name, combine, of_frames(n_layers), SETTINGS | {"max_epochs": 4} | more, 1)
    x, y = clips(120, 0, n_layers)
    torch.manual_seed(1)
    head = nn.Sequential(nn.Linear(D, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 1))
    attention = None
    query = nn.Parameter(torch.zeros(D) if name == "attention" else torch.randn(1, 1, D) * 0.02)
    if name == "mha":
        attention = nn.MultiheadAttention(D, 2, batch_first=True)
    scores = nn.Parameter(torch.zeros(n_layers))
    others = [query, *head.parameters(), *(attention.parameters() if attention else [])]
    optimiser = torch.optim.Adam([{"params": others}, {"params": [scores], "lr": 0.05}], lr=0.01)

    def forward(clip: np.ndarray) -> torch.Tensor:
        weights = torch.softmax(scores, 0)
        t = (torch.from_numpy(clip).view(-1, n_layers, D) * weights[:, None]).sum(1)
        if attention is not None:
            return head(attention(query, t[None], t[None])[0][0, 0])
        return head(torch.softmax(t @ query / math.sqrt(D), 0) @ t)

    train_by_clips(forward, optimiser, x, y.astype(np.float32), found.best_epoch, squared)
    new, _ = clips(20, 2, n_layers)
    with torch.no_grad():
        expected = torch.stack([forward(clip) for clip in new]).numpy()
    rows = replace(ragged(new), n_layers=n_layers)
    np.testing.assert_allclose(found.scores(rows), expected, atol=1e-4)  # type: ignore[arg-type]


def test_the_frame_that_holds_the_number_is_found() -> None:
    settings = {"learning_rate": 0.02, "batch_size": 16, "max_epochs": 40, "patience": 40}
    found = fitted("attention", "each", of_frames(1), settings)
    new, y = clips(60, 3, 1)
    guess = found.scores(ragged(new))[:, 0]  # type: ignore[arg-type]
    mean = np.array([x.mean(0)[1] for x in new])
    assert np.corrcoef(guess, y)[0, 1] > np.corrcoef(mean, y)[0, 1] + 0.1


def test_a_fit_that_goes_astray_ends_with_an_epoch_it_had() -> None:
    settings = {"hidden": [], "learning_rate": 1e30, "batch_size": 32, "max_epochs": 5, "patience": 3}
    found = fitted("linear", "weighted", vectors, {k: v for k, v in settings.items() if k != "hidden"})
    assert found.best_epoch == 1
    assert found.n_epochs == 4


@pytest.fixture(scope="module")
def framed(tmp_path_factory: pytest.TempPathFactory) -> str:
    x, y = clips(180, 7, 2)
    n = range(len(x))
    table = pd.DataFrame(
        {
            "utterance_id": [f"u{i:03d}" for i in n],
            "path": [f"{i}.wav" for i in n],
            "split": "",
            "group": [f"g{i // 10}" for i in n],
            "age": [f"{10 + 4 * value:.3f}" for value in y],
        }
    )
    path = tmp_path_factory.mktemp("framed") / "f.zarr"
    write_frames(
        path, table, {k: [np.ascontiguousarray(c[:, k * D : (k + 1) * D]) for c in x] for k in (0, 1)}, "m"
    )
    return str(path)


@pytest.mark.parametrize("combine", ["each", "weighted"])
def test_numbers_from_frames_are_saved_and_predicted(framed: str, tmp_path: Path, combine: str) -> None:
    out = tmp_path / "r"
    run_probe(
        ProbeConfig(
            store=framed,
            labels=("age",),
            out=out,
            task="regression",
            classifiers=("attention",),
            combine=(combine,),
            layers="0-1" if combine == "weighted" else "1",
            grid={"attention": {"learning_rate": 0.02, "batch_size": 16, "max_epochs": 6}},
        )
    )
    (row,) = read_results(out).to_dict("records")
    assert np.isnan(row["uar_test"])
    if combine == "weighted":
        assert sum(json.loads(row["layer_weights"])) == pytest.approx(1)
    card = save_probe(out, tmp_path / "p").card
    assert (card.reproduced["n_differ"], card.reads_frames, card.classes) == (0, True, ())
    found = predict_store(tmp_path / "p", framed, sets=0.5).table.set_index("utterance_id")
    recorded = read_predictions(out, read_results(out)).set_index("utterance_id")["prediction"].astype(float)
    np.testing.assert_allclose(found.loc[recorded.index, "prediction"], recorded, rtol=1e-4)
    width = found["prediction_high"] - found["prediction_low"]
    assert width.dropna().to_numpy() == pytest.approx(width.max())
    assert found["prediction"].isna().sum() == found["status"].ne("ok").sum() > 0
