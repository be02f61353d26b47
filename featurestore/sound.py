"""Reading a stretch of an audio file block by block, at its own rate: bounded memory for any length."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

BLOCK_SAMPLES = 1 << 20


class SoundError(Exception):
    """Why a stretch of audio could not be read; the message has one line."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file says of itself: frames, channels, rate in Hz, container and sample format."""

    n_frames: int
    n_channels: int
    sample_rate_hz: int
    container: str
    subtype: str


def read_header(path: str) -> Header:
    """What libsndfile takes the file for.

    Raises:
        SoundError: it cannot be opened.
    """
    import soundfile

    try:
        info = soundfile.info(path)
    except Exception as error:
        raise SoundError(reason(error)) from error
    return Header(
        n_frames=int(info.frames),
        n_channels=int(info.channels),
        sample_rate_hz=int(info.samplerate),
        container=str(info.format),
        subtype=str(info.subtype),
    )


def mono_blocks(path: str, start_s: float, end_s: float, channel: int | None) -> Iterator[FloatArray]:
    """Samples of one channel, or the mean of all, in blocks `[n]` of `BLOCK_SAMPLES` at most.

    Args:
        path: audio file.
        start_s: seconds, NaN for the start of the file.
        end_s: seconds, NaN for the end of the file; beyond it nothing is read.
        channel: counted from 0, None for the mean of all.

    Raises:
        SoundError: the file cannot be decoded, or has no such channel.
    """
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            if channel is not None and channel >= file.channels:
                raise SoundError(f"has {file.channels} channels, none numbered {channel}")
            first = 0 if math.isnan(start_s) else min(round(start_s * rate), file.frames)
            last = file.frames if math.isnan(end_s) else min(round(end_s * rate), file.frames)
            file.seek(first)
            left = last - first
            while left > 0:
                block = file.read(min(left, BLOCK_SAMPLES), dtype="float32", always_2d=True)
                if not len(block):
                    return
                left -= len(block)
                yield (
                    block[:, channel].copy() if channel is not None else block.mean(axis=1, dtype=np.float32)
                )
    except SoundError:
        raise
    except Exception as error:
        raise SoundError(reason(error)) from error


def reason(error: Exception) -> str:
    """The reason that libsndfile gives, without the path that it repeats."""
    text = " ".join(str(error).split())
    return f"cannot be decoded ({text.rsplit(': ', 1)[-1].rstrip('.') or type(error).__name__})"
