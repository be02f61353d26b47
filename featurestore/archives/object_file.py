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


def objects_below(path: str) -> list[str]:
    """URLs of all objects below a folder of a bucket, or in all of it, in the order that the service has.

    Args:
        path: URL of the folder or the bucket; a ``/`` at its end says nothing.

    Raises:
        ValueError: it holds credentials or options, or names no bucket; one clause.
        AudioUnreachable: see `look_at`; or the bucket may not be listed.
    """
    from featurestore.backends.remote_settings import parse_url

    scheme, _, place = path.partition("://")
    try:
        location = parse_url(f"{scheme}://{place.rstrip('/')}")
    except StoreError as error:
        raise ValueError(str(error)) from None
    bucket = f"{location.scheme}://{location.bucket}"
    try:
        return [f"{bucket}/{name}" for name, _ in _bucket(bucket).objects(location.prefix)]
    except UserError as error:
        raise AudioUnreachable(str(error)) from None


class ObjectFile(FileStretch):
    """An object that is read from anywhere in it, as it was when it was looked at, or a stretch of one.

    Args:
        path: URL of the object.
        look: what it was when it was looked at; None: what it was within the last minute.
        start: first byte.
        stop: byte after the last; None: to the end.
        whose: what was written over where it is another object by now, for the message.

    Raises:
        FileNotFoundError: there is no such object.
        AudioUnreachable: see `look_at`; reading raises it too.
        PassingError: on reading, where the object was written over since.
    """

    def __init__(
        self, path: str, look: Look | None = None, start: int = 0, stop: int | None = None, whose: str = ""
    ) -> None:
        self._look = look_at(path, anew=False) if look is None else look
        super().__init__(-1, start, self._look.n_bytes if stop is None else min(stop, self._look.n_bytes))
        self._path, self._whose = path, whose

    def _bytes(self, n_bytes: int, at: int) -> bytes:
        # A stretch is fetched as an object of its size is; all of a small object is, for its other stretches.
        is_whole = self._look.n_bytes <= _WHOLE_BYTES
        base, size = (0, self._look.n_bytes) if is_whole else (self._start, self._stop - self._start)
        found = []
        while n_bytes > 0:
            start, stop = (base + edge for edge in piece_of(at - base, n_bytes, size))
            key = (self._path, self._look, start, stop)
            piece = _pieces.get(key, partial(self._piece, start, stop))
            found.append(piece[at - start : at - start + n_bytes])
            if not found[-1]:
                break
            at += len(found[-1])
            n_bytes -= len(found[-1])
        return b"".join(found)

    def _piece(self, start: int, stop: int) -> tuple[bytes, int]:
        data = read_as_looked_at(self._path, self._look, start, stop, self._whose)
        return data, len(data)


def read_as_looked_at(path: str, look: Look, start: int, stop: int, whose: str = "") -> bytes:
    """Bytes `start` to `stop` of an object, in one request, if it is what it was when it was looked at.

    Raises:
        AudioUnreachable: the service does not answer, or refuses.
        PassingError: it is another, or gone; `whose` is what the message begins with.
    """
    bucket, key = _split(path)
    try:
        data, e_tag = _bucket(bucket).read_part(key, start, stop)
    except UserError as error:
        raise AudioUnreachable(str(error)) from None
    if data is None or e_tag != look.e_tag or len(data) != stop - start:
        with _lock:
            _looks.pop(path, None)
        raise PassingError(f"{whose}was written over or removed while it was read")
    return data


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
