"""Attention over a learned sum of layers: against plain loops, against one layer alone, and saved."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from framed_store import CALLS, C, D, clips, ragged, train_by_clips, write_frames
from torch import nn

from featurestore import open_store
from featurestore.errors import ConfigError, CorruptData
from probes import ProbeConfig, read_predictions, read_results, run_probe
from probes.classifiers.interface import Bundle, FittedProbe
from probes.classifiers.registry import classifier_for, expand_grid
from probes.run import memory_plan
from probes.saved.chosen_probe import save_probe
from probes.saved.probe_files import JSON_NAME, read_probe
from probes.saved.stored_arrays import to_store
from probes.saved.stored_frames import put_together
from probes.training import frames
from probes.training.frames import FrameRows, StreamedFrames, read_frames
from probes.training.networks import LayerWeights
from studies.prediction import predict_store

L = 3
SETTINGS = {"hidden": [5], "learning_rate": 0.01, "batch_size": 32, "max_epochs": 4, "lr_patience": 9}
OF = {"attention": {}, "mha": {"heads": 2}}


def stacked(n: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Clips `[t, L * D]` of which layer 2 alone knows the class, in one frame."""
    informative, y = clips(n, seed)
    rng = np.random.default_rng(seed + 100)
    out = []
    for x in informative:
        noise = rng.standard_normal((len(x), L - 1, D)).astype(np.float32)
        out.append(np.concatenate([noise, x[:, None]], axis=1).reshape(len(x), L * D))
    return out, y


def layers_of(parts: list[np.ndarray], n_layers: int = L) -> FrameRows:
    return replace(ragged(parts), n_layers=n_layers)


def fit(name: str, combine: str, only: int | None, *fits: tuple[dict[str, Any], int]) -> list[FittedProbe]:
    """Fits on the frames of all layers, or of one."""

    def seen(parts: list[np.ndarray]) -> FrameRows:
        return layers_of(parts) if only is None else layers_of([x[:, only * D :][:, :D] for x in parts], 1)

    (x, y), (x_val, y_val) = stacked(90), stacked(45, 1)
    bundle = Bundle(
        x_train=seen(x),  # type: ignore[arg-type]
        y_train=y,
        x_val=seen(x_val),  # type: ignore[arg-type]
        y_val=y_val,
        n_classes=C,
        fits=tuple((expand_grid(name, settings, combine)[0], seed) for settings, seed in fits),
        n_layers=L if only is None else 1,
    )
    return classifier_for(name, combine).fit(bundle)


def plain_loop(
    name: str, seed: int, n_epochs: int, new: list[np.ndarray]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of new clips and weights of layers, from a loop over clips without padding or mask."""
    x, y = stacked(90)
    torch.manual_seed(seed)
    head = nn.Sequential(nn.Linear(D, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, C))
    attention = None
    if name == "attention":
        query = nn.Parameter(torch.zeros(D))
    else:
        query = nn.Parameter(torch.randn(1, 1, D) * 0.02)
        attention = nn.MultiheadAttention(D, 2, batch_first=True)
    scores = nn.Parameter(torch.zeros(L))
    others = [query, *head.parameters(), *(attention.parameters() if attention else [])]
    optimiser = torch.optim.Adam([{"params": others}, {"params": [scores], "lr": 0.05}], lr=0.01)

    def forward(clip: np.ndarray) -> torch.Tensor:
        layers = torch.from_numpy(clip).view(-1, L, D).unbind(1)
        t = sum(w * of_layer for w, of_layer in zip(torch.softmax(scores, 0), layers, strict=True))
        assert isinstance(t, torch.Tensor)
        if attention is not None:
            pooled, _ = attention(query, t[None], t[None])
            return head(pooled[0, 0])
        return head(torch.softmax(t @ query / math.sqrt(D), 0) @ t)

    train_by_clips(forward, optimiser, x, y, n_epochs)
    with torch.no_grad():
        return torch.stack([forward(clip) for clip in new]), torch.softmax(scores, 0)


@pytest.mark.parametrize("name", ["attention", "mha"])
def test_a_fit_equals_a_loop_over_single_clips(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "PIECE_FRAMES", 300)  # batches go in pieces of 100 frames of three layers
    settings = SETTINGS | OF[name] | {"layer_learning_rate": 0.05}
    new, _ = stacked(20, 2)
    (found,) = fit(name, "weighted", None, (settings, 1))
    logits, weights = plain_loop(name, 1, found.best_epoch, new)
    own = found.model(torch.from_numpy(new[3][None]), torch.zeros(1, len(new[3]), dtype=torch.bool))
    np.testing.assert_allclose(own[0].detach(), logits[3], atol=1e-4)
    expected = torch.softmax(logits, -1).numpy()
    np.testing.assert_allclose(found.scores(layers_of(new)), expected, atol=1e-4)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.layer_weights, weights, atol=1e-5)


@pytest.mark.parametrize("name", ["attention", "mha"])
def test_all_weight_on_one_layer_is_the_probe_of_that_layer(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Callable[..., None] = LayerWeights.__init__

    def on_layer_2(self: LayerWeights, n_layers: int) -> None:
        made(self, n_layers)
        # A softmax of minus infinity is 0, and has no gradient: the weights stay where they are.
        self.scores.data = torch.tensor([-torch.inf, -torch.inf, 0.0])

    monkeypatch.setattr(LayerWeights, "__init__", on_layer_2)
    settings, new = SETTINGS | OF[name], stacked(20, 2)[0]
    (several,) = fit(name, "weighted", None, (settings, 3))
    (alone,) = fit(name, "each", 2, (settings, 3))
    assert several.layer_weights == (0.0, 0.0, 1.0)
    assert several.best_epoch == alone.best_epoch
    of_layer = layers_of([x[:, 2 * D :] for x in new], 1)
    np.testing.assert_allclose(
        several.scores(layers_of(new)),  # type: ignore[arg-type]
        alone.scores(of_layer),  # type: ignore[arg-type]
        atol=1e-5,
    )


def test_weights_go_to_the_layer_that_knows_the_class() -> None:
    settings = {"learning_rate": 0.02, "batch_size": 16, "max_epochs": 20, "layer_learning_rate": 0.1}
    (found,) = fit("attention", "weighted", None, (settings, 0))
    assert found.layer_weights[2] > 0.8
    assert sum(found.layer_weights) == pytest.approx(1)


@pytest.fixture(scope="module")
def framed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with the frames of three layers, of which layer 2 tells the call."""
    values, y = stacked(180, 7)
    n = range(len(values))
    table = pd.DataFrame(
        {
            "utterance_id": [f"u{i:03d}" for i in n],
            "path": [f"{i}.wav" for i in n],
            "split": "",
            "group": [f"g{i // 10}" for i in n],
            "call": [CALLS[c] for c in y],
        }
    )
    path = tmp_path_factory.mktemp("framed") / "f.zarr"
    by_layer = {k: [np.ascontiguousarray(x[:, k * D : (k + 1) * D]) for x in values] for k in range(L)}
    write_frames(path, table, by_layer, "framed")
    return str(path)


def asked(store: str, out: Path, **more: Any) -> ProbeConfig:
    quick = {"learning_rate": 0.02, "batch_size": 16, "max_epochs": 8, "layer_learning_rate": 0.1}
    return ProbeConfig(
        store=store,
        labels=("call",),
        out=out,
        classifiers=("attention",),
        combine=("weighted",),
        grid={"attention": quick},
        **more,
    )


@pytest.mark.slow
def test_learned_weights_reach_the_results_in_memory_and_streamed(
    framed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "r"
    run_probe(asked(framed, out))
    (row,) = read_results(out).to_dict("records")
    assert row["combine"] == "weighted"
    assert row["layers"] == "0-2"
    assert pd.isna(row["layer"])
    weights = json.loads(row["layer_weights"])
    assert max(weights) == weights[2] > 0.5
    assert run_probe(asked(framed, out)).n_fitted == 0

    # Frames that stay in the store give probes of the same kind.
    monkeypatch.setattr(memory_plan, "block_rows", lambda *_: 200)
    run_probe(asked(framed, tmp_path / "streamed"))
    streamed = read_results(tmp_path / "streamed").iloc[0]
    assert json.loads(streamed["layer_weights"])[2] > 0.5
    assert streamed["fingerprint"] == row["fingerprint"]


def test_streamed_frames_of_several_layers_are_those_in_memory(framed: str) -> None:
    f = open_store(framed).features("framed", "calls")
    ok = np.flatnonzero((f.index["status"] == "ok").to_numpy())
    held = read_frames(f, [0, 2], ok)
    sources = (f.layer(0), f.layer(2))
    part = StreamedFrames(features=f, sources=sources, position=ok, lengths=held.lengths, block_frames=200)
    assert part.n_features == held.n_features == 2 * D
    for rows, block in part.blocks(torch.Generator().manual_seed(1)):
        for i, row in enumerate(rows):
            np.testing.assert_array_equal(block.row(i), held.row(row))
            np.testing.assert_array_equal(held.row(row)[:, D:], f.layer(2).frames(int(ok[row])))


@pytest.mark.parametrize(("name", "combine"), [("mha", "weighted"), ("mha", "each"), ("attention", "each")])
def test_a_stored_fit_scores_as_before(name: str, combine: str) -> None:
    only = None if combine == "weighted" else 2
    (found,) = fit(name, combine, only, (SETTINGS | OF[name] | {"max_epochs": 1, "dropout": 0.2}, 0))
    stored = to_store(found.model, name)
    width = D if only is not None else L * D
    settings = json.loads(json.dumps(stored.settings))
    new = layers_of([x[:, -width:] for x in stacked(20, 2)[0]], width // D)
    scores = put_together(settings, stored.arrays, width, C)
    np.testing.assert_array_equal(scores(new), found.scores(new))  # type: ignore[arg-type]
    for changes in ({"heads": 3}, {"sizes": [D, 4, C]}, {"n_layers": 7}, {"sizes": [D, 10**6, C]}):
        with pytest.raises((ValueError, RuntimeError)):
            put_together({**settings, **changes}, stored.arrays, width, C)


def test_a_saved_probe_predicts_what_it_predicted(framed: str, tmp_path: Path) -> None:
    out = tmp_path / "r"
    run_probe(replace(asked(framed, out), layers="1-2", grid={"attention": {"max_epochs": 2}}))
    card = save_probe(out, tmp_path / "p").card
    assert card.reproduced["n_differ"] == 0
    assert (card.layers, card.combine, card.reads_frames) == ((1, 2), "weighted", True)
    found = predict_store(tmp_path / "p", framed).table.set_index("utterance_id")
    recorded = read_predictions(out, read_results(out)).set_index("utterance_id")
    assert (found.loc[recorded.index, "prediction"] == recorded["prediction"]).all()
    assert found["prediction"].eq("").sum() == found["status"].ne("ok").sum() > 0

    probe = read_probe(tmp_path / "p")
    with pytest.raises(ConfigError, match="a probe of attention reads the frames of clips"):
        probe.scores(np.zeros((1, 2 * D), np.float32))
    content = (tmp_path / "p" / JSON_NAME).read_text()
    (tmp_path / "p" / JSON_NAME).write_text(content.replace('"heads": 0', '"heads": 4'))
    with pytest.raises(CorruptData, match="changed since it was saved"):
        read_probe(tmp_path / "p")


@pytest.mark.parametrize(
    ("classifier", "combine", "message"),
    [
        (
            "attention",
            "concat",
            "combine concat: classifier attention looks at the frames of one layer, or of a",
        ),
        ("knn", "weighted", "knn cannot learn weights of layers; mlp, linear, attention and mha can"),
    ],
)
def test_what_cannot_be_combined_is_one_line(classifier: str, combine: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ProbeConfig(store="s", labels=("l",), out=Path("o"), classifiers=(classifier,), combine=(combine,))
