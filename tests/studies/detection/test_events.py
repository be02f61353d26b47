"""Windows joined to events: gaps, shortest events, classes that make none, and blocks of any size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.detection.events import Event, EventJoiner, EventRule


def joined(p: np.ndarray, rule: EventRule, cuts: list[int] | None = None) -> list[Event]:
    """Events of windows of one second end to end, handed over in blocks."""
    joiner = EventJoiner([f"c{i}" for i in range(p.shape[1])], rule, None)
    start_s = np.arange(len(p), dtype=np.float64)
    for rows in np.split(np.arange(len(p)), cuts or []):
        if len(rows):
            joiner.add(start_s[rows], start_s[rows] + 1, p[rows])
    return joiner.finish()


def spans(events: list[Event]) -> list[tuple[str, float, float]]:
    return [(e.label, e.start_s, e.end_s) for e in events]


def test_gaps_shortest_events_and_classes_without_a_threshold() -> None:
    a = np.array([0.9, 0.8, 0.1, 0.7, 0.2, 0.2, 0.9, np.nan, 0.6])
    p = np.column_stack([a, 1 - a]).astype(np.float32)
    none = float("nan")
    assert spans(joined(p, EventRule(thresholds=(0.5, none)))) == [
        ("c0", 0, 2),
        ("c0", 3, 4),
        ("c0", 6, 7),
        ("c0", 8, 9),
    ]
    assert spans(joined(p, EventRule(thresholds=(0.5, none), gap_s=1))) == [("c0", 0, 4), ("c0", 6, 9)]
    assert spans(joined(p, EventRule(thresholds=(0.5, none), min_event_s=2))) == [("c0", 0, 2)]
    first = joined(p, EventRule(thresholds=(0.5, none)))[0]
    assert (first.probability, first.n_windows) == (pytest.approx(0.9), 2)


def test_a_window_is_of_its_likeliest_class_unless_classes_go_together() -> None:
    p = np.array([[0.3, 0.6], [0.4, 0.35]], dtype=np.float32)
    low = EventRule(thresholds=(0.2, 0.2))
    assert spans(joined(p, low)) == [("c1", 0, 1), ("c0", 1, 2)]
    both = EventRule(thresholds=(0.2, 0.2), one_class=False)
    assert spans(joined(p, both)) == [("c0", 0, 2), ("c1", 0, 2)]


@given(
    bits=st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=1, max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=4),
    gap_s=st.integers(0, 3),
    min_event_s=st.integers(0, 3),
)
def test_blocks_change_nothing(bits: list, cuts: list[int], gap_s: int, min_event_s: int) -> None:
    p = np.array(bits, dtype=np.float32)
    rule = EventRule(thresholds=(0.5, 0.5), gap_s=gap_s, min_event_s=min_event_s, one_class=False)
    whole = joined(p, rule)
    assert joined(p, rule, sorted(c for c in cuts if c < len(p))) == whole
    # By hand: seconds of each class, holes up to the gap filled, short runs dropped.
    for k in (0, 1):
        on = p[:, k] > 0.5
        runs = [list(r) for r in np.split(np.arange(len(on)), np.flatnonzero(np.diff(on)) + 1) if on[r[0]]]
        merged: list[list[int]] = []
        for r in runs:
            if merged and r[0] - merged[-1][1] <= gap_s:
                merged[-1][1] = r[-1] + 1
            else:
                merged.append([r[0], r[-1] + 1])
        expected = [(a, b) for a, b in merged if b - a >= min_event_s]
        assert [(e.start_s, e.end_s) for e in whole if e.label == f"c{k}"] == expected
