"""How right detections are: precision, recall and F1 by class, of segments and of events, with intervals.

Both measures are those of Mesaros, Heittola & Virtanen 2016 (Applied Sciences 6:162): a segment is right
where both sides have the class anywhere in it; events are matched one to one, as many as can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from featurestore.arrays import Float64Array
from probes.statistics import Interval, interval_of, ratio_influence
from studies.detection.truth import Truth, TruthRequest

SEGMENTS, EVENTS = "segments", "events"
MEASURES = ("precision", "recall", "f1")
MEAN = "(mean of classes)"
# Times are decimals: an event that ends with a segment is not in the next.
_SAME_S = 1e-9


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """How one class was found.

    Attributes:
        of: ``segments`` or ``events``.
        label: the class; `MEAN` for the mean over classes.
        tp, fp, fn: right, false and missed, over all recordings.
        intervals: by measure; none where it is not defined.
    """

    of: str
    label: str
    tp: int
    fp: int
    fn: int
    intervals: dict[str, Interval]


def agreement(
    events: pd.DataFrame,
    truth: Truth,
    request: TruthRequest,
    *,
    durations_s: dict[str, float],
    window_s: float,
    classes: Sequence[str],
) -> list[ClassScore]:
    """Scores of every class that the probe knows, of segments and then of events.

    Args:
        events: ``path, start_s, end_s, channel, label``, as found.
        truth: as annotated; recordings that it does not name are left out.
        request: when a detection agrees.
        durations_s: length of each recording.
        window_s: segments are so long where `request` names no length.
        classes: of the probe, without its background.
    """
    paths = sorted(set(durations_s) - set(truth.unnamed))
    by_channel = bool(len(events) and len(truth.events)) and not (
        events["channel"].isna().any() or truth.events["channel"].isna().any()
    )
    found, true = (_by_place(table, by_channel) for table in (events, truth.events))
    segment_s = request.segment_s or window_s
    counts = {of: np.zeros((len(paths), len(classes), 3)) for of in (SEGMENTS, EVENTS)}
    for i, path in enumerate(paths):
        channels = {c for p, c, _ in (*found, *true) if p == path}
        for channel in channels:
            for k, label in enumerate(classes):
                place = (path, channel, label)
                a, b = found.get(place, _NONE), true.get(place, _NONE)
                counts[SEGMENTS][i, k] += segment_counts(a, b, segment_s)
                counts[EVENTS][i, k] += event_counts(a, b, iou=request.iou, collar_s=request.collar_s)
    return [score for of in (SEGMENTS, EVENTS) for score in _scores(of, classes, counts[of])]


Times = npt.NDArray[np.float64]  # [n, 2], starts and ends in seconds
_NONE: Times = np.zeros((0, 2))


def segment_counts(found: Times, true: Times, segment_s: float) -> tuple[int, int, int]:
    """Segments that are right, false and missed."""
    a, b = _segments(found, segment_s), _segments(true, segment_s)
    return len(a & b), len(a - b), len(b - a)


def event_counts(
    found: Times, true: Times, *, iou: float, collar_s: float | None = None
) -> tuple[int, int, int]:
    """Events that are right, false and missed.

    Args:
        found: as detected.
        true: as annotated.
        iou: least intersection over union of two events that are one.
        collar_s: instead: largest distance of their starts.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if not (len(found) and len(true)):
        return 0, len(found), len(true)
    (start, end), (true_start, true_end) = found.T, true.T
    if collar_s is not None:
        rows, columns = _near(start, true_start, collar_s)
    else:
        rows, columns = _touching(found, true)
        shared = np.minimum(end[rows], true_end[columns]) - np.maximum(start[rows], true_start[columns])
        together = np.maximum(end[rows], true_end[columns]) - np.minimum(start[rows], true_start[columns])
        good = shared >= iou * together - _SAME_S
        rows, columns = rows[good], columns[good]
    # SciPy before 1.15 takes no indices of 64 bits here.
    indices = rows.astype(np.int32), columns.astype(np.int32)
    graph = csr_array((np.ones(len(rows), dtype=np.int8), indices), shape=(len(found), len(true)))
    n = int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())
    return n, len(found) - n, len(true) - n


def _near(a: Float64Array, b: Float64Array, within: float) -> tuple[npt.NDArray[np.intp], ...]:
    """Pairs of numbers that are no farther apart."""
    order = np.argsort(b)
    first = np.searchsorted(b[order], a - within - _SAME_S, side="left")
    stop = np.searchsorted(b[order], a + within + _SAME_S, side="right")
    return _pairs(first, stop, order)


def _touching(a: Times, b: Times) -> tuple[npt.NDArray[np.intp], ...]:
    """Pairs of events that share some time, and perhaps others."""
    order = np.argsort(b[:, 0])
    # Events behind `first` end late enough for one of them, at least, to reach into a.
    ends = np.maximum.accumulate(b[order, 1])
    first = np.searchsorted(ends, a[:, 0], side="right")
    stop = np.searchsorted(b[order, 0], a[:, 1], side="left")
    return _pairs(first, np.maximum(first, stop), order)


def _pairs(
    first: npt.NDArray[np.intp], stop: npt.NDArray[np.intp], order: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], ...]:
    n = stop - first
    rows = np.repeat(np.arange(len(n)), n)
    within = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    return rows, order[np.repeat(first, n) + within]


def _segments(times: Times, segment_s: float) -> set[int]:
    first = np.floor((times[:, 0] + _SAME_S) / segment_s).astype(np.int64)
    stop = np.ceil((times[:, 1] - _SAME_S) / segment_s).astype(np.int64)
    return {i for a, b in zip(first, stop, strict=True) for i in range(a, max(b, a + 1))}


def _by_place(table: pd.DataFrame, by_channel: bool) -> dict[tuple[str, int, str], Times]:
    channel = table["channel"] if by_channel else pd.Series(0, index=table.index)
    times = table[["start_s", "end_s"]].to_numpy(dtype=np.float64)
    rows: dict[tuple[str, int, str], list[int]] = {}
    for i, place in enumerate(zip(table["path"], channel.astype(int), table["label"], strict=True)):
        rows.setdefault(place, []).append(i)
    return {place: times[at] for place, at in rows.items()}


def _scores(of: str, classes: Sequence[str], counts: Float64Array) -> list[ClassScore]:
    """Of counts `[recordings, classes, 3]`."""
    tp, fp, fn = np.moveaxis(counts, 2, 0)
    ratios = {"precision": (tp, tp + fp), "recall": (tp, tp + fn), "f1": (2 * tp, 2 * tp + fp + fn)}
    influences = {name: ratio_influence(name, list(classes), *r) for name, r in ratios.items()}
    found = []
    for k, label in enumerate(classes):
        own = {n: [i for i, c in enumerate(f.names) if c == label] for n, f in influences.items()}
        intervals = {n: interval_of(influences[n].only(at[0])) for n, at in own.items() if at}
        found.append(_score(of, label, counts[:, k], intervals))
    mean = {n: interval_of(f) for n, f in influences.items() if len(f.values)}
    return [*found, _score(of, MEAN, counts.sum(axis=1), mean)]


def _score(of: str, label: str, counts: Float64Array, intervals: dict[str, Interval]) -> ClassScore:
    tp, fp, fn = (int(n) for n in counts.sum(axis=0))
    return ClassScore(of=of, label=label, tp=tp, fp=fp, fn=fn, intervals=intervals)


def agreement_table(scores: Sequence[ClassScore]) -> pd.DataFrame:
    """A row per class and kind: counts, then each measure with the ends of its interval; NaN for none."""
    rows = []
    for s in scores:
        row: dict[str, object] = {"of": s.of, "class": s.label, "tp": s.tp, "fp": s.fp, "fn": s.fn}
        for name in MEASURES:
            i = s.intervals.get(name)
            for suffix, value in (("", "estimate"), ("_low", "low"), ("_high", "high")):
                row[f"{name}{suffix}"] = float("nan") if i is None else getattr(i, value)
        first = next(iter(s.intervals.values()), None)
        row |= {"n_recordings": 0 if first is None else first.n_groups}
        rows.append(row)
    return pd.DataFrame(rows)
