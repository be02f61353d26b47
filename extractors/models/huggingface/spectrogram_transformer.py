"""AST, the Audio Spectrogram Transformer: patches of a log-mel spectrogram of fixed length.

The spectrogram (128 mel bands, 1,024 frames of 10 ms in the published models) is padded to its full length,
and the padding is attended to: that is the model's input convention, so batches are exact as they are. It
is cut into patches of 16 × 16 with stride 10: 12 patches in frequency by 101 in time, behind a CLS and a
distillation token.

A *frame* here is one position in time: the mean of its patches over frequency, 10 frames per second. The
two leading tokens are left out (they look at the padding as much as at the clip). Statistics are over the
first ceil(m/stride) positions of a clip of m mel frames, those whose patch begins within the clip. Hidden
state 0 enters the first block (patches plus positions), state k leaves block k, before the final LayerNorm.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from extractors.models.arithmetic import arithmetic
from extractors.models.huggingface.families import Family
from extractors.models.huggingface.kaldi_fbank import (
    HOP_SAMPLES,
    SAMPLE_RATE_HZ,
    WINDOW_SAMPLES,
    KaldiFilterBank,
    n_mel_frames,
)
from extractors.models.interface import ModelCard, OnLayer, Precision
from extractors.models.torch_tools import LayerTap, PaddedInput, count_frames, padded_batch, sent

# Defaults of `ASTFeatureExtractor`: statistics of AudioSet.
AUDIOSET_MEAN = -4.2677393
AUDIOSET_STD = 4.5689974
# The CLS and the distillation token.
N_LEADING_TOKENS = 2


@dataclass(frozen=True, kw_only=True)
class PatchGrid:
    """Patches of one input: their number in frequency and time, and the mel frames they cover."""

    n_frequency: int
    n_time: int
    time_stride: int
    patch_size: int
    n_mels: int
    n_mel_frames: int

    @classmethod
    def of(cls, config: Any) -> PatchGrid:
        """From an `ASTConfig`.

        Raises:
            TypeError: patches that are not square.
        """
        if not isinstance(config.patch_size, int):
            raise TypeError(f"expected square patches, got patch_size {config.patch_size}")
        return cls(
            n_frequency=(config.num_mel_bins - config.patch_size) // config.frequency_stride + 1,
            n_time=(config.max_length - config.patch_size) // config.time_stride + 1,
            time_stride=config.time_stride,
            patch_size=config.patch_size,
            n_mels=config.num_mel_bins,
            n_mel_frames=config.max_length,
        )

    @property
    def max_samples(self) -> int:
        """Longest clip of which every mel frame lies in a patch; the last few frames lie in none."""
        covered = (self.n_time - 1) * self.time_stride + self.patch_size
        return WINDOW_SAMPLES + HOP_SAMPLES * (covered - 1)

    def n_frames(self, n_samples: int) -> int:
        """Positions in time whose patch begins within a clip of so many samples."""
        mel_frames = min(n_mel_frames(n_samples), self.n_mel_frames)
        return min(-(-mel_frames // self.time_stride), self.n_time)


class AstExtractor(PaddedInput):
    """An `ASTModel`. See `Family.build`; the filter bank is always computed in float64."""

    def __init__(
        self, model: Any, preprocessor: Mapping[str, Any], card: ModelCard, device: str, precision: Precision
    ) -> None:
        self.card = card
        self.model = model.to(device)
        self.device = torch.device(device)
        self.precision = precision
        self._grid = PatchGrid.of(model.config)
        # The log-mel spectrogram is scaled to (x − mean) / (2 std), as `ASTFeatureExtractor` does.
        self._mean = float(preprocessor.get("mean", AUDIOSET_MEAN))
        self._std = float(preprocessor.get("std", AUDIOSET_STD))
        self._is_scaled = bool(preprocessor.get("do_normalize", True))
        self._bank = KaldiFilterBank(n_mels=self._grid.n_mels, window="hann", scale=1.0, device=self.device)
        self.tap = LayerTap(model.layers)

    def n_frames(self, n_samples: int) -> int:
        """Positions in time whose patch begins within the clip."""
        return self._grid.n_frames(n_samples)

    def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
        """See `Extractor.forward`."""
        frames = count_frames(self, clips)

        def receive(layer: int, tokens: torch.Tensor) -> None:
            patches = tokens[:, N_LEADING_TOKENS:]
            # [b, frequency · time, d], frequency first → [b, time, d]
            grid = patches.reshape(len(clips), self._grid.n_frequency, self._grid.n_time, -1)
            on_layer(layer, grid.float().mean(1)[:, : max(frames)], frames)

        with torch.inference_mode():
            inputs = self._inputs(clips)
            with arithmetic(self.device, self.precision):
                self.tap.run(layers, receive, lambda: self.model(inputs))

    def _inputs(self, clips: Sequence[np.ndarray]) -> torch.Tensor:
        """Scaled spectrograms of the model's length: float32 `[b, time, mels]`."""
        full = self._grid.n_mel_frames
        bands = self._bank(padded_batch(clips, self.device)).float()[:, :full]
        counts = sent(np.array([n_mel_frames(len(c)) for c in clips]), self.device)[:, None, None]
        past = torch.arange(bands.shape[1], device=self.device)[None, :, None] >= counts
        padded = F.pad(bands.masked_fill(past, 0.0), (0, 0, 0, full - bands.shape[1]))
        return (padded - self._mean) / (2 * self._std) if self._is_scaled else padded


def _describe(config: Any, preprocessor: Mapping[str, Any]) -> Mapping[str, Any]:
    grid = PatchGrid.of(config)
    for key, value in (("max_length", grid.n_mel_frames), ("num_mel_bins", grid.n_mels)):
        if preprocessor.get(key, value) != value:
            raise TypeError(f"{key} is {value} here and {preprocessor[key]} in preprocessor_config.json")
    return {
        "n_layers": config.num_hidden_layers + 1,
        "n_features": config.hidden_size,
        "hop_samples": grid.time_stride * HOP_SAMPLES,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "normalisation": "none",
        "normalisation_source": "AST scales its spectrogram itself",
        "max_samples": grid.max_samples,
        "fixed_samples": grid.max_samples,
    }


def _hidden_states(model: Any, preprocessor: Mapping[str, Any], clip: np.ndarray) -> list[torch.Tensor]:
    """See `Family.reference`: the published front end, and the mean over frequency of its patches' tokens."""
    from transformers import ASTFeatureExtractor

    grid = PatchGrid.of(model.config)
    with warnings.catch_warnings():
        # The published bands have some that hold no bin of the FFT.
        warnings.filterwarnings("ignore", message="At least one mel filter")
        front_end = ASTFeatureExtractor(
            num_mel_bins=grid.n_mels,
            max_length=grid.n_mel_frames,
            mean=preprocessor.get("mean", AUDIOSET_MEAN),
            std=preprocessor.get("std", AUDIOSET_STD),
            do_normalize=preprocessor.get("do_normalize", True),
        )
        inputs = front_end(clip, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")
    n_frames = grid.n_frames(len(clip))
    states = []
    for tokens in model(**inputs, output_hidden_states=True).hidden_states:
        of_frequency = tokens[0, N_LEADING_TOKENS:].chunk(grid.n_frequency)
        states.append(torch.stack([of_time[:n_frames] for of_time in of_frequency]).mean(0))
    return states


FAMILY = Family(
    describe=_describe,
    build=AstExtractor,
    reference=_hidden_states,
    keys=frozenset(
        {
            "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
            "layer_norm_eps", "patch_size", "qkv_bias", "frequency_stride", "time_stride", "max_length",
            "num_mel_bins",
        }
    ),
    preprocessor_keys=frozenset({"mean", "std", "do_normalize"}),
    # BirdSet's ASTs, for one, are of 32 kHz and of another spectrogram, and config.json tells none of it.
    needs_front_end=True,
)  # fmt: skip
