"""What libsndfile is given to read where the file as it is would give it only a part of the audio."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np

from featurestore.archives.names import file_of
from featurestore.archives.object_file import is_object, look_at
from featurestore.archives.opened import open_bytes
from featurestore.audio.containers import MP3_TAG, Piece, read_box
from featurestore.audio.file_bytes import Seekable, read_at, size_of
from featurestore.audio.flac import Depth, FlacStream, flac_streams, length_of
from featurestore.audio.mp3 import Run, runs
from featurestore.audio.ogg import links

_REMEMBERED = 1024  # files
# The last page of an Ogg stream may end anywhere in its last packet, and libsndfile 1.2 takes its beginning
# to be off by as much: it is read from further back. A page has 255 packets at most, of 1,024 samples as all
# encoders have them.
VORBIS_LAST_PAGE = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One stream of a file.

    Attributes:
        pieces: bytes that hold it and nothing else; none: the file as it is.
        n_frames: its length, where the file as it is may be used if libsndfile finds just as many in it.
    """

    pieces: tuple[Piece, ...] = ()
    n_frames: int | None = None


def streams_of(path: str, depth: Depth) -> tuple[Stream, ...]:
    """The streams of a file; none where it will do as it is.

    Args:
        path: of an audio file, or of a member of an archive.
        depth: how far it is looked through. ``entire`` reads Ogg, FLAC and MP3 from end to end, ``segment``
            only Ogg, for pages that are missing.
    """
    if is_object(path):
        look = look_at(file_of(path), anew=False)
        return _streams_of(path, depth, look.n_bytes, look.mtime_ns)
    about = os.stat(file_of(path))
    return _streams_of(path, depth, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=_REMEMBERED)
def _streams_of(path: str, depth: Depth, _size: int, _mtime_ns: int) -> tuple[Stream, ...]:
    box = read_box(path)
    with open_bytes(path) as file:
        if box is not None and box.tag == MP3_TAG:
            return _of_mp3(file, box.data_at, box.data_at + box.there)
        if box is not None:
            return (Stream(pieces=box.pieces),) if box.pieces else ()
        flac = flac_streams(file, depth=depth)
        if flac:
            return _of_flac(file, flac)
        if depth == "header":
            return ()
        of_ogg = links(file)
        if of_ogg:
            plain = len(of_ogg) == 1 and of_ogg[0].start == 0
            return () if plain else tuple(Stream(pieces=((s.start, s.stop),)) for s in of_ogg)
        return _of_mp3(file, 0, size_of(file)) if depth == "entire" else ()


def _of_flac(file: BinaryIO, found: Sequence[FlacStream]) -> tuple[Stream, ...]:
    if len(found) == 1 and found[0].n_frames:
        return ()
    made = []
    for stream in found:
        pieces: tuple[Piece, ...] = ((stream.start, stream.stop),)
        if not stream.n_frames:
            n_frames = length_of(file, stream)[0]
            if not n_frames:
                raise ValueError("it does not say how long it is, and no frame of it is whole")
            head = stream.with_length(n_frames)
            pieces = (head, (stream.start + len(head), stream.stop))
        made.append(Stream(pieces=pieces))
    return tuple(made)


def _of_mp3(file: BinaryIO, start: int, stop: int) -> tuple[Stream, ...]:
    found = runs(file, start, stop)
    made = [_of_run(run) for run in found]
    if len(made) == 1 and start == 0 and not found[0].tag:
        return (Stream(pieces=made[0].pieces, n_frames=found[0].n_samples),)
    plain = len(made) == 1 and start == 0 and made[0].pieces == tuple(found[0].stretches)
    return () if plain else tuple(made)


def _of_run(run: Run) -> Stream:
    said = run.tag_frames
    if said is not None and said + 1 >= run.n_frames:
        return Stream(pieces=tuple(run.stretches))
    (first, stop), *others = run.stretches
    # A header that counts fewer frames than there are, or says nothing, gives way to one that counts all.
    return Stream(pieces=(run.header_frames(), (first + len(run.tag), stop), *others))


def go_to(file: Any, frame: int) -> None:
    """Have a `soundfile.SoundFile` read from this frame on next."""
    sure = max(0, file.frames - VORBIS_LAST_PAGE)
    if file.subtype != "VORBIS" or frame <= sure:
        file.seek(frame)
        return
    file.seek(sure)
    file.read(frame - sure, dtype="float32")


class Spliced:
    """Pieces of a file and bytes, one after the other, as a file that libsndfile reads."""

    def __init__(self, file: Seekable | int, pieces: Sequence[Piece]) -> None:
        self._file = file
        self._pieces = [p for p in pieces if (len(p) if isinstance(p, bytes) else p[1] - p[0]) > 0]
        sizes = [len(p) if isinstance(p, bytes) else p[1] - p[0] for p in self._pieces]
        self._stops = np.cumsum(sizes)
        self._at = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of a file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: int(self._stops[-1])}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """As of a file."""
        return self._at

    def read(self, n_bytes: int) -> bytes:
        """Up to so many bytes; fewer at the end."""
        found = []
        while n_bytes > 0 and self._at < self._stops[-1]:
            k = int(np.searchsorted(self._stops, self._at, side="right"))
            piece = self._pieces[k]
            first = self._at - (int(self._stops[k - 1]) if k else 0)
            wanted = min(n_bytes, int(self._stops[k]) - self._at)
            if isinstance(piece, bytes):
                block = piece[first : first + wanted]
            else:
                block = read_at(self._file, wanted, piece[0] + first)
            if not block:
                break
            found.append(block)
            self._at += len(block)
            n_bytes -= len(block)
        return b"".join(found)


class Joined:
    """Streams of one rate and number of channels, one after the other, read as one `soundfile.SoundFile`."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = list(parts)
        self._stops = np.cumsum([part.frames for part in parts])
        self._at = 0
        self.frames = int(self._stops[-1])
        self.samplerate, self.channels = parts[0].samplerate, parts[0].channels
        self.format, self.subtype = parts[0].format, parts[0].subtype

    def seekable(self) -> bool:
        """Whether `seek` works."""
        return all(part.seekable() for part in self._parts)

    def seek(self, frame: int) -> int:
        """Go to a frame, counted over all parts."""
        self._at = frame
        return frame

    def tell(self) -> int:
        """The frame that is read next."""
        return self._at

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = False) -> np.ndarray:
        """Up to so many frames `[n, channels]`, whatever `always_2d` says; fewer at the end."""
        blocks = []
        while frames > 0 and self._at < self.frames:
            k = int(np.searchsorted(self._stops, self._at, side="right"))
            part, first = self._parts[k], self._at - (int(self._stops[k - 1]) if k else 0)
            if part.tell() != first:
                go_to(part, first)
            wanted = min(frames, part.frames - first)
            blocks.append(part.read(wanted, dtype=dtype, always_2d=True))
            if len(blocks[-1]) < wanted:
                break
            self._at += wanted
            frames -= wanted
        return np.concatenate(blocks) if blocks else np.zeros((0, self.channels), dtype)
