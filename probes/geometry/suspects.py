"""Utterances whose label is probably wrong, or that are hard: neighbours and probes say another class.

Each utterance has votes: its nearest rows of other groups, and the answers of probes that were tested on it,
which never saw it in training. Shares of votes are judged as confident learning judges probabilities
(Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels"): a class is
suggested where it gets at least the share that clips labelled so get on average for it. So a class that is
hard throughout does not fill the list, and neither does a frequent one attract the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featurestore.arrays import Float64Array, IntArray, TextArray
from featurestore.errors import LabelError
from featurestore.printable import counted
from probes.geometry.nearest import Nearest
from probes.geometry.separability import found_elsewhere

if TYPE_CHECKING:
    from probes.geometry.aligned_rows import AlignedRows

OTHER_CLASS, HARD = "other-class", "hard"
# An utterance is hard where its label gets less than this share of what its class gets on average.
HARD_SHARE = 0.5
# Votes that name the label of fewer utterances are no evidence against a label.
LEAST_AGREEMENT = 0.5
COLUMNS = (
    "suspect_rank",
    "utterance_id",
    "label",
    "suggested",
    "kind",
    "margin",
    "neighbours_label",
    "neighbours_suggested",
    "n_neighbours",
    "answers_label",
    "answers_suggested",
    "n_answers",
    "all_agree",
    "group",
    "path",
)


@dataclass(frozen=True, kw_only=True)
class Votes:
    """Who says what of each utterance.

    Attributes:
        share: Of the votes of each utterance those for each class `[n, C]`; 0 where there are none.
        n: Votes of each utterance `[n]`.
    """

    share: Float64Array
    n: IntArray

    @classmethod
    def counted(cls, row: IntArray, y: IntArray, n_rows: int, n_classes: int) -> Votes:
        """Votes for the classes y `[m]` of the utterances at `row` `[m]`."""
        return cls.weighed(row, row, y, np.ones(len(row)), n_rows, n_classes)

    @classmethod
    def weighed(
        cls, of: IntArray, row: IntArray, y: IntArray, weight: Float64Array, n_rows: int, n_classes: int
    ) -> Votes:
        """Votes that say more than one class each, by how probable each is.

        Args:
            of: Utterance that each vote is about `[v]`.
            row: Utterance of what is said `[m]`.
            y: Class of what is said `[m]`.
            weight: What it weighs `[m]`; of one vote no more than 1 in all.
            n_rows: Utterances.
            n_classes: Classes.
        """
        cells = np.bincount(row * n_classes + y, weights=weight, minlength=n_rows * n_classes)
        n = np.bincount(of, minlength=n_rows).astype(np.int64)
        return cls(share=cells.reshape(n_rows, n_classes) / np.maximum(n, 1)[:, None], n=n)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What votes say of utterances.

    Attributes:
        suggested: Class that gets most beyond what is usual, the label's own left out `[n]`.
        margin: See `suspects` `[n]`.
        kind: `OTHER_CLASS`, `HARD`, or "" where nothing is amiss `[n]`.
        n: Utterances that have votes.
        agreement: Share of these for whose label no class gets more votes, mean over classes; NaN for none.
    """

    suggested: IntArray
    margin: Float64Array
    kind: TextArray
    n: int
    agreement: float


def class_codes(cells: TextArray, classes: Sequence[str]) -> IntArray:
    """Place of each cell among the classes `[n]`; -1 where it is none of them."""
    known = pd.Series(np.arange(len(classes)), index=np.array(classes, dtype=object))
    return known.reindex(cells).fillna(-1).to_numpy(dtype=np.int64)


def neighbour_votes(near: Nearest, y: IntArray, group: IntArray, n_classes: int) -> Votes:
    """The labels of the neighbours of each row; none of rows whose class is in no other group.

    Args:
        near: Neighbours of other groups.
        y: Classes, 0 to `n_classes` - 1 `[n]`.
        group: Codes of groups `[n]`.
        n_classes: How many classes votes can be for.
    """
    there = near.there & (found_elsewhere(y, group) > 0)[:, None]
    row, _ = np.nonzero(there)
    return Votes.counted(row, y[near.position[there]], len(y), n_classes)


def probe_votes(
    results: Path, rows: AlignedRows, label: str, classes: Sequence[str]
) -> tuple[Votes, list[str]]:
    """What the probes of a results folder said of each utterance when they were tested on it, and notes.

    The answers are those of the layer and settings that validation chose, of all seeds, folds, classifiers
    and models that were asked for.

    Raises:
        LabelError: the folder holds no answers about this label of these utterances.
    """
    from probes.results.results_folder import read_predictions, read_results
    from probes.results.selection import R2, chosen_fits

    table = read_results(results)
    models = {layer.model for layer in rows.layers}
    asked = (table["dataset"] == rows.dataset) & (table["label"] == label) & table["model"].isin(models)
    if not asked.any():
        held = ", ".join(sorted({f"{d}/{a}" for d, a in zip(table["dataset"], table["label"], strict=True)}))
        raise LabelError(
            f"{results}: no probe of {label!r} on {rows.dataset} of the models asked for; it holds "
            f"{held or 'none'}"
        )
    fits = chosen_fits(table[asked])
    if (fits["metric"] == R2).any():
        raise LabelError(f"{results}: holds {label!r} as numbers, which are not right or wrong; leave it out")
    said = read_predictions(results, fits)
    at = pd.Index(rows.utterance_id).get_indexer(pd.Index(said["utterance_id"]))
    assert rows.label is not None
    current = np.where(at >= 0, rows.label[at], "")
    y = class_codes(said["prediction"].to_numpy(dtype=object), classes)
    kept = (at >= 0) & (current == said["target"].to_numpy(dtype=object)) & (y >= 0)
    notes = []
    if not kept.all():
        notes.append(
            f"{int((~kept).sum()):,} of {len(said):,} answers in {results} are about utterances or labels "
            "that are not there now, and were left out."
        )
    if not kept.any():
        raise LabelError(
            f"{results}: none of its answers is about {label!r} as it is labelled now; probe again"
        )
    votes = Votes.counted(at[kept].astype(np.int64), y[kept].astype(np.int64), len(rows), len(classes))
    if (votes.n == 0).any():
        n = counted(int((votes.n == 0).sum()), "utterance")
        notes.append(
            f"{n} of {len(rows):,} were in no test part and are judged without probes; a split with folds, "
            "such as group-kfold:5, tests them all."
        )
    return votes, notes


def suspects(
    rows: AlignedRows, classes: Sequence[str], near: Votes | None, answers: Votes | None
) -> tuple[pd.DataFrame, Judged]:
    """Suspect utterances, worst first, with `COLUMNS`; and what they come from.

    Those whose votes agree on another class stand before hard ones, whose label gets few votes and no other
    class gets many. `margin` is the share of votes for the suggested class less that for the
    label, each less what is usual for its class; `all_agree` says that every answer of a probe, and most
    neighbours, name the suggested class, as far as there are any.

    Args:
        rows: Labelled utterances.
        classes: Names of the classes that votes are for.
        near: Votes of neighbours.
        answers: Votes of probes.
    """
    assert rows.label is not None
    y = class_codes(rows.label, classes)
    judged = judge([v for v in (near, answers) if v is not None], y)
    suggested, margin, kind = judged.suggested, judged.margin, judged.kind
    listed = np.flatnonzero(kind != "")
    order = np.lexsort((rows.utterance_id[listed].astype(str), -margin[listed], kind[listed] == HARD))
    at = listed[order]

    def of(votes: Votes | None, c: IntArray) -> Float64Array:
        if votes is None:
            return np.full(len(at), np.nan)
        return np.where(votes.n[at] > 0, votes.share[at, c[at]], np.nan)

    nobody = np.zeros(len(at), dtype=np.int64)
    table = {
        "suspect_rank": np.arange(1, len(at) + 1),
        "utterance_id": rows.utterance_id[at],
        "label": rows.label[at],
        "suggested": np.array(classes, dtype=object)[suggested[at]],
        "kind": kind[at],
        "margin": margin[at],
        "neighbours_label": of(near, y),
        "neighbours_suggested": of(near, suggested),
        "n_neighbours": nobody if near is None else near.n[at],
        "answers_label": of(answers, y),
        "answers_suggested": of(answers, suggested),
        "n_answers": nobody if answers is None else answers.n[at],
        "group": rows.group[at],
        "path": rows.path[at],
    }
    by_answers = np.isnan(table["answers_suggested"]) | (table["answers_suggested"] == 1)
    by_neighbours = np.isnan(table["neighbours_suggested"]) | (table["neighbours_suggested"] > 0.5)
    table["all_agree"] = by_answers & by_neighbours
    return pd.DataFrame(table)[list(COLUMNS)], judged


def judge(sources: Sequence[Votes], y: IntArray) -> Judged:
    """What votes say of each utterance.

    Each source is judged by what is usual for itself, and those that have votes for an utterance count alike.

    Args:
        sources: Votes of neighbours, of probes, or both.
        y: Labels, 0 to C - 1 `[n]`.
    """
    n, n_classes = sources[0].share.shape
    every = np.arange(n)
    share, usual = np.zeros((n, n_classes)), np.zeros((n, n_classes))
    never = np.zeros((n, n_classes), dtype=bool)
    for votes in sources:
        has = votes.n > 0
        size = np.bincount(y[has], minlength=n_classes)
        own = np.bincount(y[has], weights=votes.share[every, y][has], minlength=n_classes)
        share[has] += votes.share[has]
        usual[has] += own / np.maximum(size, 1)
        # Of a class of which nobody has votes it is not known what is usual.
        never[has] |= size == 0
    n_sources = np.maximum(sum((v.n > 0).astype(np.int64) for v in sources), 1)[:, None]
    share, usual = share / n_sources, usual / n_sources
    beyond = np.where(never, -np.inf, share - usual)
    own_share, own_usual = share[every, y], usual[every, y]
    beyond[every, y] = -np.inf
    suggested = beyond.argmax(axis=1).astype(np.int64)
    theirs = beyond[every, suggested]
    has_votes = np.any([v.n > 0 for v in sources], axis=0)
    judged = has_votes & np.isfinite(theirs)
    kind = np.full(n, "", dtype=object)
    kind[judged & (own_share < HARD_SHARE * own_usual)] = HARD
    kind[judged & (share[every, suggested] > own_share) & (theirs >= 0)] = OTHER_CLASS
    of = y[has_votes]
    named = np.bincount(of, weights=(own_share >= share.max(axis=1))[has_votes], minlength=n_classes)
    size = np.bincount(of, minlength=n_classes)
    return Judged(
        suggested=suggested,
        margin=theirs - (own_share - own_usual),
        kind=kind,
        n=int(has_votes.sum()),
        agreement=float((named[size > 0] / size[size > 0]).mean()) if size.any() else float("nan"),
    )
