"""Labels: classes that are probably one, class sizes, and what one clip is worth."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from itertools import combinations
from typing import Any

import pandas as pd

from featurestore.audit.findings import Example, Finding, listed
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
            text = f"label {name!r}: has no label in any row."
            findings.append(Finding(kind="empty-label", severity="warning", text=text, count=0))
            continue
        # A column with a value of its own in most rows is an id or a number, not a class.
        is_class = len(sizes) <= min(MAX_CLASSES, len(table) // 2)
        described.append(_describe(table, name, sizes, is_class))
        if is_class:
            findings += [*_near_misses(name, sizes), *_small(name, sizes), *_lonely(name, sizes, table)]
    return findings + _groups(table["group"]), described


def _groups(column: pd.Series) -> list[Finding]:
    """Groups that are one but for writing, of which one may train and the other be tested."""
    same = _spelled_alike({str(name): n for name, n in column.value_counts().items()})
    text = f"group: {counted(len(same), 'group')} written in more than one way, counted as several."
    return listed("same-group", "fault", text, same)


def _spelled_alike(sizes: Mapping[str, int]) -> list[Example]:
    """Each set of classes or groups that are one but for writing."""
    found = []
    for forms in spellings(sizes):
        shown = zip(forms, shown_apart(forms), strict=True)
        text = " = ".join(f"{form} ({sizes[name]})" for name, form in shown)
        found.append(Example(name=forms[0], detail=f"{text}: {spelling_difference(*forms)}"))
    return found


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


def _small(name: str, sizes: Mapping[str, int]) -> list[Finding]:
    tiny = [c for c, n in sizes.items() if n < 3]
    text = (
        f"label {name!r}: {len(tiny)} of {len(sizes)} classes have fewer than 3 clips and cannot be in "
        "train, validation and test alike."
    )
    found = listed("tiny-class", "warning", text, (Example(name=c, detail=f"{sizes[c]} clips") for c in tiny))
    worth = {c: 100 / (len(sizes) * max(1, round(TEST_SHARE * n))) for c, n in sizes.items() if n >= 3}
    heavy = sorted((c for c, w in worth.items() if w > WORTH_POINTS), key=lambda c: -worth[c])
    if heavy and len(sizes) > 1:  # of one class there is no recall to speak of
        text = (
            f"label {name!r}: one test clip of {heavy[0]!r} is worth {worth[heavy[0]]:.1f} points of UAR "
            f"when a tenth is tested; smaller differences mean nothing ({len(heavy)} of {len(sizes)} classes "
            f"above {WORTH_POINTS:g} point)."
        )
        details = {c: f"{sizes[c]} clips, one in test is worth {worth[c]:.1f} points" for c in heavy}
        found += listed("coarse-uar", "note", text, (Example(name=c, detail=d) for c, d in details.items()))
    return found


def _lonely(name: str, sizes: Mapping[str, int], table: pd.DataFrame) -> list[Finding]:
    """Classes of one group, which a split by groups cannot both train and test."""
    if len(sizes) < 2:
        return []
    labelled = table[(table[name] != "") & (table["group"] != "")]
    groups = labelled.groupby(name, sort=True)["group"].nunique()
    lonely = [str(c) for c in groups[groups < 2].index]
    text = (
        f"label {name!r}: {len(lonely)} of {len(sizes)} classes are in one group only and cannot both train "
        "and be tested when groups are kept together."
    )
    examples = (Example(name=c, detail=f"{sizes.get(c, 0)} clips") for c in lonely)
    return listed("one-group-class", "note", text, examples)


def _near_misses(name: str, sizes: Mapping[str, int]) -> list[Finding]:
    """Pairs of classes that are the same but for writing, and pairs a typing error apart."""
    same = _spelled_alike(sizes)
    n = counted(len(same), "class", "classes")
    text = f"label {name!r}: {n} written in more than one way, counted as several."
    found = listed("same-label", "fault", text, same)
    # Of each way to write a class the first.
    words = {spelled(c): c for c in sorted(sizes, reverse=True)}
    plain = sorted((c, _without_marks(form)) for form, c in words.items())
    near = [
        Example(name=a, detail=f"{a!r} ({sizes[a]}) and {b!r} ({sizes[b]})")
        for (a, plain_a), (b, plain_b) in combinations(plain, 2)
        if abs(len(plain_a) - len(plain_b)) <= 2 and _one_typo_apart(plain_a, plain_b)
    ]
    n = counted(len(near), "pair")
    text = f"label {name!r}: {n} of classes a letter or two apart; if they are one, merge them."
    return found + listed("near-label", "warning", text, near)


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
    return edits(a, b) <= allowed


def _letters(text: str) -> str:
    return "".join(c for c in text if not c.isdigit())


def edits(a: str, b: str) -> int:
    """Letters to insert, delete or change, as `difflib` aligns two words, or to swap (Damerau 1964)."""
    steps = SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
    n = sum(max(i2 - i1, j2 - j1) for step, i1, i2, j1, j2 in steps if step != "equal")
    # Of two letters that were swapped one is deleted here and inserted there.
    return n // 2 if sorted(a) == sorted(b) else n
