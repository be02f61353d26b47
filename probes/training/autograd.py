"""Training of networks that `fused_networks` does not know: plain autograd, all fits on the same batches.

The recipe is that of `probes.training.mlp`: AdamW, learning rate cut on a plateau of the validation loss,
early stop on the validation score, weights of the best epoch kept, or of the last. A batch is fetched once
for all fits; each has its own weights, optimiser and noise, so its result does not depend on the company.

Targets are classes `[n]`, label sets, 0/1 matrices `[n, C]`, or numbers, floating `[n]`. Classes are trained
by cross-entropy and scored by UAR; label sets by binary cross-entropy, the mean over rows and classes, and
mean average precision; numbers by squared error, which they are scored by too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.optim.lr_scheduler import ReduceLROnPlateau

from featurestore.arrays import FloatArray
from probes.metrics import mean_average_precision
from probes.training.mlp import class_weights
from probes.training.mlp_config import LEAST_CUT, RATE_CUT, MLPConfig, Schedule, schedule_of
from probes.training.vectors import StreamedRows, drawn_batches, in_pieces, macro_recall

Inputs = tuple[Tensor, ...]
# What the scores of a network are of.
OF_CLASSES, OF_SETS, OF_NUMBERS = "classes", "sets", "numbers"

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
    """Targets of one batch `[b]`, and the batch in pieces that fit into memory: inputs and targets."""

    y: Tensor
    pieces: Iterable[tuple[Inputs, Tensor]]


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """One fit.

    Attributes:
        config: How it is trained.
        make: Builds the network; called with the seed set.
        rates: Learning rates of single parameters, by name; they are not decayed.
        schedule: Without validation rows how long it is trained, and when its rates are cut.
    """

    config: MLPConfig
    make: Callable[[], nn.Module]
    rates: Mapping[str, float] = field(default_factory=dict)
    schedule: Schedule | None = None


@dataclass
class Trained:
    """A network with the weights of the epoch that was kept, and what happened on the way.

    Attributes:
        network: In evaluation mode.
        schedule: How its weights were trained; None before it is done.
        target: What its scores are of: `OF_CLASSES`, `OF_SETS` or `OF_NUMBERS`.
        n_epochs: Epochs trained.
        best_epoch: The one with the best validation score, from 1; kept unless the last was asked for.
        fit_s: Its share of the seconds of all that were trained together.
    """

    network: nn.Module
    target: str
    n_epochs: int = 0
    best_epoch: int = 0
    fit_s: float = 0.0
    schedule: Schedule | None = None

    def scores(self, feed: Feed) -> FloatArray:
        """Class probabilities `[n, C]`; of numbers what is predicted `[n, 1]`."""
        logits = _logits([self.network], feed)[0]
        if self.target != OF_NUMBERS:
            logits = torch.sigmoid(logits) if self.target == OF_SETS else torch.softmax(logits, dim=-1)
        out: FloatArray = logits.numpy()
        return out


def train(
    feed: Feed,
    y: npt.NDArray[Any],
    validation: Feed | None,
    y_validation: npt.NDArray[Any] | None,
    n_classes: int,
    specs: Sequence[NetworkSpec],
) -> list[Trained]:
    """Train every network; those that agree on batch size and order share their batches.

    Args:
        feed: Training rows.
        y: Their classes `[n]`, their label sets `[n, C]`, or their numbers, standardised `[n]`.
        validation: Validation rows; None where every spec has a schedule.
        y_validation: Their classes, label sets or numbers.
        n_classes: C; 1 for numbers.
        specs: The fits.

    Returns:
        One trained network per spec, in their order.
    """
    targets = torch.from_numpy(y)
    of_validation = None if y_validation is None else torch.from_numpy(y_validation)
    if y.ndim == 2 or targets.is_floating_point():
        targets = targets.float()
        of_validation = None if of_validation is None else of_validation.float()
    runs = [_Training(spec, targets, n_classes) for spec in specs]
    groups: dict[tuple[int, int], list[_Training]] = {}
    for run in runs:
        groups.setdefault((run.config.batch_size, run.config.order_seed), []).append(run)
    for members in groups.values():
        _train_together(members, feed, targets, validation, of_validation)
    return [run.trained for run in runs]


def _train_together(
    runs: list[_Training], feed: Feed, y: Tensor, validation: Feed | None, y_validation: Tensor | None
) -> None:
    config, score, started = runs[0].config, runs[0].objective.score, time.perf_counter()
    generator = torch.Generator().manual_seed(config.order_seed)
    running = list(runs)
    while running:
        for batch in feed.batches(y, config.batch_size, generator):
            for run in running:
                run.begin(batch.y)
            for inputs, targets in batch.pieces:
                for run in running:
                    run.learn(inputs, targets)
            for run in running:
                run.optimiser.step()
        if validation is None or y_validation is None:
            for run in running:
                run.after_scheduled_epoch()
        else:
            logits = _logits([r.network for r in running], validation)
            scores = score(logits, y_validation)
            for run, own, value in zip(running, logits, scores, strict=True):
                loss = run.objective.total(own, y_validation) / run.objective.mass(y_validation)
                run.after_epoch(value, float(loss))
        running = [r for r in running if not r.done]
    elapsed, n_epochs = time.perf_counter() - started, sum(run.trained.n_epochs for run in runs)
    for run in runs:
        run.trained.fit_s = elapsed * run.trained.n_epochs / n_epochs


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


class _OfClasses:
    """One class is right: cross-entropy of weighted rows, and UAR."""

    def __init__(self, config: MLPConfig, y: Tensor, n_classes: int) -> None:
        self._weight, self._smoothing = class_weights(config, y, n_classes), config.label_smoothing

    def total(self, logits: Tensor, y: Tensor) -> Tensor:
        """Sum of the losses of rows."""
        return cross_entropy(logits, y, self._weight, reduction="sum", label_smoothing=self._smoothing)

    def mass(self, y: Tensor) -> float:
        """What their sum is divided by."""
        return float(self._weight[y].sum())

    def score(self, logits: Tensor, y: Tensor) -> list[float]:
        """Of several networks `[K, n, C]` on the validation rows; the highest wins."""
        return macro_recall(logits.argmax(-1), y, logits.shape[-1])


class _OfSets(_OfClasses):
    """Any number of classes is right: binary cross-entropy of each, and mean average precision."""

    def __init__(self, config: MLPConfig, y: Tensor) -> None:
        positive = y.sum(0)
        # "balanced": both answers to a class weigh alike in all, as scikit-learn's class_weight does.
        self._positive = (len(y) - positive) / positive if config.class_weight == "balanced" else None
        self._smoothing = config.label_smoothing

    def total(self, logits: Tensor, y: Tensor) -> Tensor:
        smooth = y * (1 - self._smoothing) + self._smoothing / 2
        return binary_cross_entropy_with_logits(logits, smooth, pos_weight=self._positive, reduction="sum")

    def mass(self, y: Tensor) -> float:
        return float(y.numel())

    def score(self, logits: Tensor, y: Tensor) -> list[float]:
        return [mean_average_precision(y.numpy(), own) for own in logits.numpy()]


class _OfNumbers(_OfClasses):
    """A number is to be met: squared error, and its mean with a minus."""

    def __init__(self) -> None:
        pass

    def total(self, logits: Tensor, y: Tensor) -> Tensor:
        return (logits[..., 0] - y).square().sum()

    def mass(self, y: Tensor) -> float:
        return float(len(y))

    def score(self, logits: Tensor, y: Tensor) -> list[float]:
        losses: Tensor = (logits[..., 0] - y).square().mean(dim=-1)
        # What went astray is worse than any: only mAP may be undefined and still be the best there is.
        return (-losses).nan_to_num(nan=-torch.inf, neginf=-torch.inf).tolist()


class _Training:
    """One fit while it is trained."""

    def __init__(self, spec: NetworkSpec, y: Tensor, n_classes: int) -> None:
        self.config, self.planned = spec.config, spec.schedule
        config = spec.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.network = spec.make()
        own = {name: p for name, p in self.network.named_parameters() if name in spec.rates}
        others = [p for name, p in self.network.named_parameters() if name not in own]
        groups: list[dict[str, Any]] = [{"params": others}]
        groups += [{"params": [p], "lr": spec.rates[name], "weight_decay": 0.0} for name, p in own.items()]
        self.optimiser = torch.optim.AdamW(
            groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.plateau = ReduceLROnPlateau(self.optimiser, factor=RATE_CUT, patience=config.lr_patience)
        self.cuts: list[int] = []
        self.objective, target = _objective(config, y, n_classes)
        self.trained = Trained(self.network, target)
        self.best_score = -float("inf")
        self.best: dict[str, Tensor] = {}
        self.done = False

    def begin(self, y: Tensor) -> None:
        """A batch with these targets comes, in pieces."""
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        self.mass = self.objective.mass(y)

    def learn(self, inputs: Inputs, y: Tensor) -> None:
        """Add the gradient of one piece of the batch."""
        loss = self.objective.total(self.network(*inputs), y) / self.mass
        torch.autograd.backward(loss)

    def after_epoch(self, score: float, loss: float) -> None:
        """Note the validation result; keep the weights if they are the best so far."""
        trained, config = self.trained, self.config
        trained.n_epochs += 1
        before = self._rates()
        self.plateau.step(loss)
        if self._rates() != before:
            self.cuts.append(trained.n_epochs)
        # Where no class stands both in and out of validation, mAP chooses nothing: the last epoch stays.
        if np.isnan(score) or score > self.best_score or trained.n_epochs == 1:
            self.best_score, trained.best_epoch = np.fmax(score, self.best_score), trained.n_epochs
            if config.keep == "best":
                self.best = {name: p.clone() for name, p in self.network.state_dict().items()}
        late = trained.n_epochs - trained.best_epoch >= config.patience
        self.done = late or trained.n_epochs >= config.max_epochs
        if self.done:
            if config.keep == "best":
                self.network.load_state_dict(self.best)
            self._end()

    def after_scheduled_epoch(self) -> None:
        """Go on as the schedule says: there are no validation rows."""
        trained, planned = self.trained, self.planned
        assert planned is not None, "without validation rows a fit needs a schedule"
        trained.n_epochs = trained.best_epoch = trained.n_epochs + 1
        if trained.n_epochs in planned.cuts:
            self.cuts.append(trained.n_epochs)
            for group in self.optimiser.param_groups:
                if group["lr"] * (1 - RATE_CUT) > LEAST_CUT:
                    group["lr"] *= RATE_CUT
        self.done = trained.n_epochs >= planned.n_epochs
        if self.done:
            self._end()

    def _rates(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimiser.param_groups]

    def _end(self) -> None:
        trained = self.trained
        trained.schedule = schedule_of(self.config, trained.n_epochs, trained.best_epoch, self.cuts)
        self.network.eval()


def _objective(config: MLPConfig, y: Tensor, n_classes: int) -> tuple[_OfClasses, str]:
    """What is trained for with these targets, and what scores are of then."""
    if y.ndim == 2:
        return _OfSets(config, y), OF_SETS
    return (
        (_OfNumbers(), OF_NUMBERS)
        if y.is_floating_point()
        else (_OfClasses(config, y, n_classes), OF_CLASSES)
    )


class MatrixFeed:
    """Rows `[n, d]` of a matrix, or rows that stay in the store."""

    def __init__(self, x: FloatArray | StreamedRows) -> None:
        self.x = x

    def __len__(self) -> int:
        """See `Feed`."""
        return len(self.x)

    def batches(self, y: Tensor, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
        """See `Feed`."""
        for values, targets in drawn_batches(self.x, y, order, batch_size):
            yield Batch(targets, [((values,), targets)])

    def scoring(self) -> Iterator[tuple[Tensor, Inputs]]:
        """See `Feed`."""
        for rows, values in in_pieces(self.x):
            for part in np.array_split(np.arange(len(rows)), -(-len(rows) // SCORED_ROWS)):
                yield torch.from_numpy(rows[part]), (torch.from_numpy(values[part[0] : part[-1] + 1]),)
