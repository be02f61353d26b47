"""Before training: the leakage report of every split of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from featurestore.arrays import IntArray
from featurestore.fingerprint import digest_columns
from probes.classifiers.numbers import CLASSIFICATION
from probes.leakage.alike_clips import Alike, find_alike
from probes.leakage.kinds import Leak, LeakageReport, find_leaks
from probes.questions.groups import is_group
from probes.questions.labelled_rows import labelled
from probes.splits import Split, make_split

if TYPE_CHECKING:
    from featurestore.store.reader import Features
    from probes.questions.labelled_rows import Labelled
    from probes.results.split_files import SplitFiles

# Raise it when a leak is looked for in another way, so that earlier reports are not taken over.
CHECK_VERSION = 3
COLUMNS = ["utterance_id", "path", "start_s", "end_s", "duration_s", "channel", "group", "audio_hash"]


def check_splits(
    keys: Mapping[tuple[str, str], Features],
    described: Sequence[dict[str, Any]],
    layer_of: Mapping[tuple[str, str], int],
    earlier: Sequence[Mapping[str, Any]],
    keep: SplitFiles,
    out: Path,
) -> list[LeakageReport]:
    """Report on every split and put the report into its description, under "leakage".

    Splits of one data set, label and fold that share their rows are looked at once, whatever the
    model; what sounds alike is found once per data set, in the first model's layer.

    Args:
        keys: By model and data set.
        described: Splits as ``_run.json`` keeps them; changed in place.
        layer_of: The layer to compare embeddings in, by model and data set.
        earlier: Splits of an earlier ``_run.json``; a report there on the same rows is taken over.
        keep: Where every split is written down as it is drawn.
        out: Results folder, which keeps what sounds alike; see `probes.leakage.alike_clips`.
    """
    known = {r["leakage"]["of"]: r["leakage"] for r in earlier if r.get("leakage", {}).get("complete")}
    near: dict[str, Alike] = {}  # by data set
    reports: dict[tuple[Any, ...], LeakageReport] = {}
    of_rows = itemgetter("model", "dataset", "label", "split")
    for (model, dataset, label, text), folds in groupby(described, key=of_rows):
        features = keys[model, dataset]
        of_split = list(folds)
        rows = labelled(features, label, text, of_split[0].get("task", CLASSIFICATION))
        table = _compared(features, rows)
        for record in of_split:
            split = make_split(text, rows.rows, record["split_seed"], record["fold"])
            keep.add(record, rows, split)
            of = _digest(rows, table, split)
            which = {"dataset": dataset, "label": label, "split": text, "fold": record["fold"]}
            name = (*which.values(), of)
            if name not in reports and of in known:
                reports[name] = _from_json(known[of], which)
            if name not in reports:
                if dataset not in near:
                    near[dataset] = find_alike(features, layer_of.get((model, dataset)), out)
                found = near[dataset]
                leaks = find_leaks(table, split, _positions(found.ids, rows))
                reports[name] = LeakageReport(
                    **which, leaks=leaks, notes=found.notes, complete=found.complete
                )
            record["leakage"] = {"of": of, **reports[name].to_json()}
    keep.close()
    return list(reports.values())


def _compared(features: Features, rows: Labelled) -> pd.DataFrame:
    """What `find_leaks` compares, of the rows that are split."""
    table = features.index.loc[rows.position, COLUMNS].reset_index(drop=True)
    if (
        rows.sets is None
        and rows.rows.numbers is None
        and is_group(rows.rows.label, table["group"].to_numpy(dtype=object))
    ):
        table["group"] = ""  # what is asked for: every class that is tested has to be in training too
    return table


def _positions(pairs: np.ndarray, rows: Labelled) -> IntArray:
    """Pairs of ids as positions in the rows; pairs with a row that is not there are left out."""
    index = pd.Index(rows.rows.utterance_id)
    found = index.get_indexer(pd.Index(pairs.ravel())).reshape(-1, 2).astype(np.int64)
    kept: IntArray = found[(found >= 0).all(axis=1)]
    return kept


def _digest(rows: Labelled, table: pd.DataFrame, split: Split) -> str:
    """What a report depends on: which row is where, in which part, of which group and file."""
    order = rows.rows.by_id
    columns = (split.part_of_rows(len(table)), *(table[c].to_numpy(dtype=object) for c in COLUMNS))
    return digest_columns(str(CHECK_VERSION), (column[order] for column in columns))


def _from_json(kept: Mapping[str, Any], which: Mapping[str, Any]) -> LeakageReport:
    leaks = tuple(
        Leak(**{**leak, "parts": tuple(leak["parts"]), "examples": tuple(leak["examples"])})
        for leak in kept["leaks"]
    )
    return LeakageReport(**which, leaks=leaks, notes=tuple(kept["notes"]))
