"""Before training: the leakage report of every split of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from featurestore import open_store
from featurestore.arrays import IntArray
from featurestore.fingerprint import digest_columns
from probes.leakage.alike_table import Alike, find_alike
from probes.leakage.kinds import Leak, LeakageReport, find_leaks
from probes.questions.groups import is_group
from probes.questions.labelled_rows import labelled
from probes.splits import Split, make_split

if TYPE_CHECKING:
    from probes.questions.labelled_rows import Labelled
    from probes.results.split_files import SplitFiles

# Raise it when a leak is looked for in another way, so that earlier reports are not taken over.
CHECK_VERSION = 3
COLUMNS = ["utterance_id", "path", "start_s", "end_s", "duration_s", "channel", "group", "audio_hash"]


def check_splits(
    store: str,
    described: Sequence[dict[str, Any]],
    layer_of: Mapping[tuple[str, str], int],
    earlier: Sequence[Mapping[str, Any]] = (),
    keep: SplitFiles | None = None,
    out: Path | None = None,
) -> list[LeakageReport]:
    """Report on every split and put the report into its description, under "leakage".

    Splits of one data set, label and fold that share their rows are looked at once, whatever the
    model; what sounds alike is found once per data set, in the first model's layer.

    Args:
        store: Path or URL of the feature store.
        described: Splits as ``_run.json`` keeps them; changed in place.
        layer_of: The layer to compare embeddings in, by model and data set.
        earlier: Splits of an earlier ``_run.json``; a report there on the same rows is taken over.
        keep: Where every split is written down as it is drawn.
        out: Results folder, which keeps what sounds alike; see `probes.leakage.alike_table`.
    """
    known = {r["leakage"]["of"]: r["leakage"] for r in earlier if r.get("leakage", {}).get("complete")}
    opened = open_store(store)
    near: dict[str, Alike] = {}  # by data set
    reports: dict[tuple[Any, ...], LeakageReport] = {}
    last: tuple[Any, Labelled, pd.DataFrame] | None = None
    for record in described:
        model, dataset, label, text = (record[k] for k in ("model", "dataset", "label", "split"))
        key = (model, dataset, label, text)
        if last is None or last[0] != key:
            features = opened.features(model, dataset)
            rows = labelled(features, label, text)
            table = features.index.loc[rows.position, COLUMNS].reset_index(drop=True)
            if rows.sets is None and is_group(rows.rows.label, table["group"].to_numpy(dtype=object)):
                table["group"] = ""  # what is asked for: every class that is tested has to be in training too
            last = (key, rows, table)
        _, rows, table = last
        split = make_split(text, rows.rows, record["split_seed"], record["fold"])
        if keep is not None:
            keep.add(record, rows, split)
        of = _digest(rows, table, split)
        name = (dataset, label, text, record["fold"], of)
        if name not in reports and of in known:
            reports[name] = _from_json(known[of], dataset, label, text, record["fold"])
        if name not in reports:
            if dataset not in near:
                layer = layer_of.get((model, dataset))
                near[dataset] = find_alike(opened.features(model, dataset), layer, out)
            found = near[dataset]
            reports[name] = LeakageReport(
                dataset=dataset,
                label=label,
                split=text,
                fold=record["fold"],
                leaks=find_leaks(table, split, _positions(found.ids, rows)),
                notes=found.notes,
                complete=found.complete,
            )
        record["leakage"] = {"of": of, **reports[name].to_json()}
    if keep is not None:
        keep.close()
    return list(reports.values())


def _positions(pairs: np.ndarray, rows: Labelled) -> IntArray:
    """Pairs of ids as positions in the rows; pairs with a row that is not there are left out."""
    index = pd.Index(rows.rows.utterance_id)
    found = index.get_indexer(pd.Index(pairs.ravel())).reshape(-1, 2).astype(np.int64)
    kept: IntArray = found[(found >= 0).all(axis=1)]
    return kept


def _digest(rows: Labelled, table: pd.DataFrame, split: Split) -> str:
    """What a report depends on: which row is where, in which part, of which group and file."""
    part = np.full(len(table), "", dtype=object)
    for name, where in split.parts():
        part[where] = name
    order = rows.rows.by_id
    columns = (part, *(table[c].to_numpy(dtype=object) for c in COLUMNS))
    return digest_columns(str(CHECK_VERSION), (column[order] for column in columns))


def _from_json(kept: Mapping[str, Any], dataset: str, label: str, split: str, fold: int) -> LeakageReport:
    leaks = tuple(
        Leak(**{**leak, "parts": tuple(leak["parts"]), "examples": tuple(leak["examples"])})
        for leak in kept["leaks"]
    )
    return LeakageReport(
        dataset=dataset, label=label, split=split, fold=fold, leaks=leaks, notes=tuple(kept["notes"])
    )
