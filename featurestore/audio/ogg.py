"""The streams of an Ogg file, one after the other (RFC 3533): libsndfile reads the first and stops."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from featurestore.audio.file_bytes import size_of
from featurestore.printable import counted

_HEADER = 27
_FIRST, _LAST = 2, 4  # flags of a stream's first and last page


@dataclass(frozen=True)
class Link:
    """One stream: its first byte, the byte after its last, and whether its last page is there."""

    start: int
    stop: int
    is_whole: bool


def links(file: BinaryIO) -> list[Link]:
    """The streams of an Ogg file in order; none where it is no such file. Reads the head of every page.

    Raises:
        ValueError: pages are missing inside a stream: libsndfile would move up what follows them.
    """
    size = size_of(file)
    found: list[Link] = []
    at = after_id3(file)
    start, begun, is_whole = at, False, False
    numbers: dict[bytes, tuple[int, int]] = {}  # of each stream's last page: its number, and its position
    while True:
        file.seek(at)
        page = file.read(_HEADER)
        if page[:4] != b"OggS" or len(page) < _HEADER:
            if at == start and not found:
                return []
            at = find(file, b"OggS\0", at + 1)
            if at < 0:
                break
            continue
        is_first = bool(page[5] & _FIRST)
        if is_first and begun:
            numbers = {}
            found.append(Link(start, at, is_whole))
            start, begun, is_whole = at, False, False
        begun |= not is_first
        granule, number = struct.unpack("<q4xI", page[6:22])
        before, position = numbers.get(page[14:18], (0, 0))
        if not is_first and position > 0 and number > before + 1:
            raise ValueError(f"{counted(number - before - 1, 'page')} missing inside it")
        numbers[page[14:18]] = (number, granule)
        body = sum(file.read(page[26]))
        stop = at + _HEADER + page[26] + body
        is_whole = bool(page[5] & _LAST) and stop <= size
        at = stop
    return [*found, Link(start, size, is_whole)]


def after_id3(file: BinaryIO) -> int:
    """The first byte after an ID3v2 tag, which some taggers put before anything; 0 where there is none."""
    file.seek(0)
    head = file.read(10)
    if head[:3] != b"ID3" or len(head) < 10 or max(head[6:10]) > 127:
        return 0
    return 10 + id3_bytes(head) + (10 if head[5] & 0x10 else 0)


def id3_bytes(head: bytes) -> int:
    """Bytes of an ID3v2 tag after the ten that these are, of which four say it: seven bits of each."""
    return head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]


def find(file: BinaryIO, wanted: bytes, at: int) -> int:
    """The place of these bytes at or after `at`, as `bytes.find`."""
    file.seek(at)
    kept = b""
    while block := file.read(1 << 20):
        text = kept + block
        place = text.find(wanted)
        if place >= 0:
            return at - len(kept) + place
        at += len(block)
        kept = text[-(len(wanted) - 1) :]
    return -1


def with_serial(data: bytes, serial: int = 1) -> bytes:
    """An Ogg file with another serial number: libsndfile draws one, so that two files of a sound differ.

    Args:
        data: one whole file, pages only.
        serial: the number of its stream, below 2**32.
    """
    out, at = bytearray(data), 0
    while at < len(out):
        stop = at + _HEADER + out[at + 26]
        stop += sum(out[at + _HEADER : stop])
        out[at + 14 : at + 18] = struct.pack("<I", serial)
        out[at + 22 : at + 26] = bytes(4)
        out[at + 22 : at + 26] = struct.pack("<I", _page_sum(bytes(out[at:stop])))
        at = stop
    return bytes(out)


def _page_sum(page: bytes) -> int:
    """CRC-32 as Ogg has it (RFC 3533): polynomial 0x04c11db7, from 0, bits not mirrored."""
    found = 0
    for byte in page:
        found = (found << 8 & 0xFFFFFFFF) ^ _SUMS[(found >> 24) ^ byte]
    return found


def _sum_of_byte(byte: int) -> int:
    found = byte << 24
    for _ in range(8):
        found = (found << 1) ^ (0x04C11DB7 if found >> 31 else 0)
        found &= 0xFFFFFFFF
    return found


_SUMS = [_sum_of_byte(byte) for byte in range(256)]
