"""wav2vec2-conformer: the wav2vec family with the blocks of a conformer, and positions inside attention."""

from __future__ import annotations

from dataclasses import replace

from extractors.models.huggingface import wav2vec_family

FAMILY = replace(
    wav2vec_family.FAMILY,
    keys=wav2vec_family.FAMILY.keys
    | {
        "position_embeddings_type", "rotary_embedding_base", "max_source_positions",
        "conv_depthwise_kernel_size",
    },
)  # fmt: skip
