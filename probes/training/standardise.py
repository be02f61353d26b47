"""Inputs standardised by the training rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from featurestore.arrays import Float64Array, FloatArray

PIECE_ROWS = 1024  # taken to float64 at a time
STD_EPS = 1e-10  # the paper's code: (x - m) / (s + 1e-10)


@dataclass(frozen=True)
class Standardiser:
    """(x - mean) / scale with statistics of the training rows only."""

    mean: FloatArray
    scale: FloatArray

    @classmethod
    def fit(cls, x: FloatArray) -> Standardiser:
        """Mean and population standard deviation of `[n, d]` rows, accumulated in float64.

        In two passes, a few rows at a time: `np.std` holds all deviations at once, in float64 twice as much
        as the rows themselves.
        """
        mean = x.mean(axis=0, dtype=np.float64)
        squares = np.zeros(x.shape[1])
        for start in range(0, len(x), PIECE_ROWS):
            squares += np.square(x[start : start + PIECE_ROWS] - mean).sum(axis=0)
        return cls.of(mean, np.sqrt(squares / max(1, len(x))))

    @classmethod
    def of_pieces(cls, pieces: Iterable[FloatArray]) -> Standardiser:
        """`fit` of rows that come in pieces `[b, d]`.

        Pieces are joined by the pairwise update of Chan, Golub & LeVeque (1979), which loses nothing where
        sums of squares would.
        """
        n_rows, mean, squares = 0, np.zeros(1), np.zeros(1)
        for x in pieces:
            for start in range(0, len(x), PIECE_ROWS):
                piece = x[start : start + PIECE_ROWS].astype(np.float64)
                n, own_mean = len(piece), piece.mean(axis=0)
                piece -= own_mean
                delta, total = own_mean - mean, n_rows + n
                squares = squares + (piece**2).sum(axis=0) + delta**2 * (n_rows * n / total)
                mean = mean + delta * (n / total)
                n_rows = total
        return cls.of(mean, np.sqrt(squares / max(1, n_rows)))

    @classmethod
    def of(cls, mean: Float64Array, std: Float64Array) -> Standardiser:
        """Of the statistics `[d]` themselves."""
        # A constant feature has a std of rounding error only; dividing by it would turn the
        # smallest difference in another row into an enormous input.
        constant = std <= 4 * np.finfo(np.float32).eps * np.abs(mean)
        scale = np.where(constant, 1.0, std + STD_EPS)
        return cls(mean.astype(np.float32), scale.astype(np.float32))

    def __call__(self, x: FloatArray) -> FloatArray:
        """Standardised copy of `[n, d]` rows, float32."""
        return self.inplace(np.array(x, dtype=np.float32))

    def inplace(self, x: FloatArray) -> FloatArray:
        """Standardise float32 rows `[n, d]` where they lie; returns them."""
        x -= self.mean
        x /= self.scale
        return x
