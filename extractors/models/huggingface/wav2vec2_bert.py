"""wav2vec2-BERT (w2v-BERT 2.0): a conformer over pairs of log-mel frames.

The input is that of `SeamlessM4TFeatureExtractor`: 80 mel bands every 10 ms, each band brought to zero mean
and unit variance over the clip's own frames, two neighbouring frames side by side. A clip of m mel frames
gives floor(m/2) frames of 20 ms; where m is odd the published extractor adds half a frame of padding and
masks it, which changes none of the others. The bands are normalised in float64; the published extractor
does so in float32, which alone moves its output by about 2e-5.

Frames past a clip's end are zeroed before the depthwise convolutions (causal: they never look ahead) and
masked from attention, whose positions are relative, so every clip of a batch gets what it would get alone.
Hidden state 0 is the projected input of the first block, state k leaves block k (after the block's own
final LayerNorm). The feed-forward layer and adapter some checkpoints have behind the last block are not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

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
from extractors.models.torch_tools import (
    BlockMask,
    LayerTap,
    PaddedInput,
    count_frames,
    frame_mask,
    padded_batch,
    sent,
)

N_MELS = 80
# Mel frames put side by side (`stride` of the feature extractor).
STRIDE = 2
# Added to the variance by `SeamlessM4TFeatureExtractor`.
_VARIANCE_FLOOR = 1e-7
# Mel frames of a whole clip that are held at once: 50 s.
_STATISTICS_FRAMES = 5000
_Bands = tuple[torch.Tensor, torch.Tensor]  # mean and variance `[mels]`


class Wav2Vec2BertExtractor(PaddedInput):
    """A `Wav2Vec2BertModel`. See `Family.build`; the filter bank is always computed in float64."""

    def __init__(
        self, model: Any, preprocessor: Mapping[str, Any], card: ModelCard, device: str, precision: Precision
    ) -> None:
        self.card = card
        self.model = model.to(device)
        self.device = torch.device(device)
        self.precision = precision
        self._bank = KaldiFilterBank(n_mels=N_MELS, window="povey", scale=2.0**15, device=self.device)
        self.tap = LayerTap(model.encoder.layers)
        self._encoder = BlockMask(
            model.encoder, model.encoder.layers, model.config, also="conv_attention_mask"
        )

    def n_frames(self, n_samples: int) -> int:
        """Pairs of whole mel frames."""
        return n_mel_frames(n_samples) // STRIDE

    def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
        """See `Extractor.forward`."""
        self.forward_windows(clips, [None] * len(clips), layers, on_layer)

    def clip_statistics(self, samples: np.ndarray) -> _Bands:
        """Mean and variance `[mels]` of a whole clip's bands, block by block."""
        n_frames = n_mel_frames(len(samples))
        total = torch.zeros(N_MELS, dtype=torch.float64, device=self.device)
        squares = torch.zeros_like(total)
        with torch.inference_mode():
            for start in range(0, n_frames, _STATISTICS_FRAMES):
                stop = min(start + _STATISTICS_FRAMES, n_frames)
                block = np.array(samples[start * HOP_SAMPLES : (stop - 1) * HOP_SAMPLES + WINDOW_SAMPLES])
                bands = self._bank(sent(block, self.device)[None])[0]
                total += bands.sum(0)
                squares += bands.square().sum(0)
        mean = total / n_frames
        return mean, (squares - n_frames * mean.square()).clamp_min(0.0) / (n_frames - 1)

    def forward_windows(
        self,
        windows: Sequence[np.ndarray],
        statistics: Sequence[_Bands | None],
        layers: Sequence[int],
        on_layer: OnLayer,
    ) -> None:
        """See `NormalisesOverTime.forward_windows`."""
        frames = count_frames(self, windows)
        with torch.inference_mode():
            inputs = self._inputs(windows, statistics, max(frames))
            mask = frame_mask(frames, max(frames), self.device)
            if mask is not None:
                # What lies past a clip's end is made of its neighbours' zeros and of its own last samples.
                inputs = inputs.masked_fill(~mask[:, :, None], 0.0)
            with arithmetic(self.device, self.precision):
                hidden, _ = self.model.feature_projection(inputs)
                self.tap.run(
                    layers,
                    lambda layer, states: on_layer(layer, states, frames),
                    lambda: self._encoder.run(hidden, mask),
                )

    def _inputs(
        self, clips: Sequence[np.ndarray], statistics: Sequence[_Bands | None], n_frames: int
    ) -> torch.Tensor:
        """Normalised mel frames, two by two: float32 `[b, n_frames, 2 · mels]`."""
        bands = self._bank(padded_batch(clips, self.device))  # [b, t, mels]
        counts = sent(np.array([n_mel_frames(len(c)) for c in clips]), self.device)[:, None, None]
        own = torch.arange(bands.shape[1], device=self.device)[None, :, None] < counts
        mean = bands.masked_fill(~own, 0.0).sum(1, keepdim=True) / counts
        centred = (bands - mean).masked_fill(~own, 0.0)
        variance = centred.square().sum(1, keepdim=True) / (counts - 1)  # over n−1, as the reference
        for i, given in enumerate(statistics):
            if given is not None:
                centred[i], variance[i] = bands[i] - given[0], given[1]
        normed = (centred / torch.sqrt(variance + _VARIANCE_FLOOR)).float()
        pairs = normed[:, : n_frames * STRIDE]
        return pairs.reshape(len(clips), n_frames, STRIDE * bands.shape[2])


def _describe(config: Any, preprocessor: Mapping[str, Any]) -> Mapping[str, Any]:
    if config.feature_projection_input_dim != N_MELS * STRIDE:
        raise TypeError(f"expected an input of {N_MELS * STRIDE}, got {config.feature_projection_input_dim}")
    return {
        "n_layers": config.num_hidden_layers + 1,
        "n_features": config.hidden_size,
        "hop_samples": STRIDE * HOP_SAMPLES,
        "receptive_samples": WINDOW_SAMPLES + (STRIDE - 1) * HOP_SAMPLES,
        "sample_rate_hz": SAMPLE_RATE_HZ,
        "normalisation": "none",
        "normalisation_source": "wav2vec2-BERT normalises its mel bands itself",
    }


def _hidden_states(model: Any, _: Mapping[str, Any], clip: np.ndarray) -> list[torch.Tensor]:
    """See `Family.reference`: windows and filters of the published front end, rounded once, at the end."""
    from transformers import SeamlessM4TFeatureExtractor
    from transformers.audio_utils import spectrogram

    front_end = SeamlessM4TFeatureExtractor()
    bands = spectrogram(
        clip.astype(np.float64) * 2**15,
        front_end.window,
        frame_length=WINDOW_SAMPLES,
        hop_length=HOP_SAMPLES,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=front_end.mel_filters,
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
        dtype=np.float64,
    ).T
    normed = (bands - bands.mean(0)) / np.sqrt(bands.var(0, ddof=1) + _VARIANCE_FLOOR)
    pairs = normed[: len(normed) // STRIDE * STRIDE].reshape(-1, STRIDE * N_MELS)
    inputs = torch.from_numpy(pairs).float()[None]
    return [state[0] for state in model(inputs, output_hidden_states=True).hidden_states]


FAMILY = Family(
    describe=_describe,
    build=Wav2Vec2BertExtractor,
    reference=_hidden_states,
    keys=frozenset(
        {
            "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
            "layer_norm_eps", "feature_projection_input_dim", "position_embeddings_type",
            "rotary_embedding_base", "max_source_positions", "left_max_position_embeddings",
            "right_max_position_embeddings", "conv_depthwise_kernel_size",
        }
    ),
    is_read=lambda name: not name.endswith("masked_spec_embed")
    and not name.startswith(("adapter.", "intermediate_ffn.")),
)  # fmt: skip
