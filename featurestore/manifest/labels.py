"""Label tools: rename, merge and drop classes, set a minimum size, derive labels, take sets apart.

Each is a pure function from a manifest table to a new one and a report of class sizes before and
after. An empty cell means *no label*: the row is left out when that column is probed, and only then.

A column of label *sets* (detection windows) holds the sorted labels joined with ``|``: ``AMRE|OVEN``.
``|`` alone is the empty set, a window in which nothing sounds, unlike an empty cell, about which
nothing is known.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pandas as pd

from featurestore.errors import LabelError, did_you_mean
from featurestore.manifest.table import CONTRACT_COLUMNS, NUMBER_COLUMNS, RESERVED_COLUMNS, nfc
from featurestore.printable import printable
from featurestore.untrusted.text_table import FIRST_ROW, TextTableError, read_table

SEPARATOR = "|"
NOTHING = SEPARATOR  # the empty set
MAPPING_COLUMNS = ("label", "from", "to")
_MISSING_WORDS = ("nan", "none", "null", "na", "n/a", "<na>")
_NUMBER = re.compile(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)(e[+-]?[0-9]{1,3})?", re.ASCII)
_LEADING_ZEROS = re.compile(r"(?<![0-9.,])0+(?=[0-9])")
MAX_SPELLINGS = 8  # sentences about spelling


@dataclass(frozen=True, kw_only=True)
class LabelReport:
    """Class sizes of one label column before and after a change.

    Attributes:
        column: the label column.
        before, after: rows per class, largest first; rows without a label are not counted.
        n_unlabelled: rows without a label after the change.
    """

    column: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    n_unlabelled: int

    def __str__(self) -> str:
        lines = [f"{printable(self.column)}: {len(self.before)} -> {len(self.after)} classes"]
        for name in [*self.after, *(c for c in self.before if c not in self.after)]:
            old, new = self.before.get(name, 0), self.after.get(name, 0)
            lines.append(f"  {printable(name)}: {old:,}" + (f" -> {new:,}" if old != new else ""))
        if self.n_unlabelled:
            lines.append(f"  (no label): {self.n_unlabelled:,}")
        return "\n".join(lines)


def join_labels(labels: Iterable[str]) -> str:
    """The cell of a set of labels: sorted, without repetition, joined with ``|``.

    Raises:
        LabelError: a label is empty or holds a ``|``.
    """
    unique = sorted(set(labels))
    bad = [n for n in unique if not n or SEPARATOR in n]
    if bad:
        raise LabelError(f"label {bad[0]!r} cannot stand in a set: it is empty or holds a '|'; rename it")
    return SEPARATOR.join(unique) or NOTHING


def split_labels(cell: str) -> frozenset[str] | None:
    """Inverse of `join_labels`; None for an empty cell, about which nothing is known."""
    if cell == "":
        return None
    return frozenset(part for part in cell.split(SEPARATOR) if part)


def is_multilabel(column: pd.Series) -> bool:
    """Whether a column holds label sets: any cell with a ``|``."""
    return any(SEPARATOR in cell for cell in column.unique())


def class_sizes(column: pd.Series) -> dict[str, int]:
    """Rows per class, largest first, then by name. A row of a set counts for each of its labels."""
    sizes: Counter[str] = Counter()
    multi = is_multilabel(column)
    for cell, n in column.value_counts().items():
        for name in _parts(str(cell), multi):
            sizes[name] += int(n)
    return dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0])))


def spellings(values: Iterable[str]) -> list[list[str]]:
    """Values that are one but for the way they are written, each set sorted.

    What may differ: case, blanks and underscores, the form of Unicode (composed or not, wide letters,
    characters that do not show), and how a number is written: ``1``, ``01`` and ``1.0``, ``bird 7`` and
    ``bird 07``.
    """
    alike: dict[str, list[str]] = {}
    for value in sorted(set(values) - {""}):
        alike.setdefault(spelled(value), []).append(value)
    return [found for found in alike.values() if len(found) > 1]


def spelled(text: str) -> str:
    """One form for all ways to write a value, see `spellings`."""
    shown = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    words = nfc(" ".join(shown.replace("_", " ").split()).casefold())
    try:
        # Spreadsheets write 1 as 1.0, and 1,0 where the comma is decimal.
        number = Decimal(words.replace(",", ".")) if _NUMBER.fullmatch(words) else None
    except ArithmeticError:
        number = None
    if number is not None:
        return format(number.normalize() + 0, "f") if abs(number.adjusted()) < 30 else str(number.normalize())
    return _LEADING_ZEROS.sub("", words)


def spelling_difference(first: str, *others: str) -> str:
    """In what the values of one of `spellings` differ, in a few words."""
    found = dict.fromkeys(_difference(first, other) for other in others)
    return next(iter(found)) if len(found) == 1 else "case, blanks or other spelling"


def _difference(first: str, second: str) -> str:
    if nfc(first) == nfc(second):
        return "Unicode form"
    if "".join(first.split()) == "".join(second.split()):
        return "blanks"
    if first.casefold() == second.casefold():
        return "case"
    if _LEADING_ZEROS.sub("", first) == _LEADING_ZEROS.sub("", second) or _NUMBER.fullmatch(first.strip()):
        return "the way a number is written"
    return "case, blanks or underscores"


def shown_apart(names: Sequence[str]) -> list[str]:
    """The names in quotes; with escapes where they would look the same."""
    one_look = len({nfc(n) for n in names}) < len(names)
    hidden = any(unicodedata.category(c) == "Cf" for n in names for c in n)
    return [ascii(n) if one_look or hidden else repr(n) for n in names]


def doubtful_spellings(values: Iterable[str], noun: str, plural: str, advice: str) -> list[str]:
    """A sentence for each set of values that are one but for the way they are written; of many, for some."""
    found = spellings(values)
    sentences = [
        f"{plural} {' and '.join(shown_apart(names))} differ in {spelling_difference(*names)} only and "
        f"count as {len(names)} {plural}; if they are one {noun}, {advice}"
        for names in found[:MAX_SPELLINGS]
    ]
    if len(found) > MAX_SPELLINGS:
        sentences.append(f"{len(found) - MAX_SPELLINGS:,} more sets of {plural} differ in spelling only")
    return sentences


def doubtful_classes(column: pd.Series) -> list[str]:
    """What looks like slips of the hand among the classes of a column, a sentence each."""
    sizes = class_sizes(column)
    found = doubtful_spellings(sizes, "class", "classes", "merge them with `fs manifest … --map`")
    return found + [
        f"class {name!r} ({n} rows) reads like a missing value and counts as a class; an empty cell is none"
        for name, n in sizes.items()
        if name.strip().casefold() in _MISSING_WORDS
    ]


def read_mapping(path: str | Path) -> pd.DataFrame:
    """Read a mapping file: CSV with the columns ``label,from,to``; an empty ``to`` drops the class.

    Raises:
        LabelError: not such a table, or one class has two targets.
    """
    source = Path(path)
    try:
        mapping = read_table(source)
    except TextTableError as error:
        expected = ",".join(MAPPING_COLUMNS)
        raise LabelError(f"{source}: {error}; expected a mapping, CSV with {expected}") from error
    if list(mapping.columns) != list(MAPPING_COLUMNS):
        raise LabelError(
            f"{source}: expected the columns {','.join(MAPPING_COLUMNS)}, "
            f"got {','.join(map(str, mapping.columns))}; correct the first line"
        )
    if not len(mapping):
        raise LabelError(f"{source}: expected one rule per row, found none; add some or leave --map out")
    twice = mapping.duplicated(["label", "from"])
    if twice.any():
        row = int(mapping.index[twice][0])
        raise LabelError(
            f"{source}: row {row + FIRST_ROW}: {mapping['from'][row]!r} of {mapping['label'][row]!r} "
            "stands already above; keep one"
        )
    return mapping


def apply_mapping(table: pd.DataFrame, mapping: pd.DataFrame) -> tuple[pd.DataFrame, list[LabelReport]]:
    """Rename, merge (several ``from`` to one ``to``) and drop (empty ``to``) classes, all at once.

    A dropped class leaves an empty cell; in a column of sets the label just leaves its sets.

    Raises:
        LabelError: a column or a class that the table does not have, or no class is left.
    """
    out, reports = table.copy(), []
    for name in mapping["label"].unique():
        column = _column(table, name)
        rules = mapping[mapping["label"] == name]
        target = dict(zip(rules["from"], rules["to"], strict=True))
        sizes = class_sizes(column)
        if unknown := [c for c in target if c not in sizes]:
            hint = did_you_mean(unknown[0], sizes) or f"; it has {', '.join(sorted(sizes)[:10])}"
            raise LabelError(f"label {name!r} has no class {unknown[0]!r}{hint}")
        joined = [to for to in target.values() if SEPARATOR in to]
        if joined:
            raise LabelError(
                f"label {name!r}: a class cannot be named {joined[0]!r}; '|' joins labels of a set"
            )
        changed, report = _change(column, name, target)
        if not report.after:
            raise LabelError(f"label {name!r}: the mapping drops all {len(report.before)} classes; keep some")
        out[name] = changed
        reports.append(report)
    return out, reports


def drop_small_classes(table: pd.DataFrame, column: str, min_rows: int) -> tuple[pd.DataFrame, LabelReport]:
    """Empty the cells of classes with fewer than `min_rows` rows.

    Raises:
        LabelError: no such column, or too few classes remain: two, one where labels are sets.
    """
    cells = _column(table, column)
    sizes = class_sizes(cells)
    changed, report = _change(cells, column, {c: "" for c, n in sizes.items() if n < min_rows})
    needed = 1 if is_multilabel(cells) else 2
    if len(report.after) < needed:
        raise LabelError(
            f"label {column!r}: {len(report.after)} of {len(sizes)} classes have {min_rows} rows or more, "
            f"{needed} needed (the largest has {max(sizes.values(), default=0)}); lower the minimum"
        )
    return table.assign(**{column: changed}), report


def derive_label(
    table: pd.DataFrame, new: str, source: str, pattern: str
) -> tuple[pd.DataFrame, LabelReport]:
    """A new label column: what `pattern` finds in the text of column `source`.

    The first bracketed group counts, or the whole match if there is none; no match, no label.

    Raises:
        LabelError: no such column, one named `new` exists, a bad pattern, or no match at all.
    """
    if source in NUMBER_COLUMNS:
        raise LabelError(f"label {new!r}: column {source!r} holds numbers; derive labels from text")
    cells = _column(table, source, label_only=False)
    _require_new(table, new)
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise LabelError(f"label {new!r}: {pattern!r} is not a regular expression ({error})") from None
    found = {cell: regex.search(cell) for cell in cells.unique()}
    value = {c: (m[1] or "" if regex.groups else m[0]) if m else "" for c, m in found.items()}
    if not any(value.values()):
        raise LabelError(
            f"label {new!r}: {pattern!r} matches nothing in column {source!r}, "
            f"which holds for example {cells.iloc[0] if len(cells) else ''!r}; correct the pattern"
        )
    column = cells.map(value).astype("str")
    return table.assign(**{new: column}), _report(new, column.iloc[:0], column)


def explode_labels(
    table: pd.DataFrame, column: str, classes: Sequence[str] | None = None
) -> tuple[pd.DataFrame, LabelReport]:
    """One column per class of a set column: ``species=AMRE`` with ``1``, ``0`` or no label.

    The set column stays. `classes` defaults to all that occur, by name.

    Raises:
        LabelError: no such column, or one of the new columns exists.
    """
    cells = _column(table, column)
    names = sorted(class_sizes(cells)) if classes is None else list(classes)
    sets = {cell: split_labels(cell) for cell in cells.unique()}
    new: dict[str, pd.Series] = {}
    for name in names:
        target = f"{column}={name}"
        _require_new(table, target)
        value = {c: "" if s is None else str(int(name in s)) for c, s in sets.items()}
        new[target] = cells.map(value).astype("str")
    out = pd.concat([table, pd.DataFrame(new, index=table.index)], axis=1)
    return out, _report(column, cells, cells)


def _parts(cell: str, multi: bool) -> Iterable[str]:
    if cell == "":
        return ()
    return split_labels(cell) or () if multi else (cell,)


def _change(column: pd.Series, name: str, target: Mapping[str, str]) -> tuple[pd.Series, LabelReport]:
    """Put in place of each class its target, itself where it has none; "" drops it."""
    multi = is_multilabel(column)
    value = {}
    for cell in column.unique():
        kept = [target.get(part, part) for part in _parts(cell, multi)]
        value[cell] = join_labels(filter(None, kept)) if cell and multi else "".join(kept)
    changed = column.map(value).astype("str")
    return changed, _report(name, column, changed)


def _report(name: str, before: pd.Series, after: pd.Series) -> LabelReport:
    return LabelReport(
        column=name,
        before=class_sizes(before),
        after=class_sizes(after),
        n_unlabelled=int((after == "").sum()),
    )


def _column(table: pd.DataFrame, name: str, *, label_only: bool = True) -> pd.Series:
    offered = [str(c) for c in table.columns if not (label_only and c in CONTRACT_COLUMNS)]
    if name not in offered:
        what = "label column" if label_only else "column"
        raise LabelError(f"no {what} {name!r}; there is {', '.join(offered) or 'none'}")
    return table[name]


def _require_new(table: pd.DataFrame, name: str) -> None:
    if name in table.columns:
        raise LabelError(f"column {name!r} exists already; choose another name")
    if name in (*RESERVED_COLUMNS, *CONTRACT_COLUMNS) or not name.strip():
        raise LabelError(f"a label column cannot be named {name!r}; choose another name")
