"""A model that costs nothing, ``null:LAYERSxFEATURES``: what is measured is the way to it and from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from extractors.models.interface import ModelCard, OnLayer, Precision
from extractors.models.torch_tools import count_frames

HOP, RECEPTIVE = 320, 400


def register(folder: Path) -> None:
    """Leave it in a folder as pip would leave a package that registers an extractor."""
    info = folder / "null_model-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: null-model\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[featurestore.extractors]\nnull = null_model:NullSource\n")


class NullSource:
    """The model before it is loaded; its frames lie as those of HuBERT do."""

    def __init__(self, argument: str | None) -> None:
        layers, features = (int(n) for n in (argument or "13x768").split("x"))
        self.card = ModelCard(
            name=f"null-{layers}x{features}",
            family="null",
            n_layers=layers,
            n_features=features,
            sample_rate_hz=16_000,
            hop_samples=HOP,
            receptive_samples=RECEPTIVE,
            normalisation="zero-mean-unit-variance",
            normalisation_source="as most models want it",
        )

    def fingerprint(self) -> Mapping[str, Any]:
        """See `ModelSource`."""
        return {"family": "null"}

    def load(self, device: str, precision: Precision) -> Null:
        """See `ModelSource`."""
        return Null(self.card)


class Null:
    """Hands out parts of one table of noise, whatever the clips."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self._noise = torch.randn(1 << 22)

    def n_frames(self, n_samples: int) -> int:
        """See `Extractor`."""
        return max(0, (n_samples - RECEPTIVE) // HOP + 1)

    def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
        """See `Extractor`."""
        frames = count_frames(self, clips)
        shape = (len(clips), max(frames), self.card.n_features)
        n = int(np.prod(shape))
        if n > len(self._noise):
            self._noise = torch.randn(n)
        for layer in layers:
            on_layer(layer, self._noise[:n].view(shape), frames)
