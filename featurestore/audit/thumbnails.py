"""Small spectrograms as PNG."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt

from featurestore.audio.blocks import SoundError, mono_blocks

WIDTH, HEIGHT = 240, 80
SHOWN_S = 10.0  # the first seconds of a long clip
RANGE_DB = 70.0
# From paper to ink by way of a blue: levels between are easier to tell apart than in grey.
_STOPS = np.array([[254, 254, 253], [150, 190, 220], [11, 93, 148], [20, 20, 25]], dtype=np.float64)


def thumbnail(path: str, start_s: float, end_s: float, channel: int | None) -> str:
    """A ``data:`` URL of the clip's spectrogram: time across, 0 Hz to half the rate upwards.

    Returns:
        "" where the clip cannot be read or holds nothing.
    """
    first = 0.0 if np.isnan(start_s) else start_s
    stop = first + SHOWN_S if np.isnan(end_s) else min(end_s, first + SHOWN_S)
    try:
        x = np.concatenate([np.zeros(0, np.float32), *mono_blocks(path, first, stop, channel)])
    except (SoundError, OSError):
        return ""
    if len(x) < 2 * HEIGHT or not np.isfinite(x).all():
        return ""
    levels = _levels(x.astype(np.float64))
    return "data:image/png;base64," + base64.b64encode(png(levels)).decode("ascii")


def _levels(x: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Levels `[HEIGHT, WIDTH]`, 255 the loudest, 0 what lies `RANGE_DB` below it or is silent."""
    n_fft = 2 * HEIGHT
    starts = np.linspace(0, len(x) - n_fft, WIDTH).astype(np.int64)
    frames = np.lib.stride_tricks.sliding_window_view(x, n_fft)[starts]
    power = np.abs(np.fft.rfft((frames - frames.mean(axis=1, keepdims=True)) * np.hanning(n_fft))) ** 2
    power = power[:, 1:].T[::-1]  # low frequencies at the bottom
    top = power.max()
    if top <= 0:
        return np.zeros(power.shape, dtype=np.uint8)
    db = 10 * np.log10(np.maximum(power / top, 1e-12))
    out: npt.NDArray[np.uint8] = (255 * np.clip(1 + db / RANGE_DB, 0, 1)).astype(np.uint8)
    return out


def png(levels: npt.NDArray[np.uint8]) -> bytes:
    """A palette PNG of levels `[height, width]`."""
    from PIL import Image

    at = np.linspace(0, len(_STOPS) - 1, 256)
    palette = np.stack([np.interp(at, np.arange(len(_STOPS)), _STOPS[:, c]) for c in range(3)], axis=1)
    image = Image.fromarray(levels)
    image.putpalette(palette.round().astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()
