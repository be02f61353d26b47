"""Scores that papers published, as they came to us, and what is known of how they were made."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Literal

PaperName = Literal["icassp2025"]
#: Model, adapter of the corpus, label.
Asked = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Paper:
    """What a paper published.

    Attributes:
        name: of the paper, in text.
        note: where the scores come from, and how far they can be trusted.
        preset: input convention of `fs extract` that marks models of the half as published.
        differences: what else differs between a study's halves; ends a sentence that begins with "They".
        scores: test UAR of the best layer, as fractions; two where sources disagree.
    """

    name: str
    note: str
    preset: str
    differences: str
    scores: Mapping[Asked, tuple[float, ...]] = field(default_factory=dict)


def paper(name: PaperName) -> Paper:
    """A paper by its name in a study file."""
    text = files("studies.paper_table").joinpath(f"{name}.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return Paper(
        name="Sarkar & Magimai-Doss (ICASSP 2025)",
        note="The paper's values are second-hand: of two summaries of it, not of the paper itself. Where two "
        "values stand, the summaries disagree. They are test UAR of the best layer; of which label is not "
        "said, call type and species are taken to be meant.",
        preset="sarkar2025",
        differences="differ in how audio is cut, normalised and repeated, in what is held out, in batch "
        "size, learning rates and seeds, and in which epoch is tested; docs/as_published.md says what each "
        "of these does alone",
        scores={
            (row["model"], row["adapter"], row["label"]): tuple(
                round(float(row[column]) / 100, 6) for column in ("uar", "other_uar") if row[column]
            )
            for row in rows
        },
    )
