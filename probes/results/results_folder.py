"""The results folder: what is finished, and the table of it; `probes.results.selection` says what that says.

``_tasks/<fingerprint>.parquet`` holds the rows of one finished task and is put last, so it is the
record that the task is done; ``results.parquet`` is rewritten from these. Every file appears whole
or not at all.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import union_categoricals

from featurestore.errors import ConfigError, CorruptData, StoreError
from featurestore.outputs import make_folder, put_file, writing
from featurestore.printable import json_text
from featurestore.untrusted.documents import DocumentError, read_json_document
from featurestore.untrusted.parquet_tables import Codes, read_parquet_document
from probes.classifiers.layer_combination import EACH
from probes.results.fit_tables import (
    CONTROL_COLUMNS,
    CONTROL_FITS,
    CURVE_COLUMNS,
    CURVE_FITS,
    FIT_COLUMNS,
    FITS,
    FITS_OF_FILE,
    MAP_COLUMNS,
    NUMBER_COLUMNS,
    OWN_MEASURES,
    PREDICTIONS,
    PROBABILITY_COLUMNS,
    REFIT_COLUMNS,
    REFITS,
    Columns,
    check_columns,
)
from probes.results.run_document import CALLS, RUN

RESULTS_NAME = "results.parquet"
# With an underscore, as the folders: so that reading the folder as Parquet reads the table alone.
RUN_NAME = "_run.json"
CONTROLS_NAME = "_controls.parquet"
CURVE_NAME = "_curve.parquet"
REFIT_NAME = "_refit.parquet"
TASKS_FOLDER = "_tasks"
PREDICTIONS_FOLDER = "_predictions"
# Of validation rows: who chose the layer. Earlier versions kept none.
VALIDATION_FOLDER = "_validation"
PREDICTION_COLUMNS = ("fingerprint", "utterance_id", "group", "target", "prediction")
AGAIN = "delete it and run the same `fs probe` again"

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
# One fold; all but the last name a draw.
SPLIT = ("model", "dataset", "label", "split", "split_seed", "fold")


def prepare(out: Path) -> None:
    """Make the folder, and make sure that it can be written.

    Raises:
        ConfigError: it holds a table of somebody else, which would be lost.
        StoreError: it cannot.
    """
    if (out / RESULTS_NAME).is_file() and not (out / TASKS_FOLDER).is_dir():
        raise ConfigError(
            f"{out / RESULTS_NAME}: this table is not one of `fs probe` and would be lost; give another --out"
        )
    for folder in (out, out / TASKS_FOLDER, out / PREDICTIONS_FOLDER, out / VALIDATION_FOLDER):
        make_folder(folder, "results")


def finished(out: Path, asked: Mapping[str, str]) -> set[str]:
    """Those fits that are asked for whose task is recorded as done, and whose predictions are there.

    An answer that was found for other groups is none: its predictions name the groups of before.

    Args:
        out: Results folder, made by `prepare`.
        asked: Fingerprints of fits, and the `clips` each is about.
    """
    done: set[str] = set()
    # A damaged file that was deleted is thereby asked for again.
    whole = {p.name for p in (out / PREDICTIONS_FOLDER).iterdir()}
    for path in _task_files(out):
        if path.name in whole:
            rows = _fits(path)[["fingerprint", "clips"]].itertuples(index=False)
            done.update(name for name, clips in rows if name in asked and clips in ("", asked[name]))
    return done


def write_task(
    out: Path,
    fingerprint: str,
    rows: list[dict[str, Any]],
    predictions: pd.DataFrame | None,
    validation: pd.DataFrame | None = None,
) -> None:
    """Put one task's predictions, then its rows.

    Args:
        out: Results folder, made by `prepare`.
        fingerprint: The task's.
        rows: One mapping of `FIT_COLUMNS` per fit, or of those of controls, of curves or of refits.
        predictions: Columns fingerprint, utterance_id, group, target, prediction, of test rows; where there
            are any also `PROBABILITY_COLUMNS`.
        validation: The same of validation rows; None where none are kept.
    """
    for folder, table in ((VALIDATION_FOLDER, validation), (PREDICTIONS_FOLDER, predictions)):
        if table is not None:
            write_parquet(table, out / folder / f"{fingerprint}.parquet")
    columns: tuple[str, ...] = FIT_COLUMNS
    for name, more in (("control", CONTROL_COLUMNS), ("curve", CURVE_COLUMNS), ("refit", REFIT_COLUMNS)):
        if any(row.get(name) for row in rows):
            columns = more
    if any("chance_mae" in row for row in rows):
        columns = (*columns, *NUMBER_COLUMNS)
    table = _with_places(pd.DataFrame(rows, columns=list(columns)))
    write_parquet(table, out / TASKS_FOLDER / f"{fingerprint}.parquet")


def consolidate(out: Path) -> pd.DataFrame:
    """Rewrite ``results.parquet`` and the tables beside it from the finished tasks; return the first.

    The order of rows does not depend on the order in which tasks finished.
    """
    splits = read_splits(out)
    tables = [table[answers_of(table, splits)] for table in map(_fits, _task_files(out))]
    ordinary = _latest([t for t in tables if not {"control", "curve", "refit"} & set(t)], IDENTITY)
    if ordinary is not None:
        write_parquet(ordinary, out / RESULTS_NAME)
    controls = _latest([t for t in tables if "control" in t], (*IDENTITY, "control"))
    if controls is not None:
        write_parquet(controls, out / CONTROLS_NAME)
    curves = _latest([t for t in tables if "curve" in t], (*IDENTITY, "curve", "share", "draw"))
    if curves is not None:
        write_parquet(curves, out / CURVE_NAME)
    refits = _latest([t for t in tables if "refit" in t], (*IDENTITY, "refit"))
    if refits is not None:
        write_parquet(refits, out / REFIT_NAME)
    return pd.DataFrame(columns=list(FIT_COLUMNS)) if ordinary is None else ordinary


def answers_of(table: pd.DataFrame, splits: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.bool_]:
    """Which rows answer what was asked last of their split `[n]`, by the splits in ``_run.json``.

    Not so are rows of a split whose data or groups have changed since, and of folds that it no longer has.
    Splits that are not described, and rows that do not say what their data was, stay.
    """
    held = {split_name(s): (str(s.get("digest", "")), str(s.get("clips", ""))) for s in splits}
    draws = {name[:-1] for name in held}

    def is_current(name: tuple[Any, ...], of: tuple[str, str]) -> bool:
        if name[:-1] not in draws:
            return True
        return name in held and all(not a or b in ("", a) for a, b in zip(of, held[name], strict=True))

    names = zip(*(table[c] for c in SPLIT), strict=True)
    digests = zip(table["data"], table["clips"], strict=True)
    return np.array([is_current(n, d) for n, d in zip(names, digests, strict=True)], dtype=bool)


def _latest(tables: list[pd.DataFrame], identity: Sequence[str]) -> pd.DataFrame | None:
    """One table of all, sorted, with the last answer to each question."""
    if not tables:
        return None
    table = _with_places(pd.concat(tables, ignore_index=True))
    table = table.sort_values([*identity, "finished_at", "fingerprint"], kind="stable")
    return table.drop_duplicates(list(identity), keep="last", ignore_index=True)


def read_controls(out: str | os.PathLike[str]) -> pd.DataFrame:
    """Fits of controls (`probes.questions.controls`) in a folder, with `CONTROL_COLUMNS`; empty if none."""
    path = Path(out) / CONTROLS_NAME
    return _fits(path) if path.is_file() else pd.DataFrame(columns=list(CONTROL_COLUMNS))


def read_curve(out: str | os.PathLike[str]) -> pd.DataFrame:
    """Fits of learning curves (`probes.questions.curve`) in a folder, with `CURVE_COLUMNS`; empty if none."""
    path = Path(out) / CURVE_NAME
    return _fits(path) if path.is_file() else pd.DataFrame(columns=list(CURVE_COLUMNS))


def read_refits(out: str | os.PathLike[str]) -> pd.DataFrame:
    """Fits made again on more rows (`probes.questions.refit`), with `REFIT_COLUMNS`; empty if none."""
    path = Path(out) / REFIT_NAME
    return _fits(path) if path.is_file() else pd.DataFrame(columns=list(REFIT_COLUMNS))


def read_results(out: str | os.PathLike[str]) -> pd.DataFrame:
    """The results table of a folder.

    Raises:
        StoreError: there is none.
        CorruptData: it cannot be read, or is none of ours.
    """
    path = Path(out) / RESULTS_NAME
    if not path.is_file():
        again = "; the same `fs probe` again makes it" if (Path(out) / TASKS_FOLDER).is_dir() else ""
        raise StoreError(f"{path}: expected the results of `fs probe`, found no such file{again}")
    return _fits(path)


def _fits(path: Path) -> pd.DataFrame:
    """A table of fits; see `read_parquet`."""
    kinds = {CONTROLS_NAME: CONTROL_FITS, CURVE_NAME: CURVE_FITS, REFIT_NAME: REFITS}
    columns = kinds.get(path.name, FITS)
    table = read_parquet(path, columns)
    if "layer_weights" in table:
        weights = table["layer_weights"]
        table["layer_weights"] = weights.where(weights.map(lambda w: isinstance(w, str)), "").astype("str")
    return _with_places(table)


def _with_places(table: pd.DataFrame) -> pd.DataFrame:
    """A table with whole numbers or nothing as `layer`, and columns that older tables lack."""
    table = table.copy()
    since = (*MAP_COLUMNS, *OWN_MEASURES, "majority_accuracy", "majority_uar")  # of single labels
    for name in ("data", "clips", "device"):
        if name not in table:
            table[name] = ""
    table["layer"] = table["layer"].astype("Int64" if table["layer"].isna().any() else "int64")
    if "combine" not in table:
        table = table.assign(combine=EACH, layers=table["layer"].astype(str), layer_weights="")
    return table.assign(**{name: float("nan") for name in since if name not in table})


class StoredPredictions:
    """Predictions of the results folder `out`, read by fit."""

    def __init__(self, out: str | os.PathLike[str]) -> None:
        self._out = Path(out)
        self._codes: Codes = {}

    @cached_property
    def _file_of(self) -> dict[str, str]:
        """The file of each fit. Two runs at once, or one that was killed, leave a fit in two: the later's."""
        read = FITS_OF_FILE.required
        tables = {p.name: read_parquet(p, FITS_OF_FILE, read=read) for p in _task_files(self._out)}
        order = sorted(tables, key=lambda name: (str(tables[name]["finished_at"].max()), name))
        return {fit: name for name in order for fit in tables[name]["fingerprint"]}

    def of(
        self, table: pd.DataFrame, folder: str = PREDICTIONS_FOLDER, *, as_codes: bool = False
    ) -> pd.DataFrame:
        """Those of the fits in `table`: columns `PREDICTION_COLUMNS`; fits without any are left out.

        Args:
            table: Rows of the results table.
            folder: `PREDICTIONS_FOLDER` of test rows, or `VALIDATION_FOLDER`.
            as_codes: Columns as categories: millions of rows are read in seconds.
        """
        return self._read(table, folder, PREDICTION_COLUMNS, as_codes=as_codes)

    def with_probabilities(self, table: pd.DataFrame, *, as_codes: bool = False) -> pd.DataFrame:
        """Test predictions of the fits in `table`, and `PROBABILITY_COLUMNS`: NaN where none were kept.

        Args:
            table: Rows of the results table.
            as_codes: Texts as categories, see `of`.
        """
        found = self._read(table, PREDICTIONS_FOLDER, None, as_codes=as_codes)
        return found.reindex(columns=[*PREDICTION_COLUMNS, *PROBABILITY_COLUMNS])

    def require_files(self, table: pd.DataFrame) -> None:
        """Refuse files of test predictions that are no tables of them, by what they say of themselves.

        No row is read, so this takes milliseconds; a damaged row is found when it is read.

        Args:
            table: Rows of the results table, whose files are meant.

        Raises:
            CorruptData: which file, and why.
        """
        for name in sorted({self._file_of[fit] for fit in table["fingerprint"] if fit in self._file_of}):
            path = self._out / PREDICTIONS_FOLDER / name
            try:
                if path.exists():
                    read_parquet_document(path, columns=[], kinds=PREDICTIONS.kinds, codes={})
            except DocumentError as error:
                raise CorruptData(f"{path}: cannot be read ({error}); {AGAIN}") from error

    def _read(
        self, table: pd.DataFrame, folder: str, columns: Sequence[str] | None, *, as_codes: bool = False
    ) -> pd.DataFrame:
        codes = self._codes if as_codes else None
        wanted: dict[str, set[str]] = {}
        for fit in table["fingerprint"]:
            if fit in self._file_of:
                wanted.setdefault(self._file_of[fit], set()).add(fit)
        parts = [
            read_parquet(path, PREDICTIONS, read=columns, only=("fingerprint", fits), codes=codes)
            for name, fits in sorted(wanted.items())
            if (path := self._out / folder / name).is_file()
        ]
        if not parts:
            nothing = pd.DataFrame(columns=list(columns or PREDICTION_COLUMNS))
            return nothing.astype("category") if as_codes else nothing
        return _one_table(parts) if as_codes else pd.concat(parts, ignore_index=True)


def _one_table(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of categories as one; `pandas.concat` would write every text out."""
    if len(parts) == 1:
        return parts[0]
    texts = {name: union_categoricals([part[name] for part in parts]) for name in PREDICTION_COLUMNS}
    numbers = {
        name: np.concatenate([part.get(name, pd.Series(np.nan, part.index)).to_numpy() for part in parts])
        for name in PROBABILITY_COLUMNS
        if any(name in part for part in parts)
    }
    return pd.DataFrame({**texts, **numbers})


def read_predictions(out: str | os.PathLike[str], table: pd.DataFrame) -> pd.DataFrame:
    """Test predictions of the fits in `table` (rows of `read_results`)."""
    return StoredPredictions(out).of(table)


def write_run(out: Path, record: Mapping[str, Any]) -> None:
    """Write ``_run.json``: what was asked last, with what versions, all splits in the folder, all calls.

    Splits of earlier calls are kept unless `record` describes them anew: then all folds of the earlier go.
    ``calls`` lists every configuration that was asked for, the latest last, each with the folder it was asked
    in, which relative paths start from, the calls that had made its keys by then, and whether it came to its
    end.
    """
    earlier = read_run(out)
    splits = list(record["splits"])
    described = {split_name(s)[:-1] for s in splits}
    splits += [s for s in earlier.get("splits", []) if split_name(s)[:-1] not in described]
    replaced = list(dict.fromkeys([*earlier.get("replaced", []), *record.get("replaced", [])]))
    twins = dict(earlier.get("untrained", {}))
    for name, trained in record.get("untrained", {}).items():
        twins[name] = sorted({*twins.get(name, []), *trained})
    record = dict(record)
    models = dict(earlier.get("models", {}))
    for name, facts in record.get("models", {}).items():
        models[name] = {**models.get(name, {}), **facts}  # some are of one data set
    extractions = {**earlier.get("extractions", {}), **record.get("extractions", {})}
    record |= {name: both for name, both in (("models", models), ("extractions", extractions)) if both}
    call = {"config": record["config"], "cwd": str(Path.cwd()), "keys": record.pop("keys", {})}
    asked = _asked(call)
    same = [c for c in calls_of(earlier) if _asked(c) == asked]
    others = [c for c in calls_of(earlier) if _asked(c) != asked]
    call["finished"] = any(c.get("finished", False) for c in same)
    _write_run(
        out,
        {**record, "splits": splits, "untrained": twins, "replaced": replaced, "calls": [*others, call]},
    )


def mark_finished(out: Path, config: Mapping[str, Any]) -> None:
    """Note in ``_run.json`` that the call of this configuration came to its end."""
    run, asked = read_run(out), _asked({"config": config, "cwd": str(Path.cwd())})
    calls = [
        {**call, "finished": call.get("finished", False) or _asked(call) == asked} for call in calls_of(run)
    ]
    if calls != run.get("calls"):
        _write_run(out, {**run, "calls": calls})


def calls_of(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """``calls`` of a ``_run.json``; what earlier versions wrote knows the last call only."""
    if "calls" in run:
        return list(run["calls"])
    return [{"config": run["config"], "finished": True}] if "config" in run else []


def read_run(out: Path) -> dict[str, Any]:
    """``_run.json``; empty where there is none.

    Raises:
        CorruptData: it cannot be read.
    """
    path = out / RUN_NAME
    if not path.is_file():
        return {}
    try:
        run: dict[str, Any] = read_json_document(path)
        RUN(run, "")
        CALLS(calls_of(run), "calls")
    except DocumentError as error:
        raise CorruptData(
            f"{path}: cannot be read ({error}); {AGAIN}, and then the other calls of this folder: what it "
            "kept of them is lost"
        ) from error
    return run


def _write_run(out: Path, run: Mapping[str, Any]) -> None:
    _put((json_text(run, indent=2) + "\n").encode(), out / RUN_NAME)


def _asked(call: Mapping[str, Any]) -> str:
    """What a call asked, as JSON: its configuration without what decides no result, the store in full."""
    decides = {k: v for k, v in call["config"].items() if k not in ("cluster", "memory", "out")}
    config = {k: v for k, v in decides.items() if v not in (None, (), [], {})}  # or was no option yet
    return json.dumps({**config, "store": store_of(call)}, sort_keys=True)


def store_of(call: Mapping[str, Any]) -> str:
    """The store of a call: its URL, or its path, which starts from where the call was made."""
    store = str(call["config"]["store"])
    return store if "://" in store else str(Path(call.get("cwd", "")) / store)


def read_splits(out: Path) -> list[dict[str, Any]]:
    """Descriptions of the splits in `read_run`; none where there is no such file."""
    return list(read_run(out).get("splits", []))


def split_name(split: Mapping[str, Any]) -> tuple[Any, ...]:
    """What names one fold, as `SPLIT`; all but the last name a draw."""
    return tuple(split[k] for k in SPLIT)


def _task_files(out: Path) -> list[Path]:
    return sorted((out / TASKS_FOLDER).glob("[!.]*.parquet"))


def read_parquet(
    path: Path,
    columns: Columns,
    *,
    read: Sequence[str] | None = None,
    only: tuple[str, Collection[str]] | None = None,
    codes: Codes | None = None,
) -> pd.DataFrame:
    """Read a table of a results folder.

    Args:
        path: The file.
        columns: What it has to hold.
        read: Read these columns; None: all.
        only: A column, and those of its texts whose rows are wanted.
        codes: Texts as categories, see `featurestore.untrusted.parquet_tables.read_parquet_document`.

    Raises:
        CorruptData: it cannot be read, or holds something else.
    """
    try:
        table = read_parquet_document(path, columns=read, kinds=columns.kinds, only=only, codes=codes)
        check_columns(table, columns)
    except DocumentError as error:
        raise CorruptData(f"{path}: cannot be read ({error}); {AGAIN}") from error
    return table


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """Write a table whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False, compression="zstd")
    _put(buffer.getvalue(), path)


def _put(data: bytes, path: Path) -> None:
    with writing(path, "free some room and run the same command again: what was finished is kept"):
        put_file(data, path)
