"""Training of networks that `fused_networks` does not know: plain autograd, all fits on the same batches.

The recipe is that of `probes.training.mlp`: AdamW, learning rate cut on a plateau of the validation loss,
early stop on validation UAR, weights of the best epoch kept. A batch is fetched once for all fits; each fit
has its own weights, optimiser and noise, so its result does not depend on the company.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from featurestore.arrays import FloatArray, IntArray
from featurestore.errors import ConfigError
from probes.training.mlp import MLPConfig
from probes.training.streamed_vectors import StreamedRows, in_pieces, shuffled_batches
from probes.training.training_rows import macro_recall

Inputs = tuple[Tensor, ...]

# Rows scored at a time.
SCORED_ROWS = 512


class Feed(Protocol):
    """Rows as a network reads them."""

    def __len__(self) -> int:
        """Rows."""
        ...

    def batches(self, y: Tensor, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
        """The batches of one epoch; every row is in one of them."""
        ...

    def scoring(self) -> Iterator[tuple[Tensor, Inputs]]:
        """Positions `[b]` and inputs of all rows, in pieces that fit into memory."""
        ...


@dataclass(frozen=True)
class Batch:
    """Classes of one batch `[b]`, and the batch in pieces that fit into memory: inputs and classes."""

    y: Tensor
    pieces: Iterable[tuple[Inputs, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One fit.

    Attributes:
        config: How it is trained.
        make: Builds the network; called with the seed set.
        rates: Learning rates of single parameters, by name; they are not decayed.
    """

    config: MLPConfig
    make: Callable[[], nn.Module]
    rates: dict[str, float]


@dataclass
class Trained:
    """A network with the weights of its best epoch, and what happened on the way."""

    network: nn.Module
    n_epochs: int = 0
    best_epoch: int = 0
    fit_s: float = 0.0

    def probabilities(self, feed: Feed) -> FloatArray:
        """Class probabilities `[n, C]`."""
        out: FloatArray = torch.softmax(self.logits(feed), dim=-1).numpy()
        return out

    def logits(self, feed: Feed) -> Tensor:
        """Unnormalised class scores `[n, C]`."""
        return _logits([self.network], feed)[0]


def train(
    feed: Feed,
    y: IntArray,
    validation: Feed,
    y_validation: IntArray,
    n_classes: int,
    jobs: Sequence[Job],
) -> list[Trained]:
    """Train every job; those that agree on batch size and order share their batches.

    Args:
        feed: Training rows.
        y: Their classes `[n]`.
        validation: Validation rows.
        y_validation: Their classes.
        n_classes: C.
        jobs: The fits.

    Returns:
        One trained network per job, in their order.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for i, job in enumerate(jobs):
        groups.setdefault((job.config.batch_size, job.config.order_seed), []).append(i)
    out: dict[int, Trained] = {}
    for (batch_size, order_seed), members in groups.items():
        runs = [_Run(jobs[i], y, n_classes) for i in members]
        _train_together(
            runs,
            feed,
            torch.from_numpy(y),
            validation,
            torch.from_numpy(y_validation),
            batch_size,
            order_seed,
        )
        out |= {i: run.trained for i, run in zip(members, runs, strict=True)}
    return [out[i] for i in range(len(jobs))]


def _train_together(
    runs: list[_Run],
    feed: Feed,
    y: Tensor,
    validation: Feed,
    y_validation: Tensor,
    batch_size: int,
    order_seed: int,
) -> None:
    generator = torch.Generator().manual_seed(order_seed)
    running = list(runs)
    while running:
        for batch in feed.batches(y, batch_size, generator):
            for run in running:
                run.begin(batch.y)
            for inputs, labels in batch.pieces:
                for run in running:
                    run.learn(inputs, labels)
            for run in running:
                run.step()
        logits = _logits([r.network for r in running], validation)
        uars = macro_recall(logits.argmax(-1), y_validation, logits.shape[-1])
        for run, scores, uar in zip(running, logits, uars, strict=True):
            run.after_epoch(uar, run.loss(scores, y_validation))
        running = [r for r in running if not r.done]


def _logits(networks: Sequence[nn.Module], feed: Feed) -> Tensor:
    """Scores of all networks `[K, n, C]`."""
    out: Tensor | None = None
    for network in networks:
        network.eval()
    with torch.inference_mode():
        for positions, inputs in feed.scoring():
            scores = torch.stack([network(*inputs) for network in networks])
            if out is None:
                out = torch.empty(len(networks), len(feed), scores.shape[-1])
            out[:, positions] = scores
    assert out is not None, "no rows to score"
    return out


class _Run:
    """One fit while it is trained."""

    def __init__(self, job: Job, y: IntArray, n_classes: int) -> None:
        config = job.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.network = job.make()
        self.config = config
        own = {name: p for name, p in self.network.named_parameters() if name in job.rates}
        others = [p for name, p in self.network.named_parameters() if name not in own]
        groups: list[dict[str, Any]] = [{"params": others}]
        groups += [{"params": [p], "lr": job.rates[name], "weight_decay": 0.0} for name, p in own.items()]
        self.optimiser = torch.optim.AdamW(
            groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.schedule = ReduceLROnPlateau(self.optimiser, factor=0.1, patience=config.lr_patience)
        self.class_weight = _class_weight(config, y, n_classes)
        self.criterion = nn.CrossEntropyLoss(
            weight=self.class_weight, label_smoothing=config.label_smoothing, reduction="sum"
        )
        self.trained = Trained(self.network)
        self.best_uar = -1.0
        self.best: dict[str, Tensor] = {}
        self.done = False
        self.started = time.perf_counter()

    def begin(self, y: Tensor) -> None:
        """A batch with these classes comes, in pieces."""
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        self.mass = float(self.class_weight[y].sum())

    def learn(self, inputs: Inputs, y: Tensor) -> None:
        """Add the gradient of one piece of the batch."""
        loss = self.criterion(self.network(*inputs), y) / self.mass
        loss.backward()

    def step(self) -> None:
        """Change the weights by the gradient of the whole batch."""
        self.optimiser.step()

    def loss(self, logits: Tensor, y: Tensor) -> float:
        """The training criterion on given rows: a weighted mean."""
        return float(self.criterion(logits, y) / self.class_weight[y].sum())

    def after_epoch(self, uar: float, loss: float) -> None:
        """Note the validation result; keep the weights if they are the best so far."""
        trained, config = self.trained, self.config
        trained.n_epochs += 1
        self.schedule.step(loss)
        if uar > self.best_uar:
            self.best_uar, trained.best_epoch = uar, trained.n_epochs
            self.best = {name: p.clone() for name, p in self.network.state_dict().items()}
        late = trained.n_epochs - trained.best_epoch >= config.patience
        self.done = late or trained.n_epochs >= config.max_epochs
        if self.done:
            self.network.load_state_dict(self.best)
            self.network.eval()
            trained.fit_s = time.perf_counter() - self.started


def _class_weight(config: MLPConfig, y: IntArray, n_classes: int) -> Tensor:
    """Weight of each class `[C]`, as `probes.training.mlp` has it.

    Raises:
        ConfigError: not one weight per class.
    """
    if config.class_weight == "none":
        return torch.ones(n_classes)
    if config.class_weight == "balanced":
        counts = np.bincount(y, minlength=n_classes).clip(min=1)
        return torch.from_numpy((len(y) / (n_classes * counts)).astype(np.float32))
    if len(config.class_weight) != n_classes:
        raise ConfigError(
            f"probe setting class_weight: expected {n_classes} weights, one per class, "
            f"got {len(config.class_weight)}"
        )
    return torch.tensor(config.class_weight, dtype=torch.float32)


class MatrixFeed:
    """Rows `[n, d]` of a matrix, or rows that stay in the store."""

    def __init__(self, x: FloatArray | StreamedRows) -> None:
        self.x = x

    def __len__(self) -> int:
        """See `Feed`."""
        return len(self.x)

    def batches(self, y: Tensor, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
        """See `Feed`."""
        if isinstance(self.x, StreamedRows):
            for values, labels in shuffled_batches(self.x, y, order, batch_size, share=1):
                yield Batch(labels, [((values,), labels)])
            return
        x = torch.from_numpy(self.x)
        for positions in torch.split(torch.randperm(len(y), generator=order), batch_size):
            yield Batch(y[positions], [((x[positions],), y[positions])])

    def scoring(self) -> Iterator[tuple[Tensor, Inputs]]:
        """See `Feed`."""
        for rows, values in in_pieces(self.x):
            for part in np.array_split(np.arange(len(rows)), -(-len(rows) // SCORED_ROWS)):
                yield torch.from_numpy(rows[part]), (torch.from_numpy(values[part[0] : part[-1] + 1]),)
