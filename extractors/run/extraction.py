"""Extraction: manifest → plan → run → summary, for one model or for several that share the decoding."""

from __future__ import annotations

import time
from collections.abc import Sequence

from extractors.config import ExtractConfig
from extractors.models.interface import Extractor
from extractors.models.package_versions import versions_here
from extractors.presets import PRESETS
from extractors.results import ExtractSummary, OnProgress, Outcome
from extractors.run.audio_changes import CheckedKey, check_key
from extractors.run.dispatch import run_distributed
from extractors.run.key_job import KeyJob
from extractors.run.pipeline import run_jobs
from extractors.run.plan import KeyPlan, RunPlan, plan_run
from extractors.run.reproduction import extract_call
from extractors.run.selfcheck import check_after
from featurestore.checks import CheckRecord
from featurestore.compute.task_runners import check_cluster_file
from featurestore.store.history import record_call, record_check
from featurestore.store.plan import parse_share
from featurestore.store.sound_identity import Sounds
from featurestore.store.writer import delete_key, open_key


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
    check_cluster_file(configs[0].cluster)
    plan = plan_run(configs)
    config = plan.config
    # All keys before any: what one model is refused for must not cost the key of another.
    sounds = Sounds(n_threads=config.n_threads)
    checked = [check_key(key, plan, sounds) for key in plan.keys]
    # Weights before anything is removed: a model that cannot be loaded must not cost what is stored.
    loaded = [k.recipe.load(plan.device) if k.recipe.config.overwrite else None for k in plan.keys]
    opened = [open_job(key, plan, found) for key, found in zip(plan.keys, checked, strict=True)]
    jobs = [job for job, _ in opened]
    notes: list[str] = []
    if config.cluster is not None or len(plan.devices) > 1:
        outcomes, notes = run_distributed(
            jobs, devices=plan.devices, cluster=config.cluster, on_progress=on_progress
        )
    else:
        outcomes = _run_here(jobs, loaded, on_progress)
    for (job, said), outcome in zip(opened, outcomes, strict=True):
        job.writer.finish()
        if job.units:
            said += job.writer.confirm(sounds)
        _keep_check(job, outcome, config.cluster or ", ".join(plan.devices))
    elapsed_s = time.perf_counter() - began
    return [
        ExtractSummary(
            key=job.path,
            n_clips=int((job.writer.ids != "").sum()),
            elapsed_s=elapsed_s,
            layers=list(job.writer.info.layers),
            device=config.cluster or ", ".join(plan.devices),
            n_together=len(opened),
            **{**vars(outcome), "notes": said + outcome.notes + notes},
        )
        for (job, said), outcome in zip(opened, outcomes, strict=True)
    ]


def _keep_check(job: KeyJob, outcome: Outcome, device: str) -> None:
    """Keep what a check that was asked for found, inside the key.

    What is checked unasked depends on how long it takes, and is no property of a key.
    """
    found = outcome.selfcheck
    if not job.config.selfcheck or found is None or not found.n_clips:
        return
    check = CheckRecord(
        clips="stored",
        n_clips=found.n_clips,
        device=device,
        precision=job.config.precision,
        tolerance=found.tolerance,
        alone=max(found.deviations.values(), default=0.0),
        versions=versions_here(),
    )
    record_check(job.writer.storage, job.writer.info, check)


def _run_here(
    jobs: Sequence[KeyJob], loaded: Sequence[Extractor | None], on_progress: OnProgress | None
) -> list[Outcome]:
    """Do the units in this process."""
    for job, extractor in zip(jobs, loaded, strict=True):
        if job.units:
            job.load(extractor or job.recipe.load(job.device))
    started = time.perf_counter()
    run_jobs([job for job in jobs if job.units], on_progress)
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
                forward_s=job.forward_s,
                run_s=run_s,
                notes=notes,
                selfcheck=check_after(job, run_s),
            )
        )
    return outcomes


def open_job(plan: KeyPlan, run: RunPlan, checked: CheckedKey) -> tuple[KeyJob, list[str]]:
    """Make or open a key and see what is to be done; with notes for the user."""
    config, request, card = plan.recipe.config, plan.request, plan.recipe.source.card
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
    if config.normalisation is None and card.trained:
        notes.insert(
            0, f"input normalisation: {plan.recipe.policy.normalisation} ({card.normalisation_source})"
        )
    pending = writer.pending_units(request.layers)
    job = KeyJob.of_plan(plan, run, writer, pending)
    if config.share:
        notes.append(
            f"share {parse_share(config.share)}: {len(job.units)} of {len(pending)} units that are to be done"
        )
    return job, notes
