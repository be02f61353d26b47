"""The resolved configuration of one extraction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from extractors.audio.decoders import Decode
from extractors.audio.headers import check_channel
from extractors.audio.normalising import NORMALISATIONS
from extractors.audio.policy import (
    DEFAULT_MIN_SAMPLES,
    RatePolicy,
    ResampleQuality,
    Segments,
    ShortPolicy,
)
from extractors.models.interface import Normalisation, Precision
from extractors.presets import preset_options
from featurestore.compute.task_runners import check_cluster, decoding_threads
from featurestore.errors import ConfigError
from featurestore.format.codecs import check_codec, require_codec
from featurestore.format.number_types import DTypeName
from featurestore.names import check_name
from featurestore.store.key import MOST_UNIT_ROWS
from featurestore.store.plan import parse_share


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """What to extract, from what, to where, and how.

    Attributes:
        manifest: manifest file.
        dataset: name of the dataset in the store.
        model: built-in name, model folder or hub id.
        store: path or URL of the store.
        name: name of the model in the store; default: last part of `model`.
        layers: hidden states to keep, e.g. ``0-6,12``; default: all.
        functionals: statistics over frames, in stored order; None: mean and std, or mean alone for a
            model that gives one vector per clip.
        dtype: stored dtype.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``; several with commas between, or ``cuda:all``: one
            process for each.
        cluster: do units on a cluster, see `featurestore.compute.task_runners`; default: in this process.
        precision: of the forward pass.
        normalisation: input normalisation; default: what the model was trained with.
        min_samples, short_policy: see `AudioPolicy`; default policy: as the model's card says.
        rate_policy, resample_quality: see `AudioPolicy`.
        segments: how times become samples, see `AudioPolicy`; default: ``nearest``. ``librosa`` also takes
            rows whose end is not after their start, and counts them as failed.
        channel: of files whose manifest row names none: ``mix``, a number from 0, or ``each``.
        clip_to_file: rows that end after their file end with it; else they fail.
        time_expanded: take files as they play that their recorder says to be slower than they sounded; else
            they are refused, see `featurestore.audio.time_expansion`.
        window_s, overlap_s: how clips longer than a window are cut, see `extractors.forward.windows`; 0:
            whole.
        preset: input convention of a published study, see `extractors.presets`; sets the options above.
        unit_rows: rows per unit; default 1,024, fewer where frames are kept (see `plan_frames`).
        frames: keep the hidden states of every frame too.
        frames_dtype: stored dtype of frames.
        batch_seconds: most seconds of audio of one batch after padding; default by device.
        workers: decoders, see `extractors.audio.decoders.choose_decoders`; default: by cores and device.
        decode: whether decoders are ``threads`` or ``processes``; ``auto``: processes beside a GPU.
        overwrite: replace the key if it exists.
        codec: how layer arrays are encoded; ``half`` is ``fast`` in float16.
        share: part of the units to do, ``i/n``; default: all. `fs extract` fills in a SLURM array task's.
        prune: drop stored utterances that the manifest no longer has.
        torch_weights: also read ``pytorch_model.bin``, see `extractors.models.weights.weight_files`.
        refresh: embed again what has other audio now than when it was embedded.
        compile: compile the model's blocks with PyTorch's compiler.
        selfcheck: clips to embed again alone and compare after the run; None: a few, as long as they cost
            next to nothing; 0: none.
    """

    manifest: Path
    dataset: str
    model: str
    store: str
    name: str | None = None
    layers: str | None = None
    functionals: tuple[str, ...] | None = None
    dtype: DTypeName = "float32"
    device: str = "auto"
    precision: Precision = "fp32"
    normalisation: Normalisation | None = None
    min_samples: int = DEFAULT_MIN_SAMPLES
    short_policy: ShortPolicy | None = None
    rate_policy: RatePolicy = "resample"
    resample_quality: ResampleQuality = "hq"
    segments: Segments | None = None
    channel: str = "mix"
    clip_to_file: bool = False
    time_expanded: bool = False
    window_s: float | None = None
    overlap_s: float | None = None
    preset: str | None = None
    unit_rows: int | None = None
    frames: bool = False
    frames_dtype: DTypeName = "float16"
    batch_seconds: float | None = None
    workers: int | None = None
    decode: Decode = "auto"
    overwrite: bool = False
    codec: str = "fast"
    share: str | None = None
    prune: bool = False
    refresh: bool = False
    torch_weights: bool = False
    compile: bool = False
    selfcheck: int | None = None
    cluster: str | None = None

    def __post_init__(self) -> None:
        check_name(self.dataset, "dataset")
        if self.name is not None:
            check_name(self.name, "model")
        for option, value, allowed in (
            ("dtype", self.dtype, get_args(DTypeName)),
            ("frames-dtype", self.frames_dtype, get_args(DTypeName)),
            ("precision", self.precision, get_args(Precision)),
            ("decode", self.decode, get_args(Decode)),
            ("normalise", self.normalisation, (None, *NORMALISATIONS)),
            ("short-clips", self.short_policy, (None, *get_args(ShortPolicy))),
            ("rate-policy", self.rate_policy, get_args(RatePolicy)),
            ("segments", self.segments, (None, *get_args(Segments))),
            ("resample-quality", self.resample_quality, get_args(ResampleQuality)),
        ):
            if value not in allowed:
                expected = ", ".join(str(a) for a in allowed if a is not None)
                raise ConfigError(f"--{option}: expected one of {expected}, got {value!r}")
        if self.codec == "half":
            object.__setattr__(self, "dtype", "float16")
            object.__setattr__(self, "codec", "fast")
        require_codec(check_codec(self.codec, self.dtype))
        check_channel(self.channel)
        if self.preset is not None:
            for field, value in preset_options(self.preset, vars(self)).items():
                object.__setattr__(self, field, value)
        if self.share is not None:
            parse_share(self.share)
        check_cluster(self.cluster)
        if self.cluster is not None and ("," in self.device or self.device == "cuda:all"):
            raise ConfigError(
                f"--cluster with --device {self.device}: expected one device, that of a worker, such as auto"
            )
        if self.unit_rows is not None and not 1 <= self.unit_rows <= MOST_UNIT_ROWS:
            raise ConfigError(f"--unit-rows: expected from 1 to {MOST_UNIT_ROWS:,}, got {self.unit_rows:,}")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"--workers: expected at least 1, got {self.workers}")
        if self.selfcheck is not None and self.selfcheck < 0:
            raise ConfigError(f"--selfcheck: expected 0 or more clips, got {self.selfcheck}")
        if self.batch_seconds is not None and self.batch_seconds <= 0:
            raise ConfigError(f"--batch-seconds: expected more than 0, got {self.batch_seconds:g}")
        for option, seconds in (
            ("batch-seconds", self.batch_seconds),
            ("window-s", self.window_s),
            ("overlap-s", self.overlap_s),
        ):
            if seconds is not None and not 0 <= seconds < math.inf:
                raise ConfigError(f"--{option}: expected a number of seconds, got {seconds:g}")

    @property
    def n_threads(self) -> int:
        """Threads that read headers and compare audio with what is stored."""
        return self.workers or decoding_threads()


def configs_of(models: Sequence[str], names: Sequence[str], **options: Any) -> list[ExtractConfig]:
    """One configuration for each model, otherwise alike.

    Raises:
        ConfigError: there are names, and not one for each model.
    """
    if names and len(names) != len(models):
        raise ConfigError(
            f"--name: expected one for each --model, or none; got {len(names)} for {len(models)} models"
        )
    given: Sequence[str | None] = names or [None] * len(models)
    return [
        ExtractConfig(model=model, name=name, **options) for model, name in zip(models, given, strict=True)
    ]
