"""Audio in a bucket (``s3://bucket/a/b.wav``): an object as a file, fetched in pieces as they are asked for.

Credentials, endpoint and patience are those of stores in buckets (`featurestore.backends.remote`). Small
objects are fetched whole, of larger ones the beginning, which mostly is all that a header needs, and then all
of it, or blocks where it is large. A process keeps what it fetched last, up to `_KEPT_BYTES`.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from featurestore.archives.interface import FileStretch, PassingError
from featurestore.archives.kept_bytes import Kept
from featurestore.errors import AudioUnreachable, StoreError, UserError
from featurestore.outputs import REMOTE_SCHEMES

if TYPE_CHECKING:
    from featurestore.backends.remote import ObjectStorage

# Up to the first size an object is fetched whole at once, up to the second as soon as more than its beginning
# is asked for.
_SMALL_BYTES, _WHOLE_BYTES = 1 << 18, 1 << 23
_HEAD_BYTES, _BLOCK_BYTES = 1 << 16, 1 << 22
_KEPT_BYTES = 1 << 26
# An object that is opened some times on the way to its samples is looked at once; so many are remembered.
_LOOK_S, _MOST_LOOKS = 60.0, 100_000
_AT_ONCE = 32
_SCHEMES = tuple(f"{scheme}://" for scheme in REMOTE_SCHEMES)


def is_object(path: str) -> bool:
    """Whether a path names an object in a bucket.

    >>> is_object("s3://bucket/a.wav"), is_object("/data/a.wav")
    (True, False)
    """
    return path.startswith(_SCHEMES)


def split_object(path: str) -> tuple[str, str]:
    """URL of the bucket, and the object's name in it.

    >>> split_object("s3://bucket/a/b.wav")
    ('s3://bucket', 'a/b.wav')

    Raises:
        ValueError: it holds credentials or options, names no bucket or no object; one clause.
    """
    from featurestore.backends.remote_settings import parse_url

    try:
        location = parse_url(path)
    except StoreError as error:
        raise ValueError(str(error)) from None
    if not location.prefix or location.url != path:
        raise ValueError(f"{path!r} names no object: expected {location.scheme}://{location.bucket}/name")
    return f"{location.scheme}://{location.bucket}", location.prefix


@dataclass(frozen=True)
class Look:
    """What an object was when it was looked at.

    Attributes:
        n_bytes: its size.
        mtime_ns: when it was written, nanoseconds since 1970. Services tell whole seconds; what is below
            them is made of the ETag, so that an object that is written twice within one looks written over.
        e_tag: what the service calls this version of it.
    """

    n_bytes: int
    mtime_ns: int
    e_tag: str


_looks: OrderedDict[str, tuple[float, Look]] = OrderedDict()
_lock = threading.Lock()
_pieces: Kept[bytes] = Kept(_KEPT_BYTES)


def look_at(path: str, *, anew: bool = True) -> Look:
    """What an object is.

    Args:
        path: URL of the object.
        anew: ask the service; else what it said within the last minute will do.

    Raises:
        FileNotFoundError: there is no such object.
        AudioUnreachable: the service did not answer, or refused.
    """
    if not anew:
        with _lock:
            at, found = _looks.get(path, (0.0, None))
        if found is not None and time.monotonic() - at < _LOOK_S:
            return found
    bucket, key = _split(path)
    try:
        said = _bucket(bucket).look(key)
    except UserError as error:
        raise AudioUnreachable(str(error)) from None
    if said is None:
        with _lock:
            _looks.pop(path, None)
        raise FileNotFoundError(path)
    e_tag = str(said["e_tag"] or "")
    written_ns = int(said["last_modified"].timestamp()) * 10**9 + zlib.crc32(e_tag.encode()) % 10**9
    look = Look(int(said["size"]), written_ns, e_tag)
    with _lock:
        _looks[path] = time.monotonic(), look
        _looks.move_to_end(path)
        while len(_looks) > _MOST_LOOKS:
            _looks.popitem(last=False)
    return look


def look_at_all(paths: Iterable[str]) -> dict[str, Look | None]:
    """What many objects are, asked for side by side; None where there is no such object.

    Raises:
        AudioUnreachable: see `look_at`.
    """

    def look(path: str) -> Look | None:
        try:
            return look_at(path)
        except FileNotFoundError:
            return None

    wanted = list(dict.fromkeys(paths))
    if not wanted:
        return {}
    first = look(wanted[0])  # where nobody answers one says so, and not all of them
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return {wanted[0]: first, **dict(zip(wanted[1:], pool.map(look, wanted[1:]), strict=True))}


class ObjectFile(FileStretch):
    """An object that is read from anywhere in it, as it was when it was looked at.

    Args:
        path: URL of the object.

    Raises:
        FileNotFoundError: there is no such object.
        AudioUnreachable: see `look_at`; reading raises it too.
        PassingError: on reading, where the object was written over since.
    """

    def __init__(self, path: str) -> None:
        self._look = look_at(path, anew=False)
        super().__init__(-1, 0, self._look.n_bytes)
        self._path = path

    def _bytes(self, n_bytes: int, at: int) -> bytes:
        found = []
        while n_bytes > 0:
            start, stop = piece_of(at, n_bytes, self._look.n_bytes)
            key = (self._path, self._look, start, stop)
            piece = _pieces.get(key, partial(self._fetched, start, stop))
            found.append(piece[at - start : at - start + n_bytes])
            if not found[-1]:
                break
            at += len(found[-1])
            n_bytes -= len(found[-1])
        return b"".join(found)

    def _fetched(self, start: int, stop: int) -> tuple[bytes, int]:
        bucket, key = _split(self._path)
        try:
            data, e_tag = _bucket(bucket).read_part(key, start, stop)
        except UserError as error:
            raise AudioUnreachable(str(error)) from None
        if data is None or e_tag != self._look.e_tag or len(data) != stop - start:
            with _lock:
                _looks.pop(self._path, None)
            raise PassingError("was written over or removed while it was read")
        return data, len(data)


def piece_of(at: int, n_bytes: int, size: int) -> tuple[int, int]:
    """The first piece to fetch, ``start`` and ``stop``, where so many bytes from a place on are asked for.

    >>> piece_of(0, 16, 1_000), piece_of(0, 16, 1_000_000), piece_of(70_000, 16, 1_000_000)
    ((0, 1000), (0, 65536), (0, 1000000))
    >>> piece_of(5_000_000, 16, 1_000_000_000)
    (4194304, 8388608)
    """
    if size <= _SMALL_BYTES:
        return 0, size
    if at + n_bytes <= _HEAD_BYTES:
        return 0, _HEAD_BYTES
    if size <= _WHOLE_BYTES:
        return 0, size
    start = at // _BLOCK_BYTES * _BLOCK_BYTES
    return start, min(size, start + _BLOCK_BYTES)


def _split(path: str) -> tuple[str, str]:
    try:
        return split_object(path)
    except ValueError as error:
        raise AudioUnreachable(str(error)) from None


def _bucket(url: str) -> ObjectStorage:
    from featurestore.backends.remote import open_bucket

    return open_bucket(url)
