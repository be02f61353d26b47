"""The fundamental frequency of a sound, where it has one.

Frame by frame by autocorrelation after Boersma (1993, *Accurate short-term analysis of the fundamental
frequency and the harmonics-to-noise ratio of a sampled sound*, IFA Proceedings 17), with its constants, which
are Praat's defaults; without its path through the frames: the median over the loud frames takes its place.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from featurestore.arrays import Float64Array
from featurestore.confounds.frames import Framer

FRAME_S, HOP_S = 0.040, 0.010
PERIODS = 3  # in a frame at the lowest pitch: 75 Hz in 40 ms
SAMPLES_OF_PERIOD = 4  # at the highest pitch
VOICING_THRESHOLD, OCTAVE_COST = 0.45, 0.01
UPSAMPLED = 4
BATCH_FRAMES = 32
# Frames within 10 dB of the loudest are the call; half of them have to be voiced.
LOUD_SHARE, VOICED_SHARE = 0.1, 0.5
FEWEST_SAMPLES = 64


class Pitch:
    """The F0 of a sound: median over the voiced ones of its loud frames.

    Frames of 40 ms every 10 ms (a shorter sound is one frame), pitches from three periods in a frame (75 Hz)
    to a quarter of the sample rate. A frame is voiced where its normalised autocorrelation has a maximum
    of 0.45 or more; of several the strongest counts, higher pitches being preferred by 0.01 per octave.

    Args:
        rate_hz: Sample rate.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._framer = Framer(max(2, round(FRAME_S * rate_hz)), max(1, round(HOP_S * rate_hz)))
        self._found: list[Float64Array] = []

    def add(self, block: npt.NDArray[np.floating]) -> None:
        """Take in samples `[n]`."""
        frames = self._framer.frames(block)
        for start in range(0, len(frames), BATCH_FRAMES):
            self._found.append(frame_pitches(frames[start : start + BATCH_FRAMES], self._rate_hz))

    def result(self) -> float:
        """Hz; NaN where fewer than half of the loud frames are voiced, or the sound has under 64 samples."""
        if not self._framer.n_frames and len(self._framer.rest) >= FEWEST_SAMPLES:
            self._found.append(frame_pitches(self._framer.rest[None], self._rate_hz))
        if not self._found:
            return float("nan")
        f0, power = np.concatenate(self._found, axis=1)
        loud = f0[(power >= LOUD_SHARE * power.max()) & (power > 0)]
        voiced = loud[~np.isnan(loud)]
        return (
            float(np.median(voiced))
            if len(voiced) and len(voiced) >= VOICED_SHARE * len(loud)
            else float("nan")
        )


def frame_pitches(frames: Float64Array, rate_hz: int) -> Float64Array:
    """F0 in Hz (NaN: unvoiced) and power of each frame `[k, n]`: `[2, k]`."""
    n = frames.shape[1]
    x = frames - frames.mean(axis=1, keepdims=True)
    power = np.square(x).mean(axis=1)
    window, of_window, n_fft = _window(n)
    longest = UPSAMPLED * (n // PERIODS)
    lags = _autocorrelation(x * window, n_fft)[:, : longest + 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        r = lags / lags[:, :1] / of_window[: longest + 2]
    at = np.arange(1, longest + 1)
    left, centre, right = r[:, :-2], r[:, 1:-1], r[:, 2:]
    peaks = (centre > left) & (centre >= right) & (at >= UPSAMPLED * SAMPLES_OF_PERIOD)
    # the top of the parabola through a maximum and its neighbours
    bend = left - 2 * centre + right
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(peaks, 0.5 * (left - right) / bend, 0.0)
    strength = np.where(peaks, centre - 0.25 * (left - right) * shift, -np.inf)
    cost = OCTAVE_COST * np.log2(at * PERIODS / (UPSAMPLED * n))  # 0 at the lowest pitch, less at higher
    best = (strength - cost).argmax(axis=1)
    rows = np.arange(len(frames))
    voiced = strength[rows, best] >= VOICING_THRESHOLD
    lag = (at[best] + shift[rows, best]) / UPSAMPLED
    return np.stack([np.where(voiced, rate_hz / lag, np.nan), power])


@lru_cache(maxsize=16)
def _window(n: int) -> tuple[Float64Array, Float64Array, int]:
    """The Hann window, its own normalised autocorrelation, upsampled, and the length of a transform."""
    from scipy.fft import next_fast_len
    from scipy.signal import get_window

    window: Float64Array = get_window("hann", n)
    n_fft = int(next_fast_len(n + n // PERIODS + 2, real=True))
    of_window = _autocorrelation(window[None], n_fft)[0]
    return window, of_window / of_window[0], n_fft


def _autocorrelation(x: Float64Array, n_fft: int) -> Float64Array:
    """Autocorrelation of rows `[k, n]` at lags of `1 / UPSAMPLED` samples, by the power spectrum.

    Zeros beyond the spectrum's end are interpolation by a sinc between samples.
    """
    from scipy.fft import irfft, rfft

    spectra = rfft(x, n_fft, axis=1)
    found: Float64Array = irfft(spectra.real**2 + spectra.imag**2, UPSAMPLED * n_fft, axis=1)
    return found
