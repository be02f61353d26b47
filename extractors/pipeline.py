"""One extraction: manifest → plan → run → summary."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

from extractors.changes import refresh, report_changes
from extractors.config import ExtractConfig
from extractors.durations import clip_durations, clip_table
from extractors.frames import plan_frames
from extractors.models import find_model
from extractors.request import (
    VERSIONED_PACKAGES,
    audio_policy,
    choose_functionals,
    choose_layers,
    fingerprint,
    resolve_device,
)
from extractors.results import ExtractSummary, Progress
from extractors.run import Run
from featurestore.layout import CodecName
from featurestore.manifest import read_manifest
from featurestore.plan import DEFAULT_UNIT_ROWS, order_rows
from featurestore.shares import parse_share, share_of_job_array
from featurestore.storage import open_storage
from featurestore.writer import KeyRequest, delete_key, open_key, package_versions

__all__ = ["ExtractSummary", "Progress", "extract"]


def extract(config: ExtractConfig, on_progress: Callable[[Progress], None] | None = None) -> ExtractSummary:
    """Embed every utterance of a manifest and commit it to a store; resumes what is there.

    Raises:
        UserError: of the kind that fits, before any weights are loaded; see `featurestore.errors`.
    """
    began = time.perf_counter()
    manifest = read_manifest(config.manifest)
    storage = open_storage(config.store)  # a wrong address shows before models and headers are read
    source = find_model(config.model, allow_pickle=config.torch_weights)
    functionals = choose_functionals(config.functionals, source)
    policy = audio_policy(config, source)
    layers = choose_layers(config.layers, source)
    device = resolve_device(config.device)
    durations = clip_durations(manifest, config.workers)
    order = order_rows(durations, manifest.table["utterance_id"].tolist())
    unit_rows, frames = config.unit_rows or DEFAULT_UNIT_ROWS, None
    if config.frames:
        unit_rows, frames = plan_frames(
            durations[order],
            source.card,
            policy,
            n_layers=len(layers),
            unit_rows=config.unit_rows,
            dtype=config.frames_dtype,
        )
    request = KeyRequest(
        model=config.name or source.card.name,
        dataset=config.dataset,
        fingerprint=fingerprint(config, source, policy, functionals),
        functionals=functionals,
        layers=tuple(layers),
        n_features=source.card.n_features,
        dtype=config.dtype,
        codec=cast(CodecName, config.codec),
        unit_rows=unit_rows,
        frames=frames,
        versions=package_versions(VERSIONED_PACKAGES),
        model_card={k: v for k, v in vars(source.card).items() if v is not None},
    )
    extractor = None
    if config.overwrite:
        # Weights first: a model that cannot be loaded must not cost what is stored.
        extractor = source.load(device, config.precision)
        delete_key(storage, request.model, request.dataset)
    ids = manifest.table["utterance_id"].to_numpy(dtype=object)[order]
    writer, notes = open_key(storage, request, manifest, ids, prune=config.prune)
    if config.normalisation is None and source.card.trained:
        notes.insert(0, f"input normalisation: {policy.normalisation} ({source.card.normalisation_source})")
    table = clip_table(writer.manifest, manifest, durations, config.workers)
    notes += (refresh if config.refresh else report_changes)(writer, table, config.workers)
    pending = writer.pending_units(layers)
    share = parse_share(config.share) if config.share else share_of_job_array()
    mine = share.of(pending) if share else pending
    if share:
        notes.append(f"share {share}: {len(mine)} of {len(pending)} units that are to be done")
    run = Run(config=config, policy=policy, layers=layers, writer=writer, table=table, device=device)
    if mine:
        run.embed(extractor or source.load(device, config.precision), mine, on_progress)
    writer.sweep_claims()
    if run.n_done_by_others:
        notes.append(f"{run.n_done_by_others} units were done by other processes meanwhile")
    return ExtractSummary(
        key=writer.info.path,
        n_clips=int((writer.ids != "").sum()),
        n_embedded=run.n_clips,
        failed=run.failed,
        audio_s=run.audio_s,
        elapsed_s=time.perf_counter() - began,
        forward_s=run.elapsed_s,
        n_bytes=run.n_bytes,
        layers=list(writer.info.layers),
        device=device,
        notes=notes,
    )
