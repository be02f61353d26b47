"""Pure batching: clip lengths in, batches out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featurestore.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch of one clip that is embedded at once.

    Attributes:
        row: position of the clip in its unit.
        start: first sample, at the model's rate.
        n_samples: length.
        is_last: whether the clip ends here.
        first_frame: first frame of the window that counts; those before it are context.
        stop_frame: the frame after the last that counts; None: all.
    """

    row: int
    start: int
    n_samples: int
    is_last: bool
    first_frame: int = 0
    stop_frame: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its clip."""
        return self.start == 0 and self.is_last


def cut_windows(row: int, n_samples: int, max_samples: int | None, min_samples: int) -> list[Window]:
    """Split a clip into windows of at most `max_samples`, end to end, nothing left out.

    A rest shorter than `min_samples` cannot be embedded alone; the last two windows then share their
    samples evenly, so that no sample is dropped.
    """
    if max_samples is None or n_samples <= max_samples:
        return [Window(row=row, start=0, n_samples=n_samples, is_last=True)]
    starts = list(range(0, n_samples, max_samples))
    if n_samples - starts[-1] < min_samples:
        starts[-1] = starts[-2] + (n_samples - starts[-2]) // 2
    stops = [*starts[1:], n_samples]
    return [
        Window(row=row, start=a, n_samples=b - a, is_last=b == n_samples)
        for a, b in zip(starts, stops, strict=True)
    ]


def cut_batches(
    lengths: Sequence[int], *, budget_samples: int, max_clips: int, fixed_samples: int | None = None
) -> list[range]:
    """Cut a run of clips into consecutive batches whose padded size stays within a budget.

    Args:
        lengths: samples per clip, in row order.
        budget_samples: most samples of a batch after padding; a single longer clip is a batch alone.
        max_clips: most clips of a batch.
        fixed_samples: length the model pads every input to, if it does.

    Raises:
        ConfigError: a budget or count below 1.
    """
    if budget_samples < 1 or max_clips < 1:
        raise ConfigError(
            f"expected a batch of at least 1 sample and 1 clip, got {budget_samples}, {max_clips}"
        )
    batches = []
    start, longest = 0, 0
    for i, length in enumerate(lengths):
        padded = max(longest, fixed_samples or length)
        if i > start and (padded * (i - start + 1) > budget_samples or i - start >= max_clips):
            batches.append(range(start, i))
            start, padded = i, fixed_samples or length
        longest = padded
    if len(lengths) > start:
        batches.append(range(start, len(lengths)))
    return batches


def plan_batches(
    lengths: Sequence[int], *, budget_samples: int, max_clips: int, overhead_samples: int
) -> list[range]:
    """Consecutive batches within a budget that cost least, padding and the batch itself both counted.

    The best cut of clips 0 … j follows from the best cuts of fewer clips (dynamic programming over the
    place of the last cut), O(n · max_clips).

    Args:
        lengths: samples per clip, in row order.
        budget_samples: most samples of a batch after padding; a single longer clip is a batch alone.
        max_clips: most clips of a batch.
        overhead_samples: what a batch costs besides its samples, in samples.
    """
    n = np.asarray(lengths, dtype=np.int64)
    cost = np.zeros(len(n) + 1, dtype=np.int64)
    start_of = np.zeros(len(n) + 1, dtype=np.int64)
    for stop in range(1, len(n) + 1):
        first = max(0, stop - max_clips)
        # For every start, from the nearest: longest clip from there on, and the padded size.
        longest = np.maximum.accumulate(n[first:stop][::-1])
        padded = longest * np.arange(1, stop - first + 1)
        # Padded sizes never fall as a batch grows; a clip alone is always allowed.
        n_allowed = max(1, int(np.searchsorted(padded, budget_samples, side="right")))
        total = cost[first:stop][::-1][:n_allowed] + padded[:n_allowed] + overhead_samples
        best = int(total.argmin())
        cost[stop], start_of[stop] = total[best], stop - 1 - best
    batches = []
    stop = len(n)
    while stop:
        batches.append(range(int(start_of[stop]), stop))
        stop = int(start_of[stop])
    return batches[::-1]
