"""FLAC files that do not say how long they are, and several in one file (RFC 9639)."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from featurestore.audio.file_bytes import size_of
from featurestore.audio.ogg import after_id3, find

# How far a file is looked through.
Depth = Literal["header", "segment", "entire"]
# Every stream begins so: the marker, and the head of STREAMINFO, which always has 34 bytes.
MARK = b"fLaC\0\0\0\x22"
MARK_LAST = b"fLaC\x80\0\0\x22"  # where no other metadata follows
_INFO_AT, _TOTAL_AT = 8, 8 + 13
# Frames of a block by the code of its header.
_BLOCKS = {1: 192} | {c: 576 << c - 2 for c in range(2, 6)} | {c: 256 << c - 8 for c in range(8, 16)}
# Places that are looked at, and bytes of each: most frames have 16 KiB at most.
_PROBES, _PROBE = 8, 1 << 16
# Headers, from the last on, that are tried: what looks like one may be data of the frame before.
_CANDIDATES = 3
_TAIL = 1 << 20  # a frame of 8 channels of 65,535 samples of 16 bits


@dataclass(frozen=True, kw_only=True)
class FlacStream:
    """One stream: its first byte, byte after its last, frames by the header (0: not said), its head."""

    start: int
    stop: int
    n_frames: int
    head: bytes

    @property
    def block(self) -> int:
        """Frames of every block but the last; 0 where they differ."""
        least, most = struct.unpack(">HH", self.head[_INFO_AT : _INFO_AT + 4])
        return int(most) if least == most else 0

    def with_length(self, n_frames: int) -> bytes:
        """Its first 26 bytes with another length in them."""
        last = int.from_bytes(self.head[_TOTAL_AT:], "big") >> 36 << 36 | n_frames
        return self.head[:_TOTAL_AT] + last.to_bytes(5, "big")


def flac_streams(file: BinaryIO, *, depth: Depth) -> list[FlacStream]:
    """The streams of a FLAC file; none where it is no such file.

    Args:
        file: to look at.
        depth: with ``entire`` all of it is read, to find further streams; with ``segment`` some places are
            looked at, and all of it where they cannot be of one stream, since libFLAC would seek to the same
            time in another; with ``header`` none.
    """
    starts = list(_starts(file, entire=depth == "entire"))
    if not starts:
        return []
    if depth == "segment" and not _is_one(file, starts[0]):
        return flac_streams(file, depth="entire")
    stops = [*starts[1:], size_of(file)]
    found = [_stream(file, start, stop) for start, stop in zip(starts, stops, strict=True)]
    return found if all(len(stream.head) == _TOTAL_AT + 5 for stream in found) else []


def _stream(file: BinaryIO, start: int, stop: int) -> FlacStream:
    file.seek(start)
    head = file.read(_TOTAL_AT + 5)
    n_frames = int.from_bytes(head[_TOTAL_AT:], "big") & (1 << 36) - 1
    return FlacStream(start=start, stop=stop, n_frames=n_frames, head=head)


def _starts(file: BinaryIO, *, entire: bool) -> Iterator[int]:
    start = after_id3(file)
    file.seek(start)
    if file.read(8) not in (MARK, MARK_LAST):
        return
    yield start
    while entire:
        # Most files have one stream: both marks are looked for in one pass.
        start = find(file, b"fLaC", start + 4)
        if start < 0:
            return
        file.seek(start)
        if file.read(8) in (MARK, MARK_LAST):
            yield start


def _is_one(file: BinaryIO, start: int) -> bool:
    """Whether frames far apart are numbered as those of one stream, up to the length that it says."""
    stream = _stream(file, start, size_of(file))
    if stream.stop - start <= _PROBES * _PROBE or not stream.n_frames:
        return False
    begins = [
        b for i in range(_PROBES) if (b := _begin_after(file, stream, (2 * i + 1) / (2 * _PROBES))) >= 0
    ]
    is_rising = all(a < b for a, b in itertools.pairwise(begins))
    return is_rising and length_of(file, stream, _PROBE)[0] == stream.n_frames


def _begin_after(file: BinaryIO, stream: FlacStream, share: float) -> int:
    """Where the first frame after this share of the bytes begins; -1 where none is near."""
    file.seek(stream.start + int(share * (stream.stop - stream.start)))
    text, at = file.read(_PROBE), -1
    while (at := text.find(b"\xff", at + 1)) >= 0:
        if text[at + 1 : at + 2] in (b"\xf8", b"\xf9"):
            found = _frame(text, at, stream.block)
            if found is not None:
                return found[0]
    return -1


def length_of(file: BinaryIO, stream: FlacStream, n_tail: int = _TAIL) -> tuple[int, bool]:
    """Frames of a stream that does not say so, by its last frame, and whether that one is whole.

    Where it is not, those before it count.
    """
    first = max(stream.start + _TOTAL_AT + 5, stream.stop - n_tail)
    file.seek(first)
    tail = file.read(stream.stop - first)
    at = len(tail)
    broken: list[int] = []
    while len(broken) < _CANDIDATES and (at := _last_mark(tail, at)) >= 0:
        found = _frame(tail, at, stream.block)
        if found is not None:
            begin, n = found
            if _is_whole(tail, at):
                return begin + n, True
            broken.append(begin)
    return (broken[0] if broken else 0), False


def _last_mark(tail: bytes, stop: int) -> int:
    return max(tail.rfind(b"\xff\xf8", 0, stop), tail.rfind(b"\xff\xf9", 0, stop))


def _frame(tail: bytes, at: int, block: int) -> tuple[int, int] | None:
    """Where the frame whose header is here begins, and its length; None where it is no header.

    Args:
        tail: bytes of the file.
        at: place in them.
        block: length of all frames but the last, by which they are numbered; 0 where they differ.
    """
    head = tail[at : at + 16]
    if len(head) < 6 or head[3] & 0x0F & 1 or head[2] >> 4 == 0 or head[2] & 0x0F == 15:
        return None
    n_extra = _utf8_length(head[4])
    if n_extra is None:
        return None
    number = head[4] & (0x7F if n_extra == 0 else 0x3F >> n_extra)
    for byte in head[5 : 5 + n_extra]:
        if byte >> 6 != 2:
            return None
        number = number << 6 | byte & 0x3F
    place = 5 + n_extra
    code, rate_code = head[2] >> 4, head[2] & 0x0F
    n = _BLOCKS.get(code)
    if code == 6:
        n, place = head[place] + 1, place + 1
    elif code == 7:
        n, place = struct.unpack(">H", head[place : place + 2])[0] + 1, place + 2
    place += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if n is None or place >= len(head) or _crc(head[:place], 0x07, 8) != head[place]:
        return None
    counts_samples = head[1] & 1
    return (number if counts_samples else number * (block or n)), n


def _utf8_length(byte: int) -> int | None:
    """Bytes after the first of a number that is coded as UTF-8 codes one."""
    if byte < 0x80:
        return 0
    for n in range(1, 7):
        if byte >> (6 - n) == (1 << n + 2) - 2:
            return n
    return None


def _is_whole(tail: bytes, at: int) -> bool:
    """Whether the frame from here ends with its own checksum; tags or zeros may come after it."""
    crc = 0
    for i in range(at, len(tail)):
        crc = crc << 8 & 0xFFFF ^ _CRC16[crc >> 8 ^ tail[i]]
        # Over a frame and its checksum the checksum is 0; what follows decides if that was chance.
        if crc == 0 and i > at + 6 and (tail[i + 1 : i + 4] == b"TAG" or not tail[i + 1 :].strip(b"\0")):
            return True
    return False


def _crc(data: bytes, polynomial: int, n_bits: int) -> int:
    crc, top = 0, 1 << n_bits - 1
    for byte in data:
        crc ^= byte << n_bits - 8
        for _ in range(8):
            crc = (crc << 1 ^ polynomial if crc & top else crc << 1) & (1 << n_bits) - 1
    return crc


_CRC16 = [_crc(bytes([i]), 0x8005, 16) for i in range(256)]
