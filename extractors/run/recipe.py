"""The recipe of a key: what a configuration and its model decide together of the values that are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from extractors.audio.policy import AudioPolicy
from extractors.config import ExtractConfig
from extractors.forward.batching import Budget, find_budget
from extractors.forward.functionals import DEFAULT_FUNCTIONALS
from extractors.forward.windows import LongClips, long_clips
from extractors.models.arithmetic import products_in
from extractors.models.interface import Extractor, ModelSource
from extractors.models.registry import lasting_spec, load_model
from featurestore.errors import ConfigError
from featurestore.fingerprint import NUMERICS_VERSION
from featurestore.format.codecs import kept_bits

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
    "segments",
    "channel",
    "window_s",
    "overlap_s",
    "preset",
    "compile",
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the audio of a clip becomes the values of a row.

    Attributes:
        config: what was asked for.
        source: the model.
        policy: how audio is prepared.
        long_clips: how long clips are cut.
        functionals: the statistics to keep, in stored order.
    """

    config: ExtractConfig
    source: ModelSource
    policy: AudioPolicy
    long_clips: LongClips
    functionals: tuple[str, ...]

    @classmethod
    def of(cls, config: ExtractConfig, source: ModelSource) -> Recipe:
        """The recipe of this model under this configuration.

        Raises:
            ConfigError: something asked for is not to be had of this model.
        """
        card = source.card
        return cls(
            config=config,
            source=source,
            long_clips=long_clips(card, config.window_s, config.overlap_s, config.preset),
            functionals=_functionals(config.functionals, source),
            policy=AudioPolicy(
                sample_rate_hz=card.sample_rate_hz,
                normalisation=config.normalisation or card.normalisation,
                min_samples=config.min_samples,
                short_policy=config.short_policy or ("repeat" if card.repeat_short else "none"),
                rate_policy=config.rate_policy,
                resample_quality=config.resample_quality,
                segments=config.segments or "nearest",
                channel=config.channel,
            ),
        )

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the stored values of a row and layer."""
        config = self.config
        return {
            "model": dict(self.source.fingerprint()),
            "input": {
                **self.policy.fingerprint(),
                "long_clips": self.long_clips.fingerprint,
                **({"preset": config.preset} if config.preset else {}),
            },
            "functionals": list(self.functionals),
            "dtype": config.dtype,
            "precision": config.precision,
            "numerics_version": NUMERICS_VERSION,
            # Fused kernels round elsewhere than PyTorch's own; absent otherwise: keys keep their fingerprint.
            **({"compiled": True} if config.compile else {}),
            **({"mantissa_bits": bits} if (bits := kept_bits(config.codec)) is not None else {}),
        }

    def model_card(self) -> dict[str, Any]:
        """What the key says for people: the model's card, and what it was asked for with."""
        card = {k: v for k, v in vars(self.source.card).items() if v is not None}
        return {**card, "given": given_of(self.config)}

    def budget(
        self, extractor: Extractor, device: str, layers: Sequence[int], *, longest_samples: int
    ) -> Budget:
        """How large batches may be for these layers, where the longest clip to come has so many samples."""
        with products_in(self.config.precision):
            return find_budget(
                extractor,
                device,
                seconds=self.config.batch_seconds,
                longest_samples=min(longest_samples, self.long_clips.window_samples or longest_samples),
                layers=layers,
            )

    def load(self, device: str) -> Extractor:
        """The model on its device, see `load_model`."""
        config = self.config
        return load_model(self.source, device, config.precision, compiled=config.compile, spec=config.model)


def given_of(config: ExtractConfig) -> dict[str, Any]:
    """What a key keeps of what it was asked for with, so that other audio can be embedded in the same way.

    The model as it was named, and the options that decide values and were not left as they are.
    """
    defaults = {f.name: f.default for f in fields(ExtractConfig)}
    asked = {name: getattr(config, name) for name in VALUE_OPTIONS}
    given = {name: value for name, value in asked.items() if value != defaults[name]}
    return {"model": lasting_spec(config.model), **given}


def _functionals(asked: Sequence[str] | None, source: ModelSource) -> tuple[str, ...]:
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
