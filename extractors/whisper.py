"""The Whisper encoder.

It always sees 30 s: 480,000 samples → 3,000 mel frames → 1,500 encoder frames, with no mask. Padding is
part of its input convention, so batches are exact as they are; statistics belong over the first
ceil(n/320) frames, the ones that cover the clip.

Hidden states are those of ``WhisperEncoder(..., output_hidden_states=True)``: the last one is taken after
the encoder's final LayerNorm, as the decoder sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from extractors.base import ModelCard, OnLayer, Precision
from extractors.ssl import AUTOCAST_DTYPES, _Enough

WINDOW_SAMPLES = 480_000
HOP_SAMPLES = 320


class WhisperExtractor:
    """A Whisper encoder.

    Args:
        encoder: `WhisperEncoder` in eval mode.
        feature_extractor: `WhisperFeatureExtractor` with the model's number of mel bands.
        card: its card.
        device: torch device it is on.
        precision: see `SslExtractor`.
    """

    def __init__(
        self, encoder: Any, feature_extractor: Any, card: ModelCard, device: str, precision: Precision
    ) -> None:
        self.card = card
        self.encoder = encoder
        self.feature_extractor = feature_extractor
        self.device = torch.device(device)
        self.precision = precision
        self._on_layer: OnLayer | None = None
        self._layers: tuple[int, ...] = ()
        self._n_valid: list[int] = []
        blocks = encoder.layers
        blocks[0].register_forward_pre_hook(
            lambda module, args, kwargs: self._hand_out(0, args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )
        for k, block in enumerate(blocks, start=1):
            target = encoder.layer_norm if k == len(blocks) else block
            target.register_forward_hook(
                lambda module, args, out, k=k: self._hand_out(k, out[0] if isinstance(out, tuple) else out)
            )

    def n_frames(self, n_samples: int) -> int:
        """Encoder frames that cover `n_samples` samples of one window."""
        return -(-min(n_samples, WINDOW_SAMPLES) // HOP_SAMPLES)

    def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
        """See `Extractor.forward`."""
        mel = self.feature_extractor(
            list(clips), sampling_rate=self.card.sample_rate_hz, return_tensors="pt", padding="max_length"
        ).input_features
        self._n_valid = [self.n_frames(len(c)) for c in clips]
        self._on_layer, self._layers = on_layer, tuple(layers)
        dtype = AUTOCAST_DTYPES.get(self.precision)
        autocast = nullcontext() if dtype is None else torch.autocast(self.device.type, dtype=dtype)
        with torch.inference_mode(), autocast:
            try:
                self.encoder(mel.to(self.device))
            except _Enough:
                pass
            finally:
                self._on_layer = None

    def _hand_out(self, layer: int, frames: torch.Tensor) -> None:
        if layer in self._layers and self._on_layer is not None:
            # Only the covered frames go on: a clip fills a fraction of its window.
            self._on_layer(layer, frames[:, : max(self._n_valid)], self._n_valid)
        if not self._layers or layer >= self._layers[-1]:
            raise _Enough
