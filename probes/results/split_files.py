"""Who trained, who chose and who was tested: the splits of a results folder, row by row, and what changed.

``_splits/<name>.parquet`` holds one split of one label, all its folds: ``utterance_id``, ``label``, ``group``
(as the split took them), and a column for each fold (``0``, ``1``, …) with ``train``, ``val``, ``test``, or
"" for a row that is in no part. What a file held before says what has changed since; see `SplitChange`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from featurestore.errors import ConfigError, CorruptData, StoreError
from featurestore.layer_list import format_layers
from featurestore.printable import counted
from probes.results.fit_tables import SPLIT_ROWS
from probes.results.results_folder import answers_of, read_parquet, read_results, read_splits, write_parquet
from probes.splits import PARTS, Split, group_name, parse_split

if TYPE_CHECKING:
    from probes.questions.labelled_rows import Labelled
    from probes.questions.tasks import ProbeTask

SPLITS_FOLDER = "_splits"
_NAMED_BY = ("model", "dataset", "label", "split", "split_seed")
# Files of earlier versions have the first and the folds only.
_ID, _LABEL, _GROUP = "utterance_id", "label", "group"
_QUESTION = ["label", "dataset", "split"]
# What tells an answer that is asked for again; with the layers.
_FIELDS = ("model", "dataset", "label", "classifier", "split", "split_seed", "combine")


@dataclass(frozen=True, kw_only=True)
class SplitChange:
    """What is other than before in the rows of a split.

    Attributes:
        added: Rows that were not there.
        gone: Rows that are no longer there.
        label: Rows with another label; None where it was not kept what they had.
        group: Rows of another group; likewise.
        part: Rows in another part of some fold.
    """

    added: int = 0
    gone: int = 0
    label: int | None = 0
    group: int | None = 0
    part: int = 0

    def words(self, split: str, label: str, *, embeddings: bool) -> str:
        """What changed, such as ``57 rows added; bird changed in 3 rows``; what follows of it is left out.

        Args:
            split: Name of the split.
            label: Label column.
            embeddings: They were made with other settings.
        """
        found = [
            (self.added, f"{counted(self.added, 'row')} added"),
            (self.gone, f"{counted(self.gone, 'row')} gone"),
            (self.label, f"label {label} changed in {counted(self.label or 0, 'row')}"),
            (self.group, f"{group_name(parse_split(split))} changed in {counted(self.group or 0, 'row')}"),
            (embeddings, "the embeddings changed"),
        ]
        shown = [text for n, text in found if n]
        if shown:
            return "; ".join(shown)
        if None in (self.label, self.group):
            return "labels, groups or embeddings changed"
        if self.part:
            return f"{counted(self.part, 'row')} moved to another part"
        return "the audio of some rows changed"


class SplitFiles:
    """Writes the file of each split as soon as the folds of the next one come.

    Args:
        out: Results folder.
        earlier: Splits of an earlier ``_run.json``; those that are described alike were not changed.
    """

    def __init__(self, out: Path, earlier: Iterable[Mapping[str, Any]] = ()) -> None:
        self._folder = out / SPLITS_FOLDER
        self._folder.mkdir(exist_ok=True)
        self._earlier = {(file_name(s), int(s["fold"])): _content(s) for s in earlier}
        self._path: Path | None = None
        self._columns: dict[str, Any] = {}
        self._changed = False
        #: By the name of the file, what changed; only of splits that were described before.
        self.changes: dict[str, SplitChange] = {}

    def add(self, described: Mapping[str, Any], rows: Labelled, split: Split) -> None:
        """Add one fold; folds of one split follow one another."""
        path = self._folder / file_name(described)
        if path != self._path:
            self.close()
            self._path, self._columns, self._changed = path, row_columns(rows), False
        self._columns[str(split.fold)] = part_column(rows, split)
        before = self._earlier.get((path.name, split.fold))
        self._changed |= before is not None and before != _content(described)

    def close(self) -> None:
        """Write the last file."""
        if self._path is not None:
            table = pd.DataFrame(self._columns)
            before = _read_earlier(self._path) if self._changed else None
            if before is not None:
                self.changes[self._path.name] = compare(before, table)
            write_parquet(table, self._path)
        self._path = None


def row_columns(rows: Labelled) -> dict[str, Any]:
    """Columns of a file that all folds share."""
    return {_ID: rows.rows.utterance_id, _LABEL: rows.cells, _GROUP: rows.rows.group}


def part_column(rows: Labelled, split: Split) -> Any:
    """The column of one fold."""
    codes = np.zeros(len(rows.rows), dtype=np.int8)
    for code, (_, where) in enumerate(split.parts(), start=1):
        codes[where] = code
    return pd.Categorical.from_codes(codes, pd.Index(["", *PARTS]))


def compare(before: pd.DataFrame, now: pd.DataFrame) -> SplitChange:
    """What is other in the file of a split than it was."""
    old, new = before.set_index(_ID), now.set_index(_ID)
    both = new.index.intersection(old.index)
    was, here = old.loc[both], new.loc[both]

    def differ(column: str) -> int | None:
        if column not in was:
            return None
        return int((was[column].to_numpy(dtype=object) != here[column].to_numpy(dtype=object)).sum())

    moved = np.zeros(len(both), dtype=bool)
    for fold in [c for c in here if c in was and c not in (_LABEL, _GROUP)]:
        moved |= was[fold].astype("str").to_numpy() != here[fold].astype("str").to_numpy()
    return SplitChange(
        added=len(new) - len(both),
        gone=len(old) - len(both),
        label=differ(_LABEL),
        group=differ(_GROUP),
        part=int(moved.sum()),
    )


def kept_split(out: Path, described: Mapping[str, Any]) -> pd.DataFrame | None:
    """The file of a split, all folds; None where there is none that can be read."""
    return _read_earlier(out / SPLITS_FOLDER / file_name(described))


def _read_earlier(path: Path) -> pd.DataFrame | None:
    try:
        table = read_parquet(path, SPLIT_ROWS)
    except CorruptData:
        return None
    return table if table[_ID].is_unique else None


def _content(described: Mapping[str, Any]) -> tuple[str, str]:
    return str(described.get("digest", "")), str(described.get("clips", ""))


def file_name(described: Mapping[str, Any] | pd.Series) -> str:
    """File of a split, by what ``_run.json`` or a row of the results says of it."""
    # A row of a table has numbers of NumPy's kind, which are no JSON.
    named = [int(described[k]) if k == "split_seed" else str(described[k]) for k in _NAMED_BY]
    name = json.dumps(named, ensure_ascii=False)
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest() + ".parquet"


def read_split(out: str | Path, described: Mapping[str, Any] | pd.Series | NamedTuple) -> pd.DataFrame:
    """The rows of a split: ``utterance_id`` and ``part``.

    Args:
        out: Results folder.
        described: What names it: ``model``, ``dataset``, ``label``, ``split``, ``split_seed`` and ``fold``,
            such as an entry of ``_run.json`` or a row of the results, as ``table.iloc[0]``,
            ``table.itertuples()`` or ``table.to_dict("records")`` give it.

    Raises:
        ConfigError: the folder has no such split, or one of these names is missing.
        CorruptData: its file cannot be read.
    """
    if not isinstance(described, (Mapping, pd.Series)):
        described = described._asdict()
    lacking = [name for name in (*_NAMED_BY, "fold") if name not in described]
    if lacking:
        raise ConfigError(
            f"{out}: a split is named by {', '.join((*_NAMED_BY, 'fold'))}, got no {lacking[0]!r}; "
            "give a row of the results"
        )
    path = Path(out) / SPLITS_FOLDER / file_name(described)
    column = str(int(described["fold"]))
    if not path.is_file():
        raise ConfigError(
            f"{out}: no split {described['split']!r} of label {described['label']!r} is kept here"
        )
    table = read_parquet(path, SPLIT_ROWS)
    if column not in table:
        raise ConfigError(f"{out}: split {described['split']!r} has no fold {column}")
    return pd.DataFrame({"utterance_id": table["utterance_id"], "part": table[column].astype("str")})


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
        table = read_results(out)
    except (StoreError, CorruptData):
        return []  # no answers yet, or a table that is made again
    stale = table[~answers_of(table, described)]
    if stale.empty:
        return []
    asked = {
        (*(getattr(task, name) for name in _FIELDS), format_layers(task.layers))
        for task in tasks
        if not task.control
    }
    again = [tuple(row) in asked for row in stale[[*_FIELDS, "layers"]].itertuples(index=False)]
    stale = stale.assign(again=again)
    extraction = _changed_extractions(read_splits(out), described)
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
