"""What the groups of a split are: a column of the manifest, or the audio files. Labels that are groups."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featurestore.arrays import TextArray
from featurestore.errors import LabelError, did_you_mean
from featurestore.manifest.column_names import ANNOTATION_COLUMNS
from featurestore.printable import counted
from probes.splits import GROUP, KINDS, PATH, Rows, group_name, own_names, parse_split

if TYPE_CHECKING:
    from featurestore.store.reader import Features


def group_cells(features: Features, column: str) -> TextArray:
    """What each row of the index belongs to `[n]`, "" where nothing is given.

    Files are named from the folder that all of them share: a corpus that was moved has the same groups.

    Raises:
        LabelError: no such column.
    """
    known = [GROUP, PATH, *features.label_columns]
    if column not in known:
        raise LabelError(
            f"--group {column!r}: {features.model}/{features.dataset} has no such column of groups, it has "
            f"{', '.join(known)}{did_you_mean(column, known)}"
        )
    cells = features.index[column].to_numpy(dtype=object)
    return _from_common_folder(features, cells) if column == PATH else cells


def _from_common_folder(features: Features, paths: TextArray) -> TextArray:
    names = {path: os.path.normpath(path) for path in set(features.manifest.table["path"])}
    try:
        folder = os.path.commonpath({os.path.dirname(name) for name in names.values()})
    except ValueError:  # absolute and relative ones, or other drives
        folder = ""
    if folder:
        names = {path: os.path.relpath(name, folder) for path, name in names.items()}
    return np.array([names[path] for path in paths], dtype=object)


def is_group(label: TextArray, group: TextArray) -> bool:
    """Whether the label is what the groups are: every class is one group, and every group one class."""
    if not len(group) or (group == "").any():
        return False
    pairs = len(pd.MultiIndex.from_arrays([label, group]).unique())
    return bool(pairs == pd.Series(label).nunique() == pd.Series(group).nunique())


def in_one_group(label: TextArray, group: TextArray) -> bool:
    """Whether every class lies in one of several groups: held out, none that is tested was ever trained."""
    if not len(group) or (group == "").any() or (group == group[0]).all():
        return False
    return bool(len(pd.MultiIndex.from_arrays([label, group]).unique()) == pd.Series(label).nunique())


def require_other_groups(features: Features, label: str, text: str, rows: Rows, position: np.ndarray) -> None:
    """Refuse to hold out groups that the label is, or belongs to, with the advice that helps.

    Raises:
        LabelError: it is so.
    """
    grouped = KINDS[parse_split(text).kind].grouped
    if not grouped or own_names(rows) or not in_one_group(rows.label, rows.group):
        return  # of a label that is a number, splitting says so
    name = group_name(parse_split(text))
    if not is_group(rows.label, rows.group):
        relation = f"each {label} lies in one {name}"
    elif rows.grouped_by in (label, GROUP):
        relation = f"{label} is the group"
    else:
        relation = f"{label} is the {name}"
    raise LabelError(
        f"{rows.what}: in no fold of split {text!r} is a class of the test rows trained, because {relation}; "
        f"{advice(features, rows, position)}"
    )


def advice(features: Features, rows: Rows, position: np.ndarray) -> str:
    """How to probe a label that is a group, without clips of one recording on both sides if that can be."""
    finer = finer_column(features, rows, position)
    if finer == PATH:
        return "hold recordings out: --group path"
    if finer:
        return f"hold {finer} out: --group {finer}"
    return (
        "no column divides its classes any further: fill one (the recording, the day) and name it with "
        "--group; --split random and kfold:5 hold none out, so that clips of one recording may train and test"
    )


def no_group(features: Features, label: str, position: np.ndarray) -> str:
    """What a random split that nobody asked for leaves open, and which columns would close it."""
    n_files = len(set(group_cells(features, PATH)[position]))
    others = [c for c in features.label_columns if c != label and c not in ANNOTATION_COLUMNS]
    if n_files < len(position):
        helps = f"--group path holds {counted(n_files, 'recording')} apart"
    elif others:
        helps = f"--group COLUMN holds groups apart, if one of these names them: {', '.join(others)}"
    else:
        helps = "give the manifest a column 'group' with the animal or recording"
    return (
        "the manifest names no groups, so the split is random, and clips of one animal or recording may "
        f"train and test; {helps}"
    )


def finer_column(features: Features, rows: Rows, position: np.ndarray) -> str:
    """A column that divides every class into groups of clips, files first; "" where there is none."""
    classes = rows.classes[1]
    for column in (PATH, GROUP, *features.label_columns):
        cells = group_cells(features, column)[position]
        if column == rows.grouped_by or (cells == "").any():
            continue
        group_of = pd.factorize(cells)[0]
        pairs = pd.MultiIndex.from_arrays([classes, group_of]).unique()
        n_groups = len(set(group_of.tolist()))
        per_class = pd.Series(pairs.get_level_values(0)).value_counts()
        # As many as clips would be clip by clip; what classes share, as birds do a call, is no recording.
        nested = len(pairs) == n_groups or column in (PATH, GROUP)
        if nested and n_groups < len(rows) and per_class.min() >= 2:
            return column
    return ""
