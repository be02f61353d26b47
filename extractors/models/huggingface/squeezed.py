"""SEW and SEW-D (Wu et al. 2021, arXiv:2109.06870): wav2vec 2.0 whose blocks see every other frame.

Convolutions as of the wav2vec family, exact in the same way (`wav2vec_family`). Before the first block
`squeeze_factor` frames become one: their mean, and a positional convolution of that stride. A lone clip drops
a rest that fills no frame; so it does here, where transformers' own masks would keep it. Behind the last
block transformers brings frames back to the old rate; hidden states have the blocks' own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from extractors.models.arithmetic import arithmetic
from extractors.models.huggingface import wav2vec_family
from extractors.models.huggingface.families import Family
from extractors.models.interface import OnLayer
from extractors.models.torch_tools import count_frames, frame_mask, padded_batch


class SqueezedExtractor(wav2vec_family.SslExtractor):
    """A SEW or SEW-D model. See `Family.build`."""

    def n_frames(self, n_samples: int) -> int:
        """Frames of the blocks: whole groups of what the convolutions leave."""
        return super().n_frames(n_samples) // self._squeeze

    def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
        """See `Extractor.forward`."""
        frames = count_frames(self, clips)
        before = [super(SqueezedExtractor, self).n_frames(len(clip)) for clip in clips]
        self._tell_norm([len(clip) for clip in clips])
        with torch.inference_mode(), arithmetic(self.device, self.precision):
            x = self.model.feature_extractor(padded_batch(clips, self.device)).transpose(1, 2)
            x = self._project(x[:, : max(before)])
            self._mask = frame_mask(before, x.shape[1], self.device)
            hidden = self._squeezed(x)
            mask = frame_mask(frames, hidden.shape[1], self.device)
            self.tap.run(
                layers,
                lambda layer, states: on_layer(layer, states, frames),
                lambda: self._run_blocks(hidden, mask),
            )

    @property
    def _squeeze(self) -> int:
        return int(self.model.config.squeeze_factor)

    def _blocks(self) -> Sequence[nn.Module]:
        encoder = self.model.encoder
        return list(encoder.layers if hasattr(encoder, "layers") else encoder.encoder.layer)

    def _project(self, x: torch.Tensor) -> torch.Tensor:
        x = self.model.layer_norm(x)
        projected: torch.Tensor = self.model.feature_projection(x) if self.model.project_features else x
        return projected

    def _squeezed(self, x: torch.Tensor) -> torch.Tensor:
        """What enters the first block `[b, t // squeeze, d]`, of frames `[b, t, d]`."""
        encoder = self.model.encoder
        channels_first = x.transpose(1, 2)
        pooled = encoder.pool(channels_first)
        hidden = (pooled + encoder.pos_conv_embed(channels_first)[..., : pooled.shape[2]]).transpose(1, 2)
        # SEW-D has its norms inside.
        normed: torch.Tensor = encoder.layer_norm(hidden) if hasattr(encoder, "layer_norm") else hidden
        return normed

    def _run_blocks(self, hidden: torch.Tensor, mask: torch.Tensor | None) -> None:
        if hasattr(self.model.encoder, "encoder"):  # SEW-D
            valid = torch.ones(hidden.shape[:2], dtype=torch.long, device=self.device)
            self.model.encoder.encoder(hidden, valid if mask is None else mask.long())
            return
        from transformers.masking_utils import create_bidirectional_mask

        full = create_bidirectional_mask(config=self.model.config, inputs_embeds=hidden, attention_mask=mask)
        for block in self.model.encoder.layers:
            hidden = block(hidden, attention_mask=full)


def _describe(config: Any, preprocessor: Mapping[str, Any]) -> Mapping[str, Any]:
    if getattr(config, "conv_kernel_size", 0) > 0:
        raise TypeError("a convolution behind the first block (conv_kernel_size) is not supported")
    fields = dict(wav2vec_family.FAMILY.describe(config, preprocessor))
    hop, squeeze = fields["hop_samples"], config.squeeze_factor
    fields["receptive_samples"] += (squeeze - 1) * hop
    return {**fields, "hop_samples": squeeze * hop}


FAMILY = Family(
    describe=_describe,
    build=SqueezedExtractor,
    reference=wav2vec_family.hidden_states,
    keys=wav2vec_family.FAMILY.keys
    | {
        "squeeze_factor", "max_position_embeddings", "position_buckets", "share_att_key",
        "relative_attention", "pos_att_type", "norm_rel_ebd", "feature_layer_norm_eps", "conv_kernel_size",
    },
)  # fmt: skip
