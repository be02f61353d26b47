"""Networks that take so many samples and no others: shorter clips stand in zeros."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch

from extractors.models.interface import ModelCard, OnLayer
from extractors.models.torch_tools import count_frames

# Windows `[b, window]`, layers wanted → of each `[b, t, d]`, or `[b, d]` of vectors.
RunWindows = Callable[[np.ndarray, Sequence[int]], Sequence[np.ndarray]]
# Into how many parts a window is divided to say how much of it a clip fills, where the network gives one
# vector for all of it. The vectors of a clip in several windows weigh by them.
VECTOR_POSITIONS = 64


class PaddedWindowExtractor:
    """One window of zeros around every clip, and of its frames those over the clip.

    Args:
        card: its card, which has `fixed_samples`.
        run: the network.
        n_positions: positions in time of a window.
        padding: where the zeros stand.
        together: whether windows that run at once give what each gives alone; else they run one by one.
    """

    def __init__(
        self,
        card: ModelCard,
        run: RunWindows,
        n_positions: int,
        *,
        padding: Literal["right", "both"] = "right",
        together: bool = False,
    ) -> None:
        assert card.fixed_samples is not None
        self.card = card
        self.runs_together = together
        self._window = card.fixed_samples
        self._run = run
        self._n_positions = n_positions
        self._padding = padding

    def n_frames(self, n_samples: int) -> int:
        """Positions in time that cover `n_samples` samples of one window."""
        return -(-min(n_samples, self._window) * self._n_positions // self._window)

    def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
        """See `Extractor.forward`."""
        frames = count_frames(self, clips)
        if max(len(clip) for clip in clips) > self._window:
            raise ValueError(f"{self.card.name}: a clip is longer than {self._window} samples")
        if not layers:
            return
        windows = np.stack([self._padded(clip) for clip in clips])
        step = len(windows) if self.runs_together else 1
        found = [self._run(windows[i : i + step], layers) for i in range(0, len(windows), step)]
        for place, layer in enumerate(layers):
            states = torch.from_numpy(np.concatenate([of_group[place] for of_group in found]))
            if states.ndim == 2:
                # One vector of all of the window: the same at every position in time.
                states = states[:, None].expand(-1, max(frames), -1)
            elif self._padding == "both":
                states = self._over_clips(states, frames)
            on_layer(layer, states, frames)

    def _padded(self, clip: np.ndarray) -> np.ndarray:
        window = np.zeros(self._window, dtype=np.float32)
        before = (self._window - len(clip)) // 2 if self._padding == "both" else 0
        window[before : before + len(clip)] = clip
        return window

    def _over_clips(self, states: torch.Tensor, frames: Sequence[int]) -> torch.Tensor:
        """Frames `[b, t, d]` whose first are those over the clip, where it stands in the middle."""
        kept = torch.zeros_like(states[:, : max(frames)])
        for row, n in enumerate(frames):
            first = (self._n_positions - n) // 2
            kept[row, :n] = states[row, first : first + n]
        return kept
