"""How much of a sound lies above a frequency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from featurestore.arrays import FloatArray

FRAME = 1024  # samples of a spectrum; at 44.1 kHz bins are 43 Hz wide
_WINDOW = np.hanning(FRAME).astype(np.float32)
# Sounds that are transformed together: frames and spectra stay in a core's cache. Of a longer one, a block.
_TOGETHER_SAMPLES = 1 << 16
_BLOCK_SAMPLES = 1 << 20


def shares_above(sounds: Sequence[FloatArray], rate_hz: int, limit_hz: float) -> list[float]:
    """What `EnergyAbove` says of each of these sounds `[n]`; short ones are transformed together.

    Args:
        sounds: float32, each whole.
        rate_hz: of the sounds.
        limit_hz: the frequency.
    """
    found: list[float] = []
    together: list[FloatArray] = []
    n_samples = 0
    for sound in sounds:
        if together and n_samples + len(sound) > _TOGETHER_SAMPLES:
            found += _shares(together, rate_hz, limit_hz)
            together, n_samples = [], 0
        together.append(sound)
        n_samples += len(sound)
    return found + _shares(together, rate_hz, limit_hz)


def _shares(sounds: Sequence[FloatArray], rate_hz: int, limit_hz: float) -> list[float]:
    if not all(0 < len(sound) <= _TOGETHER_SAMPLES for sound in sounds):
        return [_share(sound, rate_hz, limit_hz) for sound in sounds]
    first = _first_bin(rate_hz, limit_hz)
    if first is None or not sounds:
        return [float("nan")] * len(sounds)
    frames = [_n_frames(len(sound)) for sound in sounds]
    starts = np.cumsum([0, *frames[:-1]])
    x = np.empty((sum(frames), FRAME), dtype=np.float32)
    for sound, start, n in zip(sounds, starts, frames, strict=True):
        _put_frames(sound, x[start : start + n])
    below, above = (np.add.reduceat(part, starts, dtype=np.float64) for part in _energies(x, first))
    with np.errstate(invalid="ignore"):
        return [float(share) for share in above / (above + below)]


def _share(sound: FloatArray, rate_hz: int, limit_hz: float) -> float:
    energy = EnergyAbove(rate_hz, limit_hz)
    for i in range(0, len(sound), _BLOCK_SAMPLES):
        energy.add(sound[i : i + _BLOCK_SAMPLES])
    return energy.share


def _first_bin(rate_hz: int, limit_hz: float) -> int | None:
    """The first bin above a frequency; None where the rate can have none."""
    if rate_hz / 2 <= limit_hz:
        return None
    return max(1, int(np.ceil(limit_hz / (rate_hz / FRAME))))


def _n_frames(n_samples: int) -> int:
    return -(-n_samples // FRAME)


def _put_frames(block: npt.NDArray[np.floating], into: FloatArray) -> None:
    """Samples `[n]` and zeros up to a whole frame, less the mean of both, into `[frames, FRAME]`."""
    flat = into.reshape(-1)
    mean = np.add.reduce(block, dtype=np.float32) / np.float32(len(flat))
    np.subtract(block, mean, out=flat[: len(block)])
    flat[len(block) :] = -mean


def _energies(x: FloatArray, first: int) -> tuple[FloatArray, FloatArray]:
    """Energy of every frame `[frames]` below bin `first`, its mean left out, and from there on."""
    from scipy.fft import rfft

    x *= _WINDOW
    parts = rfft(x, axis=1, overwrite_x=True).view(np.float32)  # real and imaginary parts by turns
    below, above = parts[:, 2 : 2 * first], parts[:, 2 * first :]
    return np.einsum("ij,ij->i", below, below), np.einsum("ij,ij->i", above, above)


class EnergyAbove:
    """The share of a sound's energy above a frequency, summed over blocks; its mean does not count.

    Args:
        rate_hz: of the sound.
        limit_hz: the frequency.
    """

    def __init__(self, rate_hz: int, limit_hz: float) -> None:
        self._first = _first_bin(rate_hz, limit_hz)
        self._energy = self._above = 0.0

    def add(self, block: npt.NDArray[np.floating]) -> None:
        """Take in samples `[n]`; of blocks in a row all but the last should be multiples of `FRAME`."""
        if self._first is None or not len(block):
            return
        x = np.empty((_n_frames(len(block)), FRAME), dtype=np.float32)
        _put_frames(block, x)
        # The squares of a frame in float32, those of all in float64.
        below, above = (float(part.sum(dtype=np.float64)) for part in _energies(x, self._first))
        self._above += above
        self._energy += above + below

    @property
    def share(self) -> float:
        """0 to 1; NaN where the sound has no energy, or can have none above the frequency."""
        return self._above / self._energy if self._energy > 0 else float("nan")
