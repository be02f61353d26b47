"""Units as tasks for another process: what it needs to know, and what it does with it.

A worker opens nothing but the store and the audio; manifest, headers and plan were read by the process that
hands out the work. A model is loaded once in a process and kept for its later tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from extractors.config import ExtractConfig
from extractors.forward.batch_budget import Budget
from extractors.forward.windows import long_clips
from extractors.models.interface import Extractor, ModelSource
from extractors.models.registry import find_model
from extractors.results import SelfCheck
from extractors.run.clip_tally import Heard
from extractors.run.engine import OnProgress, run_jobs
from extractors.run.key_job import Job
from extractors.run.key_plan import audio_policy, fingerprint, resolve_device
from extractors.run.model_loading import load_model
from extractors.run.selfcheck import SHARE_OF_RUN, selfcheck
from featurestore.audio.decoder_noise import hush_decoders
from featurestore.backends.storage import open_storage
from featurestore.fingerprint import digest
from featurestore.manifest.table import PLACE_COLUMNS, Manifest
from featurestore.store.key import KeyInfo
from featurestore.store.key_request import check_same
from featurestore.store.plan import Unit
from featurestore.store.row_columns import read_ids
from featurestore.store.writer import KeyWriter

TABLE_COLUMNS = [*PLACE_COLUMNS, "model_s"]


@dataclass(frozen=True, kw_only=True)
class KeyPart:
    """Units of one key.

    Attributes:
        config: of the run.
        info: the key.
        layers: layers to keep.
        units: what is to be done.
        table: by utterance id: `TABLE_COLUMNS`, of the rows of these units.
        device: torch device, or ``auto`` for what the worker has.
    """

    config: ExtractConfig
    info: KeyInfo
    layers: tuple[int, ...]
    units: tuple[Unit, ...]
    table: pd.DataFrame
    device: str


@dataclass(frozen=True, kw_only=True)
class UnitsTask:
    """Units of one or several keys, for one process."""

    parts: tuple[KeyPart, ...]

    def __str__(self) -> str:
        return "; ".join(f"units {[u.index for u in p.units]} of {p.info.path}" for p in self.parts)


@dataclass(frozen=True, kw_only=True)
class Report:
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
class _Loaded:
    weights: str  # digest of the model's part of the fingerprint
    extractor: Extractor
    budget: Budget | None


# What this process has loaded, by how it was asked for.
_MODELS: dict[tuple[str, ...], _Loaded] = {}


def part_of(job: Job, units: Sequence[Unit], device: str) -> KeyPart:
    """The part of a job that these units are."""
    ids = [i for unit in units for i in job.ids(unit) if i]
    return KeyPart(
        config=job.config,
        info=job.writer.info,
        layers=tuple(job.layers),
        units=tuple(units),
        table=job.table.loc[ids, TABLE_COLUMNS],
        device=device,
    )


def do_units(task: UnitsTask, on_progress: OnProgress | None = None) -> Report:
    """Embed and commit what is not committed yet.

    Raises:
        FingerprintMismatch: the model is another one here than where the work was planned.
    """
    hush_decoders()
    jobs = [_loaded_job(part) for part in task.parts]
    run_jobs(jobs, workers=task.parts[0].config.workers, on_progress=on_progress)
    return Report(
        notes=[note for job in jobs for note in job.notes()],
        heard={job.writer.info.path: job.heard for job in jobs},
        forward_s={job.writer.info.path: job.forward_s for job in jobs},
    )


def check_clips(task: CheckTask) -> SelfCheck:
    """Embed clips again alone and compare with the store."""
    job = _loaded_job(task.part)
    unasked = task.part.config.selfcheck is None
    return selfcheck(job, task.utterances, most_s=SHARE_OF_RUN * task.run_s if unasked else None)


def _loaded_job(part: KeyPart) -> Job:
    # Looked up for every task: a process may outlive the weights it has read.
    source = find_model(part.config.model, allow_pickle=part.config.torch_weights)
    job = _job(part, source)
    _load(job, part, source)
    return job


def _job(part: KeyPart, source: ModelSource) -> Job:
    config = part.config
    storage = open_storage(config.store)
    ids = np.asarray(read_ids(storage, part.info), dtype=object)
    # Only the ids are needed to write units.
    manifest = Manifest(table=part.table, source=part.info.path)
    return Job(
        config=config,
        policy=audio_policy(config, source),
        long_clips=long_clips(source.card, config.window_s, config.overlap_s, config.preset),
        layers=part.layers,
        writer=KeyWriter(storage, part.info, ids, manifest),
        table=part.table,
        units=part.units,
        device=resolve_device(part.device),
    )


def _load(job: Job, part: KeyPart, source: ModelSource) -> None:
    config = part.config
    wanted = fingerprint(config, source, job.policy, job.long_clips, part.info.functionals)
    check_same(job.writer.storage, part.info, wanted)
    decisive = (config.torch_weights, config.compile, config.batch_seconds)
    key = (config.model, job.device, config.precision, *map(str, decisive))
    weights = digest(wanted["model"])
    loaded = _MODELS.get(key)
    if loaded is None or loaded.weights != weights:
        _MODELS.pop(key, None)  # two of them may not fit
        loaded = _Loaded(weights, load_model(source, job.device, config), None)
    job.load(loaded.extractor, loaded.budget)
    _MODELS[key] = _Loaded(weights, loaded.extractor, job.loaded.budget)
