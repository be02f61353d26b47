"""From the rate of a file to that of a model, with soxr."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from featurestore.arrays import FloatArray
from featurestore.audio.segment import AudioError

# soxr makes its filter anew at every call, which takes as long as 25,000 samples do. Clips that go through
# together as channels share one: up to so many, of lengths so near, and no more samples than stay in a cache.
MOST_CHANNELS = 8
_LENGTHS_APART = 1.15
_MOST_SAMPLES = 1 << 17


def resample_all(
    clips: Sequence[FloatArray], rate_hz: int, model_rate_hz: int, quality: str
) -> list[FloatArray | AudioError]:
    """Clips `[n]` at another rate, in their order, or why one cannot be had.

    A channel of soxr knows nothing of the others, and a clip ends as if zeros followed: each becomes what it
    would alone, to the last bit.

    Args:
        clips: at `rate_hz`.
        rate_hz: of the clips.
        model_rate_hz: of the results.
        quality: soxr's.
    """
    found: dict[int, FloatArray | AudioError] = {}
    for together in _groups([len(clip) for clip in clips]):
        group = [clips[i] for i in together]
        resampled = _together(group, rate_hz, model_rate_hz, quality)
        if resampled is None:
            resampled = [_alone(clip, rate_hz, model_rate_hz, quality) for clip in group]
        found |= zip(together, resampled, strict=True)
    return [found[i] for i in range(len(clips))]


def _groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indexes of clips that go through together."""
    group: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        longest = lengths[group[0]] if group else 0
        if group and (
            len(group) == MOST_CHANNELS
            or lengths[i] * _LENGTHS_APART < longest
            or longest * (len(group) + 1) > _MOST_SAMPLES
        ):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _together(
    clips: Sequence[FloatArray], rate_hz: int, model_rate_hz: int, quality: str
) -> list[FloatArray | AudioError] | None:
    """Clips, the longest first, as channels of one call; None where each must have one of its own."""
    if len(clips) == 1:
        return None
    channels = np.zeros((len(clips), len(clips[0])), dtype=np.float32)
    for channel, clip in zip(channels, clips, strict=True):
        channel[: len(clip)] = clip
    out = _alone(channels.T, rate_hz, model_rate_hz, quality)
    # One that fails costs its neighbours nothing; nor does a soxr that counts in another way.
    if isinstance(out, AudioError) or len(out) != _n_out(len(clips[0]), rate_hz, model_rate_hz):
        return None
    return [out[: _n_out(len(clip), rate_hz, model_rate_hz), i].copy() for i, clip in enumerate(clips)]


def _n_out(n: int, rate_hz: int, model_rate_hz: int) -> int:
    """Samples that soxr makes of n (`rate_flush` in its rate.h)."""
    return int(n / (rate_hz / model_rate_hz) + 0.5)


def _alone(samples: FloatArray, rate_hz: int, model_rate_hz: int, quality: str) -> FloatArray | AudioError:
    """Samples `[n]`, or `[n, channels]`, at another rate."""
    import soxr

    try:
        found: FloatArray = soxr.resample(samples, rate_hz, model_rate_hz, quality=quality.upper())
    except (RuntimeError, ValueError, MemoryError) as error:
        return AudioError(f"cannot be resampled from {rate_hz} Hz ({error})")
    return found


def resampled(
    blocks: Iterator[FloatArray], rate_hz: int, model_rate_hz: int, quality: str
) -> Iterator[FloatArray]:
    """Blocks of one clip at another rate, as they come."""
    import soxr

    stream = soxr.ResampleStream(rate_hz, model_rate_hz, 1, dtype="float32", quality=quality.upper())
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
