"""Embedding a few stored clips again, each alone, and comparing with what the store holds."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from extractors.results import SelfCheck
from extractors.run.key_job import KeyJob
from featurestore.audio.segment import AudioError
from featurestore.format import layer_arrays
from featurestore.store.layer import open_array, read_row

# How far a clip alone may be from what was stored, relative to the largest value of the clip and layer.
# fp32 is the promise of the batching; the others are several times what was measured
# (docs/extraction.md), where the order of additions alone moves results this much.
TOLERANCES = {"fp32": 1e-5, "tf32": 5e-3, "bf16": 5e-2, "fp16": 1e-2}
# A GPU adds in another order for every shape.
CUDA_FP32_TOLERANCE = 1e-4
# float16 keeps 11 bits of each value.
FLOAT16_ROUNDING = 2.0**-11
DEFAULT_CLIPS = 3
# Most of the run's time that checking unasked may cost, after the first clip.
SHARE_OF_RUN = 0.02


def tolerance(precision: str, dtype: str, device: str) -> float:
    """Largest relative deviation between a clip in a batch and alone that is no cause for concern."""
    allowed = TOLERANCES[precision]
    if precision == "fp32" and device.startswith("cuda"):
        allowed = CUDA_FP32_TOLERANCE
    return allowed + (FLOAT16_ROUNDING if dtype == "float16" else 0.0)


def selfcheck(job: KeyJob, utterances: Sequence[str], *, most_s: float | None = None) -> SelfCheck:
    """Embed utterances one by one, through the same loading, and compare with the store.

    Args:
        job: with its model loaded and these utterances committed.
        utterances: which.
        most_s: seconds after which no further clip is begun; None: no limit.

    Raises:
        StoreError: what is stored cannot be read.
    """
    began = time.perf_counter()
    info = job.writer.info
    storage = job.writer.storage
    rows = {str(job.writer.ids[row]): int(row) for row in np.flatnonzero(np.isin(job.writer.ids, utterances))}
    arrays = {k: open_array(storage, f"{info.path}/{layer_arrays.layer_name(k)}") for k in job.layers}
    allowed = tolerance(job.config.precision, info.shape.dtype, job.device)
    worst: dict[int, tuple[float, str]] = {}
    n_clips = 0
    for utterance in utterances:
        if n_clips and most_s is not None and time.perf_counter() - began > most_s:
            break
        alone = _alone(job, utterance)
        if alone is None:  # its file has gone or changed since; that is for --refresh to tell
            continue
        n_clips += 1
        for layer, values in alone.items():
            stored = read_row(storage, arrays[layer], rows[utterance])
            found = deviation(stored, values)
            worst[layer] = max(worst.get(layer, (0.0, utterance)), (found, utterance))
    layer, (largest, utterance) = max(worst.items(), key=lambda w: w[1][0], default=(0, (0.0, "")))
    return SelfCheck(
        n_clips=n_clips,
        tolerance=allowed,
        deviations={k: d for k, (d, _) in sorted(worst.items())},
        beyond=(utterance, layer, largest) if largest > allowed else None,
    )


def deviation(stored: np.ndarray, alone: np.ndarray) -> float:
    """Largest difference relative to the largest value; infinite where one has a value and the other not."""
    if not (np.isfinite(stored).all() and np.isfinite(alone).all()):
        return float("inf")
    largest = float(np.abs(alone).max())
    return float(np.abs(stored - alone).max()) / largest if largest else float(np.abs(stored).max())


def check_after(job: KeyJob, run_s: float) -> SelfCheck | None:
    """Check clips of a run of `run_s` seconds: as many as asked for; unasked a few, the cheapest first."""
    asked = job.config.selfcheck
    if asked is not None:
        chosen = job.sample(asked)
    else:
        chosen = sorted(job.sample(DEFAULT_CLIPS), key=lambda utterance: job.model_s[utterance])
    if not chosen:
        return None
    return selfcheck(job, chosen, most_s=SHARE_OF_RUN * run_s if asked is None else None)


def _alone(job: KeyJob, utterance: str) -> dict[int, np.ndarray] | None:
    clip = job.clip(job.where[utterance])
    if isinstance(clip, AudioError):
        return None
    result = job.blank(utterance)
    job.loaded.embed([0], [clip], result)
    return {layer: values[0] for layer, values in result.values.items()}
