"""What a run hands out: values of a unit while its batches come in, progress, and the summary."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from extractors.forward.frame_buffer import FrameCollector
from featurestore.format.layer_arrays import FrameShape
from featurestore.format.row_arrays import STATUS_OK
from featurestore.manifest.audio_places import UNKNOWN, Places
from featurestore.store.plan import Unit
from featurestore.store.writer import UnitRows


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is: clips and seconds of audio, done and in all (this run only)."""

    clips_done: int
    clips_total: int
    failed: int
    audio_s: float


@dataclass(frozen=True, kw_only=True)
class SelfCheck:
    """What checking found.

    Attributes:
        n_clips: clips compared.
        tolerance: largest deviation allowed.
        deviations: layer → largest relative deviation.
        beyond: utterance id, layer and deviation of the worst clip, if it is beyond the tolerance.
    """

    n_clips: int
    tolerance: float
    deviations: Mapping[int, float] = field(default_factory=dict)
    beyond: tuple[str, int, float] | None = None


@dataclass(kw_only=True)
class Outcome:
    """What was done for one key, in this process or elsewhere; see `ExtractSummary`."""

    n_embedded: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    audio_s: float = 0.0
    n_bytes: int = 0
    run_s: float = 0.0
    forward_s: float = 0.0
    notes: list[str] = field(default_factory=list)
    selfcheck: SelfCheck | None = None


@dataclass(frozen=True, kw_only=True)
class ExtractSummary:
    """What a run did.

    Attributes:
        key: ``model/dataset``.
        n_clips: clips of the key.
        n_embedded: clips that went through this run, failed ones included.
        failed: utterance id → reason, for clips embedded in this run.
        audio_s: seconds of audio embedded in this run.
        elapsed_s: wall-clock seconds, model loading included.
        forward_s: seconds in the model and its functionals, summed over devices; no decoding, no writing.
        n_together: models that shared the run, and so `elapsed_s`.
        n_bytes: bytes written.
        layers: layers of the key.
        device: what it was done on.
        notes: lines worth telling the user.
        selfcheck: what embedding clips again alone found; None where nothing was checked.
    """

    key: str
    n_clips: int
    n_embedded: int
    failed: dict[str, str]
    audio_s: float
    elapsed_s: float
    forward_s: float
    n_bytes: int
    layers: list[int]
    device: str
    n_together: int = 1
    notes: list[str] = field(default_factory=list)
    selfcheck: SelfCheck | None = None

    @property
    def n_skipped(self) -> int:
        """Clips that this run had nothing to do for."""
        return self.n_clips - self.n_embedded


class UnitResult:
    """Values of one unit while its batches come in; rows are NaN until they are embedded.

    Args:
        unit: which rows of the key.
        ids: utterance id of every row, "" where there is none.
        layers: layers that are kept.
        n_functionals, n_features: shape of a row's values.
        frames: shape of the frame arrays, in keys that keep frames.
        failed: gains utterance id → reason for every clip that fails.
    """

    def __init__(
        self,
        unit: Unit,
        ids: Sequence[str],
        layers: Sequence[int],
        *,
        n_functionals: int,
        n_features: int,
        frames: FrameShape | None,
        failed: dict[str, str],
    ) -> None:
        n = unit.n_rows
        self.unit = unit
        self.ids = ids
        self.frames = FrameCollector(layers, n, frames) if frames is not None else None
        self.values = {k: np.full((n, n_functionals, n_features), np.nan, dtype=np.float32) for k in layers}
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
        if self.frames is not None:
            self.frames.drop(row)
        self._failed[str(self.ids[row])] = reason

    def close(self) -> None:
        """Blank the rows without a value.

        A value that is not finite (an overflow in half precision, say) must never pass for a feature.
        """
        ok = np.array([s == STATUS_OK for s in self.status])
        for layer, values in self.values.items():
            finite = np.isfinite(values).all(axis=(1, 2))
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
            frames=self.frames.joined() if self.frames is not None else None,
            places=replace(places, n_bytes=stamps[:, 0], mtime_ns=stamps[:, 1]),
        )
