"""How loud a sound is, summed block by block."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Levels:
    """Number, mean, root mean square about the mean and peak of samples, as fractions of full scale.

    Attributes:
        n_samples: Samples taken in.
        peak: Largest magnitude; 0 of nothing.
    """

    def __init__(self) -> None:
        self.n_samples = 0
        self.peak = 0.0
        self._sum = self._squares = 0.0

    def add(self, block: npt.NDArray[np.floating]) -> None:
        """Take in finite samples `[n]`."""
        x = block.astype(np.float64, copy=False)
        self.n_samples += len(x)
        self._sum += float(x.sum())
        self._squares += float(x @ x)
        if len(x):
            self.peak = max(self.peak, float(x.max()), -float(x.min()))

    @property
    def mean(self) -> float:
        """Mean; 0 of nothing."""
        return self._sum / max(1, self.n_samples)

    @property
    def rms(self) -> float:
        """Root mean square about the mean; 0 of nothing."""
        return float(np.sqrt(max(0.0, self._squares / max(1, self.n_samples) - self.mean**2)))


def decibels(amplitude: float) -> float:
    """20·log10 of a fraction of full scale, in dBFS: a sine of full scale has a peak of 0, an RMS of -3.01.

    NaN of 0, which no number of decibels is.
    """
    return float(20 * np.log10(amplitude)) if amplitude > 0 else float("nan")
