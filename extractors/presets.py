"""Input conventions of published studies, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from extractors.models.interface import ModelCard
from featurestore.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What a study did.

    Attributes:
        options: fields of `ExtractConfig` that it decides.
        windows: samples of the windows, end to end, that long clips were cut into, by model family; "" for
            all others.
        departures: how a run under the preset still differs from the study.
    """

    options: Mapping[str, Any]
    windows: Mapping[str, int]
    departures: str


PRESETS: Mapping[str, Preset] = {
    # Sarkar & Magimai-Doss, ICASSP 2025 (arXiv 2501.05987), as coded in github.com/idiap/ssl-human-animal:
    # librosa.load(sr=16000, mono=True, offset, duration), whose resampler is soxr HQ, of all rows that its
    # data set classes keep; peak normalisation and no feature extractor; tiling to 5,000 samples; windows for
    # the long recordings of Watkins; mean and unbiased std.
    "sarkar2025": Preset(
        options={
            "normalisation": "peak",
            "short_policy": "repeat",
            "min_samples": 5000,
            "rate_policy": "resample",
            "resample_quality": "hq",
            "segments": "librosa",
            "channel": "mix",
            "functionals": ("mean", "std"),
            "precision": "fp32",
            "dtype": "float32",
        },
        windows={"": 2_000_000, "hubert": 300_000},
        departures="every clip is repeated to 5,000 samples by itself (the study repeated clips to the "
        "longest of their batch of 32), silent clips fail (they got the values of the clip before), so do "
        "rows that hold no sample and rows that end after their file, layer 0 of AVES is taken after "
        "positions and LayerNorm (there: before)",
    )
}
# What a field of `ExtractConfig` is called on the command line, where that differs.
_OPTION_NAMES = {"normalisation": "normalise", "short_policy": "short-clips"}


def option_name(field: str) -> str:
    """The option of `fs extract` for a field of `ExtractConfig`."""
    return "--" + _OPTION_NAMES.get(field, field.replace("_", "-"))


def preset_options(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options a preset decides.

    Args:
        name: of the preset.
        given: options as they were asked for; None where nothing was.

    Raises:
        ConfigError: there is no such preset, or something was asked for that contradicts it.
    """
    if name not in PRESETS:
        raise ConfigError(f"--preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    options = PRESETS[name].options
    for field, value in {**options, "window_s": None, "overlap_s": None}.items():
        if given[field] is not None and given[field] != value:
            means = "windows of its own" if value is None else _text(value)
            raise ConfigError(
                f"--preset {name} means {means} and {option_name(field)} says {_text(given[field])}; "
                "leave one of them out"
            )
    return options


def preset_windows(name: str, card: ModelCard) -> int:
    """Samples of the windows that a preset cuts long clips into, for this model.

    Raises:
        ConfigError: the preset is not for such models.
    """
    if card.pooled:
        raise ConfigError(
            f"--preset {name}: {card.name} gives one vector per clip; the preset is for models with frames"
        )
    windows = PRESETS[name].windows
    # The study's AVES is HuBERT by architecture, in a class of its own.
    family = "" if card.exported_by else card.family
    return windows.get(family, windows[""])


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)
