"""Splits by name.

What they draw depends on the utterance ids and the seed alone: not on the order of the rows, not on
the machine. `sarkar2025` alone follows the manifest's order, as the paper did.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np

from featurestore.arrays import IntArray
from featurestore.errors import ConfigError, LabelError, did_you_mean
from featurestore.manifest.labels import NOTHING
from probes.splits import folds, single
from probes.splits.interface import PARTS, Draw, Rows, Split, SplitSpec

FEW_GROUPS = 10
NO_SPLIT = (float("inf"),)


@dataclass(frozen=True)
class Kind:
    """One line of the registry.

    Attributes:
        draw: The splitter.
        what: One sentence for people.
        argument: What follows the name after a colon: "", "K", "K or KxJ" or "COLUMN".
        several: It may make more than one split.
        grouped: It holds whole groups out.
        of_numbers: What it is of labels that are numbers, where `what` speaks of classes.
    """

    draw: Draw
    what: str
    argument: str = ""
    several: bool = False
    grouped: bool = False
    of_numbers: str = ""

    def sentence(self, *, of_numbers: bool) -> str:
        """What it is, of classes or of numbers."""
        return (of_numbers and self.of_numbers) or self.what


#: Splits by name.
KINDS: dict[str, Kind] = {
    "column": Kind(single.by_column, "The parts are the manifest’s own split column"),
    "random": Kind(
        single.at_random,
        "70/20/10 of every class, drawn at random, whatever the group",
        of_numbers="70/20/10 of the rows, drawn at random, whatever the group",
    ),
    "stratified": Kind(single.at_random, "The same draw as random: 70/20/10 of every class"),
    "group": Kind(single.by_group, "Whole groups go to one part, near 70/20/10 of the rows", grouped=True),
    "stratified-group": Kind(
        single.by_stratified_group, "Whole groups go to one part, near 70/20/10 of every class", grouped=True
    ),
    "kfold": Kind(
        folds.kfold,
        "K folds with equal shares of every class",
        "K",
        True,
        of_numbers="K folds of nearly equal size, drawn at random, whatever the group",
    ),
    "stratified-kfold": Kind(folds.kfold, "The same draw as kfold", "K", True),
    "group-kfold": Kind(folds.group_kfold, "K folds of whole groups", "K", True, True),
    "stratified-group-kfold": Kind(
        partial(folds.group_kfold, stratify=True),
        "K folds of whole groups, near equal shares of every class",
        "K",
        True,
        True,
    ),
    "nested": Kind(folds.nested, "K folds; validation is drawn inside each training part", "K or KxJ", True),
    "group-nested": Kind(folds.group_nested, "nested, with whole groups", "K or KxJ", True, True),
    "stratified-group-nested": Kind(
        partial(folds.group_nested, stratify=True),
        "nested, with whole groups and near equal shares of every class",
        "K or KxJ",
        True,
        True,
    ),
    "logo": Kind(folds.leave_one_group_out, "Every group is tested once", "", True, True),
    "fold": Kind(folds.by_fold_column, "Folds that a label column gives", "COLUMN", True),
    "sarkar2025": Kind(single.by_paper, "The paper’s random split of the manifest’s rows, row for row"),
}

#: Splits that the manifest decides alone.
UNSEEDED = ("column", "fold")
# The manifest's own groups, and the audio files as groups.
GROUP, PATH, PATH_NAME = "group", "path", "recording (path)"
# Of fewer rows it is no wonder that classes have one each.
MANY_ROWS = 20


def parse_split(text: str) -> SplitSpec:
    """Take a split such as ``group-kfold:5`` or ``group-kfold:5[bird]`` apart.

    Raises:
        ConfigError: unknown name, or an argument that cannot be.
    """
    # What follows fold: is the name of a column, brackets and all.
    found = None if text.startswith("fold:") else re.fullmatch(r"([^\[]*)\[(.*)\]", text, re.DOTALL)
    if found is None:
        return _parse(text)
    spec, column = _parse(found[1]), found[2]
    if not KINDS[spec.kind].grouped:
        raise ConfigError(f"split: {_no_groups(spec.text)}, got {text!r}")
    if column in ("", GROUP):
        raise ConfigError(f"split: expected {spec.text} or {spec.text}[COLUMN], got {text!r}")
    return replace(spec, text=text, group=column)


def with_group(text: str, column: str) -> str:
    """The split `text` over the groups that a column gives: ``group[bird]``; plain for the column `group`.

    Raises:
        ConfigError: the split holds no groups out, or names a column already.
    """
    if not column:
        raise ConfigError("--group: expected the name of a column, or path, got ''")
    spec = parse_split(text)
    if not KINDS[spec.kind].grouped:
        raise ConfigError(f"--group {column}: {_no_groups(text)}")
    if spec.group:
        raise ConfigError(f"--group {column}: split {text!r} names its groups already; leave one of them out")
    grouped = text if column == GROUP else f"{text}[{column}]"
    parse_split(grouped)
    return grouped


def _no_groups(text: str) -> str:
    grouped = ", ".join(_form(name) for name, kind in KINDS.items() if kind.grouped)
    return f"split {text!r} holds no groups out; those that do are {grouped}"


def held_out(text: str) -> str:
    """What a split keeps from training, in words: ``bird held out``."""
    spec = parse_split(text)
    if KINDS[spec.kind].grouped:
        return f"{group_name(spec)} held out"
    return {
        "column": "parts as the split column gives them",
        "fold": f"folds of {spec.column} held out",
    }.get(spec.kind, "clips held out at random")


def group_name(spec: SplitSpec) -> str:
    """What the groups of a split are called."""
    return PATH_NAME if spec.group == PATH else spec.group or GROUP


def _parse(text: str) -> SplitSpec:
    name, colon, argument = text.partition(":")
    if name not in KINDS:
        hint = did_you_mean(name, KINDS)
        raise ConfigError(f"split: expected {', '.join(map(_form, KINDS))}, got {text!r}{hint}")
    kind = KINDS[name]
    if not kind.argument:
        if colon:
            raise ConfigError(f"split: {name!r} takes no argument, got {text!r}")
        return SplitSpec(text=text, kind=name)
    if kind.argument == "COLUMN":
        if not argument:
            raise ConfigError(f"split: expected fold:COLUMN, such as fold:fold, got {text!r}")
        return SplitSpec(text=text, kind=name, column=argument)
    nested = kind.argument == "K or KxJ"
    found = re.fullmatch(r"([0-9]{1,4})(?:x([0-9]{1,4}))?" if nested else r"([0-9]{1,4})", argument)
    n_folds, n_inner = (int(n or 1) for n in (found[1], found[2] if nested else None)) if found else (0, 0)
    # In a rotation one fold tests and one chooses: the third is the first that trains.
    least = 2 if nested else 3
    if not (least <= n_folds <= folds.MAX_FOLDS and 1 <= n_inner <= folds.MAX_FOLDS):
        form = f"{name}:K or {name}:KxJ" if nested else f"{name}:K"
        raise ConfigError(
            f"split: expected {form} with K from {least} to {folds.MAX_FOLDS}, such as {name}:5, got {text!r}"
        )
    return SplitSpec(text=text, kind=name, n_folds=n_folds, n_inner=n_inner)


def default_split(rows: Rows, seed: int = 0) -> str:
    """The manifest's own split if it has one, else by group if there are groups, else random.

    Of few groups, `group` may leave classes out of test or validation. There `stratified-group` is taken,
    unless it leaves out more.
    """
    if (rows.part != "").any():
        return "column"
    if not (rows.group != "").any():
        return "random"
    left_out = _left_out("group", rows, seed)
    if not any(left_out):
        return "group"
    few = len(np.unique(rows.group)) < FEW_GROUPS
    stratified = _left_out("stratified-group", rows, seed)
    better = stratified < left_out or (few and stratified == left_out)
    return "stratified-group" if better and stratified != NO_SPLIT else "group"


def _left_out(text: str, rows: Rows, seed: int) -> tuple[float, ...]:
    """How many classes a split leaves out of train, of test, of validation."""
    try:
        missing = make_split(text, rows, seed, 0).missing
    except LabelError:  # told of where it is drawn
        return NO_SPLIT
    return tuple(float(len(missing[part])) for part in ("train", "test", "val"))


def make_splits(text: str, rows: Rows, seed: int) -> list[Split]:
    """Draw the split (or the folds) that `text` names.

    Raises:
        ConfigError: unknown split.
        LabelError: the rows cannot be split so, or a class has no training row.
    """
    return list(iter_splits(text, rows, seed))


def make_split(text: str, rows: Rows, seed: int, fold: int) -> Split:
    """The split number `fold` of `make_splits` without keeping the others."""
    return next(iter_splits(text, rows, seed, fold))


def iter_splits(text: str, rows: Rows, seed: int, first: int = 0) -> Iterator[Split]:
    """`make_splits`, one at a time, from the split number `first`; those before it are not drawn."""
    spec = parse_split(text)
    if len(rows.classes[0]) < 2 and (rows.numbers is None or not len(rows)):
        only = f"only {rows.label[0]!r}" if len(rows) else "no labelled row"
        raise LabelError(f"{rows.what}: expected at least two classes, found {only}")
    kind = KINDS[spec.kind]
    for fold, assigned in enumerate(islice(kind.draw(rows, seed, spec), first, None), first):
        split = _split(rows, assigned() if callable(assigned) else assigned, text, seed, fold)
        _require_trainable(split, rows, several=kind.several)
        yield split


def _form(name: str) -> str:
    argument = KINDS[name].argument
    return f"{name}:{argument.split()[0]}" if argument else name


def _split(rows: Rows, assigned: IntArray, name: str, seed: int, fold: int) -> Split:
    parts = [np.flatnonzero(assigned == p) for p in range(3)]
    names, class_of = rows.classes
    counts = [np.bincount(class_of[where], minlength=len(names)) for where in parts]
    # The empty set is no class: windows in which nothing sounds may be there to test on alone.
    used = (sum(counts) > 0) & (names != NOTHING)
    missing = {
        part: tuple(str(c) for c in names[used & (n == 0)]) for part, n in zip(PARTS, counts, strict=True)
    }
    return Split(
        train=parts[0], val=parts[1], test=parts[2], name=name, seed=seed, fold=fold, missing=missing
    )


def _require_trainable(split: Split, rows: Rows, *, several: bool) -> None:
    """In one split every class must train; in folds two must, and the others are told of."""
    which = f"fold {split.fold} of split {split.name!r}" if several else f"split {split.name!r}"
    for part, where in split.parts():
        if len(where) == 0:
            advice = own_names(rows) or "more rows are needed"
            raise LabelError(f"{rows.what}: {which} leaves no row for {part} of {len(rows)} rows; {advice}")
    missing = split.missing["train"]
    if not missing:
        return
    if several and len(np.unique(rows.classes[1][split.train])) >= 2:
        return
    n = {part: int((rows.label[where] == missing[0]).sum()) for part, where in split.parts()}
    if own := own_names(rows):
        advice = own
    elif parse_split(split.name).kind in UNSEEDED:
        advice = "choose another --split, or leave the class out"
    else:
        advice = "choose another --split or --split-seed, or leave the class out"
    raise LabelError(
        f"{rows.what}: {which} leaves class {missing[0]!r} without training rows "
        f"({n['val']} in val, {n['test']} in test); {advice}"
    )


def own_names(rows: Rows) -> str:
    """What to say where nearly every row has a class of its own; "" elsewhere."""
    n_classes = len(rows.classes[0])
    if 2 * n_classes <= len(rows) or len(rows) < MANY_ROWS:
        return ""
    return (
        f"{n_classes} classes in {len(rows)} rows: is this label a number, or a name of every row? numbers "
        "are predicted with --task regression"
    )
