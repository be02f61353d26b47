"""What a model's sample rate cannot carry, over the clips of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from extractors.audio import AudioPolicy

# A clip that loses more than this is another sound after resampling.
MUCH = 0.5


def energy_note(above_nyquist: Sequence[float], policy: AudioPolicy) -> list[str]:
    """A line on the energy above the model's Nyquist frequency; none where no file was recorded above it.

    Args:
        above_nyquist: of every clip, see `Clip.above_nyquist`.
        policy: what was done to the clips.
    """
    shares = np.asarray(above_nyquist, dtype=np.float64)
    shares = shares[~np.isnan(shares)]
    if not len(shares):
        return []
    verb = "kept by --rate-policy expand" if policy.rate_policy == "expand" else "lost to resampling"
    much = int((shares > MUCH).sum())
    return [
        f"energy above {policy.sample_rate_hz / 2:g} Hz, {verb}: {100 * np.median(shares):.1f} % (median) "
        f"and {100 * shares.max():.1f} % (most) of {len(shares)} clips recorded above the model's rate; "
        f"{much} of them have more than half of theirs there"
    ]
