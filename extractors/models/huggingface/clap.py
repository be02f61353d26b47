"""CLAP's audio tower (LAION-CLAP, Wu et al. 2023, arXiv:2211.06687; BioLingual): a Swin over 10 s of sound.

The model is its embedding: what `ClapModel.get_audio_features` gives, the vector of length 1 that is compared
with those of texts. ``stage-K:MODEL`` are the blocks of stage K of the Swin transformer, layer 0 what enters
the first; the last layer of the last stage is taken after the final norm, so that the mean of all its frames
is what the embedding is projected from.

The spectrogram of a window is folded into a square: four quarters of its time under each other, each with its
frequencies. Here they are unfolded again: frames go through all of the window.

Nothing is drawn at random. `ClapFeatureExtractor` cuts clips over 10 s at random places; here they are
windows of 10 s. For a network that fuses, it marks one clip of a batch of short ones at random as long, which
sends it through the layer that fuses parts of long clips; a clip alone is always that one, so here every clip
is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from extractors.models.huggingface.families import Family
from extractors.models.huggingface.mel_spectrogram import MelSpectrogram
from extractors.models.huggingface.spectrogram_stages import (
    Positions,
    SpectrogramExtractor,
    Stage,
    card_fields,
    handed_on,
    of_vector,
    side_by_side,
)
from extractors.models.interface import ModelCard, Precision
from featurestore.errors import ModelError
from featurestore.untrusted.document_shape import fields, number, one_of, whole
from featurestore.untrusted.documents import DocumentError, read_json_document

_FRONT_END = "preprocessor_config.json"
_SAID = fields(
    {
        "feature_size": whole(1, 1024),
        "sampling_rate": whole(1000, 1_000_000),
        "hop_length": whole(1, 100_000),
        "max_length_s": whole(1, 60),
        "fft_window_size": whole(2, 100_000),
        "frequency_min": number(0, 1_000_000),
        "frequency_max": number(1, 1_000_000),
        "truncation": one_of("fusion", "rand_trunc"),
        "padding": one_of("repeatpad", "repeat", "pad"),
    }
)
_KEYS = (
    "feature_size", "sampling_rate", "hop_length", "max_length_s", "fft_window_size", "frequency_min",
    "frequency_max", "truncation", "padding",
)  # fmt: skip


def read_front_end(folder: Path, name: str, model_id: str | None, spec: str) -> Mapping[str, Any]:
    """What preprocessor_config.json says of the spectrogram; see `Family.front_end`.

    Raises:
        ModelError: there is none, or it lacks what no model can be run without.
    """
    file = folder / _FRONT_END
    if not file.is_file():
        raise ModelError(
            f"--model {spec}: no {_FRONT_END} in this folder; expected CLAP's, which says the rate and the "
            "mel bands of its spectrogram: copy it from where the model was published"
        )
    try:
        said = read_json_document(file)
        _SAID(said, "")
    except DocumentError as error:
        raise ModelError(
            f"--model {spec}: {_FRONT_END}: {error}; expected that of a ClapFeatureExtractor"
        ) from error
    # One number, however it is written: 50 and 50.0.
    return {key: float(said[key]) if key.startswith("frequency_") else said[key] for key in _KEYS}


class _Grid:
    """What the square and its stages are, of a `ClapAudioConfig` and a front end that fit each other."""

    def __init__(self, config: Any, front_end: Mapping[str, Any]) -> None:
        stride = config.patch_stride
        strides = {stride} if isinstance(stride, int) else set(stride)
        side, mels = config.spec_size, config.num_mel_bins
        if len(strides) != 1 or not config.flatten_patch_embeds or not isinstance(side, int):
            raise TypeError("expected square patches, spec_size a number and flatten_patch_embeds true")
        [self.stride] = strides
        self.n_stages = len(config.depths)
        self.n_folds = side // mels
        last_rows = side // self.stride // 2 ** (self.n_stages - 1)
        if mels * self.n_folds != side or last_rows == 0 or last_rows % self.n_folds:
            raise TypeError(f"{mels} mel bands do not fold into a square of {side}")
        if config.hidden_size != config.patch_embeds_hidden_size * 2 ** (self.n_stages - 1):
            raise TypeError("hidden_size is not the width of the last stage")
        if len(config.num_attention_heads) != self.n_stages:
            raise TypeError("expected num_attention_heads for every one of depths")
        if mels != front_end["feature_size"]:
            raise TypeError(
                f"num_mel_bins is {mels}, feature_size in {_FRONT_END} {front_end['feature_size']}"
            )
        if (front_end["truncation"] == "fusion") != bool(config.enable_fusion):
            raise TypeError(
                f"enable_fusion is {bool(config.enable_fusion)}, truncation in {_FRONT_END} "
                f"{front_end['truncation']!r}: the spectrogram of one and the network of the other"
            )
        self.window_samples = front_end["max_length_s"] * front_end["sampling_rate"]
        n_frames = self.window_samples // front_end["hop_length"] + 1
        if n_frames > side * self.n_folds or self.window_samples <= front_end["fft_window_size"]:
            raise TypeError(f"{n_frames} frames of a spectrogram do not fit a square of {side}")
        self._side = side

    def columns(self, stage: int) -> int:
        """Positions in time of a quarter, at a stage from 1 on."""
        return int(self._side // self.stride // 2 ** (stage - 1))

    def positions(self, stage: int) -> Positions:
        """Equal parts of the window: the spectrogram is stretched to fill the square."""
        return side_by_side(self.window_samples, self.n_folds * self.columns(stage))

    def frames(self, states: torch.Tensor, stage: int) -> torch.Tensor:
        """A block's `[b, rows · columns, d]` → `[b, t, d]`, the mean over frequency."""
        b, _, d = states.shape
        # rows are the folds, in each the frequencies
        grid = states.float().reshape(b, self.n_folds, -1, self.columns(stage), d)
        return grid.mean(2).flatten(1, 2)


def _audio_config(raw: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The audio tower's part of a config.json; see `Family.part`."""
    if raw.get("model_type") != "clap":
        return "clap_audio_model", raw
    audio = raw.get("audio_config")
    if audio is None:
        audio = {}
    if not isinstance(audio, Mapping):
        raise TypeError("audio_config is not an object")
    # What the whole says of the projection goes before what a part says.
    projection = {k: raw[k] for k in ("projection_dim", "projection_hidden_act") if raw.get(k) is not None}
    # As `ClapConfig` has them; the audio part has the same ones.
    return "clap_audio_model", {
        **audio,
        "projection_dim": 512,
        "projection_hidden_act": "relu",
        **projection,
    }


def _repeated(clip: np.ndarray, window_samples: int, padding: str) -> np.ndarray:
    """A clip in its window, as `ClapFeatureExtractor` fills it."""
    window = np.zeros(window_samples, dtype=np.float32)
    times = window_samples // len(clip)
    if padding == "repeat":
        return np.tile(clip, times + 1)[:window_samples]
    filled = np.tile(clip, times) if padding == "repeatpad" else clip
    window[: len(filled)] = filled
    return window


def _build(
    model: Any,
    front_end: Mapping[str, Any],
    card: ModelCard,
    device: str,
    precision: Precision,
    *,
    stage: int | None,
) -> SpectrogramExtractor:
    model = model.to(device)
    config, encoder = model.config, model.audio_model.audio_encoder
    grid = _Grid(config, front_end)
    spectrogram = MelSpectrogram(
        sample_rate_hz=front_end["sampling_rate"],
        n_fft=front_end["fft_window_size"],
        hop_samples=front_end["hop_length"],
        n_mels=front_end["feature_size"],
        lowest_hz=front_end["frequency_min"],
        highest_hz=front_end["frequency_max"],
        scale="htk" if config.enable_fusion else "slaney",
        top_db=None,
        device=torch.device(device),
    )
    n_views = 4 if config.enable_fusion else 1

    def inputs(windows: torch.Tensor) -> torch.Tensor:
        # All of it, and its three parts, which of a window are the same.
        return spectrogram(windows).float()[:, None].expand(-1, n_views, -1, -1)

    def forward(mel: torch.Tensor) -> torch.Tensor:
        marked = torch.ones(len(mel), 1, dtype=torch.bool, device=mel.device)
        pooled = model.audio_model(input_features=mel, is_longer=marked).pooler_output
        vectors: torch.Tensor = torch.nn.functional.normalize(model.audio_projection(pooled), dim=-1)
        return vectors

    part = None
    if stage is not None:
        part = Stage(
            blocks=list(encoder.layers[stage - 1].blocks),
            frames=partial(grid.frames, stage=stage),
            last=encoder.norm if stage == grid.n_stages else None,
        )
    return SpectrogramExtractor(
        card,
        model,
        device,
        precision,
        positions=of_vector(grid.window_samples) if stage is None else grid.positions(stage),
        window=lambda clip: _repeated(clip, grid.window_samples, front_end["padding"]),
        inputs=inputs,
        forward=forward,
        stage=part,
    )


def _hidden_states(
    model: Any, front_end: Mapping[str, Any], clip: np.ndarray, *, stage: int | None
) -> list[torch.Tensor]:
    """See `Family.reference`: the published front end, and the whole network, with the clip alone."""
    from transformers import ClapFeatureExtractor

    grid = _Grid(model.config, front_end)
    make = ClapFeatureExtractor(**front_end)
    inputs = make(clip, sampling_rate=front_end["sampling_rate"], return_tensors="pt")
    if stage is None:
        # As `ClapModel.get_audio_features` ends.
        vector = torch.nn.functional.normalize(model(**inputs).audio_embeds, dim=-1)
        return [vector.expand(of_vector(grid.window_samples).begun(len(clip)), -1)]
    encoder = model.audio_model.audio_encoder
    blocks = list(encoder.layers[stage - 1].blocks)
    if stage == grid.n_stages:
        states = handed_on([*blocks, encoder.norm], lambda: model(**inputs))
        del states[-2]  # the last block's, which the norm takes
    else:
        states = handed_on(blocks, lambda: model(**inputs))
    n_frames = grid.positions(stage).begun(len(clip))
    return [grid.frames(state, stage)[0, :n_frames] for state in states]


def _describe(config: Any, front_end: Mapping[str, Any], *, stage: int | None) -> Mapping[str, Any]:
    grid = _Grid(config, front_end)
    return card_fields(
        n_layers=1 if stage is None else config.depths[stage - 1] + 1,
        n_features=config.projection_dim
        if stage is None
        else config.patch_embeds_hidden_size * 2 ** (stage - 1),
        sample_rate_hz=front_end["sampling_rate"],
        positions=of_vector(grid.window_samples) if stage is None else grid.positions(stage),
        pooled=stage is None,
    )


def _least_parameters(config: Mapping[str, Any]) -> int:
    widths = [config["patch_embeds_hidden_size"] * 2**i for i in range(len(config["depths"]))]
    of_block = 4 + 2 * float(config["mlp_ratio"])  # attention and feed-forward, of its width squared
    return int(sum(n * of_block * w * w for n, w in zip(config["depths"], widths, strict=True)))


def _family(stage: int | None) -> Family:
    return Family(
        describe=partial(_describe, stage=stage),
        build=partial(_build, stage=stage),
        reference=partial(_hidden_states, stage=stage),
        keys=frozenset(
            {
                "window_size", "num_mel_bins", "spec_size", "hidden_act", "patch_size", "patch_stride",
                "hidden_size", "projection_dim", "depths", "num_attention_heads", "enable_fusion",
                "fusion_type", "patch_embed_input_channels", "flatten_patch_embeds",
                "patch_embeds_hidden_size", "enable_patch_layer_norm", "qkv_bias", "mlp_ratio",
                "aff_block_r", "projection_hidden_act", "layer_norm_eps",
            }
        ),
        preprocessor_keys=frozenset(_KEYS),
        front_end=read_front_end,
        part=_audio_config,
        model_class="ClapAudioModelWithProjection",
        stages=_stages,
        least_parameters=_least_parameters,
        # Where a window's tokens stand follows from its size; the projection comes after every stage.
        is_read=lambda name: not name.endswith("relative_position_index")
        and (stage is None or not name.startswith("audio_projection.")),
    )  # fmt: skip


def _stages(config: Any) -> Sequence[Family]:
    return [_family(k) for k in range(1, len(config.depths) + 1)]


FAMILY = _family(None)
