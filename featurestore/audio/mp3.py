"""The frames of an MP3 file, counted (ISO 11172-3, 13818-3).

libsndfile guesses the length of a file without a Xing header from its first frame, and takes a header's count
for all that is there, also where another file follows.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO

from featurestore.audio.ogg import after_id3, id3_bytes

# kbit/s by bit rate index, for MPEG 1 and for MPEG 2 and 2.5, layer III.
_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = (44100, 48000, 32000)
_HALVINGS = {3: 0, 2: 1, 0: 2}  # MPEG 1, 2, 2.5 by version bits
# How far a file is searched for its first frame, and for the next one after bytes that are none.
_SEARCH = 1 << 16
_TAG_FRAMES, _TAG_BYTES = 1, 2  # flags of a Xing header
DECODER_DELAY = 529  # samples, of every layer III decoder


@dataclass(frozen=True)
class Frame:
    """One frame by its header: bytes, samples, rate in Hz, channels, and where a Xing header would stand."""

    n_bytes: int
    n_samples: int
    rate_hz: int
    n_channels: int
    tag_at: int


@dataclass(kw_only=True)
class Run:
    """Frames that follow each other, of one rate and number of channels.

    Attributes:
        first: the four bytes of the first frame's header.
        stretches: bytes of the file, tags between them left out.
        n_frames: of audio; the header frame is none.
        frame: the first one.
        tag: the first frame, where it is a Xing header; "" otherwise.
    """

    first: bytes
    frame: Frame
    stretches: list[tuple[int, int]] = field(default_factory=list)
    n_frames: int = 0
    tag: bytes = b""

    @property
    def n_samples(self) -> int:
        """Samples of all of its frames."""
        return self.n_frames * self.frame.n_samples

    @property
    def tag_frames(self) -> int | None:
        """Frames by the Xing header; None where it does not say."""
        at = self.frame.tag_at + 4
        if not self.tag:
            return None
        flags, count = struct.unpack(">II", self.tag[at : at + 8])
        return count if flags & _TAG_FRAMES and count else None

    @property
    def n_bytes(self) -> int:
        """Bytes of its frames."""
        return sum(stop - start for start, stop in self.stretches)

    def header_frames(self) -> bytes:
        """Two frames to stand before it: one that counts the others, and one of silence.

        libmpg123 takes off what a decoder is late by, with what the header says of the encoder, from a file
        with a header and not from one without: here that is the silence, and all of the audio stays.
        """
        n_frames = self.n_frames + 1
        silence = self._frame_with_room(9)
        late = self.frame.n_samples - DECODER_DELAY << 12 | DECODER_DELAY
        tag = struct.pack(">4sIII", b"Info", _TAG_FRAMES | _TAG_BYTES, n_frames, len(silence) + self.n_bytes)
        tag += b"LAME".ljust(21, b"\0") + late.to_bytes(3, "big")
        header = bytearray(self._frame_with_room(self.frame.tag_at + len(tag)))
        header[self.frame.tag_at : self.frame.tag_at + len(tag)] = tag
        return bytes(header) + silence

    def _frame_with_room(self, n_bytes: int) -> bytes:
        """The shortest silent frame of this kind that holds so many bytes."""
        for index in range(1, 15):
            head = bytes([self.first[0], self.first[1] | 1, index << 4 | self.first[2] & 0x0C, self.first[3]])
            made = frame_of(head)
            if made is not None and made.n_bytes >= max(n_bytes, made.tag_at):
                return head.ljust(made.n_bytes, b"\0")
        raise ValueError(f"no frame of this kind has room: {self.first.hex()}")


@lru_cache(maxsize=4096)
def frame_of(head: bytes) -> Frame | None:
    """What four bytes say, as the header of a layer III frame; None where they are none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    index, rate_index = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer != 1 or index in (0, 15) or rate_index == 3:
        return None
    rate = _RATES[rate_index] >> _HALVINGS[version]
    is_first, is_mono = version == 3, head[3] >> 6 == 3
    kbits = (_KBITS_1 if is_first else _KBITS_2)[index]
    n_samples = 1152 if is_first else 576
    side = (17 if is_mono else 32) if is_first else (9 if is_mono else 17)
    return Frame(
        n_bytes=n_samples // 8 * kbits * 1000 // rate + (head[2] >> 1 & 1),
        n_samples=n_samples,
        rate_hz=rate,
        n_channels=1 if is_mono else 2,
        tag_at=4 + side,
    )


def runs(file: BinaryIO, start: int, stop: int) -> list[Run]:
    """Runs of frames in these bytes of a file; none where it does not begin with frames of layer III.

    A Xing header begins a run, and so does another rate or number of channels.
    """
    tagged = after_id3(file) if start == 0 else 0
    at = _first_frame(file, start + tagged, stop)
    if at != start and not tagged:
        return []
    found: list[Run] = []
    began = at
    while 0 <= at < stop:
        file.seek(at)
        head = file.read(4)
        frame = frame_of(head)
        if frame is None or at + frame.n_bytes > stop:
            if found and at > began:
                found[-1].stretches.append((began, at))
            at = began = _after_tag(file, at, head, stop)
            continue
        tag = _tag(file, at, frame)
        if not found or tag or _kind(frame) != _kind(found[-1].frame):
            if found and at > began:
                found[-1].stretches.append((began, at))
            found.append(Run(first=head, frame=frame, tag=tag))
            began = at
        if not tag:
            found[-1].n_frames += 1
        at += frame.n_bytes
    if found and at > began >= 0:
        found[-1].stretches.append((began, at))
    return [run for run in found if run.n_frames]


def _kind(frame: Frame) -> tuple[int, int]:
    return frame.rate_hz, frame.n_channels


def _tag(file: BinaryIO, at: int, frame: Frame) -> bytes:
    file.seek(at + frame.tag_at)
    if file.read(4) not in (b"Xing", b"Info"):
        return b""
    file.seek(at)
    return file.read(frame.n_bytes)


def _first_frame(file: BinaryIO, start: int, stop: int) -> int:
    """The first place from `start` on at which two frames follow each other; -1 where there is none."""
    file.seek(start)
    text = file.read(min(_SEARCH, stop - start))
    at = -1
    while (at := text.find(b"\xff", at + 1)) >= 0:
        frame = frame_of(text[at : at + 4])
        if frame is None:
            continue
        after = at + frame.n_bytes
        if start + after == stop:
            return start + at
        file.seek(start + after)
        follower = frame_of(file.read(4))
        if follower is not None and _kind(follower) == _kind(frame):
            return start + at
    return -1


def _after_tag(file: BinaryIO, at: int, head: bytes, stop: int) -> int:
    """Where frames go on after bytes that are none; -1 where they do not."""
    if head[:3] == b"TAG":
        at += 128
    elif head[:3] == b"ID3":
        file.seek(at)
        whole = file.read(10)
        at += 10 + (id3_bytes(whole) if len(whole) == 10 else 0)
    else:
        at += 1
    return _first_frame(file, at, stop) if at < stop else -1
