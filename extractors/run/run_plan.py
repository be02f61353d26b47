"""From configurations to a plan of the whole run: everything that may be refused is refused here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from extractors.audio.headers import choose_channels, clip_durations, end_with_files
from extractors.config import ExtractConfig
from extractors.models.registry import find_model
from extractors.run.key_plan import KeyPlan, plan_key, resolve_devices
from extractors.run.model_loading import check_blocks, check_compiler
from featurestore.backends.storage import Storage, open_storage
from featurestore.calls import TableRecord, describe_table
from featurestore.errors import ConfigError
from featurestore.manifest.table import Manifest, read_manifest
from featurestore.printable import counted

# What the models of one run have in common.
_SHARED = ("manifest", "store", "channel", "clip_to_file", "workers", "device", "cluster")


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


def plan_all(configs: Sequence[ExtractConfig]) -> RunPlan:
    """Read manifest and headers, find the models, plan every key.

    Raises:
        UserError: of the kind that fits.
    """
    config = _common(configs)
    _check_overwrite(configs)
    as_given = read_manifest(config.manifest)
    table = describe_table(config.manifest, len(as_given))
    manifest = choose_channels(as_given, config.channel, config.workers)
    notes = []
    if config.clip_to_file:
        manifest, n_clipped = end_with_files(manifest, config.workers)
        if n_clipped:
            notes.append(f"--clip-to-file: {counted(n_clipped, 'clip')} ended with the file, before end_s")
    storage = open_storage(config.store)  # a wrong address shows before models and headers are read
    sources = [find_model(c.model, allow_pickle=c.torch_weights) for c in configs]
    devices = resolve_devices(config.device) if config.cluster is None else []
    for c, source in zip(configs, sources, strict=True):
        if c.compile:
            check_blocks(source)
    if devices and any(c.compile for c in configs):
        check_compiler(devices[0])
    durations = clip_durations(manifest, config.workers)
    keys = [plan_key(c, s, manifest, durations) for c, s in zip(configs, sources, strict=True)]
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


def _common(configs: Sequence[ExtractConfig]) -> ExtractConfig:
    first = configs[0]
    for other in configs[1:]:
        if any(getattr(other, name) != getattr(first, name) for name in _SHARED):
            raise ConfigError(f"models of one run share {', '.join(_SHARED)}")
    return first


def _check_overwrite(configs: Sequence[ExtractConfig]) -> None:
    """Every task of an array would delete what the others have done."""
    if not any(c.overwrite for c in configs):
        return
    share = next((c.share for c in configs if c.share), None)
    if share:
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
                f"--model {seen[key]} and --model {plan.config.model} would both be {'/'.join(key)}; "
                "give each a --name"
            )
        seen[key] = plan.config.model
