"""Batches: how clips are cut into them, and how much audio one may hold, halved when memory runs out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from extractors.models.interface import Extractor
from featurestore.errors import ConfigError

# Padded seconds of audio per forward on a CPU: larger ones only leave its caches.
CPU_SECONDS = 30.0
# What a forward costs besides its samples, in seconds of audio: calls, and products too small to be quick.
# An estimate, from the rates of single clips and of full batches of HuBERT-base on two cores.
OVERHEAD_SECONDS = {"cpu": 0.3, "cuda": 5.0}
# A GPU gains nothing from more; below it, its free memory decides.
CUDA_MOST_SECONDS = 1200.0
# Of the memory that is free; the rest is for fragments and for batches unlike those measured.
SHARE_OF_FREE = 0.6
# Probe batches: many short clips, and one as long as the longest to come (attention may grow faster
# than length), up to this.
PROBE_CLIPS = 8
PROBE_MOST_S = 60.0
MAX_BATCH_CLIPS = 256
# Windows planned to fill a batch may come out a sample longer.
SLACK = 1.05


def first_batch(
    lengths: Sequence[int], *, budget_samples: int, max_clips: int, fixed_samples: int | None = None
) -> int:
    """How many clips of a run go into a batch whose padded size stays within a budget; one at least.

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
    longest = 0
    for n, length in enumerate(lengths):
        longest = max(longest, fixed_samples or length)
        if n and (longest * (n + 1) > budget_samples or n >= max_clips):
            return n
    return len(lengths)


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


class Budget:
    """Most padded samples of one forward pass.

    Args:
        n_samples: at the model's rate.
        fixed_samples: length the model pads every input to, if it does.
        overhead_samples: what a batch costs besides its samples, in samples.
    """

    def __init__(
        self, n_samples: int, fixed_samples: int | None = None, *, overhead_samples: int = 0
    ) -> None:
        self.fixed_samples = fixed_samples
        self.overhead_samples = overhead_samples
        # Every clip costs a full window there: count windows, at least four at a time.
        self.n_samples = max(1, n_samples, 4 * (fixed_samples or 0))
        self.n_halved = 0

    def cut(self, lengths: Sequence[int]) -> list[range]:
        """Consecutive batches of clips of these lengths, each within the budget, that cost least."""
        if self.fixed_samples:
            lengths = [self.fixed_samples] * len(lengths)
        return plan_batches(
            lengths,
            budget_samples=self.n_samples,
            max_clips=MAX_BATCH_CLIPS,
            overhead_samples=max(1, self.overhead_samples),
        )

    def first(self, lengths: Sequence[int]) -> int:
        """How many clips that were planned as one batch go first: all of them unless memory ran out."""
        return first_batch(
            lengths,
            budget_samples=round(self.n_samples * (1 if self.n_halved else SLACK)),
            max_clips=MAX_BATCH_CLIPS,
            fixed_samples=self.fixed_samples,
        )

    def halve(self, lengths: Sequence[int]) -> None:
        """Memory ran out with clips of these lengths together."""
        padded = len(lengths) * (self.fixed_samples or max(lengths))
        self.n_samples = max(1, min(self.n_samples, padded) // 2)
        self.n_halved += 1


def find_budget(
    extractor: Extractor, device: str, *, seconds: float | None, longest_samples: int, layers: Sequence[int]
) -> Budget:
    """The budget asked for, or one that suits the device.

    Args:
        extractor: the model; on a GPU two probe batches go through it.
        device: torch device.
        seconds: padded seconds per forward; None: found here.
        longest_samples: of the longest clip to come.
        layers: layers that will be asked for.
    """
    card = extractor.card
    rate = card.sample_rate_hz
    kind = device.partition(":")[0]
    if seconds is not None:
        n_samples = round(seconds * rate)
    elif kind == "cuda":
        n_samples = _fitting(extractor, device, longest_samples, layers, round(CUDA_MOST_SECONDS * rate))
    else:
        n_samples = round(CPU_SECONDS * rate)
    return Budget(n_samples, card.fixed_samples, overhead_samples=round(OVERHEAD_SECONDS[kind] * rate))


def _fitting(
    extractor: Extractor, device: str, longest_samples: int, layers: Sequence[int], most: int
) -> int:
    """Samples whose forward pass fits the free memory of a GPU, by the costlier of two probe batches."""
    import torch

    from extractors.models.torch_tools import free_caches, is_out_of_memory, probe_clip

    rate = extractor.card.sample_rate_hz
    longest = min(max(longest_samples, rate), round(PROBE_MOST_S * rate), extractor.card.max_samples or most)
    fits = most
    for n_clips, n_samples in ((PROBE_CLIPS, rate), (1, longest)):
        clips = [probe_clip(n_samples)] * n_clips
        free_caches()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        free, _ = torch.cuda.mem_get_info(device)
        try:
            extractor.forward(clips, layers, lambda layer, frames, n_valid: None)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            fits = min(fits, n_clips * n_samples // 2)
            continue
        torch.cuda.synchronize(device)
        used = max(1, torch.cuda.max_memory_allocated(device) - before)
        per_sample = used / (n_clips * (extractor.card.fixed_samples or n_samples))
        fits = min(fits, int(SHARE_OF_FREE * free / per_sample))
    free_caches()
    return fits
