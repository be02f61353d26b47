"""Batches: how clips are cut into them, and how much audio one may hold, halved when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from extractors.models.interface import Extractor, ModelCard
from featurestore.arrays import Float64Array, IntArray
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
# Probe batches: few and many clips of a second, and one as long as the longest to come (attention may grow
# faster than length), up to this.
PROBE_CLIPS = (8, 32)
PROBE_MOST_S = 60.0
# A CPU gains nothing from more; on a GPU memory alone decides.
MAX_BATCH_CLIPS = {"cpu": 256, "cuda": 1 << 16}
# What clips of different frame counts cost on top, as a share of the batch: attention takes a mask then, and
# the quickest kernels of a GPU take none; the norm over time looks at each clip's own frames. 0.12 was
# measured on two cores (benchmarks/batches.py --mask); of a GPU this is an estimate.
MASK_SHARE = 0.1
# Batches whose costs are reckoned at once: 2 MB of each number.
_PLANNED_AT_ONCE = 1 << 18
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
    lengths: Sequence[int],
    *,
    budget_samples: int,
    max_clips: int,
    overhead_samples: int,
    n_frames: Sequence[int] | None = None,
    mask_share: float = 0.0,
) -> list[range]:
    """Consecutive batches within a budget that cost least: padding, masks and the batch itself are counted.

    The best cut of clips 0 … j follows from the best cuts of fewer clips (dynamic programming over the
    place of the last cut), O(n · max_clips).

    Args:
        lengths: samples per clip, in row order.
        budget_samples: most samples of a batch after padding; a single longer clip is a batch alone.
        max_clips: most clips of a batch.
        overhead_samples: what a batch costs besides its samples, in samples.
        n_frames: frames per clip; clips of a batch that have the same need no mask. None: none needs one.
        mask_share: what a batch that needs a mask costs more, of its padded samples.
    """
    if not len(lengths):
        return []
    n = np.asarray(lengths, dtype=np.int64)
    frames = np.zeros_like(n) if n_frames is None else np.asarray(n_frames, dtype=np.int64)
    # No batch holds more of the shortest clips than that.
    most = min(max_clips, len(n), max(1, budget_samples // max(1, int(n.min()))))
    # From the last place backwards: of batches that end at a place, the smallest first, costs lie in a row.
    cost_behind = np.zeros(len(n) + 1)
    start_of = np.zeros(len(n) + 1, dtype=np.int64)
    costs = _batch_costs(n, frames, most, budget_samples, overhead_samples, mask_share)
    for stop, own in enumerate(costs, start=1):
        at = len(n) - stop
        total = cost_behind[at + 1 : at + 1 + most] + own[: min(stop, most)]
        best = int(total.argmin())
        cost_behind[at], start_of[stop] = total[best], stop - 1 - best
    batches = []
    stop = len(n)
    while stop:
        batches.append(range(int(start_of[stop]), stop))
        stop = int(start_of[stop])
    return batches[::-1]


def _batch_costs(
    n: IntArray, frames: IntArray, most: int, budget_samples: int, overhead_samples: int, mask_share: float
) -> Iterator[Float64Array]:
    """For every place behind a clip, what the batches of 1 to `most` clips that end there cost `[most]`.

    Infinite where that is beyond the budget. Many places are reckoned at once: step by step this takes as
    long as to decode a short clip.
    """
    sizes = np.arange(1, most + 1)
    # What stands before the first clip is beyond any budget.
    before = np.full(most - 1, budget_samples + 1)
    lengths = sliding_window_view(np.concatenate([before, n]), most)[:, ::-1]
    counts = sliding_window_view(np.concatenate([before, frames]), most)[:, ::-1]
    step = max(1, _PLANNED_AT_ONCE // most)
    for first in range(0, len(n), step):
        some = slice(first, first + step)
        longest = np.maximum.accumulate(lengths[some], axis=1)
        padded = longest * sizes
        differs = np.logical_or.accumulate(counts[some] != counts[some, :1], axis=1)
        cost = padded * (1 + mask_share * differs) + overhead_samples
        # Padded sizes never fall as a batch grows; a clip alone is always allowed.
        cost[:, 1:][padded[:, 1:] > budget_samples] = np.inf
        yield from cost


@dataclass(frozen=True, kw_only=True)
class BatchCosts:
    """What a batch costs besides its padded samples, and how many clips it may hold.

    Attributes:
        overhead_samples: the batch itself, in samples.
        mask_share: a mask, of the batch's padded samples.
        max_clips: most clips of a batch.
        hop_samples, receptive_samples: where frames lie, see `ModelCard`; a hop of 0 where no mask is needed
            or nothing is known.
    """

    overhead_samples: int = 0
    mask_share: float = 0.0
    max_clips: int = MAX_BATCH_CLIPS["cpu"]
    hop_samples: int = 0
    receptive_samples: int = 0

    @classmethod
    def of(cls, card: ModelCard, device: str) -> BatchCosts:
        """Of a model on a kind of device, ``cpu`` or ``cuda``."""
        costs = cls(
            overhead_samples=round(OVERHEAD_SECONDS[device] * card.sample_rate_hz),
            max_clips=MAX_BATCH_CLIPS[device],
        )
        if card.receptive_samples is None or card.fixed_samples:
            return costs
        return replace(
            costs,
            mask_share=MASK_SHARE,
            hop_samples=card.hop_samples,
            receptive_samples=card.receptive_samples,
        )

    def n_frames(self, lengths: Sequence[int]) -> list[int] | None:
        """Frames of clips of these lengths; None where they decide nothing."""
        if not self.hop_samples:
            return None
        return [(n - self.receptive_samples) // self.hop_samples for n in lengths]


class Budget:
    """Most padded samples of one forward pass.

    Args:
        n_samples: at the model's rate.
        fixed_samples: length the model pads every input to, if it does.
        costs: what else decides how batches are cut.
    """

    def __init__(
        self, n_samples: int, fixed_samples: int | None = None, costs: BatchCosts | None = None
    ) -> None:
        self.fixed_samples = fixed_samples
        self.costs = costs or BatchCosts()
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
            max_clips=self.costs.max_clips,
            overhead_samples=max(1, self.costs.overhead_samples),
            n_frames=self.costs.n_frames(lengths),
            mask_share=self.costs.mask_share,
        )

    def first(self, lengths: Sequence[int]) -> int:
        """How many clips that were planned as one batch go first: all of them unless memory ran out."""
        return first_batch(
            lengths,
            budget_samples=round(self.n_samples * (1 if self.n_halved else SLACK)),
            max_clips=self.costs.max_clips,
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
        extractor: the model; on a GPU three probe batches go through it.
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
    return Budget(n_samples, card.fixed_samples, BatchCosts.of(card, kind))


def _fitting(
    extractor: Extractor, device: str, longest_samples: int, layers: Sequence[int], most: int
) -> int:
    """Samples whose forward pass fits the free memory of a GPU."""
    import torch

    from extractors.models.torch_tools import free_caches, is_out_of_memory, probe_clip

    def used(n_clips: int, n_samples: int) -> int | None:
        """Bytes that a batch takes at its peak; None where they are not there."""
        clips = [probe_clip(n_samples)] * n_clips
        free_caches()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        try:
            extractor.forward(clips, layers, lambda layer, frames, n_valid: None)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before

    card = extractor.card
    longest = min(max(longest_samples, card.sample_rate_hz), round(PROBE_MOST_S * card.sample_rate_hz))
    longest = card.fixed_samples or min(longest, card.max_samples or longest)
    second = card.fixed_samples or card.sample_rate_hz
    free_caches()
    free, _ = torch.cuda.mem_get_info(device)
    fits = samples_that_fit(used, free, second=second, longest=longest, most=most)
    free_caches()
    return fits


def samples_that_fit(
    used: Callable[[int, int], int | None], free_bytes: int, *, second: int, longest: int, most: int
) -> int:
    """Padded samples whose forward pass takes no more than a share of the free memory.

    Two batches of clips of a second tell what a batch takes whatever its size (workspaces of convolutions)
    from what each sample takes; a long clip, whether samples of long clips take more.

    Args:
        used: bytes that a batch of so many clips of so many samples takes; None where memory ran out.
        free_bytes: that a batch may find.
        second: samples of a clip of the short batches.
        longest: samples of the longest clip to come.
        most: samples beyond which nothing is gained.
    """
    share = SHARE_OF_FREE * free_bytes
    few, many = (n * second for n in PROBE_CLIPS)
    of_few = used(PROBE_CLIPS[0], second)
    if of_few is None:
        return max(1, few // 2)
    of_many = used(PROBE_CLIPS[1], second)
    if of_many is None:
        return max(1, min(many // 2, int(share * few / max(1, of_few))))
    # Of a batch so small that its peak is a workspace, no sample seems to take anything.
    per_sample = max((of_many - of_few) / (many - few), of_many / many / 4, 1e-9)
    fixed = max(0.0, of_many - per_sample * many)
    fits = (share - fixed) / per_sample
    of_longest = used(1, longest)
    if of_longest is None:
        fits = min(fits, longest // 2)
    else:
        fits = min(fits, (share - fixed) * longest / max(1.0, of_longest - fixed))
    return int(min(most, max(1.0, fits)))
