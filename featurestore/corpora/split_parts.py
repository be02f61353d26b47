"""Parts of a split by the names that folders, tables and files have for them."""

from __future__ import annotations

import re

import pandas as pd

from featurestore.errors import ManifestError

#: What BEANS and HEAR call the files of the parts.
PART_FILES = ("train", "valid", "test")
# As folders, tables and file names call them; those of Hugging Face's datasets among them.
_NAMES = {
    "train": "train training tr",
    "val": "val valid validation validate dev devel development",
    "test": "test testing tests eval evaluation tst",
}
_MOST_CHARACTERS = 80
_PARTS = {name: part for part, names in _NAMES.items() for name in names.split()}
# Behind such a name: train_set, test-data, dev2024.
_PART_TAIL = re.compile(r"[\W_]*(set|split|data|clips|audio|files|wavs?)?[\W_\d]*$")


def part_of(name: str) -> str:
    """Which part of a split a name stands for: ``train``, ``val``, ``test``, or "" for none.

    >>> part_of("Dev"), part_of("train_set"), part_of("trainer")
    ('val', 'train', '')
    """
    if len(name) > _MOST_CHARACTERS:  # matching takes the cube of it
        return ""
    plain = name.strip().casefold()
    return _PARTS.get(plain) or _PARTS.get(_PART_TAIL.sub("", plain), "")


def split_of(cells: pd.Series, source: object) -> pd.Series:
    """A column of parts in the manifest's words; empty cells stay empty.

    Raises:
        ManifestError: a cell is none of the usual names.
    """
    parts = {cell: part_of(cell) for cell in cells.unique()}
    strange = sorted(cell for cell, part in parts.items() if cell.strip() and not part)
    if strange:
        raise ManifestError(f"{source}: expected a split of train, valid or test, got {strange[0]!r}")
    return cells.map(parts).astype("str")
