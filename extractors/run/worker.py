"""What a worker is told to do, as data, and does: units of keys, and checks of clips.

A worker opens nothing but the store and the audio; manifest, headers and plan were read by the process that
hands out the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from extractors.forward.batching import Budget
from extractors.models.interface import Extractor
from extractors.models.registry import find_model
from extractors.results import OnProgress, SelfCheck
from extractors.run.clip_tally import Heard
from extractors.run.key_job import KeyJob, KeyPart
from extractors.run.pipeline import run_jobs
from extractors.run.recipe import Recipe
from extractors.run.selfcheck import SHARE_OF_RUN, selfcheck
from featurestore.audio.decoder_noise import hush_decoders
from featurestore.fingerprint import digest
from featurestore.store.key_request import check_same


@dataclass(frozen=True, kw_only=True)
class UnitsTask:
    """Units of one or several keys, for one process."""

    parts: tuple[KeyPart, ...]

    def __str__(self) -> str:
        return "; ".join(f"units {[u.index for u in p.units]} of {p.info.path}" for p in self.parts)


@dataclass(frozen=True, kw_only=True)
class UnitsReport:
    """How it went: notes, and per key what was counted and the seconds in the model."""

    notes: list[str]
    heard: Mapping[str, Heard]
    forward_s: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class CheckTask:
    """Clips of one key to check, see `selfcheck`; `run_s` is what unasked checking must be small against."""

    part: KeyPart
    utterances: tuple[str, ...]
    run_s: float

    def __str__(self) -> str:
        return f"self-check of {self.part.info.path}"


@dataclass(frozen=True)
class LoadedModel:
    """A model that a process keeps for its later tasks; `weights` is the digest of its fingerprint."""

    weights: str
    extractor: Extractor
    budget: Budget


# Loaded models by how they were asked for.
LoadedModels = dict[tuple[str, ...], LoadedModel]


def do_units(task: UnitsTask, models: LoadedModels, on_progress: OnProgress | None = None) -> UnitsReport:
    """Embed and commit what is not committed yet.

    Args:
        task: what to do.
        models: those loaded already; gains those that are loaded here.
        on_progress: told after every batch.

    Raises:
        FingerprintMismatch: the model is another one here than where the work was planned.
    """
    hush_decoders()
    jobs = [_loaded_job(part, models) for part in task.parts]
    run_jobs(jobs, on_progress)
    return UnitsReport(
        notes=[note for job in jobs for note in job.notes()],
        heard={job.path: job.heard for job in jobs},
        forward_s={job.path: job.forward_s for job in jobs},
    )


def check_clips(task: CheckTask, models: LoadedModels) -> SelfCheck:
    """Embed clips again alone and compare with the store; `models` as for `do_units`."""
    job = _loaded_job(task.part, models)
    unasked = task.part.config.selfcheck is None
    return selfcheck(job, task.utterances, most_s=SHARE_OF_RUN * task.run_s if unasked else None)


def _loaded_job(part: KeyPart, models: LoadedModels) -> KeyJob:
    config = part.config
    # Looked up for every task: a process may outlive the weights it has read.
    recipe = Recipe.of(config, find_model(config.model, allow_pickle=config.torch_weights))
    job = KeyJob.of_part(part, recipe)
    wanted = recipe.fingerprint()
    check_same(job.writer.storage, part.info, wanted)
    decisive = (config.torch_weights, config.compile, config.batch_seconds)
    key = (config.model, job.device, config.precision, *map(str, decisive))
    weights = digest(wanted["model"])
    loaded = models.get(key)
    if loaded is not None and loaded.weights == weights:
        job.load(loaded.extractor, loaded.budget)
    else:
        models.pop(key, None)  # two of them may not fit
        job.load(recipe.load(job.device))
    models[key] = LoadedModel(weights, job.loaded.extractor, job.loaded.budget)
    return job


# A worker of a cluster is given one task after another, and nothing else that stays: this is where it keeps
# its models.
_OF_THIS_WORKER: LoadedModels = {}


def do_units_on_cluster(task: UnitsTask) -> UnitsReport:
    """`do_units`, in a worker of a cluster."""
    return do_units(task, _OF_THIS_WORKER)


def check_clips_on_cluster(task: CheckTask) -> SelfCheck:
    """`check_clips`, in a worker of a cluster."""
    return check_clips(task, _OF_THIS_WORKER)
