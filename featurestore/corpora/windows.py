"""Detection windows: cut a recording into equal pieces and say which events sound in each.

The rule is that of BEANS (Hagiwara et al., ICASSP 2023, `beans/datasets.py`), kept exactly: the last
piece is the last whole one, unless the recording itself is shorter than a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# An event counts when it and the window share more than a fifth of the shorter of the two.
MIN_OVERLAP = 0.2


@dataclass(frozen=True, kw_only=True)
class Event:
    """A labelled stretch of a recording, in seconds."""

    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Window:
    """A piece of a recording and the labels of the events that sound in it."""

    start_s: float
    end_s: float
    labels: frozenset[str]


def cut_windows(length_s: float, events: Sequence[Event], *, window_s: float, shift_s: float) -> list[Window]:
    """Windows of `window_s` every `shift_s` over a recording of `length_s`.

    ``int((length - window) / shift) + 1`` windows, truncated towards zero: a recording a little
    shorter than a window (by less than `shift_s`) still gives one, which ends with the recording.
    """
    n = int((length_s - window_s) / shift_s) + 1
    if n < 1:
        return []
    start = np.arange(n) * shift_s
    end = start + window_s
    sounds = _sounds(start, end, events)
    return [
        Window(
            start_s=float(start[i]),
            end_s=float(min(end[i], length_s)),
            labels=frozenset(e.label for e, there in zip(events, sounds[i], strict=True) if there),
        )
        for i in range(n)
    ]


def _sounds(start: np.ndarray, end: np.ndarray, events: Sequence[Event]) -> np.ndarray:
    """Which event sounds in which window, bool `[windows, events]`."""
    st = np.array([e.start_s for e in events], dtype=np.float64)[None, :]
    ed = np.array([e.end_s for e in events], dtype=np.float64)[None, :]
    start, end = start[:, None], end[:, None]
    touches = ((start <= st) & (st <= end)) | ((start <= ed) & (ed <= end))
    shorter = np.minimum(end - start, ed - st)
    shared = np.minimum(end, ed) - np.maximum(start, st)
    enough = np.zeros(touches.shape, dtype=bool)
    np.greater(
        np.divide(shared, shorter, out=np.zeros(touches.shape), where=shorter != 0),
        MIN_OVERLAP,
        out=enough,
    )
    covers = (st <= start) & (end <= ed)
    return np.asarray((touches & enough) | covers)
