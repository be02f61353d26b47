"""Frames of utterances as rows of a probe: ragged, read from the store, padded batch by batch.

Those that stay in the store are read a block of utterances at a time, as `probes.training.vectors` reads
vectors: a block is a random set of pieces of units, as many as the memory allows, and its rows are drawn into
batches as they are in memory. Every utterance is met once an epoch; what is trained this way differs from
training in memory as another order of the rows does, and by the last batch of a block, which may be short.

Of several layers the values of a frame stand side by side, `[L * d]`: layers of a model have the same frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featurestore.arrays import FloatArray, IntArray
from featurestore.errors import StoreError
from probes.training.autograd import Batch, Inputs
from probes.training.standardise import Standardiser
from probes.training.vectors import packed, rows_by_unit

if TYPE_CHECKING:
    from featurestore.store.layer import Layer
    from featurestore.store.reader import Features

# Batches drawn together and sorted by length: enough that neighbours have nearly one length, few enough that
# who meets whom in a batch stays random.
POOL_BATCHES = 16
# Frames of one forward pass, padding included: 100 MB of 768 float32 features; of L layers 1/L so many. The
# gradient of a batch is the sum over its passes, so this does not change results.
PIECE_FRAMES = 1 << 15
# Fewer would leave a block to neighbours of the plan, which have one length; more would be read bit by bit.
PIECES_OF_BLOCK = 16


@dataclass(frozen=True)
class FrameRows:
    """Utterances as runs of frames; choosing among them copies no frame.

    Attributes:
        values: Frames of many utterances one after another `[total, d]`, float32.
        starts: First frame of each row `[n]`.
        lengths: Frames of each row `[n]`, at least 1.
        n_layers: Layers whose values stand side by side in a frame.
    """

    values: FloatArray
    starts: IntArray
    lengths: IntArray
    n_layers: int = 1

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def n_features(self) -> int:
        """Values of a frame, of all its layers (d)."""
        return int(self.values.shape[1])

    def __getitem__(self, rows: IntArray | npt.NDArray[np.bool_]) -> FrameRows:
        """The given rows only."""
        return replace(self, starts=self.starts[rows], lengths=self.lengths[rows])

    def row(self, i: int) -> FloatArray:
        """Frames of one row `[t, d]`."""
        return self.values[self.starts[i] : self.starts[i] + self.lengths[i]]

    def batches(self, y: Tensor, batch_size: int, order: torch.Generator) -> Iterator[Batch]:
        """See `probes.training.autograd.Feed`: rows of a batch have nearly one length."""
        for positions in self.drawn(batch_size, order):
            pieces = ((inputs, y[part]) for part, inputs in self.pieces(positions))
            yield Batch(y[positions], pieces)

    def drawn(self, batch_size: int, order: torch.Generator) -> list[Tensor]:
        """Positions of the batches of one epoch."""
        lengths = torch.from_numpy(self.lengths)
        out: list[Tensor] = []
        rows = torch.randperm(len(self), generator=order)
        for pool in torch.split(rows, POOL_BATCHES * batch_size):
            by_length = pool[torch.argsort(lengths[pool], stable=True)]
            out += torch.split(by_length, batch_size)
        return [out[i] for i in torch.randperm(len(out), generator=order).tolist()]

    def scoring(self) -> Iterator[tuple[Tensor, Inputs]]:
        """See `probes.training.autograd.Feed`."""
        return self.pieces(torch.argsort(torch.from_numpy(self.lengths), stable=True))

    def pieces(self, positions: Tensor) -> Iterator[tuple[Tensor, Inputs]]:
        """Rows that are padded together, with frames `[b, T, d]` and where there are none `[b, T]`."""
        lengths = self.lengths[positions.numpy()]
        most = PIECE_FRAMES // self.n_layers
        first = 0
        for last in range(1, len(positions) + 1):
            longest = int(lengths[first : last + 1].max())
            if last == len(positions) or longest * (last + 1 - first) > most:
                part = positions[first:last]
                yield part, self._padded(part.numpy())
                first = last

    def _padded(self, rows: IntArray) -> tuple[Tensor, Tensor]:
        lengths = self.lengths[rows]
        out = np.zeros((len(rows), int(lengths.max()), self.n_features), dtype=np.float32)
        for target, i, n in zip(out, rows, lengths, strict=True):
            target[:n] = self.row(i)
        padding = np.arange(out.shape[1]) >= lengths[:, None]
        return torch.from_numpy(out), torch.from_numpy(padding)


def read_frames(features: Features, layers: Sequence[int], position: IntArray) -> FrameRows:
    """Frames of the given rows of the index (ascending), read one unit of one layer at a time.

    Raises:
        StoreError: a row with status ok has no frames, or frames that are not finite.
    """
    sources = [features.layer(layer) for layer in layers]
    lengths = frame_counts(features, sources[0], position)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    width = features.info.shape.n_features
    values = np.empty((int(lengths.sum()), len(sources) * width), dtype=np.float32)
    bounds = [0, *np.searchsorted(position, [s.stop for s in sources[0].shards]).tolist()]
    for first, last in itertools.pairwise(bounds):
        if first < last:
            run = slice(first, last)
            fill_frames(features, sources, position[run], starts[run], values)
    return FrameRows(values, starts, lengths, len(sources))


def frame_counts(features: Features, source: Layer, position: IntArray) -> IntArray:
    """Frames of the given rows of the index `[n]`.

    Raises:
        StoreError: a row with status ok has no frames.
    """
    lengths = source.n_frames[position].astype(np.int64)
    if (lengths < 1).any():
        name = features.index["utterance_id"].iloc[int(position[np.argmin(lengths)])]
        raise StoreError(f"{_key(features)}: {name!r} has status ok and no frames; run `fs verify`")
    return lengths


def fill_frames(
    features: Features, sources: Sequence[Layer], position: IntArray, starts: IntArray, out: FloatArray
) -> None:
    """Read rows of one unit (ascending), and put each where it begins in `out` `[total, L * d]`.

    Raises:
        StoreError: frames that are not finite.
    """
    width = out.shape[1] // len(sources)
    for i, source in enumerate(sources):
        _fill_layer(features, source, position, starts, out[:, i * width : (i + 1) * width])


def _fill_layer(
    features: Features, source: Layer, position: IntArray, starts: IntArray, out: FloatArray
) -> None:
    """`fill_frames` of one layer, into its columns `[total, d]`."""
    first, stop = int(position[0]), int(position[-1]) + 1
    values = source.frames_of(slice(first, stop))
    offsets = np.concatenate([[0], np.cumsum(source.n_frames[first:stop], dtype=np.int64)])
    for row, start in zip(position, starts, strict=True):
        frames = values[offsets[row - first] : offsets[row - first + 1]]
        if not np.isfinite(frames).all():
            name = features.index["utterance_id"].iloc[int(row)]
            raise StoreError(
                f"{_key(features)}: frames of layer {source.layer} hold NaN or infinity for {name!r}, whose "
                "status is ok; run `fs verify`"
            )
        out[start : start + len(frames)] = frames


def _key(features: Features) -> str:
    return f"{features.storage.url}: {features.model}/{features.dataset}"


def standardise_frames(parts: Mapping[str, FrameRows]) -> Standardiser:
    """Standardise the frames of all parts where they lie, by those of the training rows.

    The parts share their frames' array, and no row is in two of them.
    """
    train = parts["train"]
    standardiser = Standardiser.of_pieces(train.row(i) for i in range(len(train)))
    for part in parts.values():
        for i in range(len(part)):
            standardiser.inplace(part.row(i))
    return standardiser


@dataclass(frozen=True, kw_only=True)
class StreamedFrames:
    """Utterances of one part of a split whose frames stay in the store; stands where `FrameRows` would.

    Attributes:
        features: The key.
        sources: Its layer; several stand side by side in each frame.
        position: Row of the key's index of each row here `[n]`.
        lengths: Frames of each row `[n]`, at least 1.
        block_frames: Most frames held at a time; a longer utterance is a block alone.
        standardise: Applied to what is read; None before its statistics are known.
    """

    features: Features
    sources: tuple[Layer, ...]
    position: IntArray
    lengths: IntArray
    block_frames: int
    standardise: Standardiser | None = None

    def __len__(self) -> int:
        return len(self.position)

    @property
    def n_features(self) -> int:
        """Values of a frame, of all its layers (d)."""
        return len(self.sources) * int(self.features.info.shape.n_features)

    @property
    def n_layers(self) -> int:
        """Layers whose values stand side by side in a frame."""
        return len(self.sources)

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
        for rows in rows_by_unit(self.position, self.sources[0]):
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
            fill_frames(self.features, self.sources, self.position[piece], begin, values)
            first += len(piece)
        if self.standardise is not None:
            self.standardise.inplace(values)
        return rows, FrameRows(values, starts, lengths, self.n_layers)


def streamed_frames(
    features: Features, layers: Sequence[int], position: IntArray, block_frames: int
) -> StreamedFrames:
    """Rows of the index (ascending) as frames in the store.

    Raises:
        StoreError: a row with status ok has no frames.
    """
    sources = tuple(features.layer(layer) for layer in layers)
    lengths = frame_counts(features, sources[0], position)
    return StreamedFrames(
        features=features, sources=sources, position=position, lengths=lengths, block_frames=block_frames
    )


def standardised_frames(
    parts: dict[str, StreamedFrames],
) -> tuple[dict[str, StreamedFrames], Standardiser]:
    """The parts, standardised by the training rows as they are read; statistics by one pass over these."""
    fitted = Standardiser.of_pieces(block.values for _, block in parts["train"].blocks())
    return {name: replace(part, standardise=fitted) for name, part in parts.items()}, fitted
