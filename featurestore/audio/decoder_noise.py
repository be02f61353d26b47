"""Decoders that write to standard error themselves are not heard there."""

from __future__ import annotations

import contextlib
import os
import sys
import threading


class _Hush:
    """Standard error of the process leads nowhere while decoders are at work that write there themselves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n, self._kept = 0, -1
        self.is_on = False

    def __enter__(self) -> None:
        with self._lock:
            self._n += 1
            if self._n == 1 and self.is_on:
                self._kept = os.dup(2)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 2)
                os.close(nowhere)

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._n -= 1
            if self._n == 0 and self._kept >= 0:
                os.dup2(self._kept, 2)
                os.close(self._kept)
                self._kept = -1


HUSH = _Hush()


def hush_decoders() -> None:
    """From now on drop what libmpg123 writes to standard error, on its own and past any setting.

    What Python writes goes where it went, by a descriptor of its own. For programs, not for libraries: other
    native code is not heard either while an MP3 file is open.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if sys.stderr.fileno() == 2:
            sys.stderr = open(  # noqa: SIM115, stays open as long as the process
                os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors=sys.stderr.errors
            )
    HUSH.is_on = True
