"""``SHA256SUMS``: SHA-256 of every published object, as ``sha256sum -c`` reads it, and reading held to it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from zarr.abc.store import Store as ZarrStore

from featurestore.backends.storage import Storage
from featurestore.errors import CorruptData, StoreError
from featurestore.names import object_parts

NAME = "SHA256SUMS"
# Objects read side by side: a bucket answers each in milliseconds.
READERS = 8
MOST_BYTES = 2**31
_LINE = re.compile(r"([0-9a-f]{64})  ([^\r\n]+)")
_ASK = "ask who published it for a sound copy; nothing of it was taken"


def sums_of(
    storage: Storage, names: Iterable[str], on_object: Callable[[], None] = lambda: None
) -> dict[str, str]:
    """Name → SHA-256 in hexadecimal, of objects as they are read back.

    Raises:
        StoreError: one has gone meanwhile.
    """
    wanted = sorted(names)

    def one(name: str) -> str:
        data = storage.get(name)
        if data is None:
            raise StoreError(f"{storage.url}/{name}: was written and is gone; publish again")
        on_object()
        return hashlib.sha256(data).hexdigest()

    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(wanted, pool.map(one, wanted), strict=True))


def sums_text(sums: Mapping[str, str]) -> bytes:
    """The file."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()


def read_sums(storage: Storage, sha256: str | None = None) -> dict[str, str]:
    """What a publication says of its objects.

    Args:
        storage: its root.
        sha256: of the file itself, where it was told by another way.

    Raises:
        StoreError: there is none.
        CorruptData: it is none, or another than was told.
    """
    data = storage.get(NAME)
    if data is None:
        raise StoreError(
            f"{storage.url}: no {NAME} here, so this is no published store; give the folder that "
            "`fs publish` wrote (`fs cp` copies any store)"
        )
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and sha256.lower() != found:
        raise CorruptData(f"{storage.url}/{NAME}: expected SHA-256 {sha256.lower()}, it is {found}; {_ASK}")
    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"{len(data)} bytes")
        return _parsed(data.decode(), storage.url)
    except (ValueError, StoreError) as error:
        raise CorruptData(f"{storage.url}/{NAME}: not a list of checksums ({error}); {_ASK}") from error


def _parsed(text: str, url: str) -> dict[str, str]:
    sums: dict[str, str] = {}
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        found = _LINE.fullmatch(line)
        if found is None or found[2] in sums:
            raise ValueError(f"line {number}")
        object_parts(found[2], url)
        sums[found[2]] = found[1]
    return sums


class CheckedStorage:
    """A published store read through its checksums: an object that is not as listed is an error.

    Attributes:
        unread: names of listed objects that nobody has read through this yet.
    """

    def __init__(self, inner: Storage, sums: Mapping[str, str]) -> None:
        self.inner = inner
        self._sums = sums
        self.unread = set(sums)

    @property
    def url(self) -> str:
        """See `Storage.url`."""
        return self.inner.url

    def get(self, key: str) -> bytes | None:
        """See `Storage.get`.

        Raises:
            CorruptData: it is not as listed.
        """
        data, expected = self.inner.get(key), self._sums.get(key)
        if data is None and expected is None:
            return None
        if data is None:
            raise CorruptData(f"{self.url}/{key}: is listed in {NAME} and missing; {_ASK}")
        if expected is None:
            raise CorruptData(f"{self.url}/{key}: is not listed in {NAME}; {_ASK}")
        if (found := hashlib.sha256(data).hexdigest()) != expected:
            raise CorruptData(f"{self.url}/{key}: expected SHA-256 {expected}, it is {found}; {_ASK}")
        self.unread.discard(key)
        return data

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Nothing is written here."""
        raise StoreError(f"{self.url}: a published store is read only")

    def delete(self, key: str) -> None:
        """Nothing is deleted here."""
        raise StoreError(f"{self.url}: a published store is read only")

    def objects(self, prefix: str) -> Iterator[tuple[str, int]]:
        """See `Storage.objects`."""
        return self.inner.objects(prefix)

    def children(self, prefix: str) -> list[str]:
        """See `Storage.children`."""
        return self.inner.children(prefix)

    def strangers(self, prefix: str) -> Iterator[tuple[str, str]]:
        """See `Storage.strangers`."""
        return self.inner.strangers(prefix)

    def zarr_store(self) -> ZarrStore:
        """What Zarr reads by itself would not be held to the list."""
        raise StoreError(f"{self.url}: pull it, then open the copy")

    def read_unread(self, names: Iterable[str]) -> None:
        """Hold what was not read yet of these to the list.

        Raises:
            CorruptData: an object is not as listed.
        """
        left = sorted(self.unread.intersection(names))
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(self.get, left))
