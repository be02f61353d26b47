"""Spectrograms as small PNG pictures: time across, frequency upwards."""

from __future__ import annotations

import base64
import io
import itertools

import numpy as np
import numpy.typing as npt

RANGE_DB = 70.0
# From paper to ink by way of a blue: levels between are easier to tell apart than in grey.
_STOPS = np.array([[254, 254, 253], [150, 190, 220], [11, 93, 148], [20, 20, 25]])
_PALETTE = np.stack([np.interp(np.linspace(0, 3, 256), np.arange(4), c) for c in _STOPS.T], axis=1)
# Shades of a picture; noise, which does not compress, takes a third less with these than with 256.
_SHADES = 32


def power_spectrogram(x: npt.NDArray[np.floating], width: int, height: int) -> npt.NDArray[np.float64]:
    """Power `[height, width]`, the highest frequency (half the rate) first, the mean left out.

    A column is the loudest of the frames in its stretch of time, which overlap by half at least: a click
    between two columns is in one of them.

    Args:
        x: samples `[n]`, at least ``2 * height``.
        width: columns.
        height: rows; a frame has twice as many samples.
    """
    n_fft = 2 * height
    n_frames = max(width, -(-(len(x) - n_fft) // height) + 1)
    starts = np.linspace(0, len(x) - n_fft, n_frames).astype(np.int64)
    views = np.lib.stride_tricks.sliding_window_view(x, n_fft)
    edges = np.linspace(0, n_frames, width + 1).astype(np.int64)
    window, out = np.hanning(n_fft), np.empty((height, width))
    for column, (first, stop) in enumerate(itertools.pairwise(edges)):
        frames = views[starts[first:stop]].astype(np.float64)
        frames = (frames - frames.mean(axis=1, keepdims=True)) * window
        out[:, column] = (np.abs(np.fft.rfft(frames)) ** 2)[:, 1:].max(axis=0)[::-1]
    return out


def spectrogram_png(x: npt.NDArray[np.floating], width: int, height: int) -> bytes:
    """A PNG of `power_spectrogram`: dark is loud, paper is `RANGE_DB` below the loudest, or silence."""
    from PIL import Image

    picture, buffer = Image.fromarray(_levels(power_spectrogram(x, width, height))), io.BytesIO()
    picture.putpalette(_PALETTE.round().astype(np.uint8).tobytes())
    picture.save(buffer, "png", compress_level=9)
    return buffer.getvalue()


def data_url(kind: str, data: bytes) -> str:
    """A ``data:`` URL; `kind` such as ``image/png``."""
    return f"data:{kind};base64," + base64.b64encode(data).decode("ascii")


def _levels(power: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Places in the palette, 255 the loudest, 0 what lies `RANGE_DB` below it or is silent."""
    top = power.max()
    if top <= 0:
        return np.zeros(power.shape, dtype=np.uint8)
    share = np.clip(1 + 10 * np.log10(np.maximum(power / top, 1e-12)) / RANGE_DB, 0, 1)
    steps = _SHADES - 1
    out: npt.NDArray[np.uint8] = (np.round(share * steps) * (255 / steps)).astype(np.uint8)
    return out
