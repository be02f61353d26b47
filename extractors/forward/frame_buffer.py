"""Planning and collecting frame-level hidden states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from extractors.audio.waveform import AudioPolicy
from extractors.models.interface import ModelCard
from featurestore.format.layer_arrays import DTypeName, FrameShape, room_for
from featurestore.store.plan import DEFAULT_UNIT_ROWS

# Frames of one unit, all layers, are held in memory while it is embedded.
TARGET_UNIT_BYTES = 512 * 1024 * 1024
MIN_UNIT_ROWS = 8


def frame_bound(duration_s: float, card: ModelCard, policy: AudioPolicy) -> int:
    """At least as many frames as a clip of this duration can have, from its sample count alone.

    One per hop, one more for a started hop, one for the rounding of the resampler; a clip embedded in
    windows may start a hop in each of them.
    """
    n_samples = policy.model_samples(duration_s) + 1
    windows = -(-n_samples // card.max_samples) if card.max_samples else 1
    return -(-n_samples // card.hop_samples) + 1 + windows


def plan_frames(
    durations_s: Sequence[float],
    card: ModelCard,
    policy: AudioPolicy,
    *,
    n_layers: int,
    unit_rows: int | None,
    dtype: DTypeName,
) -> tuple[int, FrameShape, np.ndarray]:
    """Rows per unit, the shape of the frame arrays, and most frames per row, int64 `[n]`.

    Args:
        durations_s: seconds of every clip in the order of the plan, longest first; NaN where unknown.
        card: the model.
        policy: how audio is prepared.
        n_layers: layers that are kept.
        unit_rows: rows per unit, or None to choose so that a unit's frames fit `TARGET_UNIT_BYTES`.
        dtype: stored dtype of the frames.
    """
    bounds = np.array([frame_bound(d, card, policy) for d in durations_s], dtype=np.int64)
    if unit_rows is None:
        frame_bytes = n_layers * card.n_features * np.dtype(dtype).itemsize
        unit_rows = DEFAULT_UNIT_ROWS
        # The first unit holds the longest clips.
        while unit_rows > MIN_UNIT_ROWS and bounds[:unit_rows].sum() * frame_bytes > TARGET_UNIT_BYTES:
            unit_rows //= 2
    per_unit = [int(bounds[i : i + unit_rows].sum()) for i in range(0, len(bounds), unit_rows)]
    room = room_for(max(per_unit, default=1), card.n_features, dtype)
    return unit_rows, FrameShape(n_features=card.n_features, unit_frames=room, dtype=dtype), bounds


class FrameCollector:
    """Frames of one unit while its batches come in.

    Args:
        layers: layers that are kept.
        n_rows: rows of the unit.
        shape: shape of the frame arrays.
    """

    def __init__(self, layers: Sequence[int], n_rows: int, shape: FrameShape) -> None:
        self._shape = shape
        self._parts: dict[int, list[list[np.ndarray]]] = {k: [[] for _ in range(n_rows)] for k in layers}

    def add(self, layer: int, row: int, frames: np.ndarray) -> None:
        """Append frames `[t, features]` of one clip, window by window, as they will be stored."""
        # Overflow shows as infinity here and is refused when the unit is written; values stay as they are.
        with np.errstate(over="ignore"):
            self._parts[layer][row].append(frames.astype(self._shape.dtype))

    def drop(self, row: int) -> None:
        """Forget a clip that failed."""
        for rows in self._parts.values():
            rows[row] = []

    def joined(self) -> dict[int, np.ndarray]:
        """Layer → frames `[total, features]` of all rows, one after the other."""
        empty = np.zeros((0, self._shape.n_features), dtype=self._shape.dtype)
        return {
            k: np.concatenate([empty, *(part for parts in rows for part in parts)])
            for k, rows in self._parts.items()
        }
