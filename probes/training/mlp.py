"""The paper's MLP probe, and linear softmax probes, trained many at a time.

Sarkar & Magimai-Doss (ICASSP 2025): inputs standardised by the training rows, D-128-64-32-C with
LayerNorm and ReLU after each hidden layer, cross-entropy, Adam 1e-3, at most 30 epochs,
ReduceLROnPlateau on the validation loss (0.1, patience 10), early stop on validation UAR (patience
10). Three things differ by default, all options:

* the weights of the best validation UAR are kept. The released code tests those of the last epoch, which
  `keep="last"` keeps: its configuration saves no checkpoint (`save_top_k: False` is 0).
* batches of 128 rows, not 16. A batch of 16 spends eight times as many optimiser steps on matrices
  too thin for the processor; `batch_size=16` gives the paper's.
* all fits of one call see the same batches in the same order, drawn from `order_seed`, so that
  their first layers are one matrix product. `seed` draws the initial weights and the dropout noise.
  A fit trained alone draws the same order, hence gives the same result.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featurestore.arrays import FloatArray, IntArray
from featurestore.errors import ConfigError
from probes.training.devices import on_device
from probes.training.fused_networks import Shape, Stack, initial_weights
from probes.training.mlp_config import LEAST_CUT, RATE_CUT, MLPConfig, Schedule, schedule_of
from probes.training.vectors import StreamedRows, TrainingRows, in_pieces

# Networks trained in one stack. More share the rows better, fewer keep weights and moments
# (3 x 0.8 MB each for the paper's net) nearer to the cache.
FITS_PER_STACK = 32
# Of a GPU: enough that its kernels are larger than their launch, 12 MB each with rows of 1,536 numbers.
GPU_FITS_PER_STACK = 256
_Asked = tuple[MLPConfig, Schedule | None]


@dataclass
class FittedMLP:
    """A trained network (of the epoch that `MLPConfig.keep` says) and what happened on the way.

    Attributes:
        config: Its settings.
        shape: Layer widths.
        first: First weight `[h1, d]`.
        tail: All other parameters, flat.
        n_epochs: Epochs trained.
        best_epoch: The one with the best validation UAR, counted from 1. Its weights are these, unless
            `config.keep` is "last": then they are those of epoch `n_epochs`.
        val_uar: Validation UAR after each epoch (empty without validation rows); of numbers the validation
            loss with a minus, which puts epochs in the same order as R² does.
        val_loss: Validation loss after each epoch.
        cuts: Epochs after which the learning rate was cut.
        fit_s: Its share of its stack's wall time.
        device: Where it was trained, and is scored; its weights lie on the host.
    """

    config: MLPConfig
    shape: Shape
    first: Tensor
    tail: Tensor
    n_epochs: int
    best_epoch: int
    val_uar: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    fit_s: float = 0.0
    device: str = "cpu"

    @property
    def schedule(self) -> Schedule:
        """How its weights were trained."""
        return schedule_of(self.config, self.n_epochs, self.best_epoch, self.cuts)

    def logits(self, x: FloatArray | StreamedRows) -> FloatArray:
        """Unnormalised class scores `[n, C]` of standardised rows `[n, d]`; numbers themselves."""
        stack = stack_of([self])
        out = np.empty((len(x), self.shape.sizes[-1]), dtype=np.float32)
        for rows, values in in_pieces(x):
            out[rows] = stack.logits(on_device(values, stack.device))[0].cpu().numpy()
        return out

    def probabilities(self, x: FloatArray | StreamedRows) -> FloatArray:
        """Class probabilities `[n, C]` of standardised rows `[n, d]`."""
        out: FloatArray = torch.softmax(torch.from_numpy(self.logits(x)), -1).numpy()
        return out


def stack_of(fits: Sequence[FittedMLP]) -> Stack:
    """Trained networks of one shape, to be scored together."""
    shape, n, device = fits[0].shape, len(fits), fits[0].device
    n_classes = shape.sizes[-1]
    return Stack(
        shape,
        torch.cat([f.first for f in fits]).to(device),
        torch.stack([f.tail for f in fits]).to(device),
        torch.eye(n_classes, device=device).expand(n, -1, -1),
        torch.ones(n, n_classes, device=device),
        dropout=[0.0] * n,
        dropout_stream=[0] * n,
        weight_decay=[0.0] * n,
        precision=fits[0].config.precision,
    )


def fit_mlps(
    x_train: FloatArray | StreamedRows,
    y_train: IntArray | FloatArray,
    x_val: FloatArray | StreamedRows | None,
    y_val: IntArray | FloatArray | None,
    n_classes: int,
    configs: Sequence[MLPConfig],
    *,
    schedules: Sequence[Schedule] = (),
    fits_per_stack: int | None = None,
    device: str = "cpu",
) -> list[FittedMLP]:
    """Train every configuration on the same rows; the result does not depend on the company.

    Args:
        x_train: Standardised rows `[n, d]`, float32, or what streams them.
        y_train: Labels 0 … C-1 `[n]`; or numbers, float32 and standardised, fitted by squared error.
        x_val: Standardised validation rows, or None: then every fit runs `max_epochs` and its last
            epoch is kept.
        y_val: Their labels.
        n_classes: C; classes may be absent from some part. 1 for numbers.
        configs: The fits.
        schedules: Without validation rows how long each is trained, and when its rate is cut; none: for
            `max_epochs`, at one rate.
        fits_per_stack: Most networks trained at once; None for what suits the device.
        device: Torch device to train on. Order, initial weights and noise are the same on all of them.

    Returns:
        One fitted network per configuration, in their order.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, c in enumerate(configs):
        groups.setdefault((c.hidden, c.batch_size, c.order_seed, c.precision), []).append(i)
    on_cpu = torch.device(device).type == "cpu"
    if fits_per_stack is None:
        fits_per_stack = FITS_PER_STACK if on_cpu else GPU_FITS_PER_STACK
    # A GPU takes one stack after the other: each fills it.
    n_threads = torch.get_num_threads() if on_cpu else 1
    stacks: list[list[int]] = []
    for members in groups.values():
        # Equal shares: 33 fits make stacks of 17 and 16, not of 32 and 1.
        n_stacks = -(-len(members) // fits_per_stack)
        n_stacks = max(n_stacks, min(len(members), -(-n_threads // len(groups))))
        stacks += [members[s::n_stacks] for s in range(n_stacks)]
    planned: Sequence[Schedule | None] = schedules or [None] * len(configs)
    jobs = [[(configs[i], planned[i]) for i in share] for share in stacks]
    side_by_side = min(n_threads, len(jobs))
    data = TrainingRows(x_train, y_train, x_val, y_val, n_classes, side_by_side, torch.device(device))
    fitted = _fit_stacks(data, jobs, n_threads)
    out = {
        i: fit for share, fits in zip(stacks, fitted, strict=True) for i, fit in zip(share, fits, strict=True)
    }
    return [out[i] for i in range(len(configs))]


def _fit_stacks(
    data: TrainingRows, jobs: Sequence[Sequence[_Asked]], n_threads: int
) -> list[list[FittedMLP]]:
    """Train stacks side by side, one core each, rather than every operation on all cores.

    The operations are too small to be worth splitting: on two cores this is 1.4 times faster, and
    a busy core delays its own stack instead of every operation of all.
    """
    stop = threading.Event()
    if n_threads == 1 or len(jobs) == 1:
        return [_fit_stack(data, job, stop) for job in jobs]
    side_by_side = min(n_threads, len(jobs))

    def start() -> None:
        torch.set_num_threads(n_threads // side_by_side)  # of the calling thread

    try:
        with ThreadPoolExecutor(side_by_side, initializer=start) as pool:
            try:
                futures = [pool.submit(_fit_stack, data, job, stop) for job in jobs]
                return [f.result() for f in futures]
            except BaseException:
                stop.set()  # Ctrl-C must not wait for the last epoch
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        torch.set_num_threads(n_threads)  # new threads inherit what was set last


@dataclass
class _Progress:
    """Where one fit of a running stack stands: learning rate, early stop, weights to keep."""

    fit: FittedMLP
    schedule: Schedule | None
    learning_rate: float
    best_uar: float = -float("inf")
    best_loss: float = float("inf")
    bad_epochs: int = 0
    done: bool = False

    def after_epoch(self, epoch: int, uar: float | None, loss: float | None) -> bool:
        """Note an epoch's validation result; True when these weights are the ones to keep."""
        config = self.fit.config
        self.fit.n_epochs = epoch
        self.done = epoch >= (config.max_epochs if self.schedule is None else self.schedule.n_epochs)
        if uar is None or loss is None:
            self.fit.best_epoch = epoch
            if self.schedule is not None and epoch in self.schedule.cuts:
                self._cut()
            return self.done
        self.fit.val_uar.append(uar)
        self.fit.val_loss.append(loss)
        self._reduce_on_plateau(loss)
        better = uar > self.best_uar
        if better:
            self.best_uar, self.fit.best_epoch = uar, epoch
        self.done = self.done or epoch - self.fit.best_epoch >= config.patience
        return better if config.keep == "best" else self.done

    def _reduce_on_plateau(self, loss: float) -> None:
        # torch.optim.lr_scheduler.ReduceLROnPlateau(factor=0.1) with its defaults: relative
        # threshold 1e-4, and no change smaller than 1e-8.
        if loss < self.best_loss * (1 - 1e-4):
            self.best_loss, self.bad_epochs = loss, 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs > self.fit.config.lr_patience:
            self.bad_epochs = 0
            self._cut()

    def _cut(self) -> None:
        if self.learning_rate * (1 - RATE_CUT) > LEAST_CUT:
            self.learning_rate *= RATE_CUT
            self.fit.cuts.append(self.fit.n_epochs)


def _fit_stack(data: TrainingRows, asked: Sequence[_Asked], stop: threading.Event) -> list[FittedMLP]:
    started = time.perf_counter()
    configs, schedules = [config for config, _ in asked], [schedule for _, schedule in asked]
    shape = Shape((data.n_features, *configs[0].hidden, data.n_classes))
    initial = [initial_weights(shape, c.seed) for c in configs]
    tables = [_loss_tables(data.y, data.n_classes, c) for c in configs]
    stack = Stack(
        shape,
        torch.cat([first for first, _ in initial]).to(data.device),
        torch.stack([tail for _, tail in initial]).to(data.device),
        torch.stack([targets for targets, _ in tables]),
        torch.stack([weights for _, weights in tables]),
        dropout=[c.dropout for c in configs],
        dropout_stream=[c.seed for c in configs],
        weight_decay=[c.weight_decay for c in configs],
        precision=configs[0].precision,
        batch_size=configs[0].batch_size,
    )
    fits = [
        FittedMLP(c, shape, first, tail, 0, 0, device=str(data.device))
        for c, (first, tail) in zip(configs, initial, strict=True)
    ]
    running = [_Progress(f, s, f.config.learning_rate) for f, s in zip(fits, schedules, strict=True)]
    order_generator = torch.Generator().manual_seed(configs[0].order_seed)
    # A stream of its own: the same seed already drew the initial weights.
    noise = {c.seed: torch.Generator().manual_seed(c.seed + (1 << 32)) for c in configs}
    batch_size, epoch = configs[0].batch_size, 0
    while running:
        epoch += 1
        rates = [p.learning_rate for p in running]
        for x, y in data.batches(order_generator, batch_size):
            if stop.is_set():
                raise InterruptedError("training was stopped")
            stack.step(x, y, rates, noise)
        losses, uars = data.validate(stack)
        for k, p in enumerate(running):
            if p.after_epoch(epoch, uars[k], losses[k]):
                p.fit.first, p.fit.tail = stack.weights(k)
        alive = [k for k, p in enumerate(running) if not p.done]
        if len(alive) < len(running):
            running = [running[k] for k in alive]
            if alive:
                stack.keep(alive)
    for f in fits:
        f.first, f.tail = f.first.cpu(), f.tail.cpu()
    elapsed = time.perf_counter() - started
    total_epochs = sum(f.n_epochs for f in fits)
    for f in fits:
        f.fit_s = elapsed * f.n_epochs / total_epochs
    return fits


def _loss_tables(y: Tensor, n_classes: int, config: MLPConfig) -> tuple[Tensor, Tensor]:
    """Target distribution of each label `[C, C]` and weight of each class `[C]`; of numbers nobody asks."""
    if y.is_floating_point():
        return torch.ones(1, 1, device=y.device), torch.ones(1, device=y.device)
    weights, smoothing = class_weights(config, y, n_classes), config.label_smoothing
    # torch.nn.CrossEntropyLoss weights each term of the smoothed target by its own class.
    targets = (1 - smoothing) * torch.diag(weights) + smoothing / n_classes * weights
    return targets, weights


def class_weights(config: MLPConfig, y: Tensor, n_classes: int) -> Tensor:
    """Weight of each class `[C]`, float32, of training rows of classes `y [n]`.

    Raises:
        ConfigError: not one weight per class.
    """
    if config.class_weight == "none":
        return torch.ones(n_classes, device=y.device)
    if config.class_weight == "balanced":
        counts = torch.bincount(y, minlength=n_classes)
        return (len(y) / (n_classes * counts.clamp(min=1))).float()
    if len(config.class_weight) != n_classes:
        raise ConfigError(
            f"probe setting class_weight: expected {n_classes} weights, one per class, "
            f"got {len(config.class_weight)}"
        )
    return torch.tensor(config.class_weight, dtype=torch.float32, device=y.device)
