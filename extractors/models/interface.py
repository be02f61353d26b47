"""The interface every model implements, and the card that describes it.

A *source* (`ModelSource`) knows a model without loading its weights: enough to plan, to fingerprint and to
refuse. `load` turns it into an `Extractor`, which embeds clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import torch

Normalisation = Literal["none", "peak", "zero-mean-unit-variance"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
# What a model heard before any fine-tuning.
Domain = Literal["speech", "animal", "audio"]
# What it was trained to tell afterwards: nothing, transcripts, or labels of sounds.
FineTuning = Literal["none", "ASR", "classification"]

# Called once per layer with its frames `[batch, time, features]` and the number of valid frames of each
# clip `[batch]`; frames past a clip's count are padding and hold anything.
OnLayer = Callable[[int, "torch.Tensor", Sequence[int]], None]


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is known of a model; None stands for what is not known.

    Attributes:
        name: last part of its id or folder.
        family: architecture family, for instance ``hubert``.
        n_layers: number of hidden states, the input of the first block included.
        n_features: width of a hidden state.
        sample_rate_hz: rate of the audio it expects.
        hop_samples: samples per frame, or fewer: a clip of n samples has at most ceil(n / hop) + 2 frames.
        normalisation: what it was trained with; how each waveform is normalised unless asked otherwise.
        normalisation_source: where that is known from, for the run's summary.
        receptive_samples: samples under one frame, for a model whose frames lie exactly `hop_samples` apart:
            n samples give (n − receptive) // hop + 1 frames. None where that is not so, or not known.
        max_samples: longest input, or None; longer clips are embedded window by window.
        fixed_samples: length every input is padded to by the model itself, or None.
        exported_by: program whose export the weights come from, where it is not transformers: ``torchaudio``.
        trained: False for seeded random weights and for baselines without weights.
        pooled: a clip gives one vector, not frames; ``mean`` is then that vector and the only functional.
        repeat_short: whether short clips are repeated by default; False where repeating would change
            what the features say (a duration, a spectrum's statistics).
        model_id: id in the catalogue, if it is in there.
        domain: what it was pre-trained on.
        fine_tuning: what it was fine-tuned for.
        training_hours: hours of audio it was pre-trained on.
        licence: of the weights.
        source: where these facts are from.
    """

    name: str
    family: str
    n_layers: int
    n_features: int
    sample_rate_hz: int
    hop_samples: int
    normalisation: Normalisation
    normalisation_source: str
    receptive_samples: int | None = None
    max_samples: int | None = None
    fixed_samples: int | None = None
    exported_by: str | None = None
    trained: bool = True
    pooled: bool = False
    repeat_short: bool = True
    model_id: str | None = None
    domain: Domain | None = None
    fine_tuning: FineTuning | None = None
    training_hours: int | None = None
    licence: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Reference:
    """Somebody else's computation of a model's layers, one clip at a time, on the CPU in float32.

    Attributes:
        name: whose it is, with its version.
        states: waveform `[n_samples]`, as `Extractor.forward` takes it → layers `[t, d]`, all of them.
    """

    name: str
    states: Callable[[np.ndarray], Sequence[np.ndarray]]


class Extractor(Protocol):
    """A loaded model."""

    card: ModelCard

    def n_frames(self, n_samples: int) -> int:
        """Valid frames of a clip of `n_samples` samples at the model's rate; 0 if it is too short.

        Never falls as `n_samples` grows.
        """

    def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
        """Embed clips together, each exactly as it would be alone.

        Args:
            clips: float32 waveforms `[n_samples]` at the model's rate, normalised already.
            layers: increasing hidden state indices; nothing past the last one is computed.
            on_layer: called once per layer, in order, as each is ready.

        Raises:
            ValueError: a clip is too short to give a frame.
        """


@runtime_checkable
class NormalisesOverTime(Protocol):
    """An extractor that normalises over a clip's time: a window must be told of the whole clip."""

    def clip_statistics(self, samples: np.ndarray) -> Any:
        """What the normalisation needs to know of a whole clip `[n_samples]`; None if it needs nothing."""

    def forward_windows(
        self,
        windows: Sequence[np.ndarray],
        statistics: Sequence[Any],
        layers: Sequence[int],
        on_layer: OnLayer,
    ) -> None:
        """As `Extractor.forward`, each window normalised by these statistics; by its own where None."""


@runtime_checkable
class StacksClips(Protocol):
    """An extractor that sends its batches as padded arrays, which any thread may put together."""

    @property
    def sends_batches(self) -> bool:
        """Whether the device is another one than the host's processor: else nothing is gained by `stack`."""

    def stack(self, clips: Sequence[np.ndarray]) -> Sequence[np.ndarray] | None:
        """The same clips, in memory that `forward` sends as it is; None where there is not enough of it."""


@runtime_checkable
class Referenced(Protocol):
    """A source whose model can be computed by somebody else's code too."""

    def reference(self) -> Reference | None:
        """That code with weights of its own loading; None where there is none for this architecture.

        Raises:
            ModelError: see `ModelSource.load`.
        """


@runtime_checkable
class ModelSource(Protocol):
    """A model that is known but not loaded."""

    card: ModelCard

    def fingerprint(self) -> Mapping[str, Any]:
        """What decides its outputs: weights hash, architecture, family."""

    def load(self, device: str, precision: Precision) -> Extractor:
        """Load the weights.

        Raises:
            ModelError: weights are missing, incomplete or do not fit the architecture.
        """
