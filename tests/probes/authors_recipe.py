"""The study's classifier and its training in plain PyTorch; an oracle, no product.

Sarkar & Magimai-Doss (ICASSP 2025), as their released code has it: 70/20/10 by `random_split`, inputs
standardised as (x - m) / (s + 1e-10) with torch's unbiased s, hidden layers of Linear, LayerNorm, ReLU,
shuffled batches of 16, Adam 1e-3, `ReduceLROnPlateau` on the validation loss (0.1, patience 10), stop after
10 epochs without a better validation UAR, at most 30 epochs. Nothing here comes from `probes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import recall_score
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset, random_split

Parts = dict[str, tuple[Tensor, Tensor]]


def their_split(
    n: int, generator: torch.Generator | None, shares: tuple[float, float] = (0.7, 0.2)
) -> dict[str, np.ndarray]:
    """Rows of train, val and test; without a generator the split is another one at every call."""
    sizes = [int(share * n) for share in shares]
    sizes.append(n - sum(sizes))
    subsets = random_split(range(n), sizes, generator)  # type: ignore[arg-type]
    return {
        name: np.array(list(s.indices)) for name, s in zip(("train", "val", "test"), subsets, strict=True)
    }


def standardised(x: np.ndarray, y: np.ndarray, rows: dict[str, np.ndarray]) -> Parts:
    """Parts of `x [n, d]` scaled by the mean and the unbiased std of the training rows."""
    train = torch.from_numpy(x[rows["train"]])
    mean, std = train.mean(0), train.std(0)
    return {
        name: ((torch.from_numpy(x[r]) - mean) / (std + 1e-10), torch.from_numpy(y[r]))
        for name, r in rows.items()
    }


def network(widths: Sequence[int]) -> nn.Sequential:
    """D-128-64-32-C."""
    layers: list[nn.Module] = []
    for i in range(len(widths) - 2):
        layers += [nn.Linear(widths[i], widths[i + 1]), nn.LayerNorm(widths[i + 1]), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


@dataclass(frozen=True)
class Outcome:
    """Test UAR with the weights of the best epoch and of the last, and how many epochs there were."""

    best: float
    last: float
    n_epochs: int


def macro_recall(y: Tensor, logits: Tensor) -> float:
    """torchmetrics' macro recall: a class that is predicted and not there counts as 0."""
    return float(recall_score(y.numpy(), logits.argmax(1).numpy(), average="macro", zero_division=0))


def their_probe(
    parts: Parts, n_classes: int, seed: int, order_seed: int, *, batch_size: int = 16, max_epochs: int = 30
) -> Outcome:
    """One fit.

    Args:
        parts: Standardised rows and classes.
        n_classes: C.
        seed: Draws the initial weights.
        order_seed: Draws the order of the training rows, every epoch anew.
        batch_size: Rows per step.
        max_epochs: At most.
    """
    (x, y), (x_val, y_val), (x_test, y_test) = (parts[p] for p in ("train", "val", "test"))
    torch.manual_seed(seed)
    net = network([x.shape[1], 128, 64, 32, n_classes])
    rows = TensorDataset(x, y)
    shuffled = RandomSampler(rows, generator=torch.Generator().manual_seed(order_seed))
    loader = DataLoader(rows, batch_size=None, sampler=BatchSampler(shuffled, batch_size, drop_last=False))
    loss, optimiser = nn.CrossEntropyLoss(), torch.optim.Adam(net.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, mode="min", factor=0.1, patience=10)
    best_val, best_test, waited, n_epochs = -np.inf, 0.0, 0, 0
    while waited < 10 and n_epochs < max_epochs:
        n_epochs += 1
        net.train()
        for values, labels in loader:
            optimiser.zero_grad()
            loss(net(values), labels).backward()
            optimiser.step()
        net.eval()
        with torch.no_grad():
            of_val = net(x_val)
            last_test = macro_recall(y_test, net(x_test))
        # Logged batch by batch and averaged over batches, as torchmetrics' MeanMetric does.
        batches = zip(of_val.split(batch_size), y_val.split(batch_size), strict=True)
        schedule.step(float(torch.stack([loss(scores, labels) for scores, labels in batches]).mean()))
        score = macro_recall(y_val, of_val)
        waited += 1
        if score > best_val:
            best_val, best_test, waited = score, last_test, 0
    return Outcome(best_test, last_test, n_epochs)
