"""`librosa.load` by what librosa 0.11 documents and does, written out with soundfile and soxr: an oracle."""

from __future__ import annotations

import math

import numpy as np
import soundfile
import soxr


def librosa_load(path: str, offset: float, duration: float, rate_hz: int = 16_000) -> np.ndarray:
    """`librosa.load(path, sr=rate_hz, mono=True, offset=offset, duration=duration)`, float32 `[n]`."""
    with soundfile.SoundFile(path) as file:
        native = file.samplerate
        file.seek(int(offset * native))
        x = file.read(frames=int(duration * native), dtype="float32", always_2d=True).T
    y = x.mean(axis=0)
    if native == rate_hz:
        return y
    n = math.ceil(len(y) * (float(rate_hz) / native))
    resampled = soxr.resample(y, native, rate_hz, quality="HQ")[:n]
    return np.concatenate([resampled, np.zeros(n - len(resampled), np.float32)])
