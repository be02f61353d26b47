"""Rows of one vector each that a stack trains and is validated on: in memory, or in the store.

Those in the store are read a block at a time and standardised. For training a block is a random set of whole
units, as many as the memory allows, and its rows are shuffled. An epoch meets every row once; rows that do
not fill a batch join the next block, so that only the last batch is short, as in memory. What is trained this
way differs from training in memory as another order of the rows does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featurestore.arrays import FloatArray, IntArray
from featurestore.errors import StoreError
from featurestore.store.layer import Layer
from probes.training.devices import on_device
from probes.training.fused_networks import Stack
from probes.training.standardise import Standardiser

# Rows picked from a unit when more of it is wanted than this share; else only their chunks are read.
WHOLE_SHARE = 0.25
# Rows scored at a time.
SCORE_ROWS = 4096
_CPU = torch.device("cpu")
Scores = tuple[Sequence[float | None], Sequence[float | None]]


@dataclass(frozen=True, kw_only=True)
class StreamedRows:
    """Rows of one part of a split, in the order of that part; stands where a matrix `[n, d]` would.

    Attributes:
        sources: The layer; several stand side by side in each row.
        position: Row of the index of each row here `[n]`.
        block_rows: Most rows held at a time.
        standardise: Applied to what is read; None before its statistics are known.
    """

    sources: tuple[Layer, ...]
    position: IntArray
    block_rows: int
    standardise: Standardiser | None = None

    def __len__(self) -> int:
        return len(self.position)

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, d)``."""
        return len(self.position), len(self.sources) * self._width

    @property
    def _width(self) -> int:
        _, n_functionals, n_features = self.sources[0].shape
        return n_functionals * n_features

    def __getitem__(self, rows: IntArray | npt.NDArray[np.bool_]) -> StreamedRows:
        """The given rows only, still in the store."""
        return replace(self, position=self.position[rows])

    def blocks(
        self, order: torch.Generator | None = None, *, share: int = 1
    ) -> Iterator[tuple[IntArray, FloatArray]]:
        """Every row once, in blocks.

        Args:
            order: Draws which units meet in a block; None takes them as they lie.
            share: Blocks are this many times smaller, for as many readers side by side.

        Yields:
            Rows of this part `[b]`, and their values float32 `[b, d]`. The values are valid until the next
            block is asked for: they share one buffer.
        """
        most = max(1, self.block_rows // share)
        # A unit larger than a block comes in several pieces.
        pieces = [
            rows[i : i + most]
            for rows in rows_by_unit(self.position, self.sources[0])
            for i in range(0, len(rows), most)
        ]
        buffer = np.empty((min(most, len(self)), self.shape[1]), dtype=np.float32)
        for held in packed(pieces, [len(piece) for piece in pieces], len(buffer), order):
            n = 0
            for piece in held:
                self._read(piece, buffer[n : n + len(piece)])
                n += len(piece)
            yield np.concatenate(held), buffer[:n]

    def _read(self, rows: IntArray, out: FloatArray) -> None:
        """Values of rows of one unit, ascending by position, into `out` `[b, d]`."""
        wanted = self.position[rows]
        first, last = int(wanted[0]), int(wanted[-1])
        dense = len(wanted) > WHOLE_SHARE * (last + 1 - first)
        for i, source in enumerate(self.sources):
            values = source.numpy(slice(first, last + 1))[wanted - first] if dense else source.numpy(wanted)
            out[:, i * self._width : (i + 1) * self._width] = values.reshape(len(rows), -1)
        if not np.isfinite(out.sum(dtype=np.float64)):
            bad = int(wanted[np.flatnonzero(~np.isfinite(out).all(axis=1))[0]])
            first_source = self.sources[0]
            raise StoreError(
                f"{first_source.storage.url}: {first_source.path} holds NaN or infinity in rows with "
                f"status ok, first row {first_source.rows[bad]}; run `fs verify`"
            )
        if self.standardise is not None:
            self.standardise.inplace(out)


def rows_by_unit(position: IntArray, source: Layer) -> list[IntArray]:
    """Which of the rows at `position` lie in each unit that has any, ascending by position."""
    by_place = np.argsort(position, kind="stable")
    cuts = np.searchsorted(position[by_place], [s.stop for s in source.shards])
    return [rows for rows in np.split(by_place, cuts[:-1]) if len(rows)]


def packed(
    pieces: Sequence[IntArray], sizes: Sequence[int], most: int, order: torch.Generator | None
) -> Iterator[list[IntArray]]:
    """Pieces whose sizes add up to `most` at the most, or one alone that is larger; each once.

    Args:
        pieces: In the order in which they lie.
        sizes: Of each.
        most: Size of a block.
        order: Draws which pieces meet; None takes them as they lie.
    """
    n_pieces = len(pieces)
    drawn = range(n_pieces) if order is None else torch.randperm(n_pieces, generator=order).tolist()
    held: list[IntArray] = []
    n = 0
    for i in drawn:
        if held and n + sizes[i] > most:
            yield held
            held, n = [], 0
        held.append(pieces[i])
        n += sizes[i]
    if held:
        yield held


def standardised(parts: dict[str, StreamedRows]) -> tuple[dict[str, StreamedRows], Standardiser]:
    """The parts, standardised by the training rows as they are read; statistics by one pass over these."""
    fitted = Standardiser.of_pieces(x for _, x in parts["train"].blocks())
    return {name: replace(part, standardise=fitted) for name, part in parts.items()}, fitted


def shuffled_batches(
    x: StreamedRows, y: Tensor, order: torch.Generator, batch_size: int, share: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches `[b, d]`, `[b]` of one epoch; only the last may be short."""
    rest_x, rest_y = torch.empty(0, x.shape[1], device=y.device), y[:0]
    for rows, values in x.blocks(order, share=share):
        labels = y[torch.from_numpy(rows).to(y.device)]
        block = on_device(values, y.device)
        shuffled = on_device(torch.randperm(len(rows), generator=order), y.device)
        lacking = (batch_size - len(rest_y)) % batch_size
        if len(rest_y):
            head, shuffled = shuffled[:lacking], shuffled[lacking:]
            rest_x, rest_y = torch.cat([rest_x, block[head]]), torch.cat([rest_y, labels[head]])
            if len(rest_y) < batch_size:
                continue
            yield rest_x, rest_y
        whole = len(shuffled) - len(shuffled) % batch_size
        for batch in torch.split(shuffled[:whole], batch_size):
            if len(batch):
                yield block.index_select(0, batch), labels[batch]
        rest_x, rest_y = block[shuffled[whole:]], labels[shuffled[whole:]]
    if len(rest_y):
        yield rest_x, rest_y


def in_pieces(
    x: FloatArray | Tensor | StreamedRows, share: int = 1
) -> Iterator[tuple[IntArray, FloatArray | Tensor]]:
    """Rows and values of a matrix or of what stands for one, in pieces fit for scoring."""
    if not isinstance(x, StreamedRows):
        yield np.arange(len(x)), x
        return
    for rows, values in x.blocks(share=share):
        for start in range(0, len(rows), SCORE_ROWS):
            part = slice(start, start + SCORE_ROWS)
            yield rows[part], values[part]


def drawn_batches(
    x: FloatArray | Tensor | StreamedRows,
    y: Tensor,
    order: torch.Generator,
    batch_size: int,
    share: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches `[b, d]` and their targets of one epoch, each row once; only the last may be short.

    They are on the device of the targets.
    """
    if isinstance(x, StreamedRows):
        yield from shuffled_batches(x, y, order, batch_size, share)
        return
    # Drawn on the host whatever the device, so that the order is the same on all of them.
    values, drawn = on_device(x, y.device), on_device(torch.randperm(len(y), generator=order), y.device)
    targets = torch.split(y[drawn], batch_size)
    for batch, of_batch in zip(torch.split(drawn, batch_size), targets, strict=True):
        yield values.index_select(0, batch), of_batch


class TrainingRows:
    """Training and validation rows of one bundle; several stacks may read it side by side.

    Args:
        x: Standardised rows `[n, d]`, or what streams them.
        y: Their classes `[n]`, or their numbers, float32.
        x_val: Validation rows; None where there are none.
        y_val: Their classes, or numbers.
        n_classes: C.
        side_by_side: Stacks that share the memory which streamed rows may take.
        device: Where they are trained on; rows in memory are brought there once.
    """

    def __init__(
        self,
        x: FloatArray | StreamedRows,
        y: IntArray | FloatArray,
        x_val: FloatArray | StreamedRows | None,
        y_val: IntArray | FloatArray | None,
        n_classes: int,
        side_by_side: int,
        device: torch.device = _CPU,
    ) -> None:
        self._x = x if isinstance(x, StreamedRows) else on_device(x, device)
        self._x_val = x_val if x_val is None or isinstance(x_val, StreamedRows) else on_device(x_val, device)
        self.y, self.device = on_device(torch.from_numpy(y), device), device
        self._y_val = None if y_val is None else on_device(torch.from_numpy(y_val), device)
        self.n_classes, self.n_features, self._share = n_classes, x.shape[1], side_by_side

    def batches(self, order: torch.Generator, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `drawn_batches`."""
        return drawn_batches(self._x, self.y, order, batch_size, self._share)

    def validate(self, stack: Stack) -> Scores:
        """Loss and UAR of every network on the validation rows; None where there are none.

        Of numbers the score is the loss with a minus.
        """
        n = len(stack)
        if self._x_val is None or self._y_val is None:
            return [None] * n, [None] * n
        of_numbers = self._y_val.is_floating_point()
        hits = torch.zeros(n, self.n_classes, dtype=torch.float64, device=self.device)
        total, weight = torch.zeros(2, n, dtype=torch.float64, device=self.device)
        for rows, values in in_pieces(self._x_val, self._share):
            y = self._y_val[torch.from_numpy(rows).to(self.device)]
            logits = stack.logits(on_device(values, self.device))
            loss, of = stack.losses(logits, y)
            total += loss
            weight += of
            if not of_numbers:
                hits += _hits(logits.argmax(-1), y, self.n_classes)
        if of_numbers:
            return (total / weight).tolist(), (-total / weight).tolist()
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
