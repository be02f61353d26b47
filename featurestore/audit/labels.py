"""Labels: classes that are probably one, class sizes, and what one clip is worth."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from featurestore.audit.findings import Example, Finding
from featurestore.manifest.labels import class_sizes, shown_apart, spelled, spelling_difference, spellings
from featurestore.printable import counted

TEST_SHARE = 0.1
# A clip of test data that weighs more than a point of UAR blurs differences of the usual size.
WORTH_POINTS = 1.0
# Two texts may differ by one letter from this length on, by two from the next.
ONE_EDIT_FROM, TWO_EDITS_FROM = 5, 8
MAX_CLASSES = 1000  # all pairs are compared


def label_findings(
    table: pd.DataFrame, columns: Sequence[str]
) -> tuple[list[Finding], list[Mapping[str, Any]]]:
    """Findings, and one mapping per label column: classes, sizes, resolution of UAR."""
    findings: list[Finding] = []
    described: list[Mapping[str, Any]] = []
    for name in columns:
        sizes = class_sizes(table[name])
        if not sizes:
            findings.append(_finding(name, "empty-label", "warning", "has no label in any row", []))
            continue
        # A column with a value of its own in most rows is an id or a number, not a class.
        is_class = len(sizes) <= min(MAX_CLASSES, len(table) // 2)
        described.append(_describe(table, name, sizes, is_class))
        if is_class:
            findings += _near_misses(name, sizes)
            findings += _small(name, sizes, table)
    return findings + _groups(table["group"]), described


def _groups(column: pd.Series) -> list[Finding]:
    """Groups that are one but for writing, of which one may train and the other be tested."""
    sizes = column.value_counts().to_dict()
    same = [
        Example(
            name=forms[0],
            detail=" = ".join(
                f"{shown} ({sizes[g]})" for g, shown in zip(forms, shown_apart(forms), strict=True)
            )
            + f": {spelling_difference(*forms)}",
        )
        for forms in spellings(map(str, sizes))
    ]
    if not same:
        return []
    text = f"group: {counted(len(same), 'group')} written in more than one way, counted as several."
    return [Finding(kind="same-group", severity="fault", text=text, count=len(same), examples=tuple(same))]


def _describe(table: pd.DataFrame, name: str, sizes: Mapping[str, int], is_class: bool) -> dict[str, Any]:
    smallest = min(sizes.values())
    n_test = max(1, round(TEST_SHARE * smallest))
    return {
        "label": name,
        "n_classes": len(sizes),
        "n_unlabelled": int((table[name] == "").sum()),
        "is_class": is_class,
        "smallest": next(c for c, n in sizes.items() if n == smallest),
        "n_smallest": smallest,
        "n_largest": max(sizes.values()),
        "chance": 1 / len(sizes),
        "worth_points": 100 / (len(sizes) * n_test),
        "sizes": dict(list(sizes.items())[:200]) if is_class else {},
    }


def _small(name: str, sizes: Mapping[str, int], table: pd.DataFrame) -> list[Finding]:
    out = []
    tiny = [c for c, n in sizes.items() if n < 3]
    if tiny:
        out.append(
            _finding(
                name,
                "tiny-class",
                "warning",
                f"{len(tiny)} of {len(sizes)} classes have fewer than 3 clips and cannot be in train, "
                "validation and test alike",
                [Example(name=c, detail=f"{sizes[c]} clips") for c in tiny],
            )
        )
    heavy = {c: 100 / (len(sizes) * max(1, round(TEST_SHARE * n))) for c, n in sizes.items() if n >= 3}
    heavy = {c: w for c, w in heavy.items() if w > WORTH_POINTS}
    if heavy and len(sizes) > 1:  # of one class there is no recall to speak of
        worst = max(heavy, key=lambda c: heavy[c])
        out.append(
            _finding(
                name,
                "coarse-uar",
                "note",
                f"one test clip of {worst!r} is worth {heavy[worst]:.1f} points of UAR when a tenth is "
                f"tested; smaller differences mean nothing ({len(heavy)} of {len(sizes)} classes above "
                f"{WORTH_POINTS:g} point)",
                [
                    Example(name=c, detail=f"{sizes[c]} clips, one in test is worth {w:.1f} points")
                    for c, w in sorted(heavy.items(), key=lambda item: -item[1])
                ],
            )
        )
    if (table["group"] != "").any() and len(sizes) > 1:
        labelled = table[(table[name] != "") & (table["group"] != "")]
        per_class = labelled.groupby(name, sort=True)["group"].nunique()
        lonely = per_class[per_class < 2].index
        if len(lonely):
            out.append(
                _finding(
                    name,
                    "one-group-class",
                    "note",
                    f"{len(lonely)} of {len(sizes)} classes are in one group only and cannot both train and "
                    "be tested when groups are kept together",
                    [Example(name=str(c), detail=f"{sizes.get(str(c), 0)} clips") for c in lonely],
                )
            )
    return out


def _near_misses(name: str, sizes: Mapping[str, int]) -> list[Finding]:
    """Pairs of classes that are the same but for writing, and pairs a typing error apart."""
    classes = sorted(sizes)
    same: list[Example] = []
    near: list[Example] = []
    by_form: dict[str, list[str]] = {}
    for c in classes:
        by_form.setdefault(spelled(c), []).append(c)
    for forms in by_form.values():
        if len(forms) > 1:
            shown = " = ".join(
                f"{text} ({sizes[c]})" for c, text in zip(forms, shown_apart(forms), strict=True)
            )
            same.append(Example(name=forms[0], detail=f"{shown}: {spelling_difference(*forms)}"))
    plain: dict[str, str] = {}
    words = [f[0] for f in by_form.values()]
    plain = {c: _without_marks(spelled(c)) for c in words}
    for i, a in enumerate(words):
        for b in words[i + 1 :]:
            if abs(len(plain[a]) - len(plain[b])) <= 2 and _one_typo_apart(plain[a], plain[b]):
                near.append(Example(name=a, detail=f"{a!r} ({sizes[a]}) and {b!r} ({sizes[b]})"))
    out = []
    if same:
        text = f"{counted(len(same), 'class', 'classes')} written in more than one way, counted as several"
        out.append(_finding(name, "same-label", "fault", text, same))
    if near:
        text = f"{counted(len(near), 'pair')} of classes a letter or two apart; if they are one, merge them"
        out.append(_finding(name, "near-label", "warning", text, near))
    return out


def _without_marks(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


def _one_typo_apart(a: str, b: str) -> bool:
    """Whether two words are so near that one may be a misspelling of the other.

    Numbers and single letters tell things apart on purpose (S1 and S2, twin a and twin b).
    """
    if a == b:
        return True  # but for accents
    shorter = min(len(a), len(b))
    if shorter < ONE_EDIT_FROM - 1 or max(len(a), len(b)) < ONE_EDIT_FROM:
        return False
    if any(c.isdigit() for c in a + b) and _letters(a) == _letters(b):
        return False
    parts = [(x, y) for x, y in zip(a.split(), b.split(), strict=False) if x != y]
    if len(a.split()) == len(b.split()) and any(min(len(x), len(y)) < 3 for x, y in parts):
        return False
    allowed = 2 if shorter >= TWO_EDITS_FROM - 1 else 1
    return edit_distance(a, b, allowed) <= allowed


def _letters(text: str) -> str:
    return "".join(c for c in text if not c.isdigit())


def edit_distance(a: str, b: str, limit: int) -> int:
    """Letters to insert, delete, change or swap with a neighbour (Damerau 1964); ``limit + 1`` if more."""
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        next_row = [i]
        for j, y in enumerate(b, 1):
            cost = min(row[j] + 1, next_row[j - 1] + 1, row[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            next_row.append(cost)
        if min(next_row) > limit:
            return limit + 1
        before, row = row, next_row
    return min(row[-1], limit + 1)


def _finding(label: str, kind: str, severity: Any, text: str, examples: Sequence[Example]) -> Finding:
    return Finding(
        kind=kind,
        severity=severity,
        text=f"label {label!r}: {text}.",
        count=len(examples),
        examples=tuple(examples),
    )
