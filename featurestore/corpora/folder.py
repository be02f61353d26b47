"""A folder of class folders, or any tree whose file names carry the labels."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from featurestore.corpora.base import Corpus, Draft
from featurestore.corpora.tables import clip_rows, list_files, look_up, name_some, passed_over
from featurestore.errors import ConfigError, ManifestError
from featurestore.manifest import CONTRACT_COLUMNS, RESERVED_COLUMNS

PARTS = {"train": "train", "valid": "val", "val": "val", "validation": "val", "test": "test"}


def read(source: Path, *, label: str = "label", pattern: str | None = None) -> Draft:
    """Read all audio below `source`, sorted by name.

    Without `pattern`: ``[train|valid|test/]<class>/[<anything>/]<file>``; folders below the class are the
    group. With `pattern`, a regular expression over the relative path whose named groups become columns
    (``group`` and ``split`` fill those).
    """
    files = pd.Series(list_files(source), dtype="str")
    rows = clip_rows(source, files)
    if pattern is not None:
        return _by_pattern(rows, pattern)
    folders = files.str.split("/").str[:-1]
    tops = {path[0].lower() for path in folders if path}
    split = pd.Series("", index=files.index, dtype="str")
    if tops and tops <= set(PARTS):
        split = look_up(folders.str[0].str.lower(), PARTS)
        folders = folders.str[1:]
    loose = folders.str.len() == 0
    if loose.any():
        raise ManifestError(
            f"{source}: expected every file in a class folder, found outside of one: "
            f"{name_some(list(files[loose]))}; move them, or say with --pattern where the labels stand, "
            "such as --pattern '(?P<label>[^_]+)_'"
        )
    _require_label(label, "--label")
    rows = rows.assign(split=split)
    rows[label] = folders.str[0]
    inner = folders.str[1:].str.join("/")
    groups = {}
    if (inner != "").any():
        groups["subfolder"] = (folders.str[0] + "/" + inner).where(inner != "", "")
    return Draft(rows=rows, groups=groups)


def _require_label(name: str, option: str) -> None:
    if name in ("file", *CONTRACT_COLUMNS, *RESERVED_COLUMNS):
        raise ConfigError(f"corpus folder: {option}: a label column cannot be named {name!r}; choose another")


def _by_pattern(rows: pd.DataFrame, pattern: str) -> Draft:
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"corpus folder: {pattern!r} is not a regular expression ({error})") from None
    names = regex.groupindex
    if not names:
        raise ConfigError(
            f"corpus folder: expected named groups like (?P<species>...) in {pattern!r}, found none"
        )
    for name in names:
        if name not in ("group", "split"):
            _require_label(name, "--pattern")
    found = [regex.search(f) for f in rows["file"]]
    other = pd.Series([m is None for m in found], index=rows.index, dtype=bool)
    notes = passed_over(list(rows["file"][other]))
    rows = rows[~other].reset_index(drop=True)
    parts = pd.DataFrame([m.groupdict(default="") for m in found if m], columns=list(names))
    groups = {"pattern": parts["group"]} if "group" in names else {}
    if "split" in names:
        rows["split"] = look_up(parts["split"].str.lower(), PARTS)
        strange = sorted(set(parts["split"][rows["split"] == ""]) - {""})
        if strange:
            raise ManifestError(
                f"corpus folder: --pattern finds the split {strange[0]!r}, expected train, valid or test"
            )
    labels = parts[[n for n in names if n not in ("group", "split")]]
    return Draft(rows=pd.concat([rows, labels], axis=1), groups=groups, notes=notes)


FOLDER = Corpus(
    name="folder",
    title="a folder of class folders",
    licence="yours",
    citation="",
    where="your own recordings",
    groups={
        "subfolder": "the folder below the class folder, such as one recording or individual",
        "pattern": "what (?P<group>...) matches in the file name",
    },
    options={
        "label": "name of the label column (default: label)",
        "pattern": "regular expression over the relative path; its named groups become columns",
    },
    reader=read,
)
