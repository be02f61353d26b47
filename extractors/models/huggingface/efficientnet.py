"""EfficientNet over a spectrogram, as BirdSet publishes it: see `birdset` and `spectrogram_stages`.

The model is its pooled output, the vector that it classifies by. ``stage-K:MODEL`` are the blocks of stage K;
the first of them changes the width, so layer k is what leaves block k + 1, as of BirdNET.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import torch

from extractors.models.huggingface import birdset
from extractors.models.huggingface.families import Family
from extractors.models.huggingface.spectrogram_stages import (
    Positions,
    SpectrogramExtractor,
    Stage,
    card_fields,
    of_vector,
    over_frequency,
)
from extractors.models.interface import ModelCard, Precision

_PER_STAGE = ("in_channels", "out_channels", "kernel_sizes", "strides", "num_block_repeats", "expand_ratios")


def _n_blocks(config: Any, stage: int) -> int:
    return math.ceil(float(config.depth_coefficient) * int(config.num_block_repeats[stage - 1]))


def _positions(config: Any, settings: birdset.Spectrogram, stage: int) -> Positions:
    """Those of a stage: each stride of two halves them, and the padding before it decides the rest.

    Raises:
        TypeError: a spectrogram is too small for the network.
    """
    n_frames = settings.window_samples // settings.hop_samples + 1
    n_time, n_frequency = (_halved(n, 3, (0, 1)) for n in (n_frames, settings.n_mels))
    width, block = 2, 0
    for k in range(stage):
        kernel = config.kernel_sizes[k]
        if config.strides[k] == 2:
            # `correct_pad` of transformers
            padding = (kernel // 2, kernel // 2)
            if block not in config.depthwise_padding:
                padding = (kernel // 2 - 1, kernel // 2)
            n_time, n_frequency = (_halved(n, kernel, padding) for n in (n_time, n_frequency))
            width *= 2
        block += _n_blocks(config, k + 1)
    if n_time < 1 or n_frequency < 1:
        raise TypeError(f"a spectrogram of {settings.n_mels} × {n_frames} gives no position at stage {stage}")
    hop = Fraction(width * settings.hop_samples)
    return Positions(window_samples=settings.window_samples, n_positions=n_time, hop=hop)


def _halved(n: int, kernel: int, padding: tuple[int, int]) -> int:
    """Positions that a convolution of stride 2 leaves of `n`."""
    return max(0, (n + sum(padding) - kernel) // 2 + 1)


def _describe(config: Any, front_end: Mapping[str, Any], *, stage: int | None) -> Mapping[str, Any]:
    from transformers.models.efficientnet.modeling_efficientnet import round_filters

    settings = birdset.Spectrogram(**front_end)
    birdset.check_channels(config)
    n_stages = len(config.out_channels)
    if {len(getattr(config, key)) for key in _PER_STAGE} != {n_stages} or not set(config.strides) <= {1, 2}:
        raise TypeError(
            f"expected a number for every stage in {', '.join(_PER_STAGE)}, and strides of 1 or 2"
        )
    _positions(config, settings, n_stages)
    positions = of_vector(settings.window_samples) if stage is None else _positions(config, settings, stage)
    return card_fields(
        n_layers=1 if stage is None else _n_blocks(config, stage),
        n_features=config.hidden_dim
        if stage is None
        else round_filters(config, config.out_channels[stage - 1]),
        sample_rate_hz=settings.sample_rate_hz,
        positions=positions,
        pooled=stage is None,
    )


def _build(
    model: Any,
    front_end: Mapping[str, Any],
    card: ModelCard,
    device: str,
    precision: Precision,
    *,
    stage: int | None,
) -> SpectrogramExtractor:
    settings, part = birdset.Spectrogram(**front_end), None
    if stage is not None:
        first = sum(_n_blocks(model.config, k) for k in range(1, stage))
        blocks = list(model.encoder.blocks)[first : first + _n_blocks(model.config, stage)]
        part = (
            Stage(blocks=blocks, frames=over_frequency, entered=False),
            _positions(model.config, settings, stage),
        )
    return birdset.extractor(model, settings, card, device, precision, stage=part)


def _hidden_states(
    model: Any, front_end: Mapping[str, Any], clip: np.ndarray, *, stage: int | None
) -> list[torch.Tensor]:
    """See `Family.reference`: the network as it is, with the picture of the clip alone."""
    settings = birdset.Spectrogram(**front_end)
    if stage is None:
        return birdset.vector_by_transformers(model, settings, clip)
    picture = birdset.picture_by_transformers(settings, clip)
    # What enters the first block, then what leaves each of all stages.
    _, *maps = model(picture, output_hidden_states=True).hidden_states
    first = sum(_n_blocks(model.config, k) for k in range(1, stage))
    n_frames = _positions(model.config, settings, stage).begun(len(clip))
    own = maps[first : first + _n_blocks(model.config, stage)]
    return [over_frequency(m)[0, :n_frames] for m in own]


def _least_parameters(config: Mapping[str, Any]) -> int:
    stages = zip(config["out_channels"], config["num_block_repeats"], config["expand_ratios"], strict=True)
    widths = float(config["width_coefficient"]) ** 2 * float(config["depth_coefficient"])
    # Of each block that leaves the width as it is two pointwise layers; halved, since widths are rounded.
    return int(sum(2 * e * w * w * (n - 1) for w, n, e in stages) * widths / 2)


def _family(stage: int | None) -> Family:
    return Family(
        describe=partial(_describe, stage=stage),
        build=partial(_build, stage=stage),
        reference=partial(_hidden_states, stage=stage),
        keys=frozenset(
            {
                "num_channels", "width_coefficient", "depth_coefficient", "depth_divisor",
                "depthwise_padding", "squeeze_expansion_ratio", "hidden_act", "hidden_dim", "pooling_type",
                "batch_norm_eps", *_PER_STAGE,
            }
        ),
        preprocessor_keys=birdset.KEYS,
        front_end=birdset.front_end_of("efficientnet"),
        stages=_stages,
        least_parameters=_least_parameters,
        # What comes after every stage.
        is_read=lambda name: not name.endswith("num_batches_tracked")
        and (stage is None or not name.startswith("encoder.top_")),
    )  # fmt: skip


def _stages(config: Any) -> Sequence[Family]:
    return [_family(k) for k in range(1, len(config.out_channels) + 1)]


FAMILY = _family(None)
