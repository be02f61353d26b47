"""How much of a sound lies above a frequency."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FRAME = 1024  # samples of a spectrum; at 44.1 kHz bins are 43 Hz wide
_WINDOW = np.hanning(FRAME).astype(np.float32)


class EnergyAbove:
    """The share of a sound's energy above a frequency, summed over blocks; its mean does not count.

    Args:
        rate_hz: of the sound.
        limit_hz: the frequency.
    """

    def __init__(self, rate_hz: int, limit_hz: float) -> None:
        self._first = max(1, int(np.ceil(limit_hz / (rate_hz / FRAME))))
        self._measures = rate_hz / 2 > limit_hz
        self._energy = self._above = 0.0

    def add(self, block: npt.NDArray[np.floating]) -> None:
        """Take in samples `[n]`; of blocks in a row all but the last should be multiples of `FRAME`."""
        if not self._measures or not len(block):
            return
        from scipy.fft import rfft

        n = len(block)
        x = np.empty((-(-n // FRAME), FRAME), dtype=np.float32)
        flat = x.reshape(-1)
        # The block and zeros up to a whole frame, less the mean of both.
        mean = np.add.reduce(block, dtype=np.float32) / np.float32(len(flat))
        np.subtract(block, mean, out=flat[:n])
        flat[n:] = -mean
        x *= _WINDOW
        parts = rfft(x, axis=1, overwrite_x=True).view(np.float32)  # real and imaginary parts by turns
        below, above = parts[:, 2 : 2 * self._first], parts[:, 2 * self._first :]
        # The squares of a frame in float32, those of all in float64.
        of_block = float(np.einsum("ij,ij->i", above, above).sum(dtype=np.float64))
        self._above += of_block
        self._energy += of_block + float(np.einsum("ij,ij->i", below, below).sum(dtype=np.float64))

    @property
    def share(self) -> float:
        """0 to 1; NaN where the sound has no energy, or can have none above the frequency."""
        return self._above / self._energy if self._energy > 0 else float("nan")
