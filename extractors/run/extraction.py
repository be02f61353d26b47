"""Extraction: manifest → plan → run → summary, for one model or for several that share the decoding."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from extractors.audio.durations import clip_table
from extractors.config import ExtractConfig
from extractors.models.interface import Extractor
from extractors.presets import PRESETS
from extractors.results import ExtractSummary, Outcome, Progress, SelfCheck
from extractors.run.audio_changes import CheckedKey, check_key
from extractors.run.distributed_run import run_distributed
from extractors.run.engine import run_jobs
from extractors.run.extract_call import extract_call
from extractors.run.key_job import Job
from extractors.run.key_plan import KeyPlan
from extractors.run.model_loading import load_model
from extractors.run.run_plan import RunPlan, plan_all
from extractors.run.selfcheck import SHARE_OF_RUN, choose, selfcheck
from featurestore.store.history import record_call
from featurestore.store.plan import parse_share
from featurestore.store.sound_identity import Sounds
from featurestore.store.writer import delete_key, open_key

OnProgress = Callable[[Progress], None]


def extract(config: ExtractConfig, on_progress: OnProgress | None = None) -> ExtractSummary:
    """Embed every utterance of a manifest and commit it to a store; resumes what is there.

    Raises:
        UserError: of the kind that fits, before any weights are loaded; see `featurestore.errors`.
    """
    return extract_all([config], on_progress)[0]


def extract_all(
    configs: Sequence[ExtractConfig], on_progress: OnProgress | None = None
) -> list[ExtractSummary]:
    """As `extract`, for several models that see the same manifest; what they share is decoded once.

    Every key holds what a run of its own would hold.

    Args:
        configs: one for each model; same manifest, store, workers, device and cluster.
        on_progress: told after every batch.

    Raises:
        UserError: see `extract`; then no model has been loaded and no key changed.
    """
    began = time.perf_counter()
    plan = plan_all(configs)
    config, devices = plan.config, plan.devices
    # All keys before any: what one model is refused for must not cost the key of another.
    sounds = Sounds(n_threads=config.workers)
    checked = [check_key(key, plan, sounds) for key in plan.keys]
    # Weights before anything is removed: a model that cannot be loaded must not cost what is stored.
    loaded = [load_model(k.source, k.device, k.config) if k.config.overwrite else None for k in plan.keys]
    opened = [_open(k, plan, c, e) for k, c, e in zip(plan.keys, checked, loaded, strict=True)]
    jobs = [job for job, _, _ in opened]
    if config.cluster is not None or len(devices) > 1:
        outcomes, notes = run_distributed(
            jobs, devices=devices, cluster=config.cluster, on_progress=on_progress
        )
    else:
        extractors = [extractor for _, extractor, _ in opened]
        outcomes, notes = _run_here(jobs, plan.keys, extractors, on_progress), []
    for job, _, said in opened:
        job.writer.finish()
        if job.units:
            said += job.writer.confirm(sounds)
    elapsed_s = time.perf_counter() - began
    return [
        ExtractSummary(
            key=job.writer.info.path,
            n_clips=int((job.writer.ids != "").sum()),
            n_embedded=outcome.n_embedded,
            failed=outcome.failed,
            audio_s=outcome.audio_s,
            elapsed_s=elapsed_s,
            forward_s=outcome.forward_s,
            n_bytes=outcome.n_bytes,
            layers=list(job.writer.info.layers),
            device=config.cluster or ", ".join(devices),
            n_together=len(opened),
            notes=opening + outcome.notes + notes,
            selfcheck=outcome.selfcheck,
        )
        for (job, _, opening), outcome in zip(opened, outcomes, strict=True)
    ]


def _run_here(
    jobs: Sequence[Job],
    plans: Sequence[KeyPlan],
    extractors: Sequence[Extractor | None],
    on_progress: OnProgress | None,
) -> list[Outcome]:
    """Do the units in this process."""
    for job, plan, extractor in zip(jobs, plans, extractors, strict=True):
        if job.units:
            job.load(extractor or load_model(plan.source, plan.device, plan.config))
    started = time.perf_counter()
    run_jobs([job for job in jobs if job.units], workers=jobs[0].config.workers, on_progress=on_progress)
    run_s = time.perf_counter() - started
    outcomes = []
    for job in jobs:
        notes = job.heard.notes(job.policy) + job.notes()
        if job.n_units_by_others:
            notes.append(f"{job.n_units_by_others} units were done by other processes meanwhile")
        outcomes.append(
            Outcome(
                n_embedded=job.n_clips,
                failed=job.failed,
                audio_s=job.audio_s,
                n_bytes=job.n_bytes,
                run_s=run_s,
                forward_s=job.forward_s,
                notes=notes,
                selfcheck=_selfcheck(job, run_s),
            )
        )
    return outcomes


def _selfcheck(job: Job, run_s: float) -> SelfCheck | None:
    utterances = choose(job)
    if not utterances:
        return None
    return selfcheck(job, utterances, most_s=SHARE_OF_RUN * run_s if job.config.selfcheck is None else None)


def _open(
    plan: KeyPlan, run: RunPlan, checked: CheckedKey, extractor: Extractor | None
) -> tuple[Job, Extractor | None, list[str]]:
    """Make or open a key and see what is to be done; with the model where it is loaded already."""
    config, request = plan.config, plan.request
    if config.overwrite:
        delete_key(run.storage, request.model, request.dataset)
    writer, notes = open_key(
        run.storage,
        request,
        run.manifest,
        plan.ids,
        prune=config.prune,
        compared=checked.compared,
        again=checked.again,
    )
    record_call(run.storage, writer.info, extract_call(plan, run.table))
    notes += [*checked.notes, *run.notes]
    if config.preset:
        notes.insert(0, f"preset {config.preset}: {PRESETS[config.preset].departures}")
    if config.normalisation is None and plan.source.card.trained:
        source = plan.source.card.normalisation_source
        notes.insert(0, f"input normalisation: {plan.policy.normalisation} ({source})")
    table = clip_table(writer.manifest, run.manifest, run.durations, plan.policy, config.workers)
    units = writer.pending_units(plan.layers)
    share = parse_share(config.share) if config.share else None
    if share:
        n_pending = len(units)
        units = share.of(units)
        notes.append(f"share {share}: {len(units)} of {n_pending} units that are to be done")
    job = Job(
        config=config,
        policy=plan.policy,
        long_clips=plan.long_clips,
        layers=plan.layers,
        writer=writer,
        table=table,
        units=units,
        device=plan.device,
    )
    return job, extractor, notes
