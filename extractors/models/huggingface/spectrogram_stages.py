"""Networks over a spectrogram of fixed length whose width grows: an embedding, or the blocks of one stage.

A key of the store has one width and one number of frames per clip; such a network has several of both. So a
model is its *embedding*, one vector for a window, and ``stage-K:MODEL`` the blocks of stage K, as of BirdNET.
Frames of a stage are its positions in time, the mean over frequency; those that begin within the clip count.

Every window is computed whole, whatever lies in it, so that a batch is exact by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import nn

from extractors.models.arithmetic import arithmetic
from extractors.models.interface import ModelCard, OnLayer, Precision
from extractors.models.torch_tools import LayerTap, count_frames

# Into how many parts a window is divided to say how much of it a clip fills: its vectors weigh by them.
VECTOR_POSITIONS = 64


@dataclass(frozen=True, kw_only=True)
class Positions:
    """Where the frames of a window lie.

    Attributes:
        window_samples: of every window.
        n_positions: of them.
        hop: samples from one to the next, or a fraction.
    """

    window_samples: int
    n_positions: int
    hop: Fraction

    def begun(self, n_samples: int) -> int:
        """How many begin within so many samples."""
        return min(self.n_positions, math.ceil(min(n_samples, self.window_samples) / self.hop))


def side_by_side(window_samples: int, n_positions: int) -> Positions:
    """Equal parts of a window."""
    hop = Fraction(window_samples, n_positions)
    return Positions(window_samples=window_samples, n_positions=n_positions, hop=hop)


def of_vector(window_samples: int) -> Positions:
    """Those of an embedding, which says the same at every one."""
    return side_by_side(window_samples, VECTOR_POSITIONS)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The part of a loaded network whose blocks are layers.

    Attributes:
        blocks: its blocks.
        entered: whether layer 0 is what enters the first block; else layer k is what leaves block k + 1.
        last: see `LayerTap`.
        frames: what a block hands on → `[b, t, d]`.
    """

    blocks: Sequence[nn.Module]
    frames: Callable[[torch.Tensor], torch.Tensor]
    entered: bool = True
    last: nn.Module | None = None


class SpectrogramExtractor:
    """An embedding, or a stage.

    Args:
        card: its card, which has `fixed_samples`.
        model: on its device.
        device: torch device it is on.
        precision: see `Family.build`.
        positions: of its frames.
        window: clip → the waveform that fills the window.
        inputs: waveforms `[b, window]` on the device → what the network takes, float32.
        forward: the network's own forward, to its embedding `[b, d]`.
        stage: what to take of it; None: the embedding.
    """

    def __init__(
        self,
        card: ModelCard,
        model: nn.Module,
        device: str,
        precision: Precision,
        *,
        positions: Positions,
        window: Callable[[np.ndarray], np.ndarray],
        inputs: Callable[[torch.Tensor], torch.Tensor],
        forward: Callable[[torch.Tensor], torch.Tensor],
        stage: Stage | None,
    ) -> None:
        self.card = card
        self.model = model
        self.device = torch.device(device)
        self.precision = precision
        self._positions = positions
        self._window, self._inputs, self._forward = window, inputs, forward
        self._stage = stage
        self._tap = None if stage is None else LayerTap(stage.blocks, stage.last, entered=stage.entered)

    def n_frames(self, n_samples: int) -> int:
        """Positions that begin within the clip."""
        return self._positions.begun(n_samples)

    def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
        """See `Extractor.forward`."""
        frames = count_frames(self, clips)
        if max(len(clip) for clip in clips) > self._positions.window_samples:
            raise ValueError(
                f"{self.card.name}: a clip is longer than {self._positions.window_samples} samples"
            )
        windows = torch.from_numpy(np.stack([self._window(clip) for clip in clips])).to(self.device)
        with torch.inference_mode():
            inputs = self._inputs(windows)
            with arithmetic(self.device, self.precision):
                if self._tap is None or self._stage is None:
                    for layer in layers:
                        # The same at every position in time.
                        vectors = self._forward(inputs)[:, None]
                        on_layer(layer, vectors.expand(-1, max(frames), -1), frames)
                    return
                to_frames = self._stage.frames
                self._tap.run(
                    layers,
                    lambda layer, states: on_layer(layer, to_frames(states)[:, : max(frames)], frames),
                    lambda: self._forward(inputs),
                )


def handed_on(modules: Sequence[nn.Module], run: Callable[[], object]) -> list[torch.Tensor]:
    """What enters the first of some modules, and what leaves each, while their network runs.

    For references: plain hooks on a network that nothing was changed of, where `LayerTap` also ends the run
    after the last layer that is asked for.
    """
    found: list[torch.Tensor] = []

    def left(_: nn.Module, __: Any, out: Any) -> None:
        found.append((out[0] if isinstance(out, tuple) else out).clone())

    hooks = [modules[0].register_forward_pre_hook(lambda _, given: found.append(given[0].clone()))]
    hooks += [module.register_forward_hook(left) for module in modules]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def over_frequency(states: torch.Tensor) -> torch.Tensor:
    """Maps `[b, d, frequency, t]` as frames `[b, t, d]`: the mean over frequency."""
    return states.float().mean(2).transpose(1, 2)


def zeros_behind(window_samples: int) -> Callable[[np.ndarray], np.ndarray]:
    """What puts zeros behind a clip, to a window of so many samples."""

    def padded(clip: np.ndarray) -> np.ndarray:
        window = np.zeros(window_samples, dtype=np.float32)
        window[: len(clip)] = clip
        return window

    return padded


def card_fields(
    *, n_layers: int, n_features: int, sample_rate_hz: int, positions: Positions, pooled: bool
) -> Mapping[str, Any]:
    """Fields of a `ModelCard` that are alike in all of these networks."""
    return {
        "n_layers": n_layers,
        "n_features": n_features,
        "sample_rate_hz": sample_rate_hz,
        "hop_samples": max(1, math.floor(positions.hop)),
        "normalisation": "none",
        "normalisation_source": "the model scales its spectrogram itself",
        "max_samples": positions.window_samples,
        "fixed_samples": positions.window_samples,
        "pooled": pooled,
        # What is short is filled up to the window as the model's authors do.
        "repeat_short": False,
    }
