"""The wav2vec family: exact batches of any lengths.

wav2vec 2.0 (XLS-R and MMS with it), HuBERT (AVES and BirdAVES with it), WavLM, data2vec-audio, UniSpeech,
UniSpeech-SAT and wav2vec2-conformer. Zero padding changes what these models compute, in four places; each is
mended here, so that every clip of a batch gets the hidden states it would get alone:

1. *base* models (``feat_extract_norm="group"``) normalise their first convolution over time: statistics
   are taken over each clip's own frames (`ClipGroupNorm`);
2. the later convolutions have no padding, so valid frames never reach into another clip's padding;
3. positional convolutions, and those in the blocks of a conformer, pad with zeros: frames past a clip's end
   are zeroed before each of them;
4. attention masks the frames past a clip's end.

The encoder's own forward runs, with hooks that hand out each hidden state and stop after the last one
wanted. Hidden states are those of ``output_hidden_states=True`` in transformers 5: index 0 enters the
first block, index k leaves block k (before any final LayerNorm of the encoder). The attention adapters of
MMS (``adapter_attn_dim``) are part of their blocks; the downsampling adapter some checkpoints have
(``add_adapter``) comes after the last block and is not run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from extractors.models.arithmetic import arithmetic
from extractors.models.huggingface.families import Family
from extractors.models.interface import ModelCard, OnLayer, Precision
from extractors.models.torch_tools import LayerTap, count_frames, frame_mask, padded_batch

# Frames of the first convolution (512 channels wide) that are held at once: 5 s at 16 kHz.
_STATISTICS_FRAMES = 16_000


class ClipGroupNorm(nn.Module):
    """Group normalisation over the valid frames of each clip, from `norm`'s weights.

    `n_valid` is set by the caller before each batch: frames per clip at this layer, or None when all
    clips fill the batch's length. `given` replaces a clip's own statistics where it is a window of a longer
    one: scale and shift `[channels]`, or None.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm
        self.n_valid: list[int] | None = None
        self.given: Sequence[tuple[torch.Tensor, torch.Tensor] | None] = ()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[b, channels, t]` → the same shape; frames past a clip's end become zero."""
        out = self._by_own_frames(x)
        for i, affine in enumerate(self.given):
            if affine is not None:
                n = x.shape[2] if self.n_valid is None else self.n_valid[i]
                scale, shift = affine
                out[i, :, :n] = x[i, :, :n] * scale[:, None] + shift[:, None]
        return out

    def _by_own_frames(self, x: torch.Tensor) -> torch.Tensor:
        if self.n_valid is None:
            return self.norm(x)  # type: ignore[no-any-return]
        out = torch.zeros_like(x)
        start = 0
        # One call per run of equal lengths: neighbours in a sorted batch mostly share theirs, and each
        # call is the very kernel a lone clip would go through.
        for stop in range(1, len(self.n_valid) + 1):
            if stop == len(self.n_valid) or self.n_valid[stop] != self.n_valid[start]:
                n = self.n_valid[start]
                out[start:stop, :, :n] = self.norm(x[start:stop, :, :n])
                start = stop
        return out


class SslExtractor:
    """A model of the family; see `Family.build`."""

    def __init__(
        self, model: Any, preprocessor: Mapping[str, Any], card: ModelCard, device: str, precision: Precision
    ) -> None:
        self.card = card
        self.model = model.to(device)
        self.device = torch.device(device)
        self.precision = precision
        config = model.config
        self._convs = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        self._mask: torch.Tensor | None = None  # [b, frames], True where valid; None: all are
        self._norm = self._replace_group_norm()
        self._guard_convs_over_time()
        self.tap = LayerTap(self._blocks())
        if config.model_type == "wavlm":
            for module in model.modules():
                if type(module).__name__ == "WavLMAttention":
                    module.torch_multi_head_self_attention = partial(_wavlm_attention, module)

    def n_frames(self, n_samples: int) -> int:
        """Frames the convolutions leave of `n_samples` samples."""
        for kernel, stride in self._convs:
            n_samples = (n_samples - kernel) // stride + 1
            if n_samples < 1:
                return 0
        return n_samples

    def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
        """See `Extractor.forward`."""
        frames = count_frames(self, clips)
        self._tell_norm([len(c) for c in clips])
        with torch.inference_mode(), arithmetic(self.device, self.precision):
            x = padded_batch(clips, self.device)
            x = self.model.feature_extractor(x).transpose(1, 2)
            x = x[:, : max(frames)]
            hidden = self._project(x)
            mask = self._mask = frame_mask(frames, hidden.shape[1], self.device)
            self.tap.run(
                layers,
                lambda layer, states: on_layer(layer, states, frames),
                lambda: self.model.encoder(hidden, attention_mask=mask),
            )

    def _tell_norm(self, lengths: Sequence[int]) -> None:
        """Say how many samples each clip has, before its batch is run."""
        if self._norm is not None:
            kernel, stride = self._convs[0]
            # Equal frame counts at the end may still differ here, so this looks at samples.
            ragged = len(set(lengths)) > 1
            self._norm.n_valid = [(n - kernel) // stride + 1 for n in lengths] if ragged else None

    def _blocks(self) -> Sequence[nn.Module]:
        return list(self.model.encoder.layers)

    def _project(self, x: torch.Tensor) -> torch.Tensor:
        """Conv frames `[b, t, channels]` → what the encoder takes `[b, t, d]`."""
        projected = self.model.feature_projection(x)
        hidden: torch.Tensor = projected[0] if isinstance(projected, tuple) else projected
        return hidden

    def clip_statistics(self, samples: np.ndarray) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Scale and shift `[channels]` of the first convolution's norm over a whole clip, block by block."""
        if self._norm is None:
            return None
        conv, norm = self.model.feature_extractor.conv_layers[0].conv, self._norm.norm
        kernel, stride = self._convs[0]
        n_frames = (len(samples) - kernel) // stride + 1
        total = torch.zeros(conv.out_channels, dtype=torch.float64, device=self.device)
        squares = torch.zeros_like(total)
        with torch.inference_mode(), arithmetic(self.device, self.precision):
            for start in range(0, n_frames, _STATISTICS_FRAMES):
                stop = min(start + _STATISTICS_FRAMES, n_frames)
                block = np.array(samples[start * stride : (stop - 1) * stride + kernel])
                x = conv(torch.from_numpy(block)[None, None].to(self.device))[0].double()
                total += x.sum(1)
                squares += x.square().sum(1)
            mean = total / n_frames
            variance = (squares / n_frames - mean.square()).clamp_min(0.0)
            scale = norm.weight.double() / torch.sqrt(variance + norm.eps)
            return scale.float(), (norm.bias.double() - mean * scale).float()

    def forward_windows(
        self,
        windows: Sequence[np.ndarray],
        statistics: Sequence[tuple[torch.Tensor, torch.Tensor] | None],
        layers: Sequence[int],
        on_layer: OnLayer,
    ) -> None:
        """See `NormalisesOverTime.forward_windows`."""
        if self._norm is None:
            return self.forward(windows, layers, on_layer)
        self._norm.given = statistics
        try:
            self.forward(windows, layers, on_layer)
        finally:
            self._norm.given = ()
        return None

    def _replace_group_norm(self) -> ClipGroupNorm | None:
        first = self.model.feature_extractor.conv_layers[0]
        if not isinstance(getattr(first, "layer_norm", None), nn.GroupNorm):
            return None
        first.layer_norm = ClipGroupNorm(first.layer_norm)
        return first.layer_norm  # type: ignore[no-any-return]

    def _guard_convs_over_time(self) -> None:
        """Zero what lies past a clip's end before every convolution of the encoder that looks around."""
        for module in self.model.encoder.modules():
            if isinstance(module, nn.Conv1d) and module.kernel_size[0] > 1:
                if nn.utils.parametrize.is_parametrized(module, "weight"):
                    # The same weight, computed once and not in every forward.
                    nn.utils.parametrize.remove_parametrizations(module, "weight")
                module.register_forward_pre_hook(self._zero_padding)

    def _zero_padding(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
        if self._mask is None:
            return None
        return (inputs[0] * self._mask[:, None, :], *inputs[1:])


def _wavlm_attention(
    module: Any, hidden: torch.Tensor, attention_mask: torch.Tensor | None, bias: torch.Tensor
) -> tuple[torch.Tensor, None]:
    """WavLM's attention through scaled-dot-product attention.

    transformers asks for attention weights that nobody uses here, which forces the slow path; the result
    is the same to rounding.
    """
    b, t, width = hidden.shape
    heads = module.num_heads
    q, k, v = (
        p(hidden).view(b, t, heads, -1).transpose(1, 2) for p in (module.q_proj, module.k_proj, module.v_proj)
    )
    scores_bias = bias.view(b, heads, t, t).to(q.dtype)
    if attention_mask is not None:
        # [b, 1, 1, t]: frames past a clip's end are never attended to.
        scores_bias = scores_bias.masked_fill(~attention_mask.bool()[:, None, None, :], -math.inf)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=scores_bias)
    return module.out_proj(mixed.transpose(1, 2).reshape(b, t, width)), None


def receptive_samples(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Samples under one frame of a stack of convolutions without padding."""
    n = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        n = (n - 1) * stride + kernel
    return n


def _describe(config: Any, preprocessor: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "n_layers": config.num_hidden_layers + 1,
        "n_features": config.hidden_size,
        "hop_samples": math.prod(config.conv_stride),
        "receptive_samples": receptive_samples(config.conv_kernel, config.conv_stride),
        "sample_rate_hz": int(preprocessor.get("sampling_rate", 16_000)),
    }


def hidden_states(model: Any, clip: np.ndarray) -> list[torch.Tensor]:
    """See `Family.reference`."""
    states = model(torch.from_numpy(clip)[None], output_hidden_states=True).hidden_states
    return [state[0] for state in states]


FAMILY = Family(
    describe=_describe,
    build=SslExtractor,
    reference=hidden_states,
    keys=frozenset(
        {
            "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
            "layer_norm_eps", "feat_extract_norm", "feat_extract_activation", "conv_dim", "conv_stride",
            "conv_kernel", "conv_bias", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups",
            "conv_pos_kernel_size", "conv_pos_batch_norm", "do_stable_layer_norm", "num_buckets",
            "max_bucket_distance", "feat_proj_layer_norm", "adapter_attn_dim",
        }
    ),
    # Attention adapters (`encoder.layers.N.adapter_layer`) are read, the adapter behind the encoder is not.
    is_read=lambda name: not name.endswith("masked_spec_embed") and not name.startswith("adapter."),
)  # fmt: skip
