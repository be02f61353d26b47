"""Confounds against a label and against layers: `run_confounds`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featurestore.arrays import IntArray
from featurestore.compute.task_runners import decoding_threads
from featurestore.confounds.kept_sounds import KeptSounds
from featurestore.errors import LabelError, StoreError
from featurestore.outputs import check_folder, make_folder, put_file, require_replaceable, writing
from featurestore.printable import counted
from featurestore.spreadsheet import spreadsheet_csv
from featurestore.store.reader import Features
from probes import metrics
from probes.confounds.catalogue import ALL, CONFOUNDS, Confound, confound_table, known, varies
from probes.confounds.config import ConfoundsConfig
from probes.confounds.explained import BestProbe, best_probe, explains
from probes.confounds.fitting_steps import STEPS_OF_LABEL, Steps, n_steps
from probes.confounds.label_from_confounds import guessing_error, predict_label
from probes.confounds.layers import Known, known_by_layer
from probes.confounds.usable_rows import Fold, interval, sizes
from probes.questions.labelled_rows import OpenKeys, labelled, layer_matrix
from probes.questions.tasks import ProbeTask
from probes.results.results_folder import read_results
from probes.run.probe_plan import keys_of, make_plan, open_keys
from probes.splits import parse_split
from probes.training.standardise import Standardiser

SCORES_NAME, LAYERS_NAME = "confound_scores.csv", "confound_layers.csv"
_MARKS = {SCORES_NAME: b"guessing_error", LAYERS_NAME: b"balanced_accuracy_or_r2"}
SCORES_COLUMNS = (
    "dataset",
    "label",
    "split",
    "split_seed",
    "models",
    "confound",
    "uar",
    "chance",
    "majority_uar",
    "guessing_error",
    "ci_low",
    "ci_high",
    "n_groups",
    "explains",
    "best_probe_uar",
    "best_probe",
    "n_folds",
    "n_train",
    "n_val",
    "n_test",
    "n_test_known",
    "min_samples_leaf",
)
LAYERS_COLUMNS = (
    "model",
    "dataset",
    "label",
    "split",
    "split_seed",
    "layer",
    "confound",
    "measure",
    "balanced_accuracy_or_r2",
    "on_validation",
    "chance",
    "n_folds",
    "n_train",
    "n_test",
    "alpha",
)


@dataclass(frozen=True, kw_only=True)
class Confounds:
    """What was found.

    Attributes:
        out: Folder of the tables.
        scores: One row per question and confound, `SCORES_COLUMNS`; scores are means over folds.
        layers: One row per model, layer and confound, `LAYERS_COLUMNS`; means over folds.
        notes: What a reader has to know.
        n_measured: Clips decoded by this run.
        n_kept: Clips measured by earlier runs.
    """

    out: Path
    scores: pd.DataFrame
    layers: pd.DataFrame
    notes: tuple[str, ...]
    n_measured: int
    n_kept: int


def check_confounds_folder(out: Path) -> None:
    """Refuse a folder that holds other tables under the names of ours, before anything is decoded.

    Raises:
        ConfigError: they would be lost.
        StoreError: the folder cannot be written.
    """
    check_folder(out)
    for name, mark in _MARKS.items():
        require_replaceable(out / name, mark, "table of confounds")


def run_confounds(
    config: ConfoundsConfig,
    on_done: Callable[[int, int], None] | None = None,
    on_fitted: Callable[[int, int], None] | None = None,
) -> Confounds:
    """Measure confounds of the labelled clips; predict the label from them, and them from layers.

    Every number is of the very split that `fs probe` draws. Clips whose audio cannot be read now, or is other
    audio than was embedded, are left out and told of.

    Args:
        config: What to compare.
        on_done: Told how many clips of how many have been decoded.
        on_fitted: Told how many confounds and layers of how many have been fitted, of all keys.

    Raises:
        UserError: a label, layer, model, data set or split that cannot be, or audio that is not at hand.
    """
    check_confounds_folder(config.out)
    if config.results is not None:
        read_results(config.results)  # what is not there is an error now, not after an hour of decoding
    asked = config.asked
    opened = open_keys(config.store, keys_of(asked))
    plan = make_plan(asked, opened)
    make_folder(config.out, "tables")
    kept = KeptSounds.open(config.out)
    features = {(f.model, f.dataset): f for f in opened[0]}
    _refuse_sets(plan.tasks, features)
    run = _Run(config=config, notes=list(plan.notes), steps=Steps(n_steps(plan.tasks), on_fitted))
    n_clips = 0
    for key, f in features.items():
        tasks = [t for t in plan.tasks if (t.model, t.dataset) == key]
        index = f.index.iloc[_rows_asked(f, tasks)]
        n_clips += len(index)
        sounds = kept.measure(f.dataset, index, config.workers or decoding_threads(), on_done)
        table = confound_table(index, sounds)
        run.notes.extend(_unread(f, index, table))
        run.compare(f, tasks, table)
    found = Confounds(
        out=config.out,
        scores=pd.DataFrame(run.scores, columns=list(SCORES_COLUMNS)),
        layers=pd.DataFrame(run.layers, columns=list(LAYERS_COLUMNS)),
        notes=tuple(dict.fromkeys(run.notes)),
        n_measured=kept.n_measured,
        n_kept=n_clips - kept.n_measured,
    )
    for name, written in ((SCORES_NAME, found.scores), (LAYERS_NAME, found.layers)):
        with writing(config.out / name, "choose another --out"):
            put_file(spreadsheet_csv(written).encode(), config.out / name)
    return found


def _refuse_sets(tasks: Sequence[ProbeTask], features: dict[tuple[str, str], Features]) -> None:
    for model, dataset, label in dict.fromkeys((t.model, t.dataset, t.label) for t in tasks):
        found = labelled(features[model, dataset], label)
        if found.sets is not None:
            raise LabelError(
                f"{found.rows.what} holds sets of labels: confounds are compared with single labels; "
                "`fs manifest … --explode` makes a label of each"
            )


def _rows_asked(f: Features, tasks: Sequence[ProbeTask]) -> IntArray:
    """Rows of the index that any label of the call has, ascending."""
    labels = dict.fromkeys(t.label for t in tasks)
    rows = [labelled(f, label).position for label in labels]
    return np.unique(np.concatenate(rows)) if rows else np.zeros(0, dtype=np.int64)


def _unread(f: Features, index: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """A sentence for each reason why clips are left out.

    Raises:
        StoreError: it is all of them.
    """
    bad = table[table["problem"] != ""]
    if bad.empty:
        return []
    reasons = bad["problem"].value_counts()
    first = index.loc[bad.index[0]]
    example = f"{first['utterance_id']!r}: {first['path']}: {bad['problem'].iloc[0]}"
    if len(bad) == len(table):
        raise StoreError(
            f"{f.info.path}: expected the audio of its clips where the manifest has it, and none of "
            f"{counted(len(table), 'clip')} can be used, {example}; bring the audio back, or name its place "
            "by `fs manifest attach`"
        )
    examples = index.loc[bad.index, "utterance_id"].groupby(bad["problem"]).first()
    return [
        f"{f.info.path}: {counted(int(n), 'clip')} left out: {reason}, such as {examples[reason]!r}"
        for reason, n in reasons.items()
    ]


@dataclass(kw_only=True)
class _Run:
    """What has been found so far."""

    config: ConfoundsConfig
    notes: list[str]
    steps: Steps
    scores: list[dict[str, Any]] = field(default_factory=list)
    layers: list[dict[str, Any]] = field(default_factory=list)
    _places: dict[tuple[object, ...], list[dict[str, Any]]] = field(default_factory=dict)

    def compare(self, f: Features, tasks: Sequence[ProbeTask], table: pd.DataFrame) -> None:
        """All questions of one key."""
        keys = OpenKeys()
        for label, split in dict.fromkeys((t.label, t.split) for t in tasks):
            of_question = [t for t in tasks if (t.label, t.split) == (label, split)]
            folds = []
            for fold in dict.fromkeys(t.fold for t in of_question):
                question = keys.question(next(t for t in of_question if t.fold == fold))
                folds.append(Fold.of(question, table, of_question[0]))
            self._of_label(of_question[0], folds)
            self._of_layers(f, of_question, folds)

    def _of_label(self, task: ProbeTask, folds: Sequence[Fold]) -> None:
        """Scores of each confound and of all together; of models with the same clips once."""
        ids = tuple(sorted(folds[0].ids))
        name = task.dataset, task.label, task.split, task.clips, hash(ids)
        if name in self._places:
            for row in self._places[name]:
                row["models"] += f", {task.model}"
            self.steps.add(STEPS_OF_LABEL)
            return
        probe = best_probe(self.config.results, task) if self.config.results else None
        if self.config.results and probe is None:
            self.notes.append(
                f"{self.config.results}: holds no probe of {task.label} of {task.dataset} on split "
                f"{task.split!r}, seed {task.split_seed}, about the same clips; none is compared"
            )
        useful = [
            c
            for c in CONFOUNDS
            if all(varies(c, fold.table[c.name].iloc[fold.parts.train]) for fold in folds)
        ]
        names = ", ".join(c.name for c in CONFOUNDS if c not in useful)
        if names:
            self.notes.append(
                f"label {task.label!r} of {task.dataset}: not known, or the same in all training clips: "
                f"{names}"
            )
        asked = [(c.name, [c]) for c in useful]
        if len(useful) > 1:
            asked.append((ALL, useful))
        self.steps.add(STEPS_OF_LABEL - len(asked))
        rows = [self._score(task, what, confounds, folds, probe) for what, confounds in asked]
        rows.sort(key=lambda row: -row["uar"])
        self._places[name] = rows
        self.scores.extend(rows)

    def _score(
        self,
        task: ProbeTask,
        what: str,
        confounds: Sequence[Confound],
        folds: Sequence[Fold],
        probe: BestProbe | None,
    ) -> dict[str, Any]:
        jobs = self.config.workers or decoding_threads()
        found = [predict_label(confounds, fold.table, fold.y, fold.parts, jobs) for fold in folds]
        y = [(fold.y[fold.parts.train], fold.y[fold.parts.test]) for fold in folds]
        uar = float(np.mean([p.uar for p in found]))
        chance = float(np.mean([metrics.chance_level(test, train) for train, test in y]))
        error = float(np.sqrt(np.sum([guessing_error(test, train) ** 2 for train, test in y]))) / len(folds)
        has = [
            np.logical_or.reduce(
                [known(c, fold.table[c.name].iloc[fold.parts.test]) for c in confounds]
            ).sum()
            for fold in folds
        ]
        best = None if probe is None else probe.uar
        lies = interval(folds, [p.predicted for p in found], parse_split(task.split))
        self.steps.add()
        return {
            "dataset": task.dataset,
            "label": task.label,
            "split": task.split,
            "split_seed": task.split_seed,
            "models": task.model,
            "confound": what,
            "uar": uar,
            "chance": chance,
            "majority_uar": float(np.mean([metrics.majority_uar(train, test) for train, test in y])),
            "guessing_error": error,
            "ci_low": lies.low,
            "ci_high": lies.high,
            "n_groups": lies.n_groups,
            "explains": explains(uar, chance, error, best) and not lies.low <= chance,
            "best_probe_uar": np.nan if best is None else best,
            "best_probe": "" if probe is None else probe.what,
            "n_folds": len(folds),
            **sizes(folds),
            "n_test_known": int(sum(has)),
            "min_samples_leaf": ", ".join(dict.fromkeys(str(p.leaf) for p in found)),
        }

    def _of_layers(self, f: Features, tasks: Sequence[ProbeTask], folds: Sequence[Fold]) -> None:
        for (layer,) in dict.fromkeys(t.layers for t in tasks):
            by_name: dict[str, list[Known]] = {}
            rows = np.unique(np.concatenate([fold.position for fold in folds]))
            x = layer_matrix(f, (layer,), rows)
            for fold in folds:
                at = {part: np.searchsorted(rows, fold.of_index(part)) for part in ("train", "val", "test")}
                standardise = Standardiser.fit(x[at["train"]])
                of_parts = {part: standardise(x[where]) for part, where in at.items()}
                tables = {part: fold.table.iloc[getattr(fold.parts, part)] for part in at}
                for found in known_by_layer(of_parts, tables):
                    by_name.setdefault(found.confound, []).append(found)
            self.layers.extend(_layer_row(tasks[0], layer, found) for found in by_name.values())
            self.steps.add()


def _layer_row(task: ProbeTask, layer: int, found: Sequence[Known]) -> dict[str, Any]:
    return {
        "model": task.model,
        "dataset": task.dataset,
        "label": task.label,
        "split": task.split,
        "split_seed": task.split_seed,
        "layer": layer,
        "confound": found[0].confound,
        "measure": found[0].measure,
        "balanced_accuracy_or_r2": float(np.mean([k.test for k in found])),
        "on_validation": float(np.mean([k.val for k in found])),
        "chance": float(np.mean([k.chance for k in found])),
        "n_folds": len(found),
        "n_train": round(float(np.mean([k.n_train for k in found]))),
        "n_test": sum(k.n_test for k in found),
        "alpha": ", ".join(dict.fromkeys(f"{k.alpha:g}" for k in found)),
    }
