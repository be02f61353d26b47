"""Waveforms scaled as a model was trained with."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np

from extractors.models.interface import Normalisation
from featurestore.arrays import FloatArray
from featurestore.audio.segment import AudioError

NORMALISATIONS = get_args(Normalisation)
# Added to the variance by Wav2Vec2FeatureExtractor (transformers), which we follow to the digit.
VARIANCE_FLOOR = 1e-7
# Rounding leaves a constant less variance than this share of its square, and next to nothing else.
_NEXT_TO_CONSTANT = 1e-9
# Samples of a long clip that are scaled at once.
_BLOCK_SAMPLES = 1 << 24


def normalise(samples: FloatArray, how: Normalisation) -> FloatArray:
    """Scale a waveform `[n]`; ``zero-mean-unit-variance`` is that of `Wav2Vec2FeatureExtractor`.

    Raises:
        AudioError: the signal is constant, so there is nothing to scale.
    """
    if how == "none":
        return samples
    if how == "peak":
        peak = float(np.abs(samples).max())
        if peak == 0:
            raise AudioError("all samples are zero")
        return samples / np.float32(peak)
    [found] = normalise_each(samples[np.newaxis], how)
    if isinstance(found, AudioError):
        raise found
    return found


def normalise_each(clips: FloatArray, how: Normalisation) -> list[FloatArray | AudioError]:
    """As `normalise`, each of these waveforms `[clips, n]`, to the bit, or why one cannot be scaled."""
    found: list[FloatArray | AudioError] = []
    if how != "zero-mean-unit-variance":
        for clip in clips:
            try:
                found.append(normalise(clip, how))
            except AudioError as error:
                found.append(error)
        return found
    # As `(x - x.mean()) / np.sqrt(x.var() + floor)`, to the bit; `var` would go through the samples again.
    n = np.float32(clips.shape[1])
    mean = np.add.reduce(clips, axis=1) / n  # as `mean`, which looks at more than it adds in a short clip
    centred: FloatArray = clips - mean[:, np.newaxis]
    variance = np.add.reduce(np.square(centred), axis=1) / n
    centred /= np.sqrt(variance + np.float32(VARIANCE_FLOOR))[:, np.newaxis]
    found.extend(centred)
    for i in np.flatnonzero(variance <= _NEXT_TO_CONSTANT * mean * mean).tolist():
        if float(np.ptp(clips[i])) == 0:
            found[i] = AudioError("constant signal, has no variance to normalise by")
    return found


def normalise_in_place(samples: FloatArray, how: Normalisation) -> None:
    """As `normalise`, for a clip of any length, a block at a time."""
    if how == "none":
        return
    blocks = [samples[i : i + _BLOCK_SAMPLES] for i in range(0, len(samples), _BLOCK_SAMPLES)]
    if how == "peak":
        peak = max(float(np.abs(b).max()) for b in blocks)
        if peak == 0:
            raise AudioError("all samples are zero")
        for block in blocks:
            block /= np.float32(peak)
        return
    n = len(samples)
    if max(float(b.max()) for b in blocks) == min(float(b.min()) for b in blocks):
        raise AudioError("constant signal, has no variance to normalise by")
    mean = sum(float(b.sum(dtype=np.float64)) for b in blocks) / n
    spread = 0.0
    for block in blocks:
        centred = block.astype(np.float64) - mean
        spread += float(centred @ centred)
    scale = 1 / math.sqrt(spread / n + VARIANCE_FLOOR)
    for block in blocks:
        block -= np.float32(mean)
        block *= np.float32(scale)
