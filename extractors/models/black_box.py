"""Models known only by what they return: clips of equal length run together, all others apart.

Nothing is known of how such a model treats padding, so no clip is ever padded. Whether it may see several
clips at once is measured when it is loaded: if two clips together give other values than each alone (a
statistic over the batch, say), every clip runs alone.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from extractors.models.arithmetic import arithmetic
from extractors.models.interface import ModelCard, OnLayer, Precision
from extractors.models.torch_tools import count_frames, is_out_of_memory, probe_clip

# `[b, n]` on the model's device, layers wanted → frames of each of them, `[b, t, d]`.
Embed = Callable[[torch.Tensor, Sequence[int]], Sequence[torch.Tensor]]

# Together and apart must agree this far, relative to the largest value.
_SAME = {"fp32": 1e-5, "tf32": 1e-3, "bf16": 1e-2, "fp16": 1e-2}
# What models raise for a clip too short for them.
_TOO_SHORT = (RuntimeError, ValueError, IndexError, AssertionError, ZeroDivisionError)


class FrameCounter:
    """Frames by clip length, measured once where needed: the count never falls as clips grow.

    Args:
        measure: frames of a clip of so many samples; may raise if it is too short.
        enough_samples: a length that certainly gives frames.
    """

    def __init__(self, measure: Callable[[int], int], enough_samples: int) -> None:
        self._measure = measure
        self._lengths = [enough_samples]
        self._counts = [measure(enough_samples)]
        # Bisection down to the shortest clip with a frame, so that shorter ones need no measurement.
        short, long = 0, enough_samples
        while long - short > 1:
            middle = (short + long) // 2
            if self._insert(middle) > 0:
                long = middle
            else:
                short = middle
        self.shortest = long

    def __call__(self, n_samples: int) -> int:
        """Frames of a clip of `n_samples`."""
        if n_samples < 1:
            return 0
        i = bisect.bisect_left(self._lengths, n_samples)
        if i < len(self._lengths):
            above = self._counts[i]
            if self._lengths[i] == n_samples or above == 0 or (i > 0 and self._counts[i - 1] == above):
                return above
        return self._insert(n_samples)

    def _insert(self, n_samples: int) -> int:
        try:
            count = self._measure(n_samples)
        except _TOO_SHORT as error:
            if n_samples > self._lengths[-1] or is_out_of_memory(error):
                raise
            count = 0
        i = bisect.bisect_left(self._lengths, n_samples)
        self._lengths.insert(i, n_samples)
        self._counts.insert(i, count)
        return count


def measured_hop(measure: Callable[[int], int], sample_rate_hz: int, most_samples: int | None = None) -> int:
    """Samples per frame, low enough that n samples never give more than ceil(n / hop) + 2 frames.

    Args:
        measure: frames of a clip of so many samples; one second, or `most_samples`, must give some.
        sample_rate_hz: of the model.
        most_samples: longest clip it takes; None: any.
    """
    second, ten = (min(n, most_samples or n) for n in (sample_rate_hz, 10 * sample_rate_hz))
    counter = FrameCounter(measure, second)
    lengths = [counter.shortest, second, ten]
    counts = [counter(n) for n in lengths]
    # Frames beyond the two that the bound allows anyway, at both ends of a line that does not bend upwards.
    hops = [n // max(1, c - 2) for n, c in zip(lengths, counts, strict=True)]
    if counts[2] > counts[1]:
        hops.append((lengths[2] - lengths[1]) // (counts[2] - counts[1]))
    return max(1, min(hops))


def probe_pair(n_samples: int) -> np.ndarray:
    """Two clips `[2, n_samples]` of which one is louder, for `same_together`."""
    return np.stack([probe_clip(n_samples), 3 * probe_clip(n_samples, seed=1)])


def same_together(
    run: Callable[[np.ndarray], Sequence[torch.Tensor]], clips: np.ndarray, precision: Precision
) -> bool:
    """Whether clips `[b, n]` run at once give what each gives alone.

    Args:
        run: a batch `[b, n]` → of each layer `[b, …]`.
        clips: of one length.
        precision: of the arithmetic, which decides how near is the same.
    """
    together = run(clips)
    for i in range(len(clips)):
        for a, b in zip(together, run(clips[i : i + 1]), strict=True):
            if a.shape[1:] != b.shape[1:]:
                return False
            scale = float(b.abs().max())
            if float((a[i] - b[0]).abs().max()) > _SAME[precision] * scale:
                return False
    return True


class MeasuredExtractor:
    """A model behind a function.

    Args:
        embed: the function; frames of the layers asked for.
        card: its card.
        device: torch device it is on.
        precision: see `Family.build`.
    """

    def __init__(self, embed: Embed, card: ModelCard, device: str, precision: Precision) -> None:
        self.card = card
        self.device = torch.device(device)
        self.precision = precision
        self._embed = embed
        # A second, or as much as the model takes.
        self._enough_samples = min(card.sample_rate_hz, card.max_samples or card.sample_rate_hz)
        self.n_frames = FrameCounter(self._measure, self._enough_samples)
        self.runs_together = self._check_together()

    def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
        """See `Extractor.forward`."""
        frames = count_frames(self, clips)
        groups: dict[int, list[int]] = defaultdict(list)
        for i, clip in enumerate(clips):
            groups[len(clip) if self.runs_together else -i].append(i)
        found: dict[int, list[torch.Tensor]] = {}  # clip → of each layer [t, d]
        for members in groups.values():
            states = self._run(np.stack([clips[i] for i in members]), layers)
            for row, i in enumerate(members):
                found[i] = [state[row] for state in states]
        for place, layer in enumerate(layers):
            per_clip = [found[i][place] for i in range(len(clips))]
            on_layer(layer, pad_sequence(per_clip, batch_first=True), frames)

    def _run(self, batch: np.ndarray, layers: Sequence[int]) -> Sequence[torch.Tensor]:
        # no_grad, not inference mode: foreign code may keep tensors and write to them later.
        with torch.no_grad(), arithmetic(self.device, self.precision):
            return self._embed(torch.from_numpy(batch).to(self.device), layers)

    def _measure(self, n_samples: int) -> int:
        states = self._run(probe_clip(n_samples)[None], [self.card.n_layers - 1])
        return int(states[-1].shape[1])

    def _check_together(self) -> bool:
        layers = list(range(self.card.n_layers))
        pair = probe_pair(self._enough_samples)
        return same_together(lambda batch: self._run(batch, layers), pair, self.precision)
