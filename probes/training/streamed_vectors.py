"""Rows that stay in the store: read a block at a time, standardised, shuffled for training.

A block is a random set of whole units, as many as the memory allows, and its rows are shuffled. An epoch
meets every row once; rows that do not fill a batch join the next block, so that only the last batch is
short, as in memory. What is trained this way differs from training in memory as another order of the rows
does.
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
from probes.training.standardise import Moments, Standardiser

# Rows picked from a unit when more of it is wanted than this share; else only their chunks are read.
WHOLE_SHARE = 0.25
# Rows scored at a time.
SCORE_ROWS = 4096


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
    moments = Moments()
    for _, x in parts["train"].blocks():
        moments.update(x)
    fitted = moments.standardiser()
    return {name: replace(part, standardise=fitted) for name, part in parts.items()}, fitted


def shuffled_batches(
    x: StreamedRows, y: Tensor, order: torch.Generator, batch_size: int, share: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches `[b, d]`, `[b]` of one epoch; only the last may be short."""
    rest_x, rest_y = torch.empty(0, x.shape[1]), y[:0]
    for rows, values in x.blocks(order, share=share):
        labels = y[torch.from_numpy(rows)]
        block = torch.from_numpy(values)
        shuffled = torch.randperm(len(rows), generator=order)
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


def in_pieces(x: FloatArray | StreamedRows, share: int = 1) -> Iterator[tuple[IntArray, FloatArray]]:
    """Rows and values of a matrix or of what stands for one, in pieces fit for scoring."""
    if not isinstance(x, StreamedRows):
        yield np.arange(len(x)), x
        return
    for rows, values in x.blocks(share=share):
        for start in range(0, len(rows), SCORE_ROWS):
            part = slice(start, start + SCORE_ROWS)
            yield rows[part], values[part]
