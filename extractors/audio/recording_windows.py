"""Windows over a recording of any length, in one pass: each sample is decoded once, and little of it is held.

A window is prepared as a clip with its times would be (`extractors.audio.waveform`), to the bit where a
decoder gives the same samples after a jump as in one go, as those of WAV and FLAC do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from extractors.audio.policy import AudioPolicy
from extractors.audio.waveform import PreparedClip, at_model_rate, scaled
from featurestore.arrays import Float64Array, FloatArray, IntArray
from featurestore.audio.segment import AudioError, SampleHash, Stretch, open_stretch
from featurestore.errors import ConfigError

# Samples of windows, at their own rate, that are resampled and handed out together.
GROUP_SAMPLES = 1 << 20
# Short ones grow by repetition.
GROUP_WINDOWS = 512
# What is held of a recording is a block and a few windows.
LONGEST_WINDOW_S = 60.0


class SilentWindow(AudioError):
    """A window without a sample other than zero: nothing sounds there, and nothing went wrong."""


@dataclass(frozen=True, kw_only=True)
class WindowGrid:
    """Equal windows over a recording.

    Attributes:
        window_s: seconds of a window.
        hop_s: seconds from the start of one to that of the next.
    """

    window_s: float
    hop_s: float

    def __post_init__(self) -> None:
        if not 0 < self.window_s <= LONGEST_WINDOW_S:
            raise ConfigError(
                f"--window: expected more than 0 and at most {LONGEST_WINDOW_S:g} seconds, "
                f"got {self.window_s:g}"
            )
        if not 0 < self.hop_s <= self.window_s:
            raise ConfigError(
                f"--hop: expected more than 0 and at most the window ({self.window_s:g} s), got "
                f"{self.hop_s:g}: nothing between two windows would be heard"
            )

    def samples(self, rate_hz: int) -> tuple[int, int]:
        """Samples of a window and of a hop, one at least."""
        return max(1, round(self.window_s * rate_hz)), max(1, round(self.hop_s * rate_hz))

    def count(self, n_samples: int, rate_hz: int) -> int:
        """Windows over a recording: every sample is in one; what is shorter than a window is one."""
        window, hop = self.samples(rate_hz)
        return 0 if not n_samples else 1 + max(0, -(-(n_samples - window) // hop))

    def starts(self, which: npt.ArrayLike, n_samples: int, rate_hz: int) -> IntArray:
        """First sample of each of these windows; the last one ends with the recording, and is a whole one."""
        window, hop = self.samples(rate_hz)
        starts = np.minimum(np.asarray(which, dtype=np.int64) * hop, n_samples - window)
        return np.maximum(starts, 0)

    def stretches(self, which: IntArray, n_samples: int, rate_hz: int) -> tuple[Float64Array, Float64Array]:
        """The seconds that each of these windows is about, from and to: those about its middle.

        From halfway to the middle of the one before it, to halfway to that of the one behind it; the first
        begins with the recording and the last ends with it. So they lie end to end over all of it.
        """
        window, _ = self.samples(rate_hz)
        last = self.count(n_samples, rate_hz) - 1
        at, before, behind = (self.starts(which + i, n_samples, rate_hz) for i in (0, -1, 1))
        start = np.where(which == 0, 0.0, (before + at + window) / 2)
        end = np.where(which == last, float(n_samples), (at + behind + window) / 2)
        return start / rate_hz, end / rate_hz


@dataclass(frozen=True, kw_only=True)
class RecordingWindow:
    """A stretch of a recording.

    Attributes:
        index: its number in the recording, from 0.
        clip: what the model sees, or why it has none (all samples are zero, for one).
    """

    index: int
    clip: PreparedClip | AudioError


@dataclass
class Heard:
    """What is known of a recording once all of its windows were handed out; before that, of its start.

    Attributes:
        rate_hz: of the file.
        n_samples: of the recording.
        n_windows: how many there are.
        audio_hash: of the samples, see `SampleHash`; "" until all were read.
        stamp: size and modification time of the file before it was read.
    """

    rate_hz: int = 0
    n_samples: int = 0
    n_windows: int = 0
    audio_hash: str = ""
    stamp: tuple[int, int] = field(default=(-1, -1))


def windows_of(
    path: str, channel: int | None, grid: WindowGrid, policy: AudioPolicy, heard: Heard
) -> Iterator[list[RecordingWindow]]:
    """The windows of a recording in their order, some at a time.

    Args:
        path: audio file.
        channel: counted from 0, or None for the mean of all.
        grid: where windows lie.
        policy: how audio is prepared.
        heard: filled in on the way.

    Raises:
        AudioError: the file cannot be read, or not to its end.
    """
    with open_stretch(path, float("nan"), float("nan"), channel) as stretch:
        rate, hashed = stretch.sample_rate_hz, SampleHash(stretch.sample_rate_hz)
        heard.rate_hz, heard.n_samples, heard.stamp = rate, stretch.n_samples, stretch.stamp
        heard.n_windows = grid.count(stretch.n_samples, rate)
        group: list[tuple[int, FloatArray]] = []
        held = 0
        for index, samples in _cut(stretch, grid, hashed):
            group.append((index, samples))
            held += len(samples)
            if held >= GROUP_SAMPLES or len(group) == GROUP_WINDOWS:
                yield _prepared(group, rate, policy)
                group, held = [], 0
        if group:
            yield _prepared(group, rate, policy)
        heard.audio_hash = hashed.text


def _cut(stretch: Stretch, grid: WindowGrid, hashed: SampleHash) -> Iterator[tuple[int, FloatArray]]:
    """Number and samples of each window, as soon as the decoder has come to its end."""
    n, rate = stretch.n_samples, stretch.sample_rate_hz
    window, count = grid.samples(rate)[0], grid.count(n, rate)
    held, first, at = np.zeros(0, dtype=np.float32), 0, 0
    for block in stretch.blocks():
        hashed.add(block)
        held = np.concatenate([held, block])
        end = first + len(held)
        while at < count and min((start := int(grid.starts(at, n, rate))) + window, n) <= end:
            yield at, held[start - first : start - first + window].copy()
            at += 1
        if at < count and (start := int(grid.starts(at, n, rate))) > first:
            held = held[start - first :].copy()
            first = start


def _prepared(
    group: Sequence[tuple[int, FloatArray]], rate_hz: int, policy: AudioPolicy
) -> list[RecordingWindow]:
    sounding = [(index, samples) for index, samples in group if samples.any()]
    clips = at_model_rate([samples for _, samples in sounding], rate_hz, policy)
    found: dict[int, PreparedClip | AudioError] = {}
    for (index, native), clip in zip(sounding, clips, strict=True):
        try:
            if isinstance(clip, AudioError):
                raise clip
            found[index] = PreparedClip(
                samples=scaled(clip, policy),
                duration_s=len(native) / rate_hz,
                audio_hash="",  # of windows nobody asks
                stamp=(-1, -1),
                rate_hz=rate_hz,
            )
        except AudioError as error:
            found[index] = error
    silent = SilentWindow("all samples are zero")
    return [RecordingWindow(index=index, clip=found.get(index, silent)) for index, _ in group]
