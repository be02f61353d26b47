"""Thresholds by events: which of them makes a share of the events right, in recordings that are annotated?

Validation rows are clips that somebody cut; an event is a run of windows, and right where it covers an
annotated one. So what is right of the one says little of the other. Here every threshold is tried on the
probabilities that an earlier run kept of annotated recordings, with the windows, gaps and shortest events of
this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from extractors.audio.recording_windows import WindowGrid
from featurestore.arrays import Float64Array, FloatArray, IntArray
from featurestore.errors import ConfigError, CorruptData, FingerprintMismatch
from featurestore.fingerprint import diff, digest
from featurestore.outputs import put_file
from featurestore.untrusted.documents import DocumentError
from featurestore.untrusted.parquet_tables import NUMBER, TEXT, read_parquet_document
from studies.detection.agreement import Times, event_counts
from studies.detection.events import EventJoiner, EventRule
from studies.detection.truth import Truth
from studies.detection.unit_files import UnitRecord, file_hash, read_records, read_run, scores_name

TRUTH_NAME = "truth.parquet"
# Thresholds that are tried for a class; of more probabilities so many, evenly by their ranks.
MOST_TRIED = 100
# Recordings of which each is left out in turn, at least; as for intervals over recordings.
FEWEST_LEFT_OUT = 4
MORE_DIFFERENCES = 3
_TRUTH = {"path": TEXT, "label": TEXT, "channel": NUMBER, "start_s": NUMBER, "end_s": NUMBER}


@dataclass(frozen=True, kw_only=True)
class EventsRequest:
    """Where annotated events are to choose thresholds by, and when an event is one of them.

    Attributes:
        folder: results of `fs detect --scores --truth`.
        iou, collar_s: see `TruthRequest`.
    """

    folder: Path
    iou: float = 0.5
    collar_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class EventThreshold:
    """Where a class begins, for a share of right events that was asked.

    Attributes:
        value: lowest calibrated probability; NaN where no threshold reaches the share.
        precision: share of the events that are right; where no threshold reaches what was asked the best that
            there is. NaN where there are no events at all.
        recall: share of the annotated events that are found; NaN where there is none.
        n_events, n_true: events from there on, and annotated ones.
        n_recordings: with annotations.
        elsewhere: share of right events in recordings that the threshold was not chosen by: each is left out
            in turn. NaN of fewer than `FEWEST_LEFT_OUT`, or where no event is found so.
    """

    value: float
    precision: float
    recall: float
    n_events: int
    n_true: int
    n_recordings: int
    elsewhere: float


def event_threshold(values: Float64Array, counts: IntArray, precision: float) -> EventThreshold:
    """The threshold at which most events of a class are found with a precision.

    Of all that find as much, the one with fewest false events is taken, and of these the highest.

    Args:
        values: thresholds `[n]`, ascending.
        counts: events that are right, false and missed, at each threshold in each recording `[n, R, 3]`.
        precision: what is asked, 0 to 1.
    """
    nan, n_recordings = float("nan"), counts.shape[1]
    totals = counts.sum(axis=1)  # [n, 3]
    if not len(values):
        return EventThreshold(
            value=nan,
            precision=nan,
            recall=nan,
            n_events=0,
            n_true=0,
            n_recordings=n_recordings,
            elsewhere=nan,
        )
    chosen = _most_found(totals, precision)
    shares = totals[:, 0] / np.maximum(1, totals[:, 0] + totals[:, 1])
    at = int(shares.argmax()) if chosen is None else chosen
    right, false, missed = (int(n) for n in totals[at])
    return EventThreshold(
        value=nan if chosen is None else float(values[at]),
        precision=right / (right + false) if right + false else nan,
        recall=right / (right + missed) if right + missed else nan,
        n_events=right + false,
        n_true=right + missed,
        n_recordings=n_recordings,
        elsewhere=nan if chosen is None else _elsewhere(totals, counts, precision),
    )


def _most_found(totals: IntArray, precision: float) -> int | None:
    """Which threshold is chosen by counts `[n, 3]`; None where none has the precision."""
    right, false = totals[:, 0], totals[:, 1]
    good = np.flatnonzero((right > 0) & (right >= precision * (right + false) - 1e-9))
    if not len(good):
        return None
    return int(good[np.lexsort((good, -false[good], right[good]))[-1]])


def _elsewhere(totals: IntArray, counts: IntArray, precision: float) -> float:
    if counts.shape[1] < FEWEST_LEFT_OUT:
        return float("nan")
    right = false = 0
    for i in range(counts.shape[1]):
        at = _most_found(totals - counts[:, i], precision)
        if at is not None:
            right, false = right + int(counts[at, i, 0]), false + int(counts[at, i, 1])
    return right / (right + false) if right + false else float("nan")


def keep_truth(out: Path, truth: Truth, paths: Sequence[str]) -> None:
    """Write what is annotated in recordings that were looked through, so that thresholds can be chosen by it.

    A recording that is annotated and has no event stands there with an empty label and no times.
    """
    events = truth.events[truth.events["path"].isin(paths)]
    quiet = sorted(set(paths) - set(truth.unnamed) - set(events["path"]))
    empty = pd.DataFrame({"path": quiet, "label": ""})
    table = pd.concat([events, empty], ignore_index=True) if quiet else events
    put_file(table.astype({"channel": "Int64"}).to_parquet(index=False), out / TRUTH_NAME)


@dataclass(frozen=True, eq=False)
class ScoredRecording:
    """An annotated recording, and what was said of its windows.

    Attributes:
        channels: number (None: the mean of all) → starts and ends of stretches `[n]`, probabilities `[n, C]`.
        true: channel (0 where these are not told apart) and label → events `[m, 2]` in seconds.
        by_channel: whether channels are told apart, in both.
    """

    channels: Mapping[int | None, tuple[Float64Array, Float64Array, FloatArray]]
    true: Mapping[tuple[int, str], Times]
    by_channel: bool


def thresholds_by_events(
    asked: EventsRequest,
    precision: float,
    *,
    decides: Mapping[str, Any],
    classes: Sequence[str],
    silent: str | None,
    rule: EventRule,
    grid: WindowGrid,
) -> dict[str, EventThreshold]:
    """The threshold of every class that makes events.

    Args:
        asked: where annotated events are.
        precision: share of events that shall be right.
        decides: see `DetectPlan.decides`; those results have to be of the same, but for thresholds.
        classes: of the probe `[C]`.
        silent: the class that makes no events.
        rule: of events; its thresholds are not looked at.
        grid: windows.

    Raises:
        FingerprintMismatch: the results are of another probe, or of other windows or events.
        ConfigError: they keep no probabilities, or no truth.
        CorruptData: a table of them was changed.
    """
    scored = _read(asked.folder, decides, classes, grid)
    labels = [label for label in classes if label != silent]
    return {
        label: class_threshold(scored, classes.index(label), label, precision, rule, asked)
        for label in labels
    }


def class_threshold(
    scored: Sequence[ScoredRecording],
    k: int,
    label: str,
    precision: float,
    rule: EventRule,
    asked: EventsRequest,
) -> EventThreshold:
    """The threshold of class `k`, called `label`, by annotated recordings; see `thresholds_by_events`."""
    values = _tried([_own(p, k, rule.one_class) for one in scored for *_, p in one.channels.values()])
    counts = np.zeros((len(values), len(scored), 3), dtype=np.int64)
    for i, one in enumerate(scored):
        for j, value in enumerate(values):
            counts[j, i] = _counts(one, k, label, value, rule, asked)
    return event_threshold(values, counts, precision)


def _own(p: FloatArray, k: int, one_class: bool) -> FloatArray:
    """Probabilities of a class `[n]`, NaN in windows that are of a likelier one, as `EventJoiner` has it."""
    own = p[:, k]
    if not one_class:
        return own
    with np.errstate(invalid="ignore"):
        return np.where(own == p.max(axis=1), own, np.float32(np.nan))


def _tried(own: Sequence[FloatArray]) -> Float64Array:
    """Thresholds that are tried, ascending: each halfway to the next lower probability that occurs."""
    values = np.unique(np.concatenate([p[~np.isnan(p)] for p in own]).astype(np.float64))
    halfway = (values + np.concatenate([[0.0], values[:-1]])) / 2 if len(values) else values
    ranks = np.linspace(0, len(halfway) - 1, min(len(halfway), MOST_TRIED)).round().astype(np.int64)
    return np.asarray(halfway[ranks], dtype=np.float64)


def _counts(
    one: ScoredRecording, k: int, label: str, value: float, rule: EventRule, asked: EventsRequest
) -> tuple[int, int, int]:
    """Events of a class that are right, false and missed in a recording, from a threshold on."""
    alone = EventRule(
        thresholds=(float(value),), gap_s=rule.gap_s, min_event_s=rule.min_event_s, one_class=False
    )
    found: dict[int, list[tuple[float, float]]] = {}
    for channel, (start_s, end_s, p) in one.channels.items():
        joiner = EventJoiner((label,), alone, channel)
        joiner.add(start_s, end_s, _own(p, k, rule.one_class)[:, None])
        place = int(channel or 0) if one.by_channel else 0
        found.setdefault(place, []).extend((e.start_s, e.end_s) for e in joiner.finish())
    places = {*found, *(channel for channel, name in one.true if name == label)}
    none = np.zeros((0, 2))
    per_place = [
        event_counts(
            np.array(found.get(place) or none, dtype=np.float64).reshape(-1, 2),
            one.true.get((place, label), none),
            iou=asked.iou,
            collar_s=asked.collar_s,
        )
        for place in places
    ]
    right, false, missed = (
        (sum(column) for column in zip(*per_place, strict=True)) if per_place else (0, 0, 0)
    )
    return right, false, missed


def _read(
    folder: Path, decides: Mapping[str, Any], classes: Sequence[str], grid: WindowGrid
) -> list[ScoredRecording]:
    """The annotated recordings of earlier results."""
    records = _annotated(folder, decides)
    truth = _table(folder / TRUTH_NAME, _TRUTH)
    truth = truth[truth["label"] != ""]
    names = [f"p:{name}" for name in classes]
    tables = [_scores_of(folder, record, names) for record in records]
    by_channel = not (any(t["channel"].isna().any() for t in tables) or truth["channel"].isna().any())
    found = []
    for record, table in zip(records, tables, strict=True):
        own = truth[truth["path"] == record.path]
        place = own["channel"].astype("int64") if by_channel else pd.Series(0, index=own.index)
        channels: dict[int | None, tuple[Float64Array, Float64Array, FloatArray]] = {}
        for number, rows in _by_channel(table):
            # Anew: what the file has is rounded, and neighbours have to touch.
            stretches = grid.stretches(
                np.arange(len(rows)), round(record.duration_s * record.rate_hz), record.rate_hz
            )
            channels[number] = (*stretches, rows[names].to_numpy(dtype=np.float32))
        true: dict[tuple[int, str], Times] = {}
        for channel, label in sorted(set(zip(place, own["label"], strict=True))):
            alike = own[(place == channel) & (own["label"] == label)]
            true[int(channel), str(label)] = alike[["start_s", "end_s"]].to_numpy(dtype=np.float64)
        found.append(ScoredRecording(channels=channels, true=true, by_channel=by_channel))
    return found


def _by_channel(table: pd.DataFrame) -> Iterator[tuple[int | None, pd.DataFrame]]:
    """The windows of each channel, in their order; None for those of the mean of all."""
    mean = table["channel"].isna()
    if mean.any():
        yield None, table[mean]
    for channel in sorted(set(table.loc[~mean, "channel"].to_numpy(dtype=np.int64).tolist())):
        yield channel, table[table["channel"] == channel]


def _annotated(folder: Path, decides: Mapping[str, Any]) -> list[UnitRecord]:
    """Records of the annotated recordings of results that were decided alike."""
    there = read_run(folder)
    if there is None:
        raise ConfigError(
            f"--events-of {folder}: expected results of `fs detect --scores --truth …`; there are none"
        )
    differences = diff(_but_thresholds(there), _but_thresholds(decides))
    if differences:
        shown = "; ".join(d.replace("requested", "here") for d in differences[:MORE_DIFFERENCES])
        raise FingerprintMismatch(
            f"--events-of {folder}: thresholds are for the same probe, windows and events alone, and these "
            f"differ: {shown}; detect there again with the options of here"
        )
    if not (folder / TRUTH_NAME).is_file():
        raise ConfigError(f"--events-of {folder}: keeps no truth; run it again with --truth and --scores")
    named, run = set(_table(folder / TRUTH_NAME, {"path": TEXT})["path"]), digest(there)
    records = [r for r in read_records(folder) if r.path in named and r.run == run]
    if not records:
        raise ConfigError(f"--events-of {folder}: has results of no annotated recording; run it again")
    return records


def _but_thresholds(decides: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in decides.items() if name != "thresholds"}


def _scores_of(folder: Path, record: UnitRecord, names: Sequence[str]) -> pd.DataFrame:
    name = scores_name(record.name)
    if name not in record.files or not (folder / name).is_file():
        raise ConfigError(
            f"--events-of {folder}: keeps no probabilities of {record.path}; run it again with --scores"
        )
    if file_hash(folder / name) != record.files[name]:
        raise CorruptData(f"{folder / name}: was changed since it was written; delete it and run again")
    return _table(folder / name, dict.fromkeys(("channel", *names), NUMBER))


def _table(path: Path, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Columns of a table that a run has kept.

    Raises:
        CorruptData: it cannot be read, or lacks one.
    """
    try:
        return read_parquet_document(path, columns=list(kinds), kinds=kinds)
    except DocumentError as error:
        raise CorruptData(f"{path}: cannot be read ({error}); delete it and run again") from error
