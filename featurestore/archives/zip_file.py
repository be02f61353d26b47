"""Zip files: each member is read whole and proven by its checksum.

Members are unpacked here and not by `zipfile`, which takes no bound: a few kilobytes packed by bzip2 can be
gigabytes of zeros, whatever the archive says of their size.
"""

from __future__ import annotations

import bz2
import copy
import io
import lzma
import stat
import struct
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterable
from typing import BinaryIO

from featurestore.archives.interface import ArchiveError, ArchivePlace, PassingError, failed
from featurestore.archives.kept_bytes import Kept
from featurestore.archives.names import plain_member

# Of a member, unpacked: three hours at 44.1 kHz, 16 bits, mono.
MOST_MEMBER_BYTES = 1 << 30
# Of a member's header at most: fixed fields, its name, what programs add.
_HEADER_BYTES = 30 + (1 << 17)
_ENCRYPTED = 1
_READ = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
# Of the libraries that unpack, and of `zipfile` where a member's place or name is another than was said.
_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OSError,
    NotImplementedError,
    MemoryError,
)
# A file is opened some times on the way to its samples, and is unpacked once.
_KEPT_BYTES = 1 << 26


class ZipArchive:
    """A zip file; its table of contents is read once.

    Args:
        place: where it lies.

    Raises:
        ArchiveError: it is no zip file, or its end is missing.
    """

    def __init__(self, place: ArchivePlace) -> None:
        self._place = place
        try:
            self._zip = zipfile.ZipFile(place.contents())
            infos = self._zip.infolist()
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, UnicodeError) as error:
            for raised in (error, error.__context__):  # `zipfile` takes it for no zip file
                if isinstance(raised, PassingError):
                    raise raised from None
            raise failed("is no zip file, or is cut short ({})", error) from error
        self._infos: dict[str, zipfile.ZipInfo] = {}
        self._odd: dict[str, str] = {}
        self._kept: Kept[bytes] = Kept(_KEPT_BYTES)
        # Where each member begins, and the table of contents, in order.
        self._starts = sorted({info.header_offset for info in infos} | {self._zip.start_dir})
        for info in infos:
            self._add(info)

    def _add(self, info: zipfile.ZipInfo) -> None:
        name = plain_member(info.filename)
        if not name or info.is_dir():
            return
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            self._odd[name] = "is a link or a device in the archive, not a file"
        elif info.flag_bits & _ENCRYPTED:
            self._odd[name] = "is encrypted; write the archive without a password"
        elif info.compress_type not in _READ:
            self._odd[name] = (
                f"is packed by a method that is not read ({info.compress_type}); use deflate or none"
            )
        elif (n_bytes := max(info.file_size, info.compress_size)) > MOST_MEMBER_BYTES:
            self._odd[name] = (
                f"has {n_bytes:,} bytes, more than the {MOST_MEMBER_BYTES:,} that are unpacked into "
                "memory; use a tar file"
            )
        elif name in self._infos:
            self._odd[name] = "stands in the archive more than once"
        else:
            self._infos[name] = info

    @property
    def n_entries(self) -> int:
        """See `Archive`."""
        return 2 * len(self._infos) + len(self._odd) + 1

    def members(self) -> Iterable[str]:
        """See `Archive.members`."""
        return (name for name in self._infos if name not in self._odd)

    def problem(self, member: str) -> str:
        """See `Archive.problem`."""
        if member in self._odd:
            return self._odd[member]
        return "" if member in self._infos else "is not in the archive"

    def open(self, member: str) -> BinaryIO:
        """See `Archive.open`."""
        return io.BytesIO(self._kept.get(member, lambda: self._unpacked(self._infos[member])))

    def _unpacked(self, info: zipfile.ZipInfo) -> tuple[bytes, int]:
        stop = info.header_offset + _HEADER_BYTES + info.compress_size
        following = bisect_right(self._starts, info.header_offset)
        with self._place.holding(info.header_offset, min([stop, *self._starts[following : following + 1]])):
            data = read_member(self._zip, info)
        return data, len(data)


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member as it was before it was packed; memory is taken for the size that the archive says it has.

    Raises:
        ArchiveError: it is damaged, or has another size or checksum, in a clause.
    """
    try:
        data = _unpack(info, _packed(archive, info))
    except PassingError:
        raise
    except _FAULTS as error:
        raise failed("is damaged in its archive ({})", error) from error
    if len(data) > info.file_size:
        raise ArchiveError(f"is larger in its archive than the {info.file_size:,} bytes that it says")
    if len(data) < info.file_size:
        raise ArchiveError(f"is cut short in its archive: {len(data):,} of {info.file_size:,} bytes")
    if zlib.crc32(data) != info.CRC:
        raise ArchiveError("is damaged in its archive (another checksum than it says)")
    return data


def _packed(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes as they lie in the archive: read as one that is not packed."""
    lying = copy.copy(info)
    lying.compress_type, lying.file_size = zipfile.ZIP_STORED, info.compress_size
    del lying.CRC  # of what is unpacked
    with archive.open(lying) as file:
        return file.read()


def _unpack(info: zipfile.ZipInfo, packed: bytes) -> bytes:
    """At most a byte more than a member says it has."""
    most = info.file_size + 1
    if info.compress_type == zipfile.ZIP_DEFLATED:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, most)
    if info.compress_type == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor().decompress(packed, most)
    if info.compress_type == zipfile.ZIP_LZMA:
        # Two bytes of version, the length of what follows, then a byte and the size of the dictionary.
        length, first, dict_size = struct.unpack_from("<2xHBI", packed)
        settings = {"lc": first % 9, "lp": first // 9 % 5, "pb": first // 45}
        # Nothing lies further back than the member is long.
        own = {"id": lzma.FILTER_LZMA1, "dict_size": max(4096, min(dict_size, info.file_size)), **settings}
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[own]).decompress(packed[4 + length :], most)
    return packed
