"""What a container says of its audio: where it begins, how much there is; and whether all of it is there.

Programs that cannot seek back (a recorder, a pipe) leave sizes open, each in its own way, and in files over
4 GiB sizes have gone once round 32 bits. libsndfile reads some of these to the end, some in part, some not at
all; `Box.pieces` is what it reads to the end.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from featurestore.archives.opened import open_bytes
from featurestore.audio.file_bytes import size_of
from featurestore.audio.flac import flac_streams, length_of
from featurestore.audio.ogg import links

# Literal bytes, or a stretch of the file (first byte, byte after the last).
Piece = bytes | tuple[int, int]
# WAVE format tags whose bytes are frames: PCM, float, A-law, μ-law (RFC 2361).
_PLAIN_TAGS = (1, 3, 6, 7)
EXTENSIBLE_TAG, MP3_TAG = 0xFFFE, 0x55
# Sizes that stand for "not known yet": nothing, and what fits into 31 or 32 bits, as it is, less a page (sox)
# or less some header (arecord, mpg123, Kaldi's readers list them).
_FULL, _PAGE, _HEADERS = (1 << 31, 1 << 32), 4096, 128
# What may follow the audio of a file whose size went round 32 bits.
_TRAILER = 1 << 16
# Bytes of a sample by AU encoding: μ-law, 8 to 32 bits, float, double, A-law.
_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
_W64_FORMAT = b"fmt \xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_W64_DATA = b"data" + _W64_FORMAT[4:]


@dataclass(frozen=True, kw_only=True)
class Box:
    """A container's audio.

    Attributes:
        data_at: first byte of it.
        there: bytes of it that the file holds.
        n_bytes: bytes of it by the header; None where nobody filled that in.
        n_frames: frames of it by the header, None where that says nothing of them.
        bytes_per_s: on average; 0 where unknown.
        tag: WAVE format tag, 0 in other containers.
        pieces: what libsndfile is to read in place of the file; none where the file will do.
    """

    data_at: int
    there: int
    n_bytes: int | None
    n_frames: int | None = None
    bytes_per_s: int = 0
    tag: int = 0
    pieces: tuple[Piece, ...] = ()


def read_box(path: str) -> Box | None:
    """The audio of a WAV, RF64, BW64, W64, AIFF, AU, CAF or NIST Sphere file; None where there is none."""
    try:
        with open_bytes(path) as file:
            end = size_of(file)
            head = file.read(16)
            file.seek(0)
            if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
                return _riff(file, end, head[:4])
            if head[:4] == b"riff":
                return _w64(file, end)
            if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
                return _aiff(file, end)
            if head[:4] in (b".snd", b"dns."):
                return _au(file.read(24), end)
            if head[:4] == b"caff":
                return _caf(file, end)
            if head[:7] == b"NIST_1A":
                return _nist(file.read(4096), end)
    except (OSError, ValueError, struct.error):
        pass
    return None


def missing_part(path: str, n_frames: int, tolerance_s: float = 0.0, rate_hz: int = 1) -> str:
    """What a file lacks, in one clause; "" where it is whole as far as its container can tell.

    Args:
        path: of an audio file, or of a member of an archive.
        n_frames: frames that are found in it.
        tolerance_s: seconds that may be missing.
        rate_hz: of the file.
    """
    box = read_box(path)
    if box is not None:
        if box.n_frames is not None and box.n_frames > n_frames + round(tolerance_s * rate_hz):
            return f"cut short: its header promises {box.n_frames:,} frames, {n_frames:,} are there"
        if box.n_bytes is not None and box.n_bytes > box.there + tolerance_s * box.bytes_per_s:
            return f"cut short: its header promises {box.n_bytes:,} bytes of audio, {box.there:,} are there"
        return ""
    try:
        with open_bytes(path) as file:
            found = links(file)
            if found:
                return "" if all(link.is_whole for link in found) else "cut short: its last page is missing"
            for stream in flac_streams(file, depth="header"):
                if not stream.n_frames and not length_of(file, stream)[1]:
                    return "cut short: its last frame is not whole"
    except OSError:
        pass
    return ""


def is_open(size: int, n_bits: int = 32) -> bool:
    """Whether a size stands for one that was not known yet."""
    if size == 0 or (n_bits == 64 and size >= 1 << 62):
        return True
    return any(-_HEADERS <= size - full <= _HEADERS or abs(size - full + _PAGE) <= _HEADERS for full in _FULL)


def patched(end: int, *fixes: tuple[int, bytes]) -> tuple[Piece, ...]:
    """A file of `end` bytes in which some, from each place on, are others."""
    pieces: list[Piece] = []
    at = 0
    for place, fixed in sorted(fixes):
        pieces += [(at, place), fixed]
        at = place + len(fixed)
    return (*pieces, (at, end))


def _chunks(file: BinaryIO, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and size of each chunk from here on."""
    while len(head := file.read(8)) == 8:
        size = struct.unpack(f"{order}I", head[4:])[0]
        at = file.tell()
        if not _is_name(head[:4]):
            return
        yield head[:4], at, size
        file.seek(at + size + size % 2)


def _is_name(name: bytes) -> bool:
    """Whether four bytes may name a chunk; zeros do not, of which a file may hold gigabytes."""
    return name.isascii() and name.decode("ascii").isprintable()


def _are_chunks(file: BinaryIO, at: int, end: int, order: str) -> bool:
    """Whether nothing but whole chunks fills a file from here on."""
    file.seek(at)
    for _name, first, size in _chunks(file, order):
        if first + size > end:
            return False
        at = first + size + size % 2
    return end - at <= 1


def _true_size(size: int, there: int) -> int:
    """A size of 32 bits with what was lost when it went round them."""
    return size + ((there - size + _TRAILER) >> 32 << 32) if there > size else size


def _riff(file: BinaryIO, end: int, kind: bytes) -> Box | None:
    file.seek(12)
    order = ">" if kind == b"RIFX" else "<"
    wide_at, wide, fact = 0, 0, None
    format_chunk, tag, block, rate = b"", 0, 0, 0
    for name, at, size in _chunks(file, order):
        if name == b"fmt ":
            format_chunk = file.read(size)
            tag, _channels, _hz, rate, block = struct.unpack(f"{order}HHIIH", format_chunk[:14])
            if tag == EXTENSIBLE_TAG and len(format_chunk) >= 26:
                tag = struct.unpack(f"{order}H", format_chunk[24:26])[0]
        elif name == b"ds64":
            wide_at, wide = at + 8, struct.unpack("<Q", file.read(16)[8:])[0]
        elif name == b"fact":
            fact = struct.unpack(f"{order}I", file.read(4))[0]
        elif name == b"data":
            break
    else:
        return None
    there = end - at
    pieces: tuple[Piece, ...] = ()
    if kind in (b"RF64", b"BW64") and wide_at:
        n_bytes = None if (is_open(wide, 64) and wide > there) or wide == 0 else wide
        fixes = [(0, b"RF64")] if kind == b"BW64" else []
        if n_bytes is None:
            fixes.append((wide_at, struct.pack("<Q", there)))
        pieces = patched(end, *fixes) if fixes else ()
    else:
        n_bytes = _true_size(size, there)
        if is_open(size):
            known = _are_chunks(file, at + size, end, order) if size <= there else False
            n_bytes = n_bytes if known or n_bytes > max(size, there) else None
        wanted = there if n_bytes is None else min(n_bytes, there)
        if wanted > size or (n_bytes is None and size == 0):
            pieces = _as_rf64(format_chunk, at, wanted) if order == "<" else ()
    held = there if n_bytes is None else min(there, n_bytes)
    frames = None
    if n_bytes is not None and tag in _PLAIN_TAGS and block:
        frames = n_bytes // block
    elif tag == MP3_TAG and fact and not is_open(fact):
        frames = fact
    return Box(
        data_at=at, there=held, n_bytes=n_bytes, n_frames=frames, bytes_per_s=rate, tag=tag, pieces=pieces
    )


def _as_rf64(format_chunk: bytes, at: int, n_bytes: int) -> tuple[Piece, ...]:
    """A WAV file with a header that has room for every size (EBU Tech 3306)."""
    chunk = b"fmt " + struct.pack("<I", len(format_chunk)) + format_chunk + bytes(len(format_chunk) % 2)
    sizes = struct.pack("<IQQQI", 28, 4 + 36 + len(chunk) + 8 + n_bytes, n_bytes, 0, 0)
    full = b"\xff" * 4
    return b"RF64" + full + b"WAVEds64" + sizes + chunk + b"data" + full, (at, at + n_bytes)


def _w64(file: BinaryIO, end: int) -> Box | None:
    file.seek(40)
    tag = block = rate = 0
    while len(head := file.read(24)) == 24:
        size, at = struct.unpack("<Q", head[16:])[0], file.tell()
        if head[:16] == _W64_FORMAT:
            tag, _channels, _hz, rate, block = struct.unpack("<HHIIH", file.read(14))
        elif head[:16] == _W64_DATA:
            n_bytes = None if size <= 24 or (is_open(size, 64) and size > end - at) else size - 24
            frames = n_bytes // block if n_bytes and block and tag in _PLAIN_TAGS else None
            there = end - at if n_bytes is None else min(end - at, n_bytes)
            return Box(data_at=at, there=there, n_bytes=n_bytes, n_frames=frames, bytes_per_s=rate, tag=tag)
        if size < 24:
            return None
        file.seek(at + (size - 24 + 7) // 8 * 8)
    return None


def _aiff(file: BinaryIO, end: int) -> Box | None:
    file.seek(12)
    frames, comm_at, bytes_per_s = 0, 0, 0
    for name, at, held in _chunks(file, ">"):
        size = held
        if name == b"COMM":
            comm_at = at + 2
            channels, frames, bits, exponent, mantissa = struct.unpack(">HIHHQ", file.read(18))
            rate = mantissa * 2.0 ** (exponent - 16383 - 63)  # 80 bits
            bytes_per_s = round(rate * channels * -(-bits // 8))
        elif name == b"SSND":
            break
    else:
        return None
    data_at = at + 8
    there = end - data_at
    # Frames are counted in a field of their own, which goes round 32 bits four or more times later.
    unknown = is_open(frames)
    open_size = is_open(size) or (size == 8 and unknown and there > 0)
    lost = there - size >= (1 << 32) - _TRAILER
    # With both sizes 0 libsndfile reads up to the file's end.
    open_sizes = patched(end, (comm_at, bytes(4)), (at - 4, bytes(4)))
    return Box(
        data_at=data_at,
        there=there,
        n_bytes=None if open_size or lost else size - 8,
        n_frames=None if unknown else frames,
        bytes_per_s=bytes_per_s,
        pieces=open_sizes if comm_at and (lost or (open_size and (size == 8 or there > size > 0))) else (),
    )


def _au(head: bytes, end: int) -> Box | None:
    order = ">" if head[:4] == b".snd" else "<"
    data_at, size, encoding, rate, channels = struct.unpack(f"{order}5I", head[4:24])
    there = end - data_at
    unknown = is_open(size) and (size == 0 or size > there or there - size > _TRAILER)
    n_bytes = None if unknown else _true_size(size, there)
    frame_bytes = _AU_BYTES.get(encoding, 0) * channels
    return Box(
        data_at=data_at,
        there=there,
        n_bytes=n_bytes,
        n_frames=n_bytes // frame_bytes if n_bytes is not None and frame_bytes else None,
        bytes_per_s=frame_bytes * rate,
        pieces=patched(end, (8, b"\xff" * 4)) if n_bytes != size and there > 0 else (),
    )


def _caf(file: BinaryIO, end: int) -> Box | None:
    file.seek(8)
    rate, packet_bytes, packet_frames = 0.0, 0, 0
    while len(head := file.read(12)) == 12:
        name, size, at = head[:4], struct.unpack(">q", head[4:])[0], file.tell()
        if name == b"desc":
            rate, _codec, _flags, packet_bytes, packet_frames = struct.unpack(">d4sIII", file.read(24))
        elif name == b"data":
            data_at = at + 4  # after the number of edits
            there = end - data_at
            file.seek(data_at)
            follows = file.read(4)
            empty = size == 4 and (not follows or follows.isalnum())
            unknown = size < 4 or (size == 4 and not empty) or (is_open(size, 64) and size > there)
            n_bytes = None if unknown else size - 4
            frames = None
            if n_bytes is not None and packet_bytes:
                frames = n_bytes // packet_bytes * packet_frames
            return Box(
                data_at=data_at,
                there=there if n_bytes is None else min(there, n_bytes),
                n_bytes=n_bytes,
                n_frames=frames,
                bytes_per_s=round(rate * packet_bytes / packet_frames) if packet_frames else 0,
                pieces=patched(end, (at - 8, struct.pack(">q", there + 4)))
                if there > 0 and (n_bytes is None or n_bytes > there)
                else (),
            )
        if size < 0 or not _is_name(name):
            return None
        file.seek(at + size)
    return None


def _nist(head: bytes, end: int) -> Box | None:
    fields = dict(re.findall(rb"^(\w+) -i (\d+)", head, re.MULTILINE))
    names = (b"sample_count", b"channel_count", b"sample_n_bytes", b"sample_rate")
    if not all(name in fields for name in names):
        return None
    frames, channels, width, rate = (int(fields[name]) for name in names)
    data_at = int(head[8:16])
    return Box(
        data_at=data_at,
        there=end - data_at,
        n_bytes=None,
        n_frames=frames or None,
        bytes_per_s=channels * width * rate,
    )
