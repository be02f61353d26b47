"""Is a file all there? What its container promises, where libsndfile tells only what it found."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

# An Ogg page is at most this long (RFC 3533): its last one begins within as many bytes of the end.
OGG_PAGE_BYTES = 65_307
OGG_END = 4  # flag of a stream's last page
_STREAMED = (0, 0xFFFFFFFF)  # sizes left by a program that could not seek back


def promised_frames(path: str) -> int | None:
    """Frames that the header of an uncompressed WAV, RF64, AIFF or AU file promises; None if it is silent."""
    try:
        with open(path, "rb") as file:
            head = file.read(12)
            if head[:4] == b"RIFF":
                return _riff(file)
            if head[:4] == b"RF64":
                return _rf64(file)
            if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
                return _aiff(file)
            if head[:4] == b".snd":
                return _au(head + file.read(12))
    except (OSError, struct.error):
        pass
    return None


def missing_part(path: str, n_frames: int, tolerance: int = 0) -> str:
    """What a file lacks, in one clause; "" where it is whole as far as its container can tell.

    Args:
        path: an audio file.
        n_frames: frames that libsndfile finds in it.
        tolerance: frames that may be missing.
    """
    promised = promised_frames(path)
    if promised is not None and promised > n_frames + tolerance:
        return f"cut short: its header promises {promised:,} frames, {n_frames:,} are there"
    if not _ogg_ends(path):
        return "cut short: its last page is missing"
    return ""


def _riff(file: BinaryIO) -> int | None:
    frame_bytes = 0
    while len(head := file.read(8)) == 8:
        name, size = head[:4], struct.unpack("<I", head[4:])[0]
        if name == b"data":
            return size // frame_bytes if frame_bytes and size not in _STREAMED else None
        if name == b"fmt ":
            body = file.read(size + size % 2)
            if struct.unpack("<H", body[:2])[0] not in (1, 3, 6, 7, 0xFFFE):
                return None  # compressed: bytes are not frames
            frame_bytes = struct.unpack("<H", body[12:14])[0]
        else:
            file.seek(size + size % 2, os.SEEK_CUR)
    return None


def _rf64(file: BinaryIO) -> int | None:
    head = file.read(8)
    if head[:4] != b"ds64":
        return None
    body = file.read(struct.unpack("<I", head[4:])[0])
    data_bytes = struct.unpack("<Q", body[8:16])[0]
    while len(head := file.read(8)) == 8:
        name, size = head[:4], struct.unpack("<I", head[4:])[0]
        if name == b"fmt ":
            body = file.read(size + size % 2)
            if struct.unpack("<H", body[:2])[0] not in (1, 3, 6, 7, 0xFFFE):
                return None
            frame_bytes = struct.unpack("<H", body[12:14])[0]
            return int(data_bytes // frame_bytes) if frame_bytes and data_bytes else None
        file.seek(size + size % 2, os.SEEK_CUR)
    return None


def _aiff(file: BinaryIO) -> int | None:
    while len(head := file.read(8)) == 8:
        name, size = head[:4], struct.unpack(">I", head[4:])[0]
        if name == b"COMM":
            return int(struct.unpack(">I", file.read(6)[2:6])[0])
        file.seek(size + size % 2, os.SEEK_CUR)
    return None


# Bytes of a sample by AU encoding: μ-law, 8 to 32 bits, float, double, A-law.
_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}


def _au(head: bytes) -> int | None:
    _offset, size, encoding, _rate, channels = struct.unpack(">5I", head[4:24])
    sample_bytes = _AU_BYTES.get(encoding)
    if sample_bytes is None or channels == 0 or size in _STREAMED:
        return None
    return int(size // (sample_bytes * channels))


def _ogg_ends(path: str) -> bool:
    """Whether the last page of an Ogg file is marked as such; True for every other file."""
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"OggS":
                return True
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - OGG_PAGE_BYTES))
            tail = file.read()
    except OSError:
        return True
    page = tail[max(0, tail.rfind(b"OggS\x00")) :]
    if len(page) < 27 or not page[5] & OGG_END:
        return False
    header_bytes = 27 + page[26]
    return len(page) >= header_bytes + sum(page[27:header_bytes])
