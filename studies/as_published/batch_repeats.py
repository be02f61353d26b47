"""A reference extractor that repeats clips to the longest of their batch, as the study's code does.

It stands apart from `extractors`: a clip's values here depend on who else is in its batch. With batches of
one clip they are those of `fs extract --preset sarkar2025`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from featurestore.arrays import FloatArray

BATCH_CLIPS = 32
MIN_SAMPLES = 5000


def repeated_to_longest(clips: Sequence[FloatArray], min_samples: int = MIN_SAMPLES) -> FloatArray:
    """Clips `[n_i]`, each tiled from its start to the longest of them, or to `min_samples`: `[b, n]`."""
    longest = max(min_samples, *(len(clip) for clip in clips))
    return np.stack([np.resize(clip, longest) for clip in clips])


def embed_in_batches(
    model: Any, clips: Sequence[FloatArray], *, batch_clips: int = BATCH_CLIPS, min_samples: int = MIN_SAMPLES
) -> FloatArray:
    """Mean and unbiased std over all frames, repeats included, of every hidden state `[n, L, 2 d]`.

    Args:
        model: Of transformers, in evaluation mode; gets no mask.
        clips: Waveforms in the order of the files, at the model's rate, normalised.
        batch_clips: Clips of a batch, one after the other.
        min_samples: Least samples of a batch.
    """
    out = []
    for start in range(0, len(clips), batch_clips):
        batch = repeated_to_longest(clips[start : start + batch_clips], min_samples)
        with torch.inference_mode():
            states = torch.stack(model(torch.from_numpy(batch), output_hidden_states=True).hidden_states, 1)
        out.append(torch.cat([states.mean(2), states.std(2)], dim=-1).numpy())  # [b, L, T, d] -> [b, L, 2 d]
    return np.concatenate(out).astype(np.float32, copy=False)
