"""What a stack trains and is validated on: rows in memory, or rows that stay in the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from featurestore.arrays import FloatArray, IntArray
from probes.training.fused_networks import Stack
from probes.training.streamed_vectors import StreamedRows, in_pieces, shuffled_batches

Scores = tuple[Sequence[float | None], Sequence[float | None]]


def drawn_batches(
    x: FloatArray | StreamedRows, y: Tensor, order: torch.Generator, batch_size: int, share: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches `[b, d]` and their targets of one epoch, each row once; only the last may be short."""
    if isinstance(x, StreamedRows):
        yield from shuffled_batches(x, y, order, batch_size, share)
        return
    values, drawn = torch.from_numpy(x), torch.randperm(len(y), generator=order)
    targets = torch.split(y[drawn], batch_size)
    for batch, of_batch in zip(torch.split(drawn, batch_size), targets, strict=True):
        yield values.index_select(0, batch), of_batch


class TrainingRows:
    """Training and validation rows of one bundle; several stacks may read it side by side.

    Args:
        x: Standardised rows `[n, d]`, or what streams them.
        y: Their classes `[n]`.
        x_val: Validation rows; None where there are none.
        y_val: Their classes.
        n_classes: C.
        side_by_side: Stacks that share the memory which streamed rows may take.
    """

    def __init__(
        self,
        x: FloatArray | StreamedRows,
        y: IntArray,
        x_val: FloatArray | StreamedRows | None,
        y_val: IntArray | None,
        n_classes: int,
        side_by_side: int,
    ) -> None:
        self._x, self.y, self._x_val = x, torch.from_numpy(y), x_val
        self._y_val = None if y_val is None else torch.from_numpy(y_val)
        self.n_classes, self.n_features, self._share = n_classes, x.shape[1], side_by_side

    def batches(self, order: torch.Generator, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `drawn_batches`."""
        return drawn_batches(self._x, self.y, order, batch_size, self._share)

    def validate(self, stack: Stack) -> Scores:
        """Loss and UAR of every network on the validation rows; None where there are none."""
        n = len(stack)
        if self._x_val is None or self._y_val is None:
            return [None] * n, [None] * n
        hits = torch.zeros(n, self.n_classes, dtype=torch.float64)
        total, weight = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
        for rows, values in in_pieces(self._x_val, self._share):
            y = self._y_val[torch.from_numpy(rows)]
            logits = stack.logits(torch.from_numpy(values))
            loss, of = stack.losses(logits, y)
            total += loss
            weight += of
            hits += _hits(logits.argmax(-1), y, self.n_classes)
        support = torch.bincount(self._y_val, minlength=self.n_classes)
        return (total / weight).tolist(), _mean_recall(hits, support)


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
