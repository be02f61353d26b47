"""What was read of archives and may be wanted again, as long as it fits."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(eq=False)
class _Entry(Generic[T]):
    lock: threading.Lock = field(default_factory=threading.Lock)
    found: list[T | Exception] = field(default_factory=list)
    size: int = 0


class Kept(Generic[T]):
    """Values by key, the ones used last; threads that want one value wait for one of them to load it.

    What failed to load is kept as well: a damaged row group is not read again for each of its clips.

    Args:
        most: sum of the sizes that is kept; a single value may have more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()
        self._size = 0

    def get(self, key: Hashable, load: Callable[[], tuple[T, int]]) -> T:
        """The value of a key.

        Args:
            key: of the value.
            load: gives the value and its size; an `OSError` that it raises is raised for later callers too.
        """
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
        with entry.lock:
            if not entry.found:
                size = 0
                try:
                    value, size = load()
                    entry.found.append(value)
                except OSError as error:
                    entry.found.append(error)
                self._has_grown(entry, size)
        found: Any = entry.found[0]
        if isinstance(found, OSError):
            raise type(found)(*found.args) from found  # each caller has a traceback of its own
        value = found
        return value

    def _has_grown(self, entry: _Entry[T], size: int) -> None:
        with self._lock:
            entry.size = size
            self._size += size
            for key in [key for key, other in self._entries.items() if other.found and other is not entry]:
                if self._size <= self._most:
                    break
                self._size -= self._entries.pop(key).size
