"""Detection windows: cut a recording into equal pieces and say which events sound in each.

The rule is that of BEANS (Hagiwara et al., ICASSP 2023, `beans/datasets.py`), kept exactly: the last
piece is the last whole one, unless the recording itself is shorter than a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featurestore.manifest.labels import join_labels

# An event counts when it and the window share more than a fifth of the shorter of the two.
MIN_OVERLAP = 0.2


@dataclass(frozen=True, kw_only=True)
class LabelledStretch:
    """A stretch of a recording, in seconds: an event and its label, or a window and the set of its labels."""

    start_s: float
    end_s: float
    label: str


def cut_windows(
    length_s: float, events: Sequence[LabelledStretch], *, window_s: float, shift_s: float
) -> list[LabelledStretch]:
    """Windows of `window_s` every `shift_s` over a recording of `length_s`, with what sounds in each.

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
        LabelledStretch(
            start_s=float(start[i]),
            end_s=float(min(end[i], length_s)),
            label=join_labels(e.label for e, there in zip(events, sounds[i], strict=True) if there),
        )
        for i in range(n)
    ]


def _sounds(start: np.ndarray, end: np.ndarray, events: Sequence[LabelledStretch]) -> np.ndarray:
    """Which event sounds in which window, bool `[windows, events]`."""
    st = np.array([e.start_s for e in events], dtype=np.float64)[None, :]
    ed = np.array([e.end_s for e in events], dtype=np.float64)[None, :]
    start, end = start[:, None], end[:, None]
    touches = ((start <= st) & (st <= end)) | ((start <= ed) & (ed <= end))
    shorter = np.minimum(end - start, ed - st)
    shared = np.minimum(end, ed) - np.maximum(start, st)
    shares = np.divide(shared, shorter, out=np.zeros(touches.shape), where=shorter != 0)
    covers = (st <= start) & (end <= ed)
    return np.asarray((touches & (shares > MIN_OVERLAP)) | covers)
