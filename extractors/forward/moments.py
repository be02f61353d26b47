"""Means and sums of squared deviations over frames: one walk through a hidden state, exact at any offset.

Frames are taken from their mean, and what rounding left of that is taken off again (the corrected two-pass
formula of Chan, Golub & LeVeque 1983). Differences and their sums are exact where all frames are one
number, so the deviation of a constant is exactly zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from featurestore.arrays import Float64Array, FloatArray

if TYPE_CHECKING:
    import torch

# Frames that are summed in float32; their sums are joined in float64, however long a clip is.
_BLOCK_FRAMES = 128
# Numbers at once, so that differences stay in a core's cache: 512 KB.
_BLOCK_NUMBERS = 1 << 17


def moments(frames: FloatArray) -> tuple[Float64Array, Float64Array]:
    """Mean and sum of squared deviations `[b, features]` over the frames float32 `[b, t, features]` of clips.

    By NumPy and not by PyTorch: memory bounds these sums, and PyTorch's threads wait for each other longer
    than they add where others decode beside them.
    """
    n, n_frames, n_features = frames.shape
    mean, m2 = np.empty((2, n, n_features))
    clips = max(1, _BLOCK_NUMBERS // (min(n_frames, _BLOCK_FRAMES) * n_features))
    # Infinite frames have no moments, which is told when the unit ends.
    with np.errstate(invalid="ignore", over="ignore"):
        for first in range(0, n, clips):
            some = slice(first, first + clips)
            mean[some], m2[some] = _over_blocks(frames[some])
    return mean, m2


def _over_blocks(frames: FloatArray) -> tuple[Float64Array, FloatArray | Float64Array]:
    blocks = [frames[:, i : i + _BLOCK_FRAMES] for i in range(0, frames.shape[1], _BLOCK_FRAMES)]
    if len(blocks) == 1:
        return _of_block(frames)
    means, m2s = zip(*map(_of_block, blocks), strict=True)
    return joined([block.shape[1] for block in blocks], np.stack(means), np.stack(m2s))


def _of_block(frames: FloatArray) -> tuple[Float64Array, FloatArray]:
    n = np.float32(frames.shape[1])
    mean = frames.sum(axis=1) / n
    centred = frames - mean[:, None]
    rest = centred.sum(axis=1)
    m2 = np.einsum("btf,btf->bf", centred, centred)
    m2 -= rest * (rest / n)
    return np.add(mean, rest / n, dtype=np.float64), np.maximum(m2, 0.0, out=m2)


def joined(
    counts: npt.ArrayLike, means: Float64Array, m2s: npt.NDArray[np.floating]
) -> tuple[Float64Array, Float64Array]:
    """Mean and sum of squared deviations of all frames from those of parts `[parts, …]` with so many each."""
    weights = np.asarray(counts, dtype=np.float64).reshape(-1, *[1] * (means.ndim - 1))
    mean = (weights * means).sum(0) / weights.sum()
    return mean, m2s.sum(0, dtype=np.float64) + (weights * (means - mean) ** 2).sum(0)


def moments_on_device(
    frames: torch.Tensor, begin: torch.Tensor, count: torch.Tensor, padding: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `moments`, float64 `[b, features]`, for clips of any lengths; queued, and waited for by nobody.

    Sums and not products, which a GPU may round to TF32. Frames are taken from the first one before they are
    taken from their mean: zeros can then stand for padding without a copy of the frames.

    Args:
        frames: `[b, t, features]` of any float type; padding may hold anything.
        begin: first valid frame of each clip, float32 `[b, features]`.
        count: valid frames of each clip, float32 `[b, 1]`.
        padding: True where a frame does not count, `[b, t, 1]`; None where all count.
    """
    centred = frames - begin[:, None]
    if padding is not None:
        centred.masked_fill_(padding, 0.0)
    shift = centred.sum(1) / count
    centred -= shift[:, None]
    if padding is not None:
        centred.masked_fill_(padding, 0.0)
    rest, n = centred.sum(1).double(), count.double()
    m2 = (centred.square_().sum(1) - rest.square() / n).clamp_min(0.0)
    return begin.double() + shift.double() + rest / n, m2
