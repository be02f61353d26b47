"""From a results folder to the one probe that validation chose, fitted again and saved: `save_probe`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featurestore import open_store
from featurestore.errors import ConfigError, StoreError
from featurestore.writer import package_versions
from probes import results
from probes.multilabel import THRESHOLD, cells_of
from probes.planning import make_plan
from probes.saved import ProbeCard, SavedProbe, write_probe
from probes.selection import answers, chosen_fits, ranked
from probes.splits import TextArray
from probes.storable import to_store
from probes.tasks import Fit, ProbeConfig, ProbeTask
from probes.worker import fit_bundle, over_all, prepare

QUESTION = ("label", "dataset", "classifier", "split")
KEPT_SCORES = ("uar_train", "uar_val", "uar_test", "map_train", "map_val", "map_test")
VERSIONS_OF = ("featurestore-audio", "numpy", "scikit-learn", "torch")


@dataclass(frozen=True, kw_only=True)
class SavedSummary:
    """What `save_probe` saved.

    Attributes:
        folder: Where.
        card: What it is.
    """

    folder: Path
    card: ProbeCard


def save_probe(
    folder: Path,
    out: Path,
    *,
    label: str | None = None,
    dataset: str | None = None,
    classifier: str | None = None,
    split: str | None = None,
    model: str | None = None,
    store: str | None = None,
) -> SavedSummary:
    """Fit the probe that validation chose once more and save it.

    Of the models and layers the answer of the question is taken, of its fits (seeds, folds) the one with
    the highest validation score. It is fitted as it was, from the store, and its predictions for the test
    rows are compared with those that were recorded.

    Args:
        folder: Results of `fs probe`.
        out: Folder of the probe; made if need be.
        label: Label, if the results hold several; likewise the data set, classifier and split.
        dataset: See `label`.
        classifier: See `label`.
        split: See `label`.
        model: Take this model's best layer instead of that of the best model.
        store: Where the store is; default: where it was.

    Raises:
        ConfigError: the results hold several questions, or none that fits.
        StoreError: no results, or the store holds other data now.
    """
    table = results.read_results(folder)
    given = {"label": label, "dataset": dataset, "classifier": classifier, "split": split, "model": model}
    row = _chosen(_narrow(table, given, folder))
    task, fit = _task_of(row, store or _store_of(folder))
    features = open_store(task.store).features(task.model, task.dataset)
    probe, guess, ids = _refit(task, fit, features.attrs)
    recorded = results.read_predictions(folder, pd.DataFrame([row])).set_index("utterance_id")["prediction"]
    same = recorded.reindex(pd.Index(ids)).to_numpy(dtype=object) == guess
    reproduced = {"n_test": len(ids), "n_differ": int((~same).sum())}
    scores = {str(k): float(v) for k, v in row.items() if str(k) in KEPT_SCORES and not pd.isna(v)}
    card = replace(probe.card, scores=scores, reproduced=reproduced)
    write_probe(out, replace(probe, card=card))
    return SavedSummary(folder=out, card=card)


def _narrow(table: pd.DataFrame, given: dict[str, str | None], folder: Path) -> pd.DataFrame:
    for name, value in given.items():
        if value is None:
            continue
        held = sorted(table[name].unique())
        table = table[table[name] == value]
        if table.empty:
            raise ConfigError(f"--{name} {value}: {folder} has {', '.join(held)}")
    for name in QUESTION:
        held = sorted(table[name].unique())
        if len(held) > 1:
            raise ConfigError(f"{folder}: holds probes of several {name}s, say which: --{name} {held[0]} …")
    return table


def _chosen(table: pd.DataFrame) -> dict[str, Any]:
    """The fit with the highest validation score among those behind the answer."""
    answer, fits = ranked(answers(table)).iloc[0], chosen_fits(table)
    fits = fits[(fits["model"] == answer["model"]) & (fits["combine"] == answer["combine"])]
    fits = fits.sort_values(["score_val", "fold", "seed"], ascending=[False, True, True])
    return {str(k): v for k, v in fits.iloc[0].items()}


def _store_of(folder: Path) -> str:
    try:
        record = json.loads((folder / results.RUN_NAME).read_text(encoding="utf-8"))
        return str(record["config"]["store"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{folder / results.RUN_NAME}: does not say where the store is ({error!r}); give --store"
        ) from error


def _task_of(row: Mapping[str, Any], store: str) -> tuple[ProbeTask, Fit]:
    """The very question that a row of the results answers.

    Raises:
        StoreError: the store's rows, labels or embeddings are no longer those of the fit.
    """
    config = ProbeConfig(
        store=store,
        labels=(str(row["label"]),),
        out=Path(),
        models=(str(row["model"]),),
        datasets=(str(row["dataset"]),),
        layers=str(row["layers"]),
        combine=(str(row["combine"]),),
        classifiers=(str(row["classifier"]),),
        split=str(row["split"]),
        split_seed=int(row["split_seed"]),
    )
    fit = Fit(hparams=str(row["hparams"]), seed=int(row["seed"]))
    for task in make_plan(config).tasks:
        if task.fold == row["fold"] and task.question(fit) == row["fingerprint"]:
            return replace(task, fits=(fit,)), fit
    raise StoreError(
        f"{store}: {row['model']}/{row['dataset']} or its labels changed since this probe was fitted; "
        "run fs probe again"
    )


def _refit(task: ProbeTask, fit: Fit, attributes: dict[str, Any]) -> tuple[SavedProbe, TextArray, TextArray]:
    """The probe, its predictions for the test rows, and their ids."""
    data = prepare(task)
    (fitted,) = fit_bundle(task, data)
    stored = to_store(fitted.model, task.classifier)
    names = np.array(data.question.classes, dtype=object)
    scores = over_all(fitted.scores(data.x["test"]), data.trained, len(names))
    sets = data.question.labelled.sets is not None
    card = ProbeCard(
        model=task.model,
        dataset=task.dataset,
        extraction=attributes["fingerprint"],
        given=attributes["model_card"].get("given", {}),
        layers=task.layers,
        combine=task.combine,
        label=task.label,
        classes=tuple(names[data.trained]),
        multilabel=sets,
        classifier=task.classifier,
        hparams=json.loads(fit.hparams),
        seed=fit.seed,
        split=(task.split, task.split_seed, task.fold),
        question=task.question(fit),
        scores={},
        reproduced={},
        kind=stored.kind,
        settings=stored.settings,
        probabilistic=fitted.probabilistic,
        versions=package_versions(VERSIONS_OF),
    )
    probe = SavedProbe(
        card=card, mean=data.standardise.mean, scale=data.standardise.scale, arrays=stored.arrays
    )
    test = data.question.split.test
    guess = cells_of(scores >= THRESHOLD, data.question.classes) if sets else names[scores.argmax(axis=1)]
    return probe, guess, data.question.labelled.rows.utterance_id[test]
