"""From a file on disk to the waveform a model sees: decode, mix, resample, repeat, normalise."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from threading import Event

import numpy as np

from extractors.audio.normalising import normalise, normalise_each, normalise_in_place
from extractors.audio.policy import AudioPolicy
from extractors.audio.resampling import resample_all, resampled
from extractors.audio.spill import scratch
from featurestore.archives.names import reading_order
from featurestore.arrays import FloatArray
from featurestore.audio.recordings import Recordings
from featurestore.audio.segment import AudioError, SampleHash, Stretch, open_stretch
from featurestore.audio.spectrum import EnergyAbove, shares_above
from featurestore.manifest.location import Location

# Longer clips (17 minutes at 16 kHz) are decoded, resampled and normalised block by block.
STREAM_SAMPLES = 1 << 24
# Samples at their own rate that wait to be resampled together.
HELD_SAMPLES = 1 << 22
# Samples of short clips that are scaled together: they stay in a core's cache.
_TOGETHER_SAMPLES = 1 << 16


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
# Makes a float32 array of zeros of a shape.
Room = Callable[[tuple[int, ...]], np.ndarray]


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
    """Decode one utterance once and prepare it under every policy; see `load_clip`."""
    return load_together([(path, start_s, end_s, channel)], policies)[0]


def load_together(
    places: Sequence[Location],
    policies: Sequence[AudioPolicy],
    recordings: Recordings | None = None,
    stop: Event | None = None,
    room: Room = scratch,
) -> list[ClipByPolicy]:
    """Decode utterances, each once, and prepare them under every policy; each as it would be alone.

    They are read in the order in which they lie in their files. A long clip is decoded once for each policy,
    so that no more than a block of it is held.

    Args:
        places: of the utterances, see `load_clip`.
        policies: one for each model.
        recordings: files that may be open already.
        stop: once it is set no further clip is begun.
        room: makes the array of zeros that a long clip is put into.

    Raises:
        CancelledError: `stop` was set.
    """
    policies = list(dict.fromkeys(policies))
    found: dict[int, ClipByPolicy] = {}
    native: dict[int, _Native] = {}
    n_held = 0

    for i in sorted(range(len(places)), key=lambda i: file_order(places[i])):
        if stop is not None and stop.is_set():
            raise CancelledError
        try:
            clip = _decode(places[i], policies, recordings)
        except AudioError as error:
            found[i] = dict.fromkeys(policies, error)
            continue
        if clip is None:
            found[i] = {policy: _load_long(places[i], policy, room) for policy in policies}
            continue
        native[i] = clip
        n_held += len(clip.samples)
        if n_held >= HELD_SAMPLES:
            found |= _prepared(native, policies)
            native, n_held = {}, 0
    found |= _prepared(native, policies)
    return [found[i] for i in range(len(places))]


def file_order(place: Location) -> tuple[tuple[str, int, str], float]:
    """What clips are sorted by to be read as they lie in their files."""
    path, start_s, _, _ = place
    return reading_order(path), 0.0 if math.isnan(start_s) else start_s


@dataclass(frozen=True)
class _Native:
    """A decoded clip at its own rate, and what was measured of it."""

    samples: FloatArray
    meter: _Meter


def _decode(
    place: Location, policies: Sequence[AudioPolicy], recordings: Recordings | None
) -> _Native | None:
    """An utterance at its own rate; None where it is too long to be held.

    Raises:
        AudioError: see `load_clip`.
    """
    with open_stretch(*place, recordings) as stretch:
        longest = max(1.0, *(p.ratio(stretch.sample_rate_hz) for p in policies))
        if stretch.n_samples * longest > STREAM_SAMPLES:
            return None
        meter = _Meter(stretch)
        blocks = list(meter.pass_on(stretch.blocks()))
        return _Native(blocks[0] if len(blocks) == 1 else np.concatenate(blocks), meter)


class _Meter:
    """What is measured of the native samples as they pass.

    Args:
        stretch: where they are from.
        model_rates: for which energy is measured as they pass; for others it is for `above` to be told.
    """

    def __init__(self, stretch: Stretch, model_rates: Collection[int] = ()) -> None:
        self.rate = rate = stretch.sample_rate_hz
        self._stretch = stretch
        self.n_samples = 0
        self._hash = SampleHash(rate)
        self._energy = {r: EnergyAbove(rate, r / 2) for r in model_rates}
        self.above: dict[int, float] = {}  # rate of a model → `PreparedClip.above_nyquist`

    def pass_on(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            self._hash.add(block)
            for energy in self._energy.values():
                energy.add(block)
            self.n_samples += len(block)
            yield block
        self.above |= {r: energy.share for r, energy in self._energy.items()}
        if not self._stretch.peak:
            raise AudioError(self._stretch.silence)

    def clip(self, samples: np.ndarray, policy: AudioPolicy) -> PreparedClip:
        return PreparedClip(
            samples=samples,
            duration_s=self.n_samples / self.rate,
            audio_hash=self._hash.text,
            stamp=self._stretch.stamp,
            above_nyquist=self.above[policy.sample_rate_hz],
            rate_hz=self.rate,
            peak=self._stretch.peak,
            agreement=self._stretch.agreement.value,
        )


def _prepared(native: Mapping[int, _Native], policies: Sequence[AudioPolicy]) -> dict[int, ClipByPolicy]:
    """Clips under every policy, resampled once for each rate."""
    at_rate: dict[tuple[object, ...], list[FloatArray | AudioError]] = {}
    found: dict[int, ClipByPolicy] = {i: {} for i in native}
    _measure_energy(native.values(), {policy.sample_rate_hz for policy in policies})
    for policy in policies:
        rate = policy.rate_policy, policy.sample_rate_hz, policy.resample_quality, policy.segments
        if rate not in at_rate:
            at_rate[rate] = _resample_each(list(native.values()), policy)
        for (i, clip), samples in zip(native.items(), scaled_all(at_rate[rate], policy), strict=True):
            if isinstance(samples, AudioError):
                found[i][policy] = samples
            else:
                found[i][policy] = clip.meter.clip(samples, policy)
    return found


def _measure_energy(native: Iterable[_Native], model_rates: Collection[int]) -> None:
    of_rate: dict[int, list[_Native]] = defaultdict(list)
    for clip in native:
        of_rate[clip.meter.rate].append(clip)
    for (rate, clips), model_rate in itertools.product(of_rate.items(), model_rates):
        shares = shares_above([clip.samples for clip in clips], rate, model_rate / 2)
        for clip, share in zip(clips, shares, strict=True):
            clip.meter.above[model_rate] = share


def _resample_each(native: Sequence[_Native], policy: AudioPolicy) -> list[FloatArray | AudioError]:
    found: list[FloatArray | AudioError] = [clip.samples for clip in native]
    of_rate: dict[int, list[int]] = defaultdict(list)
    for i, clip in enumerate(native):
        if policy.ratio(clip.meter.rate) != 1:
            of_rate[clip.meter.rate].append(i)
    for rate, at in of_rate.items():
        for i, samples in zip(at, at_model_rate([native[i].samples for i in at], rate, policy), strict=True):
            found[i] = samples
    return found


def at_model_rate(
    clips: Sequence[FloatArray], rate_hz: int, policy: AudioPolicy
) -> list[FloatArray | AudioError]:
    """Clips `[n]` of one rate as the policy has it, in their order, or why one cannot be had."""
    if policy.ratio(rate_hz) == 1:
        return list(clips)
    resampled = resample_all(clips, rate_hz, policy.sample_rate_hz, policy.resample_quality)
    return [
        _of_fixed_length(samples, policy.fixed_samples(len(clip), rate_hz))
        for clip, samples in zip(clips, resampled, strict=True)
    ]


def _of_fixed_length(samples: FloatArray | AudioError, n: int | None) -> FloatArray | AudioError:
    """The first n samples, zeros behind what the resampler gave; as they are where that is None."""
    if n is None or isinstance(samples, AudioError):
        return samples
    return np.pad(samples[:n], (0, max(0, n - len(samples))))


def scaled_all(
    clips: Sequence[FloatArray | AudioError], policy: AudioPolicy
) -> list[FloatArray | AudioError]:
    """As `scaled`, clip by clip, or why one cannot be had; those repeated to one length go together."""
    found: list[FloatArray | AudioError] = list(clips)
    short: list[int] = []
    for i, clip in enumerate(clips):
        if isinstance(clip, AudioError):
            continue
        if 0 < len(clip) < policy.min_samples <= _TOGETHER_SAMPLES and policy.short_policy == "repeat":
            short.append(i)
            continue
        try:
            found[i] = scaled(clip, policy)
        except AudioError as error:
            found[i] = error
    step = max(1, _TOGETHER_SAMPLES // policy.min_samples)
    for first in range(0, len(short), step):
        some = short[first : first + step]
        rows = np.empty((len(some), policy.min_samples), dtype=np.float32)
        for row, i in zip(rows, some, strict=True):
            clip = clips[i]
            assert not isinstance(clip, AudioError)
            _repeat(clip, row)
        for i, samples in zip(some, normalise_each(rows, policy.normalisation), strict=True):
            found[i] = samples
    return found


def scaled(samples: FloatArray, policy: AudioPolicy) -> FloatArray:
    """Samples at the model's rate, repeated if short and normalised.

    Raises:
        AudioError: there are none, or the signal is constant and cannot be scaled.
    """
    if len(samples) == 0:
        raise AudioError("too short: no sample is left at the model's rate")
    if policy.short_policy == "repeat" and len(samples) < policy.min_samples:
        samples = _repeated(samples, policy.min_samples)
    return normalise(samples, policy.normalisation)


def _repeated(samples: FloatArray, n: int) -> FloatArray:
    """Samples over and over from their start, n in all."""
    out = np.empty(n, dtype=np.float32)
    _repeat(samples, out)
    return out


def _repeat(samples: FloatArray, out: FloatArray) -> None:
    """Fill `out` with samples over and over; `numpy.resize` takes several times as long."""
    n = len(samples)
    out[:n] = samples
    while n < len(out):  # what is there already, twice as much every time
        more = min(n, len(out) - n)
        out[n : n + more] = out[:more]
        n += more


def _load_long(place: Location, policy: AudioPolicy, room: Room) -> PreparedClip | AudioError:
    try:
        with open_stretch(*place) as stretch:
            meter = _Meter(stretch, [policy.sample_rate_hz])
            return meter.clip(_prepare_long(stretch, meter, policy, room), policy)
    except AudioError as error:
        return error


def _prepare_long(stretch: Stretch, meter: _Meter, policy: AudioPolicy, make_room: Room) -> np.ndarray:
    """A clip of any length, resampled and scaled block by block into the room made for it."""
    ratio = policy.ratio(stretch.sample_rate_hz)
    # The resampler may end a sample or two off the exact ratio.
    room_samples = math.ceil(stretch.n_samples * ratio) + 16
    try:
        room = make_room((room_samples,))
    except OSError as error:
        raise AudioError(f"{room_samples} samples do not fit the temporary folder ({error})") from error
    n = 0
    blocks = meter.pass_on(stretch.blocks())
    if ratio != 1:
        blocks = resampled(blocks, stretch.sample_rate_hz, policy.sample_rate_hz, policy.resample_quality)
    for block in blocks:
        if block.any():  # hours of nothing cost nothing: the room is zeros already
            room[n : n + len(block)] = block
        n += len(block)
    fixed = policy.fixed_samples(meter.n_samples, stretch.sample_rate_hz)
    if fixed is not None:
        room[fixed:n] = 0
        n = min(fixed, room_samples)  # zeros where the resampler gave fewer
    samples = room[:n]
    if policy.short_policy == "repeat" and n < policy.min_samples:
        return normalise(_repeated(samples, policy.min_samples), policy.normalisation)
    normalise_in_place(samples, policy.normalisation)
    return samples
