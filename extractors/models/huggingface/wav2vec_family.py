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
from extractors.models.torch_tools import (
    BlockMask,
    LayerTap,
    PaddedInput,
    count_frames,
    frame_mask,
    padded_batch,
    sent,
)

# Frames of the first convolution (512 channels wide) that are held at once: 5 s at 16 kHz.
_STATISTICS_FRAMES = 16_000


class ClipGroupNorm(nn.Module):
    """Group normalisation over the valid frames of each clip, with `norm`'s weights.

    As many calls for a batch of a hundred lengths as for one of two: a GPU that gets a kernel for each clip
    waits for the host. The mean is taken off, and what rounding left of it is taken off again (as in
    `extractors.forward.moments`), so that an offset costs no digits.

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
        """`[b, channels, t]` → the same shape, float32, in the memory of `x` where that is float32.

        Frames past a clip's end come out finite, whatever they hold.
        """
        if self.n_valid is None and not self.given:
            return self.norm(x)  # type: ignore[no-any-return]
        norm, groups = self.norm, self.norm.num_groups
        x = x.float().reshape(len(x), groups, -1, x.shape[2])  # [b, groups, channels of a group, t]
        count, padding = self._bounds(x)

        def over_frames(values: torch.Tensor) -> torch.Tensor:
            return values.flatten(2).sum(2)[..., None, None] / count

        _fill(x, padding)
        mean = over_frames(x)  # [b, groups, 1, 1]
        _fill(x.sub_(mean), padding)
        rest = over_frames(x)
        deviation = torch.linalg.vector_norm(x.flatten(2), dim=2)[..., None, None]
        variance = (deviation.square() / count - rest.square()).clamp_min(0.0)
        # [b, groups, channels of a group, 1]
        scale = norm.weight.view(groups, -1, 1) * torch.rsqrt(variance + norm.eps)
        shift = norm.bias.view(groups, -1, 1) - rest * scale
        if self.given:
            scale, shift = self._with_given(scale, shift, mean)
        return x.mul_(scale).add_(shift).flatten(1, 2)

    def _bounds(self, x: torch.Tensor) -> tuple[torch.Tensor | float, torch.Tensor | None]:
        """Numbers of a group that count, `[b, 1, 1, 1]`, and where a frame does not, `[b, 1, 1, t]`."""
        size, time = x.shape[2], x.shape[3]
        if self.n_valid is None:
            return float(size * time), None
        valid = sent(np.array(self.n_valid), x.device)[:, None, None, None]
        return valid.float() * size, torch.arange(time, device=x.device) >= valid

    def _with_given(
        self, scale: torch.Tensor, shift: torch.Tensor, mean: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and shift of what the mean was taken from, with those of whole clips where there are any."""
        pairs = list(zip(self.given, scale, shift, mean, strict=True))
        scales = [own if g is None else g[0].view_as(own) for g, own, _, _ in pairs]
        shifts = [
            own if g is None else torch.addcmul(g[1].view_as(own), g[0].view_as(own), m)
            for g, _, own, m in pairs
        ]
        return torch.stack(scales), torch.stack(shifts)


def _fill(x: torch.Tensor, padding: torch.Tensor | None) -> None:
    if padding is not None:
        x.masked_fill_(padding, 0.0)


class SslExtractor(PaddedInput):
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
        self._encoder = BlockMask(model.encoder, self._blocks(), config)
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
                lambda: self._encoder.run(hidden, mask),
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
                x = conv(sent(block, self.device)[None, None])[0].double()
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


def hidden_states(model: Any, _: Mapping[str, Any], clip: np.ndarray) -> list[torch.Tensor]:
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
