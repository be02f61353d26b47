"""From a file on disk to the waveform a model sees: decode, mix, resample, repeat, normalise."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from extractors.base import Normalisation
from featurestore.errors import ConfigError

ShortPolicy = Literal["repeat", "none"]
NORMALISATIONS = ("none", "peak", "zero-mean-unit-variance")
# ssl-human-animal repeats clips up to 5,000 samples: 15 frames at 16 kHz, enough for a stable std.
DEFAULT_MIN_SAMPLES = 5000
# Annotation tools round times; a segment may end this much past the file's end and is then cut there.
END_TOLERANCE_S = 0.05
# Added to the variance by Wav2Vec2FeatureExtractor (transformers), which we follow to the digit.
VARIANCE_FLOOR = 1e-7


class AudioError(Exception):
    """Why a clip could not be used; becomes its status in the store."""


@dataclass(frozen=True, kw_only=True)
class AudioPolicy:
    """How audio becomes model input; all of it is part of the fingerprint.

    Attributes:
        sample_rate_hz: rate of the model.
        normalisation: see `ModelCard.normalisation`.
        min_samples: clips shorter than this, at the model's rate, follow `short_policy`.
        short_policy: ``repeat`` tiles the clip from its start up to `min_samples`; ``none`` leaves it.
        resampler: soxr quality.
    """

    sample_rate_hz: int
    normalisation: Normalisation
    min_samples: int = DEFAULT_MIN_SAMPLES
    short_policy: ShortPolicy = "repeat"
    resampler: str = "soxr_hq"

    def __post_init__(self) -> None:
        if self.normalisation not in NORMALISATIONS:
            raise ConfigError(
                f"normalisation: expected one of {', '.join(NORMALISATIONS)}, got {self.normalisation!r}"
            )
        if self.min_samples < 1:
            raise ConfigError(f"min-samples: expected at least 1, got {self.min_samples}")

    def fingerprint(self) -> Mapping[str, Any]:
        """Readable values for the key's fingerprint."""
        return {
            "sample_rate_hz": self.sample_rate_hz,
            "channels": "mono: mean of channels, or the manifest's channel",
            "resampler": self.resampler,
            "normalisation": self.normalisation,
            "short_clips": f"repeat to {self.min_samples} samples"
            if self.short_policy == "repeat"
            else "none",
        }

    def model_samples(self, duration_s: float) -> int:
        """Samples the model sees for a clip of this duration (an estimate to plan batches with)."""
        n = max(1, round(duration_s * self.sample_rate_hz)) if math.isfinite(duration_s) else 1
        return max(n, self.min_samples) if self.short_policy == "repeat" else n


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A decoded clip.

    Attributes:
        samples: float32 `[n]`, at the model's rate, as the model sees it.
        duration_s: seconds of audio decoded, before resampling or repetition.
        audio_hash: SHA-256 (first 32 hex digits) of the decoded samples and their rate.
    """

    samples: np.ndarray
    duration_s: float
    audio_hash: str


def header(path: str) -> tuple[int, int]:
    """Frames and sample rate of a file, from its header alone.

    Raises:
        AudioError: the file cannot be opened as audio.
    """
    import soundfile

    try:
        info = soundfile.info(path)
    except Exception as error:
        raise AudioError(_reason(error)) from error
    return int(info.frames), int(info.samplerate)


def load_clip(path: str, start_s: float, end_s: float, channel: int | None, policy: AudioPolicy) -> Clip:
    """Decode one utterance and prepare it for the model.

    Args:
        path: audio file.
        start_s: seconds, NaN for the start of the file.
        end_s: seconds, NaN for the end of the file.
        channel: channel counted from 0, or None for the mean of all.
        policy: see `AudioPolicy`.

    Raises:
        AudioError: with the reason, in words that stand in the store as the row's status.
    """
    samples, rate = read_samples(path, start_s, end_s, channel)
    return Clip(
        samples=prepare(samples, rate, policy),
        duration_s=len(samples) / rate,
        audio_hash=hash_samples(samples, rate),
    )


def read_samples(path: str, start_s: float, end_s: float, channel: int | None) -> tuple[np.ndarray, int]:
    """`decode`, refusing samples that nothing can be computed from.

    Raises:
        AudioError: not finite, or all zeros; and as `decode`.
    """
    samples, rate = decode(path, start_s, end_s, channel)
    if not np.isfinite(samples).all():
        raise AudioError("holds NaN or infinite samples")
    if not samples.any():
        raise AudioError("all samples are zero")
    return samples, rate


def hash_samples(samples: np.ndarray, rate: int) -> str:
    """SHA-256 (first 32 hex digits) of decoded float32 samples `[n]` and their rate in Hz."""
    return hashlib.sha256(f"{rate}:".encode() + samples.tobytes()).hexdigest()[:32]


def decode(path: str, start_s: float, end_s: float, channel: int | None) -> tuple[np.ndarray, int]:
    """Mono float32 samples `[n]` of a segment at the file's own rate, reading nothing outside it.

    Raises:
        AudioError: see `load_clip`.
    """
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            rate, frames = file.samplerate, file.frames
            first = 0 if math.isnan(start_s) else round(start_s * rate)
            last = frames if math.isnan(end_s) else round(end_s * rate)
            if frames == 0:
                raise AudioError("no samples in the file")
            if first >= frames:
                raise AudioError(f"starts at {start_s:g} s, after the file's end at {frames / rate:g} s")
            if last > frames + END_TOLERANCE_S * rate:
                raise AudioError(f"ends at {end_s:g} s, after the file's end at {frames / rate:g} s")
            last = min(last, frames)
            if last <= first:
                raise AudioError("no samples in the segment")
            if channel is not None and channel >= file.channels:
                raise AudioError(f"has {file.channels} channels, none numbered {channel}")
            file.seek(first)
            block = file.read(last - first, dtype="float32", always_2d=True)
    except AudioError:
        raise
    except Exception as error:
        raise AudioError(_reason(error)) from error
    if len(block) < last - first:
        raise AudioError(f"cut short: {len(block)} of {last - first} samples could be decoded")
    mono = block[:, channel] if channel is not None else block.mean(axis=1, dtype=np.float32)
    return np.ascontiguousarray(mono), rate


def prepare(samples: np.ndarray, rate: int, policy: AudioPolicy) -> np.ndarray:
    """Resample, repeat if short, normalise: float32 `[n]` at the model's rate.

    Raises:
        AudioError: nothing is left after resampling, or the signal is constant and cannot be scaled.
    """
    if rate != policy.sample_rate_hz:
        import soxr

        quality = policy.resampler.removeprefix("soxr_").upper()
        samples = soxr.resample(samples, rate, policy.sample_rate_hz, quality=quality)
    if len(samples) == 0:
        raise AudioError("too short: no sample is left at the model's rate")
    if policy.short_policy == "repeat" and len(samples) < policy.min_samples:
        samples = np.resize(samples, policy.min_samples)  # tiles from the start
    return normalise(samples.astype(np.float32, copy=False), policy.normalisation)


def normalise(samples: np.ndarray, how: Normalisation) -> np.ndarray:
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
    if float(np.ptp(samples)) == 0:
        raise AudioError("constant signal, has no variance to normalise by")
    scaled: np.ndarray = (samples - samples.mean()) / np.sqrt(samples.var() + VARIANCE_FLOOR)
    return scaled.astype(np.float32, copy=False)


def _reason(error: Exception) -> str:
    # libsndfile repeats the path, which may hold line breaks; the reason is what follows the last colon.
    text = " ".join(str(error).split())
    return f"cannot be decoded ({text.rsplit(': ', 1)[-1].rstrip('.') or type(error).__name__})"
