"""From a results folder to the one probe that validation chose, fitted again and saved: `save_probe`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from featurestore import open_store
from featurestore.arrays import TextArray
from featurestore.errors import ConfigError, CorruptData, StoreError
from featurestore.outputs import check_folder
from featurestore.store.writer import package_versions
from probes.classifiers.interface import FittedProbe
from probes.classifiers.multilabel import THRESHOLD, cells_of
from probes.classifiers.numbers import CLASSIFICATION, REGRESSION, numbers_of
from probes.codes import codes, group_names
from probes.questions.labelled_rows import OpenKeys, labelled
from probes.questions.refit import PARTS_OF, check_refit, parts_of
from probes.questions.tasks import FitSpec, ProbeConfig, ProbeTask
from probes.results import results_folder
from probes.results.selection import R2, answers, chosen_fits, ranked
from probes.results.split_files import compare, kept_split, part_column, row_columns
from probes.run.probe_plan import Plan, make_plan
from probes.run.task_worker import Prepared, fit_bundle, over_all, prepare, scored
from probes.saved.calibration import ValidationNumbers, ValidationRows, fit_temperature
from probes.saved.probe_files import JSON_NAME, ProbeCard, SavedProbe, read_probe, write_probe
from probes.saved.stored_arrays import OF_FRAMES, to_store
from probes.splits import make_splits

if TYPE_CHECKING:
    from featurestore.store.reader import Features
    from probes.training.mlp_config import Schedule

QUESTION = ("label", "dataset", "classifier", "split")
KEPT_SCORES = (
    *(f"{metric}_{part}" for metric in ("uar", "map", "r2") for part in ("train", "val", "test")),
    *("pearson_test", "ccc_test", "mae_test"),
)
# Predicted numbers are the same up to this share of the standard deviation of the training rows' numbers:
# networks that are trained alone differ from those in company by 1e-4.
SAME_NUMBER = 1e-3
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
    refit: str | None = None,
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
        classifier: See `label`. One of an import path has to be named, since it is imported.
        split: See `label`.
        model: Take this model's best layer instead of that of the best model.
        store: Where the store is; default: where it was.
        refit: Save it fitted again on these rows, "train+val" or "all": with the settings, the initial
            weights and the epochs that were chosen. Its calibration stays that of the fit that has not seen
            the validation rows.

    Raises:
        ConfigError: the results hold several questions, or none that fits; `out` is no place for it; the
            fit diverged.
        StoreError: no results, or the store holds other data now; `out` cannot be written.
    """
    check_folder(out)
    table = results_folder.read_results(folder)
    given = {"label": label, "dataset": dataset, "classifier": classifier, "split": split, "model": model}
    row = _chosen(_narrow(table, given, folder))
    _require_named(row, classifier, folder)
    check_refit(refit, (str(row["classifier"]),), tuple(PARTS_OF))
    _require_free(out, row)
    task, fit = _task_found(row, [store] if store else _stores_of(folder, row), folder)
    probe, guess, ids, schedule = _fitted(task, fit)
    reproduced = _reproduced(folder, row, probe.card, guess, ids)
    scores = {str(k): float(v) for k, v in row.items() if str(k) in KEPT_SCORES and not pd.isna(v)}
    if refit is not None:
        probe = _fitted_again(replace(task, refit=refit), fit, probe, schedule)
    card = replace(probe.card, scores=scores, reproduced=reproduced)
    write_probe(out, replace(probe, card=card))
    return SavedSummary(folder=out, card=card)


def _reproduced(
    folder: Path, row: dict[str, Any], card: ProbeCard, guess: npt.NDArray[Any], ids: TextArray
) -> dict[str, int]:
    """How many predictions of test rows there are, and how many are others than those on record.

    Raises:
        CorruptData: some are not on record.
    """
    table = results_folder.read_predictions(folder, pd.DataFrame([row]))
    recorded = table.set_index("utterance_id")["prediction"]
    if set(ids) - set(recorded.index):
        raise CorruptData(
            f"{folder / results_folder.PREDICTIONS_FOLDER}: lacks predictions of this probe, which it has "
            "to be compared with; run the same `fs probe` again"
        )
    on_record = recorded.reindex(pd.Index(ids)).to_numpy(dtype=object)
    if card.is_numbers:
        same = np.abs(numbers_of(on_record) - guess) <= SAME_NUMBER * card.numbers["scale"]
    else:
        same = on_record == guess
    return {"n_test": len(ids), "n_differ": int((~same).sum())}


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
            raise ConfigError(
                f"{folder}: holds probes of several {name}s, say which with --{name}: {', '.join(held)}"
            )
    return table


def _chosen(table: pd.DataFrame) -> dict[str, Any]:
    """The fit with the highest validation score among those behind the answer."""
    answer, fits = ranked(answers(table)).iloc[0], chosen_fits(table)
    fits = fits[(fits["model"] == answer["model"]) & (fits["combine"] == answer["combine"])]
    fits = fits.sort_values(["score_val", "fold", "seed"], ascending=[False, True, True])
    return {str(k): v for k, v in fits.iloc[0].items()}


def _require_named(row: Mapping[str, Any], classifier: str | None, folder: Path) -> None:
    """Refuse to import what the results name and the user does not: they may be anybody's."""
    if ":" in row["classifier"] and classifier != row["classifier"]:
        raise ConfigError(
            f"{folder}: the classifier is {row['classifier']!r}, whose code would be imported here; if that "
            f"is what you want, say so: --classifier {row['classifier']}"
        )


def _require_free(out: Path, row: Mapping[str, Any]) -> None:
    """Refuse a folder with a probe for something else: what is there would be lost."""
    if not (out / JSON_NAME).is_file():
        return
    try:
        there = read_probe(out).card
    except CorruptData:
        return  # of no use to anybody
    held, new = (there.label, there.dataset), (row["label"], row["dataset"])
    if held != new:
        raise ConfigError(
            f"--out {out}: holds the probe of label {held[0]!r} of {held[1]}, this is one of label "
            f"{new[0]!r} of {new[1]}; choose another folder"
        )


def _stores_of(folder: Path, row: Mapping[str, Any]) -> list[str]:
    """Stores that calls which filled the folder asked this question of, the latest first.

    A relative path is looked for where the call was made, then here.
    """
    found: list[str] = []
    for call in reversed(results_folder.calls_of(results_folder.read_run(folder))):
        if _asks(call["config"], row):
            store = results_folder.store_of(call)
            here = str(call["config"]["store"])
            found.append(here if Path(here).exists() and not Path(store).exists() else store)
    if not found:
        raise StoreError(f"{folder / results_folder.RUN_NAME}: does not say where the store is; give --store")
    return list(dict.fromkeys(found))


def _asks(config: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether a call with this configuration asks what a row of the results answers."""
    named = row["label"] in config["labels"] and row["classifier"] in config["classifiers"]
    return named and all(
        not config[many] or row[one] in config[many]  # none named means all
        for many, one in (("models", "model"), ("datasets", "dataset"))
    )


def _task_found(row: dict[str, Any], stores: Sequence[str], folder: Path) -> tuple[ProbeTask, FitSpec]:
    """`_task_of` the first store that holds what was asked.

    Raises:
        StoreError: none does; the error of the first.
    """
    errors: list[StoreError] = []
    for store in stores:
        try:
            return _task_of(row, store, folder)
        except StoreError as error:
            errors.append(error)
    if isinstance(errors[0], CorruptData):
        raise errors[0]
    raise StoreError(f"{errors[0]} (if the store of {folder} has moved, give --store)") from errors[0]


def _task_of(row: dict[str, Any], store: str, folder: Path) -> tuple[ProbeTask, FitSpec]:
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
        task=_task(row),
    )
    fit = FitSpec(hparams=str(row["hparams"]), seed=int(row["seed"]))
    plan = make_plan(config)
    for task in plan.tasks:
        if task.fold == row["fold"] and task.question(fit) == row["fingerprint"]:
            return replace(task, fits=(fit,)), fit
    raise StoreError(
        f"{store}: {row['model']}/{row['dataset']} changed since this probe was fitted "
        f"({_what_changed(row, store, folder, plan)}); run fs probe again"
    )


def _task(row: Mapping[str, Any]) -> str:
    return REGRESSION if row["metric"] == R2 else CLASSIFICATION


def _what_changed(row: Mapping[str, Any], store: str, folder: Path, plan: Plan) -> str:
    """How the rows of a split differ from those that a fit was made of, in words."""
    before = kept_split(folder, row)
    if before is None:
        return "rows, labels, groups or embeddings"
    features = open_store(store).features(row["model"], row["dataset"])
    rows = labelled(features, row["label"], row["split"], _task(row))
    splits = make_splits(row["split"], rows.rows, int(row["split_seed"]))
    now = pd.DataFrame({**row_columns(rows), **{str(s.fold): part_column(rows, s) for s in splits}})
    was = [
        s
        for s in results_folder.read_splits(folder)
        if results_folder.split_name(s) == results_folder.split_name(row)
    ]
    made = {s.get("extraction") for s in (*was, *plan.splits)} - {None}
    return compare(before, now).words(row["split"], row["label"], embeddings=len(made) > 1)


def _fitted(task: ProbeTask, fit: FitSpec) -> tuple[SavedProbe, npt.NDArray[Any], TextArray, Schedule | None]:
    """The probe, its predictions for the test rows, their ids, and how it was trained."""
    keys = OpenKeys()
    data = prepare(task, keys=keys)
    (fitted,) = fit_bundle(task, data)
    names = np.array(data.question.classes, dtype=object)
    scores = over_all(fitted.scores(data.x["test"]), data.trained, len(names))
    rows = _validation_rows(fitted, data) if fitted.probabilistic else None
    probe = _saved(task, fit, data, fitted, keys.features(task), finite=bool(np.isfinite(scores).all()))
    card = replace(probe.card, calibration=_calibration(rows, data))
    probe = replace(probe, card=card, validation=None if rows is None else rows.drawn())
    test = data.question.split.test
    guess: npt.NDArray[Any]
    if data.question.is_numbers:
        guess = scores[:, 0]
        probe = replace(probe, validation_numbers=_validation_numbers(fitted, data))
    elif data.question.labelled.sets is not None:
        guess = cells_of(scores >= THRESHOLD, data.question.classes)
    else:
        guess = names[scores.argmax(axis=1)]
    return probe, guess, data.question.labelled.rows.utterance_id[test], fitted.schedule


def _fitted_again(task: ProbeTask, fit: FitSpec, chosen: SavedProbe, schedule: Schedule | None) -> SavedProbe:
    """The chosen probe fitted again on the rows of `task.refit`.

    What it would say of its validation rows is no measure any more, since it has learned from them:
    calibration and validation rows stay those of the chosen probe (of numbers they have no use, and go).
    """
    keys = OpenKeys()
    data = prepare(task, keys=keys)
    (fitted,) = fit_bundle(task, data, schedules=() if schedule is None else (schedule,))
    refit: dict[str, Any] = {"rows": task.refit, "n_rows": len(data.y["train"]), "of": chosen.card.question}
    if schedule is not None:
        refit["n_epochs"] = schedule.n_epochs
    if "test" in data.x:
        (row,) = scored(task, data, [fitted]).rows
        refit["score_test"] = float(next(row[c] for c in ("uar_test", "map_test", "r2_test") if c in row))
    probe = _saved(task, fit, data, fitted, keys.features(task), finite=True)
    card = replace(probe.card, calibration=chosen.card.calibration, refit=refit)
    rows = chosen.validation
    if rows is not None and card.classes != chosen.card.classes:
        rows = _among(rows, [card.classes.index(name) for name in chosen.card.classes], len(card.classes))
    return replace(probe, card=card, validation=rows)


def _among(rows: ValidationRows, at: Sequence[int], n_classes: int) -> ValidationRows:
    """Validation rows among more classes: those that were learned from other rows alone nobody said."""
    scores = np.zeros((len(rows.scores), n_classes), dtype=np.float32)
    scores[:, at] = rows.scores
    if rows.target.ndim == 1:
        return replace(rows, scores=scores, target=np.asarray(at, dtype=np.int32)[rows.target])
    target = np.zeros(scores.shape, dtype=np.int32)
    target[:, at] = rows.target
    return replace(rows, scores=scores, target=target)


def _saved(
    task: ProbeTask, fit: FitSpec, data: Prepared, fitted: FittedProbe, features: Features, *, finite: bool
) -> SavedProbe:
    """A fit as it is saved, without what its validation rows say.

    Raises:
        ConfigError: it diverged: its weights, or as `finite` says its scores, are not finite.
    """
    stored = to_store(fitted.model, task.classifier)
    if not (finite and _all_finite(stored.arrays.values())):
        raise ConfigError(
            f"the chosen fit of {task.classifier} on {task.place} of {task.model} diverged: its weights or "
            "scores are not finite; give fs probe a lower learning_rate with --grid"
        )
    attributes = features.attrs
    names = np.array(data.question.classes, dtype=object)
    card = ProbeCard(
        model=task.model,
        dataset=task.dataset,
        extraction=attributes["fingerprint"],
        given=attributes["model_card"].get("given", {}),
        layers=task.layers,
        combine=task.combine,
        label=task.label,
        classes=tuple(names[data.trained]),
        multilabel=data.question.labelled.sets is not None,
        classifier=task.classifier,
        hparams=json.loads(fit.hparams),
        seed=fit.seed,
        split=(task.split, task.split_seed, task.fold),
        question=task.question(fit),
        scores={},
        reproduced={},
        kind=stored.kind,
        settings=stored.settings | _of_frames(features, stored.kind),
        probabilistic=fitted.probabilistic,
        versions=package_versions(VERSIONS_OF),
        clip_s=_median_seconds(features, data, task.refit),
        numbers=_numbers(data) if data.question.is_numbers else {},
    )
    return SavedProbe(
        card=card, mean=data.standardise.mean, scale=data.standardise.scale, arrays=stored.arrays
    )


def _of_frames(features: Features, kind: str) -> dict[str, str]:
    """How the frames were stored that a probe of frames read; the fingerprint of a key does not say it."""
    frames = features.info.frames
    return {"frames_dtype": frames.dtype} if kind == OF_FRAMES and frames is not None else {}


def _numbers(data: Prepared) -> dict[str, Any]:
    """What the numbers were standardised by, and how many groups validate and train both."""
    scale, among = data.target_scale, _groups_trained(data) if "val" in data.x else 0
    return {"mean": scale.mean, "scale": scale.scale, "n_groups_trained": among}


def _validation_numbers(fitted: FittedProbe, data: Prepared) -> ValidationNumbers | None:
    """What a probe of numbers says of its validation rows; None where that is not finite."""
    predicted = np.ascontiguousarray(fitted.scores(data.x["val"])[:, 0], dtype=np.float64)
    if not np.isfinite(predicted).all():
        return None
    group = codes(_groups(data, "val"))[1].astype(np.int32)
    return ValidationNumbers(predicted=predicted, target=data.y["val"], group=group).drawn()


def _groups_trained(data: Prepared) -> int:
    """How many groups of the validation rows have training rows too."""
    return len(set(_groups(data, "val")) & set(_groups(data, "train")))


def _validation_rows(fitted: FittedProbe, data: Prepared) -> ValidationRows | None:
    """What the probe says of the validation rows that it can be right about; None where there are none."""
    scores, y = fitted.scores(data.x["val"]), data.y["val"]
    if data.question.labelled.sets is not None:
        rows, target = np.arange(len(y)), y[:, data.trained]
    else:
        rows = np.flatnonzero(np.isin(y, data.trained))
        target = np.searchsorted(data.trained, y[rows])
    if not len(rows) or not np.isfinite(scores).all():
        return None
    p = np.ascontiguousarray(scores[rows], dtype=np.float32).clip(0, 1)
    group = codes(_groups(data, "val")[rows])[1].astype(np.int32)
    return ValidationRows(scores=p, target=np.ascontiguousarray(target, dtype=np.int32), group=group)


def _groups(data: Prepared, part: str) -> TextArray:
    """Names of the groups of a part's rows `[n]`; a row without one is a group of its own."""
    at, rows = dict(data.question.split.parts())[part], data.question.labelled.rows
    return group_names(rows.group[at], rows.utterance_id[at])


def _calibration(rows: ValidationRows | None, data: Prepared) -> dict[str, float]:
    if rows is None:
        return {}
    temperature, before, after = fit_temperature(rows)
    return {
        "temperature": temperature,
        "nll_before": before,
        "nll_after": after,
        "n_rows": float(len(rows.scores)),
        "n_groups_trained": float(_groups_trained(data)),
    }


def _median_seconds(features: Features, data: Prepared, refit: str) -> float:
    """How long the training clips are, as they were decoded."""
    position = data.question.labelled.position[parts_of(data.question.split, refit)["train"]]
    return float(np.median(features.index["duration_s"].to_numpy(dtype=np.float64)[position]))


def _all_finite(arrays: Iterable[npt.NDArray[Any]]) -> bool:
    return all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f")
