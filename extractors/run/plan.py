"""The plan of a run, made of its configurations: everything that may be refused is refused here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from extractors.audio.headers import choose_channels, clip_durations, end_with_files, model_seconds
from extractors.config import ExtractConfig
from extractors.forward.unit_result import plan_frames
from extractors.models.interface import ModelCard
from extractors.models.package_versions import versions_here
from extractors.models.registry import check_compiler, find_model
from extractors.run.recipe import Recipe
from featurestore.audio.librosa_times import as_librosa_cuts
from featurestore.audio.time_expansion import check_time_expansion, expansions_of
from featurestore.backends.storage import Storage, open_storage
from featurestore.calls import TableRecord, describe_table
from featurestore.errors import ConfigError
from featurestore.layer_list import parse_layers
from featurestore.manifest.table import Manifest, read_manifest
from featurestore.printable import counted
from featurestore.store.key_request import KeyRequest
from featurestore.store.plan import DEFAULT_UNIT_ROWS, order_rows

# What the models of one run have in common.
SHARED = (
    *("manifest", "store", "segments", "channel", "clip_to_file", "time_expanded"),
    *("workers", "decode", "device", "cluster"),
)


@dataclass(frozen=True, kw_only=True)
class KeyPlan:
    """What a configuration asks of one key, before anything is written or loaded.

    Attributes:
        recipe: how its values are made.
        order: rows of the manifest in the order of the plan, int64 `[n]`.
        ids: their utterance ids.
        request: what the key shall be.
    """

    recipe: Recipe
    order: np.ndarray
    ids: np.ndarray
    request: KeyRequest


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A run before anything is written or loaded.

    Attributes:
        config: of the first model; what all have in common is the same in each.
        storage: the store.
        manifest: the utterances.
        table: the file they were read from.
        durations: their seconds, NaN where unknown.
        devices: of this machine; none where a cluster does the work.
        keys: one for each model.
        notes: lines for the user.
    """

    config: ExtractConfig
    storage: Storage
    manifest: Manifest
    table: TableRecord
    durations: np.ndarray
    devices: list[str]
    keys: list[KeyPlan]
    notes: list[str] = field(default_factory=list)

    @property
    def device(self) -> str:
        """Torch device that this process loads models to."""
        return self.devices[0] if self.devices else "cpu"


def plan_run(configs: Sequence[ExtractConfig]) -> RunPlan:
    """Read manifest and headers, find the models, plan every key.

    Raises:
        UserError: of the kind that fits.
    """
    config = _common(configs)
    _check_overwrite(configs)
    by_librosa = config.segments == "librosa"
    as_given = read_manifest(config.manifest, allow_empty=by_librosa)
    table = describe_table(config.manifest, len(as_given))
    manifest = choose_channels(as_given, config.channel, config.n_threads)
    notes = []
    # Samples that are read as if they were at the model's rate are the same at any rate that a file claims.
    if any(c.rate_policy == "resample" for c in configs):
        notes += check_time_expansion(
            manifest.table["path"],
            config.manifest,
            is_asked=config.time_expanded,
            workers=config.n_threads,
            said=expansions_of(manifest.table),
        )
    if by_librosa:
        manifest = as_librosa_cuts(manifest, config.n_threads)
        if n_empty := int((manifest.table["end_s"] <= manifest.table["start_s"].fillna(0.0)).sum()):
            notes.append(
                f"{counted(n_empty, 'row')} without a sample between start and end: kept, and failed"
            )
    if config.clip_to_file:
        manifest, n_clipped = end_with_files(manifest, config.n_threads)
        if n_clipped:
            notes.append(f"--clip-to-file: {counted(n_clipped, 'clip')} ended with the file, before end_s")
    storage = open_storage(config.store)  # a wrong address shows before models and headers are read
    sources = [find_model(c.model, allow_pickle=c.torch_weights) for c in configs]
    devices = resolve_devices(config.device) if config.cluster is None else []
    pairs = list(zip(configs, sources, strict=True))
    check_compiler(devices[0] if devices else None, [source for c, source in pairs if c.compile])
    durations = clip_durations(manifest, config.n_threads)
    keys = [_plan_key(Recipe.of(c, source), manifest, durations) for c, source in pairs]
    _check_distinct(keys)
    return RunPlan(
        config=config,
        storage=storage,
        manifest=manifest,
        table=table,
        durations=durations,
        devices=devices,
        keys=keys,
        notes=notes,
    )


def _plan_key(recipe: Recipe, manifest: Manifest, durations: np.ndarray) -> KeyPlan:
    config, card = recipe.config, recipe.source.card
    layers = layers_of(config.layers, card)
    ids = manifest.table["utterance_id"]
    model_s = model_seconds(manifest, durations, recipe.policy, config.n_threads)
    order = order_rows(model_s, ids.tolist())
    unit_rows, frames, bounds = config.unit_rows or DEFAULT_UNIT_ROWS, None, None
    if config.frames:
        unit_rows, frames, bounds = plan_frames(
            model_s[order],
            card,
            recipe.policy,
            n_layers=len(layers),
            unit_rows=config.unit_rows,
            dtype=config.frames_dtype,
        )
    request = KeyRequest(
        model=config.name or card.name,
        dataset=config.dataset,
        fingerprint=recipe.fingerprint(),
        functionals=recipe.functionals,
        layers=layers,
        n_features=card.n_features,
        dtype=config.dtype,
        codec=config.codec,
        unit_rows=unit_rows,
        frames=frames,
        frame_bounds=bounds,
        versions=versions_here(),
        model_card=recipe.model_card(),
    )
    ordered = ids.to_numpy(dtype=object)[order]
    return KeyPlan(recipe=recipe, order=order, ids=ordered, request=request)


def layers_of(asked: str | None, card: ModelCard) -> tuple[int, ...]:
    """Layers to keep: all of the model's, or those of a list such as ``0-6,12``.

    Raises:
        ConfigError: the model has no such layer.
    """
    if asked is None:
        return tuple(range(card.n_layers))
    layers = parse_layers(asked)
    if layers[-1] >= card.n_layers:
        raise ConfigError(
            f"--layers {asked}: {card.name} has layers 0-{card.n_layers - 1}, there is no {layers[-1]}"
        )
    return layers


def _common(configs: Sequence[ExtractConfig]) -> ExtractConfig:
    first = configs[0]
    for other in configs[1:]:
        if any(getattr(other, name) != getattr(first, name) for name in SHARED):
            raise ConfigError(f"models of one run share {', '.join(SHARED)}")
    return first


def _check_overwrite(configs: Sequence[ExtractConfig]) -> None:
    """Every task of an array would delete what the others have done."""
    share = next((c.share for c in configs if c.share), None)
    if share and any(c.overwrite for c in configs):
        raise ConfigError(
            f"--overwrite with share {share} (of --share, or of a SLURM array): each share would delete what "
            "the others have done; remove the key once with fs rm, and leave --overwrite out"
        )


def _check_distinct(plans: Sequence[KeyPlan]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for plan in plans:
        key = (plan.request.model, plan.request.dataset)
        if key in seen:
            raise ConfigError(
                f"--model {seen[key]} and --model {plan.recipe.config.model} would both be {'/'.join(key)}; "
                "give each a --name"
            )
        seen[key] = plan.recipe.config.model


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


def resolve_device(device: str) -> str:
    """``auto`` → ``cuda`` where there is one, else ``cpu``.

    Raises:
        ConfigError: the device does not exist here.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device: expected auto, cpu, cuda, cuda:N or cuda:all, got {device!r}")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {device}: {torch.cuda.device_count()} CUDA devices on this machine")
    return device
