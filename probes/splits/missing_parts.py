"""What is missing in the parts of a split, in sentences: for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SHOWN_CLASSES = 8
#: What follows for the classes that a part lacks.
CONSEQUENCES = {
    "train": "they cannot be recognised and count as recall 0",
    "test": "they do not count in the test UAR",
    "val": "the choice of layer ignores them",
}


def class_sentences(
    name: str, splits: Sequence[Mapping[str, Any]], parts: Sequence[str] = tuple(CONSEQUENCES)
) -> Iterator[str]:
    """Classes that a part lacks and rows in no part, over the folds of one split.

    Args:
        name: What the sentences begin with.
        splits: Descriptions of the folds, as ``_run.json`` keeps them.
        parts: The parts to look at.
    """
    for part in parts:
        consequence = CONSEQUENCES[part]
        folds: dict[str, list[int]] = {}
        for split in splits:
            for name_of_class in split["parts"][part].get("classes_missing", []):
                folds.setdefault(name_of_class, []).append(int(split.get("fold", 0)))
        if not folds:
            continue
        if len(splits) == 1:
            yield f"{name}: no {part} clips of {', '.join(folds)}; {consequence}."
            continue
        shown = [f"{c} ({len(set(f))})" for c, f in list(folds.items())[:SHOWN_CLASSES]]
        more = f" and {len(folds) - SHOWN_CLASSES} more" if len(folds) > SHOWN_CLASSES else ""
        n_folds = len({int(s.get("fold", 0)) for s in splits})
        yield (
            f"{name}: some of the {n_folds} folds have no {part} clips of {', '.join(shown)}{more} "
            f"(in brackets: in how many); there {consequence}."
        )
    without = max(int(split.get("rows_left_out", 0)) for split in splits)
    if without:
        yield f"{name}: {without:,} labelled clips are in no part; the column does not place them."
