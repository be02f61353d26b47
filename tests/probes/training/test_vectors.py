"""Rows that stay in the store, against the same rows in memory."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from featurestore import open_store
from featurestore.compute.memory import available_bytes, parse_bytes, resident_bytes, worker_bytes
from featurestore.errors import ConfigError, UserError
from probes import ProbeConfig, read_predictions, run_probe
from probes.run import memory_plan
from probes.training.mlp import fit_mlps
from probes.training.mlp_config import MLPConfig
from probes.training.standardise import Standardiser
from probes.training.vectors import StreamedRows, TrainingRows, shuffled_batches, standardised

BLOCK = 100


@pytest.fixture
def streamed(store: str) -> StreamedRows:
    """Rows of model-a's layers 0 and 2 side by side, every second one, in no order."""
    features = open_store(store).features("model-a", "calls")
    ok = np.flatnonzero((features.index["status"] == "ok").to_numpy())
    position = np.random.default_rng(0).permutation(ok[::2])
    return StreamedRows(
        sources=(features.layer(0), features.layer(2)), position=position, block_rows=BLOCK // 4
    )


def in_memory(rows: StreamedRows) -> np.ndarray:
    parts = [source.numpy().reshape(len(source.rows), -1)[rows.position] for source in rows.sources]
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("share", [1, 3])
def test_blocks_hold_every_row_once_with_its_values(streamed: StreamedRows, share: int) -> None:
    expected = in_memory(streamed)
    assert streamed.shape == expected.shape
    found = np.full_like(expected, np.nan)
    sizes = []
    for rows, values in streamed.blocks(share=share):
        assert np.isnan(found[rows]).all()
        found[rows] = values
        sizes.append(len(rows))
    np.testing.assert_array_equal(found, expected)
    assert max(sizes) <= streamed.block_rows // share
    some = streamed[np.array([5, 3, 40])]
    ((rows, values),) = some.blocks()
    np.testing.assert_array_equal(values, expected[[5, 3, 40]][rows])


def test_moments_of_pieces_equal_those_of_all_rows() -> None:
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((3000, 7)) * [1, 1e-3, 1e3, 5, 1, 1, 0] + [0, 1e3, -5, 1e4, 0, 7, 0.1]).astype(
        "f4"
    )
    expected, found = Standardiser.fit(x), Standardiser.of_pieces(np.split(x, [1, 700, 2500]))
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-6)
    assert found.scale[-1] == 1  # constant


def test_batches_are_whole_shuffled_and_standardised(streamed: StreamedRows) -> None:
    parts, fitted = standardised({"train": streamed})
    expected = fitted(in_memory(streamed))
    y = torch.arange(len(streamed))
    order = torch.Generator().manual_seed(3)
    epochs = []
    for _ in range(2):
        batches = list(shuffled_batches(parts["train"], y, order, 16, 1))
        assert [len(b) for _, b in batches[:-1]] == [16] * (len(batches) - 1)
        assert 0 < len(batches[-1][1]) <= 16
        rows = torch.cat([b for _, b in batches])
        assert sorted(rows.tolist()) == y.tolist()
        np.testing.assert_allclose(torch.cat([x for x, _ in batches]), expected[rows], atol=1e-6)
        epochs.append(rows.tolist())
    assert epochs[0] != epochs[1]
    by_place = np.argsort(streamed.position)
    assert sum(a < b for a, b in itertools.pairwise(np.argsort(by_place)[epochs[0]])) < 0.7 * len(y)


def test_a_batch_larger_than_a_block_is_filled_from_several(streamed: StreamedRows) -> None:
    y = torch.arange(len(streamed))
    batches = list(shuffled_batches(streamed, y, torch.Generator().manual_seed(0), 70, 1))
    assert [len(b) for _, b in batches] == [70, len(y) - 70]
    assert sorted(torch.cat([b for _, b in batches]).tolist()) == y.tolist()


def test_validation_in_blocks_equals_validation_in_memory(streamed: StreamedRows) -> None:
    x, rng = in_memory(streamed), np.random.default_rng(0)
    y = rng.integers(0, 3, len(x))
    config = MLPConfig(hidden=(8,), max_epochs=1, class_weight="balanced", label_smoothing=0.1)
    (fit,) = fit_mlps(x, y, x, y, 4, [config])
    np.testing.assert_allclose(fit.logits(streamed), fit.logits(x), atol=1e-5)
    from probes.training.mlp import stack_of

    stack = stack_of([fit])
    found = TrainingRows(streamed, y, streamed, y, 4, 2).validate(stack)
    expected = TrainingRows(x, y, x, y, 4, 1).validate(stack)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found[1] == pytest.approx(expected[1], abs=1e-12)


def test_numbers_are_fitted_from_the_store_as_in_memory(streamed: StreamedRows) -> None:
    parts, fitted = standardised({"train": streamed, "val": streamed[np.arange(40)]})
    x = fitted(in_memory(streamed))
    y = (x[:, 0] - 0.5 * x[:, 3]).astype(np.float32)
    # One step an epoch, of all rows: then their order is none.
    config = MLPConfig(hidden=(6,), max_epochs=5, batch_size=len(y))
    (here,) = fit_mlps(x, y, x[:40], y[:40], 1, [config])
    (there,) = fit_mlps(parts["train"], y, parts["val"], y[:40], 1, [config])
    np.testing.assert_allclose(there.val_loss, here.val_loss, rtol=1e-4)
    np.testing.assert_allclose(there.logits(parts["val"]), here.logits(x[:40]), atol=1e-4)
    error = np.square(here.logits(x[:40])[:, 0] - y[:40]).mean()
    assert min(here.val_loss) == pytest.approx(error, rel=1e-4)


def probe(store: str, out: Path, **changes: object) -> ProbeConfig:
    given = {
        "classifiers": ("linear",),
        "labels": ("call",),
        "layers": "1",
        "models": ("model-a",),
        **changes,
    }
    grid = (
        {"linear": {"max_epochs": 15, "batch_size": 16, "learning_rate": 0.01}} if "grid" not in given else {}
    )
    return ProbeConfig(**{"store": store, "out": out, "split": "random", "grid": grid, **given})  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_streamed_run_scores_like_one_in_memory(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: pd.DataFrame
) -> None:
    held = run_probe(probe(store, tmp_path / "held", n_seeds=3)).table
    monkeypatch.setattr(memory_plan, "block_rows", lambda *_: 70)
    streamed = run_probe(probe(store, tmp_path / "streamed", n_seeds=3)).table
    assert held["fingerprint"].tolist() == streamed["fingerprint"].tolist()
    assert held["ece_test"].tolist() != streamed["ece_test"].tolist(), "the rows came in another order"
    for part in ("train", "val", "test"):
        gap = abs(held[f"uar_{part}"].mean() - streamed[f"uar_{part}"].mean())
        assert gap <= 2 * max(held[f"uar_{part}"].std(), 0.03), part
        assert (held[f"n_{part}"] == streamed[f"n_{part}"]).all()
    label = dict(zip(table["utterance_id"], table["call"], strict=True))
    predictions = read_predictions(tmp_path / "streamed", streamed)
    assert (predictions["utterance_id"].map(label) == predictions["target"]).all()
    assert (predictions["target"] == predictions["prediction"]).mean() > 0.8


def test_a_classifier_that_needs_all_rows_says_what_would_fit(store: str, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"memory: classifier logreg on model-a/calls layer 1 needs all"
    ) as e:
        run_probe(probe(store, tmp_path, classifiers=("logreg",), grid={}, memory="1MB"))
    assert "\n" not in str(e.value)
    assert "1 MB; raise --memory" in str(e.value)


def test_too_little_memory_to_stream_is_one_line(store: str, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"may use 1 MB, and model-a/calls layer 1 takes at least .* streamed"
    ):
        run_probe(probe(store, tmp_path, memory="1MB"))


def test_blocks_are_as_large_as_the_memory_allows() -> None:
    rows, width = 1_000_000, 1536
    held, beside = resident_bytes(), 100_000_000
    assert memory_plan.block_rows(rows, width, held + 2 * rows * width * 4, beside, "x") is None
    found = memory_plan.block_rows(rows, width, held + beside + 500_000_000, beside, "x")
    assert found is not None
    assert 350_000_000 < found * width * 4 <= 400_000_000


@pytest.mark.parametrize(
    ("text", "n_bytes"), [("1.5GB", 1_500_000_000), ("800 MiB", 800 << 20), ("12", 12), ("2k", 2000), (7, 7)]
)
def test_sizes_are_read(text: str | int, n_bytes: int) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["much", "", "-1GB", "0", "1 XB"])
def test_a_wrong_size_is_named(text: str) -> None:
    with pytest.raises(UserError, match=r"memory: expected a size such as 1.5GB"):
        ProbeConfig(store="s", labels=("l",), out=Path("o"), memory=text or " ")


def test_workers_share_the_free_memory() -> None:
    assert available_bytes() > 0
    assert resident_bytes() > 10_000_000
    assert worker_bytes(4) < worker_bytes(1)
