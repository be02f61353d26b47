"""How much audio a forward pass may hold: found by itself, halved when memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Sequence

from extractors.forward.batching import cut_batches, plan_batches
from extractors.models.interface import Extractor

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

    def regroup(self, lengths: Sequence[int]) -> list[range]:
        """As `cut`, for clips that were planned as one batch: that batch again unless memory ran out."""
        return cut_batches(
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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is what PyTorch, NumPy or Python raise when memory runs out."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("not enough memory" in text or "DefaultCPUAllocator" in text)


def free_caches() -> None:
    """Give back what the failed pass left behind."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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

    from extractors.models.black_box import probe_clip

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
