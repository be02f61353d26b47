"""From a configuration and a model that is known but not loaded to what a run will do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np

from extractors.audio.durations import model_seconds
from extractors.audio.waveform import AudioPolicy
from extractors.config import ExtractConfig
from extractors.forward.frame_buffer import plan_frames
from extractors.forward.functionals import DEFAULT_FUNCTIONALS
from extractors.forward.windows import LongClips, long_clips
from extractors.models.interface import ModelSource
from extractors.models.package_versions import versions_here
from extractors.models.registry import lasting_spec
from featurestore.errors import ConfigError
from featurestore.fingerprint import NUMERICS_VERSION
from featurestore.format.layer_arrays import CodecName
from featurestore.layer_list import parse_layers
from featurestore.manifest.table import Manifest
from featurestore.store.key_request import KeyRequest
from featurestore.store.plan import DEFAULT_UNIT_ROWS, order_rows

# Options of `ExtractConfig` that decide what is stored for a row and layer.
VALUE_OPTIONS = (
    "functionals",
    "dtype",
    "precision",
    "normalisation",
    "min_samples",
    "short_policy",
    "rate_policy",
    "resample_quality",
    "channel",
    "window_s",
    "overlap_s",
    "preset",
    "compile",
)


@dataclass(frozen=True, kw_only=True)
class KeyPlan:
    """What a configuration asks of one key, before anything is written or loaded.

    Attributes:
        config: what was asked for.
        source: the model.
        policy: how audio is prepared.
        long_clips: how long clips are cut.
        device: torch device that models are loaded to by the process that plans.
        layers: layers to keep.
        order: rows of the manifest in the order of the plan, int64 `[n]`.
        ids: their utterance ids.
        request: what the key shall be.
    """

    config: ExtractConfig
    source: ModelSource
    policy: AudioPolicy
    long_clips: LongClips
    device: str
    layers: list[int]
    order: np.ndarray
    ids: np.ndarray
    request: KeyRequest


def plan_key(
    config: ExtractConfig, source: ModelSource, manifest: Manifest, durations: np.ndarray
) -> KeyPlan:
    """Plan one key.

    Args:
        config: what was asked for.
        source: its model.
        manifest: the utterances.
        durations: their seconds, NaN where unknown.

    Raises:
        ConfigError: something asked for is not to be had of this model or this machine.
    """
    windows = long_clips(source.card, config.window_s, config.overlap_s, config.preset)
    functionals = choose_functionals(config.functionals, source)
    policy = audio_policy(config, source)
    layers = choose_layers(config.layers, source)
    model_s = model_seconds(manifest, durations, policy, config.workers)
    order = order_rows(model_s, manifest.table["utterance_id"].tolist())
    unit_rows, frames, bounds = config.unit_rows or DEFAULT_UNIT_ROWS, None, None
    if config.frames:
        unit_rows, frames, bounds = plan_frames(
            model_s[order],
            source.card,
            policy,
            n_layers=len(layers),
            unit_rows=config.unit_rows,
            dtype=config.frames_dtype,
        )
    request = KeyRequest(
        model=config.name or source.card.name,
        dataset=config.dataset,
        fingerprint=fingerprint(config, source, policy, windows, functionals),
        functionals=functionals,
        layers=tuple(layers),
        n_features=source.card.n_features,
        dtype=config.dtype,
        codec=cast(CodecName, config.codec),
        unit_rows=unit_rows,
        frames=frames,
        frame_bounds=bounds,
        versions=versions_here(),
        model_card=describe(source, config),
    )
    return KeyPlan(
        config=config,
        source=source,
        policy=policy,
        long_clips=windows,
        device="cpu" if config.cluster else resolve_devices(config.device)[0],
        layers=layers,
        order=order,
        ids=manifest.table["utterance_id"].to_numpy(dtype=object)[order],
        request=request,
    )


def choose_layers(spec: str | None, source: ModelSource) -> list[int]:
    """Layers to keep: all of the model's, or those of a list such as ``0-6,12``.

    Raises:
        ConfigError: the model has no such layer.
    """
    n_layers = source.card.n_layers
    if spec is None:
        return list(range(n_layers))
    layers = list(parse_layers(spec))
    if layers[-1] >= n_layers:
        raise ConfigError(
            f"--layers {spec}: {source.card.name} has layers 0-{n_layers - 1}, there is no {layers[-1]}"
        )
    return layers


def choose_functionals(asked: Sequence[str] | None, source: ModelSource) -> tuple[str, ...]:
    """The statistics to keep: those asked for, else mean and std.

    Raises:
        ConfigError: the model gives one vector per clip, and something else than its mean is asked for.
    """
    if not source.card.pooled:
        return tuple(asked or DEFAULT_FUNCTIONALS)
    if asked is not None and tuple(asked) != ("mean",):
        raise ConfigError(
            f"--functionals {','.join(asked)}: {source.card.name} gives one vector per clip, whose mean is "
            "the vector itself; use --functionals mean"
        )
    return ("mean",)


def audio_policy(config: ExtractConfig, source: ModelSource) -> AudioPolicy:
    """How audio is prepared for this model under this configuration."""
    return AudioPolicy(
        sample_rate_hz=source.card.sample_rate_hz,
        normalisation=config.normalisation or source.card.normalisation,
        min_samples=config.min_samples,
        short_policy=config.short_policy or ("repeat" if source.card.repeat_short else "none"),
        rate_policy=config.rate_policy,
        resample_quality=config.resample_quality,
        channel=config.channel,
    )


def fingerprint(
    config: ExtractConfig,
    source: ModelSource,
    policy: AudioPolicy,
    windows: LongClips,
    functionals: Sequence[str],
) -> dict[str, Any]:
    """Everything that decides the stored values of a row and layer."""
    return {
        "model": dict(source.fingerprint()),
        "input": {
            **policy.fingerprint(),
            "long_clips": windows.fingerprint,
            **({"preset": config.preset} if config.preset else {}),
        },
        "functionals": list(functionals),
        "dtype": config.dtype,
        "precision": config.precision,
        "numerics_version": NUMERICS_VERSION,
        # Fused kernels round elsewhere than PyTorch's own; absent otherwise, so that keys keep their name.
        **({"compiled": True} if config.compile else {}),
    }


def resolve_devices(spec: str) -> list[str]:
    """``cuda:all`` → every GPU; a list with commas → its devices; anything else → one device.

    Raises:
        ConfigError: a device does not exist here.
    """
    import torch

    if spec == "cuda:all":
        n = torch.cuda.device_count()
        if not n:
            raise ConfigError("--device cuda:all: no CUDA device on this machine")
        return [f"cuda:{i}" for i in range(n)]
    return [resolve_device(device.strip()) for device in spec.split(",")]


def describe(source: ModelSource, config: ExtractConfig) -> dict[str, Any]:
    """What the key says for people: the model's card, and what it was asked for with.

    `given` has the model as it was named and the options that decide values and were not left as they
    are, so that other audio can be embedded in the same way.
    """
    defaults = {f.name: f.default for f in fields(ExtractConfig)}
    asked = {name: getattr(config, name) for name in VALUE_OPTIONS}
    given = {name: value for name, value in asked.items() if value != defaults[name]}
    card = {k: v for k, v in vars(source.card).items() if v is not None}
    return {**card, "given": {"model": lasting_spec(config.model), **given}}


def resolve_device(device: str) -> str:
    """``auto`` → ``cuda`` where there is one, else ``cpu``.

    Raises:
        ConfigError: the device does not exist here.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"--device: expected auto, cpu, cuda, cuda:N or cuda:all, got {device!r}") from None
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {device}: {torch.cuda.device_count()} CUDA devices on this machine")
    if kind.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device: expected auto, cpu, cuda, cuda:N or cuda:all, got {device!r}")
    return device
