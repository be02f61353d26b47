"""Training on a device: everything lies there, nothing waits for it, and on a GPU it learns the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from featurestore.errors import ConfigError
from probes.questions.tasks import ProbeConfig
from probes.training import fused_networks
from probes.training.devices import on_device, resolve_device
from probes.training.fused_networks import Shape, Stack, initial_weights
from probes.training.mlp import MLPConfig, fit_mlps, stack_of
from tests.no_values import META, Watch

N, D, C = 300, 12, 3
CONFIGS = [
    MLPConfig(hidden=(8, 6), seed=seed, learning_rate=rate, weight_decay=decay, dropout=0.2, max_epochs=4)
    for seed, (rate, decay) in enumerate([(1e-2, 0.0), (1e-3, 0.1), (1e-2, 0.0), (1e-2, 0.1)])
]


def rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, C, N)
    centres = np.random.default_rng(9).standard_normal((C, D))
    return (rng.standard_normal((N, D)) + centres[y]).astype(np.float32), y


def stack_on(device: torch.device) -> Stack:
    shape, k = Shape((D, 8, 6, C)), 3
    weights = [initial_weights(shape, seed) for seed in range(k)]
    return Stack(
        shape,
        torch.cat([first for first, _ in weights]).to(device),
        torch.stack([tail for _, tail in weights]).to(device),
        torch.eye(C, device=device).expand(k, -1, -1),
        torch.ones(k, C, device=device),
        dropout=[0.2, 0.0, 0.2],
        dropout_stream=[0, 1, 2],
        weight_decay=[0.0, 0.0, 0.1],
        batch_size=16,
    )


def test_a_step_asks_nothing_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whether all weights are one is asked once, when the stack is made.
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda self: False)
    stack = stack_on(META)
    monkeypatch.undo()
    noise = {seed: torch.Generator().manual_seed(seed) for seed in range(3)}
    x, y = torch.zeros(16, D, device=META), torch.zeros(16, dtype=torch.int64, device=META)
    with Watch() as watch:
        stack.step(x, y, [1e-3, 1e-3, 1e-2], noise)
        assert watch.n_sent == 2  # the noise of each hidden layer, of all networks at once
        logits = stack.logits(x)
        stack.losses(logits, y)
    assert logits.shape == (3, 16, C)
    assert logits.device == META


def test_updated_together_as_on_a_gpu_they_are_what_they_are_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (x, y), (xv, yv) = rows(0), rows(1)
    expected = fit_mlps(x, y, xv, yv, C, CONFIGS)
    monkeypatch.setattr(fused_networks.Stack, "_by_blocks", False)
    found = fit_mlps(x, y, xv, yv, C, CONFIGS, device="cpu")
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.logits(xv), b.logits(xv), rtol=1e-5, atol=1e-5)
        assert a.best_epoch == b.best_epoch
        assert a.device == "cpu"


def test_a_device_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    assert resolve_device("cpu") == "cpu"
    with pytest.raises(ConfigError, match="expected auto, cpu, cuda or cuda:N, got 'gpu'"):
        ProbeConfig(store="s", labels=("a",), out=tmp_path, device="gpu")
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ConfigError, match="CUDA devices on this machine; take auto or cpu"):
        resolve_device(missing)


def test_rows_are_taken_where_they_lie() -> None:
    x, _ = rows()
    assert on_device(x, torch.device("cpu")).data_ptr() == x.ctypes.data


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_on_a_gpu_it_learns_the_same() -> None:
    (x, y), (xv, yv) = rows(0), rows(1)
    # Few steps: rounding differs, and training makes more of every difference.
    configs = [replace(c, max_epochs=2, patience=2) for c in CONFIGS]
    expected = fit_mlps(x, y, xv, yv, C, configs)
    found = fit_mlps(x, y, xv, yv, C, configs, device="cuda")
    for a, b in zip(found, expected, strict=True):
        assert a.device == "cuda"
        np.testing.assert_allclose(a.logits(xv), b.logits(xv), rtol=0, atol=1e-3)
    together = stack_of(found).logits(torch.from_numpy(xv).cuda()).cpu().numpy()
    np.testing.assert_allclose(together, [f.logits(xv) for f in found], rtol=0, atol=1e-5)
