"""Reading a stretch of an audio file block by block, at its own rate: bounded memory for any length."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.archives.interface import ArchiveError
from featurestore.archives.names import split_member
from featurestore.archives.object_file import is_object
from featurestore.archives.opened import open_bytes
from featurestore.arrays import FloatArray
from featurestore.audio.decoder_noise import HUSH
from featurestore.audio.file_bytes import Source, read_at, size_of
from featurestore.audio.flac import Depth
from featurestore.audio.whole_streams import Joined, Spliced, go_to, streams_of
from featurestore.errors import UserError
from featurestore.printable import counted

BLOCK_SAMPLES = 1 << 20
# Layer III reaches back 511 bytes: ten frames of 1,152 samples at the lowest bit rates, and one for overlap.
MP3_PREROLL = 16 * 1152
# libsndfile's way of saying that it does not know.
UNKNOWN_FRAMES = 1 << 62
# Channels below this correlation are not one sound at two places: their mean is a third one.
APART = 0.5
# Float files may go beyond full scale by some decibels; by 18 only where integers are taken for fractions.
FULL_SCALE = 8.0

# What a mistake in a program raises, and no decoder over damaged bytes: where it passed for a broken file,
# every row of a run could fail and nobody would look for the mistake.
MISTAKES = (TypeError, AttributeError, NameError, KeyError, AssertionError, ImportError)


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


class Agreement:
    """How far the channels of a sound are one signal, summed over blocks; their means do not count.

    It is their correlation, over all pairs, each pair weighted by its level: 1 for copies at any gain, 0 for
    unrelated channels, -1 for two that cancel out.
    """

    def __init__(self) -> None:
        self._n = 0
        self._sums = self._squares = np.zeros(0)
        self.n_channels = 0
        self.is_silent = True

    def add(self, block: npt.NDArray[np.floating]) -> None:
        """Take in samples `[n, channels]`."""
        if not self.n_channels:
            self.n_channels = block.shape[1]
            self._sums = self._squares = np.zeros(self.n_channels + 1)  # the last one: of their sum
        x = block.astype(np.float64)
        x = np.column_stack([x, x.sum(axis=1)])
        self._n += len(x)
        self._sums = self._sums + x.sum(axis=0)
        self._squares = self._squares + np.einsum("ij,ij->j", x, x)
        self.is_silent = not self._squares[:-1].any()

    @property
    def value(self) -> float:
        """-1 to 1; NaN where fewer than two channels sound."""
        if self.n_channels < 2:
            return math.nan
        energy = np.maximum(0, self._squares - self._sums**2 / max(1, self._n))
        of_each, of_sum = energy[:-1], energy[-1] if self.n_channels else 0.0
        pairs = np.sqrt(of_each).sum() ** 2 - of_each.sum()
        if not pairs > 1e-9 * of_each.sum():
            return math.nan
        return float(np.clip((of_sum - of_each.sum()) / pairs, -1, 1))


@contextmanager
def open_sound(path: str, until_s: float = 0.0) -> Iterator[Any]:
    """A sound as a `soundfile.SoundFile`, by what it holds and never by what its name ends in.

    Args:
        path: of an audio file, or of a member of an archive (`featurestore.archives.names`).
        until_s: how far it will be read, in seconds; NaN: to its end; 0: not at all. A file that may hold
            more than libsndfile finds (several streams, MP3 without a count of its frames) is looked through
            as far as that matters.

    Raises:
        SoundError: it is not a file that can be read (a folder, a pipe, which would wait for its writer), or
            not audio; also for whatever goes wrong while it is read.
        AudioUnreachable: it lies in a bucket, whose service does not answer; also while it is read.
        Exception: one of `MISTAKES`, which is no fault of the file.
    """
    try:
        with ExitStack() as opened:
            data = _bytes_of(opened, path)
            opened.enter_context(_faults_of(data))
            depth: Depth = "entire" if math.isnan(until_s) else "segment" if until_s else "header"
            file = _open(opened, path, data, depth)
            if depth == "segment" and until_s * file.samplerate > file.frames:
                file = _open(opened, path, data, "entire")
            yield file
    except (SoundError, UserError, *MISTAKES):
        raise
    except ArchiveError as error:
        raise SoundError(str(error)) from error
    except FileNotFoundError:
        raise SoundError("no such file" if not os.path.islink(path) else "is a broken link") from None
    except PermissionError:
        raise SoundError("may not be read (permission denied)") from None
    except OSError as error:
        raise SoundError(f"cannot be opened ({error.strerror or type(error).__name__})") from error
    except Exception as error:
        raise SoundError(reason(error)) from error


@contextmanager
def _faults_of(data: Source | int) -> Iterator[None]:
    """Raise what went wrong with a source while libsndfile read it, and not what libsndfile made of that."""
    try:
        yield
    except Exception:
        if not isinstance(data, int) and data.fault is not None:
            raise data.fault from None
        raise
    if not isinstance(data, int) and data.fault is not None:
        raise data.fault


def _bytes_of(opened: ExitStack, path: str) -> Source | int:
    """The descriptor of a file, or an object in a bucket or member of an archive; closed with `opened`."""
    if split_member(path) is not None or is_object(path):
        file = opened.enter_context(open_bytes(path))
        if size_of(file) == 0:
            raise SoundError("is an empty file")
        return Source(file)
    kind = os.stat(path)
    if not stat.S_ISREG(kind.st_mode):
        raise SoundError("is a folder" if stat.S_ISDIR(kind.st_mode) else "is no regular file")
    if kind.st_size == 0:
        raise SoundError("is an empty file")
    descriptor = os.open(path, os.O_RDONLY)
    opened.callback(os.close, descriptor)
    return descriptor


def _open(opened: ExitStack, path: str, data: Source | int, depth: Depth) -> Any:
    import soundfile

    from featurestore.audio.forward_sound import ForwardSound

    streams = streams_of(path, depth)
    head = read_at(data, 4, 0)
    if head[:3] == b"ID3" or head[:1] == b"\xff" or (streams and head == b"RIFF"):  # MP3 may be in it
        opened.enter_context(HUSH)
    parts: list[Any] = []
    if not streams or streams[0].n_frames is not None:
        if isinstance(data, int):
            os.lseek(data, 0, os.SEEK_SET)
        else:
            data.seek(0)
        parts = [opened.enter_context(ForwardSound(data, closefd=False))]
        parts[0].source = data
    if streams and not (parts and parts[0].frames == streams[0].n_frames):
        spliced = [Spliced(data, stream.pieces) for stream in streams]
        parts = [opened.enter_context(soundfile.SoundFile(s)) for s in spliced]
    for part in parts:
        if part.samplerate < 1:
            raise SoundError(f"says its sample rate is {part.samplerate} Hz")
        if part.frames >= UNKNOWN_FRAMES:
            raise SoundError("does not say how long it is")
    if len(parts) == 1:
        return parts[0]
    kinds = list(dict.fromkeys(f"{p.samplerate} Hz, {counted(p.channels, 'channel')}" for p in parts))
    if len(kinds) > 1:
        raise SoundError(
            f"holds {len(parts)} streams, one after the other, that differ ({'; '.join(kinds)}); "
            "make a file of each"
        )
    return Joined(parts)


def has_fault(file: Any) -> bool:
    """Whether reading what `open_sound` gave went wrong; closing it then says how."""
    source = getattr(file, "source", None)
    return isinstance(source, Source) and source.fault is not None


def read_header(path: str, *, entire: bool = False) -> Header:
    """What a file says of itself.

    Args:
        path: audio file.
        entire: count what it really holds, see `open_sound`.

    Raises:
        SoundError: it cannot be opened.
    """
    with open_sound(path, math.nan if entire else 0.0) as file:
        return Header(
            n_frames=int(file.frames),
            n_channels=int(file.channels),
            sample_rate_hz=int(file.samplerate),
            container=str(file.format),
            subtype=str(file.subtype),
        )


def mono_blocks(
    path: str, start_s: float, end_s: float, channel: int | None, agreement: Agreement | None = None
) -> Iterator[FloatArray]:
    """Samples of one channel, or the mean of all, in blocks `[n]` of `BLOCK_SAMPLES` at most.

    Args:
        path: audio file.
        start_s: seconds, NaN for the start of the file.
        end_s: seconds, NaN for the end of the file; beyond it nothing is read.
        channel: counted from 0, None for the mean of all.
        agreement: see `read_mono`.

    Raises:
        SoundError: the file cannot be decoded, or has no such channel.
    """
    with open_sound(path, end_s) as file:
        rate = file.samplerate
        require_channel(file, channel)
        first = 0 if math.isnan(start_s) else min(round(start_s * rate), file.frames)
        last = file.frames if math.isnan(end_s) else min(round(end_s * rate), file.frames)
        yield from read_mono(file, first, last - first, channel, agreement)


def require_channel(file: Any, channel: int | None) -> None:
    """Refuse a channel that an open file does not have.

    Raises:
        SoundError: it has none of this number.
    """
    if channel is not None and channel >= file.channels:
        raise SoundError(
            f"has {counted(file.channels, 'channel')}, none numbered {channel} (they count from 0)"
        )


def read_mono(
    file: Any, first: int, n_frames: int, channel: int | None, agreement: Agreement | None = None
) -> Iterator[FloatArray]:
    """Frames of an open file in blocks `[n]`, one channel or the mean of all; ends where the file ends.

    `agreement` takes in the channels that a mean is made of.

    Blocks hold what one read from the start would give. A frame of MP3 needs bits of the frames before
    it, and every read of soundfile ends in a jump, after which libsndfile decodes from too little: so each
    block of an MP3 is read from further back, in one call. An Opus decoder remembers for longer than can be
    said, so Opus is always decoded from its start.
    """
    # Many channels: fewer frames at once. A power of two, so that blocks hold whole spectra.
    step = BLOCK_SAMPLES >> max(0, (file.channels - 1).bit_length() - 1)
    subtype = file.subtype
    reach = MP3_PREROLL if subtype.startswith("MPEG_LAYER") else 0
    position, stop = first, first + n_frames
    # Also to the start, where somebody has read of the file before.
    if file.seekable() and subtype != "OPUS" and (first or file.tell()):
        go_to(file, first)
    else:  # GSM and some ADPCM can only be read from the start
        position = 0
    while position < stop:
        back = min(position, reach)
        if back:
            file.seek(position - back)
        wanted = min(stop - position, step)
        block = file.read(back + wanted, dtype="float32", always_2d=True)[back:]
        is_short = len(block) < wanted
        block = block[max(0, first - position) :]
        if agreement is not None and channel is None and file.channels > 1 and len(block):
            agreement.add(block)
        if len(block):
            yield _mono(block, channel)
        if is_short:  # soundfile has jumped to where this block should have ended: what follows is not next
            return
        position += wanted


def _mono(block: FloatArray, channel: int | None) -> FloatArray:
    if block.shape[1] == 1:
        mono = block[:, 0]
        if channel is None:
            mono += 0.0  # as their mean has it, which makes 0 of -0: hashes stay what they were
        return mono
    return block[:, channel].copy() if channel is not None else block.mean(axis=1, dtype=np.float32)


def reason(error: Exception) -> str:
    """The reason that libsndfile gives, without the path that it repeats."""
    text = " ".join(str(error).split())
    return f"cannot be decoded ({text.rsplit(': ', 1)[-1].rstrip('.') or type(error).__name__})"
