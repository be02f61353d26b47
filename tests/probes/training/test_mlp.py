"""Fused training against a plain PyTorch loop, and against itself trained alone."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from featurestore.errors import ConfigError
from probes.metrics import uar
from probes.training import fused_networks
from probes.training.fused_networks import Stack
from probes.training.mlp import fit_mlps
from probes.training.mlp_config import MLPConfig
from probes.training.standardise import Standardiser
from probes.training.vectors import Scores, TrainingRows, macro_recall

N, D, C = 420, 24, 5


def problem(seed: int = 0, n: int = N) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    y = rng.choice(C, n, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    centres = rng.standard_normal((C, D)) * 0.6
    x = (rng.standard_normal((n, D)) + centres[y]).astype(np.float32)
    cut = int(n * 0.7)
    x = Standardiser.fit(x[:cut])(x)
    return x[:cut], y[:cut], x[cut:], y[cut:]


class Dropout(nn.Module):
    """Keeps where a uniform draw from its own stream is below 1 - p."""

    def __init__(self, p: float, generator: torch.Generator) -> None:
        super().__init__()
        self.p, self.generator = p, generator

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return x
        keep = torch.rand(x.shape, generator=self.generator) < 1 - self.p
        return x * keep / (1 - self.p)


def plain_loop(x, y, x_val, y_val, c: MLPConfig) -> tuple[torch.Tensor, int, list[float]]:
    """The recipe as anybody would write it; returns best logits, epochs, validation losses."""
    torch.manual_seed(c.seed)
    noise = torch.Generator().manual_seed(c.seed + (1 << 32))
    layers: list[nn.Module] = []
    widths = [x.shape[1], *c.hidden]
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.LayerNorm(b), nn.ReLU(), Dropout(c.dropout, noise)]
    net = nn.Sequential(*layers, nn.Linear(widths[-1], C))
    weight = None
    if c.class_weight == "balanced":
        weight = torch.tensor(len(y) / (C * np.bincount(y, minlength=C)), dtype=torch.float32)
    loss = nn.CrossEntropyLoss(weight=weight, label_smoothing=c.label_smoothing)
    optimiser = torch.optim.AdamW(net.parameters(), lr=c.learning_rate, weight_decay=c.weight_decay)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.1, patience=c.lr_patience)
    xt, yt, xv = torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(x_val)
    order = torch.Generator().manual_seed(c.order_seed)
    best, best_epoch, best_logits, losses = -1.0, 0, torch.empty(0), []
    for epoch in range(1, c.max_epochs + 1):
        net.train()
        for batch in torch.randperm(len(yt), generator=order).split(c.batch_size):
            optimiser.zero_grad()
            loss(net(xt[batch]), yt[batch]).backward()
            optimiser.step()
        net.eval()
        with torch.no_grad():
            logits = net(xv)
            losses.append(float(loss(logits, torch.from_numpy(y_val))))
        schedule.step(losses[-1])
        score = uar(y_val, logits.argmax(1).numpy())
        if score > best:
            best, best_epoch, best_logits = score, epoch, logits
        if epoch - best_epoch >= c.patience:
            break
    return best_logits, epoch, losses


@pytest.mark.parametrize("fault", ["absent", "other values"])
def test_without_a_usable_onednn_product_fits_are_the_same(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no public function of PyTorch's: where it is gone or means something else, nothing may change."""
    x, y, xv, yv = problem()
    configs = mixed_configs()[:4]
    usual = fit_mlps(x, y, xv, yv, C, configs)

    def broken(a: torch.Tensor, b: torch.Tensor, *_: object) -> torch.Tensor:
        if fault == "absent":
            raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")
        return a @ b.T + 1

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", broken)
    fused_networks.float32_product.cache_clear()
    try:
        without = fit_mlps(x, y, xv, yv, C, configs)
        assert fused_networks.float32_product().__name__ == "blas"
    finally:
        fused_networks.float32_product.cache_clear()
    for a, b in zip(usual, without, strict=True):
        np.testing.assert_allclose(a.logits(xv), b.logits(xv), atol=1e-4)


@pytest.mark.slow  # a process of its own that trains a hundred networks
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads resident memory from Linux")
def test_memory_does_not_grow_with_the_shapes_that_were_met() -> None:
    """oneDNN keeps 0.6 MB of each: a worker that lives for a thousand tasks met thousands."""
    code = """
import ctypes, numpy as np, torch
from probes.training.mlp import fit_mlps
from probes.training.mlp_config import MLPConfig
torch.set_num_threads(1)
trim, page = ctypes.CDLL("libc.so.6").malloc_trim, __import__("mmap").PAGESIZE
x, y = np.random.default_rng(0).standard_normal((900, 384)).astype("f4"), np.arange(900) % 6
configs = [MLPConfig(seed=k, max_epochs=1 + k, patience=30) for k in range(8)]
seen = []
for i in range(14):
    n = 400 + 7 * i
    fit_mlps(x[:n], y[:n], x[n:], y[n:], 6, configs)
    trim(0)
    seen.append(int(open("/proc/self/statm").read().split()[1]) * page / 1e6)
print(seen[-1] - seen[1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 25, "MB more after twelve data sets of other sizes"


def mixed_configs() -> list[MLPConfig]:
    """Twenty fits that differ in everything that may differ."""
    rng = np.random.default_rng(1)
    hidden = [(128, 64, 32), (128, 64, 32), (16,), ()]
    return [
        MLPConfig(
            hidden=hidden[i % 4],
            learning_rate=float(rng.choice([1e-4, 1e-3, 3e-3])),
            weight_decay=float(rng.choice([0.0, 0.1])),
            dropout=float(rng.choice([0.0, 0.3])),
            label_smoothing=float(rng.choice([0.0, 0.1])),
            class_weight="balanced" if rng.random() < 0.5 else "none",
            batch_size=32,
            max_epochs=3,
            seed=i // 2,
        )
        for i in range(20)
    ]


def test_each_of_twenty_mixed_fits_equals_the_same_fit_alone() -> None:
    x, y, xv, yv = problem()
    configs = mixed_configs()
    together = fit_mlps(x, y, xv, yv, C, configs, fits_per_stack=6)
    for config, fitted in zip(configs, together, strict=True):
        (alone,) = fit_mlps(x, y, xv, yv, C, [config])
        np.testing.assert_allclose(fitted.logits(xv), alone.logits(xv), atol=1e-4)
        assert fitted.val_uar == pytest.approx(alone.val_uar, abs=1e-9)
        assert fitted.best_epoch == alone.best_epoch


def test_stacks_trained_side_by_side_equal_one_after_another() -> None:
    x, y, xv, yv = problem()
    configs = mixed_configs()
    expected = fit_mlps(x, y, xv, yv, C, configs)
    torch.set_num_threads(2)
    found = fit_mlps(x, y, xv, yv, C, configs, fits_per_stack=4)
    assert torch.get_num_threads() == 2
    for a, b in zip(expected, found, strict=True):
        assert a.config == b.config
        np.testing.assert_allclose(a.logits(xv), b.logits(xv), atol=1e-4)


def test_an_interrupt_stops_all_stacks_and_restores_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, xv, yv = problem()
    torch.set_num_threads(2)

    def interrupt(rows: TrainingRows, stack: Stack) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingRows, "validate", interrupt)
    configs = [MLPConfig(seed=s, max_epochs=100_000, patience=100_000) for s in range(2)]
    with pytest.raises(KeyboardInterrupt):
        fit_mlps(x, y, xv, yv, C, configs)
    assert torch.get_num_threads() == 2


def test_each_fit_equals_a_plain_pytorch_loop() -> None:
    x, y, xv, yv = problem()
    configs = mixed_configs()
    for config, fitted in zip(configs, fit_mlps(x, y, xv, yv, C, configs), strict=True):
        logits, _, losses = plain_loop(x, y, xv, yv, config)
        np.testing.assert_allclose(fitted.logits(xv), logits.numpy(), atol=1e-4)
        assert fitted.val_loss == pytest.approx(losses, abs=1e-4)


def test_early_stop_and_schedule_equal_the_plain_loop_while_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y, xv, yv = problem(3, n=200)
    short = {"patience": 2, "lr_patience": 1, "max_epochs": 12, "hidden": (8,), "batch_size": 16}
    configs = [MLPConfig(seed=s, learning_rate=r, **short) for s in (0, 1) for r in (1e-4, 3e-2)]
    alive: list[int] = []
    validate = TrainingRows.validate

    def count(rows: TrainingRows, stack: Stack) -> Scores:
        alive.append(len(stack))
        return validate(rows, stack)

    monkeypatch.setattr(TrainingRows, "validate", count)
    fits = fit_mlps(x, y, xv, yv, C, configs)
    assert len({f.n_epochs for f in fits}) > 1, "the fits must stop at different epochs"
    assert sorted(alive, reverse=True) == alive
    assert alive[0] == len(configs) > alive[-1]
    for config, fit in zip(configs, fits, strict=True):
        logits, n_epochs, losses = plain_loop(x, y, xv, yv, config)
        assert fit.n_epochs == n_epochs
        assert fit.val_loss == pytest.approx(losses, abs=2e-3)
        np.testing.assert_allclose(fit.logits(xv), logits.numpy(), atol=2e-2)


def test_the_last_epoch_can_be_kept_instead_of_the_best() -> None:
    """It stops where the best would: the same run, cut off there, has these weights."""
    x, y, xv, yv = problem(3, n=200)
    settings = {"patience": 2, "max_epochs": 12, "hidden": (8,), "batch_size": 16, "learning_rate": 3e-2}
    best, last = fit_mlps(x, y, xv, yv, C, [MLPConfig(keep=k, **settings) for k in ("best", "last")])  # type: ignore[arg-type]
    assert (last.n_epochs, last.best_epoch) == (best.n_epochs, best.best_epoch)
    assert last.best_epoch < last.n_epochs < 12, "the two must differ"
    for kept, epoch in ((best, best.best_epoch), (last, last.n_epochs)):
        cut = MLPConfig(**(settings | {"max_epochs": epoch}))  # type: ignore[arg-type]
        (alone,) = fit_mlps(x, y, None, None, C, [cut])
        np.testing.assert_allclose(kept.logits(xv), alone.logits(xv), atol=1e-4)
    assert not np.allclose(best.logits(xv), last.logits(xv), atol=1e-2)


def test_settings_younger_than_fingerprints_are_named_only_off_their_defaults() -> None:
    assert not {"keep", "precision"} & MLPConfig().hparams().keys()
    assert MLPConfig(keep="last").hparams()["keep"] == "last"
    assert MLPConfig(precision="bf16").hparams()["precision"] == "bf16"


def test_without_validation_rows_the_last_epoch_is_kept() -> None:
    x, y, xv, yv = problem()
    config = MLPConfig(max_epochs=3, patience=1, batch_size=32)
    (fit,) = fit_mlps(x, y, None, None, C, [config])
    assert (fit.n_epochs, fit.best_epoch, fit.val_uar) == (3, 3, [])
    # the same run with validation, whose best epoch is the last
    (seen,) = fit_mlps(x, y, xv, yv, C, [config])
    if seen.best_epoch == 3:
        np.testing.assert_array_equal(seen.logits(xv), fit.logits(xv))


def test_a_class_absent_from_training_and_a_single_row_batch_do_no_harm() -> None:
    x, y, xv, yv = problem()
    present = y != 4
    x, y = x[present], y[present]
    config = MLPConfig(max_epochs=1, batch_size=len(y) - 1, class_weight="balanced")
    (fit,) = fit_mlps(x, y, xv, yv, C, [config])
    p = fit.probabilities(xv)
    assert p.shape == (len(xv), C)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)


def test_macro_recall_equals_the_metric_of_one_fit() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 50)  # class 4 is absent
    guesses = rng.integers(0, 5, (3, 50))
    got = macro_recall(torch.from_numpy(guesses), torch.from_numpy(y), 5)
    assert got == pytest.approx([uar(y, g) for g in guesses], abs=1e-12)


def test_standardiser_uses_training_statistics_and_leaves_constants_alone() -> None:
    rng = np.random.default_rng(0)
    train = rng.normal(3, 2, (100, 3)).astype(np.float32)
    train[:, 2] = 0.1
    other = train + 1
    s = Standardiser.fit(train)
    expected = (other[:, :2] - train[:, :2].mean(0)) / (train[:, :2].std(0) + 1e-10)
    np.testing.assert_allclose(s(other)[:, :2], expected, rtol=1e-4)
    np.testing.assert_allclose(s(train)[:, 2], 0, atol=1e-6)
    np.testing.assert_allclose(s(other)[:, 2], 1, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("dropout", 1.0),
        ("batch_size", 0),
        ("class_weight", "heavy"),
        ("hidden", (128, 0)),
        ("label_smoothing", -0.1),
        ("max_epochs", 0),
        ("keep", "first"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"probe setting {name}: expected .* got"):
        MLPConfig(**{name: value})  # type: ignore[arg-type]
