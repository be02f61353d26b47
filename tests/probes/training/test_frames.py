"""Probes over frames: what they read, compute and refuse, against plain loops over single clips."""

from __future__ import annotations

import math
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
from featurestore.errors import ConfigError
from probes import ProbeConfig, read_predictions, read_results, run_probe
from probes.classifiers.interface import Bundle, FittedProbe
from probes.classifiers.registry import expand_grid, get_classifier
from probes.results.results_folder import read_curve
from probes.run import memory_plan
from probes.training import frames
from probes.training.frames import (
    read_frames,
    standardise_frames,
    standardised_frames,
    streamed_frames,
)


def fit(name: str, *fits: tuple[dict[str, Any], int]) -> list[FittedProbe]:
    (x, y), (x_val, y_val) = clips(90), clips(45, 1)
    complete = tuple((expand_grid(name, settings)[0], seed) for settings, seed in fits)
    bundle = Bundle(
        x_train=ragged(x),  # type: ignore[arg-type]
        y_train=y,
        x_val=ragged(x_val),  # type: ignore[arg-type]
        y_val=y_val,
        n_classes=C,
        fits=complete,
    )
    return get_classifier(name).fit(bundle)


def attend_by_hand(x: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """One clip `[t, D]`, one query."""
    weights = torch.softmax(torch.stack([(frame * query).sum() / math.sqrt(D) for frame in x]), 0)
    return sum(w * frame for w, frame in zip(weights, x, strict=True))


def multihead_by_hand(x: torch.Tensor, query: torch.Tensor, layer: nn.MultiheadAttention) -> torch.Tensor:
    """One clip, head by head, from the equations of Vaswani et al. 2017."""
    width = D // layer.num_heads
    wq, wk, wv = layer.in_proj_weight.chunk(3)
    bq, bk, bv = layer.in_proj_bias.chunk(3)
    q, k, v = wq @ query + bq, x @ wk.T + bk, x @ wv.T + bv
    heads = []
    for h in range(layer.num_heads):
        part = slice(h * width, (h + 1) * width)
        weights = torch.softmax(k[:, part] @ q[part] / math.sqrt(width), 0)
        heads.append(weights @ v[:, part])
    return layer.out_proj(torch.cat(heads))


def plain_loop(name: str, seed: int, n_epochs: int, new: list[np.ndarray]) -> torch.Tensor:
    """Logits of new clips from a loop over clips, one at a time, without padding or mask."""
    x, y = clips(90)
    torch.manual_seed(seed)
    head = nn.Sequential(nn.Linear(D, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, C))
    if name == "attention":
        query, attention = nn.Parameter(torch.zeros(D)), None
    else:
        query = nn.Parameter((torch.randn(1, 1, D) * 0.02)[0, 0])
        attention = nn.MultiheadAttention(D, 2, batch_first=True)
    parameters = [query, *head.parameters(), *(attention.parameters() if attention else [])]
    optimiser = torch.optim.Adam(parameters, lr=0.01)

    def forward(clip: np.ndarray) -> torch.Tensor:
        t = torch.from_numpy(clip)
        pooled = attend_by_hand(t, query) if attention is None else multihead_by_hand(t, query, attention)
        return head(pooled)

    train_by_clips(forward, optimiser, x, y, n_epochs)
    with torch.no_grad():
        return torch.stack([forward(clip) for clip in new])


SETTINGS = {"hidden": [5], "learning_rate": 0.01, "batch_size": 32, "max_epochs": 5, "lr_patience": 9}


@pytest.mark.parametrize("name", ["attention", "mha"])
def test_a_fit_equals_a_loop_over_single_clips(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "PIECE_FRAMES", 100)  # batches go in pieces
    settings = SETTINGS | ({"heads": 2} if name == "mha" else {})
    new, _ = clips(20, 2)
    for seed, found in enumerate(fit(name, (settings, 0), (settings, 1))):
        expected = plain_loop(name, seed, found.best_epoch, new)
        np.testing.assert_allclose(
            found.scores(ragged(new)),  # type: ignore[arg-type]
            torch.softmax(expected, -1).numpy(),
            atol=1e-4,
        )


def test_attention_finds_the_frame_that_a_mean_hides() -> None:
    settings = {"learning_rate": 0.05, "batch_size": 32, "max_epochs": 30}
    new, y = clips(300, 3)
    (found,) = fit("attention", (settings, 0))
    mean_train, mean_new = (np.stack([x.mean(0) for x in part]) for part in (clips(90)[0], new))
    (settings, *_) = expand_grid("linear", settings)
    on_means = get_classifier("linear").fit(
        Bundle(
            x_train=mean_train,
            y_train=clips(90)[1],
            x_val=np.stack([x.mean(0) for x in clips(45, 1)[0]]),
            y_val=clips(45, 1)[1],
            n_classes=C,
            fits=((settings, 0),),
        )
    )[0]
    attended = (found.scores(ragged(new)).argmax(1) == y).mean()  # type: ignore[arg-type]
    averaged = (on_means.scores(mean_new).argmax(1) == y).mean()
    assert attended > averaged + 0.1


def test_a_fit_is_the_same_in_any_company_and_again() -> None:
    settings = SETTINGS | {"dropout": 0.2}
    new = ragged(clips(20, 2)[0])
    _, second = fit("attention", (settings | {"max_epochs": 2}, 3), (settings, 4))
    (alone,) = fit("attention", (settings, 4))
    (again,) = fit("attention", (settings, 4))
    scores = [f.scores(new) for f in (second, alone, again)]  # type: ignore[arg-type]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[1], scores[2])


def test_every_row_is_in_one_batch_of_nearly_one_length() -> None:
    rows = ragged(clips(500)[0])
    generator = torch.Generator().manual_seed(1)
    batches = rows.drawn(16, generator)
    assert sorted(torch.cat(batches).tolist()) == list(range(500))
    assert np.mean([np.ptp(rows.lengths[b.numpy()]) for b in batches]) < 5  # of 29
    other = rows.drawn(16, generator)
    assert [b.tolist() for b in batches] != [b.tolist() for b in other]
    for batch in batches:
        pieces = list(rows.pieces(batch))
        assert torch.equal(torch.cat([part for part, _ in pieces]), batch)
        for part, (x, padding) in pieces:
            for i, values, missing in zip(part.tolist(), x, padding, strict=True):
                np.testing.assert_array_equal(values[~missing].numpy(), rows.row(i))


@pytest.fixture(scope="module")
def framed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[int, list[np.ndarray]], pd.DataFrame]:
    """A store with the frames of two layers, of which layer 1 tells the call; its frames; its table."""
    informative, y = clips(180, 7)
    rng = np.random.default_rng(8)
    noise = [rng.standard_normal(x.shape).astype(np.float32) * 3 + 1 for x in informative]
    table = pd.DataFrame(
        {
            "utterance_id": [f"u{i:03d}" for i in range(180)],
            "path": [f"{i}.wav" for i in range(180)],
            "split": "",
            "group": [f"g{i // 10}" for i in range(180)],
            "call": [CALLS[c] for c in y],
        }
    )
    path = tmp_path_factory.mktemp("framed") / "f.zarr"
    values = {0: noise, 1: informative}
    write_frames(path, table, values, "framed")
    return str(path), values, table


def test_frames_are_read_and_standardised_as_by_hand(
    framed: tuple[str, dict[int, list[np.ndarray]], pd.DataFrame],
) -> None:
    store, values, _ = framed
    f = open_store(store).features("framed", "calls")
    position = np.array([0, 3, 63, 64, 70, 130, 179])
    rows = read_frames(f, [0], position)
    for i, p in enumerate(position):
        np.testing.assert_array_equal(rows.row(i), values[0][p])
    parts = {"train": rows[np.array([0, 2, 3])], "test": rows[np.array([1, 4])]}
    standardise_frames(parts)
    seen = np.concatenate([values[0][position[i]] for i in (0, 2, 3)]).astype(np.float64)
    expected = (values[0][position[4]] - seen.mean(0)) / seen.std(0)
    np.testing.assert_allclose(parts["test"].row(1), expected, atol=1e-5)


def test_a_unit_without_frames_shifts_no_other(
    framed: tuple[str, dict[int, list[np.ndarray]], pd.DataFrame], tmp_path: Path
) -> None:
    _, values, table = framed
    write_frames(tmp_path / "f.zarr", table, values, "framed", failed=range(64))
    rows = read_frames(
        open_store(tmp_path / "f.zarr").features("framed", "calls"), [0], np.array([64, 70, 179])
    )
    for i, p in enumerate((64, 70, 179)):
        np.testing.assert_array_equal(rows.row(i), values[0][p])


def test_a_run_over_frames(
    framed: tuple[str, dict[int, list[np.ndarray]], pd.DataFrame], tmp_path: Path
) -> None:
    store, _, table = framed
    quick = {"learning_rate": 0.05, "batch_size": 16, "max_epochs": 12}
    config = ProbeConfig(
        store=store,
        labels=("call",),
        out=tmp_path / "r",
        classifiers=("attention", "mha"),
        grid={"attention": quick, "mha": {**quick, "heads": [2], "learning_rate": 0.005}},
    )
    summary = run_probe(config)
    results = read_results(tmp_path / "r").set_index(["classifier", "layer"])
    assert summary.n_fitted == len(results) == 4
    assert results.loc[("attention", 1), "uar_test"] > results.loc[("attention", 0), "uar_test"] + 0.2
    predictions = read_predictions(tmp_path / "r", results.reset_index())
    truth = table.set_index("utterance_id")["call"]
    assert (truth.loc[predictions["utterance_id"]].to_numpy() == predictions["target"]).all()
    assert run_probe(config).n_fitted == 0


@pytest.mark.slow
def test_a_curve_over_frames(
    framed: tuple[str, dict[int, list[np.ndarray]], pd.DataFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All training rows are the ordinary fit, in memory and streamed, also after other shares were fitted."""
    config = ProbeConfig(
        store=framed[0],
        labels=("call",),
        out=tmp_path / "held",
        layers="1",
        classifiers=("attention",),
        grid={"attention": {"learning_rate": 0.05, "batch_size": 16, "max_epochs": 4}},
        curves=("groups",),
        curve_draws=1,
        curve_shares="30,60",
    )
    for name in ("held", "streamed"):
        run_probe(replace(config, out=tmp_path / name))
        curve = read_curve(tmp_path / name)
        assert curve["share"].tolist() == [0.3, 0.6, 1.0]
        assert curve["n_train_groups"].is_monotonic_increasing
        whole, ordinary = curve.iloc[-1], read_results(tmp_path / name).iloc[0]
        for score in ("uar_val", "uar_test", "auroc_macro_test", "ece_test", "n_train"):
            assert whole[score] == pytest.approx(ordinary[score], abs=1e-4)
        monkeypatch.setattr(memory_plan, "block_rows", lambda *_: 400)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "classifier attention: .* holds no frames of model-a/calls; .*`fs extract --frames"),
        ({"combine": ("concat",)}, "combine concat: classifier attention looks at the frames of one layer"),
        (
            {"grid": {"attention": {"heads": 2}}},
            "classifier attention: unknown setting 'heads', expected hidden",
        ),
    ],
)
def test_what_frames_cannot_do_is_one_line(
    store: str, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        run_probe(
            ProbeConfig(
                store=store, labels=("call",), out=tmp_path / "r", classifiers=("attention",), **changes
            )
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "r").exists()


def test_streamed_frames_are_those_in_memory(
    framed: tuple[str, dict[int, list[np.ndarray]], pd.DataFrame],
) -> None:
    store, _, _ = framed
    f = open_store(store).features("framed", "calls")
    ok = np.flatnonzero((f.index["status"] == "ok").to_numpy())
    order = np.random.default_rng(0).permutation(len(ok))
    where = {"train": order[:100], "val": order[100:120], "test": order[120:]}
    held = read_frames(f, [1], ok)
    parts = {name: held[rows] for name, rows in where.items()}
    expected = standardise_frames(parts)
    streamed = streamed_frames(f, [1], ok, block_frames=120)
    streams, found = standardised_frames({name: streamed[rows] for name, rows in where.items()})
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-6)
    for name, part in streams.items():
        assert part.n_features == D
        seen = []
        for rows, block in part.blocks(torch.Generator().manual_seed(1)):
            assert block.lengths.sum() <= 120
            for i, row in enumerate(rows):
                np.testing.assert_allclose(block.row(i), parts[name].row(row), atol=1e-5)
            seen += rows.tolist()
        assert sorted(seen) == list(range(len(part)))
        scored = torch.cat([rows for rows, _ in part.scoring()])
        assert sorted(scored.tolist()) == list(range(len(part)))


@pytest.mark.slow
def test_streamed_batches_hold_every_clip_once_an_epoch_and_in_another_order(
    framed: tuple[str, dict[int, list[np.ndarray]], pd.DataFrame],
) -> None:
    f = open_store(framed[0]).features("framed", "calls")
    ok = np.flatnonzero((f.index["status"] == "ok").to_numpy())
    part = streamed_frames(f, [1], np.random.default_rng(0).permutation(ok), block_frames=300)
    y, generator = torch.arange(len(part)), torch.Generator().manual_seed(3)
    epochs = []
    for _ in range(2):
        drawn: list[int] = []
        for batch in part.batches(y, 16, generator):
            assert 0 < len(batch.y) <= 16
            for (x, padding), labels in batch.pieces:
                for values, missing, row in zip(x, padding, labels.tolist(), strict=True):
                    np.testing.assert_array_equal(
                        values[~missing], f.layer(1).frames(int(part.position[row]))
                    )
            drawn += batch.y.tolist()
        assert sorted(drawn) == y.tolist()
        epochs.append(drawn)
    assert epochs[0] != epochs[1]


def test_a_clip_longer_than_a_block_is_a_block_alone(
    framed: tuple[str, dict[int, list[np.ndarray]], pd.DataFrame],
) -> None:
    f = open_store(framed[0]).features("framed", "calls")
    ok = np.flatnonzero((f.index["status"] == "ok").to_numpy())
    part = streamed_frames(f, [0], ok, block_frames=1)
    sizes = [len(rows) for rows, _ in part.blocks()]
    assert sum(sizes) == len(ok)
    assert max(part.lengths) >= max(block.lengths.sum() for _, block in part.blocks())


@pytest.mark.parametrize("classifier", ["attention", pytest.param("mha", marks=pytest.mark.slow)])
def test_a_streamed_run_scores_like_one_in_memory(
    framed: tuple[str, dict[int, list[np.ndarray]], pd.DataFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    classifier: str,
) -> None:
    quick: dict[str, Any] = {"learning_rate": 0.05, "batch_size": 16, "max_epochs": 12}
    if classifier == "mha":
        quick |= {"heads": [2], "learning_rate": 0.005}

    def run(name: str) -> pd.DataFrame:
        given: dict[str, Any] = {"classifiers": (classifier,), "grid": {classifier: quick}, "layers": "1"}
        return run_probe(
            ProbeConfig(store=framed[0], labels=("call",), out=tmp_path / name, n_seeds=3, **given)
        ).table

    held = run("held")
    monkeypatch.setattr(memory_plan, "block_rows", lambda *_: 400)
    streamed = run("streamed")
    assert held["fingerprint"].tolist() == streamed["fingerprint"].tolist()
    assert held["ece_test"].tolist() != streamed["ece_test"].tolist(), "the rows came in another order"
    for part in ("train", "val", "test"):
        gap = abs(held[f"uar_{part}"].mean() - streamed[f"uar_{part}"].mean())
        assert gap <= 2 * max(held[f"uar_{part}"].std(), 0.05), part
    assert streamed["uar_test"].min() > 0.6


def test_too_little_memory_even_for_a_block_of_frames_is_one_line(
    framed: tuple[str, dict[int, list[np.ndarray]], pd.DataFrame], tmp_path: Path
) -> None:
    config = ProbeConfig(
        store=framed[0], labels=("call",), out=tmp_path, classifiers=("attention",), memory="50MB"
    )
    with pytest.raises(
        ConfigError, match=r"classifier attention on the frames of framed/calls layer 0 takes at least"
    ) as caught:
        run_probe(config)
    assert "\n" not in str(caught.value)


def test_heads_that_do_not_divide_the_features_are_named(
    framed: tuple[str, dict[int, list[np.ndarray]], pd.DataFrame], tmp_path: Path
) -> None:
    config = ProbeConfig(
        store=framed[0], labels=("call",), out=tmp_path, classifiers=("mha",), grid={"mha": {"heads": 3}}
    )
    with pytest.raises(ConfigError, match="3 heads cannot share the 8 features of framed/calls"):
        run_probe(config)
