"""What a stack trains and is validated on: rows in memory, or rows that stay in the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from featurestore.arrays import FloatArray, IntArray
from probes.training.fused_networks import Stack
from probes.training.streamed_vectors import SCORE_ROWS, StreamedRows, shuffled_batches

Scores = tuple[Sequence[float | None], Sequence[float | None]]


class TrainingRows(Protocol):
    """Training and validation rows of one bundle; several stacks may read it side by side."""

    y: Tensor
    n_classes: int
    n_features: int

    def batches(self, order: torch.Generator, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches `[b, d]`, `[b]` of one epoch, each row once; only the last may be short."""
        ...

    def validate(self, stack: Stack) -> Scores:
        """Loss and UAR of every network on the validation rows; None where there are none."""
        ...


def training_rows(
    x_train: FloatArray | StreamedRows,
    y_train: IntArray,
    x_val: FloatArray | StreamedRows | None,
    y_val: IntArray | None,
    n_classes: int,
    side_by_side: int,
) -> TrainingRows:
    """Rows of either kind; `side_by_side` stacks share the memory that streamed ones may take."""
    y, yv = torch.from_numpy(y_train), None if y_val is None else torch.from_numpy(y_val)
    if isinstance(x_train, StreamedRows):
        assert x_val is None or isinstance(x_val, StreamedRows)
        return _Streamed(x_train, y, x_val, yv, n_classes, side_by_side)
    assert not isinstance(x_val, StreamedRows)
    return _InMemory(x_train, y, x_val, yv, n_classes)


def macro_recall(predictions: Tensor, y: Tensor, n_classes: int) -> list[float]:
    """UAR of `K` rows of predictions `[K, n]`; classes absent from `y` are left out.

    Equals `probes.metrics.uar`, for all fits at once.
    """
    return _mean_recall(_hits(predictions, y, n_classes), torch.bincount(y, minlength=n_classes))


def _hits(predictions: Tensor, y: Tensor, n_classes: int) -> Tensor:
    """Rows of each class that were recognised `[K, C]`, float64."""
    one_hot = torch.nn.functional.one_hot(y, n_classes).double()
    return (predictions == y).double() @ one_hot


def _mean_recall(hits: Tensor, support: Tensor) -> list[float]:
    present = support > 0
    uar: list[float] = (hits[:, present] / support[present].double()).mean(dim=1).tolist()
    return uar


class _InMemory:
    """Tensors that share memory with the given arrays."""

    def __init__(
        self, x: FloatArray, y: Tensor, x_val: FloatArray | None, y_val: Tensor | None, n_classes: int
    ) -> None:
        self.x, self.y = torch.from_numpy(x), y
        self.x_val = None if x_val is None else torch.from_numpy(x_val)
        self.y_val = y_val
        self.n_classes, self.n_features = n_classes, x.shape[1]

    def batches(self, order: torch.Generator, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `TrainingRows.batches`."""
        drawn = torch.randperm(len(self.y), generator=order)
        labels = torch.split(self.y[drawn], batch_size)
        for batch, y in zip(torch.split(drawn, batch_size), labels, strict=True):
            yield self.x.index_select(0, batch), y

    def validate(self, stack: Stack) -> Scores:
        """See `TrainingRows.validate`."""
        if self.x_val is None or self.y_val is None:
            return [None] * len(stack), [None] * len(stack)
        logits = stack.logits(self.x_val)
        total, weight = stack.losses(logits, self.y_val)
        return (total / weight).tolist(), macro_recall(logits.argmax(-1), self.y_val, self.n_classes)


class _Streamed:
    """Rows read block by block, in every epoch anew."""

    def __init__(
        self,
        x: StreamedRows,
        y: Tensor,
        x_val: StreamedRows | None,
        y_val: Tensor | None,
        n_classes: int,
        side_by_side: int,
    ) -> None:
        self.x, self.y, self.x_val, self.y_val = x, y, x_val, y_val
        self.n_classes, self.n_features, self.share = n_classes, x.shape[1], side_by_side

    def batches(self, order: torch.Generator, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `TrainingRows.batches`."""
        return shuffled_batches(self.x, self.y, order, batch_size, self.share)

    def validate(self, stack: Stack) -> Scores:
        """See `TrainingRows.validate`."""
        if self.x_val is None or self.y_val is None:
            return [None] * len(stack), [None] * len(stack)
        n = len(stack)
        hits = torch.zeros(n, self.n_classes, dtype=torch.float64)
        total, weight = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
        for rows, values in self.x_val.blocks(share=self.share):
            labels = self.y_val[torch.from_numpy(rows)]
            parts = zip(
                torch.split(torch.from_numpy(values), SCORE_ROWS),
                torch.split(labels, SCORE_ROWS),
                strict=True,
            )
            for x, y in parts:
                logits = stack.logits(x)
                loss, of = stack.losses(logits, y)
                total += loss
                weight += of
                hits += _hits(logits.argmax(-1), y, self.n_classes)
        support = torch.bincount(self.y_val, minlength=self.n_classes)
        return (total / weight).tolist(), _mean_recall(hits, support)
