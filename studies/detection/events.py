"""From probabilities of windows to events: neighbours that say the same, joined as they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featurestore.arrays import Float64Array, FloatArray
from featurestore.errors import ConfigError

# Times are sums of hops: two that are meant to be equal may differ in their last digits.
_SAME_S = 1e-9


@dataclass(frozen=True, kw_only=True)
class Event:
    """A class that sounds for a while.

    Attributes:
        start_s, end_s: seconds from the start of the recording, to the microsecond.
        channel: counted from 0; None for the mean of all.
        label: the class.
        probability: the largest of its windows.
        n_windows: how many windows said so.
    """

    start_s: float
    end_s: float
    channel: int | None
    label: str
    probability: float
    n_windows: int


@dataclass(frozen=True, kw_only=True)
class EventRule:
    """When windows are an event.

    Attributes:
        thresholds: lowest probability of each class `[C]`; NaN where a class makes no events.
        gap_s: windows of a class that are no farther apart are one event.
        min_event_s: what is shorter is no event.
        one_class: a window is of its likeliest class only.
    """

    thresholds: tuple[float, ...]
    gap_s: float = 0.0
    min_event_s: float = 0.0
    one_class: bool = True

    def __post_init__(self) -> None:
        for name, seconds in (("gap", self.gap_s), ("min-event", self.min_event_s)):
            if not 0 <= seconds < float("inf"):
                raise ConfigError(f"--{name}: expected 0 or more seconds, got {seconds:g}")


@dataclass
class _Open:
    """An event that may go on."""

    start_s: float
    end_s: float
    probability: float
    n_windows: int


class EventJoiner:
    """Takes the windows of one channel in their order; holds an open event of each class and what is done.

    Args:
        classes: names `[C]`.
        rule: when windows are an event.
        channel: that the events are of.
    """

    def __init__(self, classes: Sequence[str], rule: EventRule, channel: int | None) -> None:
        self._classes = classes
        self._rule = rule
        self._channel = channel
        self._thresholds = np.asarray(rule.thresholds, dtype=np.float64)
        self._open: dict[int, _Open] = {}
        self._done: list[Event] = []

    def add(self, start_s: Float64Array, end_s: Float64Array, p: FloatArray) -> None:
        """Take in the next windows: the stretches that they are about `[n]`, probabilities `[n, C]`.

        A window without probabilities (NaN) says nothing, and so does a class without a threshold.
        """
        with np.errstate(invalid="ignore"):
            hit = p >= self._thresholds
            if self._rule.one_class:
                hit &= p == p.max(axis=1, keepdims=True)
        for k in np.flatnonzero(hit.any(axis=0)):
            rows = np.flatnonzero(hit[:, k])
            # A new event begins where the stretch before it ended too long ago.
            apart = start_s[rows[1:]] - end_s[rows[:-1]] > self._rule.gap_s + _SAME_S
            for run in np.split(rows, np.flatnonzero(apart) + 1):
                one = _Open(float(start_s[run[0]]), float(end_s[run[-1]]), float(p[run, k].max()), len(run))
                self._join(int(k), one)

    def finish(self) -> list[Event]:
        """All events, in the order of their times, then of classes; nothing may be added afterwards."""
        for k in list(self._open):
            self._close(k)
        place = {name: i for i, name in enumerate(self._classes)}
        return sorted(self._done, key=lambda e: (e.start_s, e.end_s, place[e.label]))

    def _join(self, k: int, new: _Open) -> None:
        before = self._open.get(k)
        if before is not None and new.start_s - before.end_s <= self._rule.gap_s + _SAME_S:
            before.end_s = new.end_s
            before.probability = max(before.probability, new.probability)
            before.n_windows += new.n_windows
            return
        self._close(k)
        self._open[k] = new

    def _close(self, k: int) -> None:
        one = self._open.pop(k, None)
        if one is None or one.end_s - one.start_s < self._rule.min_event_s - _SAME_S:
            return
        self._done.append(
            Event(
                start_s=round(one.start_s, 6),
                end_s=round(one.end_s, 6),
                channel=self._channel,
                label=self._classes[k],
                probability=round(one.probability, 6),
                n_windows=one.n_windows,
            )
        )
