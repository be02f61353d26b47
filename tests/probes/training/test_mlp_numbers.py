"""Fused training on numbers against a plain PyTorch loop, and against itself trained alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from probes.training.mlp import fit_mlps
from probes.training.mlp_config import MLPConfig
from probes.training.standardise import Standardiser

D = 20


def problem() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((330, D))
    y = np.tanh(x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + 0.2 * rng.standard_normal(330)
    y = (y - y[:230].mean()) / y[:230].std()
    x = Standardiser.fit(x[:230].astype(np.float32))(x.astype(np.float32))
    return x[:230], y[:230].astype(np.float32), x[230:], y[230:].astype(np.float32)


def plain_loop(x, y, x_val, y_val, c: MLPConfig) -> tuple[np.ndarray, int, int, list[float]]:
    """The recipe as anybody would write it: predictions of the best epoch, epochs, best one, losses."""
    torch.manual_seed(c.seed)
    layers: list[nn.Module] = []
    widths = [D, *c.hidden]
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.LayerNorm(b), nn.ReLU()]
    net, loss = nn.Sequential(*layers, nn.Linear(widths[-1], 1)), nn.MSELoss()
    optimiser = torch.optim.AdamW(net.parameters(), lr=c.learning_rate, weight_decay=c.weight_decay)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.1, patience=c.lr_patience)
    xt, yt, xv, yv = map(torch.from_numpy, (x, y, x_val, y_val))
    order = torch.Generator().manual_seed(c.order_seed)
    best, best_epoch, found, losses = float("inf"), 0, np.empty(0), []
    for epoch in range(1, c.max_epochs + 1):
        net.train()
        for batch in torch.randperm(len(yt), generator=order).split(c.batch_size):
            optimiser.zero_grad()
            loss(net(xt[batch])[:, 0], yt[batch]).backward()
            optimiser.step()
        net.eval()
        with torch.no_grad():
            guess = net(xv)[:, 0]
            losses.append(float(loss(guess, yv)))
        schedule.step(losses[-1])
        if losses[-1] < best:
            best, best_epoch, found = losses[-1], epoch, guess.numpy()
        if epoch - best_epoch >= c.patience:
            break
    return found, epoch, best_epoch, losses


CONFIGS = [
    MLPConfig(hidden=hidden, seed=seed, batch_size=32, max_epochs=14, patience=4, lr_patience=1, **more)
    for hidden in ((16, 8), ())
    for seed in (0, 1)
    for more in ({}, {"learning_rate": 3e-3, "weight_decay": 0.05})
]


def test_each_fit_is_what_a_plain_loop_gives() -> None:
    x, y, x_val, y_val = problem()
    for fit, config in zip(fit_mlps(x, y, x_val, y_val, 1, CONFIGS), CONFIGS, strict=True):
        expected, n_epochs, best_epoch, losses = plain_loop(x, y, x_val, y_val, config)
        assert (fit.n_epochs, fit.best_epoch) == (n_epochs, best_epoch)
        np.testing.assert_allclose(fit.val_loss, losses, rtol=1e-4)
        np.testing.assert_allclose(fit.val_uar, np.negative(losses), rtol=1e-4)
        assert fit.logits(x_val).shape == (100, 1)
        np.testing.assert_allclose(fit.logits(x_val)[:, 0], expected, atol=1e-4)


def test_a_fit_does_not_depend_on_its_company() -> None:
    x, y, x_val, y_val = problem()
    together = fit_mlps(x, y, x_val, y_val, 1, CONFIGS)
    for config, fit in zip(CONFIGS, together, strict=True):
        (alone,) = fit_mlps(x, y, x_val, y_val, 1, [config])
        assert (fit.n_epochs, fit.best_epoch) == (alone.n_epochs, alone.best_epoch)
        np.testing.assert_allclose(fit.logits(x_val), alone.logits(x_val), atol=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_without_validation_rows_all_epochs_are_trained(dropout: float) -> None:
    x, y, _, _ = problem()
    (fit,) = fit_mlps(x, y, None, None, 1, [MLPConfig(hidden=(8,), max_epochs=6, dropout=dropout)])
    assert (fit.n_epochs, fit.best_epoch, fit.val_uar) == (6, 6, [])
    assert np.isfinite(fit.logits(x)).all()
