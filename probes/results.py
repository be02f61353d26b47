"""The results folder: what is finished, the table of it, and what the table says.

``_tasks/<fingerprint>.parquet`` holds the rows of one finished task and is put last, so it is the
record that the task is done; ``results.parquet`` is rewritten from these. Every file appears whole
or not at all.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featurestore.errors import CorruptData, StoreError
from probes.combine import EACH
from probes.metrics import uar
from probes.splits import parse_split

RESULTS_NAME = "results.parquet"
# With an underscore, as the folders: so that reading the folder as Parquet reads the table alone.
RUN_NAME = "_run.json"
TASKS_FOLDER = "_tasks"
PREDICTIONS_FOLDER = "_predictions"

#: What a fit answers. A later answer to the same question about other data replaces the earlier.
IDENTITY = (
    "model",
    "dataset",
    "label",
    "classifier",
    "split",
    "split_seed",
    "fold",
    "combine",
    "layer",
    "layers",
    "hparams",
    "seed",
)
# Scores of single classifiers, empty elsewhere.
OWN_MEASURES = ("r_precision_test", "r_precision_macro_test")
COLUMNS = (
    "model",
    "dataset",
    "label",
    "layer",
    "classifier",
    "split",
    "seed",
    "hparams",
    "uar_train",
    "uar_val",
    "uar_test",
    "accuracy_test",
    "f1_macro_test",
    "auroc_macro_test",
    "ece_test",
    "chance",
    "n_train",
    "n_val",
    "n_test",
    "n_classes",
    "n_epochs",
    "best_epoch",
    "fit_s",
    "split_seed",
    "fold",
    "finished_at",
    "fingerprint",
    # how `layers` (text such as 0-12) were looked at; `layer` is empty where several were combined
    "combine",
    "layers",
    # JSON list in the order of `layers`, where they were learned; "" elsewhere
    "layer_weights",
    # of retrieval only: mean over test rows, and over classes; see `probes.retrieval`
    *OWN_MEASURES,
)
CURVE = ("model", "dataset", "label", "classifier", "split", "combine")
PLACE = ("layer", "layers")
SPLIT_OF_CURVE = ("split_seed", "fold")


def prepare(out: Path) -> None:
    """Make the folder, and make sure that it can be written.

    Raises:
        StoreError: it cannot.
    """
    try:
        for folder in (out, out / TASKS_FOLDER, out / PREDICTIONS_FOLDER):
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise StoreError(
            f"{out}: cannot write results here ({error.strerror}); choose another --out"
        ) from error


def finished(out: Path) -> set[str]:
    """Fingerprints of all fits whose task is recorded as done."""
    done: set[str] = set()
    for path in _task_files(out):
        done.update(_read(path, ["fingerprint"])["fingerprint"])
    return done


def write_task(out: Path, fingerprint: str, rows: list[dict[str, Any]], predictions: pd.DataFrame) -> None:
    """Put one task's predictions, then its rows.

    Args:
        out: Results folder, made by `prepare`.
        fingerprint: The task's.
        rows: One mapping of `COLUMNS` per fit.
        predictions: Columns fingerprint, utterance_id, group, target, prediction.
    """
    _write_parquet(predictions, out / PREDICTIONS_FOLDER / f"{fingerprint}.parquet")
    table = _with_places(pd.DataFrame(rows, columns=list(COLUMNS)))
    _write_parquet(table, out / TASKS_FOLDER / f"{fingerprint}.parquet")


def consolidate(out: Path) -> pd.DataFrame:
    """Rewrite ``results.parquet`` from the finished tasks and return it.

    The order of rows does not depend on the order in which tasks finished.
    """
    tables = [_with_places(_read(path)) for path in _task_files(out)]
    if not tables:
        return pd.DataFrame(columns=list(COLUMNS))
    table = _with_places(pd.concat(tables, ignore_index=True))
    table = table.sort_values([*IDENTITY, "finished_at", "fingerprint"], kind="stable")
    table = table.drop_duplicates(list(IDENTITY), keep="last", ignore_index=True)
    _write_parquet(table, out / RESULTS_NAME)
    return table


def read_results(out: str | os.PathLike[str]) -> pd.DataFrame:
    """The results table of a folder.

    Raises:
        StoreError: there is none.
    """
    path = Path(out) / RESULTS_NAME
    if not path.is_file():
        raise StoreError(f"{path}: expected the results of `fs probe`, found no such file")
    return _with_places(_read(path))


def _with_places(table: pd.DataFrame) -> pd.DataFrame:
    """A table with whole numbers or nothing as `layer`, and columns that older tables lack."""
    table = table.copy()
    table["layer"] = table["layer"].astype("Int64" if table["layer"].isna().any() else "int64")
    if "combine" not in table:
        table = table.assign(combine=EACH, layers=table["layer"].astype(str), layer_weights="")
    return table.assign(**{name: float("nan") for name in OWN_MEASURES if name not in table})


def read_predictions(out: str | os.PathLike[str], table: pd.DataFrame) -> pd.DataFrame:
    """Test predictions of the fits in `table` (rows of `read_results`)."""
    folder = Path(out) / PREDICTIONS_FOLDER
    wanted = set(table["fingerprint"])
    parts = []
    for path in sorted(folder.glob("[!.]*.parquet")):
        part = _read(path)
        part = part[part["fingerprint"].isin(wanted)]
        if len(part):
            parts.append(part)
    if not parts:
        columns = ["fingerprint", "utterance_id", "group", "target", "prediction"]
        return pd.DataFrame(columns=columns)
    return pd.concat(parts, ignore_index=True)


def write_run(out: Path, record: Mapping[str, Any]) -> None:
    """Write ``_run.json``: what was asked last, with what versions, and all splits in the folder.

    Splits of earlier calls are kept unless `record` describes them anew.
    """
    path = out / RUN_NAME
    splits = list(record["splits"])
    described = {_split_name(s) for s in splits}
    splits += [s for s in read_splits(out) if _split_name(s) not in described]
    text = json.dumps({**record, "splits": splits}, indent=2, ensure_ascii=False) + "\n"
    _put(text.encode(), path)


def read_splits(out: Path) -> list[dict[str, Any]]:
    """Descriptions of the splits in ``_run.json``; none where there is no such file.

    Raises:
        CorruptData: it cannot be read.
    """
    path = out / RUN_NAME
    if not path.is_file():
        return []
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))["splits"]
        for split in splits:
            _split_name(split)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptData(f"{path}: cannot be read ({error!r}); delete it and run again") from error
    return list(splits)


def _split_name(split: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(split[k] for k in ("model", "dataset", "label", "split", "split_seed", "fold"))


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """One row per model, data set, label, classifier, split and layer, or combination of layers.

    Where several settings were tried, the one with the highest mean *validation* UAR stands for the
    layer; `best` marks the layer with the highest mean validation UAR of its curve (the lower layer
    on a tie). Combined layers are a curve of their own, never a point on the curve of single ones.
    Test values take no part in either choice.

    Seeds are averaged within each split (fold, or draw by another split seed), then splits are: the
    spread is that between splits where there are several, and between seeds of the one split where
    not. For the choice made anew in every fold see `chosen_per_fold`.

    Returns:
        Columns model, dataset, label, classifier, split, combine, layer, layers, hparams, n_fits,
        n_splits,
        `uar_val_mean`, `uar_val_std`, `uar_test_mean`, `uar_test_std` (n-1; NaN for one value),
        chance, best.
    """
    # Sorted by layer, and by its text only where there is none; then grouped by what is never missing.
    table = table.sort_values([*CURVE, *PLACE, "hparams"], kind="stable")
    by = [*CURVE, "layers", "hparams"]
    stats = table.groupby(by, sort=False).agg(
        layer=("layer", "first"),
        n_fits=("seed", "size"),
        uar_val_mean=("uar_val", "mean"),
        uar_val_std=("uar_val", "std"),
        uar_test_mean=("uar_test", "mean"),
        uar_test_std=("uar_test", "std"),
        chance=("chance", "mean"),
    )
    of_splits = table.groupby([*by, *SPLIT_OF_CURVE], sort=False)[["uar_val", "uar_test", "chance"]].mean()
    grouped = of_splits.groupby(by, sort=False)
    stats.insert(2, "n_splits", grouped.size())
    several = stats["n_splits"] > 1
    for name in ("uar_val", "uar_test"):
        stats.loc[several, f"{name}_mean"] = grouped[name].mean()[several]
        stats.loc[several, f"{name}_std"] = grouped[name].std()[several]
    stats.loc[several, "chance"] = grouped["chance"].mean()[several]
    stats = stats.reset_index()
    stats.insert(len(CURVE), "layer", stats.pop("layer"))
    chosen = _first_highest(stats, [*CURVE, "layers"])
    layers = stats[chosen].reset_index(drop=True)
    layers["best"] = _first_highest(layers, list(CURVE))
    return layers


def chosen_per_fold(table: pd.DataFrame) -> pd.DataFrame:
    """Layer and settings chosen anew in every test fold, by that fold's own validation rows.

    `summarise` chooses once for all folds, and one fold's validation rows are another's test rows:
    its test mean is slightly flattered by that choice, this one is not.

    Returns:
        One row per model, data set, label, classifier, split and test fold (of curves with several
        folds): columns `CURVE`, split_seed, fold, layers, hparams, layer, `uar_val`, `uar_test` (means
        over seeds and inner folds).
    """
    table = table.assign(
        fold=[parse_split(s).outer(f) for s, f in zip(table["split"], table["fold"], strict=True)]
    )
    of_fold = [*CURVE, *SPLIT_OF_CURVE]
    table = table.sort_values([*of_fold, *PLACE, "hparams"], kind="stable")
    means = (
        table.groupby([*of_fold, "layers", "hparams"], sort=False)
        .agg(layer=("layer", "first"), uar_val=("uar_val", "mean"), uar_test=("uar_test", "mean"))
        .reset_index()
    )
    means = means.rename(columns={"uar_val": "uar_val_mean"})
    chosen = means[_first_highest(means, of_fold)].rename(columns={"uar_val_mean": "uar_val"})
    several = chosen.groupby(list(CURVE))["fold"].transform("nunique") > 1
    return chosen[several].reset_index(drop=True)


def pooled_uar(predictions: pd.DataFrame, table: pd.DataFrame) -> float:
    """UAR over the test rows of all folds together: one UAR per seed and split seed, their mean.

    Args:
        predictions: See `read_predictions`.
        table: Fits of one model, label, layer and setting, all folds.
    """
    joined = predictions.merge(table[["fingerprint", "seed", "split_seed"]], on="fingerprint")
    scores = [uar(rows["target"], rows["prediction"]) for _, rows in joined.groupby(["seed", "split_seed"])]
    return float(np.mean(scores)) if scores else float("nan")


def _first_highest(stats: pd.DataFrame, by: list[str]) -> np.ndarray:
    """Mark the first row with the highest mean validation UAR of each group."""
    # Rounding must not break a tie.
    score = stats["uar_val_mean"].round(9).fillna(-1.0)
    highest = score.groupby([stats[c] for c in by]).transform("max")
    at_top = stats.loc[score == highest]
    first = at_top.drop_duplicates(by, keep="first").index
    marked: np.ndarray = stats.index.isin(first)
    return marked


def _task_files(out: Path) -> list[Path]:
    return sorted((out / TASKS_FOLDER).glob("[!.]*.parquet"))


def _read(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, columns=columns)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CorruptData(f"{path}: cannot be read ({reason}); delete it and run again") from error


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False, compression="zstd")
    _put(buffer.getvalue(), path)


def _put(data: bytes, path: Path) -> None:
    # Hidden until whole: names with a leading dot are read by nothing.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
