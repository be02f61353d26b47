"""Answers that no longer stand, because their question is asked of other rows, labels or groups now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from featurestore.errors import CorruptData, StoreError
from featurestore.layer_list import format_layers
from featurestore.printable import counted
from probes.questions.tasks import ProbeTask
from probes.results import results_folder
from probes.results.split_files import SplitChange, file_name

_QUESTION = ["label", "dataset", "split"]
# What tells an answer that is asked for again; with the layers.
_FIELDS = ("model", "dataset", "label", "classifier", "split", "split_seed", "combine")


def replaced_sentences(
    out: Path,
    described: Sequence[Mapping[str, Any]],
    changes: Mapping[str, SplitChange],
    tasks: Sequence[ProbeTask],
) -> list[str]:
    """One sentence for each question whose answers in a folder are about other data than it is now.

    Args:
        out: Results folder, as it was before this call.
        described: The splits of this call.
        changes: Of their rows, by `probes.results.split_files.file_name`.
        tasks: What is asked now: it takes the place of what was answered.
    """
    try:
        table = results_folder.read_results(out)
    except (StoreError, CorruptData):
        return []  # no answers yet, or a table that is made again
    stale = table[~results_folder.answers_of(table, described)]
    if stale.empty:
        return []
    asked = {
        (*(getattr(task, name) for name in _FIELDS), format_layers(task.layers))
        for task in tasks
        if not task.control
    }
    again = [tuple(row) in asked for row in stale[[*_FIELDS, "layers"]].itertuples(index=False)]
    stale = stale.assign(again=again)
    extraction = _changed_extractions(results_folder.read_splits(out), described)
    sentences = []
    for (label, dataset, split), rows in stale.groupby(_QUESTION, sort=False):
        names = {
            file_name({"model": m, "dataset": dataset, "label": label, "split": split, "split_seed": seed}): m
            for m, seed in rows[["model", "split_seed"]].drop_duplicates().itertuples(index=False)
        }
        why = dict.fromkeys(
            changes[name].words(str(split), str(label), embeddings=(model, dataset) in extraction)
            for name, model in names.items()
            if name in changes
        )
        reason = " / ".join(why) or "the data changed"
        models = " and ".join(sorted(set(names.values())))
        sentences.append(f"{label} · {dataset} · split: {split}: {reason} since; {_fate(rows, models)}")
    return sentences


def _fate(rows: pd.DataFrame, models: str) -> str:
    """What becomes of the answers: those that are asked again are replaced, the others are left out."""
    left, n_again = rows[~rows["again"]], int(rows["again"].sum())
    if left.empty:
        return f"{counted(n_again, 'answer')} of {models} {_is(n_again)} replaced"
    what = " and ".join(sorted(set(left["classifier"])))
    gone = (
        f"{counted(len(left), 'answer')} ({what}) that this call does not ask again {_is(len(left))} left out"
    )
    return f"{counted(n_again, 'answer')} of {models} {_is(n_again)} replaced, {gone}" if n_again else gone


def _is(n: int) -> str:
    return "is" if n == 1 else "are"


def _changed_extractions(
    earlier: Sequence[Mapping[str, Any]], described: Sequence[Mapping[str, Any]]
) -> set[tuple[Any, ...]]:
    """Models and data sets whose embeddings are made with other settings than they were."""
    now = {(s["model"], s["dataset"]): s.get("extraction") for s in described}
    return {
        key
        for s in earlier
        if (key := (s["model"], s["dataset"])) in now and s.get("extraction") not in (None, now[key])
    }
