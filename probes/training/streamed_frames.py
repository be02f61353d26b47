"""Frames that stay in the store: read a block of utterances at a time, standardised, shuffled for training.

As `probes.training.streamed_vectors` for vectors: a block is a random set of pieces of units, as many as the
memory allows, and its rows are drawn into batches as they are in memory (`probes.training.frames`). Every
utterance is met once an epoch; what is trained this way differs from training in memory as another order of
the rows does, and by the last batch of a block, which may be short.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featurestore.arrays import FloatArray, IntArray
from probes.training.autograd import Batch, Inputs
from probes.training.frames import FrameRows, fill_frames, frame_counts
from probes.training.standardise import Moments, Standardiser
from probes.training.streamed_vectors import packed, rows_by_unit

if TYPE_CHECKING:
    from featurestore.store.layer import Layer
    from featurestore.store.reader import Features

# Fewer would leave a block to neighbours of the plan, which have one length; more would be read bit by bit.
PIECES_OF_BLOCK = 16


@dataclass(frozen=True, kw_only=True)
class StreamedFrames:
    """Utterances of one part of a split whose frames stay in the store; stands where `FrameRows` would.

    Attributes:
        features: The key.
        source: Its layer.
        position: Row of the key's index of each row here `[n]`.
        lengths: Frames of each row `[n]`, at least 1.
        block_frames: Most frames held at a time; a longer utterance is a block alone.
        standardise: Applied to what is read; None before its statistics are known.
    """

    features: Features
    source: Layer
    position: IntArray
    lengths: IntArray
    block_frames: int
    standardise: Standardiser | None = None

    def __len__(self) -> int:
        return len(self.position)

    @property
    def n_features(self) -> int:
        """Features of a frame (d)."""
        return int(self.features.info.shape.n_features)

    def __getitem__(self, rows: IntArray | npt.NDArray[np.bool_]) -> StreamedFrames:
        """The given rows only, still in the store."""
        return replace(self, position=self.position[rows], lengths=self.lengths[rows])

    def blocks(self, order: torch.Generator | None = None) -> Iterator[tuple[IntArray, FrameRows]]:
        """Every row once, in blocks.

        Args:
            order: Draws which pieces meet in a block; None takes them as they lie.

        Yields:
            Rows of this part `[b]`, and their frames, standardised. They are valid until the next block is
            asked for: all share one buffer.
        """
        pieces = self._pieces()
        sizes = [int(self.lengths[piece].sum()) for piece in pieces]
        room = min(max([self.block_frames, *sizes]), sum(sizes))
        buffer = np.empty((room, self.n_features), dtype=np.float32)
        for held in packed(pieces, sizes, room, order):
            yield self._block(held, buffer)

    def batches(self, y: Tensor, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
        """See `probes.training.autograd.Feed`."""
        for rows, block in self.blocks(order):
            yield from block.batches(y[torch.from_numpy(rows)], batch_size, order)

    def scoring(self) -> Iterator[tuple[Tensor, Inputs]]:
        """See `probes.training.autograd.Feed`."""
        for rows, block in self.blocks():
            of_part = torch.from_numpy(rows)
            for part, inputs in block.scoring():
                yield of_part[part], inputs

    def _pieces(self) -> list[IntArray]:
        """Rows of this part by unit, ascending by position, cut so that several pieces meet in a block."""
        most = max(1, self.block_frames // PIECES_OF_BLOCK)
        out: list[IntArray] = []
        for rows in rows_by_unit(self.position, self.source):
            piece = np.cumsum(self.lengths[rows]) // most
            out += np.split(rows, np.flatnonzero(np.diff(piece)) + 1)
        return out

    def _block(self, pieces: list[IntArray], values: FloatArray) -> tuple[IntArray, FrameRows]:
        rows = np.concatenate(pieces)
        lengths = self.lengths[rows]
        starts, values = np.cumsum(lengths) - lengths, values[: lengths.sum()]
        first = 0
        for piece in pieces:
            begin = starts[first : first + len(piece)]
            fill_frames(self.features, self.source, self.position[piece], begin, values)
            first += len(piece)
        if self.standardise is not None:
            self.standardise.inplace(values)
        return rows, FrameRows(values, starts, lengths)


def streamed_frames(features: Features, layer: int, position: IntArray, block_frames: int) -> StreamedFrames:
    """Rows of the index (ascending) as frames in the store.

    Raises:
        StoreError: a row with status ok has no frames.
    """
    source = features.layer(layer)
    lengths = frame_counts(features, source, position)
    return StreamedFrames(
        features=features, source=source, position=position, lengths=lengths, block_frames=block_frames
    )


def standardised_frames(
    parts: dict[str, StreamedFrames],
) -> tuple[dict[str, StreamedFrames], Standardiser]:
    """The parts, standardised by the training rows as they are read; statistics by one pass over these."""
    moments = Moments()
    for _, block in parts["train"].blocks():
        moments.update(block.values)
    fitted = moments.standardiser()
    return {name: replace(part, standardise=fitted) for name, part in parts.items()}, fitted
