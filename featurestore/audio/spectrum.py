"""How much of a sound lies above a frequency."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FRAME = 1024  # samples of a spectrum; at 44.1 kHz bins are 43 Hz wide
_WINDOW = np.hanning(FRAME)


class EnergyAbove:
    """The share of a sound's energy above a frequency, summed over blocks; its mean does not count.

    Args:
        rate_hz: of the sound.
        limit_hz: the frequency.
    """

    def __init__(self, rate_hz: int, limit_hz: float) -> None:
        self._first = int(np.ceil(limit_hz / (rate_hz / FRAME)))
        self._measures = rate_hz / 2 > limit_hz
        self._energy = self._above = 0.0

    def add(self, block: npt.NDArray[np.floating]) -> None:
        """Take in samples `[n]`; of blocks in a row all but the last should be multiples of `FRAME`."""
        if not self._measures or not len(block):
            return
        x = block.astype(np.float64, copy=False)
        x = np.pad(x, (0, -len(x) % FRAME)).reshape(-1, FRAME)
        spectra = np.fft.rfft((x - x.mean()) * _WINDOW, axis=1)
        power = (spectra.real**2 + spectra.imag**2).sum(axis=0)
        self._energy += float(power[1:].sum())
        self._above += float(power[self._first :].sum())

    @property
    def share(self) -> float:
        """0 to 1; NaN where the sound has no energy, or can have none above the frequency."""
        return self._above / self._energy if self._energy > 0 else float("nan")
