"""Tar files: members are read where they lie, by the place that their headers say."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable
from typing import BinaryIO

from featurestore.archives.interface import ArchiveError, ArchivePlace
from featurestore.archives.names import plain_member
from featurestore.errors import UserError, one_line

UNPACK = "unpack it to a tar file, which stays one file: gunzip -k FILE.tar.gz, unxz, zstd -d or bunzip2"
# Types of headers that extend the next one; three of them by records.
_EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_MOST_EXTENSION_BYTES = 1 << 20
_MANY_DIGITS = re.compile(rb"[0-9]{100}")
_LENGTH = re.compile(rb"([1-9][0-9]{0,7}) ")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class _Header(tarfile.TarInfo):
    """A header whose extension, in which long names stand, is looked at before it is searched."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENSIONS:
            if not 0 <= self.size <= _MOST_EXTENSION_BYTES:
                raise tarfile.ReadError(f"a header of {self.size:,} bytes")
            assert tar.fileobj is not None
            at = tar.fileobj.tell()
            data = tar.fileobj.read(self.size)
            tar.fileobj.seek(at)
            if self.type in _EXTENSIONS[:3]:
                _require_records(data)
        found: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return found


def _require_records(data: bytes) -> None:
    """Refuse what `tarfile` would search for long: some versions take the square of its length in time.

    Raises:
        tarfile.ReadError: this is no list of records (POSIX.1-2008, pax): ``LENGTH KEYWORD=VALUE`` and a line
            end each, or it has a number that no archive has.
    """
    if _MANY_DIGITS.search(data):
        raise tarfile.ReadError("a number of a hundred digits in a header")
    at = 0
    while at < len(data):
        length = _LENGTH.match(data, at)
        end = at + int(length[1]) if length else 0
        if length is None or data[end - 1 : end] != b"\n" or data.find(b"=", length.end(), end) < 0:
            raise tarfile.ReadError("a header that is no list of records")
        at = end


class TarArchive:
    """A tar file; its headers are read once, from the first to the last.

    Args:
        place: where it lies.

    Raises:
        ArchiveError: it is no tar file, is compressed, is cut short, or is damaged between two members.
    """

    def __init__(self, place: ArchivePlace) -> None:
        self._place = place
        self._places: dict[str, tuple[int, int]] = {}  # first byte, byte after the last
        self._odd: dict[str, str] = {}  # why others cannot be read
        self._last = ""
        with place.headers() as file:
            head = file.read(6)
            packed = next((name for magic, name in _COMPRESSED.items() if head.startswith(magic)), "")
            if packed:
                raise ArchiveError(
                    f"is compressed by {packed}, so that members cannot be read where they lie; {UNPACK}"
                )
            file.seek(0)
            try:
                with tarfile.open(fileobj=file, mode="r:", tarinfo=_Header) as tar:
                    after = -1
                    while (info := tar.next()) is not None:
                        if (
                            info.size < 0 or tar.offset <= after
                        ):  # a size below zero leads back, and so on without an end
                            raise tarfile.ReadError("a size below zero")
                        after = tar.offset
                        self._add(info)
                        tar.members.clear()  # type: ignore[attr-defined]  # else a kilobyte each stays
                    after = tar.offset
            except (OSError, UserError):
                raise
            except Exception as error:  # of headers that are none, whatever its reading of them may raise
                if self._last:
                    raise ArchiveError(
                        f"is cut short or damaged at its member {self._last!r} ({one_line(error)})"
                    ) from error
                raise ArchiveError(f"is no tar file ({one_line(error)})") from error
            # `tarfile` takes a damaged header for the end.
            file.seek(after)
            rest = file.read(tarfile.BLOCKSIZE)
            if rest.strip(b"\0"):
                raise ArchiveError(f"is damaged after its member {self._last!r}, at byte {after:,}")

    def _add(self, info: tarfile.TarInfo) -> None:
        name = plain_member(info.name)
        if not name:
            return
        stop = info.offset_data + info.size
        if info.isdir():
            return
        if not info.isreg():
            self._odd[name] = "is a link or a device in the archive, not a file"
        elif info.issparse():
            self._odd[name] = "has holes (a sparse file); write the archive anew without --sparse"
        elif name in self._places:
            self._odd[name] = "stands in the archive more than once"
        else:
            self._last = name
            self._places[name] = info.offset_data, stop

    @property
    def n_entries(self) -> int:
        """See `Archive`."""
        return len(self._places) + len(self._odd) + 1

    def members(self) -> Iterable[str]:
        """See `Archive.members`."""
        return (name for name in self._places if name not in self._odd)

    def problem(self, member: str) -> str:
        """See `Archive.problem`."""
        if member in self._odd:
            return self._odd[member]
        return "" if member in self._places else "is not in the archive"

    def open(self, member: str) -> BinaryIO:
        """See `Archive.open`."""
        return self._place.stretch(*self._places[member])
