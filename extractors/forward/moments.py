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


def moments(frames: FloatArray) -> tuple[Float64Array, FloatArray | Float64Array]:
    """Mean and sum of squared deviations `[b, features]` over the frames float32 `[b, t, features]` of clips.

    By NumPy and not by PyTorch: memory bounds these sums, and PyTorch's threads wait for each other longer
    than they add where others decode beside them. Nor as matrix products, whose order of adding, and so the
    last bit, may change with the clips beside one.
    """
    n_frames = frames.shape[1]
    # Infinite frames have no moments, which is told when the unit ends.
    with np.errstate(invalid="ignore", over="ignore"):
        if n_frames <= _BLOCK_FRAMES:
            return _of_block(frames)
        blocks = [frames[:, i : i + _BLOCK_FRAMES] for i in range(0, n_frames, _BLOCK_FRAMES)]
        means, m2s = zip(*map(_of_block, blocks), strict=True)
        return joined([block.shape[1] for block in blocks], np.stack(means), np.stack(m2s))


def _of_block(frames: FloatArray) -> tuple[Float64Array, FloatArray]:
    n_clips, n_frames, n_features = frames.shape
    n = np.float32(n_frames)
    mean, rest, m2 = np.empty((3, n_clips, n_features), dtype=np.float32)
    clips = max(1, _BLOCK_NUMBERS // (n_frames * n_features))
    room = np.empty((min(clips, n_clips), n_frames, n_features), dtype=np.float32)
    for first in range(0, n_clips, clips):
        some = slice(first, first + clips)
        x, own = frames[some], mean[some]
        centred = room[: len(x)]
        np.add.reduce(x, axis=1, out=own)
        own /= n
        np.subtract(x, own[:, None], out=centred)
        np.add.reduce(centred, axis=1, out=rest[some])
        np.einsum("btf,btf->bf", centred, centred, out=m2[some])
    shift = rest / n
    rest *= shift
    m2 -= rest
    return np.add(mean, shift, dtype=np.float64), np.maximum(m2, 0.0, out=m2)


def joined(
    counts: npt.ArrayLike, means: Float64Array, m2s: npt.NDArray[np.floating]
) -> tuple[Float64Array, Float64Array]:
    """Mean and sum of squared deviations of all frames from those of parts `[parts, …]` with so many each."""
    weights = np.asarray(counts, dtype=np.float64).reshape(-1, *[1] * (means.ndim - 1))
    with np.errstate(invalid="ignore", over="ignore"):
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
