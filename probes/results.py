"""The results folder: what is finished, and the table of it; `probes.selection` says what that says.

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

import pandas as pd

from featurestore.errors import CorruptData, StoreError
from probes.combine import EACH

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
