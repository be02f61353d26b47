"""Frames of utterances as rows of a probe: ragged, read from the store, padded batch by batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featurestore.arrays import FloatArray, IntArray
from featurestore.errors import StoreError
from probes.training.autograd import Batch, Inputs
from probes.training.standardise import Moments, Standardiser

if TYPE_CHECKING:
    from featurestore.store.layer import Layer
    from featurestore.store.reader import Features


# Batches drawn together and sorted by length: enough that neighbours have nearly one length, few enough that
# who meets whom in a batch stays random.
POOL_BATCHES = 16
# Frames of one forward pass, padding included: 100 MB of 768 float32 features. The gradient of a batch is
# the sum over its passes, so this does not change results.
PIECE_FRAMES = 1 << 15


@dataclass(frozen=True)
class FrameRows:
    """Utterances as runs of frames; choosing among them copies no frame.

    Attributes:
        values: Frames of many utterances one after another `[total, d]`, float32.
        starts: First frame of each row `[n]`.
        lengths: Frames of each row `[n]`, at least 1.
    """

    values: FloatArray
    starts: IntArray
    lengths: IntArray

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def n_features(self) -> int:
        """Features of a frame (d)."""
        return int(self.values.shape[1])

    def __getitem__(self, rows: IntArray | npt.NDArray[np.bool_]) -> FrameRows:
        """The given rows only."""
        return FrameRows(self.values, self.starts[rows], self.lengths[rows])

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
        first = 0
        for last in range(1, len(positions) + 1):
            longest = int(lengths[first : last + 1].max())
            if last == len(positions) or longest * (last + 1 - first) > PIECE_FRAMES:
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


def read_frames(features: Features, layer: int, position: IntArray) -> FrameRows:
    """Frames of the given rows of the index (ascending), read one unit at a time.

    Raises:
        StoreError: a row with status ok has no frames, or frames that are not finite.
    """
    source = features.layer(layer)
    lengths = frame_counts(features, source, position)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    values = np.empty((int(lengths.sum()), features.info.shape.n_features), dtype=np.float32)
    bounds = [0, *np.searchsorted(position, [s.stop for s in source.shards]).tolist()]
    for first, last in itertools.pairwise(bounds):
        if first < last:
            run = slice(first, last)
            fill_frames(features, source, position[run], starts[run], values)
    return FrameRows(values, starts, lengths)


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
    features: Features, source: Layer, position: IntArray, starts: IntArray, out: FloatArray
) -> None:
    """Read rows of one unit (ascending), and put each where it begins in `out` `[total, d]`.

    Raises:
        StoreError: frames that are not finite.
    """
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
    train, moments = parts["train"], Moments()
    for i in range(len(train)):
        moments.update(train.row(i))
    standardiser = moments.standardiser()
    for part in parts.values():
        for i in range(len(part)):
            standardiser.inplace(part.row(i))
    return standardiser
