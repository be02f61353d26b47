"""Overlapping frames of a sound that comes in blocks, of whatever length."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featurestore.arrays import Float64Array


class Framer:
    """Cuts blocks of samples into frames as if they were one array; holds less than a frame between blocks.

    Args:
        size: Samples of a frame.
        hop: Samples from one frame to the next, at most `size`.
    """

    def __init__(self, size: int, hop: int) -> None:
        self._size, self._hop = size, hop
        self._rest: Float64Array = np.empty(0)
        self.n_frames = 0

    def frames(self, block: npt.NDArray[np.floating]) -> Float64Array:
        """The frames `[k, size]` that are whole with this block `[n]`: a view, which nobody may write to."""
        x = np.concatenate([self._rest, block])
        if len(x) < self._size:
            self._rest = x
            return np.empty((0, self._size))
        found = np.lib.stride_tricks.sliding_window_view(x, self._size)[:: self._hop]
        self._rest = x[len(found) * self._hop :]
        self.n_frames += len(found)
        return found

    @property
    def rest(self) -> Float64Array:
        """Samples that no whole frame begins with, in the end; all of a sound shorter than a frame."""
        return self._rest
