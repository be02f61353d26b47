"""Where a sound has its energy, and how far it stands out of its background."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from featurestore.arrays import Float64Array
from featurestore.confounds.frames import Framer

SPECTRUM_S = 0.032  # bins of 31.25 Hz at every sample rate
LEVEL_S = 0.016
BATCH_FRAMES = 512
# Background and call: percentiles of the power of frames, as of NIST's `stnr` (quick) the lower and the upper
# end of the histogram of frame levels. Fewer frames have no percentiles to speak of.
QUIET_PERCENTILE, LOUD_PERCENTILE, FEWEST_FRAMES = 10, 95, 5
# -120 dBFS: digital silence between calls is no background of nothing.
SILENCE_POWER = 1e-12


class SpectrumShape:
    """The mean power spectrum of a sound, by Welch's method (1967).

    Hann windows of 32 ms, half overlapping, each without its mean, as `scipy.signal.welch` does by default; a
    sound shorter than that is one window of its length, padded with zeros.

    Args:
        rate_hz: Sample rate.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._size = max(2, 2 * round(SPECTRUM_S * rate_hz / 2))
        self._framer = Framer(self._size, self._size // 2)
        self._power: Float64Array = np.zeros(self._size // 2 + 1)

    def add(self, block: npt.NDArray[np.floating]) -> None:
        """Take in samples `[n]`."""
        frames = self._framer.frames(block)
        for start in range(0, len(frames), BATCH_FRAMES):
            self._take(frames[start : start + BATCH_FRAMES])

    def result(self) -> tuple[float, float]:
        """Peak frequency and spectral centroid in Hz; NaN, NaN where there is no energy.

        The peak is the centre of the strongest bin above 0 Hz, right to 16 Hz. The centroid is the mean
        frequency weighted by power (not by magnitude, as some programs have it).
        """
        if not self._framer.n_frames and len(self._framer.rest):
            self._take(self._framer.rest[None])
        hz = np.arange(len(self._power)) * self._rate_hz / self._size
        total = self._power.sum()
        if not total > 0:
            return float("nan"), float("nan")
        return float(hz[1 + self._power[1:].argmax()]), float(hz @ self._power / total)

    def _take(self, frames: Float64Array) -> None:
        windowed = (frames - frames.mean(axis=1, keepdims=True)) * _hann(frames.shape[1])
        spectra = np.fft.rfft(windowed, self._size, axis=1)
        power = (spectra.real**2 + spectra.imag**2).sum(axis=0)
        power[1:-1] *= 2  # both sides of the spectrum, as a density of one side has it
        self._power += power


class NoiseEstimate:
    """A signal-to-noise ratio of a sound from itself alone.

    The power of frames of 16 ms, half overlapping, is taken; its 10th percentile N stands for the background
    and its 95th for call and background together: SNR = 10·log10((P95 - N) / N). It is right where a tenth
    of the clip at least is background and a twentieth at least is call. **A call that fills its clip has no
    background to be seen: its ratio comes out far too low**, and steady noise has about -7 dB.

    Args:
        rate_hz: Sample rate.
    """

    def __init__(self, rate_hz: int) -> None:
        size = max(2, 2 * round(LEVEL_S * rate_hz / 2))
        self._framer = Framer(size, size // 2)
        self._powers: list[npt.NDArray[np.float32]] = []

    def add(self, block: npt.NDArray[np.floating]) -> None:
        """Take in samples `[n]`."""
        frames = self._framer.frames(block)
        for start in range(0, len(frames), BATCH_FRAMES):
            self._powers.append(frames[start : start + BATCH_FRAMES].var(axis=1).astype(np.float32))

    def result(self) -> float:
        """Decibels; NaN of fewer than five frames (48 ms), and where all are alike or silent."""
        power = np.concatenate([np.zeros(0, np.float32), *self._powers]).astype(np.float64)
        if len(power) < FEWEST_FRAMES:
            return float("nan")
        quiet, loud = np.percentile(power, [QUIET_PERCENTILE, LOUD_PERCENTILE])
        quiet = max(quiet, SILENCE_POWER)
        return float(10 * np.log10((loud - quiet) / quiet)) if loud > quiet else float("nan")


@lru_cache(maxsize=64)
def _hann(n: int) -> Float64Array:
    from scipy.signal import get_window

    window: Float64Array = get_window("hann", n) if n > 1 else np.ones(n)
    return window
