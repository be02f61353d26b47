"""A folder of class folders, or any tree whose file names carry the labels."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from featurestore.corpora.audio_files import clip_rows, left_out, list_files, name_some, passed_over
from featurestore.corpora.interface import Corpus, Draft
from featurestore.corpora.recorder_columns import with_recorder_columns
from featurestore.corpora.split_parts import part_of, split_of
from featurestore.corpora.tables import is_reserved, look_up
from featurestore.errors import ConfigError, ManifestError


def read(
    source: Path, *, label: str = "label", pattern: str | None = None, time_expanded: bool = False
) -> Draft:
    """Read all audio below `source`, sorted by name.

    Without `pattern`: ``[train|valid|test/]<class>/[<anything>/]<file>``, or the part below the class;
    folders below these are the group. With `pattern`, a regular expression over the relative path whose
    named groups become columns (``group`` and ``split`` fill those). Of WAV files headers of recorders are
    read; see `featurestore.corpora.recorder_columns`.
    """
    draft = _by_folders(source, label) if pattern is None else _by_pattern(source, pattern)
    rows, notes = with_recorder_columns(draft.rows, source, time_expanded=time_expanded)
    return replace(draft, rows=rows, notes=(*draft.notes, *notes))


def _by_folders(source: Path, label: str) -> Draft:
    files = pd.Series(list_files(source), dtype="str")
    rows = clip_rows(source, files)
    folders = files.str.split("/").str[:-1]
    split, folders = _take_split(folders, 0, source)
    if not (split != "").any() and (folders.str.len() > 1).all():
        split, folders = _take_split(folders, 1, source)
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
    return Draft(rows=rows, groups=groups, notes=left_out(source))


def _take_split(folders: pd.Series, depth: int, source: Path) -> tuple[pd.Series, pd.Series]:
    """The part that the folder at `depth` names, and the folders without it; "" where they name none.

    Raises:
        ManifestError: some are parts and others not, so that either could be classes.
    """
    names = folders.map(lambda path: path[depth] if len(path) > depth else "").astype("str")
    parts = {name: part_of(name) for name in names.unique()}
    known = sorted(n for n, part in parts.items() if part)
    other = sorted(n for n, part in parts.items() if not part and n)
    # Below a class, a single "test" may be the name of an animal.
    if known and other and (depth == 0 or len({parts[n] for n in known}) > 1):
        raise ManifestError(
            f"{source}: {name_some(known)} {'is' if len(known) == 1 else 'are'} named like parts of a split, "
            f"{name_some(other)} not; rename the parts to train, valid and test, or, if all are classes, "
            "say --pattern '" + "[^/]+/" * depth + "(?P<label>[^/]+)/'"
        )
    if not known or other or "" in parts:
        return pd.Series("", index=folders.index, dtype="str"), folders
    return look_up(names, parts), folders.str[:depth] + folders.str[depth + 1 :]


def _require_label(name: str, option: str) -> None:
    if is_reserved(name):
        raise ConfigError(f"corpus folder: {option}: a label column cannot be named {name!r}; choose another")


def _by_pattern(source: Path, pattern: str) -> Draft:
    rows = clip_rows(source, pd.Series(list_files(source), dtype="str"))
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
    notes = (*passed_over(list(rows["file"][other]), "named otherwise"), *left_out(source))
    rows = rows[~other].reset_index(drop=True)
    parts = pd.DataFrame([m.groupdict(default="") for m in found if m], columns=list(names))
    groups = {"pattern": parts["group"]} if "group" in names else {}
    if "split" in names:
        rows["split"] = split_of(parts["split"], "corpus folder: --pattern")
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
        "time_expanded": "take time-expanded files as they play (default: they are refused)",
    },
    reader=read,
)
