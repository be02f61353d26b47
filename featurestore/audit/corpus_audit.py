"""An audit: everything is decoded once, and labels are looked at, and embeddings if there are any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featurestore.audio.librosa_times import as_librosa_cuts
from featurestore.audit.clips import clip_findings, rate_rows
from featurestore.audit.copies import copy_findings, find_copies
from featurestore.audit.embeddings import embedding_findings
from featurestore.audit.findings import AuditReport, ordered
from featurestore.audit.labels import label_findings
from featurestore.audit.measurements import Measured, in_threads, measure_clip, measure_file
from featurestore.audit.stored_audio import against_store
from featurestore.compute.task_runners import decoding_threads
from featurestore.errors import ConfigError, KeyNotFound
from featurestore.fingerprint import flatten
from featurestore.manifest.audio_places import Places
from featurestore.manifest.table import CONTRACT_COLUMNS, Manifest, learnable_columns, read_manifest

if TYPE_CHECKING:
    from featurestore.audit.copies import Heard
    from featurestore.store.reader import Features

DEFAULT_MODEL_RATE_HZ = 16_000
# No file of sound has more, and no model.
MOST_MODEL_RATE_HZ = 100_000_000
# Of `Measured`, what the table of all clips has.
MEASURED = np.dtype(
    [
        *((name, np.int64) for name in ("n_samples", "n_flat_runs")),
        *((name, np.float64) for name in ("peak", "rms", "dc", "above", "agreement")),
        ("cancels", np.bool_),
        *((name, np.object_) for name in ("audio_hash", "error")),
    ]
)


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """A call of `run_audit`.

    Attributes:
        manifest: Manifest file.
        store: Path or URL of a feature store, to look at embeddings too.
        model: Model in the store; may be left out where there is one.
        dataset: Data set in the store; may be left out where there is one.
        layers: Layers to look at; None for the first and the last.
        model_rate_hz: Sample rate of the model that will listen; None takes the stored model's, or 16 kHz.
        rate_policy: ``resample`` or ``expand``, as of `fs extract`; None takes the stored key's.
        workers: Threads that decode; None for one per core, at most 8.
    """

    manifest: Path
    store: str | None = None
    model: str | None = None
    dataset: str | None = None
    layers: tuple[int, ...] | None = None
    model_rate_hz: int | None = None
    rate_policy: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.store is None and (self.model or self.dataset or self.layers):
            raise ConfigError(
                "audit: --model, --dataset and --layers name parts of a store; give --store too"
            )
        if self.model_rate_hz is not None and not 1 <= self.model_rate_hz <= MOST_MODEL_RATE_HZ:
            raise ConfigError(
                f"model rate: expected 1 to {MOST_MODEL_RATE_HZ:,} Hz, got {self.model_rate_hz:,}"
            )
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers: expected at least 1, got {self.workers}")


def run_audit(config: AuditConfig, on_done: Callable[[int, int], None] | None = None) -> AuditReport:
    """Audit a manifest, and a key of a store if one is named.

    Args:
        config: What to audit.
        on_done: Told how many clips of how many have been decoded.

    Raises:
        ManifestError: the manifest breaks its contract (files that are missing are a finding, and so are
            rows whose end is not after their start).
        KeyNotFound: no such key, or several to choose from.
        KeyNotFound: the key has no such layer.
    """
    features = _features(config)
    manifest = read_manifest(config.manifest, check_files=False, allow_empty=True)
    rate = config.model_rate_hz or _stored_rate(features) or DEFAULT_MODEL_RATE_HZ
    workers = config.workers or decoding_threads()
    if features is not None and features.info.cut_by_librosa:
        manifest = as_librosa_cuts(manifest, workers)  # what the key holds, so that hashes can be compared
    table, heard = measure(manifest, rate, workers, on_done)
    expands = _expands(features) if config.rate_policy is None else config.rate_policy == "expand"
    # What a model hears of a clip lasts longer when its samples are taken to be at the model's rate.
    model_rates = np.full(len(table), rate) if expands else table["rate_hz"].to_numpy()
    table["model_s"] = table["n_samples"] / np.maximum(model_rates, 1)
    copies = find_copies(table, heard, workers)
    findings = clip_findings(table, expands=expands)
    learnable = learnable_columns(manifest.table.columns)
    findings += copy_findings(copies, table, manifest.table[learnable])
    rates, of_rates = rate_rows(table, rate, expands=expands)
    of_labels, labels = label_findings(manifest.table, learnable)
    findings += [*of_rates, *of_labels]
    if features is not None:
        findings += against_store(features, manifest, table, workers)
        layers = config.layers or (features.layers[0], features.layers[-1])
        findings += embedding_findings(features, sorted(set(layers)), copies.names(table))
    seconds = float((table["n_samples"] / table["rate_hz"].clip(lower=1)).sum())
    return AuditReport(
        manifest=str(config.manifest),
        key="" if features is None else f"{features.model}/{features.dataset}",
        model_rate_hz=rate,
        facts={
            "clips": len(table),
            "files": int(table["path"].nunique()),
            "hours": seconds / 3600,
            "labels": len(learnable),
            "groups": len(set(manifest.table["group"]) - {""}),
        },
        findings=ordered(findings),
        labels=tuple(labels),
        rates=tuple(rates),
        copies=copies,
    )


def measure(
    manifest: Manifest,
    model_rate_hz: int,
    workers: int,
    on_done: Callable[[int, int], None] | None = None,
) -> tuple[pd.DataFrame, list[Heard]]:
    """Measure every clip: the contract columns with what was measured, and what copies are known by."""
    table = manifest.table
    of_row, paths = pd.factorize(table["path"].astype(object))
    files = pd.DataFrame([vars(f) for f in in_threads(measure_file, list(paths), workers)])
    files = files.iloc[of_row].reset_index(drop=True)
    places, rates = Places.of_table(table), files["rate_hz"].tolist()
    n = len(table)
    measured = np.zeros(n, dtype=MEASURED)
    heard: list[Heard] = []

    def tell(done: int) -> None:
        if on_done is not None:
            on_done(done, n)

    def measured_clip(i: int) -> Measured:
        return measure_clip(places.location(i), rates[i], model_rate_hz)

    for i, m in enumerate(in_threads(measured_clip, range(n), workers, tell)):
        measured[i] = tuple(getattr(m, name) for name in MEASURED.names or ())
        heard.append((m.sketch, m.portrait))
    return pd.concat([table[list(CONTRACT_COLUMNS)], pd.DataFrame(measured), files], axis=1), heard


def _features(config: AuditConfig) -> Features | None:
    if config.store is None:
        return None
    from featurestore.store.chosen_keys import chosen_keys
    from featurestore.store.reader import open_store

    store = open_store(config.store)
    models, datasets = (None if name is None else (name,) for name in (config.model, config.dataset))
    chosen = chosen_keys(store.storage, models, datasets)
    keys = chosen.names
    if len(keys) != 1:
        found = ", ".join(f"{m}/{d}" for m, d in keys or chosen.held) or "nothing"
        which = "several keys fit" if keys else "no such key"
        raise KeyNotFound(f"{config.store}: {which}, it holds {found}; choose with --model and --dataset")
    features = store.features(*keys[0])
    for k in config.layers or ():
        features.layer(k)  # a layer that is not there is an error now, not after an hour of decoding
    return features


def _expands(features: Features | None) -> bool:
    """Whether the clips of a key were embedded by time expansion."""
    given = {} if features is None else features.info.model_card.get("given", {})
    return bool(given.get("rate_policy") == "expand")


def _stored_rate(features: Features | None) -> int | None:
    """The sample rate that the stored model listened at, found in its fingerprint wherever it stands."""
    facts = {} if features is None else flatten(features.attrs["fingerprint"])
    rates = [v for k, v in facts.items() if k.rpartition(".")[2] == "sample_rate_hz" and isinstance(v, int)]
    return rates[-1] if rates else None
