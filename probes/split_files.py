"""Who trained, who chose and who was tested: the splits of a results folder, row by row.

``_splits/<name>.parquet`` holds one split of one label, all its folds: ``utterance_id`` and a column for
each fold (``0``, ``1``, …) with ``train``, ``val``, ``test``, or "" for a row that is in no part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from featurestore.errors import ConfigError
from probes.results import write_parquet
from probes.splits import PARTS, Rows, Split

SPLITS_FOLDER = "_splits"
_NAMED_BY = ("model", "dataset", "label", "split", "split_seed")


class SplitFiles:
    """Writes the file of each split as soon as the folds of the next one come."""

    def __init__(self, out: Path) -> None:
        self._folder = out / SPLITS_FOLDER
        self._folder.mkdir(exist_ok=True)
        self._path: Path | None = None
        self._columns: dict[str, Any] = {}

    def add(self, described: Mapping[str, Any], rows: Rows, split: Split) -> None:
        """Add one fold; folds of one split follow one another."""
        path = self._folder / file_name(described)
        if path != self._path:
            self.close()
            self._path = path
            self._columns = {"utterance_id": rows.utterance_id}
        codes = np.zeros(len(rows), dtype=np.int8)
        for code, (_, where) in enumerate(split.parts(), start=1):
            codes[where] = code
        self._columns[str(split.fold)] = pd.Categorical.from_codes(codes, pd.Index(["", *PARTS]))

    def close(self) -> None:
        """Write the last file."""
        if self._path is not None:
            write_parquet(pd.DataFrame(self._columns), self._path)
        self._path = None


def file_name(described: Mapping[str, Any]) -> str:
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
    """
    described = _mapping(described)
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
    table = pd.read_parquet(path)
    if column not in table:
        raise ConfigError(f"{out}: split {described['split']!r} has no fold {column}")
    return pd.DataFrame({"utterance_id": table["utterance_id"], "part": table[column].astype("str")})


def _mapping(row: Any) -> Mapping[str, Any]:
    if isinstance(row, pd.Series):
        return {str(k): v for k, v in row.items()}
    return row._asdict() if hasattr(row, "_asdict") else row  # type: ignore[no-any-return]
