"""Macaque coo calls of eight individuals, in the form of the Earth Species Library."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from featurestore.corpora.audio_files import clip_rows, list_files, name_some
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.split_parts import split_of
from featurestore.corpora.tables import read_text_table
from featurestore.errors import ManifestError
from featurestore.untrusted.text_table import first_row

COLUMNS = ("class", "split", "filename")


def read(source: Path) -> Draft:
    """Read the one table with the columns ``class,split,filename``, in file order."""
    annotations = _find_table(source)
    table = read_text_table(annotations, COLUMNS, filled=("filename",))
    split = split_of(table["split"], annotations)
    file = _folder_of(annotations, table["filename"]) + table["filename"]
    return Draft(rows=clip_rows(annotations.parent, file, split=split, individual=table["class"]))


def _folder_of(annotations: Path, names: pd.Series) -> str:
    """The one folder that all calls lie in, beside the table or below it, with ``/`` behind; "" for beside.

    Raises:
        ManifestError: calls of these names lie in several folders.
    """
    root = annotations.parent
    wanted = set(names)
    if any((root / name).is_file() for name in wanted):
        return ""
    found: dict[str, set[str]] = {}
    for file in list_files(root):
        folder, slash, name = file.rpartition("/")
        if name in wanted:
            found.setdefault(folder + slash, set()).add(name)
    if len(found) > 1:
        raise ManifestError(
            f"{annotations}: expected the calls in one folder, found files of these names in "
            f"{name_some(sorted(found))}; keep one of them, or put the table into the right one"
        )
    return next(iter(found), "")


def _find_table(source: Path) -> Path:
    if source.is_file():
        return source
    tables = [source / f for f in list_files(source, (".csv",))]
    fitting = [t for t in tables if set(COLUMNS) <= set(first_row(t))]
    if len(fitting) != 1:
        found = name_some([str(t.relative_to(source)) for t in fitting]) or "none"
        raise ManifestError(
            f"{source}: expected one table with the columns {', '.join(COLUMNS)}, found {found}; "
            "give the table itself as the source"
        )
    return fitting[0]


MACAQUE = Corpus(
    name="macaque",
    title="Macaque coo calls",
    licence="see the source",
    citation=(
        "M. Fukushima, A. M. Doyle, M. P. Mullarkey, M. Mishkin, B. B. Averbeck. Distributed acoustic "
        "cues for caller identity in macaque vocalization. Royal Society Open Science 2 (2015): 150432. "
        "data: doi:10.5061/dryad.7f4p9"
    ),
    where="https://archive.org/details/macaque_coo_calls",
    groups={},
    reader=read,
    takes_file=True,
    published_rows=7_285,
)
