"""Small spectrograms as PNG."""

from __future__ import annotations

import numpy as np

from featurestore.audio.blocks import SoundError, mono_blocks
from featurestore.audio.spectrogram import data_url, spectrogram_png

WIDTH, HEIGHT = 240, 80
SHOWN_S = 10.0  # the first seconds of a long clip


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
    return data_url("image/png", spectrogram_png(x, WIDTH, HEIGHT))
