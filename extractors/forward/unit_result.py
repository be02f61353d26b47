"""What is computed of one unit while its batches come in, and how much room its frames need."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from extractors.audio.policy import AudioPolicy
from extractors.models.interface import ModelCard
from featurestore.format.layer_arrays import FrameShape, room_for
from featurestore.format.number_types import DTypeName
from featurestore.format.row_arrays import STATUS_OK
from featurestore.manifest.audio_places import Places
from featurestore.manifest.location import UNKNOWN
from featurestore.store.key import KeyInfo
from featurestore.store.plan import DEFAULT_UNIT_ROWS, Unit
from featurestore.store.writer import UnitRows

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


class UnitResult:
    """Values of one unit while its batches come in; rows are NaN until they are embedded.

    Args:
        unit: which rows of the key.
        ids: utterance id of every row, "" where there is none.
        layers: layers that are kept.
        info: the key, whose shapes they have.
        failed: gains utterance id → reason for every clip that fails.
        room: values of another unit, which this one may take the place of.
    """

    def __init__(
        self,
        unit: Unit,
        ids: Sequence[str],
        layers: Sequence[int],
        info: KeyInfo,
        failed: dict[str, str],
        room: dict[int, np.ndarray] | None = None,
    ) -> None:
        n = unit.n_rows
        shape = (n, len(info.functionals), info.shape.n_features)
        self.unit = unit
        self.ids = ids
        self.keeps_frames = info.frames is not None
        self._frame_shape = info.frames
        kept = layers if self.keeps_frames else []
        self._frames: dict[int, list[list[np.ndarray]]] = {k: [[] for _ in range(n)] for k in kept}
        self.values = {k: _blank(shape, (room or {}).get(k)) for k in layers}
        self.status = [""] * n
        self.n_frames = np.zeros(n, dtype=np.int32)
        self.duration_s = np.full(n, np.nan)
        self.audio_hash = [""] * n
        self.stamps = [(UNKNOWN, UNKNOWN)] * n
        self.began = time.perf_counter()
        self._failed = failed

    def fail(self, row: int, reason: str) -> None:
        """Mark a row as failed, whatever it holds."""
        self.status[row] = f"failed: {reason}"
        self.n_frames[row] = 0
        self.audio_hash[row] = ""
        for rows in self._frames.values():
            rows[row] = []
        self._failed[str(self.ids[row])] = reason

    def add_frames(self, layer: int, row: int, frames: np.ndarray) -> None:
        """Append frames `[t, features]` of a clip, window by window, as they will be stored, if they will."""
        if self._frame_shape is not None:
            # Overflow shows as infinity here and is refused when the unit is written; values stay.
            with np.errstate(over="ignore"):
                self._frames[layer][row].append(frames.astype(self._frame_shape.dtype))

    def close(self) -> None:
        """Blank the rows without a value.

        A value that is not finite (an overflow in half precision, say) must never pass for a feature.
        """
        ok = np.array([s == STATUS_OK for s in self.status])
        for layer, values in self.values.items():
            finite = _finite_rows(values)
            for row in np.flatnonzero(ok & ~finite):
                self.fail(int(row), f"the model's output is not finite at layer {layer}")
                ok[row] = False
        for values in self.values.values():
            values[~ok] = np.nan

    @property
    def audio_s(self) -> float:
        """Seconds of audio of the rows that have values."""
        pairs = zip(self.duration_s, self.status, strict=True)
        return float(np.nansum([d for d, s in pairs if s == STATUS_OK]))

    def rows(self, places: Places) -> UnitRows:
        """Per-row facts, as they are stored.

        Args:
            places: where the audio of each row was taken from, without stamps.
        """
        stamps = np.array(self.stamps, dtype=np.int64).reshape(-1, 2)
        return UnitRows(
            status=self.status,
            n_frames=self.n_frames,
            duration_s=self.duration_s,
            audio_hash=self.audio_hash,
            frames=self._joined_frames(),
            places=replace(places, n_bytes=stamps[:, 0], mtime_ns=stamps[:, 1]),
        )

    def _joined_frames(self) -> dict[int, np.ndarray] | None:
        """Layer → frames `[total, features]` of all rows, one after the other; None where none are kept."""
        if self._frame_shape is None:
            return None
        empty = np.zeros((0, self._frame_shape.n_features), dtype=self._frame_shape.dtype)
        return {
            k: np.concatenate([empty, *(part for parts in rows for part in parts)])
            for k, rows in self._frames.items()
        }


def _blank(shape: tuple[int, ...], room: np.ndarray | None) -> np.ndarray:
    """NaN in an array of this shape, in `room` where that has it."""
    if room is None or room.shape != shape:
        return np.full(shape, np.nan, dtype=np.float32)
    room.fill(np.nan)
    return room


def _finite_rows(values: np.ndarray) -> np.ndarray:
    """Whether every value of a row `[n, functionals, features]` is finite, bool `[n]`."""
    flat = values.reshape(len(values), -1)
    # Where a sum is finite all of it is; where it is not, finite values may add up to infinity.
    with np.errstate(over="ignore", invalid="ignore"):
        finite: np.ndarray = np.isfinite(np.add.reduce(flat, axis=1))
    unsure = np.flatnonzero(~finite)
    finite[unsure] = np.isfinite(flat[unsure]).all(axis=1)
    return finite
