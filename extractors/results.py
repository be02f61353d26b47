"""What a run hands out: progress while it goes on, and a summary of what it did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ExtractProgress:
    """How far a run is: clips and seconds of audio, done and in all (this run only)."""

    clips_done: int
    clips_total: int
    failed: int
    audio_s: float


OnProgress = Callable[[ExtractProgress], None]


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


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was done for one key, in this process or elsewhere.

    Attributes:
        n_embedded: clips that went through this run, failed ones included.
        failed: utterance id → reason, for clips embedded in this run.
        audio_s: seconds of audio embedded in this run.
        forward_s: seconds in the model and its functionals, summed over devices; no decoding, no writing.
        run_s: wall-clock seconds from audio files to committed units, of all models that shared the run; the
            models are loaded before it, but by worker processes within it.
        n_bytes: bytes written.
        notes: lines worth telling the user.
        selfcheck: what embedding clips again alone found; None where nothing was checked.
    """

    n_embedded: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    audio_s: float = 0.0
    forward_s: float = 0.0
    run_s: float = 0.0
    n_bytes: int = 0
    notes: list[str] = field(default_factory=list)
    selfcheck: SelfCheck | None = None


@dataclass(frozen=True, kw_only=True)
class ExtractSummary(Outcome):
    """What a run did.

    Attributes:
        key: ``model/dataset``.
        n_clips: clips of the key.
        elapsed_s: wall-clock seconds, model loading included.
        layers: layers of the key.
        device: what it was done on.
        n_together: models that shared the run, and so `elapsed_s`.
    """

    key: str
    n_clips: int
    elapsed_s: float
    layers: list[int]
    device: str
    n_together: int = 1

    @property
    def n_skipped(self) -> int:
        """Clips that this run had nothing to do for."""
        return self.n_clips - self.n_embedded
