"""ConvNeXt over a spectrogram, as BirdSet publishes it: see `birdset` and `spectrogram_stages`.

The model is its pooled output, the vector that it classifies by: the mean over all of the last map, normed.
``stage-K:MODEL`` are the blocks of stage K, layer 0 what enters the first.
"""

from __future__ import annotations

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
    handed_on,
    of_vector,
    over_frequency,
)
from extractors.models.interface import ModelCard, Precision


def _positions(config: Any, settings: birdset.Spectrogram, stage: int) -> Positions:
    """Those of a stage: patches side by side, of which the next stage makes two one; a rest is left out.

    Raises:
        TypeError: a spectrogram is too small for the network.
    """
    n_frames = settings.window_samples // settings.hop_samples + 1
    width = config.patch_size * 2 ** (stage - 1)
    n_time, n_frequency = n_frames // width, settings.n_mels // width
    if n_time < 1 or n_frequency < 1:
        raise TypeError(f"a spectrogram of {settings.n_mels} × {n_frames} gives no position at stage {stage}")
    hop = Fraction(width * settings.hop_samples)
    return Positions(window_samples=settings.window_samples, n_positions=n_time, hop=hop)


def _describe(config: Any, front_end: Mapping[str, Any], *, stage: int | None) -> Mapping[str, Any]:
    settings = birdset.Spectrogram(**front_end)
    birdset.check_channels(config)
    if not isinstance(config.patch_size, int):
        raise TypeError(f"expected square patches, got patch_size {config.patch_size}")
    if not len(config.depths) == len(config.hidden_sizes) == config.num_stages:
        raise TypeError("expected depths and hidden_sizes for every one of num_stages")
    deepest = _positions(config, settings, config.num_stages)
    return card_fields(
        n_layers=1 if stage is None else config.depths[stage - 1] + 1,
        n_features=config.hidden_sizes[-1 if stage is None else stage - 1],
        sample_rate_hz=settings.sample_rate_hz,
        positions=of_vector(deepest.window_samples) if stage is None else _positions(config, settings, stage),
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
        blocks = Stage(blocks=list(model.encoder.stages[stage - 1].layers), frames=over_frequency)
        part = blocks, _positions(model.config, settings, stage)
    return birdset.extractor(model, settings, card, device, precision, stage=part)


def _hidden_states(
    model: Any, front_end: Mapping[str, Any], clip: np.ndarray, *, stage: int | None
) -> list[torch.Tensor]:
    """See `Family.reference`: the network as it is, with the picture of the clip alone."""
    settings = birdset.Spectrogram(**front_end)
    if stage is None:
        return birdset.vector_by_transformers(model, settings, clip)
    picture = birdset.picture_by_transformers(settings, clip)
    maps = handed_on(list(model.encoder.stages[stage - 1].layers), lambda: model(picture))
    n_frames = _positions(model.config, settings, stage).begun(len(clip))
    return [over_frequency(m)[0, :n_frames] for m in maps]


def _least_parameters(config: Mapping[str, Any]) -> int:
    # Two pointwise layers, four times as wide between them.
    return sum(8 * n * w * w for n, w in zip(config["depths"], config["hidden_sizes"], strict=True))


def _family(stage: int | None) -> Family:
    return Family(
        describe=partial(_describe, stage=stage),
        build=partial(_build, stage=stage),
        reference=partial(_hidden_states, stage=stage),
        keys=frozenset(
            {
                "num_channels", "patch_size", "num_stages", "hidden_sizes", "depths", "hidden_act",
                "layer_norm_eps", "layer_scale_init_value",
            }
        ),
        preprocessor_keys=birdset.KEYS,
        front_end=birdset.front_end_of("convnext"),
        stages=_stages,
        least_parameters=_least_parameters,
        # The last norm comes after every stage.
        is_read=lambda name: stage is None or not name.startswith("layernorm."),
    )  # fmt: skip


def _stages(config: Any) -> Sequence[Family]:
    return [_family(k) for k in range(1, config.num_stages + 1)]


FAMILY = _family(None)
