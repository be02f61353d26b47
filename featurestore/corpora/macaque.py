"""Macaque coo calls of eight individuals, in the form of the Earth Species Library."""

from __future__ import annotations

from pathlib import Path

from featurestore.corpora.base import Corpus, Draft
from featurestore.corpora.tables import clip_rows, first_row, list_files, name_some, read_text_table
from featurestore.errors import ManifestError

COLUMNS = ("class", "split", "filename")
PARTS = {"train": "train", "valid": "val", "val": "val", "validation": "val", "test": "test", "": ""}


def read(source: Path) -> Draft:
    """Read the one table with the columns ``class,split,filename``, in file order."""
    annotations = _find_table(source)
    table = read_text_table(annotations, COLUMNS, filled=("filename",))
    strange = sorted(set(table["split"].str.lower()) - set(PARTS))
    if strange:
        raise ManifestError(
            f"{annotations}: expected a split of train, valid or test, got {strange[0]!r}; correct it"
        )
    root = annotations.parent
    # Calls lie beside the table or in one folder below it.
    below = {f.rsplit("/", 1)[-1]: f for f in reversed(list_files(root))}
    file = table["filename"].map(lambda f: f if (root / f).is_file() else below.get(f.rsplit("/", 1)[-1], f))
    split = table["split"].str.lower().map(PARTS)
    return Draft(rows=clip_rows(root, file, split=split, individual=table["class"]))


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
