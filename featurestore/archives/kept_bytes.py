"""What was read of archives and may be wanted again, as long as it fits."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from featurestore.archives.interface import ArchiveError, PassingError

T = TypeVar("T")
# Failures that are kept at most, where nothing else is.
_MOST_FAILURES = 1000


@dataclass(eq=False)
class _Entry(Generic[T]):
    lock: threading.Lock = field(default_factory=threading.Lock)
    found: list[T] = field(default_factory=list)
    failure: ArchiveError | None = None
    size: int = 0


class Kept(Generic[T]):
    """Values by key, those used last; threads that want one value wait for one of them to load it.

    Failures are kept as well, so that a damaged row group is not read again for each of its clips; but not
    those that may be gone the next time.

    Args:
        most: sum of the sizes that is kept; a single value may have more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _Entry[T]] = OrderedDict()  # the longest unused first
        self._loading: dict[Hashable, _Entry[T]] = {}
        self._size = 0

    def get(self, key: Hashable, load: Callable[[], tuple[T, int]]) -> T:
        """The value of a key.

        Args:
            key: of the value.
            load: gives the value and its size.

        Raises:
            ArchiveError: `load` raised it, now or earlier.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                entry = self._kept[key]
            else:
                entry = self._loading.setdefault(key, _Entry())
        with entry.lock:
            if not entry.found and entry.failure is None:
                try:
                    self._load(key, entry, load)
                finally:
                    with self._lock:
                        self._loading.pop(key, None)
        if entry.failure is not None:
            raise type(entry.failure)(*entry.failure.args)  # each caller has a traceback of its own
        return entry.found[0]

    def _load(self, key: Hashable, entry: _Entry[T], load: Callable[[], tuple[T, int]]) -> None:
        try:
            value, size = load()
            entry.found.append(value)
        except PassingError:
            raise
        except ArchiveError as error:
            entry.failure, size = error, self._most // _MOST_FAILURES
        entry.size = max(1, size)
        with self._lock:
            self._kept[key] = entry
            self._size += entry.size
            while self._size > self._most and len(self._kept) > 1:
                self._size -= self._kept.popitem(last=False)[1].size
