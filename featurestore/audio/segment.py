"""Reading an utterance from its file, strictly: what is not there, or not all there, is an error."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from featurestore.audio.blocks import (
    Agreement,
    SoundError,
    read_header,
    read_mono,
    require_channel,
)
from featurestore.audio.containers import missing_part
from featurestore.audio.recordings import Recordings

# Why a clip could not be used; its text becomes the row's status in the store.
AudioError = SoundError

# Annotation tools round times; a segment may end this much past the file's end and is then cut there.
END_TOLERANCE_S = 0.05


def header(path: str, *, entire: bool = False) -> tuple[int, int]:
    """Frames and sample rate of a file, from its header alone, or counted in all of it.

    Raises:
        AudioError: the file cannot be opened as audio, or does not say how long it is.
    """
    found = read_header(path, entire=entire)
    return found.n_frames, found.sample_rate_hz


def channels(path: str) -> int:
    """Channels of a file, from its header.

    Raises:
        AudioError: see `header`.
    """
    return read_header(path).n_channels


@dataclass(kw_only=True)
class Stretch:
    """An utterance in an open file.

    Attributes:
        sample_rate_hz: of the file.
        n_samples: length by the header.
        stamp: size and modification time of the file before it was opened, see
            `featurestore.manifest.audio_places`.
        agreement: of the channels read so far, where the samples are their mean.
        peak: largest magnitude of the samples read so far, 1 being full scale.
    """

    sample_rate_hz: int
    n_samples: int
    stamp: tuple[int, int]
    agreement: Agreement
    peak: float = 0.0
    _file: Any
    _first: int
    _channel: int | None

    def blocks(self) -> Iterator[np.ndarray]:
        """Mono float32 samples, block by block, each checked.

        Raises:
            AudioError: samples are not finite, or fewer than the header says.
        """
        read = 0
        for block in read_mono(self._file, self._first, self.n_samples, self._channel, self.agreement):
            # The two together are finite where every sample is.
            low, high = float(np.minimum.reduce(block)), float(np.maximum.reduce(block))
            if not (math.isfinite(low) and math.isfinite(high)):
                raise AudioError("holds NaN or infinite samples")
            self.peak = max(self.peak, high, -low)
            read += len(block)
            yield block
        if read < self.n_samples:
            raise AudioError(f"cut short: {read} of {self.n_samples} samples could be decoded")

    @property
    def silence(self) -> str:
        """Why all samples were zero, as far as the channels tell."""
        if self.agreement.is_silent:
            return "all samples are zero"
        n = self.agreement.n_channels
        return f"all samples are zero: its {n} channels cancel out in their mean; choose one"


@contextmanager
def open_stretch(
    path: str, start_s: float, end_s: float, channel: int | None, recordings: Recordings | None = None
) -> Iterator[Stretch]:
    """An utterance, opened; nothing outside it will be read.

    Args:
        path: audio file.
        start_s: seconds, NaN for the start of the file.
        end_s: seconds, NaN for the end of the file.
        channel: channel counted from 0, or None for the mean of all.
        recordings: files that may be open already; default: none is, or stays so.

    Raises:
        AudioError: with the reason, in words that stand in the store as the row's status.
    """
    with (recordings or Recordings(0)).opened(path, end_s) as (file, stamp):
        rate, frames = int(file.samplerate), int(file.frames)
        if frames == 0:
            raise AudioError(missing_part(path, 0) or "no samples in the file")
        require_channel(file, channel)
        first = 0 if math.isnan(start_s) else round(start_s * rate)
        last = _last_sample(path, frames, rate, start_s, end_s)
        if last <= first:
            raise AudioError("no samples in the segment")
        yield Stretch(
            sample_rate_hz=rate,
            n_samples=last - first,
            stamp=stamp,
            agreement=Agreement(),
            _file=file,
            _first=first,
            _channel=channel,
        )


def _last_sample(path: str, frames: int, rate: int, start_s: float, end_s: float) -> int:
    if not math.isnan(start_s) and round(start_s * rate) >= frames:
        raise AudioError(f"starts at {start_s:g} s, after the file's end at {frames / rate:g} s")
    if math.isnan(end_s):
        # What is there up to a given end is good; an open end means a whole file.
        missing = missing_part(path, frames, END_TOLERANCE_S, rate)
        if missing:
            raise AudioError(f"{missing}; an end_s takes what is there")
        return frames
    last = round(end_s * rate)
    if last > frames + END_TOLERANCE_S * rate:
        raise AudioError(
            f"ends at {end_s:g} s, after the file's end at {frames / rate:g} s; correct end_s, or let "
            "`fs extract --clip-to-file` end it there"
        )
    return min(last, frames)


class SampleHash:
    """SHA-256 (first 32 hex digits) of decoded float32 samples and their rate, block by block."""

    def __init__(self, rate: int) -> None:
        self._hash = hashlib.sha256(f"{rate}:".encode())

    def add(self, samples: np.ndarray) -> None:
        """Take in the next float32 samples `[n]`."""
        self._hash.update(np.ascontiguousarray(samples).data)

    @property
    def text(self) -> str:
        """The hash of what came so far."""
        return self._hash.hexdigest()[:32]


def hash_clip(
    path: str, start_s: float, end_s: float, channel: int | None, recordings: Recordings | None = None
) -> str:
    """The hash of an utterance's samples, never holding more than a block of them; see `open_stretch`.

    Raises:
        AudioError: it cannot be used; see `open_stretch` and `Stretch.blocks`.
    """
    with open_stretch(path, start_s, end_s, channel, recordings) as stretch:
        found = SampleHash(stretch.sample_rate_hz)
        for block in stretch.blocks():
            found.add(block)
        if not stretch.peak:
            raise AudioError(stretch.silence)
    return found.text
