"""Controls: what a probe scores where there is nothing, or only the recording, to be learned.

* ``shuffled-labels``: the labels of every part dealt out again among its rows. Class sizes stay, so chance
  stays; what is left on test is what leaks (rows that stand in two parts), and the score on *training*
  rows says how much the probe can memorise at that layer.
* ``group-labels``: Hewitt & Liang's control task (EMNLP 2019). There every word *type* gets a random label
  that a probe can only know by recognising the type. Utterances have no types, but the manifest's groups
  are what they have in common without sharing a label: every group (recording, individual) gets a class,
  drawn by the classes' frequencies in training. Where groups straddle the split, a high score says that
  the probe recognises recordings; where no group straddles, test stays at chance.
* ``mdl``: minimum description length by the online code (Voita & Titov, EMNLP 2020): the bits that it takes
  to send the training labels to somebody who has the embeddings, when a probe is fitted on ever larger
  shares and codes the next one. It needs no test rows and tells layers apart that score alike.

*Selectivity* is the score on the labels minus the score on a control, fit by fit (same layer, settings,
seed and split). Controls are fits of their own with fingerprints of their own; they are kept in
``_controls.parquet`` and never stand among the fits of a layer curve.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurestore.arrays import FloatArray, IntArray
from featurestore.errors import ConfigError, LabelError, did_you_mean
from probes.classifiers.fused_mlp import Fused
from probes.classifiers.registry import get_classifier
from probes.codes import codes
from probes.splits.interface import generator

if TYPE_CHECKING:
    from probes.questions.labelled_rows import Question
    from probes.splits import Rows, Split


SHUFFLED, BY_GROUP, MDL = "shuffled-labels", "group-labels", "mdl"
CONTROLS = (SHUFFLED, BY_GROUP, MDL)
#: Controls that are fitted and scored as ordinary probes, on other labels.
OTHER_LABELS = (SHUFFLED, BY_GROUP)

# Voita & Titov 2020, section 4.1: 0.1, 0.2, 0.4 … 100 % of the training rows.
PORTIONS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)
# The first share is sent without a probe. Corpora of animal sounds are a hundred times smaller than
# theirs: shares of fewer rows than this would train on almost nothing.
MIN_ROWS = 16
# Streams of random numbers apart from the split's own.
_STREAM = {SHUFFLED: 101, BY_GROUP: 102, MDL: 103}
_REDRAWS = 100


def check_controls(controls: Sequence[str], classifiers: Sequence[str]) -> None:
    """Refuse a control that is unknown, or that a classifier cannot do.

    Raises:
        ConfigError: one line that says which.
    """
    for name in controls:
        if name not in CONTROLS:
            hint = did_you_mean(name, CONTROLS)
            raise ConfigError(f"control: expected {', '.join(CONTROLS)}, got {name!r}{hint}")
    for classifier in classifiers if MDL in controls else ():
        if not isinstance(get_classifier(classifier), Fused):
            raise ConfigError(
                f"control mdl: classifier {classifier} gives no probability to a class it has not seen yet, "
                f"mlp and linear do; ask for {classifier} in a command of its own"
            )


def check_groups(control: str, rows: Rows) -> None:
    """Refuse labels by group where rows have none.

    Raises:
        LabelError: one line with an example.
    """
    if control != BY_GROUP:
        return
    without = np.flatnonzero(rows.group == "")
    if len(without):
        raise LabelError(
            f"{rows.what}: control {BY_GROUP} needs a group for every row, {len(without)} have none "
            f"(such as {rows.utterance_id[without[0]]!r}); fill the manifest's column {rows.grouped_by!r}"
        )


def control_labels(control: str, question: Question) -> IntArray:
    """Class positions `[n]` of all rows under a control of `OTHER_LABELS`.

    They depend on ids, groups, labels and the split's seed; not on the order of the rows.
    """
    rows, split = question.labelled.rows, question.split
    seed = (split.seed, _STREAM[control])
    if control == SHUFFLED:
        return _shuffled(question.y, rows, split, seed)
    return _by_group(question.y, rows, split, seed)


def _shuffled(y: IntArray, rows: Rows, split: Split, seed: tuple[int, ...]) -> IntArray:
    rank = np.empty(len(rows), dtype=np.int64)
    rank[rows.by_id] = np.arange(len(rows))
    draws = rows.draws(*seed)
    out = y.copy()
    for _, where in split.parts():
        out[where[np.argsort(rank[where])]] = y[where[np.argsort(draws[where])]]
    return out


def _by_group(y: IntArray, rows: Rows, split: Split, seed: tuple[int, ...]) -> IntArray:
    groups, group_of = codes(rows.group)
    share = np.bincount(y[split.train]).cumsum() / len(split.train)
    for attempt in range(_REDRAWS):
        numbers = generator(*seed, attempt).random(len(groups))
        out = np.searchsorted(share, numbers, side="right").clip(max=len(share) - 1)[group_of]
        if len(np.unique(out[split.train])) > 1:
            return out
    raise LabelError(
        f"{rows.what}: control {BY_GROUP} needs two groups at least in training that can get different "
        "labels; leave it out, or give finer groups"
    )


def portions(n: int) -> list[int]:
    """Rows that have been sent after each step, the first of them without a probe; the last is `n`."""
    sizes = sorted({round(share * n) for share in PORTIONS})
    return [size for size in sizes if size >= min(MIN_ROWS, n)]


def check_portions(controls: Sequence[str], rows: Rows, n_train: int) -> None:
    """Refuse an online code of so few rows that nothing of them is coded by a probe.

    Raises:
        LabelError: one line with the least number.
    """
    if MDL in controls and len(portions(n_train)) < 2:
        raise LabelError(
            f"{rows.what}: control {MDL} needs at least {2 * MIN_ROWS - 1} training rows, "
            f"there are {n_train}; leave it out, or take another split"
        )


def online_code(
    question: Question,
    y: IntArray,
    n_classes: int,
    fit: Callable[[IntArray], Sequence[Callable[[IntArray], FloatArray]]],
) -> list[float]:
    """Bits of the online code of the training labels, for each of several probes.

    Args:
        question: Rows and split.
        y: Classes `[n_train]` of the training rows, 0 … C-1, in the order of the split.
        n_classes: C.
        fit: Fits all probes on training rows (positions among them) and returns for each what gives
            the natural logarithms of class probabilities `[m, C]` of other training rows.
    """
    rows, split = question.labelled.rows, question.split
    order = np.argsort(rows.draws(split.seed, _STREAM[MDL])[split.train])
    sent = portions(len(order))
    assert len(sent) > 1, "check_portions comes first"
    uniform = sent[0] * np.log2(n_classes)
    coded: list[npt.NDArray[np.float64]] = []  # bits of each portion, for each probe
    for start, stop in itertools.pairwise(sent):
        block = order[start:stop]
        logs = np.stack([log_of(block) for log_of in fit(order[:start])]).astype(np.float64)
        coded.append(-logs[:, np.arange(len(block)), y[block]].sum(axis=1) / np.log(2))
    return [float(bits + uniform) for bits in np.sum(coded, axis=0)]


def code_columns(bits: float, n: int, n_classes: int) -> dict[str, Any]:
    """`codelength_bits`, `uniform_bits` (n · log2 C) and `compression`, their ratio: 1 is no gain."""
    uniform = n * float(np.log2(n_classes))
    return {"codelength_bits": bits, "uniform_bits": uniform, "compression": uniform / bits}
