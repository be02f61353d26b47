"""How audio becomes model input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from extractors.audio.normalising import NORMALISATIONS
from extractors.models.interface import Normalisation
from featurestore.errors import ConfigError

ShortPolicy = Literal["repeat", "none"]
RatePolicy = Literal["resample", "expand"]
# How start_s and end_s become samples, and how many there are after resampling.
Segments = Literal["nearest", "librosa"]
ResampleQuality = Literal["qq", "lq", "mq", "hq", "vhq"]  # soxr's, from quick to very high
# ssl-human-animal repeats clips up to 5,000 samples: 15 frames at 16 kHz, enough for a stable std.
DEFAULT_MIN_SAMPLES = 5000
# An hour at 16 kHz and more: what is repeated up to it is held in memory.
MOST_MIN_SAMPLES = 100_000_000
_LIBROSA_SEGMENTS = (
    "librosa: start and duration truncated to samples, ceil(n * rate / native rate) samples after resampling"
)


@dataclass(frozen=True, kw_only=True)
class AudioPolicy:
    """How audio becomes model input; all of it is part of the fingerprint.

    Attributes:
        sample_rate_hz: rate of the model.
        normalisation: see `ModelCard.normalisation`.
        min_samples: clips shorter than this, at the model's rate, follow `short_policy`.
        short_policy: ``repeat`` tiles the clip from its start up to `min_samples`; ``none`` leaves it.
        rate_policy: ``resample`` brings every file to the model's rate; ``expand`` reads its samples as if
            they were at that rate (time expansion: a bat at 250 kHz sounds 15.6 times slower and lower).
        resample_quality: of soxr.
        segments: ``nearest`` rounds times to samples and takes what the resampler gives. ``librosa`` does as
            `librosa.load` does: the manifest's times have been cut by now (see `as_librosa_cuts`), and
            after resampling there are exactly ceil(n * rate / native rate) samples.
        channel: ``mix``, ``each`` or a number, for rows whose manifest names no channel; it has been written
            into the manifest by now (see `choose_channels`).
    """

    sample_rate_hz: int
    normalisation: Normalisation
    min_samples: int = DEFAULT_MIN_SAMPLES
    short_policy: ShortPolicy = "repeat"
    rate_policy: RatePolicy = "resample"
    resample_quality: ResampleQuality = "hq"
    segments: Segments = "nearest"
    channel: str = "mix"

    def __post_init__(self) -> None:
        if self.normalisation not in NORMALISATIONS:
            raise ConfigError(
                f"normalisation: expected one of {', '.join(NORMALISATIONS)}, got {self.normalisation!r}"
            )
        if not 1 <= self.min_samples <= MOST_MIN_SAMPLES:
            raise ConfigError(
                f"min-samples: expected from 1 to {MOST_MIN_SAMPLES:,}, got {self.min_samples:,}"
            )

    def fingerprint(self) -> Mapping[str, Any]:
        """Readable values for the key's fingerprint."""
        expands = self.rate_policy == "expand"
        return {
            "sample_rate_hz": self.sample_rate_hz,
            "channels": {
                "mix": "mono: mean of channels, or the manifest's channel",
                "each": "each channel a row, or the manifest's channel",
            }.get(self.channel, f"channel {self.channel}, or the manifest's channel"),
            "resampler": "none: native samples are read at the model's rate"
            if expands
            else f"soxr_{self.resample_quality}",
            "normalisation": self.normalisation,
            "short_clips": f"repeat to {self.min_samples} samples"
            if self.short_policy == "repeat"
            else "none",
            # Absent otherwise: keys keep their fingerprint.
            **({"segments": _LIBROSA_SEGMENTS} if self.segments == "librosa" else {}),
        }

    def fixed_samples(self, n_samples: int, rate_hz: int) -> int | None:
        """Samples that so many at a file's rate become, where that is not left to the resampler.

        As `librosa.resample` reckons it, in its order of operations.
        """
        if self.segments == "nearest" or self.ratio(rate_hz) == 1:
            return None
        return math.ceil(n_samples * (float(self.sample_rate_hz) / rate_hz))

    def ratio(self, rate_hz: int) -> float:
        """Samples for the model per sample of a file at this rate; 1 where they are taken as they are."""
        return 1.0 if self.rate_policy == "expand" else self.sample_rate_hz / rate_hz

    def model_samples(self, model_s: float) -> int:
        """Samples the model sees for a clip of this duration (an estimate to plan batches with).

        Args:
            model_s: seconds at the model's rate; see `extractors.audio.headers.model_seconds`.
        """
        n = max(1, round(model_s * self.sample_rate_hz)) if math.isfinite(model_s) else 1
        return max(n, self.min_samples) if self.short_policy == "repeat" else n
