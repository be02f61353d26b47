from __future__ import annotations

import numpy as np

from featurestore.audio.segment import open_stretch


def decode(path: str, start_s: float, end_s: float, channel: int | None) -> tuple[np.ndarray, int]:
    """Mono float32 samples `[n]` of a segment, and the rate of its file."""
    with open_stretch(path, start_s, end_s, channel) as stretch:
        return np.concatenate(list(stretch.blocks())), stretch.sample_rate_hz
