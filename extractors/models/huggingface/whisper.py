"""The Whisper encoder.

It always sees 30 s: 480,000 samples → 3,000 mel frames → 1,500 encoder frames, with no mask. Padding is
part of its input convention, so batches are exact as they are; statistics belong over the first
ceil(n/320) frames, the ones that cover the clip.

Hidden states are those of ``WhisperEncoder(..., output_hidden_states=True)``: index 0 enters the first
block (after the two convolutions and the positions); the last one is taken after the encoder's final
LayerNorm, as the decoder sees it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from extractors.models.arithmetic import arithmetic
from extractors.models.huggingface.families import Family
from extractors.models.interface import ModelCard, OnLayer, Precision
from extractors.models.torch_tools import LayerTap, count_frames

WINDOW_SAMPLES = 480_000
HOP_SAMPLES = 320


class WhisperExtractor:
    """A Whisper encoder. See `Family.build`."""

    def __init__(
        self, model: Any, preprocessor: Mapping[str, Any], card: ModelCard, device: str, precision: Precision
    ) -> None:
        from transformers import WhisperFeatureExtractor

        self.card = card
        self.encoder = model.encoder.to(device)
        self.feature_extractor = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
        self.device = torch.device(device)
        self.precision = precision
        self.tap = LayerTap(self.encoder.layers, last=self.encoder.layer_norm)

    def n_frames(self, n_samples: int) -> int:
        """Encoder frames that cover `n_samples` samples of one window."""
        return -(-min(n_samples, WINDOW_SAMPLES) // HOP_SAMPLES)

    def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
        """See `Extractor.forward`."""
        frames = count_frames(self, clips)
        mel = self.feature_extractor(
            list(clips),
            sampling_rate=self.card.sample_rate_hz,
            return_tensors="pt",
            padding="max_length",
            device=str(self.device),  # 3,000 spectra per clip, however short it is
        ).input_features
        with torch.inference_mode(), arithmetic(self.device, self.precision):
            self.tap.run(
                layers,
                # Only the covered frames go on: a clip fills a fraction of its window.
                lambda layer, states: on_layer(layer, states[:, : max(frames)], frames),
                lambda: self.encoder(mel.to(self.device)),
            )


def _describe(config: Any, preprocessor: Mapping[str, Any]) -> Mapping[str, Any]:
    if config.max_source_positions * HOP_SAMPLES != WINDOW_SAMPLES:
        raise TypeError(f"expected 1500 encoder positions, got {config.max_source_positions}")
    return {
        "n_layers": config.encoder_layers + 1,
        "n_features": config.d_model,
        "hop_samples": HOP_SAMPLES,
        "sample_rate_hz": 16_000,
        "normalisation": "none",
        "normalisation_source": "Whisper takes raw audio",
        "max_samples": WINDOW_SAMPLES,
        "fixed_samples": WINDOW_SAMPLES,
    }


def _hidden_states(model: Any, _: Mapping[str, Any], clip: np.ndarray) -> list[torch.Tensor]:
    from transformers import WhisperFeatureExtractor

    front_end = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins)
    mel = front_end(clip, sampling_rate=16_000, return_tensors="pt").input_features
    n_frames = -(-len(clip) // HOP_SAMPLES)
    return [state[0, :n_frames] for state in model.encoder(mel, output_hidden_states=True).hidden_states]


FAMILY = Family(
    describe=_describe,
    build=WhisperExtractor,
    reference=_hidden_states,
    keys=frozenset(
        {
            "d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "activation_function",
            "num_mel_bins", "max_source_positions", "scale_embedding",
        }
    ),
    is_read=lambda name: name.startswith("encoder."),
)  # fmt: skip
