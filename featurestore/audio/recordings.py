"""Recordings that stay open between their segments: most corpora cut hundreds of clips out of one file."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from featurestore.audio.blocks import has_fault, open_sound
from featurestore.manifest.location import stamp_of

# Files that are open while nobody reads them; a process may mostly have 256 (macOS) or 1,024 (Linux).
MOST_OPEN = 64
# What a decoder gives of these after a jump is what it gives of a file opened anew, bit for bit. Others lean
# on what they decoded before: their segments would get another hash than alone.
_CONTAINERS = frozenset({"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC"})


@dataclass(frozen=True, eq=False)
class _Kept:
    path: str
    file: Any
    stamp: tuple[int, int]
    closing: ExitStack
    may_stay: bool


class Recordings:
    """Open files, each read by one thread at a time; a context manager that closes them.

    A file that another takes the place of meanwhile goes on being read, under the stamp that it had: rows of
    it look changed afterwards, as they are.

    Args:
        most: files that stay open at once.
    """

    def __init__(self, most: int = MOST_OPEN) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._idle: OrderedDict[_Kept, None] = OrderedDict()  # the longest idle first
        self._of_path: dict[str, list[_Kept]] = {}

    def __enter__(self) -> Recordings:
        return self

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            idle, self._most = list(self._idle), 0
            self._idle.clear()
            self._of_path.clear()
        for kept in idle:
            kept.closing.close()

    @contextmanager
    def opened(self, path: str, until_s: float) -> Iterator[tuple[Any, tuple[int, int]]]:
        """A file and its stamp from before it was opened; see `open_sound`.

        Raises:
            SoundError: see `open_sound`.
        """
        kept = self._take(path, until_s) or _opened(path, until_s)
        try:
            yield kept.file, kept.stamp
        except BaseException:
            # What went wrong may have left the decoder anywhere.
            if not kept.closing.__exit__(*sys.exc_info()):
                raise
        else:
            if kept.may_stay and not has_fault(kept.file):
                self._put_back(kept)
            else:
                kept.closing.close()

    def _take(self, path: str, until_s: float) -> _Kept | None:
        with self._lock:
            of_path = self._of_path.get(path)
            # An open end, or one beyond what was found, has the file looked through anew.
            if not of_path or not until_s * of_path[-1].file.samplerate <= of_path[-1].file.frames:
                return None
            kept = of_path.pop()
            if not of_path:
                del self._of_path[path]
            del self._idle[kept]
            return kept

    def _put_back(self, kept: _Kept) -> None:
        with self._lock:
            self._idle[kept] = None
            self._of_path.setdefault(kept.path, []).append(kept)
            surplus = [self._let_go() for _ in range(len(self._idle) - self._most)]
        for other in surplus:
            other.closing.close()

    def _let_go(self) -> _Kept:
        oldest, _ = self._idle.popitem(last=False)
        of_path = self._of_path[oldest.path]
        of_path.remove(oldest)
        if not of_path:
            del self._of_path[oldest.path]
        return oldest


def _opened(path: str, until_s: float) -> _Kept:
    from featurestore.audio.forward_sound import ForwardSound

    stamp = stamp_of(path)  # a file that is written while it is read then looks changed, not unchanged
    with ExitStack() as stack:
        file = stack.enter_context(open_sound(path, until_s))
        may_stay = isinstance(file, ForwardSound) and file.format in _CONTAINERS and file.goes_on
        return _Kept(path, file, stamp, stack.pop_all(), may_stay)
