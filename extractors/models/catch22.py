"""``catch22[:RATE]``: 22 canonical time-series features of the whole waveform, one vector per clip.

Lubba et al. 2019 (doi:10.1007/s10618-019-00647-x), computed by pycatch22. They do not respond to the
waveform's mean or scale. A feature that a clip is too short for has pycatch22's value for that case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from extractors.models.interface import Extractor, ModelCard, OnLayer, Precision
from extractors.models.logmel_mfcc import baseline_card, parse_rate
from extractors.models.torch_tools import count_frames
from featurestore.errors import DependencyMissing

N_FEATURES = 22
# Two points make a line and nothing to describe; from here on most features are estimates.
MIN_SAMPLES = 100


class Catch22Source:
    """The features of `pycatch22.catch22_all`, in its order.

    Raises:
        DependencyMissing: pycatch22 is not installed.
    """

    def __init__(self, argument: str | None = None) -> None:
        rate = parse_rate("catch22", argument)
        try:
            import pycatch22  # noqa: F401
        except ImportError as error:
            raise DependencyMissing(
                "--model catch22: needs pycatch22; pip install 'featurestore-audio[catch22]'"
            ) from error
        self.card = baseline_card(
            "catch22",
            rate,
            n_features=N_FEATURES,
            hop_samples=None,
            source="doi:10.1007/s10618-019-00647-x",
        )

    def fingerprint(self) -> Mapping[str, Any]:
        """See `ModelSource.fingerprint`."""
        return {"family": "catch22", "pycatch22": version("pycatch22")}

    def load(self, device: str, precision: Precision) -> Extractor:
        """See `ModelSource.load`; always on the CPU, in double precision."""
        return Catch22Extractor(self.card)


class Catch22Extractor:
    """One clip after the other: about 3 ms per thousand samples."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def n_frames(self, n_samples: int) -> int:
        """One vector per clip."""
        return int(n_samples >= MIN_SAMPLES)

    def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
        """See `Extractor.forward`."""
        from pycatch22 import catch22_all

        frames = count_frames(self, clips)
        values = [catch22_all(clip.astype(np.float64))["values"] for clip in clips]
        if 0 in layers:
            on_layer(0, torch.tensor(values, dtype=torch.float32)[:, None, :], frames)
