"""From a file on disk to the waveform a model sees: decode, mix, resample, repeat, normalise."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from extractors.audio.spill import scratch
from extractors.models.interface import Normalisation
from featurestore.audio.segment import AudioError, SampleHash, Stretch, open_stretch
from featurestore.audio.spectrum import EnergyAbove
from featurestore.errors import ConfigError

ShortPolicy = Literal["repeat", "none"]
RatePolicy = Literal["resample", "expand"]
# How start_s and end_s become samples, and how many there are after resampling.
Segments = Literal["nearest", "librosa"]
ResampleQuality = Literal["qq", "lq", "mq", "hq", "vhq"]  # soxr's, from quick to very high
NORMALISATIONS = get_args(Normalisation)
# ssl-human-animal repeats clips up to 5,000 samples: 15 frames at 16 kHz, enough for a stable std.
DEFAULT_MIN_SAMPLES = 5000
# Added to the variance by Wav2Vec2FeatureExtractor (transformers), which we follow to the digit.
VARIANCE_FLOOR = 1e-7
_LIBROSA_SEGMENTS = (
    "librosa: start and duration truncated to samples, ceil(n * rate / native rate) samples after resampling"
)
# Longer clips (17 minutes at 16 kHz) are decoded, resampled and normalised block by block.
STREAM_SAMPLES = 1 << 24


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
        if self.min_samples < 1:
            raise ConfigError(f"min-samples: expected at least 1, got {self.min_samples}")

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


@dataclass(frozen=True, kw_only=True)
class PreparedClip:
    """A decoded clip.

    Attributes:
        samples: float32 `[n]`, at the model's rate, as the model sees it; may be mapped from a file.
        duration_s: seconds of audio decoded, before resampling or repetition.
        audio_hash: SHA-256 (first 32 hex digits) of the decoded samples and their rate.
        stamp: size and modification time of the file it was read from.
        above_nyquist: share of the energy above half the model's rate, which resampling loses and time
            expansion keeps; NaN for files at the model's rate or below.
        rate_hz: of the file.
        peak: largest magnitude of the decoded samples, 1 being full scale.
        agreement: see `featurestore.audio.blocks.Agreement`; NaN where no mean of channels was taken.
    """

    samples: np.ndarray
    duration_s: float
    audio_hash: str
    stamp: tuple[int, int]
    above_nyquist: float = math.nan
    rate_hz: int = 0
    peak: float = 0.0
    agreement: float = math.nan


# A clip as each policy has it, or why it cannot be used.
ClipByPolicy = dict[AudioPolicy, "PreparedClip | AudioError"]


def load_clip(
    path: str, start_s: float, end_s: float, channel: int | None, policy: AudioPolicy
) -> PreparedClip:
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
    found = load_clips(path, start_s, end_s, channel, [policy])[policy]
    if isinstance(found, AudioError):
        raise found
    return found


def load_clips(
    path: str, start_s: float, end_s: float, channel: int | None, policies: Sequence[AudioPolicy]
) -> ClipByPolicy:
    """Decode one utterance once and prepare it under every policy; see `load_clip`.

    A long clip is decoded once for each, so that no more than a block of it is held.
    """
    try:
        with open_stretch(path, start_s, end_s, channel) as stretch:
            rates = {p.sample_rate_hz for p in policies}
            longest = max(1.0, *(p.ratio(stretch.sample_rate_hz) for p in policies))
            if stretch.n_samples * longest <= STREAM_SAMPLES:
                meter = _Meter(stretch, rates)
                blocks = list(meter.pass_on(stretch.blocks()))
                samples = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
                return _each(policies, lambda p: meter.clip(prepare(samples, meter.rate, p), p))
    except AudioError as error:
        return dict.fromkeys(policies, error)
    return _each(policies, lambda p: _load_long(path, start_s, end_s, channel, p))


class _Meter:
    """What is measured of the native samples as they pass."""

    def __init__(self, stretch: Stretch, model_rates: Collection[int]) -> None:
        self.rate = rate = stretch.sample_rate_hz
        self._stretch = stretch
        self.n_samples = 0
        self._hash = SampleHash(rate)
        self._energy = {r: EnergyAbove(rate, r / 2) for r in model_rates}
        self._peak = 0.0

    def pass_on(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            self._hash.add(block)
            for energy in self._energy.values():
                energy.add(block)
            self.n_samples += len(block)
            self._peak = max(self._peak, float(block.max()), -float(block.min()))
            yield block
        if not self._peak:
            raise AudioError(self._stretch.silence)

    def clip(self, samples: np.ndarray, policy: AudioPolicy) -> PreparedClip:
        return PreparedClip(
            samples=samples,
            duration_s=self.n_samples / self.rate,
            audio_hash=self._hash.text,
            stamp=self._stretch.stamp,
            above_nyquist=self._energy[policy.sample_rate_hz].share,
            rate_hz=self.rate,
            peak=self._peak,
            agreement=self._stretch.agreement.value,
        )


def _load_long(
    path: str, start_s: float, end_s: float, channel: int | None, policy: AudioPolicy
) -> PreparedClip:
    with open_stretch(path, start_s, end_s, channel) as stretch:
        meter = _Meter(stretch, [policy.sample_rate_hz])
        return meter.clip(_prepare_long(stretch, meter, policy), policy)


def _each(policies: Sequence[AudioPolicy], load: Callable[[AudioPolicy], PreparedClip]) -> ClipByPolicy:
    found: ClipByPolicy = {}
    for policy in dict.fromkeys(policies):
        try:
            found[policy] = load(policy)
        except AudioError as error:
            found[policy] = error
    return found


def prepare(samples: np.ndarray, rate: int, policy: AudioPolicy) -> np.ndarray:
    """Resample, repeat if short, normalise: float32 `[n]` at the model's rate.

    Raises:
        AudioError: nothing is left after resampling, or the signal is constant and cannot be scaled.
    """
    if policy.ratio(rate) != 1:
        import soxr

        fixed = policy.fixed_samples(len(samples), rate)
        try:
            samples = soxr.resample(
                samples, rate, policy.sample_rate_hz, quality=policy.resample_quality.upper()
            )
        except (RuntimeError, ValueError, MemoryError) as error:
            raise AudioError(f"cannot be resampled from {rate} Hz ({error})") from error
        if fixed is not None:
            samples = np.pad(samples[:fixed], (0, max(0, fixed - len(samples))))
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


def _prepare_long(stretch: Stretch, meter: _Meter, policy: AudioPolicy) -> np.ndarray:
    """As `prepare`, for a clip of any length: into a `scratch` array, a block at a time."""
    ratio = policy.ratio(stretch.sample_rate_hz)
    # The resampler may end a sample or two off the exact ratio.
    room_samples = math.ceil(stretch.n_samples * ratio) + 16
    try:
        room = scratch((room_samples,))
    except OSError as error:
        raise AudioError(f"{room_samples} samples do not fit the temporary folder ({error})") from error
    n = 0
    for block in _resampled(meter.pass_on(stretch.blocks()), stretch.sample_rate_hz, policy):
        if block.any():  # hours of nothing cost nothing: the room is zeros already
            room[n : n + len(block)] = block
        n += len(block)
    fixed = policy.fixed_samples(meter.n_samples, stretch.sample_rate_hz)
    if fixed is not None:
        room[fixed:n] = 0
        n = min(fixed, room_samples)  # zeros where the resampler gave fewer
    samples = room[:n]
    if policy.short_policy == "repeat" and n < policy.min_samples:
        return normalise(np.resize(samples, policy.min_samples), policy.normalisation)
    _normalise_in_place(samples, policy.normalisation)
    return samples


def _resampled(blocks: Iterator[np.ndarray], rate: int, policy: AudioPolicy) -> Iterator[np.ndarray]:
    if policy.ratio(rate) == 1:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(
        rate, policy.sample_rate_hz, 1, dtype="float32", quality=policy.resample_quality.upper()
    )
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def _normalise_in_place(samples: np.ndarray, how: Normalisation) -> None:
    if how == "none":
        return
    blocks = [samples[i : i + STREAM_SAMPLES] for i in range(0, len(samples), STREAM_SAMPLES)]
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
